"""Basis functions and their features, dense or separable in time.

A dense basis is a tensor b (batch, basis, time, *space). A separable one is b_i(x, t) = c_i(x) φ_i(t):
its features need one space operation per function instead of one per function and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .discretisation import Discretisation, Field, Walls


class Basis(Protocol):
    """Basis functions of a field, which meet all conditions with zero targets."""

    @property
    def tensor(self) -> Tensor:
        """What carries gradients."""

    def detach(self) -> Basis:
        """Without gradients."""

    def dense(self) -> DenseBasis:
        """The same functions by their values at all nodes."""

    def combined(self, w: Tensor) -> Tensor:
        """Σᵢ wᵢ bᵢ (batch, time, *space) for w (batch, basis)."""

    def windowed(self, psi: Tensor, has_mean: bool) -> Basis:
        """ψ_k b_i for the partition of unity ψ (expert, time, *space), experts slowest; without mean if so asked.

        The means of ψ_k b_i add up to that of b_i, so that functions without mean still sum to b_i.
        """

    def features(
        self, discretisation: Discretisation, walls: Walls, has_rates: bool, stride: int
    ) -> DenseFeatures | SeparableFeatures:
        """Their features at every ``stride``-th collocation point along each space axis."""


@dataclass
class DenseBasis:
    """b (batch, basis, time, *space)."""

    tensor: Tensor

    def detach(self) -> DenseBasis:
        """Without gradients."""
        return DenseBasis(self.tensor.detach())

    def dense(self) -> DenseBasis:
        """Itself."""
        return self

    def combined(self, w: Tensor) -> Tensor:
        """See `Basis`."""
        return combined(self.tensor, w)

    def windowed(self, psi: Tensor, has_mean: bool) -> DenseBasis:
        """See `Basis`."""
        values = (self.tensor[:, None] * psi[:, None]).flatten(1, 2)
        return DenseBasis(values if has_mean else _without_mean(values, 3))

    def features(
        self, discretisation: Discretisation, walls: Walls, has_rates: bool = True, stride: int = 1
    ) -> DenseFeatures:
        """See `Basis`."""
        return DenseFeatures(discretisation(Field.correction(self.tensor, walls), has_rates, stride))


@dataclass
class SeparableBasis:
    """b_i(x, t) = c_i(x) φ_i(t), on periodic axes.

    Attributes:
        tensor: c (batch, basis, *space).
        time: φ at the time nodes (basis, time); ``rate`` its derivative there.
    """

    tensor: Tensor
    time: Tensor
    rate: Tensor

    def detach(self) -> SeparableBasis:
        """Without gradients."""
        return SeparableBasis(self.tensor.detach(), self.time, self.rate)

    def dense(self) -> DenseBasis:
        """(batch, basis, time, *space)."""
        points = self.tensor.dim() - 2
        return DenseBasis(self.tensor.unsqueeze(2) * self.time.reshape(*self.time.shape, *[1] * points))

    def combined(self, w: Tensor) -> Tensor:
        """See `Basis`."""
        weights = (w.to(self.tensor.dtype)[:, :, None] * self.time).transpose(1, 2)  # (batch, time, basis)
        return torch.bmm(weights, self.tensor.flatten(2)).unflatten(2, self.tensor.shape[2:])

    def windowed(self, psi: Tensor, has_mean: bool = True) -> SeparableBasis | DenseBasis:
        """See `Basis`; separable where ψ is the same at all times."""
        if len(psi) == 1:
            return self
        if psi.shape[1] > 1 and not torch.equal(psi, psi[:, :1].expand_as(psi)):
            return self.dense().windowed(psi, has_mean)
        space, repeats = (self.tensor[:, None] * psi[:, :1]).flatten(1, 2), len(psi)
        space = space if has_mean else _without_mean(space, 2)
        return SeparableBasis(space, self.time.repeat(repeats, 1), self.rate.repeat(repeats, 1))

    def features(
        self, discretisation: Discretisation, walls: Walls, has_rates: bool = True, stride: int = 1
    ) -> SeparableFeatures:
        """See `Basis`."""
        space, names = discretisation.space, discretisation.problem.features
        modes = space.to_coefficients(self.tensor)
        fields = space(modes, stride=stride)
        fields |= discretisation.rates_by_name(space.at_collocation(modes, stride=stride))  # of which rates are made
        stacked = torch.stack([fields[name] for name in names], dim=1)
        time = torch.stack([self.rate if is_rate else self.time for is_rate in discretisation.is_rate])
        return SeparableFeatures(stacked, time, discretisation.is_rate)


def _without_mean(fields: Tensor, num_before: int) -> Tensor:
    """Fields whose first ``num_before`` dimensions are not space, less their mean over space."""
    mean = fields.flatten(num_before).mean(dim=num_before)
    return fields - mean.reshape(*mean.shape, *[1] * (fields.dim() - num_before))


def combined(values: Tensor, w: Tensor) -> Tensor:
    """Σᵢ wᵢ bᵢ: (batch, basis) coefficients and (batch, basis, *points) values ↦ (batch, *points)."""
    product = torch.bmm(w[:, None].to(values.dtype), values.flatten(2))
    return product.view(values.shape[0], *values.shape[2:])


def _summed_to(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Summed over the equations of a system, which all take the same features."""
    return values if values.shape == shape else values.sum_to_size(shape)


