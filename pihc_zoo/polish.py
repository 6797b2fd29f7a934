"""What `predict` does where the experts' answer is not good enough: all nodal values, and the first instants.

On one bounded space axis; elsewhere there is nothing to polish with, and answers stay as the experts left them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .constraint import HardConstraint
from .discretisation import Discretisation, Field
from .early import EarlyWindow
from .estimate import Candidate
from .nodal import NodalSolver
from .parameters import Parameters

if TYPE_CHECKING:
    from .prediction.passes import Pass
    from .surrogate import Surrogate


class Polish(nn.Module):
    """Newton's method on a surrogate's grid, and grids for times before the first output time; in float64.

    Args:
        constraint: of the surrogate; one bounded axis.
    """

    def __init__(self, constraint: HardConstraint):
        super().__init__()
        own = constraint.discretisation
        if constraint.precision != torch.float64:
            own = Discretisation(own.problem, own.grid)
        self.nodal, self.early = NodalSolver(own), EarlyWindow(own)

    @staticmethod
    def of(constraint: HardConstraint) -> Polish | None:
        """That of a surrogate, or None where its grid has none."""
        space = list(constraint.grid.space.values())
        problem = constraint.problem
        is_autonomous = not problem.coordinates and not problem.coefficients  # nor does Newton's method know of others
        is_suitable = is_autonomous and len(space) == 1 and not space[0].is_periodic
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
        constraint, initial, c = model.constraint, found.initial[indices], c.take(indices)
        walls = self.nodal.discretisation.walls(c)
        u, is_solved = self.nodal(initial, walls, c)
        conditions, own = constraint.conditions(initial, c), u.to(constraint.precision)
        estimate = model.estimator(Candidate(own, conditions, found.fine_initial[indices]))
        return Field(u, walls, initial), is_solved, constraint.rows(own, conditions), estimate
