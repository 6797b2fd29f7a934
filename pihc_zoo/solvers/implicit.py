"""Gradients through a minimiser by the implicit function theorem.

At the minimiser ∇_w Φ(w, θ) = 0. For a loss ℓ(w): solve H y = ∂ℓ/∂w with the exact Hessian
H = ∇²_w Φ, then dℓ/dθ = −∂_θ (yᵀ ∇_w Φ). θ is every tensor upstream of Φ.

H may be indefinite away from a strict minimum, so it is factorised by LU.

Source: S. Krantz, H. Parks, "The Implicit Function Theorem" (2013); for layers: J. Zico Kolter,
D. Duvenaud, M. Johnson, "Deep implicit layers" (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class ImplicitObjective(Protocol):
    """What the adjoint asks of an objective; see `pihc_zoo.constraint.CollocationObjective`."""

    def hessian(self, w: Tensor) -> Tensor:
        """(subproblem, coefficient, coefficient) exact ∇²Φ."""
        ...

    def directional(self, w: Tensor, direction: Tensor) -> Tensor:
        """(subproblem,) directionᵀ ∇Φ(w), differentiable in the objective's tensors."""
        ...


def implicit_coefficients(
    build: Callable[..., ImplicitObjective], w: Tensor, tensors: tuple[Tensor, ...], is_solved: Tensor
) -> Tensor:
    """``w`` with the gradient of the minimiser.

    Args:
        build: objective of ``tensors``.
        w: (subproblem, coefficient) the minimiser, found without gradients.
        tensors: every tensor that the objective depends on.
        is_solved: (subproblem,) where the theorem holds; elsewhere no gradient passes.
    """
    return _Implicit.apply(build, w, is_solved, *tensors)


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, build, w, is_solved, *tensors):
        ctx.build = build
        ctx.save_for_backward(w, is_solved, *tensors)
        return w.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_w):
        w, is_solved, *tensors = ctx.saved_tensors
        needed = [i for i, flag in enumerate(ctx.needs_input_grad[3:]) if flag]
        leaves = [tensor.detach() for tensor in tensors]
        for i in needed:
            leaves[i].requires_grad_()
        with torch.enable_grad():
            objective = ctx.build(*leaves)
            with torch.no_grad():
                y, _ = torch.linalg.solve_ex(objective.hessian(w), grad_w[..., None])
                y = torch.where(is_solved[:, None], y[..., 0], 0.0)
            total = -objective.directional(w, y).sum()
            gradients = torch.autograd.grad(total, [leaves[i] for i in needed], allow_unused=True)
        result: list[Tensor | None] = [None] * len(tensors)
        for i, gradient in zip(needed, gradients, strict=True):
            result[i] = gradient
        return None, None, None, *result
