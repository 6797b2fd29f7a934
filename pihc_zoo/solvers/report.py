"""What a batch of solves returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class LeastSquaresSolution:
    """Result of a batch of least-squares solves.

    Attributes:
        coefficients: (subproblem, coefficient) minimisers.
        cost: (subproblem,) objective ½‖r‖² + ½λ‖w‖².
        gradient_norm: (subproblem,) column-scaled gradient norm at the end, in units of √cost.
        status: (subproblem,) integers of `pihc_zoo.Status`.
        iterations: (subproblem,) steps taken.
    """

    coefficients: Tensor
    cost: Tensor
    gradient_norm: Tensor
    status: Tensor
    iterations: Tensor
