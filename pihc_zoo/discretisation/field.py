"""Fields on a grid, and the walls that close them.

A field has values at nodes. Before a stencil is applied, or a value read between nodes, it is *closed*: its initial
values come before the first time, its wall values beside the first and the last node of every bounded axis. Wall
values follow from the wall conditions, which are linear in the field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class Closure:
    """Wall values of a field along one axis: walls = nodes · slopes + offset.

    slopes (batch or 1, n, 2), offset (batch or 1, 2), or (batch or 1, closed time, 2) where a target follows a series.
    """

    slopes: Tensor
    offset: Tensor

    def take(self, indices: Tensor) -> Closure:
        """That of some trajectories."""
        return Closure(*(part if part.shape[0] == 1 else part[indices] for part in (self.slopes, self.offset)))

    def to(self, dtype: torch.dtype) -> Closure:
        """In another precision."""
        return Closure(self.slopes.to(dtype), self.offset.to(dtype))

    def homogeneous(self) -> Closure:
        """The closure of a correction, which meets the conditions with zero targets."""
        return Closure(self.slopes, self.offset.new_zeros(self.offset.shape[0], 2))


def beside(values: Tensor, field: Tensor, num_axes: int) -> Tensor:
    """What closes a field, broadcasting against it.

    Args:
        values: (batch or 1, m), or (batch or 1, closed time, m).
        field: (batch, …, time or closed time, [other axes], n) the last dimension closed.
        num_axes: of the grid in space.
    """
    if values.dim() == 2:
        return values.reshape(values.shape[0], *[1] * (field.dim() - 2), values.shape[1])
    place = field.dim() - 1 - num_axes  # of time
    shape = [values.shape[0], *[1] * (field.dim() - 2), values.shape[2]]
    shape[place] = field.shape[place]
    return values[:, -field.shape[place] :].reshape(shape)


@dataclass
class Walls:
    """Closures by axis; periodic axes have none.

    Attributes:
        closures: of a field's only component, or of its first.
        others: those of further components.
    """

    closures: dict[str, Closure] = field(default_factory=dict)
    others: tuple[dict[str, Closure], ...] = ()

    @classmethod
    def of_system(cls, closures: Sequence[dict[str, Closure]]) -> Walls:
        """Those of a system, one mapping per component."""
        return cls(closures[0], tuple(closures[1:]))

    def __getitem__(self, name: str) -> Closure | None:
        return self.closures.get(name)

    def of(self, component: int) -> Walls:
        """Those of one component of a system."""
        if not component or not self.others:
            return Walls(self.closures)
        return Walls(self.others[component - 1])

    def _changed(self, change: Callable[[Closure], Closure]) -> Walls:
        return Walls.of_system(
            [{name: change(own) for name, own in part.items()} for part in (self.closures, *self.others)]
        )

    def take(self, indices: Tensor) -> Walls:
        """Those of some trajectories."""
        return self._changed(lambda own: own.take(indices))

    def homogeneous(self) -> Walls:
        """The walls of a correction."""
        return self._changed(Closure.homogeneous)


@dataclass
class Field:
    """A field on a grid, with what closes it.

    Attributes:
        u: (batch, *columns, time, *space) values at the nodes; those of a system (…, time, component, *space).
        walls: of the grid, for the parameters at hand; homogeneous ones for a correction.
        initial: (batch, *columns, *space) initial values; None for a correction: it vanishes initially.
        rate: u_t at the nodes, like u, where it is known better than from the nodes.
        coefficients: u and its rate in the axes' own coefficients, where they are known, see `SpaceFeatures`.
    """

    u: Tensor
    walls: Walls = field(default_factory=Walls)
    initial: Tensor | None = None
    rate: Tensor | None = None
    coefficients: tuple[Tensor, Tensor] | None = None

    @classmethod
    def correction(cls, u: Tensor, walls: Walls) -> Field:
        """A field that meets all conditions with zero targets."""
        return cls(u, walls.homogeneous())

    def take(self, indices: Tensor) -> Field:
        """That of some trajectories; without coefficients."""
        initial, rate = (None if part is None else part[indices] for part in (self.initial, self.rate))
        return Field(self.u[indices], self.walls.take(indices), initial, rate)

    def double(self) -> Field:
        """In float64, without what else is known of it."""
        return replace(self, u=self.u.double(), initial=None if self.initial is None else self.initial.double())
