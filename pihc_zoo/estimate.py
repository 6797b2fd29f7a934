"""A posteriori error: the residual on a finer grid, in solution units.

The prediction is interpolated to a grid with more nodes in space and time; there e = A⁻¹ρ(u) is, to
first order, u − u_true, and includes what the coarse grid cannot see (its own discretisation error,
initial data that it does not resolve).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .grid import Grid
from .operators.derivatives import Closure, FeatureOperator
from .operators.linearised import LinearisedOperator
from .problems.base import Problem
from .residual_map import InverseLinearised


class Readout(nn.Module):
    """Values of a field at any points: interpolation from the closed nodes of a grid.

    Args:
        operator: features on the grid the field lives on.
        times: (m,) output times.
        points: per space axis (n,) output positions.
    """

    def __init__(self, operator: FeatureOperator, times, points: dict):
        super().__init__()
        self.operator = operator
        grid = operator.grid
        self.register_buffer("to_times", torch.as_tensor(grid.time.interpolation(times)), persistent=False)
        for name, values in points.items():
            self.register_buffer(
                f"to_{name}", torch.as_tensor(grid.space[name].interpolation(values)), persistent=False
            )

    def forward(self, u: Tensor, initial: Tensor, closures: dict[str, Closure]) -> Tensor:
        """(batch, time, *space) and its initial values (batch, *space) ↦ (batch, m, *points)."""
        operator = self.operator
        u = operator.close_time(u[:, None], initial[:, None])
        names = operator.space_names
        for name in names:
            dim = names.index(name) - len(names)
            u = operator.close_space(u, name, closures.get(name))
            u = (u.movedim(dim, -1) @ getattr(self, f"to_{name}").T).movedim(-1, dim)
        dim = -1 - len(names)
        u = self.to_times @ u if dim == -2 else (u.movedim(dim, -1) @ self.to_times.T).movedim(-1, dim)
        return u[:, 0]


class ErrorEstimator(nn.Module):
    """Estimates u − u_true of a field from its residual on a refined grid.

    Args:
        problem: the equation.
        operator: features on the grid of the field.
        refinement: nodes of the finer grid over nodes of the grid, per axis.
    """

    def __init__(self, problem: Problem, operator: FeatureOperator, refinement: float):
        super().__init__()
        self.problem = problem
        self.grid: Grid = operator.grid.refined(refinement)
        self.fine = FeatureOperator(problem, self.grid)
        self.map = InverseLinearised(self.fine, LinearisedOperator(problem, self.fine))
        points = {name: axis.nodes for name, axis in self.grid.space.items()}
        self.refine = Readout(operator, self.grid.time.nodes, points)

    def forward(
        self, u: Tensor, initial: Tensor, fine_initial: Tensor, closures: dict[str, Closure], c: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Relative L2 estimate and the error field.

        Args:
            u: (batch, time, *space) at the nodes; ``initial`` its initial values there.
            fine_initial: (batch, *fine space) the initial condition at the fine nodes.

        Returns:
            (batch,) estimates and (batch, *fine grid) of e ≈ u − u_true.
        """
        fine = self.refine(u, initial, closures)
        features = self.fine(fine[:, None], self.fine.closures(c), fine_initial[:, None])[:, 0]
        dims = [1] * len(self.grid.shape)
        broadcast = {key: value.reshape(-1, *dims) for key, value in c.items()}
        named = {name: features[:, i] for i, name in enumerate(self.problem.features)}
        rows = self.map(c, len(u)).apply(self.problem.residual(named, broadcast)[:, None])[:, 0]
        norm = (fine * self.map.weights).flatten(1).norm(dim=1)
        return rows.flatten(1).norm(dim=1) / norm, rows / self.map.weights
