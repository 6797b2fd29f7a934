"""Basis functions and their features, dense or separable in time.

A dense basis is a tensor b (batch, basis, time, *space). A separable one is b_i(x, t) = c_i(x) φ_i(t):
its features need one space operation per function instead of one per function and time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SeparableBasis:
    """b_i(x, t) = c_i(x) φ_i(t).

    Attributes:
        space: c (batch, basis, *space).
        time: φ at the time nodes (basis, time); ``rate`` its derivative there.
    """

    space: Tensor
    time: Tensor
    rate: Tensor

    def detach(self) -> SeparableBasis:
        """Without gradients."""
        return SeparableBasis(self.space.detach(), self.time, self.rate)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients pass."""
        return self.space.requires_grad

    def dense(self) -> Tensor:
        """(batch, basis, time, *space)."""
        points = self.space.dim() - 2
        return self.space.unsqueeze(2) * self.time.reshape(*self.time.shape, *[1] * points)

    def combined(self, w: Tensor) -> Tensor:
        """Σᵢ wᵢ bᵢ (batch, time, *space) for w (batch, basis)."""
        weights = (w.to(self.space.dtype)[:, :, None] * self.time).transpose(1, 2)  # (batch, time, basis)
        return (weights @ self.space.flatten(2)).unflatten(2, self.space.shape[2:])

    def windowed(self, psi: Tensor) -> SeparableBasis:
        """ψ_k b_i for the partition of unity ψ (expert, 1, *space), experts slowest."""
        space = (self.space[:, None] * psi).flatten(1, 2)
        repeats = len(psi)
        return SeparableBasis(space, self.time.repeat(repeats, 1), self.rate.repeat(repeats, 1))


def combined(basis: Tensor | SeparableBasis, w: Tensor) -> Tensor:
    """Σᵢ wᵢ bᵢ: (batch, basis) coefficients ↦ (batch, *points)."""
    if isinstance(basis, SeparableBasis):
        return basis.combined(w)
    return (w[:, None].to(basis.dtype) @ basis.flatten(2)).reshape(basis.shape[0], *basis.shape[2:])


@dataclass
class DenseFeatures:
    """Features F (subproblem, basis, feature, *points) of a basis, and what least squares asks of them."""

    values: Tensor

    @property
    def num_basis(self) -> int:
        """Number of coefficients of a subproblem."""
        return self.values.shape[1]

    def take(self, rows: Tensor) -> DenseFeatures:
        """The features of some subproblems."""
        return DenseFeatures(self.values[rows])

    def combine(self, w: Tensor) -> Tensor:
        """Σᵢ wᵢ Fᵢ (subproblem, feature, *points)."""
        return combined(self.values, w)

    def tangent(self, partials: Tensor) -> Tensor:
        """Σⱼ ∂ρ/∂fⱼ Fᵢⱼ (subproblem, basis, *points)."""
        total = partials[:, None, 0] * self.values[:, :, 0]
        for j in range(1, partials.shape[1]):
            total = torch.addcmul(total, partials[:, None, j], self.values[:, :, j])
        return total

    def pull(self, q: Tensor) -> Tensor:
        """Σ over features and points of q F: (subproblem, feature, *points) ↦ (subproblem, basis)."""
        return (q.flatten(1)[:, None] @ self.values.flatten(2).transpose(1, 2))[:, 0]

    def dense(self) -> Tensor:
        """(subproblem, basis, feature, *points)."""
        return self.values


@dataclass
class SeparableFeatures:
    """F_ij(x, t) = G_ij(x) φ_ij(t).

    Attributes:
        space: G (subproblem, feature, basis, *points).
        time: φ (feature, basis, time); features other than time derivatives share theirs.
        is_rate: (feature,) which features are time derivatives.
    """

    space: Tensor
    time: Tensor
    is_rate: tuple[bool, ...]

    @property
    def num_basis(self) -> int:
        """Number of coefficients of a subproblem."""
        return self.space.shape[2]

    def take(self, rows: Tensor) -> SeparableFeatures:
        """The features of some subproblems."""
        return SeparableFeatures(self.space[rows], self.time, self.is_rate)

    def combine(self, w: Tensor) -> Tensor:
        """Σᵢ wᵢ Fᵢ (subproblem, feature, time, *points)."""
        weights = self.time.transpose(1, 2) * w.to(self.space.dtype)[:, None, None]  # (…, feature, time, basis)
        return (weights @ self.space.flatten(3)).unflatten(3, self.space.shape[3:])

    def tangent(self, partials: Tensor) -> Tensor:
        """Σⱼ ∂ρ/∂fⱼ Fᵢⱼ (subproblem, basis, time, *points)."""
        points = partials.dim() - 3
        totals: dict[bool, Tensor] = {}
        for j, is_rate in enumerate(self.is_rate):
            coefficient, field = partials[:, j, None], self.space[:, j].unsqueeze(2)
            total = totals.get(is_rate)
            totals[is_rate] = coefficient * field if total is None else torch.addcmul(total, coefficient, field)
        parts = []
        for is_rate, total in totals.items():
            time = self.time[self.is_rate.index(is_rate)]
            parts.append(total * time.reshape(*time.shape, *[1] * points))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def pull(self, q: Tensor) -> Tensor:
        """Σ over features and points of q F: (subproblem, feature, time, *points) ↦ (subproblem, basis)."""
        return ((self.time @ q.flatten(3)) * self.space.flatten(3)).sum(dim=(1, 3))

    def dense(self) -> Tensor:
        """(subproblem, basis, feature, time, *points)."""
        points = self.space.dim() - 3
        values = self.space.unsqueeze(3) * self.time.reshape(*self.time.shape, *[1] * points)
        return values.transpose(1, 2)
