"""The time axis: Radau IIA collocation elements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.polynomial import legendre

from .axis import ZOOMED_NODES, Axis
from .stencils import fornberg_weights


@dataclass(frozen=True)
class RadauAxis(Axis):
    """Time t = duration · s^power with Radau IIA collocation elements in s.

    Elements have the edges (k/elements)^grading in s; each has ``stages`` nodes, the last at its
    end. The initial time is the one closed node more. Solutions that start like √t are smooth in s
    for power = 2. With ``repeat`` it is groups of so many equal elements whose edges lie so; for power = 1
    the elements of a group share what is inverted of A.

    Source: E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", IV.5.
    """

    duration: float
    elements: int = 5
    stages: int = 5
    grading: float = 1.5
    power: float = 2.0
    repeat: int = 1

    num_before: ClassVar[int] = 1

    def __post_init__(self):
        if not 1 <= self.stages <= 32:
            raise ValueError(f"a Radau element has 1 to 32 stages, got {self.stages}")
        if self.repeat < 1 or self.elements % self.repeat:
            raise ValueError(f"repeat must divide the number of elements, {self.elements}, got {self.repeat}")

    @property
    def num_nodes(self) -> int:
        """The number of nodes."""
        return self.elements * self.stages

    @property
    def start(self) -> float:
        return 0.0

    @property
    def stop(self) -> float:
        return self.duration

    @property
    def block_size(self) -> int:
        return self.stages

    @cached_property
    def edges(self) -> np.ndarray:
        """(elements + 1,) element edges in s."""
        groups = self.elements // self.repeat
        of_groups = (np.arange(groups + 1) / groups) ** self.grading
        return np.interp(np.arange(self.elements + 1) / self.repeat, np.arange(groups + 1), of_groups)

    @cached_property
    def stage_positions(self) -> np.ndarray:
        """(stages,) Radau points in (0, 1], the zeros of P_stages − P_(stages−1)."""
        polynomial = np.zeros(self.stages + 1)
        polynomial[-1], polynomial[-2] = 1.0, -1.0
        return (np.sort(legendre.legroots(polynomial)) + 1) / 2

    @cached_property
    def closed_coordinates(self) -> np.ndarray:
        """(n + 1,) positions in s, the initial time first."""
        sizes = np.diff(self.edges)
        inner = self.edges[:-1, None] + sizes[:, None] * self.stage_positions
        return np.concatenate([[0.0], inner.ravel()])

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        return self.duration * self.closed_coordinates**self.power

    @property
    def coordinates(self) -> np.ndarray:
        return self.closed_coordinates[1:]

    @property
    def row_scale(self) -> np.ndarray:
        return self.duration * self.power * self.coordinates ** (self.power - 1)

    @cached_property
    def weights(self) -> np.ndarray:
        moments = 1 / np.arange(1, self.stages + 1)
        stage_weights = np.linalg.solve(np.vander(self.stage_positions, increasing=True).T, moments)
        return np.outer(np.diff(self.edges), stage_weights).ravel() * self.row_scale

    def _collocation(self, points: np.ndarray, order: int) -> np.ndarray:
        matrix = np.zeros((len(points), len(self.closed_coordinates)))
        for row, point in enumerate(points):
            element = int(np.clip(np.searchsorted(self.edges, point - 1e-12) - 1, 0, self.elements - 1))
            columns = slice(element * self.stages, (element + 1) * self.stages + 1)
            matrix[row, columns] = fornberg_weights(point, self.closed_coordinates[columns], order)
        return matrix

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        """d/dt = (ds/dt) d/ds at the nodes (order 1 only, points > 0)."""
        if order != 1:
            raise ValueError(f"a Radau axis gives the first derivative only, not order {order}")
        s = self.coordinates if points is None else (np.asarray(points) / self.duration) ** (1 / self.power)
        speed = self.duration * self.power * s ** (self.power - 1)
        return self._collocation(s, 1) / speed[:, None]

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        return self._collocation((np.asarray(points, dtype=np.float64) / self.duration) ** (1 / self.power), 0)

    def refined(self, factor: float) -> Axis:
        if self.repeat == 1:
            return replace(self, elements=round(self.elements * factor))
        repeat = round(self.repeat * factor)
        return replace(self, elements=self.elements // self.repeat * repeat, repeat=repeat)

    def zoomed(self, factor: float) -> Axis:
        return replace(self.refined(ZOOMED_NODES), duration=self.duration / factor)
