"""What a backend computed of some trajectories, before anything is said of trust (numpy only)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Answer:
    """The solution of n trajectories and the figures of its report, see `Prediction`.

    Attributes:
        u: (n, time, *space) at the output points; where a roll-out failed, values up to then. None where the answers
            of all trajectories are in one array.
        coefficients: (n, subproblem, coefficient); ``status``, ``iterations`` (n, subproblem).
        residual, estimated_error, unresolved: (n,); ``residual_per_expert`` (n, expert).
        read_field: "residual" or "estimated_error" ↦ that field (n, time, *space).
        is_polished: (n,) whether Newton's method went on from the experts' answer; default: none.
        failure_time: (n,) from which on a roll-out has no values; default: NaN, none failed.
    """

    u: np.ndarray | None
    coefficients: np.ndarray
    status: np.ndarray
    iterations: np.ndarray
    residual: np.ndarray
    residual_per_expert: np.ndarray
    estimated_error: np.ndarray
    unresolved: np.ndarray
    read_field: Callable[[str], np.ndarray] = field(repr=False)
    is_polished: np.ndarray | None = None
    failure_time: np.ndarray | None = None

    def __post_init__(self):
        if self.is_polished is None:
            self.is_polished = np.zeros(len(self), dtype=bool)
        if self.failure_time is None:
            self.failure_time = np.full(len(self), np.nan)

    def __len__(self) -> int:
        return len(self.status)
