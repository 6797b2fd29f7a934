"""Levenberg–Marquardt for a batch of small independent least-squares problems.

    min_w  Φ(w) = ½‖r(w)‖² + ½λ‖w‖²

Each step solves (JᵀJ + λI + μ diag(JᵀJ + λI)) δ = −∇Φ by Cholesky, after scaling the columns to a
unit diagonal, in float64. Every problem has its own damping μ, acceptance and convergence; finished
problems are frozen by masks, so the loop never waits for the device. Where it looks at convergence
anyway (on a CPU), it goes on with the unfinished ones alone once they are half of the batch or less.

Source: J. Moré, "The Levenberg–Marquardt algorithm: implementation and theory" (1978),
doi:10.1007/BFb0067700; J. Nocedal, S. Wright, "Numerical Optimization" (2006), 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..status import Status
from .dense import solve_positive_definite
from .report import LeastSquaresSolution

_ROUNDING = 1e-14  # relative rounding of a sum of squares
FEW_STEPS = 2  # that most solves need, where nobody looks whether they do
_LARGEST_DAMPING = 1e12  # from which on a problem has stalled


class Objective(Protocol):
    """A batch of objectives Φ; shapes (subproblem,), (subproblem, coefficient) and its square."""

    def evaluate(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Φ and ∇Φ."""
        ...

    def normal_matrix(self, w: Tensor) -> Tensor:
        """JᵀJ + λI."""
        ...

    def expand(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All three, for less than one by one."""
        ...

    def take(self, indices: Tensor) -> Objective:
        """The objectives of some problems."""
        ...


@dataclass(frozen=True)
class LevenbergMarquardt:
    """The solver's settings.

    Attributes:
        max_steps: steps at most; 0 keeps the initial coefficients.
        rtol, atol: a problem has converged when its scaled gradient norm g, a root-mean-square in
            the rows' unit, satisfies g ≤ atol + rtol·g₀.
        ftol: it has also converged when a step, taken or not, changes Φ by at most ftol·Φ and the quadratic
            model promises no more: so end solves at a kink of the objective, where no gradient vanishes.
        xtol: or when a step that was taken is at most xtol times the coefficients, both scaled by columns.
        damping: initial μ, dimensionless.
        refresh_every: the normal matrix is recomputed every so many steps; between, steps use the
            old one with the exact gradient (cheaper steps, linear instead of quadratic convergence).
        check_every: look at convergence every so many steps and leave early; 0 never looks (fixed
            number of steps, no host synchronisation). None: 1 on a CPU, 0 elsewhere. Where solves never look,
            `predict` takes `FEW_STEPS` first, and all steps for the trajectories that these do not finish.
    """

    max_steps: int = 6
    rtol: float = 1e-3
    atol: float = 1e-9
    ftol: float = 0.0
    xtol: float = 0.0
    damping: float = 1e-9
    refresh_every: int = 1
    check_every: int | None = None

    def __post_init__(self):
        for name in ("max_steps", "rtol", "atol", "ftol", "xtol", "damping"):
            if getattr(self, name) < 0:
                raise ValueError(f"solver setting {name} must not be negative, got {getattr(self, name)}")
        if self.refresh_every < 1:
            raise ValueError(f"solver setting refresh_every must be at least 1, got {self.refresh_every}")

    def looks_at(self, tensor: Tensor) -> bool:
        """Whether solves on the device of ``tensor`` look at convergence, which waits for it."""
        if torch.compiler.is_exporting():
            return False
        return tensor.device.type == "cpu" if self.check_every is None else self.check_every > 0

    def solve(self, objective: Objective, w: Tensor) -> LeastSquaresSolution:
        """Minimises every objective of the batch from ``w`` (subproblem, coefficient)."""
        with torch.no_grad():
            return self._solve(objective, w)

    def _solve(self, objective: Objective, w: Tensor) -> LeastSquaresSolution:
        if self.max_steps == 0:
            (cost, gradient), matrix = objective.evaluate(w), None
        else:
            cost, gradient, matrix = objective.expand(w)
        iterations = torch.zeros(w.shape[0], dtype=torch.int64, device=w.device)
        if matrix is None:
            norm = gradient.norm(dim=1)
            status = torch.where(_is_finite(cost, norm), int(Status.NOT_SOLVED), int(Status.NOT_FINITE))
            return LeastSquaresSolution(w, cost, norm, status, iterations)

        scale = _column_scale(matrix)
        norm = (gradient / scale).norm(dim=1)
        tolerance = self.atol + self.rtol * norm
        is_finite = _is_finite(cost, norm)
        is_active = is_finite & (norm > self.atol)
        damping = torch.full_like(cost, self.damping)
        unknown = torch.full_like(iterations, int(Status.STALLED))
        state = (w, cost, gradient, norm, damping, is_active, iterations, unknown)

        if torch.compiler.is_exporting():
            state = self._exported_steps(objective, state, matrix, tolerance)
        else:
            check_every = self.check_every if self.check_every is not None else int(w.device.type == "cpu")
            state = self._steps(objective, state, matrix, tolerance, check_every)

        w, cost, _, norm, _, _, iterations, outcome = state
        status = torch.where(norm <= tolerance, int(Status.CONVERGED), outcome)
        status = torch.where(is_finite, status, int(Status.NOT_FINITE))
        return LeastSquaresSolution(w, cost, norm, status, iterations)

    def _steps(self, objective: Objective, state: tuple[Tensor, ...], matrix: Tensor, tolerance: Tensor, check: int):
        """Steps until every problem has finished; looks at that every ``check`` steps, 0 for never."""
        whole, indices = None, None  # the batch's state, and which of its problems ``state`` holds
        system = _scaled(matrix)
        for step in range(self.max_steps):
            if check and step % check == 0:
                num_unfinished = int(state[5].sum())
                if num_unfinished == 0:
                    break
                if 2 * num_unfinished <= state[5].shape[0]:
                    unfinished = state[5].nonzero()[:, 0]
                    whole = state if whole is None else _put(whole, indices, state)
                    indices = unfinished if indices is None else indices[unfinished]
                    objective = objective.take(unfinished)
                    state = tuple(part[unfinished] for part in state)
                    system, tolerance = tuple(part[unfinished] for part in system), tolerance[unfinished]
            if step and step % self.refresh_every == 0:
                system = _scaled(objective.normal_matrix(state[0]))
            state = self._step(objective, state, system, tolerance)
        return state if whole is None else _put(whole, indices, state)

    def _step(self, objective: Objective, state: tuple[Tensor, ...], system: tuple[Tensor, Tensor], tolerance: Tensor):
        """One damped step of every active problem; the others stay as they are."""
        w, cost, gradient, norm, damping, is_active, iterations, outcome = state
        scale, scaled = system
        slope = gradient / scale
        shift = damping.clamp(max=_LARGEST_DAMPING)
        identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        damped = torch.addcmul(scaled, shift.view(-1, 1, 1), identity)
        solved, is_definite = solve_positive_definite(damped, slope[..., None])
        solved = solved[..., 0]  # minus the direction, in scaled coefficients
        trial = w - solved / scale
        trial_cost, trial_gradient = objective.evaluate(trial)
        trial_norm = (trial_gradient / scale).norm(dim=1)
        may_move = is_active & is_definite
        is_accepted = may_move & (trial_cost <= cost * (1 + _ROUNDING)) & (trial_norm < torch.inf)
        # Moré (1978), 6: the tests on cost and step of MINPACK
        length, least = solved.square().sum(dim=1), self.ftol * cost
        promised = 0.5 * torch.addcmul((solved * slope).sum(dim=1), shift, length)
        is_small_reduction = may_move & (torch.maximum(promised, (trial_cost - cost).abs()) <= least)
        is_taken = is_accepted[:, None]
        w = torch.where(is_taken, trial, w)
        gradient = torch.where(is_taken, trial_gradient, gradient)
        cost = torch.where(is_accepted, trial_cost, cost)
        norm = torch.where(is_accepted, trial_norm, norm)
        iterations = iterations + is_active
        outcome = outcome.masked_fill(is_accepted, int(Status.MAX_STEPS))
        damping = torch.where(is_accepted, damping * 0.1, (damping * 100).clamp(min=1e-4))
        is_going_on = (norm > tolerance) & (damping < _LARGEST_DAMPING) & ~is_small_reduction
        if self.xtol:
            is_small_step = is_accepted & (length <= self.xtol**2 * (w * scale).square().sum(dim=1))
            outcome = outcome.masked_fill(is_small_step, int(Status.SMALL_STEP))
            is_going_on = is_going_on & ~is_small_step
        outcome = outcome.masked_fill(is_small_reduction, int(Status.SMALL_REDUCTION))
        is_active = is_active & is_going_on
        return w, cost, gradient, norm, damping, is_active, iterations, outcome

    def _exported_steps(self, objective: Objective, state: tuple[Tensor, ...], matrix: Tensor, tolerance: Tensor):
        """The same steps for an exported graph: the first ones unrolled, the others a loop that ends early."""
        system = _scaled(matrix)
        for _ in range(min(self.refresh_every, self.max_steps)):
            state = self._step(objective, state, system, tolerance)

        def is_unfinished(step, *state):
            return (step < self.max_steps) & state[5].any()

        def cycle(step, *state):
            system = _scaled(objective.normal_matrix(state[0]))
            for _ in range(self.refresh_every):
                *rest, is_active, iterations, outcome = state
                state = (*rest, is_active & (step < self.max_steps), iterations, outcome)
                state = self._step(objective, state, system, tolerance)
                step = step + 1
            return (step, *state)

        if self.max_steps > self.refresh_every:
            first = torch.full((), self.refresh_every, dtype=torch.int64)
            _, *state = torch.while_loop(is_unfinished, cycle, (first, *state))
        return tuple(state)


def _put(whole: tuple[Tensor, ...], indices: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """``state`` of the problems ``indices`` put back into that of all."""
    return tuple(old.index_copy(0, indices, new) for old, new in zip(whole, state, strict=True))


def _scaled(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The column scale of a normal matrix, and the matrix so scaled."""
    scale = _column_scale(matrix)
    return scale, matrix / (scale[:, :, None] * scale[:, None, :])


def _is_finite(cost: Tensor, norm: Tensor) -> Tensor:
    """Whether cost and gradient, of which there is the norm, are numbers: both are at least 0."""
    return (cost < torch.inf) & (norm < torch.inf)


def _column_scale(matrix: Tensor) -> Tensor:
    """(subproblem, coefficient) square roots of the diagonal, kept away from zero."""
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    return diagonal.clamp(min=torch.finfo(matrix.dtype).tiny).sqrt()
