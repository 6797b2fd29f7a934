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

from .discretisation import Discretisation, Field, Readout
from .estimate import Estimate
from .nodal import NodalSolver
from .parameters import Parameters

_REFINEMENT = 1.4  # nodes of the finer grid over the coarser one's, per axis


class EarlyWindow(nn.Module):
    """The solution up to the first output time, and its estimated error.

    Args:
        discretisation: of the surrogate's grid; one bounded axis.
    """

    def __init__(self, discretisation: Discretisation):
        super().__init__()
        problem = discretisation.problem
        times = np.asarray(problem.output_times)
        self.problem, self.stop = problem, float(times[times > 0].min())
        grid = discretisation.grid.zoomed(problem.span / self.stop)
        self.coarse, self.fine = (NodalSolver(Discretisation(problem, g)) for g in (grid, grid.refined(_REFINEMENT)))
        self.discretisation, self.grid = self.fine.discretisation, self.fine.discretisation.grid
        ((self.axis_name, axis),) = problem.output_space.items()
        nodes = self.grid.space[self.axis_name].nodes
        self.to_fine = Readout(self.coarse.discretisation, self.grid.time.nodes, {self.axis_name: nodes})
        self.cell = float(np.diff(axis.nodes).max())
        self.register_buffer("weights", torch.as_tensor(self.grid.weights).sqrt(), persistent=False)
        self.register_buffer("t", torch.as_tensor(self.grid.time.nodes.copy()), persistent=False)

    @property
    def grids(self):
        """The two grids that initial values are asked for on, the finer one last."""
        return self.coarse.discretisation.grid, self.grid

    def forward(self, coarse_initial: Tensor, initial: Tensor, c: Parameters) -> tuple[Estimate, Field]:
        """Solves.

        Args:
            coarse_initial, initial: (batch, x) initial values at the nodes of `grids`.
            c: parameters, tensors of shape () or (batch,).

        Returns:
            the estimated error, not finite where either grid has no solution; the field on the finer grid, not
            finite where that one has none.
        """
        walls, coarse_walls = self.discretisation.walls(c), self.coarse.discretisation.walls(c)
        coarse, is_coarse = self.coarse(coarse_initial, coarse_walls, c)
        u, is_fine = self.fine(initial, walls, c)
        field = Field(torch.where(is_fine[:, None, None], u, torch.nan), walls, initial)
        error = field.u - self.to_fine(Field(coarse, coarse_walls, coarse_initial))
        error = torch.where(is_coarse[:, None, None], error, torch.nan)
        before, cells = torch.zeros_like(initial), self._of_cells(field)
        return (
            Estimate(error, cells, field.u, before, self.weights, self.discretisation, walls.homogeneous()),
            field,
        )

    def _of_cells(self, field: Field) -> Tensor:
        """(batch, time, x) by about how much second differences on the native cells change the field.

        To leading order they add a h²/12 u_xxxx to u_t = a u_xx. Over a time t, in which a layer grew as f(x / √t),
        that makes t h²/12 a u_xxxx = h²/12 (t u_t)_xx.
        """
        growth = self.t[:, None] * self.discretisation.rate(field.u, field.initial)
        closure = field.walls[self.axis_name].homogeneous()
        return self.cell**2 / 12 * self.discretisation.space.axes[self.axis_name].derivative(growth, 2, -1, closure)
