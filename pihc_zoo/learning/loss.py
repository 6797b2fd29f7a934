"""The data-free training objective."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constraint import ConstrainedField
from ..status import Status, is_converged


def residual_sum(field: ConstrainedField, kind: str = "log") -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the rows' norm √(2Φ), or of its logarithm, over solved subproblems.

    The logarithm weighs easy and hard initial conditions alike; the norm itself adds up along a
    roll-out. The loss is a function of the constraint objective Φ alone, so coefficients may be
    detached (envelope theorem).

    Returns:
        the sum, the number of solved subproblems, and of those left out because they did not converge.
    """
    cost = field.cost.flatten()
    status = field.solution.status
    is_used = is_converged(status) | (status == int(Status.NOT_SOLVED))
    safe = torch.where(is_used, cost, 1.0)
    if kind == "log":
        values = 0.5 * torch.log(2 * safe + torch.finfo(cost.dtype).tiny)
    elif kind == "mean":
        values = (2 * safe + torch.finfo(cost.dtype).tiny).sqrt()
    else:
        raise ValueError(f"loss must be 'log' or 'mean', not {kind!r}")
    return (values * is_used).sum(), is_used.sum(), (~is_used).sum()


def relative_l2(u: Tensor, truth: Tensor) -> Tensor:
    """(batch,) ‖u − truth‖ / ‖truth‖ over all times and points."""
    return (u - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
