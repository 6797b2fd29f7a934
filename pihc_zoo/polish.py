"""What `predict` does where the experts' answer is not good enough: all nodal values, and the first instants.

On one bounded space axis; elsewhere there is nothing to polish with, and answers stay as the experts left them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .constraint import HardConstraint
from .early import EarlyWindow
from .nodal import NodalSolver

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
        self.nodal = NodalSolver(constraint.operator)
        self.early = EarlyWindow(constraint.operator)

    @staticmethod
    def of(constraint: HardConstraint) -> Polish | None:
        """That of a surrogate, or None where its grid has none."""
        space = list(constraint.grid.space.values())
        is_suitable = len(space) == 1 and not space[0].is_periodic and constraint.precision == torch.float64
        return Polish(constraint) if is_suitable and constraint.grid.can_zoom else None

    def improve(self, model: Surrogate, rows: Tensor, found: Pass, c: dict[str, Tensor]):
        """Solves for all nodal values of the trajectories ``rows``.

        Args:
            model: the surrogate.
            rows: (n,) indices into the batch.
            found: what experts found.
            c: parameters, tensors of shape () or (batch,).

        Returns:
            (n, time, x) values; (n,) whether they solve the problem; the rows W P ρ they leave; their estimated
            error; the closures of the walls.
        """
        constraint, initial = model.constraint, found.initial[rows]
        c = {key: value[rows] if value.dim() else value for key, value in c.items()}
        conditions = constraint.conditions(initial, c)
        u, is_solved = self.nodal(initial, conditions.closures, c)
        estimate = model.estimator(u, conditions, found.fine_initial[rows])
        return u, is_solved, constraint.rows(u, conditions), estimate, conditions.closures
