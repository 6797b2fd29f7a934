"""Trajectories of which the lift alone is the answer.

A solve has converged at w = 0 when its scaled gradient is at most ``atol``. That gradient has N components, none larger
than the rows' norm ‖r‖ whatever the basis functions are: where √N ‖r‖ ≤ atol the outcome of the solve is known before
its basis is, and neither network nor solve is asked for. That looks at numbers on the device, so it is done on a CPU
only, and for roll-outs, whose rows are needed anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .ansatz import Conditions
from .basis import Basis
from .constraint import ConstrainedField, HardConstraint
from .decomposition import Decomposition
from .solvers.levenberg_marquardt import LevenbergMarquardt
from .solvers.report import LeastSquaresSolution
from .status import Status


def constrained(
    constraint: HardConstraint,
    basis: Callable[[Conditions], Basis],
    conditions: Conditions,
    num_basis: int | None,
    decomposition: Decomposition | None = None,
    solver: LevenbergMarquardt | None = None,
    **options: Any,
) -> ConstrainedField:
    """What ``constraint(basis(conditions), conditions, …)`` gives, of those trajectories alone that need it.

    Args:
        basis: conditions ↦ basis functions.
        num_basis: how many these are; None where that is not known, then all trajectories are solved.
    """
    decomposition, solver = decomposition or constraint.decomposition, solver or constraint.solver
    own = {"decomposition": decomposition, "solver": solver, **options}
    is_coupled = decomposition.is_joint or decomposition.num_experts == 1
    has_choice = num_basis and is_coupled and solver.max_steps > 0 and constraint.initial_coefficient == 0
    if not has_choice or not solver.looks_at(conditions.u0) or torch.is_grad_enabled():
        return constraint(basis(conditions), conditions, **own)
    count = num_basis * (decomposition.num_experts if decomposition.is_joint else 1)
    rows = constraint.lift_rows(conditions, constraint.stride)
    norm = rows.double().flatten(1).norm(dim=1)
    remaining = (~(norm * count**0.5 <= solver.atol)).nonzero()[:, 0]
    if len(remaining) == len(norm):
        return constraint(basis(conditions), conditions, **own)
    rows = rows if constraint.stride == 1 else constraint.lift_rows(conditions)
    found = _of_lift(conditions, norm, rows, count)
    if len(remaining):
        part = conditions.take(remaining)
        _put(found, remaining, constraint(basis(part), part, **own), lambda u: constraint.rows(u, part))
    return found


def _of_lift(conditions: Conditions, norm: Tensor, rows: Tensor, count: int) -> ConstrainedField:
    zeros = norm.new_zeros(len(norm), count)
    steps = torch.zeros_like(norm, dtype=torch.int64)
    cost = 0.5 * norm.square()
    solution = LeastSquaresSolution(zeros, cost, norm, torch.full_like(steps, int(Status.CONVERGED)), steps)
    return ConstrainedField(conditions.lift.u.clone(), rows, zeros[:, None], cost[:, None], solution)


def _put(found: ConstrainedField, indices: Tensor, part: ConstrainedField, rows_of: Callable[[Tensor], Tensor]) -> None:
    """``part`` into those trajectories of ``found``."""
    found.u[indices] = part.u
    found.rows[indices] = rows_of(part.u) if part.rows is None else part.rows
    found.coefficients[indices], found.cost[indices] = part.coefficients, part.cost
    for name in ("cost", "gradient_norm", "status", "iterations"):
        getattr(found.solution, name)[indices] = getattr(part.solution, name)
