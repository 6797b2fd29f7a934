"""Families of a system's fields: one for each, drawn independently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .base import Family


@dataclass(frozen=True)
class FieldFamilies(Family):
    """(count, *points, field) values: each field from a family of its own, independent of the others.

    Args:
        families: by field, in the problem's order of fields.

    Raises:
        ValueError: no field at all.
    """

    families: Mapping[str, Family]

    def __post_init__(self):
        if not self.families:
            raise ValueError("the families of a system's fields must be at least one, got none")

    @property
    def num_axes(self) -> tuple[int, ...]:  # type: ignore[override]
        """For which numbers of axes all of them serve."""
        parts = list(self.families.values())
        return tuple(number for number in parts[0].num_axes if all(number in part.num_axes for part in parts))

    @property
    def is_periodic(self) -> bool:  # type: ignore[override]
        """Whether all fields continue periodically."""
        return all(part.is_periodic for part in self.families.values())

    @property
    def is_vectorised(self) -> bool:
        return all(part.is_vectorised for part in self.families.values())

    def check_axes(self, number):
        for name, part in self.families.items():
            if number not in part.num_axes:
                served = " or ".join(map(str, part.num_axes))
                kind = type(part).__name__
                raise ValueError(
                    f"the family of {name}, {kind}, draws fields on {served} axes, got positions on {number}"
                )

    def draw(self, count, points, rng):
        parts = self.families.values()
        return np.concatenate([np.stack([f.draw(1, points, rng) for f in parts], axis=-1) for _ in range(count)])

    def fields(self, points, draws):
        return draws.xp.stack([part.fields(points, draws) for part in self.families.values()], axis=-1)
