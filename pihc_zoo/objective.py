"""The least-squares objective of collocation, with its derivatives from pointwise partials.

    Φ(w) = ½‖W P ρ(f₀ + Σᵢ wᵢ Fᵢ)‖² + ½λ‖w‖²

The residual ρ is pointwise in the features f, so its partials at all points come from one backward
pass of Σρ, and the Jacobian is J = W P Σⱼ diag(∂ρ/∂fⱼ) Fⱼ, exact, without forward-mode passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .basis import DenseFeatures, SeparableFeatures
from .operators.dual import Dual
from .residual_map import RowMap

if TYPE_CHECKING:
    from .problems.base import Problem

PointwiseResidual = Callable[[Tensor], Tensor]


class ProblemResidual:
    """A problem's residual of stacked features.

    Args:
        problem: names the features and gives ρ.
        c: parameters, broadcasting against (subproblem, *points).
    """

    def __init__(self, problem: Problem, c: dict[str, Tensor]):
        self.problem, self.names, self.c = problem, list(problem.features), c

    def __call__(self, features: Tensor) -> Tensor:
        return self.problem.residual({name: features[:, i] for i, name in enumerate(self.names)}, self.c)

    def take(self, rows: Tensor) -> ProblemResidual:
        """That of some subproblems."""
        c = {key: value if value.shape[0] == 1 else value[rows] for key, value in self.c.items()}
        return ProblemResidual(self.problem, c)

    def partials(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """ρ and its partials by feature, by dual numbers; partials broadcast against ρ."""
        duals = {name: Dual(features[:, i], {i: 1.0}) for i, name in enumerate(self.names)}
        result = self.problem.residual(duals, {key: Dual(value) for key, value in self.c.items()})
        own = [result.partials.get(i, 0.0) for i in range(len(self.names))]
        number = features.new_ones([1] * (features.dim() - 1))
        return result.value, [part if isinstance(part, Tensor) else number * part for part in own]

    def forward_partials(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """As `pointwise_partials` of order 1, by dual numbers; differentiable."""
        value, partials = self.partials(features)
        return value, torch.stack([partial.expand_as(value) for partial in partials], dim=1)


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
        self._latest: tuple[Tensor, tuple[Tensor, ...]] | None = None  # coefficients, residual and partials there

    def take(self, rows: Tensor) -> CollocationObjective:
        """The objectives of some subproblems."""
        residual = self.residual.take(rows)
        return CollocationObjective(
            residual, self.lift[rows], self.basis.take(rows), self.row_map.take(rows), self.ridge
        )

    def features(self, w: Tensor) -> Tensor:
        """(subproblem, feature, *points) features of the ansatz."""
        return self.lift + self.basis.combine(w)

    def rows(self, w: Tensor) -> Tensor:
        """(subproblem, *points) rows W P ρ."""
        return self._map(self.residual(self.features(w)))

    def _map(self, residual: Tensor) -> Tensor:
        return self.row_map.apply(residual[:, None])[:, 0]

    def cost(self, w: Tensor) -> Tensor:
        """(subproblem,) Φ(w), differentiable."""
        return 0.5 * self.rows(w).to(w.dtype).flatten(1).square().sum(dim=1) + 0.5 * self.ridge * w.square().sum(dim=1)

    def evaluate(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Φ and ∇Φ, without gradients."""
        value, partials = self._value_and_partials(w)
        rows = self._map(value)
        pulled = self.row_map.transpose(rows[:, None])[:, 0]
        gradient = self.basis.pull(partials, pulled).to(w.dtype)
        cost = 0.5 * rows.to(w.dtype).flatten(1).square().sum(dim=1) + 0.5 * self.ridge * w.square().sum(dim=1)
        return cost, gradient + self.ridge * w

    def _value_and_partials(self, w: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """ρ and its partials at w, remembered while the same coefficients are asked for in turn."""
        if torch.compiler.is_exporting():
            return self._partials(w)
        if self._latest is None or self._latest[0] is not w:
            self._latest = w, self._partials(w)
        return self._latest[1]

    def _partials(self, w: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        features = self.features(w).detach()
        if isinstance(self.residual, ProblemResidual):
            with torch.no_grad():
                return self.residual.partials(features)
        value, partials = pointwise_partials(self.residual, features)
        return value, partials.unbind(1)

    def _jacobian(self, partials: Sequence[Tensor]) -> Tensor:
        """(subproblem, basis, point)."""
        multiplier = self.row_map.multiplier
        if multiplier is not None and multiplier.dim() == self.lift.dim() - 2:  # the same for all subproblems
            return self.basis.tangent(partials, multiplier).flatten(2)
        return self.row_map.apply(self.basis.tangent(partials)).flatten(2)

    def normal_matrix(self, w: Tensor) -> Tensor:
        """(subproblem, basis, basis) JᵀJ + λI, without gradients."""
        _, partials = self._value_and_partials(w)
        jacobian = self._jacobian(partials)
        identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        return (jacobian @ jacobian.transpose(1, 2)).to(w.dtype) + self.ridge * identity

    def hessian(self, w: Tensor) -> Tensor:
        """(subproblem, basis, basis) exact ∇²Φ: the normal matrix plus residual · curvature."""
        features = self.features(w).detach()
        value, partials, second = pointwise_partials(self.residual, features, order=2)
        jacobian = self._jacobian(partials.unbind(1)).to(w.dtype)
        pulled = self.row_map.transpose(self._map(value)[:, None])
        basis = self.basis.dense()
        curved = torch.einsum("pjk...,pbk...->pbj...", second * pulled[:, None], basis)
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
            value = self.residual(features)
            (partials,) = torch.autograd.grad(value.sum(), features, create_graph=True)
            tangent = (partials * self.basis.combine(direction)).sum(dim=1)
            product = (self._map(value) * self._map(tangent)).flatten(1).sum(dim=1)
        return product + self.ridge * (w * direction).sum(dim=1)


def pointwise_partials(residual: PointwiseResidual, features: Tensor, order: int = 1) -> tuple[Tensor, ...]:
    """ρ and its partials at every point, by dual numbers where ρ takes them, else from backward passes of Σρ.

    Returns:
        ρ (subproblem, *points); ∂ρ/∂f (subproblem, feature, *points); for order 2 also
        ∂²ρ/∂f∂f (subproblem, feature, feature, *points).
    """
    if order == 1 and isinstance(residual, ProblemResidual):  # one forward pass; exported graphs hold no backward ones
        with torch.no_grad():
            return residual.forward_partials(features)
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        value = residual(features)
        (first,) = torch.autograd.grad(value.sum(), features, create_graph=order > 1)
        if order == 1:
            return value.detach(), first.detach()
        second = []
        for j in range(features.shape[1]):
            if first.requires_grad:
                (row,) = torch.autograd.grad(first[:, j].sum(), features, retain_graph=True, allow_unused=True)
            else:
                row = None
            second.append(torch.zeros_like(features) if row is None else row)
    return value.detach(), first.detach(), torch.stack(second, dim=1).detach()
