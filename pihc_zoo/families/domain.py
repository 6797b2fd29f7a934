"""Where fields are drawn: axes with a start and a length, and positions on them in units of that length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Points(Sequence):
    """Positions along each axis, from its start and in units of its length; their tensor grid is meant.

    Attributes:
        positions: one array (n,) per axis; inside the domain they lie in [0, 1].
        is_periodic: per axis, whether fields continue with period 1 along it.
    """

    positions: tuple[np.ndarray, ...]
    is_periodic: tuple[bool, ...]

    def __getitem__(self, axis):
        return self.positions[axis]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of points along the axes."""
        return tuple(len(own) for own in self.positions)


@dataclass(frozen=True)
class Domain:
    """A box: an interval per axis.

    Attributes:
        starts, lengths: in the axes' physical units.
        is_periodic: per axis, whether it closes on itself.
    """

    starts: tuple[float, ...]
    lengths: tuple[float, ...]
    is_periodic: tuple[bool, ...]

    @classmethod
    def of(cls, space: Mapping[str, Any]) -> Domain:
        """That of axes with ``start``, ``stop`` or ``length``, and ``is_periodic``."""
        axes = list(space.values())
        lengths = [getattr(axis, "length", None) or axis.stop - axis.start for axis in axes]
        starts, is_periodic = [axis.start for axis in axes], [axis.is_periodic for axis in axes]
        return cls(tuple(starts), tuple(lengths), tuple(is_periodic))

    @classmethod
    def unit(cls, *is_periodic: bool) -> Domain:
        """[0, 1] along every axis."""
        return cls((0.0,) * len(is_periodic), (1.0,) * len(is_periodic), tuple(is_periodic))

    @property
    def is_all_periodic(self) -> bool:
        """Whether no axis has walls."""
        return all(self.is_periodic)

    def points(self, positions: Sequence[Any]) -> Points:
        """Physical positions, one array per axis, in units of the axes' lengths.

        Raises:
            ValueError: another number of axes.
        """
        if len(positions) != len(self.starts):
            raise ValueError(f"the domain has {len(self.starts)} axes, got positions on {len(positions)}")
        scaled = [
            (np.asarray(own, dtype=np.float64) - start) / length
            for own, start, length in zip(positions, self.starts, self.lengths, strict=True)
        ]
        return Points(tuple(scaled), self.is_periodic)
