"""The time axis of a steady problem: one instant, in which nothing changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from .axis import Axis


@dataclass(frozen=True)
class InstantAxis(Axis):
    """One node, at 1; all derivatives are zero, so that the initial values at 0, which nobody has, act on nothing."""

    start: ClassVar[float] = 0.0
    stop: ClassVar[float] = 1.0
    num_nodes: ClassVar[int] = 1
    num_before: ClassVar[int] = 1

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        return np.array([0.0, 1.0])

    @cached_property
    def weights(self) -> np.ndarray:
        return np.ones(1)

    @property
    def coordinates(self) -> np.ndarray:
        return np.ones(1)

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        return np.zeros((1 if points is None else len(points), 2))

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        return np.tile([0.0, 1.0], (len(points), 1))

    def refined(self, factor: float) -> Axis:
        return self
