"""A spectral method on several axes of which some are bounded: truth and baseline.

    u_t = −(σ u + n(u, t)):  the Laplacian is diagonal in products of each axis' modes, σ holds what is diffusion
    or decay with constant coefficients, n is formed point by point from matrix products along the axes.

Bounded axes are cosines where all walls say u_x = 0 and the equation is even in the axis, else Chebyshev points with
any linear walls. Grids are refined until answers agree.

Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 14 and 15 (fast diagonalisation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .equations import Equations
from .evolution import Evolution, Stepping
from .inputs import layout, refuse_series, rows_of
from .tensor_rates import TensorRates, along, column_along

_FIRST_NODES, _MOST_NODES, _GROWTH = 64, 384, 1.5
_ACCEPTED = 100.0  # times the asked tolerance: what the finest grid may miss it by


class TensorSpectral:
    """Solves a problem on several axes on one grid, or on finer ones until two answers agree.

    Args:
        problem: of first order in time.
        num_nodes: per axis; default: from 64 on by factors of 3/2, until answers agree to ``rtol``.
        rtol: relative L2 error, in time and over grids.
        steps: over the duration; default: as many as ``rtol`` asks for, halved until answers agree.
        device: where it computes.

    Raises:
        ValueError: a field without time derivative, a feature that no product of the axes has.
    """

    has_own_grid = False
    pass_size = 1

    def __init__(
        self, problem, num_nodes: int | None = None, rtol: float = 1e-6, steps: int | None = None, device: Any = "cpu"
    ):
        refuse_series(problem, "the spectral method between walls")
        self.problem, self.num_nodes, self.rtol, self.device = problem, num_nodes, rtol, device
        self.equations = Equations(problem)
        self.equations.check_rates()
        for name in self.equations.rates:
            if len(problem.features[name].orders) > 1 or problem.features[name].laplacian:
                raise ValueError(f"{name!r} is mixed in space and time; between walls only u_t itself can be advanced")
        self.stepping = Stepping(problem.duration, steps, rtol=0.3 * rtol, is_verified=num_nodes is None)

    def __call__(
        self,
        u0: np.ndarray,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: dict[str, np.ndarray] | None = None,
        x: dict[str, np.ndarray] | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """u0 (batch, *space[, field]) ↦ (batch, time, *space[, field]); without the batch for one trajectory.

        Args:
            u0: values at ``input_x``, positions by axis, default the problem's output grid.
            parameters: numbers or (batch,) arrays, and coefficient fields on the output grid.
            x: positions of the output by axis, default those of the input.
            times: of the output, default the problem's.

        Raises:
            RuntimeError: no end, or grids that do not agree.
        """
        values, is_single = layout(self.problem, u0)
        native = {name: axis.nodes for name, axis in self.problem.output_space.items()}
        given = native if input_x is None else {name: np.asarray(input_x[name]) for name in native}
        outputs = given if x is None else {name: np.atleast_1d(x[name]) for name in native}
        times = self.problem.output_times if times is None else np.atleast_1d(np.asarray(times, dtype=np.float64))
        asked = np.unique(np.concatenate([[0.0], times]))
        rows = rows_of(self.problem, parameters, len(values))
        answers = []
        for own, inputs in zip(values, rows, strict=True):
            u = self._converged(own, inputs, given, asked, outputs)
            if outputs is given:
                u[0] = own
            answers.append(u[np.searchsorted(asked, times)])
        u = np.stack(answers)  # (batch, time, field, *space)
        u = np.moveaxis(u, 2, -1) if self.problem.is_system else u[:, :, 0]
        return u[0] if is_single else u

    def _converged(self, u0, inputs, given, times, outputs) -> np.ndarray:
        if self.num_nodes is not None:
            return self._on(self.num_nodes, u0, inputs, given, times, outputs)
        nodes, before = _FIRST_NODES, None
        while True:
            u = self._on(nodes, u0, inputs, given, times, outputs)
            if before is not None:
                change = float(np.linalg.norm(u - before) / max(np.linalg.norm(u), 1e-300))
                if change <= 3 * self.rtol:  # the finer one errs by less: a third already at second order
                    return u
                if nodes * _GROWTH > _MOST_NODES:
                    break
            before, nodes = u, 2 * round(_GROWTH * nodes / 2)
        if change > _ACCEPTED * self.rtol:
            raise RuntimeError(f"the spectral method has not converged: the finest grids differ by {change:.1e}")
        return u

    @torch.no_grad()
    def _on(self, num_nodes: int, u0, inputs, given, times, outputs) -> np.ndarray:
        """One trajectory on one grid, (time, field, *points)."""
        rates = TensorRates(self.problem, self.equations, num_nodes, inputs, self.device)
        start = torch.as_tensor(u0, device=self.device)[None]
        pairs = [list(zip(row, given.values(), strict=True)) for row in rates.axes]
        modes = rates.per_field(start, [[own.to_modes @ own.given_at(points) for own, points in row] for row in pairs])
        readings = [[own.reading(p) for own, p in zip(row, outputs.values(), strict=True)] for row in rates.axes]

        def read(v: Tensor) -> np.ndarray:
            nodal = rates.to_nodes(v)
            parts = []
            for i, row in enumerate(readings):
                part = nodal[:, i]
                for dim, (matrix, offset) in enumerate(row):
                    part = along(matrix, part, dim, len(row))
                    part = part + column_along(offset, dim, len(row), part)
                parts.append(part)
            return torch.stack(parts, dim=1).cpu().numpy()

        u, _ = Evolution(self.stepping, rates, modes, times, read).verified(lambda number: None, np.inf)
        if not np.isfinite(u).all():
            raise RuntimeError("the spectral method did not reach the end: values are not finite or steps too short")
        return u[0]