Partials = Sequence[Tensor | None]  # ∂ρ/∂fⱼ by feature, broadcasting against (subproblem, *points); None for zero


def _is_number(partial: Tensor) -> bool:
    """Whether a partial is the same at all points of a subproblem, by its shape."""
    return all(size == 1 for size in partial.shape[1:])


@dataclass
class DenseFeatures:
    """Features F (subproblem, basis, feature, *points) of a basis, and what least squares asks of them."""

    tensor: Tensor

    @property
    def num_basis(self) -> int:
        """Number of coefficients of a subproblem."""
        return self.tensor.shape[1]

    def take(self, indices: Tensor) -> DenseFeatures:
        """The features of some subproblems."""
        return DenseFeatures(self.tensor[indices])

    def rebuilt(self, tensor: Tensor) -> DenseFeatures:
        """The same of another tensor, see `Basis.tensor`."""
        return DenseFeatures(tensor)

    def combine(self, w: Tensor) -> Tensor:
        """Σᵢ wᵢ Fᵢ (subproblem, feature, *points)."""
        return combined(self.tensor, w)

    def tangent(self, partials: Partials, multiplier: Tensor | None = None) -> Tensor:
        """multiplier · Σⱼ ∂ρ/∂fⱼ Fᵢⱼ (subproblem, basis, *points)."""
        total = None
        for j, partial in enumerate(partials):
            if partial is not None:
                own = partial if multiplier is None else partial * multiplier  # cheaper than on the result
                field = self.tensor[:, :, j]
                total = own[:, None] * field if total is None else torch.addcmul(total, own[:, None], field)
        return torch.zeros_like(self.tensor[:, :, 0]) if total is None else total

    def pull(self, partials: Partials, q: Tensor) -> Tensor:
        """Σ over features and points of q ∂ρ/∂fⱼ Fᵢⱼ: (subproblem, *points) ↦ (subproblem, basis)."""
        used = [j for j, partial in enumerate(partials) if partial is not None]
        shape = self.tensor.shape[0], *self.tensor.shape[3:]
        weighted = torch.stack([_summed_to(partials[j] * q, shape) for j in used], dim=1).flatten(1)
        values = self.tensor
        if len(used) < len(partials):  # by slices: an exported graph takes no lists of indices
            values = (
                torch.cat([values[:, :, j : j + 1] for j in used], dim=2) if len(used) > 1 else values[:, :, used[0]]
            )
        return torch.bmm(values.flatten(2), weighted[..., None])[..., 0]

    def dense(self) -> Tensor:
        """(subproblem, basis, feature, *points)."""
        return self.tensor


