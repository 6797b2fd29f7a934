"""What became of each subproblem: failure is data, and the message holds the remedy."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """Outcome of one subproblem; `message` says what it means and what to do."""

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    NOT_FINITE = 3
    NOT_SOLVED = 4
    BAD_INPUT = 5
    SMALL_REDUCTION = 6
    SMALL_STEP = 7
    POLISHED = 8

    @property
    def is_converged(self) -> bool:
        """Whether the solve found what it looked for."""
        return self in CONVERGED

    @property
    def message(self) -> str:
        """What it means, and what to do."""
        return _MESSAGES[self]


CONVERGED = (Status.CONVERGED, Status.SMALL_REDUCTION, Status.SMALL_STEP, Status.POLISHED)


def is_converged(status: Any) -> Any:
    """Element by element, of integers or an array or tensor of them: whether the solve converged."""
    result = status == int(CONVERGED[0])
    for other in CONVERGED[1:]:
        result = result | (status == int(other))
    return result


_MESSAGES = {
    Status.CONVERGED: "converged: the gradient fell below the tolerance",
    Status.MAX_STEPS: "not converged within max_steps; raise max_steps or the tolerance",
    Status.STALLED: "no step was accepted; raise the ridge, or use fewer basis functions",
    Status.NOT_FINITE: "the residual is not finite at the start; check the initial condition and parameters, or take a "
    "finer grid or more steps of the lift",
    Status.NOT_SOLVED: "no solve was asked for (max_steps = 0): coefficients are the initial ones",
    Status.SMALL_REDUCTION: "converged: neither the model nor the last step lowers the objective any more",
    Status.SMALL_STEP: "converged: the last step is below the tolerance of the coefficients",
    Status.POLISHED: "not converged, but solved by Newton's method for all nodal values afterwards",
    Status.BAD_INPUT: "the input was refused; see the message of this trajectory",
}
