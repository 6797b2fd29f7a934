"""Basis functions and their features, dense or separable in time.

A dense basis is a tensor b (batch, basis, time, *space). A separable one is b_i(x, t) = c_i(x) φ_i(t):
its features need one space operation per function instead of one per function and time.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def windowed(self, psi: Tensor, has_mean: bool = True) -> SeparableBasis:
        """ψ_k b_i for the partition of unity ψ (expert, 1, *space), experts slowest; without mean if so asked.

        The means of ψ_k b_i add up to that of b_i, so that functions without mean still sum to b_i.
        """
        space = (self.space[:, None] * psi).flatten(1, 2)
        if not has_mean:
            space = space - space.flatten(2).mean(dim=2).reshape(*space.shape[:2], *[1] * (space.dim() - 2))
        repeats = len(psi)
        return SeparableBasis(space, self.time.repeat(repeats, 1), self.rate.repeat(repeats, 1))


def combined(basis: Tensor | SeparableBasis, w: Tensor) -> Tensor:
    """Σᵢ wᵢ bᵢ: (batch, basis) coefficients ↦ (batch, *points)."""
    if isinstance(basis, SeparableBasis):
        return basis.combined(w)
    return (w[:, None].to(basis.dtype) @ basis.flatten(2)).reshape(basis.shape[0], *basis.shape[2:])


Partials = Sequence[Tensor | None]  # ∂ρ/∂fⱼ by feature, broadcasting against (subproblem, *points); None for zero


def _is_number(partial: Tensor) -> bool:
    """Whether a partial is the same at all points of a subproblem, by its shape."""
    return all(size == 1 for size in partial.shape[1:])


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

    def tangent(self, partials: Partials, multiplier: Tensor | None = None) -> Tensor:
        """multiplier · Σⱼ ∂ρ/∂fⱼ Fᵢⱼ (subproblem, basis, *points)."""
        total = None
        for j, partial in enumerate(partials):
            if partial is not None:
                own = partial if multiplier is None else partial * multiplier  # cheaper than on the result
                field = self.values[:, :, j]
                total = own[:, None] * field if total is None else torch.addcmul(total, own[:, None], field)
        return torch.zeros_like(self.values[:, :, 0]) if total is None else total

    def pull(self, partials: Partials, q: Tensor) -> Tensor:
        """Σ over features and points of q ∂ρ/∂fⱼ Fᵢⱼ: (subproblem, *points) ↦ (subproblem, basis)."""
        used = [j for j, partial in enumerate(partials) if partial is not None]
        weighted = torch.stack([partials[j] * q for j in used], dim=1).flatten(1)
        values = self.values
        if len(used) < len(partials):  # by slices: an exported graph takes no lists of indices
            values = (
                torch.cat([values[:, :, j : j + 1] for j in used], dim=2) if len(used) > 1 else values[:, :, used[0]]
            )
        return (weighted[:, None] @ values.flatten(2).transpose(1, 2))[:, 0]

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

    def _constant(self, partials: Partials, is_rate: bool) -> Tensor:
        """Σⱼ ∂ρ/∂fⱼ Gᵢⱼ (subproblem, basis, *points) over features whose partial is one number."""
        total = torch.zeros((), dtype=self.space.dtype, device=self.space.device)
        for j, partial in enumerate(partials):
            if self.is_rate[j] == is_rate and partial is not None and _is_number(partial):
                total = total + partial.reshape(-1, *[1] * (self.space.dim() - 2)) * self.space[:, j]
        return total

    def _varying(self, partials: Partials, is_rate: bool) -> list[int]:
        return [j for j, p in enumerate(partials) if self.is_rate[j] == is_rate and p is not None and not _is_number(p)]

    @torch.no_grad()
    def tangent(self, partials: Partials, multiplier: Tensor | None = None) -> Tensor:
        """multiplier · Σⱼ ∂ρ/∂fⱼ Fᵢⱼ (subproblem, basis, time, *points), without gradients.

        This is the largest array of a solve: it is made once and worked on in place.
        """
        points = [1] * (self.space.dim() - 3)
        result: Tensor | None = None
        for is_rate in sorted(set(self.is_rate)):
            time = self.time[self.is_rate.index(is_rate)]
            factor = time.reshape(*time.shape, *points)
            factor = factor if multiplier is None else factor * multiplier  # (basis, time, *points)
            total = self._constant(partials, is_rate)
            total = total.unsqueeze(2) if total.dim() else total
            for j in self._varying(partials, is_rate):
                field, partial = self.space[:, j].unsqueeze(2), partials[j][:, None]
                is_full = total.dim() == field.dim() and total.shape[2] == partial.shape[2]
                total = total.addcmul_(field, partial) if is_full else torch.addcmul(total, field, partial)
            if result is None:
                result = total.mul_(factor) if total.shape[2] == factor.shape[1] else total * factor
            else:
                result = result.addcmul_(total.expand_as(result), factor.expand_as(result))
        return result

    def pull(self, partials: Partials, q: Tensor) -> Tensor:
        """Σ over features and points of q ∂ρ/∂fⱼ Fᵢⱼ: (subproblem, time, *points) ↦ (subproblem, basis)."""
        result = torch.zeros((), dtype=self.space.dtype, device=self.space.device)
        for is_rate in set(self.is_rate):
            time = self.time[self.is_rate.index(is_rate)]  # (basis, time)
            constant = self._constant(partials, is_rate)
            if constant.dim():
                result = result + ((time @ q.flatten(2)) * constant.flatten(2)).sum(dim=2)
            for j in self._varying(partials, is_rate):
                result = result + ((time @ (partials[j] * q).flatten(2)) * self.space[:, j].flatten(2)).sum(dim=2)
        return result

    def dense(self) -> Tensor:
        """(subproblem, basis, feature, time, *points)."""
        points = self.space.dim() - 3
        values = self.space.unsqueeze(3) * self.time.reshape(*self.time.shape, *[1] * points)
        return values.transpose(1, 2)
