"""What each kind of space axis does to fields.

Along an axis a field has *coefficients*: its nodal values on a bounded axis, its modes on a periodic one. From them
its derivatives follow at the collocation points, where products of features are formed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..grid import Axis
from ..parameters import column
from ..problems.base import WallCondition
from ..solvers.dense import from_left, solve
from .field import Closure, beside

_FAST = 128  # nodes from which on a fast transform beats a matrix


def along(u: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """matrix (m, n) applied to dimension ``dim`` of u."""
    if dim == -1:
        return u @ matrix.t()
    return from_left(matrix, u) if dim == -2 else (u.movedim(dim, -1) @ matrix.t()).movedim(-1, dim)


class SpaceAxis(nn.Module):
    """Base: an axis whose coefficients are its nodal values, and whose collocation points are its nodes.

    Args:
        axis: nodes and matrices.
        orders: derivatives that are asked for.
        num_axes: of the grid in space.
    """

    def __init__(self, axis: Axis, orders: set[int], num_axes: int = 1):
        super().__init__()
        self.axis, self.num_axes = axis, num_axes

    def _register(self, name: str, matrix) -> None:
        self.register_buffer(name, torch.as_tensor(matrix, dtype=torch.float64), persistent=False)

    def to_coefficients(self, u: Tensor, dim: int) -> Tensor:
        """Values at nodes along dimension ``dim`` ↦ coefficients."""
        return u

    def to_nodes(self, coefficients: Tensor, dim: int) -> Tensor:
        """Coefficients ↦ values at nodes."""
        return coefficients

    def project(self, values: Tensor, dim: int) -> Tensor:
        """Values at collocation points ↦ the coefficients that the nodes carry."""
        return values

    def project_transposed(self, u: Tensor, dim: int) -> Tensor:
        """The transpose of `project` and `to_nodes` in turn: values at nodes ↦ at collocation points."""
        return u

    def derivative(
        self,
        coefficients: Tensor,
        order: int,
        dim: int,
        closure: Closure | None = None,
        stride: int = 1,
        one: Tensor | None = None,
    ) -> Tensor:
        """The derivative at every ``stride``-th collocation point.

        Args:
            one: the constant 1 in the coefficients of the axes before this one, (..., 1); None where these are values.
        """
        raise NotImplementedError


class SpectralAxis(SpaceAxis):
    """A periodic axis: fields are trigonometric polynomials of the real modes 1, √2 cos, √2 sin (`FourierAxis`).

    Everything linear is a product with a real matrix; along the last dimension, of many points and on a CPU, the same
    by fast transforms.
    """

    def __init__(self, axis: Axis, orders: set[int]):
        super().__init__(axis, orders)
        self.band, self.counts = (len(axis.wave_numbers) - 1) // 2, (len(axis.nodes), len(axis.collocation_points))
        points, k = axis.collocation_points, axis.wave_numbers[: self.band + 1]
        self.orders = sorted(orders | {0})
        for order in self.orders:
            self._register_matrix(f"synthesis_{order}", axis.modes(points, order))
            sign = (-1) ** (order // 2)
            self._register(f"factor_{order}", sign * k**order * np.where(k > 0, np.sqrt(0.5), 1.0))
        every = torch.cat([getattr(self, f"synthesis_{order}_transposed") for order in self.orders], dim=1)
        self.register_buffer("synthesis_transposed", every, persistent=False)
        self._register_matrix("analysis", axis.analysis())
        self._register_matrix("nodes", axis.modes(axis.nodes))
        self._register_matrix("projection", axis.analysis(len(points)))
        self._register("wave_numbers", axis.wave_numbers)
        signs = np.concatenate([[1.0], np.full(self.band, np.sqrt(2)), np.full(self.band, -np.sqrt(2))])
        self._register("signs", signs)

    def _register_matrix(self, name: str, matrix) -> None:
        """Of a transform, with its transpose for fields whose last dimension it transforms."""
        self._register(name, matrix)
        self.register_buffer(f"{name}_transposed", getattr(self, name).T.contiguous(), persistent=False)

    def _along(self, u: Tensor, name: str, dim: int) -> Tensor:
        return u @ getattr(self, f"{name}_transposed") if dim == -1 else along(u, getattr(self, name), dim)

    def to_coefficients(self, u, dim):
        return self._analysed(u) if self._is_fast(u, dim) else self._along(u, "analysis", dim)

    def to_nodes(self, coefficients, dim):
        if self._is_fast(coefficients, dim):
            return self._synthesised(coefficients, 0, self.counts[0])
        return self._along(coefficients, "nodes", dim)

    def project(self, values, dim):
        return self._analysed(values) if self._is_fast(values, dim) else self._along(values, "projection", dim)

    def project_transposed(self, u, dim):
        return along(along(u, self.nodes.T, dim), self.projection.T, dim)

    def derivative(self, coefficients, order, dim, closure=None, stride=1, one=None):
        if self._is_fast(coefficients, dim):
            return self._synthesised(coefficients, order, self.counts[1])[..., ::stride]
        if stride == 1:
            return self._along(coefficients, f"synthesis_{order}", dim)
        return along(coefficients, getattr(self, f"synthesis_{order}")[::stride], dim)

    def derivatives(self, coefficients: Tensor, orders: list[int], stride: int = 1) -> Sequence[Tensor]:
        """`derivative` of several orders along the last dimension; of all that there are by one product."""
        if stride > 1 or sorted(orders) != self.orders or self._is_fast(coefficients, -1):
            return [self.derivative(coefficients, order, -1, None, stride) for order in orders]
        parts = (coefficients @ self.synthesis_transposed).chunk(len(orders), dim=-1)
        return [parts[self.orders.index(order)] for order in orders]

    def _is_fast(self, u: Tensor, dim: int) -> bool:
        """Whether a fast transform takes less time than the matrix."""
        is_long = dim == -1 and self.counts[0] >= _FAST
        return is_long and u.device.type == "cpu" and not torch.compiler.is_exporting()

    def _analysed(self, values: Tensor) -> Tensor:
        """Values at equally spaced points ↦ modes."""
        own = torch.view_as_real(torch.fft.rfft(values, norm="forward"))
        last = self.band + 1
        return torch.cat([own[..., :last, 0], own[..., 1:last, 1]], dim=-1) * self.signs

    def _synthesised(self, modes: Tensor, order: int, count: int) -> Tensor:
        """Modes ↦ a derivative at ``count`` equally spaced points: (ik)^order (cosine − i sine)/√2 transformed back."""
        factor, last = getattr(self, f"factor_{order}"), self.band + 1
        cosines, sines = modes[..., :last] * factor, nn.functional.pad(modes[..., last:], (1, 0)) * factor
        own = torch.complex(sines, cosines) if order % 2 else torch.complex(cosines, -sines)
        return torch.fft.irfft(own, count, norm="forward")


class WalledAxis(SpaceAxis):
    """A bounded axis: derivatives by stencils on nodal values and walls, whose values are eliminated.

    Args:
        conditions: at its two walls, of each field, at default parameters.

    Raises:
        ValueError: fields whose slopes are taken at different places.
    """

    def __init__(
        self,
        axis: Axis,
        orders: set[int],
        conditions: Sequence[tuple[WallCondition, WallCondition]] = (),
        num_axes: int = 1,
    ):
        super().__init__(axis, orders, num_axes)
        for order in sorted(orders - {0}):
            self._register(f"derivative_{order}", axis.differentiation(order))
        ends = axis.closed_nodes[0], axis.closed_nodes[-1]
        for side, wall, own in zip("lr", ends, zip(*conditions, strict=True), strict=False):
            places = {wall if condition.at is None else condition.at for condition in own}
            if len(places) > 1:
                raise ValueError(f"slopes of all fields are taken at one place beside a wall, not at {sorted(places)}")
            self._register(f"slope_{side}", axis.differentiation(1, list(places))[0])

    def closure(self, conditions: tuple[WallCondition, WallCondition]) -> Closure:
        """Solves, for the two wall values a, value·a_side + slope·(d · [a_left, nodes, a_right]) = target."""
        rows, node_rows, targets = [], [], []
        for side, condition in zip("lr", conditions, strict=True):
            d = getattr(self, f"slope_{side}")
            value, slope = (column(v, 0, d) for v in (condition.value, condition.slope))
            own = torch.eye(2, dtype=d.dtype, device=d.device)["lr".index(side)]
            rows.append(value[:, None] * own + slope[:, None] * torch.stack([d[0], d[-1]]))
            node_rows.append(slope[:, None] * d[1:-1])
            targets.append(_target(condition, d))
        batch = next((part.shape[0] for part in (*rows, *targets) if part.shape[0] != 1), 1)
        system = torch.stack([part.expand(batch, 2) for part in rows], dim=1)  # (batch, 2, 2)
        nodes = torch.stack([part.expand(batch, -1) for part in node_rows], dim=1)  # (batch, 2, n)
        num_times = max(part.shape[1] for part in targets)
        target = torch.stack([part.expand(batch, num_times) for part in targets], dim=1)  # (batch, 2, time or 1)
        both = solve(system, torch.cat([-nodes, target], dim=2))
        slopes, offset = both[..., :-num_times].transpose(1, 2), both[..., -num_times:].transpose(1, 2)
        return Closure(slopes, (offset if num_times > 1 else offset[:, 0]).clone())  # export shares no memory

    def close(self, u: Tensor, dim: int, closure: Closure) -> Tensor:
        """Adds the wall values along dimension ``dim`` of u (batch, ...), in its precision."""
        moved, closure = u.movedim(dim, -1), closure.to(u.dtype)
        slopes = closure.slopes.reshape(closure.slopes.shape[0], *[1] * (moved.dim() - 3), *closure.slopes.shape[1:])
        walls = moved @ slopes + beside(closure.offset, moved, self.num_axes)
        return torch.cat([walls[..., :1], moved, walls[..., 1:]], dim=-1).movedim(-1, dim)

    def eliminated(self, order: int, closure: Closure | None) -> tuple[Tensor, Tensor]:
        """A derivative of values at nodes alone, the walls' eliminated: D + D_walls slopesᵀ and D_walls offset.

        Returns:
            (batch or 1, n, n) matrix and (batch or 1, [closed time], n) constant.
        """
        matrix = getattr(self, f"derivative_{order}")
        if closure is None:
            return matrix[None], matrix.new_zeros(1, len(matrix))
        ends = torch.stack([matrix[:, 0], matrix[:, -1]], dim=1)  # (n, 2)
        return matrix[:, 1:-1] + ends @ closure.slopes.transpose(1, 2), closure.offset @ ends.T

    def derivative(self, coefficients, order, dim, closure=None, stride=1, one=None):
        moved = coefficients.movedim(dim, -1)
        if not order:
            return moved[..., ::stride].movedim(-1, dim)
        matrix, constant = self.eliminated(order, closure)
        matrix, constant = matrix[:, ::stride], constant[..., ::stride]
        if matrix.shape[0] == 1:
            result = moved @ matrix[0].T
        else:
            result = (moved.flatten(1, -2) @ matrix.transpose(1, 2)).unflatten(1, moved.shape[1:-1])
        result, constant = result.movedim(-1, dim), beside(constant, moved, self.num_axes)
        return result + (constant.movedim(-1, dim) if one is None else one * constant.movedim(-1, dim))


def _target(condition: WallCondition, like: Tensor) -> Tensor:
    """(batch or 1, time or 1) target of a condition.

    Raises:
        ValueError: a condition whose left side follows a series.
    """
    for own in (condition.value, condition.slope):
        if isinstance(own, Tensor) and own.dim() == 2 and own.shape[1] > 1:
            raise ValueError(
                "a series is a target at a wall, or part of one; it does not multiply u or its slope there"
            )
    if isinstance(condition.target, Tensor) and condition.target.dim() == 2:
        return condition.target.to(like)
    return column(condition.target, 1, like)


def space_axis(
    axis: Axis, orders: set[int], conditions: Sequence[tuple[WallCondition, WallCondition]] = (), num_axes: int = 1
) -> SpaceAxis:
    """The operator of an axis, by its kind."""
    return SpectralAxis(axis, orders) if axis.is_periodic else WalledAxis(axis, orders, conditions, num_axes)
