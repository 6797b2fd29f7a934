"""Axes between two walls: graded or uniform nodes, local polynomials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from .axis import ZOOMED_NODES, Axis
from .stencils import stencil_matrix


@dataclass(frozen=True)
class BoundedAxis(Axis):
    """Nodes between two walls; derivatives and values by local polynomials."""

    num_nodes: int
    start: float
    stop: float
    stencil: int = 5
    interpolation_stencil: int = 8

    num_before: ClassVar[int] = 1
    num_after: ClassVar[int] = 1

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        points = self.nodes if points is None else points
        return stencil_matrix(self.closed_nodes, points, order, self.stencil)

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        return stencil_matrix(self.closed_nodes, points, 0, self.interpolation_stencil)

    @cached_property
    def weights(self) -> np.ndarray:
        faces = (self.closed_nodes[1:] + self.closed_nodes[:-1]) / 2
        faces[0], faces[-1] = self.closed_nodes[0], self.closed_nodes[-1]
        return np.diff(faces)

    def refined(self, factor: float) -> Axis:
        return replace(self, num_nodes=round(self.num_nodes * factor))


@dataclass(frozen=True)
class GradedAxis(BoundedAxis):
    """x(ξ) = tanh(grading·ξ)/tanh(grading), ξ uniform in (−1, 1): clustered at both walls.

    The closed ends are the walls at ``start`` and ``stop``. Derivatives of order d are accurate to
    order stencil − d (one more where the nodes are symmetric).
    """

    grading: float = 2.0

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        xi = np.linspace(-1.0, 1.0, self.num_nodes + 2)
        graded = np.tanh(self.grading * xi) / np.tanh(self.grading)
        return self.start + (self.stop - self.start) * (graded + 1) / 2

    @property
    def coordinates(self) -> np.ndarray:
        return np.linspace(0.0, 1.0, self.num_nodes + 2)[1:-1]

    def zoomed(self, factor: float) -> Axis:
        """Spacings at the walls shrink by √factor, as diffusion layers do, those inside grow to at most the same."""
        num_nodes = round(ZOOMED_NODES * self.num_nodes)

        def spacing(grading: float, nodes: int) -> float:
            return grading / (nodes * np.sinh(grading) * np.cosh(grading))

        wanted, low, high = spacing(self.grading, self.num_nodes) / factor**0.5, self.grading, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if spacing(middle, num_nodes) > wanted else (low, middle)
        return replace(self, num_nodes=num_nodes, grading=round(low, 3))


@dataclass(frozen=True)
class UniformAxis(BoundedAxis):
    """Centres of ``num_nodes`` equal cells of [start, stop]; the walls are the ghost centres,

    half a cell outside, as in finite-volume codes such as PDEBench's generators.
    """

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        step = (self.stop - self.start) / self.num_nodes
        return self.start + step * (np.arange(-1, self.num_nodes + 1) + 0.5)

    @property
    def coordinates(self) -> np.ndarray:
        return (np.arange(self.num_nodes) + 0.5) / self.num_nodes

    @cached_property
    def weights(self) -> np.ndarray:
        return np.full(self.num_nodes, (self.stop - self.start) / self.num_nodes)


@dataclass(frozen=True)
class CellAxis(UniformAxis):
    """Centres of ``num_nodes`` equal cells of [start, stop]; the walls are its ends, half a cell away."""

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        step = (self.stop - self.start) / self.num_nodes
        centres = self.start + step * (np.arange(self.num_nodes) + 0.5)
        return np.concatenate([[self.start], centres, [self.stop]])
