"""A pseudo-spectral method with an integrating factor: truth, baseline and fallback on periodic axes.

    u_t = −(σ u + n(u)):  fields are trigonometric polynomials, σ is diagonal on their modes, n(u) is
    formed pointwise on a finer grid; time by Runge–Kutta 4 with e^{σt} as integrating factor.

One solver that chooses its own grid and steps, in one file: grid, steps and answer depend on each other. Works for
every problem of first order in time whose axes are all periodic. It shares the problem's
physics with the surrogate, but neither its grid nor its transforms, which are fast Fourier ones here.

Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 9.4 and 14.4; C. Canuto et al.,
"Spectral Methods: Fundamentals in Single Domains" (2006), 3.3 (dealiasing), D.2 (stability).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..grid import FourierAxis
from ..solvers.runge_kutta import integrating_factor_step
from .fourier import FourierSemiDiscrete, resized
from .steps import hermite, plan

_STABILITY = 2.8  # RK4 is stable for |λ| step ≤ 2.83 on the imaginary and 2.78 on the real axis
_MOST_STEPS = 1_000_000  # over the duration; a trajectory that asks for more has failed
_INTERVALS_A_CHECK = 8  # output intervals between two estimates of the error of a step
_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}  # smallest error to ask for
_RESOLVED = 1e-12  # relative norm of what a coarser grid may leave out of an initial condition
_POINTS_A_PASS = 2**17  # collocation points a pass on a CPU, so that a stage stays in its cache


class PseudoSpectral:
    """Solves a problem on periodic axes, many trajectories in a batch.

    Args:
        problem: of first order in time, all axes periodic.
        num_nodes: points per axis that set the band |k| ≤ n/2 − 1, a number for all axes or one each;
            default: the grid of the initial condition.
        dealiasing: products on dealiasing·n points; 3/2 is exact for quadratic ones, 1 is cheaper.
        steps: about this many steps over the problem's duration. Where output times lie between
            steps, values are cubic Hermite interpolants of values and rates, of order 4 as the steps
            are. Default: as many equal steps per output interval as stability asks for, looked at
            anew at the start of each interval, so that output times are hit exactly.
        safety: fraction of the stability limit for ``steps=None``.
        rtol: error in time to ask for, relative L2 at the end, for ``steps=None``; estimated by step
            doubling every few intervals, and bounded below by rounding.
        dtype, device: where and how it computes; answers come back as float64 numpy arrays.
        least_nodes: a finer grid than this, for ``num_nodes=None``, only where the initial condition
            has modes that it does not carry.
        tail: for ``num_nodes=None``, the largest share (relative L2, at output times) of a solution that may
            lie in the outer quarter of the band; a trajectory with more is solved again on twice the
            nodes, and so on. Default: one grid serves all.
        most_points: grids of more points in all are not tried; there the answer is what it is.

    Raises:
        ValueError: an axis that is not periodic.
    """

    has_own_grid = True  # finer than that of answers
    pass_size = 8

    def __init__(
        self,
        problem,
        num_nodes: int | Sequence[int] | None = None,
        dealiasing: float = 1.5,
        steps: int | None = None,
        safety: float = 0.7,
        rtol: float = 1e-8,
        dtype: torch.dtype = torch.float64,
        device: Any = "cpu",
        least_nodes: int | None = None,
        tail: float | None = None,
        most_points: int = 2**16,
    ):
        for name, axis in problem.output_space.items():
            if not axis.is_periodic:
                raise ValueError(f"axis {name!r} is bounded; the pseudo-spectral method needs periodic axes")
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not 0 < safety <= 1:
            raise ValueError(f"safety must lie in (0, 1], got {safety}")
        if dtype not in _ROUNDING:
            raise ValueError(f"dtype must be one of {', '.join(map(str, _ROUNDING))}, got {dtype}")
        self.problem, self.axes = problem, dict(problem.output_space)
        self.num_nodes, self.dealiasing, self.least_nodes = num_nodes, dealiasing, least_nodes
        self.steps, self.safety, self.rtol, self.dtype, self.device = steps, safety, rtol, dtype, device
        self.tail, self.most_points = tail, most_points
        self._made: dict[tuple[int, ...], FourierSemiDiscrete] = {}
        if num_nodes is not None:
            self._discretisation(self._per_axis(num_nodes))

    def _per_axis(self, num_nodes: int | Sequence[int]) -> tuple[int, ...]:
        nodes = tuple(int(n) for n in np.atleast_1d(num_nodes))
        nodes = nodes * len(self.axes) if np.ndim(num_nodes) == 0 else nodes
        if len(nodes) != len(self.axes):
            raise ValueError(f"num_nodes needs a number, or one per axis {tuple(self.axes)}, got {num_nodes}")
        return nodes

    def _discretisation(self, nodes: tuple[int, ...]) -> FourierSemiDiscrete:
        if nodes not in self._made:
            space = {
                name: replace(axis, num_nodes=n, dealiasing=self.dealiasing)
                for (name, axis), n in zip(self.axes.items(), nodes, strict=True)
            }
            self._made[nodes] = FourierSemiDiscrete(self.problem, space, self.dtype, self.device)
        return self._made[nodes]

    # ------------------------------------------------------------------ the caller's grids

    def _positions(self, points: Any, sizes: Sequence[int] | None, what: str) -> list[np.ndarray]:
        """One array of positions per axis, from an array, a dict, or the axis' own points."""
        if points is None:
            return [axis.sized(n).nodes for axis, n in zip(self.axes.values(), sizes or (), strict=True)]
        if not isinstance(points, dict):
            if len(self.axes) > 1:
                raise ValueError(f"{what} must be a dict of positions by axis, {tuple(self.axes)}")
            points = {next(iter(self.axes)): points}
        if set(points) != set(self.axes):
            raise ValueError(f"{what} must have the axes {tuple(self.axes)}, got {tuple(points)}")
        return [np.asarray(points[name], dtype=np.float64) for name in self.axes]

    @staticmethod
    def _is_grid_of(axis: FourierAxis, points: np.ndarray) -> bool:
        count = len(points)
        regular = axis.start + axis.length * np.arange(count) / count
        return bool(np.allclose(points, regular, rtol=0, atol=1e-12 * axis.length))

    def _canonical(self, values: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
        """Values at equally spaced positions with any offset ↦ at those that begin at the axis' start."""
        for dim, (axis, points) in enumerate(zip(self.axes.values(), positions, strict=True)):
            if len(points) != values.shape[dim + 1]:
                raise ValueError(f"input_x has {len(points)} positions for {values.shape[dim + 1]} values")
            if self._is_grid_of(axis, points):
                continue
            own = replace(axis, num_nodes=len(points), start=float(points[0]))
            if not self._is_grid_of(own, points):
                raise ValueError(
                    "input_x must be equally spaced over one period (n points at distances length/n); "
                    "interpolate the initial condition to such points"
                )
            matrix = own.interpolation(axis.start + axis.length * np.arange(len(points)) / len(points))
            values = np.moveaxis(np.moveaxis(values, dim + 1, -1) @ matrix.T, -1, dim + 1)
        return values

    def _nodes_for(self, values: np.ndarray) -> tuple[int, ...]:
        """The grid that sets the band: the asked one, or the input's, where need be."""
        own = values.shape[1:]
        if self.num_nodes is not None:
            return self._per_axis(self.num_nodes)
        if self.least_nodes is None:
            return own
        least = tuple(max(n, self.least_nodes) for n in own)
        small = (self.least_nodes,) * len(own)
        if least == small:
            return small
        modes = torch.fft.rfftn(torch.as_tensor(values), dim=tuple(range(-len(own), 0)), norm="forward")
        band = [n // 2 - 1 for n in small]
        kept = resized(resized(modes, own, small, band), small, own, band)
        left_out = (modes - kept).flatten(1).norm(dim=1) / modes.flatten(1).norm(dim=1).clamp(min=1e-300)
        return small if float(left_out.nan_to_num().max()) <= _RESOLVED else least

    # ------------------------------------------------------------------ the solution

    @torch.no_grad()
    def __call__(
        self,
        u0: np.ndarray,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: Any = None,
        x: Any = None,
        times: np.ndarray | None = None,
        progress: Callable[[int, int], Any] | None = None,
    ) -> np.ndarray:
        """u0 (batch, *space) or (*space) ↦ (batch, time, *space) or (time, *space).

        Args:
            u0: values at the axes' own points for its size, or at ``input_x``.
            parameters: numbers or (batch,) arrays by symbol; defaults where none is given.
            input_x, x: positions of the input and of the output, one array or a dict by axis; default:
                the input's grid for both. At time 0 the answer on the input's grid is ``u0`` itself.
            times: output times, default the problem's.
            progress: called with (intervals done, all intervals), over trajectories × output intervals.

        Returns:
            float64. Trajectories of a batch that were not solved are NaN.

        Raises:
            RuntimeError: a single trajectory was not solved.
        """
        given = np.ascontiguousarray(u0, dtype=np.float64)
        is_single = given.ndim == len(self.axes)
        values = given[None] if is_single else given
        if values.ndim != len(self.axes) + 1:
            raise ValueError(f"u0 must have the shape (batch, {', '.join(self.axes)}), got {given.shape}")
        positions = self._positions(input_x, values.shape[1:], "input_x")
        outputs = positions if x is None else self._positions(x, None, "x")
        canonical = values if input_x is None else self._canonical(values, positions)
        times = self.problem.output_times if times is None else np.atleast_1d(np.asarray(times, dtype=np.float64))
        asked = np.unique(np.concatenate([[0.0], times]))
        u, _ = self._refined(canonical, parameters or {}, asked, outputs, progress)
        batch = len(values)
        is_same = all(np.array_equal(a, b) for a, b in zip(outputs, positions, strict=True))
        if is_same:
            u[:, 0] = values
        is_failed = np.logical_not(np.isfinite(u.reshape(batch, -1)).all(axis=1))
        if is_single and is_failed[0]:
            raise RuntimeError(
                "the pseudo-spectral solver did not reach the end: values are not finite or steps became too short; "
                "more steps, or steps=None, may help"
            )
        u[is_failed] = np.nan
        if not np.array_equal(asked, times):
            u = u[:, np.searchsorted(asked, times)]
        return u[0] if is_single else u

    def resolution(self, u0: np.ndarray, parameters: dict[str, Any] | None = None) -> tuple[int, ...]:
        """Nodes per axis of the finest grid on which any trajectory of a batch (batch, *space) is solved."""
        values = np.ascontiguousarray(u0, dtype=np.float64)
        times = np.asarray(self.problem.output_times, dtype=np.float64)
        outputs = [points[:1] for points in self._positions(None, values.shape[1:], "u0")]
        return self._refined(values, parameters or {}, np.unique(np.append(times, 0.0)), outputs, None)[1]

    @torch.no_grad()
    def _refined(
        self,
        values: np.ndarray,
        parameters: dict[str, Any],
        times: np.ndarray,
        outputs: list[np.ndarray],
        progress: Callable[[int, int], Any] | None,
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Trajectories (batch, time, *outputs), each on a grid that resolves it, and the finest of the grids."""
        c = self.problem.as_tensors(parameters).to(self.device, self.dtype)
        u = np.full((len(values), len(times), *(len(points) for points in outputs)), np.nan)
        intervals = max(1, len(times) - 1)
        rows, nodes = np.arange(len(values)), self._nodes_for(values)
        done, total = 0, len(rows) * intervals
        while True:
            finer = tuple(2 * n for n in nodes)
            is_last = self.num_nodes is not None or self.tail is None or np.prod(finer) > self.most_points
            model = self._discretisation(nodes)
            read, size, too_rough = self._reader(model, outputs), len(rows), []
            if torch.device(self.device).type == "cpu":
                size = max(1, _POINTS_A_PASS // int(np.prod(model.features.shape)))
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                own = c.take(torch.as_tensor(part))
                start = torch.as_tensor(np.ascontiguousarray(values[part]), device=self.device)

                def report(number: int, before: int = done, count: int = len(part), total: int = total) -> None:
                    if progress is not None:
                        progress(before + number * count, total)

                answer = np.empty((len(part), *u.shape[1:]))
                is_rough = self._solve(model, start, own, times, read, answer, report, np.inf if is_last else self.tail)
                u[part] = answer
                too_rough.append(part[is_rough])
                done += len(part) * intervals
            rows = np.concatenate(too_rough)
            if not len(rows):
                return u, nodes
            nodes, total = finer, total + len(rows) * intervals

    def _reader(self, model: FourierSemiDiscrete, points: list[np.ndarray]) -> Callable[[Tensor], np.ndarray]:
        """Modes (..., *spectrum) ↦ float64 values at ``points``."""
        features = model.features
        band = [axis.band for axis in features.space.values()]
        counts = tuple(len(own) for own in points)
        axes = list(features.space.values())
        if all(n // 2 > b and self._is_grid_of(a, p) for a, b, n, p in zip(axes, band, counts, points, strict=True)):

            def on_grid(modes: Tensor) -> np.ndarray:
                moved = modes if counts == features.shape else resized(modes, features.shape, counts, band)
                return features.to_values(moved, counts).cpu().numpy()

            return on_grid
        nodes = tuple(axis.num_nodes for axis in axes)
        matrices = [
            torch.as_tensor(axis.interpolation(own), device=self.device, dtype=self.dtype)
            for axis, own in zip(axes, points, strict=True)
        ]

        def at_points(modes: Tensor) -> np.ndarray:
            values = features.to_values(resized(modes, features.shape, nodes, band), nodes)
            for dim, matrix in enumerate(matrices):
                axis = dim - len(matrices)
                values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
            return values.cpu().numpy()

        return at_points

    def _solve(
        self,
        model: FourierSemiDiscrete,
        values: Tensor,
        c: dict[str, Tensor],
        times: np.ndarray,
        read: Callable[[Tensor], np.ndarray],
        out: np.ndarray,
        report: Callable[[int], None],
        tail: float,
    ) -> np.ndarray:
        """Writes the trajectories of one pass, (batch, time, *space), into ``out``; which exceed ``tail``.

        Where all do the rest of the pass is not computed. Finite initial values with no finite end count as such.
        """
        features = model.features
        dims = tuple(range(-len(self.axes), 0))
        modes = torch.fft.rfftn(values, dim=dims, norm="forward")
        band = [axis.band for axis in features.space.values()]
        modes = resized(modes, tuple(values.shape[1:]), features.shape, band).to(features.modes_dtype)
        symbol = model.symbol(c).to(features.modes_dtype)
        halves: dict[float, Tensor] = {}
        is_failed = torch.zeros(len(values), dtype=torch.bool, device=values.device)
        formed = model.with_parameters(c)
        is_given = torch.isfinite(values.flatten(1)).all(dim=1)
        is_rough = torch.zeros_like(is_failed)

        def written(row: int, v: Tensor) -> None:
            out[:, row] = read(v)
            if tail < np.inf:
                outer = (v * model.outer).flatten(1).norm(dim=1)
                is_rough.logical_or_(is_given & ~(outer <= tail * v.flatten(1).norm(dim=1)))

        def advance(v: Tensor, start: Tensor, step: float) -> Tensor:
            if step not in halves:
                halves.clear()
                halves[step] = torch.exp(-symbol * (step / 2))
            return integrating_factor_step(v, lambda w: start if w is v else formed(w), halves[step], step)

        written(0, modes)
        done, ahead = 0, None  # ahead: n(u) at the start of the next step, where it is known
        accurate = np.inf  # the longest step that is accurate enough
        for number, part in enumerate(plan(times, self.steps, self.problem.duration)):
            if part.count == 0:  # as many steps as stability and accuracy ask for
                speed = model.fastest(modes, c)
                limit = _STABILITY * self.safety * _MOST_STEPS / self.problem.duration
                is_failed |= ~(speed < limit)
                modes = torch.where(is_failed.reshape(-1, *[1] * len(dims)), torch.zeros_like(modes), modes)
                speed = float(torch.where(is_failed, 0.0, speed).max())
                size = min(part.size, accurate, _STABILITY * self.safety / max(speed, 1e-300))
                if number % _INTERVALS_A_CHECK == 0:
                    ahead = formed(modes)
                    once = advance(modes, ahead, size)
                    half = advance(modes, ahead, size / 2)
                    twice = advance(half, formed(half), size / 2)
                    accurate = size * self._growth(modes, once - twice, size)
                part.count = max(1, int(np.ceil(part.size / min(size, accurate) - 1e-9)))
                part.size /= part.count
            for _ in range(part.count):
                before, start = modes, formed(modes) if ahead is None else ahead
                modes, ahead = advance(before, start, part.size), None
            inside = [(row, s) for row, s in part.outputs if s < 1]
            if inside:
                ahead = formed(modes)
                rates = [-part.size * (symbol * u + n) for u, n in ((before, start), (modes, ahead))]
                for row, s in inside:
                    written(row, hermite(before, rates[0], modes, rates[1], s))
            for row, s in part.outputs:
                if s >= 1:
                    written(row, modes)
            done += len(part.outputs)
            report(done)
            if is_rough.all():
                break
        out[is_failed.cpu().numpy()] = np.nan
        if tail < np.inf:
            is_rough |= is_failed & is_given
        return is_rough.cpu().numpy()

    def _growth(self, modes: Tensor, difference: Tensor, size: float) -> float:
        """By how much a step may grow; ``difference``: of one step of ``size`` and two of half of it.

        The half steps err by 1/15 of it (Richardson), and errors of a whole run are taken to add up.
        """
        error = difference.flatten(1).norm(dim=1) / modes.flatten(1).norm(dim=1).clamp(min=1e-300)
        error = float(error[torch.isfinite(error)].max()) if torch.isfinite(error).any() else 0.0
        error *= 16 / 15 * self.problem.duration / size
        asked = max(self.rtol, _ROUNDING[self.dtype])
        return float(np.clip((asked / max(error, 1e-300)) ** 0.25, 0.05, 1e3))
