"""Space features of fields at collocation points, composed axis by axis.

The fields of a system are the components of one tensor, in the dimension before space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..grid import Axis
from ..parameters import Parameters
from ..problems.base import Derivative, Problem, WallCondition
from .axes import SpaceAxis, space_axis
from .field import Walls


class SpaceFeatures(nn.Module):
    """Coefficients of a field (..., *coefficients) ↦ its space features at collocation points (..., *collocation).

    Args:
        problem: names the features and the wall conditions.
        space: axes by name.

    Raises:
        ValueError: a feature of an axis that is not there, or a power of the Laplacian beside walls.
    """

    def __init__(self, problem: Problem, space: dict[str, Axis]):
        super().__init__()
        self.problem, self.space, self.names = problem, dict(space), list(space)
        self.is_system, self.component_dim = problem.is_system, -1 - len(space)
        self.of_field = [
            {name: own for name, own in problem.features.items() if own.field == field and "t" not in own.orders}
            for field in problem.fields
        ]
        self.is_spectral = all(axis.is_periodic for axis in space.values())
        for key, feature in problem.features.items():
            if feature.field not in problem.fields:
                known = ", ".join(problem.fields)
                raise ValueError(f"feature {key!r} is of the field {feature.field!r}; the problem has {known}")
            if feature.laplacian and not self.is_spectral:
                raise ValueError(f"feature {key!r} takes a power of the Laplacian, which needs periodic axes")
            for name in feature.orders:
                if name != "t" and name not in space:
                    raise ValueError(f"feature needs axis {name!r}; the grid has {self.names}")
        walls = self.conditions(problem.as_tensors({}))
        orders = {name: {feature.orders.get(name, 0) for feature in problem.features.values()} for name in space}
        self.axes = nn.ModuleDict(
            {
                name: space_axis(axis, orders[name], [own[name] for own in walls if name in own], len(space))
                for name, axis in space.items()
            }
        )
        for i, (name, axis) in enumerate(self.axes.items()):
            before = [own for own in list(self.axes.values())[:i] if own.axis.is_periodic]
            if before and not axis.axis.is_periodic:
                self.register_buffer(f"one_{name}", self._one(i), persistent=False)
        if self.is_spectral:
            squares = torch.zeros(())
            for axis in self.axes.values():
                squares = squares[..., None] + axis.wave_numbers**2
            self.register_buffer("squares", squares, persistent=False)  # |k|², (*modes)
            for power in {feature.laplacian for feature in problem.features.values()} - {0}:
                self.register_buffer(f"power_{power}", self._power(power), persistent=False)
            for name, feature in problem.features.items():
                if all(axis != "t" and order % 2 == 0 for axis, order in feature.orders.items()):
                    self.register_buffer(f"symbol_{name}", self._symbol(feature), persistent=False)

    def _one(self, count: int) -> Tensor:
        """The constant 1 in the coefficients of the first ``count`` axes, (*coefficients, 1, …)."""
        one = torch.ones((), dtype=torch.float64)
        for axis in list(self.axes.values())[:count]:
            own = axis.to_coefficients(torch.ones(len(axis.axis.nodes), dtype=torch.float64), -1)
            one = one[..., None] * own
        return one.reshape(*one.shape, *[1] * (len(self.axes) - count))

    def dims(self) -> list[tuple[int, SpaceAxis]]:
        """Dimension and operator of each axis, the last one first."""
        return [(dim, self.axes[self.names[dim]]) for dim in range(-1, -len(self.names) - 1, -1)]

    def conditions(self, c: dict[str, Any]) -> list[dict[str, tuple[WallCondition, WallCondition]]]:
        """The wall conditions of each field, by axis."""
        walls = self.problem.walls(c)
        if not self.is_system:
            return [walls]
        return [{name: by_field[field] for name, by_field in walls.items()} for field in self.problem.fields]

    def walls(self, c: Parameters, series: dict[str, Tensor] | None = None) -> Walls:
        """Wall elimination for the parameters ``c``, tensors of shape () or (batch,).

        Args:
            c: numbers.
            series: (batch or 1, closed time) values of the problem's series, where walls are to follow them.
        """
        if series:
            c = {**c.against(1), **series}
        return Walls.of_system(
            [{name: self.axes[name].closure(pair) for name, pair in own.items()} for own in self.conditions(c)]
        )

    def by_component(self, u: Tensor, walls: Walls, change: Callable[[Tensor, Walls], Tensor]) -> Tensor:
        """A field changed component by component, each with its walls."""
        if not self.is_system:
            return change(u, walls)
        parts = [change(own, walls.of(i)) for i, own in enumerate(u.unbind(self.component_dim))]
        return torch.stack(parts, dim=self.component_dim)

    def close(self, u: Tensor, walls: Walls) -> Tensor:
        """Adds wall values (..., *space) ↦ (..., *closed space)."""

        def closed(own: Tensor, own_walls: Walls) -> Tensor:
            for dim, axis in self.dims():
                closure = own_walls[self.names[dim]]
                own = own if closure is None else axis.close(own, dim, closure)
            return own

        return self.by_component(u, walls, closed)

    def to_coefficients(self, u: Tensor) -> Tensor:
        """Values at nodes (..., *space) ↦ coefficients."""
        for dim, axis in self.dims():
            u = axis.to_coefficients(u, dim)
        return u

    def to_nodes(self, coefficients: Tensor) -> Tensor:
        """Coefficients ↦ values at nodes (..., *space)."""
        for dim, axis in self.dims():
            coefficients = axis.to_nodes(coefficients, dim)
        return coefficients

    def at_collocation(self, coefficients: Tensor, stride: int = 1) -> Tensor:
        """Coefficients ↦ values at every ``stride``-th collocation point along each axis."""
        for dim, axis in self.dims():
            coefficients = axis.derivative(coefficients, 0, dim, None, stride)
        return coefficients

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ the coefficients that the nodes carry."""
        for dim, axis in self.dims():
            values = axis.project(values, dim)
        return values

    def point_shape(self, modes: Tensor) -> tuple[int, ...]:
        """Shape of the values at collocation points of a field with ``modes`` (batch, *coefficients)."""
        return (modes.shape[0], *(len(axis.collocation_points) for axis in self.space.values()))

    def symbol(self, name: str) -> Tensor:
        """(*modes) real multiplier of a feature with even orders only, such as Δ, on periodic axes.

        Raises:
            ValueError: an odd order, which mixes sines and cosines.
        """
        known = self._buffers.get(f"symbol_{name}")
        if known is None:
            orders = self.problem.features[name].orders
            raise ValueError(f"the linearised operator takes even derivatives in space, not {orders}")
        return known

    def _symbol(self, feature: Derivative) -> Tensor:
        symbol = self.power(feature.laplacian)
        for name, order in feature.orders.items():
            factor = (-1.0) ** (order // 2) * self.axes[name].wave_numbers.to(symbol) ** order
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

    def forward(
        self,
        coefficients: Tensor,
        walls: Walls | None = None,
        skip: frozenset[str] = frozenset(),
        stride: int = 1,
    ) -> dict[str, Tensor]:
        """Features by name; time derivatives and ``skip`` are left out.

        Args:
            coefficients: (..., *coefficients).
            walls: of the field.
            stride: at every so many points along each axis.

        Returns:
            (..., *collocation), of a system (..., 1, *collocation).
        """
        if not self.is_system:
            return self._features_of(coefficients, walls, self.of_field[0], skip, stride)
        found = {}
        for i, own in enumerate(coefficients.unbind(self.component_dim)):
            features = self._features_of(own, walls and walls.of(i), self.of_field[i], skip, stride)
            found |= {name: value.unsqueeze(self.component_dim) for name, value in features.items()}
        return found

    def _features_of(
        self,
        coefficients: Tensor,
        walls: Walls | None,
        features: dict[str, Derivative],
        skip: frozenset[str],
        stride: int,
    ) -> dict[str, Tensor]:
        """Those of one component (..., *coefficients)."""
        wanted = {name: own for name, own in features.items() if name not in skip}
        groups: dict[tuple[int, ...], dict[str, int]] = {}  # orders → feature → power of the Laplacian
        for name, feature in wanted.items():
            orders = tuple(feature.orders.get(axis, 0) for axis in self.names)
            groups.setdefault(orders, {})[name] = feature.laplacian
        powers = sorted({feature.laplacian for feature in wanted.values()})
        multiplied = [coefficients * self.power(p) if p else coefficients for p in powers]
        is_stacked = len(powers) > 1  # all powers pass an axis together
        partial = {(): torch.stack(multiplied) if is_stacked else coefficients if not powers else multiplied[0]}

        def differentiated(field: Tensor, orders: tuple[int, ...]) -> Tensor:
            """The first of ``orders``, of a field that the others have passed."""
            name = self.names[-len(orders)]
            closure = walls and walls[name]
            if closure is not None and any(orders[1:]):  # targets are constant along walls
                closure = closure.homogeneous()
            return self.axes[name].derivative(
                field, orders[0], -len(orders), closure, stride, self._buffers.get(f"one_{name}")
            )

        def transform(orders: tuple[int, ...]) -> Tensor:
            """The last len(orders) axes, shared between features."""
            if orders not in partial:
                partial[orders] = differentiated(transform(orders[1:]), orders)
            return partial[orders]

        fields = {}
        if len(self.names) == 1 and self.is_spectral and not is_stacked:
            derivatives = self.axes[self.names[0]].derivatives(partial[()], [order for (order,) in groups], stride)
            pairs = zip(groups.values(), derivatives, strict=True)
            return {name: own for members, own in pairs for name in members}
        for orders, members in groups.items():
            before = transform(orders[1:])
            if not is_stacked:
                own = differentiated(before, orders)
                fields |= dict.fromkeys(members, own)
                continue
            group = dict(sorted(members.items(), key=lambda item: item[1]))
            picked = [powers.index(power) for power in group.values()]
            if picked != list(range(len(powers))):
                before = torch.stack([before[place] for place in picked])
            own = differentiated(before, orders)
            fields |= dict(zip(group, own.unbind(0), strict=True))
        return fields


@dataclass
class Projection:
    """Galerkin projection of values at collocation points onto what the nodes carry."""

    features: SpaceFeatures

    def apply(self, values: Tensor) -> Tensor:
        """(..., *collocation) ↦ (..., *space)."""
        return self.features.to_nodes(self.features.project(values))

    def transpose_of_modes(self, modes: Tensor) -> Tensor:
        """`transpose` of the values at nodes that have these modes: transforms are orthogonal up to factors."""
        ratio = 1.0
        for axis in self.features.space.values():
            ratio *= len(axis.nodes) / len(axis.collocation_points)
        return self.features.at_collocation(modes * ratio)

    def transpose(self, values: Tensor) -> Tensor:
        """(..., *space) ↦ (..., *collocation)."""
        for dim, axis in self.features.dims():
            values = axis.project_transposed(values, dim)
        return values
