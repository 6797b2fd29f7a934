"""The first instants of a problem with walls, on grids of their own.

Before a problem's first output time the layers at its walls are thinner than a surrogate's grid resolves: width
√(D t / R) against a spacing that was chosen for the whole duration. When such times are asked for, the problem is
solved once more up to its first output time, on two grids that are graded for thinner layers, for all nodal values
(`pihc_zoo.nodal`). The finer one answers; the error is estimated by its difference from the other.

A problem's native cells do not resolve these layers either: second differences on cells of size h solve, to leading
order, u_xx + h²/12 u_xxxx in place of u_xx. Answers here are those of the equation; by how much data made on such
cells differ is part of the estimate.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .estimate import Estimate, Readout
from .nodal import NodalSolver
from .operators.derivatives import Closure, FeatureOperator, along

_REFINEMENT = 1.4  # nodes of the finer grid over the coarser one's, per axis


class EarlyWindow(nn.Module):
    """The solution up to the first output time, and its estimated error.

    Args:
        operator: features on the surrogate's grid; one bounded axis.
    """

    def __init__(self, operator: FeatureOperator):
        super().__init__()
        problem = operator.problem
        times = np.asarray(problem.output_times)
        self.problem, self.stop = problem, float(times[times > 0].min())
        grid = operator.grid.zoomed(problem.duration / self.stop)
        self.coarse, self.fine = (NodalSolver(FeatureOperator(problem, g)) for g in (grid, grid.refined(_REFINEMENT)))
        self.operator, self.grid = self.fine.operator, self.fine.operator.grid
        ((self.axis_name, axis),) = problem.output_space.items()
        nodes = self.grid.space[self.axis_name].nodes
        self.to_fine = Readout(self.coarse.operator, self.grid.time.nodes, {self.axis_name: nodes})
        self.cell = float(np.diff(axis.nodes).max())
        self.register_buffer("weights", torch.as_tensor(self.grid.weights).sqrt(), persistent=False)
        self.register_buffer("t", torch.as_tensor(self.grid.time.nodes.copy()), persistent=False)

    @property
    def grids(self):
        """The two grids that initial values are asked for on, the finer one last."""
        return self.coarse.operator.grid, self.grid

    def forward(
        self, coarse_initial: Tensor, initial: Tensor, c: dict[str, Tensor]
    ) -> tuple[Estimate, dict[str, Closure]]:
        """Solves.

        Args:
            coarse_initial, initial: (batch, x) initial values at the nodes of `grids`.
            c: parameters, tensors of shape () or (batch,).

        Returns:
            the field on the finer grid with its estimated error, both not finite where there is no solution, the
            error also where the coarser grid has none; the closures of its walls.
        """
        closures = self.operator.closures(c)
        coarse_closures = self.coarse.operator.closures(c)
        coarse, is_coarse = self.coarse(coarse_initial, coarse_closures, c)
        u, is_fine = self.fine(initial, closures, c)
        u = torch.where(is_fine[:, None, None], u, torch.nan)
        error = u - self.to_fine(coarse, coarse_initial, coarse_closures)
        error = torch.where(is_coarse[:, None, None], error, torch.nan)
        before = torch.zeros_like(initial)
        cells = self._of_cells(u, initial, closures)
        homogeneous = {name: closure.homogeneous() for name, closure in closures.items()}
        return Estimate(error, cells, u, before, initial, self.weights, self.operator, homogeneous), closures

    def _of_cells(self, u: Tensor, initial: Tensor, closures: dict[str, Closure]) -> Tensor:
        """(batch, time, x) by about how much second differences on the native cells change the field.

        To leading order they add a h²/12 u_xxxx to u_t = a u_xx. Over a time t, in which a layer grew as f(x / √t),
        that makes t h²/12 a u_xxxx = h²/12 (t u_t)_xx.
        """
        matrix = self.operator.matrix(self.axis_name, 2)
        rate = along(self.operator.close_time(u[:, None], initial[:, None]), self.operator.matrix("t", 1), 2)[:, 0]
        homogeneous = closures[self.axis_name].homogeneous()
        closed = self.operator.close_space(self.t[:, None] * rate, self.axis_name, homogeneous)
        return self.cell**2 / 12 * (closed @ matrix.T)
