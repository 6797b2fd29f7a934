"""Families of coefficient fields, over any axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Family
from .features import RandomFeatures


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
        return draws.xp.clip(self._gaussian(points, draws), self.low, self.high)

    def _gaussian(self, points, draws):
        """(count, *points) values of mean + deviation · g."""
        features = RandomFeatures.drawn(self.num_features, self.shortest, self.longest, points.is_periodic, draws)
        g = (2 / self.num_features) ** 0.5 * features([draws.array(own) for own in points])
        return self.mean + self.deviation * g


@dataclass(frozen=True)
class LognormalProcess(NormalProcess):
    """a = exp(mean + deviation · g), cut to [low, high]; g a Gaussian process of unit variance.

    Args:
        mean, deviation: of log a; the others as of `NormalProcess`.

    Raises:
        ValueError: a range that does not increase or is not positive.
    """

    deviation: float = 1.0
    low: float = 0.05
    high: float = 10.0

    def __post_init__(self):
        if not 0 < self.low < self.high:
            raise ValueError(f"the range of a positive field must increase from above 0, got {self.low} to {self.high}")

    def fields(self, points, draws):
        return draws.xp.clip(draws.xp.exp(self._gaussian(points, draws)), self.low, self.high)
