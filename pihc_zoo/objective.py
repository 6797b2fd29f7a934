"""The least-squares objective of collocation, with its derivatives from pointwise partials.

    Φ(w) = ½‖W P ρ(f₀ + Σᵢ wᵢ Fᵢ)‖² + ½λ‖w‖²

The residual ρ is pointwise in the features f, so its partials at all points come from one backward
pass of Σρ, and the Jacobian is J = W P Σⱼ diag(∂ρ/∂fⱼ) Fⱼ, exact, without forward-mode passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .basis import DenseFeatures, SeparableFeatures
from .residual_map import RowMap
from .solvers.dual import Dual

if TYPE_CHECKING:
    from .problems.base import Problem

PointwiseResidual = Callable[[Tensor], Tensor]
_EQUATION = 2  # the dimension of a system's equations in its residual
Parts = list[tuple[Tensor, Sequence[Tensor | None]]]  # each part of ρ and its partials by feature


class ProblemResidual:
    """A problem's residual of stacked features, as pointwise *parts*.

    Features of a system (subproblem, feature, time, 1, *space) give the residuals of its equations one beside the
    other, (subproblem, time, equation, *space).

    Plainly there is one part, ρ. Where the problem has a `storage` m and the time axis differentiates it, there are
    two, ρ without its time term and m − m(u₀): `RowMap.assemble` makes ρ of them, which is not pointwise in time.

    Args:
        problem: names the features and gives ρ and m.
        c: parameters, broadcasting against (subproblem, *points).
        initial: m(u₀), broadcasting likewise; None for the plain form.
        at: coordinates that the residual depends on, broadcasting likewise.
    """

    def __init__(
        self,
        problem: Problem,
        c: dict[str, Tensor],
        initial: Tensor | None = None,
        at: dict[str, Tensor] | None = None,
    ):
        self.problem, self.names, self.c, self.initial = problem, list(problem.features), c, initial
        self.at = at or {}
        self.is_rate = ["t" in feature.orders for feature in problem.features.values()]

    def __call__(self, features: Tensor) -> Tensor:
        """ρ of the features, its time term by the feature u_t."""
        fields = dict(zip(self.names, features.unbind(1), strict=True))
        residual = self.problem.residual(fields, self.c, self.at)
        return _joined(residual, features) if self.problem.is_system else residual

    def take(self, indices: Tensor) -> ProblemResidual:
        """That of some subproblems."""
        c, at = (
            {key: value if value.shape[0] == 1 else value[indices] for key, value in part.items()}
            for part in (self.c, self.at)
        )
        return ProblemResidual(self.problem, c, None if self.initial is None else self.initial[indices], at)

    def parts(self, features: Tensor) -> list[Tensor]:
        """The parts (subproblem, *points), differentiable."""
        if self.initial is None:
            return [self(features)]
        own = zip(self.names, features.unbind(1), self.is_rate, strict=True)
        fields = {name: value for name, value, is_rate in own if not is_rate}
        return [self.problem.at_rest(fields, self.c, self.at), self.problem.storage(fields, self.c) - self.initial]

    def partials(self, features: Tensor) -> list[tuple[Tensor, list[Tensor | None]]]:
        """Each part and its partials by feature, by dual numbers; None where it does not depend on the feature."""
        c, at = ({key: Dual(value) for key, value in part.items()} for part in (self.c, self.at))
        fields = {
            name: Dual(value, {i: 1.0})
            for i, (name, value) in enumerate(zip(self.names, features.unbind(1), strict=True))
            if self.initial is None or not self.is_rate[i]
        }
        if self.initial is None:
            if self.problem.is_system:
                return [self._joined_partials(self.problem.residual(fields, c, at), features)]
            duals = [self.problem.residual(fields, c, at)]
        else:
            duals = [self.problem.at_rest(fields, c, at), self.problem.storage(fields, c) - Dual(self.initial)]
        number = features.new_ones([1] * (features.dim() - 1))

        def tensor(partial: Any) -> Tensor | None:
            return partial if partial is None or isinstance(partial, Tensor) else number * partial

        return [(dual.value, [tensor(dual.partials.get(i)) for i in range(len(self.names))]) for dual in duals]

    def _joined_partials(self, duals: Sequence[Any], features: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Values and partials of a system's equations, one beside the other."""
        duals = [own if isinstance(own, Dual) else Dual(own) for own in duals]
        held = set().union(*(own.partials for own in duals))
        partials = [
            _joined([own.partials.get(i, 0.0) for own in duals], features) if i in held else None
            for i in range(len(self.names))
        ]
        return _joined([own.value for own in duals], features), partials

    @staticmethod
    def tangent(partials: Sequence[Tensor | None], features: Tensor) -> Tensor:
        """(subproblem, *points) Σⱼ ∂ρ/∂fⱼ fⱼ of one part, for features (subproblem, feature, *points)."""
        total = None
        for j, partial in enumerate(partials):
            if partial is not None:
                own = features[:, j]
                total = partial * own if total is None else torch.addcmul(total, partial, own)
        return torch.zeros_like(features[:, 0]) if total is None else total


