"""Linear features, linearised inverse and right-hand side on fully periodic grids.

Fields are trigonometric polynomials; everything linear is a matrix along one axis or a multiplier of
the real modes 1, √2 cos, √2 sin (`FourierAxis`), so that all arithmetic is real matrix products.
Features are formed at collocation points, where products are dealiased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..basis import SeparableBasis, SeparableFeatures
from ..grid import FourierAxis, Grid
from .derivatives import Closure, along
from .windows import Windows

if TYPE_CHECKING:
    from ..problems.base import Derivative, Problem


class PeriodicFeatures(nn.Module):
    """Modes of a field ↦ its space features at collocation points.

    Args:
        problem: names the features.
        space: periodic axes by name.

    Raises:
        ValueError: an axis that is not periodic, or a feature of an axis that is not there.
    """

    def __init__(self, problem: Problem, space: dict[str, FourierAxis]):
        super().__init__()
        self.problem, self.space, self.names = problem, dict(space), list(space)
        for name, axis in space.items():
            if not axis.is_periodic:
                raise ValueError(f"axis {name!r} is bounded; spectral features need periodic axes")
            points = axis.collocation_points
            orders = {feature.orders.get(name, 0) for feature in problem.features.values()}
            for order in sorted(orders | {0}):
                self._register(f"synthesis_{name}_{order}", axis.modes(points, order))
            self._register(f"values_{name}", axis.modes(points))
            self._register(f"analysis_{name}", axis.analysis())
            self._register(f"nodes_{name}", axis.modes(axis.nodes))
            self._register(f"projection_{name}", axis.analysis(len(points)))
            self._register(f"nodes_transposed_{name}", axis.modes(axis.nodes).T.copy())
            self._register(f"projection_transposed_{name}", axis.analysis(len(points)).T.copy())
        for feature in problem.features.values():
            for name in feature.orders:
                if name != "t" and name not in space:
                    raise ValueError(f"feature needs axis {name!r}; the grid has {self.names}")
        squares = torch.zeros(())
        for axis in space.values():
            squares = squares[..., None] + torch.as_tensor(axis.wave_numbers) ** 2
        self.register_buffer("squares", squares, persistent=False)  # |k|², (*modes)
        for power in {feature.laplacian for feature in problem.features.values()} - {0}:
            self.register_buffer(f"power_{power}", self._power(power), persistent=False)

    def _register(self, name: str, matrix) -> None:
        self.register_buffer(name, torch.as_tensor(matrix, dtype=torch.float64), persistent=False)

    def _through(self, field: Tensor, prefix: str, stride: int = 1) -> Tensor:
        for dim in range(-1, -len(self.names) - 1, -1):
            field = along(field, getattr(self, f"{prefix}_{self.names[dim]}")[::stride], dim)
        return field

    def to_modes(self, values: Tensor) -> Tensor:
        """Values at nodes (..., *space) ↦ modes (..., *modes)."""
        return self._through(values, "analysis")

    def to_nodes(self, modes: Tensor) -> Tensor:
        """Modes (..., *modes) ↦ values at nodes (..., *space)."""
        return self._through(modes, "nodes")

    def at_collocation(self, modes: Tensor, stride: int = 1) -> Tensor:
        """Modes (..., *modes) ↦ values at collocation points (..., *collocation)."""
        return self._through(modes, "values", stride)

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ the modes that the nodes carry."""
        return self._through(values, "projection")

    def symbol(self, feature: Derivative) -> Tensor:
        """(*modes) real multiplier of a feature with even orders only, such as Δ.

        Raises:
            ValueError: an odd order, which mixes sines and cosines.
        """
        symbol = self.power(feature.laplacian)
        for name, order in feature.orders.items():
            if order % 2:
                raise ValueError(f"the linearised operator takes even derivatives, not {feature.orders}")
            k = torch.as_tensor(self.space[name].wave_numbers, dtype=symbol.dtype, device=symbol.device)
            factor = (-1.0) ** (order // 2) * k**order
            symbol = symbol * factor.reshape(-1, *[1] * (len(self.names) - 1 - self.names.index(name)))
        return symbol

    def power(self, exponent: int) -> Tensor:
        """(*modes) multiplier of Δ^exponent; zero for the mean of an inverse."""
        if not exponent:
            return torch.ones_like(self.squares)
        known = self._buffers.get(f"power_{exponent}")
        return self._power(exponent) if known is None else known

    def _power(self, exponent: int) -> Tensor:
        if exponent >= 0:
            return (-self.squares) ** exponent
        safe = torch.where(self.squares > 0, self.squares, 1.0)
        return torch.where(self.squares > 0, (-safe) ** exponent, 0.0)

    def forward(self, modes: Tensor, skip: frozenset[str] = frozenset(), stride: int = 1) -> dict[str, Tensor]:
        """Features at collocation points by name; time derivatives and ``skip`` are left out.

        Args:
            modes: (..., *modes).
            stride: at every so many points along each axis.
        """
        wanted: dict[tuple[int, ...], dict[str, int]] = {}  # orders → feature → power of the Laplacian
        for name, feature in self.problem.features.items():
            if "t" not in feature.orders and name not in skip:
                orders = tuple(feature.orders.get(axis, 0) for axis in self.names)
                wanted.setdefault(orders, {})[name] = feature.laplacian
        powers = sorted({power for group in wanted.values() for power in group.values()})
        partial = {(): torch.stack([modes * self.power(p) if p else modes for p in powers])}

        def transform(orders: tuple[int, ...]) -> Tensor:
            """The last len(orders) axes of all powers at once; shared between features."""
            if orders not in partial:
                dim = -len(orders)
                matrix = getattr(self, f"synthesis_{self.names[dim]}_{orders[0]}")[::stride]
                partial[orders] = along(transform(orders[1:]), matrix, dim)
            return partial[orders]

        fields = {}
        for orders, members in wanted.items():
            group = dict(sorted(members.items(), key=lambda item: item[1]))
            before = transform(orders[1:])
            picked = [powers.index(power) for power in group.values()]
            if picked != list(range(len(powers))):
                before = before[picked]
            matrix = getattr(self, f"synthesis_{self.names[0]}_{orders[0]}")[::stride]
            fields |= dict(zip(group, along(before, matrix, -len(orders)).unbind(0), strict=True))
        return fields


@dataclass
class Projection:
    """Galerkin projection of values at collocation points onto the modes that the nodes carry."""

    features: PeriodicFeatures

    def apply(self, values: Tensor) -> Tensor:
        """(..., *collocation) ↦ (..., *space)."""
        return self.features.to_nodes(self.features.project(values))

    def transpose(self, values: Tensor) -> Tensor:
        """(..., *space) ↦ (..., *collocation)."""
        features = self.features
        modes = features._through(values, "nodes_transposed")
        return features._through(modes, "projection_transposed")


class PeriodicFeatureOperator(nn.Module):
    """`FeatureOperator` on a fully periodic grid: features at collocation points, no walls."""

    def __init__(self, problem: Problem, grid: Grid):
        super().__init__()
        self.problem, self.grid = problem, grid
        self.space_names = list(grid.space)
        self.features = PeriodicFeatures(problem, grid.space)
        self.register_buffer("rate_matrix", torch.as_tensor(grid.time.differentiation(1)), persistent=False)

    def closures(self, c: dict[str, Tensor]) -> dict[str, Closure]:
        """No walls, nothing to eliminate."""
        return {}

    def close_space(self, u: Tensor, name: str, closure: Closure | None) -> Tensor:
        """A periodic axis is closed already."""
        return u

    def close_time(self, u: Tensor, initial: Tensor | None) -> Tensor:
        """Puts the initial field (batch, basis, *space), zero when None, before the first time."""
        dim = -1 - len(self.space_names)
        if initial is None:
            initial = torch.zeros_like(u.select(dim, 0))
        return torch.cat([initial.unsqueeze(dim), u], dim=dim)

    def forward(
        self,
        u: Tensor,
        closures: dict[str, Closure] | None = None,
        initial: Tensor | None = None,
        rate: Tensor | None = None,
        has_rates: bool = True,
    ) -> Tensor:
        """Features of the fields.

        Args:
            u: (batch, basis, time, *space) values at the nodes.
            closures: none.
            initial: (batch, basis, *space), zero when None.
            rate: (batch, basis, time, *space) u_t where it is known; else u is differentiated along
                the time axis.
            has_rates: time derivatives are always formed here.

        Returns:
            (batch, basis, feature, time, *collocation), in the order of ``problem.features``.
        """
        modes = self.features.to_modes(u)
        if rate is not None:
            rate_modes = self.features.to_modes(rate)
        elif initial is None:
            rate_modes = self._rate(self.rate_matrix[:, 1:], modes)
        else:
            closed = self.close_time(modes, self.features.to_modes(initial))
            rate_modes = self._rate(self.rate_matrix, closed)
        return self.from_modes(modes, rate_modes)

    def from_modes(self, modes: Tensor, rate_modes: Tensor) -> Tensor:
        """Features (batch, basis, feature, time, *collocation) of fields and their time derivatives.

        Args:
            modes, rate_modes: (batch, basis, time, *modes) of u and u_t.
        """
        return torch.stack(list(self.fields(modes, rate_modes).values()), dim=2)

    def fields(self, modes: Tensor, rate_modes: Tensor) -> dict[str, Tensor]:
        """`from_modes` by the features' names, each (..., time, *collocation)."""
        fields = self.features(modes)
        for name, feature in self.problem.features.items():
            if "t" in feature.orders:
                if feature.orders != {"t": 1} or feature.laplacian:
                    raise ValueError(f"feature {name!r}: the time derivative is of first order, of the field itself")
                fields[name] = self.features.at_collocation(rate_modes)
        return {name: fields[name] for name in self.problem.features}

    def separable(self, basis: SeparableBasis, stride: int = 1) -> SeparableFeatures:
        """Features of basis functions c_i(x) φ_i(t) at every ``stride``-th collocation point along each axis."""
        modes = self.features.to_modes(basis.space)
        fields = self.features(modes, stride=stride)
        is_rate = tuple("t" in feature.orders for feature in self.problem.features.values())
        values = self.features.at_collocation(modes, stride) if any(is_rate) else None
        space = torch.stack([fields.get(name, values) for name in self.problem.features], dim=1)
        time = torch.stack([basis.rate if flag else basis.time for flag in is_rate])
        return SeparableFeatures(space, time, is_rate)

    def rate(self, u: Tensor) -> Tensor:
        """(batch, basis, time, *space) ↦ u_t at the nodes, for a field that vanishes initially."""
        return self._rate(self.rate_matrix[:, 1:], u)

    def _rate(self, matrix: Tensor, modes: Tensor) -> Tensor:
        num_space = len(self.space_names)
        return (matrix @ modes.flatten(-num_space)).unflatten(-1, modes.shape[-num_space:])

    storage_rate = None  # a storage is differentiated through the feature u_t

    @property
    def projection(self) -> Projection | None:
        """From collocation points to nodes; None where they are the same."""
        return None if self.grid.collocation_shape == self.grid.shape else Projection(self.features)

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ their resolved part at nodes (..., *space)."""
        return values if self.projection is None else self.projection.apply(values)


@dataclass
class SpectralInverse:
    """A⁻¹ on modes: (a_t D_t + σ)⁻¹ by the eigensystem of D_t, σ the symbol of the linear part.

    Attributes:
        features: transforms.
        analysis, synthesis: (2·time, time) and (time, 2·time) real forms of V⁻¹ and V, D_t = V Λ V⁻¹.
        real, imaginary: (subproblem or 1, 1, time, *modes) parts of (a_t Λ + σ)⁻¹.
    """

    features: PeriodicFeatures
    analysis: Tensor
    synthesis: Tensor
    real: Tensor
    imaginary: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """(subproblem, column, time, *space) ↦ A⁻¹ rows."""
        return self._solve(rows, self.analysis, self.synthesis, self.imaginary)

    def transpose(self, rows: Tensor) -> Tensor:
        """A⁻ᵀ rows. Transforms between nodes and modes are orthogonal up to a factor that cancels."""
        return self._solve(rows, self.synthesis.T, self.analysis.T, -self.imaginary)

    def take(self, rows: Tensor) -> SpectralInverse:
        """The inverses of some subproblems."""
        real, imaginary = (part if part.shape[0] == 1 else part[rows] for part in (self.real, self.imaginary))
        return SpectralInverse(self.features, self.analysis, self.synthesis, real, imaginary)

    def _solve(self, rows: Tensor, into: Tensor, out_of: Tensor, imaginary: Tensor) -> Tensor:
        modes = self.features.to_modes(rows)
        space = modes.shape[3:]
        parts = (into @ modes.flatten(3)).unflatten(3, space)
        times = rows.shape[2]
        real, imag = parts[:, :, :times], parts[:, :, times:]
        solved = torch.cat([self.real * real - imaginary * imag, self.real * imag + imaginary * real], dim=2)
        return self.features.to_nodes((out_of @ solved.flatten(3)).unflatten(3, space))


class PeriodicLinearisedOperator(nn.Module):
    """A = a_t D_t + Σ_j a_j ∂_j of a problem's constant coefficients on a periodic grid.

    Raises:
        ValueError: a time axis of several elements, or odd space derivatives.
    """

    def __init__(self, problem: Problem, operator: PeriodicFeatureOperator):
        super().__init__()
        self.problem, self.features = problem, operator.features
        time = operator.grid.time
        if time.block_size != len(time.nodes):
            raise ValueError(f"a periodic grid takes a time axis of one element, not {len(time.nodes)} nodes in blocks")
        values, vectors = torch.linalg.eig(torch.as_tensor(time.differentiation(1)[:, 1:]))
        inverse = torch.linalg.inv(vectors)
        self.register_buffer("row_scale", torch.as_tensor(time.row_scale), persistent=False)
        self.register_buffer("spectrum", torch.stack([values.real, values.imag]), persistent=False)
        self.register_buffer("analysis", torch.cat([inverse.real, inverse.imag]), persistent=False)
        self.register_buffer("synthesis", torch.cat([vectors.real, -vectors.imag], dim=1), persistent=False)

    def symbol(self, c: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """a_t, and σ = Σ_j a_j · symbol of feature j, (batch or 1, *modes)."""
        dims = [1] * len(self.features.names)
        rate, symbol = None, 0.0
        for name, value in self.problem.linearised(c).items():
            feature = self.problem.features[name]
            if "t" in feature.orders:
                rate = value.reshape(-1, *dims)
            else:
                symbol = symbol + value.reshape(-1, *dims) * self.features.symbol(feature)
        if rate is None:
            raise ValueError("the linearised operator needs a time derivative")
        return rate, symbol

    def inverse(self, c: dict[str, Tensor], batch: int = 1, windows: Windows | None = None) -> SpectralInverse:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)).

        It expects rows already multiplied by the grid's ``row_scale``.
        """
        if windows is not None:
            raise ValueError("independent experts on a periodic grid take a pointwise residual map: quadrature_weights")
        rate, symbol = self.symbol(c)
        dims = [1] * len(self.features.names)
        real = rate[:, None] * self.spectrum[0].reshape(-1, *dims) + symbol[:, None]
        imaginary = (rate[:, None] * self.spectrum[1].reshape(-1, *dims)).expand_as(real)
        size = real.square() + imaginary.square()
        analysis = self.analysis / self.row_scale
        return SpectralInverse(
            self.features, analysis, self.synthesis, (real / size)[:, None], (-imaginary / size)[:, None]
        )


class SemiDiscrete(nn.Module):
    """u_t = −(σ u + n(u)) on the modes of periodic axes: the linear part by its symbol, the rest pointwise.

    Args:
        problem: of first order in time, residual ρ affine in u_t with the constant coefficient a_t.
        space: periodic axes by name.
    """

    def __init__(self, problem: Problem, space: dict[str, FourierAxis]):
        super().__init__()
        self.problem, self.features = problem, PeriodicFeatures(problem, space)
        self.rates = [name for name, feature in problem.features.items() if "t" in feature.orders]
        self.linear = [name for name in problem.linearised(problem.as_tensors({})) if name not in self.rates]
        # where ρ holds a linear term exactly, both drop it and its feature need not be formed
        self.skip = frozenset(name for name in self.linear if self._is_exact(name))

    def _is_exact(self, name: str) -> bool:
        """Whether ∂ρ/∂f is everywhere the coefficient that the linearised problem has for f."""
        problem, c = self.problem, self.problem.as_tensors({})
        points = torch.linspace(-1.0, 1.0, 7, dtype=torch.float64)
        values = {key: torch.sin((i + 2) * points + i) for i, key in enumerate(problem.features)}
        shifted = {**values, name: values[name] + 0.75}
        difference = (problem.residual(shifted, c) - problem.residual(values, c)) / 0.75
        return bool(
            torch.allclose(difference, problem.linearised(c)[name].expand_as(difference), rtol=1e-9, atol=1e-14)
        )

    def symbol(self, c: dict[str, Tensor]) -> Tensor:
        """(batch or 1, *modes) σ / a_t."""
        dims = [1] * len(self.features.names)
        coefficients = self.problem.linearised(c)
        symbol = sum(
            coefficients[name].reshape(-1, *dims) * self.features.symbol(self.problem.features[name])
            for name in self.linear
        )
        return symbol / coefficients[self.rates[0]].reshape(-1, *dims)

    def with_parameters(self, c: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`nonlinear` for parameters that stay the same, their shapes and coefficients made once."""
        if len(self.skip) + len(self.rates) == len(self.problem.features):  # a linear problem
            return torch.zeros_like
        dims = [1] * len(self.features.names)
        own = {key: value.reshape(-1, *dims) for key, value in c.items()}
        coefficients = self.problem.linearised(own)
        rate = coefficients[self.rates[0]]
        is_one = not rate.requires_grad and bool((rate == 1).all())
        absent = dict.fromkeys((*self.rates, *self.skip), torch.zeros_like(rate))
        shape = tuple(len(axis.collocation_points) for axis in self.features.space.values())

        def nonlinear(modes: Tensor) -> Tensor:
            fields = self.features(modes, self.skip)
            residual = self.problem.residual({**fields, **absent}, own)
            for name in self.linear:
                if name not in self.skip:
                    residual = residual - coefficients[name] * fields[name]
            residual = residual if is_one else residual / rate
            return self.features.project(residual.expand(modes.shape[0], *shape))

        return nonlinear

    def nonlinear(self, modes: Tensor, c: dict[str, Tensor]) -> Tensor:
        """(batch, *modes) ↦ n(u) = (ρ(u; u_t = 0) − linear part) / a_t on the same modes."""
        return self.with_parameters(c)(modes)

    def rate(self, modes: Tensor, c: dict[str, Tensor]) -> Tensor:
        """(batch, *modes) u_t of a field."""
        return -(self.symbol(c) * modes + self.nonlinear(modes, c))
