"""Families of coefficient fields, over any axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Family
from .features import RandomFeatures


def _gaussian(family, points, draws):
    """(count, *points) values of a Gaussian process of unit variance."""
    features = RandomFeatures.drawn(family.num_features, family.shortest, family.longest, points.is_periodic, draws)
    return (2 / family.num_features) ** 0.5 * features([draws.array(own) for own in points])


@dataclass(frozen=True)
class NormalProcess(Family):
    """a = mean + deviation · g, cut to [low, high]; g a Gaussian process of unit variance.

    Args:
        mean, deviation: of a.
        low, high: of a, in its unit.
        shortest, longest: length scale of g, log-uniform between them, in units of each axis' length.
        num_features: see `features.RandomFeatures`.

    Raises:
        ValueError: a range that does not increase.
    """

    mean: float = 0.0
    deviation: float = 0.3
    low: float = -1.0
    high: float = 1.0
    shortest: float = 0.1
    longest: float = 0.5
    num_features: int = 64

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"the range of a field must increase, got {self.low} to {self.high}")

    def fields(self, points, draws):
        return draws.xp.clip(self.mean + self.deviation * _gaussian(self, points, draws), self.low, self.high)


@dataclass(frozen=True)
class LognormalProcess(Family):
    """a = exp(mean + deviation · g), cut to [low, high]; g a Gaussian process of unit variance.

    Args:
        mean, deviation: of log a.
        low, high: of a, in its unit.
        shortest, longest: length scale of g, log-uniform between them, in units of each axis' length.
        num_features: see `features.RandomFeatures`.

    Raises:
        ValueError: a range that does not increase or is not positive.
    """

    mean: float = 0.0
    deviation: float = 1.0
    low: float = 0.05
    high: float = 10.0
    shortest: float = 0.1
    longest: float = 0.5
    num_features: int = 64

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __post_init__(self):
        if not 0 < self.low < self.high:
            raise ValueError(f"the range of a positive field must increase from above 0, got {self.low} to {self.high}")

    def fields(self, points, draws):
        g = _gaussian(self, points, draws)
        return draws.xp.clip(draws.xp.exp(self.mean + self.deviation * g), self.low, self.high)
