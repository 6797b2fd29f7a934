"""Residual maps P and quadrature weights W: what least squares sees of a pointwise residual.

Rows are W P ρ. The weights make ‖W u‖ the root mean square over space-time, so that a map whose
result has the unit of u yields rows in *solution units*. The factor dt/ds of the time axis belongs
to P and keeps rows finite at early times on graded time axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from .discretisation import Discretisation, LinearInverse, LinearOperator, Projection, Subdomains, linear_operator
from .discretisation.spectral import SpectralInverse
from .parameters import Parameters
from .registration import registrar
from .solvers.dense import from_left


@dataclass
class RowMap:
    """ρ (subproblem, column, time, *collocation) ↦ rows W P ρ (subproblem, column, time, *space), and back.

    Where products are dealiased, P begins with the Galerkin projection onto the modes that the nodes carry.
    """

    scale: Tensor  # (time, *space), or (subproblem, 1, time, *space)
    weights: Tensor
    inverse: LinearInverse | None = None
    projection: Projection | None = None
    rate: Tensor | None = None  # (time, time) D_t of fields that vanish initially, of the storage
    num_space: int = 1
    is_system: bool = False

    @property
    def num_inner(self) -> int:
        """Dimensions after time: the components of a system, and space."""
        return self.num_space + self.is_system

    def assemble(self, parts: Sequence[Tensor]) -> Tensor:
        """ρ of its parts (subproblem, ..., time, *collocation): the second, a storage, is differentiated in time."""
        if len(parts) == 1:
            return parts[0]
        return parts[0] + from_left(self.rate, parts[1].flatten(-self.num_inner)).view_as(parts[1])

    def disassemble(self, pulled: Tensor) -> list[Tensor]:
        """The transpose of `assemble`."""
        if self.rate is None:
            return [pulled]
        return [pulled, from_left(self.rate.transpose(0, 1), pulled.flatten(-self.num_inner)).view(pulled.shape)]

    @property
    def multiplier(self) -> Tensor | None:
        """W P where both are pointwise: one factor for every row; else None."""
        return self.scale * self.weights if self.inverse is None and self.projection is None else None

    @property
    def is_on_modes(self) -> bool:
        """Whether P is a projection onto modes and the inverse of an operator that is diagonal in them."""
        return self.projection is not None and isinstance(self.inverse, SpectralInverse)

    @property
    def _time_scale(self) -> Tensor:
        """The scale, which is the same everywhere in space: (time, 1, …)."""
        return self.scale[..., *[slice(0, 1)] * self.num_space]

    def apply(self, residual: Tensor) -> Tensor:
        """W P residual."""
        if (multiplier := self.multiplier) is not None:
            return residual * multiplier
        if self.is_on_modes:
            space = self.projection.features
            modes = space.project(residual) * self._time_scale
            return space.to_nodes(self.inverse.of_modes(modes)) * self.weights
        rows = (residual if self.projection is None else self.projection.apply(residual)) * self.scale
        return (rows if self.inverse is None else self.inverse.apply(rows)) * self.weights

    def transpose(self, rows: Tensor) -> Tensor:
        """Pᵀ Wᵀ rows."""
        if (multiplier := self.multiplier) is not None:
            return rows * multiplier
        rows = rows * self.weights
        if self.is_on_modes:
            modes = self.inverse.transpose_of_modes(self.projection.features.to_coefficients(rows))
            return self.projection.transpose_of_modes(modes * self._time_scale)
        rows = (rows if self.inverse is None else self.inverse.transpose(rows)) * self.scale
        return rows if self.projection is None else self.projection.transpose(rows)

    def strided(self, stride: int) -> RowMap:
        """The map of every ``stride``-th point along each space axis, weighted to the same sums.

        Raises:
            ValueError: P is not pointwise.
        """
        if stride == 1:
            return self
        if self.multiplier is None:
            raise ValueError("a stride of the collocation points needs a pointwise residual map without dealiasing")
        picked = (..., *[slice(None, None, stride)] * self.num_space)
        return replace(
            self, scale=self.scale[picked], weights=self.weights[picked] * stride ** (self.num_space / 2), rate=None
        )

    def take(self, indices: Tensor) -> RowMap:
        """The map of some subproblems."""
        shared = 1 + self.num_inner
        scale, weights = (
            part if part.dim() == shared or part.shape[0] == 1 else part[indices] for part in (self.scale, self.weights)
        )
        return replace(self, scale=scale, weights=weights, inverse=self.inverse and self.inverse.take(indices))


class ResidualMap(nn.Module):
    """Base of residual maps; gives the time scale and the quadrature weights."""

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator | None = None):
        super().__init__()
        grid, problem = discretisation.grid, discretisation.problem
        scale = torch.as_tensor(grid.time.row_scale).reshape(-1, *[1] * len(grid.space)).expand(grid.shape)
        weights = torch.as_tensor(grid.weights).sqrt()
        if problem.is_system:  # the same for all fields
            count = len(problem.fields)
            scale, weights = (
                part[:, None].expand(-1, count, *part.shape[1:]) for part in (scale, weights / count**0.5)
            )
        self.register_buffer("scale", scale.clone(), persistent=False)
        self.register_buffer("weights", weights.clone(), persistent=False)
        self.kind = {"num_space": len(grid.space), "is_system": problem.is_system}
        self.projection = discretisation.projection
        self.register_buffer("rate", discretisation.storage_rate, persistent=False)

    def forward(
        self,
        c: Parameters,
        batch: int,
        subdomains: Subdomains | None = None,
        inverse: LinearInverse | None = None,
    ) -> RowMap:
        """The map of ``batch`` trajectories.

        Args:
            c: parameters of shape () or (batch,).
            subdomains: then it holds one map per trajectory and subdomain, the subdomains fastest.
            inverse: A⁻¹ on the whole grid for these parameters, where it is at hand.
        """
        if subdomains is None:
            return RowMap(self.scale, self.weights, None, self.projection, self.rate, **self.kind)
        if self.projection is not None:
            raise ValueError(
                "independent experts take features at the nodes: set the axes' dealiasing to 1, or use joint experts"
            )
        local = [subdomains.take(part[None]).unsqueeze(1) for part in (self.scale, self.weights)]
        rate = None if subdomains.is_split("t") else self.rate
        return RowMap(*(part.repeat(batch, *[1] * (part.dim() - 1)) for part in local), rate=rate, **self.kind)


class QuadratureWeights(ResidualMap):
    """P = dt/ds, W = quadrature weights: pointwise, for any decomposition."""


class InverseLinearised(ResidualMap):
    """P = A⁻¹: rows A⁻¹ρ(u) ≈ u − u_true, in solution units.

    On subdomains A is restricted to their nodes (the correction is zero outside).

    Raises:
        ValueError: subdomains split in time, where A⁻¹ would need inflow data.
    """

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator | None = None):
        super().__init__(discretisation)
        self.linearised = linearised or linear_operator(discretisation.problem, discretisation)

    def forward(self, c, batch, subdomains=None, inverse=None):
        if subdomains is not None and subdomains.is_split("t"):
            raise ValueError("independent experts split in time take a pointwise residual map: quadrature_weights")
        own = super().forward(c, batch, subdomains)
        if inverse is None or subdomains is not None:
            inverse = self.linearised.inverse(c, batch, subdomains)
        return replace(own, inverse=inverse)


RESIDUAL_MAPS: dict[str, type[ResidualMap]] = {
    "quadrature_weights": QuadratureWeights,
    "inverse_linearised": InverseLinearised,
}
_Class = TypeVar("_Class", bound=type[ResidualMap])


def register_residual_map(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_residual_map("my-residual-map")``: a decorator that makes a residual map known by its name.

    Configurations and model folders may use it then. Entering the same class again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("residual map", RESIDUAL_MAPS, name, ResidualMap, ("discretisation", "linearised"))
