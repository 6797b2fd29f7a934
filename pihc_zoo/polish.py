"""What `predict` does where the experts' answer is not good enough: all nodal values, and the first instants.

On one bounded space axis; elsewhere there is nothing to polish with, and answers stay as the experts left them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .constraint import HardConstraint
from .early import EarlyWindow
from .estimate import ErrorEstimator, Estimate
from .nodal import NodalSolver


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

    def improve(
        self,
        constraint: HardConstraint,
        estimator: ErrorEstimator,
        rows: Tensor,
        initial: Tensor,
        fine_initial: Tensor,
        c: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Estimate]:
        """Solves for all nodal values of the trajectories ``rows``.

        Args:
            constraint, estimator: of the surrogate.
            rows: (n,) indices into the batch.
            initial, fine_initial: (batch, x) initial values at the nodes and at the estimator's.
            c: parameters, tensors of shape () or (batch,).

        Returns:
            (n,) whether there is a solution, (n, time, x) its values, the mapped residual they leave, and their
            estimated error.
        """
        c = {key: value[rows] if value.dim() else value for key, value in c.items()}
        conditions = constraint.conditions(initial[rows], c)
        u, is_solved = self.nodal(initial[rows], conditions.closures, c)
        return is_solved, u, constraint.rows(u, conditions), estimator(u, conditions, fine_initial[rows])
