"""A pseudo-spectral method with an integrating factor: truth, baseline and fallback on periodic axes.

    u_t = −(σ u + n(u)):  fields are trigonometric polynomials, σ is diagonal on their modes, n(u) is
    formed pointwise on a finer grid; time by Runge–Kutta 4 with e^{σt} as integrating factor.

Works for every problem of first order in time whose axes are all periodic. It shares the problem's
physics with the surrogate, but neither its grid nor its transforms, which are fast Fourier ones here.

Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 9.4 and 14.4; C. Canuto et al.,
"Spectral Methods: Fundamentals in Single Domains" (2006), 3.3 (dealiasing), D.2 (stability).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..grid import FourierAxis
from ..operators.periodic import SemiDiscrete
from ..solvers.runge_kutta import integrating_factor_step

_STABILITY = 2.8  # RK4 is stable for |λ| step ≤ 2.83 on the imaginary and 2.78 on the real axis
_MOST_STEPS = 1_000_000  # over the duration; a trajectory that asks for more has failed
_INTERVALS_A_CHECK = 8  # output intervals between two estimates of the error of a step
_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}  # smallest error to ask for
_RESOLVED = 1e-12  # relative norm of what a coarser grid may leave out of an initial condition
_POINTS_A_PASS = 2**17  # collocation points a pass on a CPU, so that a stage stays in its cache


class FourierFeatures(nn.Module):
    """`PeriodicFeatures` by fast Fourier transforms: complex modes ↦ features at collocation points.

    Modes (..., *spectrum) are those of a real transform on the collocation grid, divided by its number
    of points; wave numbers beyond each axis' band are zero. All derivatives are multipliers.

    Args:
        problem: names the features.
        space: periodic axes by name.
        dtype: of values; modes are complex numbers of such parts.
        device: of both.
    """

    def __init__(self, problem, space: dict[str, FourierAxis], dtype: torch.dtype = torch.float64, device: Any = "cpu"):
        super().__init__()
        self.problem, self.space, self.names = problem, dict(space), list(space)
        self.shape = tuple(len(axis.collocation_points) for axis in space.values())
        mask, squares = torch.ones((), dtype=dtype, device=device), torch.zeros((), dtype=torch.float64, device=device)
        for name, axis in space.items():
            count = len(axis.collocation_points)
            is_last = name == self.names[-1]
            k = np.fft.rfftfreq(count, 1 / count) if is_last else np.fft.fftfreq(count, 1 / count)
            angular = torch.as_tensor(2 * np.pi * k / axis.length, device=device)
            self.register_buffer(f"k_{name}", angular, persistent=False)
            mask = mask[..., None] * torch.as_tensor(np.abs(k) <= axis.band, dtype=dtype, device=device)
            squares = squares[..., None] + angular**2
        self.modes_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("squares", squares, persistent=False)
        self._multipliers: dict[frozenset[str], tuple[list[str], Tensor]] = {}

    def symbol(self, feature) -> Tensor:
        """(*spectrum) complex multiplier of a feature on the modes inside the band, in double precision.

        Raises:
            ValueError: the feature names an axis that is not there.
        """
        squares = self.squares
        if feature.laplacian >= 0:
            symbol = (-squares) ** feature.laplacian
        else:  # the inverse acts on fields of zero mean
            symbol = torch.where(squares > 0, (-torch.where(squares > 0, squares, 1.0)) ** feature.laplacian, 0.0)
        symbol = (symbol * self.mask).to(torch.complex128)
        for name, order in feature.orders.items():
            if name not in self.space:
                raise ValueError(f"feature needs axis {name!r}; the grid has {self.names}")
            k = getattr(self, f"k_{name}")
            factor = (1j * k) ** order
            symbol = symbol * factor.reshape(-1, *[1] * (len(self.names) - 1 - self.names.index(name)))
        return symbol

    def to_values(self, modes: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        """Modes ↦ values on the collocation grid, or on the grid ``shape`` that modes belong to."""
        dims = tuple(range(-len(self.names), 0))
        return torch.fft.irfftn(modes, s=shape or self.shape, dim=dims, norm="forward")

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ the modes inside the band."""
        modes = torch.fft.rfftn(values, dim=tuple(range(-len(self.names), 0)), norm="forward")
        return torch.view_as_complex(torch.view_as_real(modes).mul_(self.mask[..., None]))

    def multipliers(self, skip: frozenset[str] = frozenset()) -> tuple[list[str], Tensor]:
        """Names of the features but for time derivatives and ``skip``, and their (feature, 1, *spectrum)."""
        if skip not in self._multipliers:
            features = self.problem.features
            names = [name for name in features if "t" not in features[name].orders and name not in skip]
            empty = self.mask.new_zeros(0, *self.mask.shape)
            stack = torch.stack([self.symbol(features[name]) for name in names]) if names else empty
            self._multipliers[skip] = names, stack[:, None].to(self.modes_dtype)
        return self._multipliers[skip]

    def forward(self, modes: Tensor, skip: frozenset[str] = frozenset()) -> dict[str, Tensor]:
        """(batch, *spectrum) ↦ features at collocation points by name, without time derivatives and ``skip``."""
        names, multipliers = self.multipliers(skip)
        return dict(zip(names, self.to_values(modes * multipliers).unbind(), strict=True))


