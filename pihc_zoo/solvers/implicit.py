"""Gradients through a minimiser by the implicit function theorem, of any order.

At the minimiser ∇_w Φ(w, θ) = 0. For a loss ℓ(w): solve H y = ∂ℓ/∂w with the exact Hessian
H = ∇²_w Φ, then dℓ/dθ = −∂_θ (yᵀ ∇_w Φ). θ is every tensor upstream of Φ.

Derivatives of that gradient follow by the same rules: in it w is the minimiser again, with its own
gradient, and y a linear solve, whose gradients in (w, θ) are −∂(zᵀ H y) with H z = ∂ℓ'/∂y, so that the
recursion is exact at every order. A first-order backward pass builds none of it.

H may be indefinite away from a strict minimum, so it is factorised by LU.

Source: S. Krantz, H. Parks, "The Implicit Function Theorem" (2013); for layers: J. Zico Kolter,
D. Duvenaud, M. Johnson, "Deep implicit layers" (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad


class ImplicitObjective(Protocol):
    """What the adjoint asks of an objective; see `pihc_zoo.constraint.CollocationObjective`."""

    def hessian(self, w: Tensor) -> Tensor:
        """(subproblem, coefficient, coefficient) exact ∇²Φ, without gradients."""
        ...

    def directional(self, w: Tensor, direction: Tensor) -> Tensor:
        """(subproblem,) directionᵀ ∇Φ(w), differentiable in w, direction and the objective's tensors."""
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
    return _Minimiser.apply(build, w, is_solved, *tensors)


def refuse_transforms(*values: Any) -> None:
    """Raises where a derivative would silently miss the solves: these know reverse mode only.

    Raises:
        ValueError: a tensor carries a forward-mode tangent, or belongs to a `torch.func` transform.
    """
    if torch.compiler.is_exporting():
        return
    for value in values:
        if isinstance(value, Tensor) and (
            torch._C._functorch.is_functorch_wrapped_tensor(value) or forward_ad.unpack_dual(value).tangent is not None
        ):
            raise ValueError(
                "forward-mode derivatives and torch.func transforms do not pass the solves; use reverse mode, to any "
                "order: torch.autograd.grad(..., create_graph=True), or jvp, vjp and hessian of "
                "torch.autograd.functional"
            )


def first_order(value: Tensor) -> Tensor:
    """``value``, whose gradient refuses to be differentiated again."""
    return _FirstOrder.apply(value)


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        if torch.is_grad_enabled():
            raise ValueError(
                'gradient="envelope" holds coefficients fixed, which is exact for first derivatives only; '
                'for higher ones choose gradient="implicit"'
            )
        return gradient


class _Minimiser(torch.autograd.Function):
    """w(θ) = argmin Φ(·, θ)."""

    @staticmethod
    def forward(ctx, build, w, is_solved, *tensors):
        ctx.build = build
        w = w.clone()
        ctx.save_for_backward(w, is_solved, *tensors)  # the output w: in higher orders it has its own gradient
        return w

    @staticmethod
    def backward(ctx, grad_w):
        w, is_solved, *tensors = ctx.saved_tensors
        needed = (False, *ctx.needs_input_grad[3:])
        own = _arguments((w, *tensors), needed)
        with torch.enable_grad():
            objective = ctx.build(*own[1:])
            with torch.no_grad():
                factor = torch.linalg.lu_factor_ex(objective.hessian(own[0]))[:2]
        y = _Solve.apply(ctx.build, factor, is_solved, grad_w, w, *tensors)
        with torch.enable_grad():
            total = -objective.directional(own[0], y).sum()
        return None, None, None, *_partial_gradients(total, own, needed)[1:]


class _Solve(torch.autograd.Function):
    """y = H(w, θ)⁻¹ right, from the factors of H; zero where the minimiser was not found."""

    @staticmethod
    def forward(ctx, build, factor, is_solved, right, w, *tensors):
        y = torch.linalg.lu_solve(*factor, right[..., None])[..., 0]
        y = torch.where(is_solved[:, None], y, 0.0)
        ctx.build, ctx.factor = build, factor
        ctx.save_for_backward(y, is_solved, w, *tensors)
        return y

    @staticmethod
    def backward(ctx, grad_y):
        y, is_solved, w, *tensors = ctx.saved_tensors
        z = _Solve.apply(ctx.build, ctx.factor, is_solved, grad_y, w, *tensors)  # H is symmetric

        needed = ctx.needs_input_grad[4:]
        own = _arguments((w, *tensors), needed)
        with torch.enable_grad():  # zᵀ H y is the derivative of zᵀ ∇Φ along y
            along = own[0] if own[0].requires_grad else own[0].requires_grad_()
            slope = ctx.build(*own[1:]).directional(along, z).sum()
            (slope,) = torch.autograd.grad(slope, along, create_graph=True)
            total = -(slope * y).sum()
        return None, None, None, z, *_partial_gradients(total, own, needed)


def _arguments(tensors: tuple[Tensor, ...], needed: tuple[bool, ...]) -> list[Tensor]:
    """``tensors`` to differentiate by, each with the others held fixed.

    Where a backward pass is to be differentiated in turn these are aliases of them: w depends on θ, which
    a partial derivative must not see and a derivative of it must.
    """
    if torch.is_grad_enabled():
        return [tensor.view_as(tensor) if tensor.requires_grad else tensor for tensor in tensors]
    return [tensor.detach().requires_grad_(flag) for tensor, flag in zip(tensors, needed, strict=True)]


def _partial_gradients(total: Tensor, own: list[Tensor], needed: tuple[bool, ...]) -> list[Tensor | None]:
    """Gradients of ``total`` in those of ``own`` that are needed, None for the others."""
    wanted = [i for i, flag in enumerate(needed) if flag]
    gradients = torch.autograd.grad(
        total, [own[i] for i in wanted], allow_unused=True, create_graph=torch.is_grad_enabled()
    )
    result: list[Tensor | None] = [None] * len(own)
    for i, gradient in zip(wanted, gradients, strict=True):
        result[i] = gradient
    return result
