"""What became of each subproblem: failure is data, and the message holds the remedy."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one subproblem; `message` says what it means and what to do."""

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    NOT_FINITE = 3
    NOT_SOLVED = 4
    BAD_INPUT = 5

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "converged: the gradient fell below the tolerance",
    Status.MAX_STEPS: "not converged within max_steps; raise max_steps or the tolerance",
    Status.STALLED: "no step was accepted; raise the ridge, or use fewer basis functions",
    Status.NOT_FINITE: "the residual is not finite at the start; check the initial condition and parameters",
    Status.NOT_SOLVED: "no solve was asked for (max_steps = 0): coefficients are the initial ones",
    Status.BAD_INPUT: "the input was refused; see the message of this trajectory",
}