@dataclass
class SeparableFeatures:
    """F_ij(x, t) = G_ij(x) φ_ij(t).

    Attributes:
        tensor: G (subproblem, feature, basis, *points).
        time: φ (feature, basis, time); features other than time derivatives share theirs.
        is_rate: (feature,) which features are time derivatives.
    """

    tensor: Tensor
    time: Tensor
    is_rate: tuple[bool, ...]

    @property
    def num_basis(self) -> int:
        """Number of coefficients of a subproblem."""
        return self.tensor.shape[2]

    def take(self, indices: Tensor) -> SeparableFeatures:
        """The features of some subproblems."""
        return self.rebuilt(self.tensor[indices])

    def rebuilt(self, tensor: Tensor) -> SeparableFeatures:
        """The same of another tensor, see `Basis.tensor`."""
        return SeparableFeatures(tensor, self.time, self.is_rate)

    def combine(self, w: Tensor) -> Tensor:
        """Σᵢ wᵢ Fᵢ (subproblem, feature, time, *points)."""
        problems, features, basis, *points = self.tensor.shape
        weights = self.time.mT * w.to(self.tensor.dtype).view(problems, 1, 1, basis)  # (…, feature, time, basis)
        product = torch.bmm(weights.flatten(0, 1), self.tensor.reshape(problems * features, basis, -1))
        return product.view(problems, features, -1, *points)

    @cached_property
    def _fields(self) -> tuple[Tensor, ...]:
        """By feature (subproblem, basis, *points)."""
        return self.tensor.unbind(1)

    @cached_property
    def _times(self) -> dict[bool, Tensor]:
        """(basis, time) of the features themselves and of the time derivatives, where there are such."""
        return {is_rate: self.time[self.is_rate.index(is_rate)] for is_rate in sorted(set(self.is_rate))}

    def _constant(self, partials: Partials, is_rate: bool) -> Tensor:
        """Σⱼ ∂ρ/∂fⱼ Gᵢⱼ (subproblem, basis, *points) over features whose partial is one number; 0 without any."""
        total: Tensor | None = None
        for j, partial in enumerate(partials):
            if self.is_rate[j] == is_rate and partial is not None and _is_number(partial):
                own = self._fields[j]
                factor = partial if partial.dim() == own.dim() else partial.reshape(-1, *[1] * (own.dim() - 1))
                total = factor * own if total is None else torch.addcmul(total, factor, own)
        return self.tensor.new_zeros(()) if total is None else total

    def _varying(self, partials: Partials, is_rate: bool) -> list[int]:
        return [j for j, p in enumerate(partials) if self.is_rate[j] == is_rate and p is not None and not _is_number(p)]

    @torch.no_grad()
    def tangent(self, partials: Partials, multiplier: Tensor | None = None) -> Tensor:
        """multiplier · Σⱼ ∂ρ/∂fⱼ Fᵢⱼ (subproblem, basis, time, *points), without gradients.

        This is the largest array of a solve: it is made once and worked on in place.
        """
        points = [1] * (self.tensor.dim() - 3)
        result: Tensor | None = None
        for is_rate, time in self._times.items():
            factor = time.reshape(*time.shape, *points)
            factor = factor if multiplier is None else factor * multiplier  # (basis, time, *points)
            total = self._constant(partials, is_rate)
            total = total.unsqueeze(2) if total.dim() else total
            for j in self._varying(partials, is_rate):
                field, partial = self._fields[j].unsqueeze(2), partials[j][:, None]
                is_full = total.dim() == field.dim() and total.shape[2:] == partial.shape[2:]
                total = total.addcmul_(field, partial) if is_full else torch.addcmul(total, field, partial)
            if result is None:
                is_full = total.dim() == factor.dim() + 1 and total.shape[2] == factor.shape[1]
                result = total.mul_(factor) if is_full else total * factor
            else:
                result = result.addcmul_(total.expand_as(result), factor.expand_as(result))
        return result

    def pull(self, partials: Partials, q: Tensor) -> Tensor:
        """Σ over features and points of q ∂ρ/∂fⱼ Fᵢⱼ: (subproblem, time, *points) ↦ (subproblem, basis)."""
        total: Tensor | None = None
        for is_rate, time in self._times.items():
            time = time.expand(len(q), -1, -1)  # (subproblem, basis, time)
            terms = [(q, self._constant(partials, is_rate))]
            for j in self._varying(partials, is_rate):
                own = _summed_to(partials[j] * q, (*q.shape[:2], *self.tensor.shape[3:]))
                terms.append((own, self._fields[j]))
            for values, fields in terms:
                if fields.dim():
                    moments, fields = torch.bmm(time, values.flatten(2)), fields.flatten(2)
                    total = moments * fields if total is None else torch.addcmul(total, moments, fields)
        return self.tensor.new_zeros(len(q), self.num_basis) if total is None else total.sum(dim=2)

    def dense(self) -> Tensor:
        """(subproblem, basis, feature, time, *points)."""
        points = self.tensor.dim() - 3
        values = self.tensor.unsqueeze(3) * self.time.reshape(*self.time.shape, *[1] * points)
        return values.transpose(1, 2)
