"""Levenberg–Marquardt for a batch of small independent least-squares problems.

    min_w  Φ(w) = ½‖r(w)‖² + ½λ‖w‖²

Each step solves (JᵀJ + λI + μ diag(JᵀJ + λI)) δ = −∇Φ by Cholesky, after scaling the columns to a
unit diagonal, in float64. Every problem has its own damping μ, acceptance and convergence; finished
problems are frozen by masks, so the loop never waits for the device.

Source: J. Moré, "The Levenberg–Marquardt algorithm: implementation and theory" (1978),
doi:10.1007/BFb0067700; J. Nocedal, S. Wright, "Numerical Optimization" (2006), 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..status import Status
from .report import LeastSquaresSolution


class Objective(Protocol):
    """A batch of objectives Φ; shapes (subproblem,), (subproblem, coefficient) and its square."""

    def evaluate(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Φ and ∇Φ."""
        ...

    def normal_matrix(self, w: Tensor) -> Tensor:
        """JᵀJ + λI."""
        ...


@dataclass(frozen=True)
class LevenbergMarquardt:
    """The solver's settings.

    Attributes:
        max_steps: steps at most; 0 keeps the initial coefficients.
        rtol, atol: a problem has converged when its scaled gradient norm g, a root-mean-square in
            the rows' unit, satisfies g ≤ atol + rtol·g₀.
        damping: initial μ, dimensionless.
        refresh_every: the normal matrix is recomputed every so many steps; between, steps use the
            old one with the exact gradient (cheaper steps, linear instead of quadratic convergence).
        check_every: look at convergence every so many steps and leave early; 0 never looks (fixed
            number of steps, no host synchronisation). None: 1 on a CPU, 0 elsewhere.
    """

    max_steps: int = 6
    rtol: float = 1e-3
    atol: float = 1e-9
    damping: float = 1e-9
    refresh_every: int = 1
    check_every: int | None = None

    def __post_init__(self):
        for name in ("max_steps", "rtol", "atol", "damping"):
            if getattr(self, name) < 0:
                raise ValueError(f"solver setting {name} must not be negative, got {getattr(self, name)}")
        if self.refresh_every < 1:
            raise ValueError(f"solver setting refresh_every must be at least 1, got {self.refresh_every}")

    def solve(self, objective: Objective, w: Tensor) -> LeastSquaresSolution:
        """Minimises every objective of the batch from ``w`` (subproblem, coefficient)."""
        with torch.no_grad():
            return self._solve(objective, w)

    def _solve(self, objective: Objective, w: Tensor) -> LeastSquaresSolution:
        check_every = self.check_every if self.check_every is not None else int(w.device.type == "cpu")
        cost, gradient = objective.evaluate(w)
        iterations = torch.zeros(len(w), dtype=torch.int64, device=w.device)
        is_finite = torch.isfinite(cost) & torch.isfinite(gradient).all(dim=1)
        if self.max_steps == 0:
            status = torch.where(is_finite, int(Status.NOT_SOLVED), int(Status.NOT_FINITE))
            return LeastSquaresSolution(w, cost, gradient.norm(dim=1), status, iterations)

        damping = torch.full_like(cost, self.damping)
        matrix = objective.normal_matrix(w)
        scale = _column_scale(matrix)
        norm = (gradient / scale).norm(dim=1)
        tolerance = self.atol + self.rtol * norm
        is_active = is_finite & (norm > self.atol)
        num_accepted = torch.zeros_like(iterations)

        for step in range(self.max_steps):
            if check_every and step % check_every == 0 and not is_active.any():
                break
            if step and step % self.refresh_every == 0:
                matrix = objective.normal_matrix(w)
                scale = _column_scale(matrix)
            scaled = matrix / (scale[:, :, None] * scale[:, None, :])
            shift = torch.where(torch.isfinite(damping), damping, 1.0)
            identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
            factor, info = torch.linalg.cholesky_ex(scaled + shift[:, None, None] * identity)
            direction = torch.cholesky_solve((-gradient / scale)[..., None], factor)[..., 0] / scale
            trial = w + direction
            trial_cost, trial_gradient = objective.evaluate(trial)
            is_accepted = is_active & (info == 0) & (trial_cost <= cost) & torch.isfinite(trial_gradient).all(dim=1)
            w = torch.where(is_accepted[:, None], trial, w)
            gradient = torch.where(is_accepted[:, None], trial_gradient, gradient)
            cost = torch.where(is_accepted, trial_cost, cost)
            iterations = iterations + is_active
            num_accepted = num_accepted + is_accepted
            damping = torch.where(is_accepted, damping * 0.1, (damping * 100).clamp(min=1e-4))
            norm = (gradient / scale).norm(dim=1)
            is_active = is_active & (norm > tolerance) & (damping < 1e12)

        status = torch.where(norm <= tolerance, int(Status.CONVERGED), int(Status.MAX_STEPS))
        status = torch.where((num_accepted == 0) & (norm > tolerance), int(Status.STALLED), status)
        status = torch.where(is_finite, status, int(Status.NOT_FINITE))
        return LeastSquaresSolution(w, cost, norm, status, iterations)


def _column_scale(matrix: Tensor) -> Tensor:
    """(subproblem, coefficient) square roots of the diagonal, kept away from zero."""
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    return diagonal.clamp(min=torch.finfo(matrix.dtype).tiny).sqrt()
