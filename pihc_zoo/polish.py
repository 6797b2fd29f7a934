"""What `predict` does where the experts' answer is not good enough: all nodal values, and the first instants.

On one bounded space axis; elsewhere there is nothing to polish with, and answers stay as the experts left them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .constraint import HardConstraint
from .discretisation import Field
from .early import EarlyWindow
from .estimate import Candidate
from .nodal import NodalSolver
from .parameters import Parameters

if TYPE_CHECKING:
    from .prediction.passes import Pass
    from .surrogate import Surrogate


class Polish(nn.Module):
    """Newton's method on a surrogate's grid, and grids for times before the first output time.

    Args:
        constraint: of the surrogate; one bounded axis.
    """

    def __init__(self, constraint: HardConstraint):
        super().__init__()
        self.nodal = NodalSolver(constraint.discretisation)
        self.early = EarlyWindow(constraint.discretisation)

    @staticmethod
    def of(constraint: HardConstraint) -> Polish | None:
        """That of a surrogate, or None where its grid has none."""
        space = list(constraint.grid.space.values())
        problem = constraint.problem
        is_autonomous = not problem.coordinates and not problem.coefficients  # nor does Newton's method know of others
        is_suitable = (
            is_autonomous and len(space) == 1 and not space[0].is_periodic and constraint.precision == torch.float64
        )
        return Polish(constraint) if is_suitable and constraint.grid.can_zoom else None

    def improve(self, model: Surrogate, indices: Tensor, found: Pass, c: Parameters):
        """Solves for all nodal values of some trajectories.

        Args:
            model: the surrogate.
            indices: (n,) into the batch.
            found: what experts found.
            c: parameters, tensors of shape () or (batch,).

        Returns:
            their field; (n,) whether it solves the problem; the rows W P ρ that it leaves; its estimated error.
        """
        constraint, initial = model.constraint, found.initial[indices]
        conditions = constraint.conditions(initial, c.take(indices))
        u, is_solved = self.nodal(initial, conditions.walls, conditions.c)
        estimate = model.estimator(Candidate(u, conditions, found.fine_initial[indices]))
        return Field(u, conditions.walls, initial), is_solved, constraint.rows(u, conditions), estimate