class _Discretisation(SemiDiscrete):
    """The right-hand side by fast transforms, and how fast its fastest mode changes."""

    def __init__(self, problem, space: dict[str, FourierAxis], dtype: torch.dtype, device: Any):
        super().__init__(problem, space)
        self.features = FourierFeatures(problem, space, dtype, device)
        names, multipliers = self.features.multipliers(self.skip)
        self.largest = {name: float(own.abs().max()) for name, own in zip(names, multipliers, strict=True)}

    def with_parameters(self, c: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`nonlinear` for parameters that stay the same, their shapes and coefficients made once."""
        if not self.largest:  # a linear problem
            return torch.zeros_like
        dims = [1] * len(self.features.names)
        own = {key: value.reshape(-1, *dims) for key, value in c.items()}
        coefficients = self.problem.linearised(own)
        rate = coefficients[self.rates[0]]
        is_one = bool((rate == 1).all())
        absent = dict.fromkeys((*self.rates, *self.skip), torch.zeros_like(rate))

        def nonlinear(modes: Tensor) -> Tensor:
            fields = self.features(modes, self.skip)
            residual = self.problem.residual({**fields, **absent}, own)
            for name in self.linear:
                if name not in self.skip:
                    residual = residual - coefficients[name] * fields[name]
            residual = residual if is_one else residual / rate
            return self.features.project(residual.expand(len(modes), *self.features.shape))

        return nonlinear

    def fastest(self, modes: Tensor, c: dict[str, Tensor]) -> Tensor:
        """(batch,) λ = max over points of Σ_j |∂n/∂f_j| · largest multiplier of the feature f_j."""
        if not self.largest:
            return self.features.mask.new_zeros(len(modes))
        dims = [1] * len(self.features.names)
        own = {key: value.reshape(-1, *dims) for key, value in c.items()}
        coefficients = self.problem.linearised(own)
        with torch.enable_grad():
            fields = self.features(modes.detach(), self.skip)
            fields = {name: field.detach().requires_grad_() for name, field in fields.items()}
            some = next(iter(fields.values()))
            absent = torch.zeros((), dtype=some.dtype, device=some.device)
            residual = self.problem.residual({**fields, **dict.fromkeys((*self.rates, *self.skip), absent)}, own)
            if not residual.requires_grad:
                return some.new_zeros(len(modes))
            partials = torch.autograd.grad(residual.sum(), list(fields.values()), allow_unused=True)
        total = torch.zeros_like(some)
        for name, partial in zip(fields, partials, strict=True):
            if partial is not None:
                linear = coefficients[name] if name in self.linear else 0.0
                total = total + (partial - linear).abs() * self.largest[name]
        return (total / coefficients[self.rates[0]].abs()).flatten(1).amax(dim=1)


def _resized(modes: Tensor, source: tuple[int, ...], target: tuple[int, ...], band: Sequence[int]) -> Tensor:
    """Modes of a real transform on the grid ``source`` ↦ those on ``target``; |k| ≤ band is kept."""
    num = len(source)
    for axis, (n, m, highest) in enumerate(zip(source, target, band, strict=True)):
        dim, b = axis - num, min(highest, (n - 1) // 2, (m - 1) // 2)
        positive = modes.narrow(dim, 0, b + 1)
        shape = list(modes.shape)
        shape[dim] = m // 2 + 1 if axis == num - 1 else m
        moved = modes.new_zeros(shape)
        moved.narrow(dim, 0, b + 1).copy_(positive)
        if axis < num - 1 and b:
            moved.narrow(dim, m - b, b).copy_(modes.narrow(dim, n - b, b))
        modes = moved
    return modes


@dataclass
class _Step:
    """From ``start`` on ``count`` steps of ``size``; ``outputs``: (row, fraction of the step) inside or at its end."""

    start: float
    size: float
    count: int
    outputs: list[tuple[int, float]]


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

    Raises:
        ValueError: an axis that is not periodic.
    """

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
        self._made: dict[tuple[int, ...], _Discretisation] = {}
        if num_nodes is not None:
            self._discretisation(self._per_axis(num_nodes))

    def _per_axis(self, num_nodes: int | Sequence[int]) -> tuple[int, ...]:
        nodes = (int(num_nodes),) * len(self.axes) if np.ndim(num_nodes) == 0 else tuple(map(int, num_nodes))
        if len(nodes) != len(self.axes):
            raise ValueError(f"num_nodes needs a number, or one per axis {tuple(self.axes)}, got {num_nodes}")
        return nodes

    def _discretisation(self, nodes: tuple[int, ...]) -> _Discretisation:
        if nodes not in self._made:
            space = {
                name: replace(axis, num_nodes=n, dealiasing=self.dealiasing)
                for (name, axis), n in zip(self.axes.items(), nodes, strict=True)
            }
            self._made[nodes] = _Discretisation(self.problem, space, self.dtype, self.device)
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
        kept = _resized(_resized(modes, own, small, band), small, own, band)
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
        model = self._discretisation(self._nodes_for(canonical))
        read = self._reader(model, outputs)
        c = {key: value.to(self.device, self.dtype) for key, value in self.problem.as_tensors(parameters or {}).items()}

        batch, size = len(values), len(values)
        if torch.device(self.device).type == "cpu":
            size = max(1, _POINTS_A_PASS // int(np.prod(model.features.shape)))
        u = np.empty((batch, len(asked), *(len(points) for points in outputs)))
        total = batch * max(1, len(asked) - 1)
        for first in range(0, batch, size):
            rows = slice(first, first + size)
            own = {key: value[rows] if value.dim() else value for key, value in c.items()}
            start = torch.as_tensor(np.ascontiguousarray(canonical[rows]), device=self.device)

            def report(part: int, first: int = first, count: int = len(start)) -> None:
                if progress is not None:
                    progress(first * (len(asked) - 1) + part * count, total)

            self._solve(model, start, own, asked, read, u[rows], report)
        is_same = all(np.array_equal(a, b) for a, b in zip(outputs, positions, strict=True))
        if is_same:
            u[:, 0] = values
        is_failed = ~np.isfinite(u.reshape(batch, -1)).all(axis=1)
        if is_single and is_failed[0]:
            raise RuntimeError(
                "the pseudo-spectral solver did not reach the end: values are not finite or steps became too short; "
                "more steps, or steps=None, may help"
            )
        u[is_failed] = np.nan
        if not np.array_equal(asked, times):
            u = u[:, np.searchsorted(asked, times)]
        return u[0] if is_single else u

    def _reader(self, model: _Discretisation, points: list[np.ndarray]) -> Callable[[Tensor], np.ndarray]:
        """Modes (..., *spectrum) ↦ float64 values at ``points``."""
        features = model.features
        band = [axis.band for axis in features.space.values()]
        counts = tuple(len(own) for own in points)
        axes = list(features.space.values())
        if all(n // 2 > b and self._is_grid_of(a, p) for a, b, n, p in zip(axes, band, counts, points, strict=True)):

            def on_grid(modes: Tensor) -> np.ndarray:
                moved = modes if counts == features.shape else _resized(modes, features.shape, counts, band)
                return features.to_values(moved, counts).cpu().numpy()

            return on_grid
        nodes = tuple(axis.num_nodes for axis in axes)
        matrices = [
            torch.as_tensor(axis.interpolation(own), device=self.device, dtype=self.dtype)
            for axis, own in zip(axes, points, strict=True)
        ]

        def at_points(modes: Tensor) -> np.ndarray:
            values = features.to_values(_resized(modes, features.shape, nodes, band), nodes)
            for dim, matrix in enumerate(matrices):
                axis = dim - len(matrices)
                values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
            return values.cpu().numpy()

        return at_points

    def _solve(
        self,
        model: _Discretisation,
        values: Tensor,
        c: dict[str, Tensor],
        times: np.ndarray,
        read: Callable[[Tensor], np.ndarray],
        out: np.ndarray,
        report: Callable[[int], None],
    ) -> None:
        """Writes the trajectories of one pass, (batch, time, *space), into ``out``."""
        features = model.features
        dims = tuple(range(-len(self.axes), 0))
        modes = torch.fft.rfftn(values, dim=dims, norm="forward")
        band = [axis.band for axis in features.space.values()]
        modes = _resized(modes, tuple(values.shape[1:]), features.shape, band).to(features.modes_dtype)
        symbol = model.symbol(c).to(features.modes_dtype)
        halves: dict[float, Tensor] = {}
        is_failed = torch.zeros(len(values), dtype=torch.bool, device=values.device)
        formed = model.with_parameters(c)

        def advance(v: Tensor, start: Tensor, step: float) -> Tensor:
            if step not in halves:
                halves.clear()
                halves[step] = torch.exp(-symbol * (step / 2))
            return integrating_factor_step(v, lambda w: start if w is v else formed(w), halves[step], step)

        out[:, 0] = read(modes)
        done, ahead = 0, None  # ahead: n(u) at the start of the next step, where it is known
        accurate = np.inf  # the longest step that is accurate enough
        for number, part in enumerate(self._plan(times)):
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
                    out[:, row] = read(_hermite(before, rates[0], modes, rates[1], s))
            for row, s in part.outputs:
                if s >= 1:
                    out[:, row] = read(modes)
            done += len(part.outputs)
            report(done)
        out[is_failed.cpu().numpy()] = np.nan

    def _growth(self, modes: Tensor, difference: Tensor, size: float) -> float:
        """By how much a step may grow; ``difference``: of one step of ``size`` and two of half of it.

        The half steps err by 1/15 of it (Richardson), and errors of a whole run are taken to add up.
        """
        error = difference.flatten(1).norm(dim=1) / modes.flatten(1).norm(dim=1).clamp(min=1e-300)
        error = float(error[torch.isfinite(error)].max()) if torch.isfinite(error).any() else 0.0
        error *= 16 / 15 * self.problem.duration / size
        asked = max(self.rtol, _ROUNDING[self.dtype])
        return float(np.clip((asked / max(error, 1e-300)) ** 0.25, 0.05, 1e3))

    def _plan(self, times: np.ndarray) -> list[_Step]:
        """Steps from 0 to the last of the increasing ``times``; count 0 where stability decides."""
        sizes = np.diff(times)
        if self.steps is None:
            return [_Step(t, size, 0, [(i + 1, 1.0)]) for i, (t, size) in enumerate(zip(times, sizes, strict=False))]
        wanted = self.steps * sizes / self.problem.duration
        counts = np.ceil(wanted - 1e-9).astype(int)
        if counts.sum() <= 1.05 * max(1.0, wanted.sum()):
            return [
                _Step(times[i], sizes[i] / count, int(count), [(i + 1, 1.0)]) for i, count in enumerate(counts) if count
            ]
        number = max(1, int(np.ceil(wanted.sum() - 1e-9)))
        size = times[-1] / number
        plan = [_Step(i * size, size, 1, []) for i in range(number)]
        for row, t in enumerate(times[1:], start=1):
            at = min(number - 1, max(0, int(np.ceil(t / size - 1e-9)) - 1))
            fraction = t / size - at
            plan[at].outputs.append((row, 1.0 if abs(fraction - 1) < 1e-9 else fraction))
        return plan


def _hermite(u: Tensor, du: Tensor, v: Tensor, dv: Tensor, s: float) -> Tensor:
    """The cubic with values u, v and slopes du, dv (per step) at both ends of a step, at 0 < s < 1."""
    r = 1 - s
    return (1 + 2 * s) * r * r * u + s * r * r * du + s * s * (3 - 2 * s) * v - s * s * r * dv
