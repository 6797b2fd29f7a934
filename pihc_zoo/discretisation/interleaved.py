"""The right-hand side of a problem on periodic axes in as few and as large matrix products as it takes.

Of several axes the first one leads and the batch comes second, (mode_0, batch, mode_1, …): along the first axis and
along the last one a transform is then one product of two matrices, without copies. A single axis stays last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..grid import FourierAxis
from ..parameters import Parameters
from ..problems.base import Problem
from ..solvers.dense import from_left
from .axes import along
from .semi_discrete import SemiDiscrete
from .space import SpaceFeatures


class InterleavedFeatures(SpaceFeatures):
    """Features of modes whose first axis leads, and back.

    Args:
        problem, space: as `SpaceFeatures`.
        skip: features that are never formed, beside time derivatives.
    """

    def __init__(self, problem: Problem, space: dict[str, FourierAxis], skip: frozenset[str]):
        super().__init__(problem, space)
        wanted = {key: f for key, f in problem.features.items() if "t" not in f.orders and key not in skip}
        powers = sorted({feature.laplacian for feature in wanted.values()})
        orders = {key: tuple(feature.orders.get(name, 0) for name in self.names) for key, feature in wanted.items()}
        self.paths = {key: (powers.index(feature.laplacian), orders[key]) for key, feature in wanted.items()}
        self.register_buffer("multipliers", None, persistent=False)
        if any(powers):
            stacked = torch.stack([self.power(power) for power in powers])  # (power, *modes)
            stacked = stacked.unsqueeze(1 if len(self.names) == 1 else 2)  # the batch's dimension
            self.register_buffer("multipliers", stacked, persistent=False)
        last = self.axes[self.names[-1]]
        self.last_orders = sorted({own[-1] for own in orders.values()})
        into = [getattr(last, f"synthesis_{order}_transposed") for order in self.last_orders]
        self.sizes = [matrix.shape[1] for matrix in into]  # points, for each order
        if len(self.names) == 1 and into:
            into = [torch.cat(into, dim=1)]
        for i, matrix in enumerate(into):
            self.register_buffer(f"into_last_{i}", matrix, persistent=False)
        self.register_buffer("out_of_last", last.projection_transposed, persistent=False)
        first = self.axes[self.names[0]]
        for order in sorted({own[0] for own in orders.values()}) if len(self.names) == 2 else []:
            matrix = getattr(first, f"synthesis_{order}")
            self.register_buffer(f"into_first_{order}", matrix.repeat(max(1, len(powers)), 1, 1), persistent=False)

    def interleaved(self, fields: Tensor) -> Tensor:
        """(batch, axis_0, axis_1, …) ↦ (axis_0, batch, axis_1, …), or back; a single axis stays."""
        return fields if len(self.names) == 1 else fields.transpose(0, 1)

    def point_shape(self, modes: Tensor) -> tuple[int, ...]:
        first, *others = (len(axis.collocation_points) for axis in self.space.values())
        return (first, modes.shape[1], *others) if others else (modes.shape[0], first)

    def forward(self, coefficients, walls=None, skip=frozenset(), stride=1):
        """(mode_0, batch, mode_1, …) ↦ features (point_0, batch, point_1, …) by name, those left out excepted."""
        if not self.paths:
            return {}
        multipliers = self.multipliers
        has_powers = multipliers is not None
        if has_powers:
            coefficients = coefficients * multipliers  # (power, mode_0, batch, mode_1, …)
        if len(self.names) == 1:
            parts = torch.split_with_sizes(coefficients @ self.into_last_0, self.sizes, dim=-1)
            by_order = dict(zip(self.last_orders, parts, strict=True))
            return {
                key: by_order[order][power] if has_powers else by_order[order]
                for key, (power, (order,)) in self.paths.items()
            }
        if len(self.names) == 2:
            return self._of_two(coefficients)
        partial: dict[tuple[int, ...], Tensor] = {}

        def transform(orders: tuple[int, ...]) -> Tensor:
            """The last len(orders) axes, shared between features."""
            if orders in partial:
                return partial[orders]
            if len(orders) == 1:
                own = coefficients @ getattr(self, f"into_last_{self.last_orders.index(orders[0])}")
            else:
                before, axis = transform(orders[1:]), self.axes[self.names[-len(orders)]]
                matrix = getattr(axis, f"synthesis_{orders[0]}")
                if len(orders) == len(self.names):
                    own = _along_first(before, matrix, int(has_powers))
                else:
                    own = along(before, matrix, -len(orders))
            partial[orders] = own
            return own

        paths = self.paths.items()
        whole = {orders: transform(orders) for _, (_, orders) in paths}
        if not has_powers:
            return {key: whole[orders] for key, (_, orders) in paths}
        by_power = {orders: own.unbind(0) for orders, own in whole.items()}
        return {key: by_power[orders][power] for key, (power, orders) in paths}

    def _of_two(self, coefficients: Tensor) -> dict[str, Tensor]:
        """The same of two axes, ([power], mode_0, batch, mode_1), each transform one product of matrices."""
        batch, count = coefficients.shape[-2:]
        flat, last, whole = coefficients.reshape(-1, count), {}, {}
        for _, orders in self.paths.values():
            if orders in whole:
                continue
            if orders[1] not in last:
                last[orders[1]] = torch.mm(flat, getattr(self, f"into_last_{self.last_orders.index(orders[1])}"))
            matrix = getattr(self, f"into_first_{orders[0]}")  # (power, point_0, mode_0)
            product = torch.bmm(matrix, last[orders[1]].view(len(matrix), matrix.shape[2], -1))
            whole[orders] = product.view(*matrix.shape[:2], batch, -1).unbind(0)
        return {key: whole[orders][power] for key, (power, orders) in self.paths.items()}

    def project(self, values):
        """(point_0, batch, point_1, …) ↦ modes, laid out likewise."""
        if len(self.names) == 2:
            first, batch = self.axes[self.names[0]].projection, values.shape[1]
            values = torch.mm(values.reshape(-1, values.shape[2]), self.out_of_last)
            return torch.mm(first, values.view(first.shape[1], -1)).view(len(first), batch, -1)
        values = values @ self.out_of_last
        if len(self.names) == 1:
            return values
        for i, name in enumerate(self.names[1:-1], start=1):
            values = along(values, self.axes[name].projection, i - len(self.names))
        return _along_first(values, self.axes[self.names[0]].projection, 0)


def _along_first(fields: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """matrix (m, n) applied to dimension ``dim`` of contiguous fields, all later ones as one."""
    flat = fields.flatten(dim + 1)
    product = from_left(matrix, flat) if dim else torch.mm(matrix, flat)
    return product.view(*fields.shape[:dim], len(matrix), *fields.shape[dim + 1 :])


class InterleavedSemiDiscrete(SemiDiscrete):
    """`SemiDiscrete` of modes laid out as (mode_0, batch, mode_1, …)."""

    def __init__(self, problem: Problem, space: dict[str, FourierAxis]):
        super().__init__(problem, space)
        self.features = InterleavedFeatures(problem, space, self.skip)
        out_of_square = None
        if len(space) == 1:
            ((name, axis),) = self.features.axes.items()
            points, own = axis.axis.collocation_points, space[name]
            if len(points) > 3 * axis.band:  # then squares fold nothing into the band
                slope = own.analysis(len(points)) @ own.modes(points, 1)  # between modes
                out_of_square = torch.as_tensor(0.5 * own.analysis(len(points)).T @ slope.T)
        self.register_buffer("out_of_square", out_of_square, persistent=False)  # (point, mode) ½ ∂ₓ

    def flux(self, factor: Any, names: tuple[str, ...]) -> Callable[[Tensor], Tensor] | None:
        """c f f_x = ½ c (f²)_x: one field to transform in place of two."""
        if len(names) != 2 or len(self.features.names) != 1 or self.out_of_square is None:
            return None
        (axis,) = self.features.names
        one, two = sorted((self.problem.features[name] for name in names), key=lambda own: own.orders.get(axis, 0))
        order = one.orders.get(axis, 0)
        is_slope = two.orders.get(axis, 0) == order + 1 and one.field == two.field
        if not is_slope or one.laplacian or two.laplacian:
            return None
        into, out_of = getattr(self.features.axes[axis], f"synthesis_{order}_transposed"), self.out_of_square
        has_factor = isinstance(factor, Tensor) or factor != 1

        def nonlinear(modes: Tensor) -> Tensor:
            square = torch.mm(modes, into).square()
            return torch.mm(factor * square if has_factor else square, out_of)

        return nonlinear

    def symbol(self, c: Parameters) -> Tensor:
        return self.features.interleaved(super().symbol(c)).contiguous()

    def against(self, c: Parameters) -> dict[str, Tensor]:
        return c.against(max(1, len(self.features.names) - 1))
