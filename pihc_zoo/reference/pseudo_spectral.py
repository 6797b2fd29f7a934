"""A pseudo-spectral method with exact linear terms: truth, baseline and fallback on periodic axes.

    u_t = −(σ u + n(u, t)):  fields are trigonometric polynomials, σ is diagonal on their modes, n is
    formed pointwise on a finer grid; time by ETDRK4 or by Runge–Kutta 4 with e^{σt} as integrating factor.

One solver that chooses its own grid and steps: grid, steps and answer depend on each other. Works for every problem of
first order in time whose axes are all periodic, systems included. It shares the problem's
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

from .evolution import Evolution, Stepping
from .fourier import resized
from .inputs import layout, on_axes, over_time, split_inputs
from .periodic_points import canonical, positions, reader
from .semi_discrete import FourierSemiDiscrete

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
            are. Default: as many equal steps per output interval as stability and accuracy ask for, looked at
            anew at the start of each interval, so that output times are hit exactly.
        safety: fraction of the stability limit for ``steps=None``.
        rtol: error in time to ask for, relative L2 at the end, for ``steps=None``; estimated by step
            doubling every few intervals, and bounded below by rounding.
        is_verified: for ``steps=None``: halve all steps until two answers agree to ``rtol``, whatever the
            equations make of small errors. A trajectory that does not get there has failed.
        method: "etdrk4" or "ifrk4".
        dtype, device: where and how it computes; answers come back as float64 numpy arrays.
        least_nodes: a finer grid than this, for ``num_nodes=None``, only where the initial condition
            has modes that it does not carry.
        tail: for ``num_nodes=None``, the largest share (relative L2, at output times, of any field) of a solution that
            may lie in the outer quarter of the band; a trajectory with more is solved again on twice the
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
        is_verified: bool = False,
        method: str = "etdrk4",
        dtype: torch.dtype = torch.float64,
        device: Any = "cpu",
        least_nodes: int | None = None,
        tail: float | None = None,
        most_points: int = 2**16,
    ):
        for name, axis in problem.output_space.items():
            if not axis.is_periodic:
                raise ValueError(f"axis {name!r} is bounded; the pseudo-spectral method needs periodic axes")
        self.stepping = Stepping(problem.duration, steps, safety, rtol, is_verified, method, dtype)
        self.problem, self.axes = problem, dict(problem.output_space)
        self.num_nodes, self.dealiasing, self.least_nodes = num_nodes, dealiasing, least_nodes
        self.dtype, self.device = dtype, device
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

    def _nodes_for(self, values: np.ndarray) -> tuple[int, ...]:
        """The grid that sets the band: the asked one, or the input's, where need be."""
        own = values.shape[2:]
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
        """u0 (batch, *space) or (*space) ↦ (batch, time, *space) or (time, *space); of a system, fields come last.

        Args:
            u0: values at the axes' own points for its size, or at ``input_x``.
            parameters: numbers or (batch,) arrays by symbol; defaults where none is given. Coefficient fields are
                (*space) or (batch, *space) at the positions of ``u0``.
            input_x, x: positions of the input and of the output, one array or a dict by axis; default:
                the input's grid for both. At time 0 the answer on the input's grid is ``u0`` itself.
            times: output times, default the problem's.
            progress: called with (intervals done, all intervals), over trajectories × output intervals.

        Returns:
            float64. Trajectories of a batch that were not solved are NaN.

        Raises:
            RuntimeError: a single trajectory was not solved.
        """
        values, is_single = layout(self.problem, u0)
        given = positions(self.axes, input_x, values.shape[2:], "input_x")
        outputs = given if x is None else positions(self.axes, x, None, "x")
        start = values if input_x is None else canonical(self.axes, values, given)
        times = self.problem.output_times if times is None else np.atleast_1d(np.asarray(times, dtype=np.float64))
        asked = np.unique(np.concatenate([[0.0], times]))
        u, _ = self._refined(start, parameters or {}, asked, outputs, progress)
        is_same = all(np.array_equal(a, b) for a, b in zip(outputs, given, strict=True))
        if is_same:
            u[:, 0] = values
        is_failed = np.logical_not(np.isfinite(u.reshape(len(values), -1)).all(axis=1))
        if is_single and is_failed[0]:
            raise RuntimeError(
                "the pseudo-spectral solver did not reach the end: values are not finite or steps became too short; "
                "more steps, or steps=None, may help"
            )
        u[is_failed] = np.nan
        if not np.array_equal(asked, times):
            u = u[:, np.searchsorted(asked, times)]
        u = np.moveaxis(u, 2, -1) if self.problem.is_system else u[:, :, 0]
        return u[0] if is_single else u

    def resolution(self, u0: np.ndarray, parameters: dict[str, Any] | None = None) -> tuple[int, ...]:
        """Nodes per axis of the finest grid on which any trajectory of a batch (batch, *space) is solved."""
        values, _ = layout(self.problem, u0)
        times = np.asarray(self.problem.output_times, dtype=np.float64)
        outputs = [points[:1] for points in positions(self.axes, None, values.shape[2:], "u0")]
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
        """Trajectories (batch, time, field, *outputs), each on a grid that resolves it, and the finest of the grids."""
        numbers, fields = split_inputs(self.problem, parameters)
        c = self.problem.as_tensors(numbers).to(self.device, self.dtype)
        u = np.full((len(values), len(times), values.shape[1], *(len(points) for points in outputs)), np.nan)
        intervals = max(1, len(times) - 1)
        rows, nodes = np.arange(len(values)), self._nodes_for(values)
        done, total = 0, len(rows) * intervals
        while True:
            finer = tuple(2 * n for n in nodes)
            is_last = self.num_nodes is not None or self.tail is None or np.prod(finer) > self.most_points
            model = self._discretisation(nodes)
            read, size, too_rough = reader(model.features, outputs), len(rows), []
            if torch.device(self.device).type == "cpu":
                size = max(1, _POINTS_A_PASS // int(np.prod(model.features.shape)))
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                own = c.take(torch.as_tensor(part))
                start = torch.as_tensor(np.ascontiguousarray(values[part]), device=self.device)
                own_fields = {k: v[part] if len(v) > 1 else v for k, v in fields.items()}
                series = {key: own_fields.pop(key) for key in self.problem.series}
                known = on_axes(model.features.space, own_fields)
                known = {k: torch.as_tensor(v, dtype=self.dtype, device=self.device) for k, v in known.items()}
                modes = model.features.to_modes(start)
                run = Evolution(
                    self.stepping,
                    model.with_parameters(own, known, over_time(self.problem, series)),
                    modes,
                    times,
                    read,
                    model.outer,
                )

                def report(number: int, before: int = done, count: int = len(part), total: int = total) -> None:
                    if progress is not None:
                        progress(before + number * count, total)

                u[part], is_rough = run.verified(report, np.inf if is_last else self.tail)
                too_rough.append(part[is_rough])
                done += len(part) * intervals
            rows = np.concatenate(too_rough)
            if not len(rows):
                return u, nodes
            nodes, total = finer, total + len(rows) * intervals