def _joined(equations: Sequence[Any], features: Tensor) -> Tensor:
    """Values of a system's equations, tensors or numbers, one beside the other."""
    shape = features[:, 0].shape
    return torch.cat([_field(own, features).expand(shape) for own in equations], dim=_EQUATION)


def _field(value: Any, like: Tensor) -> Tensor:
    """A tensor as it is, a number as one beside ``like``."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), float(value))


class CollocationObjective:
    """A batch of objectives, one per subproblem.

    Args:
        residual: features (subproblem, feature, *points) ↦ residual (subproblem, *points).
        lift: f₀ (subproblem, feature, *points), the features of the lift.
        basis: F, the features of the basis: (subproblem, basis, feature, *points), or as in `basis`.
        row_map: W P.
        ridge: λ.

    Features may be in float32, and sums over points then too; costs, gradients and normal matrices are
    handed on in the coefficients' precision, float64.
    """

    def __init__(
        self,
        residual: PointwiseResidual,
        lift: Tensor,
        basis: Tensor | DenseFeatures | SeparableFeatures,
        row_map: RowMap,
        ridge: float,
    ):
        self.residual, self.lift = residual, lift
        self.basis = DenseFeatures(basis) if isinstance(basis, Tensor) else basis
        self.row_map, self.ridge = row_map, ridge
        self._is_system = isinstance(residual, ProblemResidual) and residual.problem.is_system

    def take(self, indices: Tensor) -> CollocationObjective:
        """The objectives of some subproblems."""
        residual, basis, row_map = (part.take(indices) for part in (self.residual, self.basis, self.row_map))
        return CollocationObjective(residual, self.lift[indices], basis, row_map, self.ridge)

    def features(self, w: Tensor) -> Tensor:
        """(subproblem, feature, *points) features of the ansatz."""
        return self.lift + self.basis.combine(w)

    def rows(self, w: Tensor) -> Tensor:
        """(subproblem, *points) rows W P ρ."""
        return self._map(self._parts(self.features(w)))

    def _parts(self, features: Tensor) -> list[Tensor]:
        return (
            self.residual.parts(features) if isinstance(self.residual, ProblemResidual) else [self.residual(features)]
        )

    def _map(self, parts: Sequence[Tensor]) -> Tensor:
        return self.row_map.apply(self.row_map.assemble(parts)[:, None])[:, 0]

    def _pull(self, rows: Tensor) -> list[Tensor]:
        """The transpose of `_map`: what each part receives."""
        return self.row_map.disassemble(self.row_map.transpose(rows[:, None])[:, 0])

    def cost(self, w: Tensor) -> Tensor:
        """(subproblem,) Φ(w), differentiable."""
        return 0.5 * self.rows(w).to(w.dtype).flatten(1).square().sum(dim=1) + 0.5 * self.ridge * w.square().sum(dim=1)

    def evaluate(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Φ and ∇Φ, without gradients."""
        return self._evaluated(w, self._value_and_partials(w))

    def normal_matrix(self, w: Tensor) -> Tensor:
        """(subproblem, basis, basis) JᵀJ + λI, without gradients."""
        return self._normal_matrix(w, self._value_and_partials(w))

    def expand(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Φ, ∇Φ and JᵀJ + λI, without gradients."""
        parts = self._value_and_partials(w)
        return *self._evaluated(w, parts), self._normal_matrix(w, parts)

    def _evaluated(self, w: Tensor, parts: Parts) -> tuple[Tensor, Tensor]:
        rows = self._map([value for value, _ in parts])
        pulled = [self.basis.pull(own, q) for (_, own), q in zip(parts, self._pull(rows), strict=False)]
        gradient = (pulled[0] if len(pulled) == 1 else sum(pulled)).to(w.dtype)
        size = torch.add(rows.flatten(1).square().sum(dim=1, dtype=w.dtype), w.square().sum(dim=1), alpha=self.ridge)
        return 0.5 * size, torch.add(gradient, w, alpha=self.ridge)

    def _normal_matrix(self, w: Tensor, parts: Parts) -> Tensor:
        jacobian = self._jacobian([partials for _, partials in parts])
        identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        return torch.add(torch.bmm(jacobian, jacobian.mT).to(w.dtype), identity, alpha=self.ridge)

    def _value_and_partials(self, w: Tensor) -> Parts:
        """The parts of ρ and their partials at w."""
        features = self.features(w).detach()
        if isinstance(self.residual, ProblemResidual):
            with torch.no_grad():
                return self.residual.partials(features)
        value, partials = pointwise_partials(self.residual, features)
        return [(value, partials.unbind(1))]

    def _jacobian(self, by_part: Sequence[Sequence[Tensor | None]]) -> Tensor:
        """(subproblem, basis, point), from the partials of each part."""
        if len(by_part) > 1:
            tangents = self.row_map.assemble([self.basis.tangent(partials) for partials in by_part])
            return self.row_map.apply(tangents).flatten(2)
        (partials,) = by_part
        multiplier = self.row_map.multiplier
        if multiplier is not None and multiplier.dim() == self.lift.dim() - 2:  # the same for all subproblems
            return self.basis.tangent(partials, multiplier).flatten(2)
        return self.row_map.apply(self.basis.tangent(partials)).flatten(2)

    def hessian(self, w: Tensor) -> Tensor:
        """(subproblem, basis, basis) exact ∇²Φ: the normal matrix plus residual · curvature."""
        features = self.features(w).detach()
        parts = self._value_and_partials(w)
        jacobian = self._jacobian([partials for _, partials in parts]).to(w.dtype)
        pulled = self._pull(self._map([value for value, _ in parts]))
        weighted = curvatures(self._parts, features, pulled)
        basis = self.basis.dense()
        curved = torch.einsum("pjk...,pbk...->pbj...", weighted, basis)
        curvature = (curved.flatten(2) @ basis.flatten(2).transpose(1, 2)).to(w.dtype)
        hessian = jacobian @ jacobian.transpose(1, 2) + curvature
        return hessian + self.ridge * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)

    def directional(self, w: Tensor, direction: Tensor) -> Tensor:
        """(subproblem,) directionᵀ∇Φ(w), differentiable in lift, basis, map and parameters.

        Equals ⟨rows, d rows/dw · direction⟩ + λ wᵀdirection, so that only two scalar fields pass
        the operators.
        """
        features = self.features(w)
        if not features.requires_grad:
            features = features.requires_grad_()
        with torch.enable_grad():
            parts, towards = self._parts(features), self.basis.combine(direction)
            tangents = []
            for part in parts:
                equations = part.unbind(_EQUATION) if self._is_system else [part]
                own = [torch.autograd.grad(one.sum(), features, create_graph=True)[0] for one in equations]
                towards_own = [(partials * towards).sum(dim=1) for partials in own]
                tangents.append(torch.cat(towards_own, dim=_EQUATION) if self._is_system else towards_own[0])
            product = (self._map(parts) * self._map(tangents)).flatten(1).sum(dim=1)
        return product + self.ridge * (w * direction).sum(dim=1)


def curvatures(parts: Callable[[Tensor], list[Tensor]], features: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """(subproblem, feature, feature, *points) second partials Σ q ∂²ρ/∂f∂f of the parts ρ, weighted by q."""
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        total = sum((part * q.detach()).sum() for part, q in zip(parts(features), weights, strict=False))
        (first,) = torch.autograd.grad(total, features, create_graph=True)
        rows = []
        for j in range(features.shape[1]):
            row = None
            if first.requires_grad:
                (row,) = torch.autograd.grad(first[:, j].sum(), features, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(features) if row is None else row)
    return torch.stack(rows, dim=1).detach()


def pointwise_partials(residual: PointwiseResidual, features: Tensor) -> tuple[Tensor, Tensor]:
    """ρ (subproblem, *points) and its partials ∂ρ/∂f (subproblem, feature, *points), from a backward pass of Σρ."""
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        value = residual(features)
        (first,) = torch.autograd.grad(value.sum(), features)
    return value.detach(), first
