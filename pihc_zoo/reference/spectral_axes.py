"""Spectral axes of the classical solver for several dimensions: cosines, Chebyshev points, trigonometric modes.

Each gives nodes, matrices of values, derivatives and interpolation with a field's walls eliminated, and modes in which
the second derivative is diagonal.

Source: L. N. Trefethen, "Spectral Methods in MATLAB" (2000), chapters 6 and 8; J.-P. Berrut, L. N. Trefethen,
"Barycentric Lagrange interpolation" (2004), doi:10.1137/S0036144502417715.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..grid import INPUT_STENCIL, Axis, FourierAxis
from ..grid.stencils import stencil_matrix
from .walled import closure


@dataclass(frozen=True)
class ChebyshevAxis(Axis):
    """Chebyshev points between two walls, which are the closed ends; derivatives by the polynomial through all."""

    num_nodes: int
    start: float
    stop: float
    stencil: int = 8  # nodes from which a wall without condition is extrapolated

    num_before = 1
    num_after = 1

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        angles = np.pi * np.arange(self.num_nodes + 2) / (self.num_nodes + 1)
        return self.start + (self.stop - self.start) * (1 - np.cos(angles)) / 2

    @cached_property
    def _barycentric(self) -> np.ndarray:
        weights = np.where(np.arange(self.num_nodes + 2) % 2, -1.0, 1.0)
        weights[[0, -1]] /= 2
        return weights

    @cached_property
    def _first(self) -> np.ndarray:
        gaps = np.subtract.outer(self.closed_nodes, self.closed_nodes)
        np.fill_diagonal(gaps, 1.0)
        matrix = np.divide.outer(1 / self._barycentric, 1 / self._barycentric) / gaps
        np.fill_diagonal(matrix, 0.0)
        np.fill_diagonal(matrix, -matrix.sum(axis=1))
        return matrix

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        matrix = np.linalg.matrix_power(self._first, order)
        return matrix[1:-1] if points is None else self.interpolation(np.asarray(points)) @ matrix

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        gaps = np.subtract.outer(np.asarray(points, dtype=np.float64), self.closed_nodes)
        is_node = np.abs(gaps) < 1e-14 * (self.stop - self.start)
        terms = self._barycentric / np.where(is_node, 1.0, gaps)
        matrix = terms / terms.sum(axis=1, keepdims=True)
        matrix[is_node.any(axis=1)] = 0.0
        matrix[is_node] = 1.0
        return matrix


class Along:
    """One axis as one field sees it: everything as matrices on values at the nodes, plus offsets from the walls.

    Attributes:
        nodes: (n,) positions.
        eigenvalues: (n,) of the second derivative with homogeneous walls.
        to_modes, from_modes: (n, n) between values at the nodes and its eigenvectors' coefficients.
    """

    nodes: np.ndarray
    eigenvalues: np.ndarray
    to_modes: np.ndarray
    from_modes: np.ndarray

    def derivative(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, n) matrix and (n,) offset."""
        raise NotImplementedError

    def reading(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m, n) matrix and (m,) offset of the values at ``points``."""
        raise NotImplementedError

    def given_at(self, points: np.ndarray) -> np.ndarray:
        """(n, m) matrix from any values at ``points`` to the nodes."""
        return stencil_matrix(points, self.nodes, 0, INPUT_STENCIL)


class CosineAlong(Along):
    """Cosines between two walls with u_x = 0: exact for the even continuation beyond the walls."""

    def __init__(self, axis: Axis, num_nodes: int):
        self.start, self.length = float(axis.closed_nodes[0]), float(axis.closed_nodes[-1] - axis.closed_nodes[0])
        self.nodes = self.start + self.length * (np.arange(num_nodes) + 0.5) / num_nodes
        self.k = np.pi * np.arange(num_nodes) / self.length
        self.eigenvalues = -(self.k**2)
        self.from_modes = self._cosines(self.nodes)
        self.to_modes = self._analysis(self.nodes)

    def _cosines(self, points: np.ndarray) -> np.ndarray:
        return np.cos(np.outer(np.asarray(points) - self.start, self.k))

    def _analysis(self, nodes: np.ndarray) -> np.ndarray:
        """(n or fewer, nodes) from values at equal cells to cosines."""
        matrix = self._cosines(nodes)[:, : len(nodes)].T * (2 / len(nodes))
        matrix[0] /= 2
        return matrix

    def derivative(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        angle = np.outer(self.nodes - self.start, self.k) + order * np.pi / 2
        return (np.cos(angle) * self.k**order) @ self.to_modes, np.zeros(len(self.nodes))

    def reading(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._cosines(points) @ self.to_modes, np.zeros(len(points))

    def given_at(self, points: np.ndarray) -> np.ndarray:
        count = len(points)
        cells = self.start + self.length * (np.arange(count) + 0.5) / count
        if not np.allclose(points, cells, rtol=0, atol=1e-9 * self.length):
            return super().given_at(points)
        own = self._analysis(cells)
        return self.from_modes[:, : len(own)] @ own


class WalledAlong(Along):
    """Chebyshev points between two walls with any linear conditions."""

    def __init__(self, axis: Axis, num_nodes: int, pair: tuple[Any, Any]):
        self.axis = ChebyshevAxis(num_nodes, float(axis.closed_nodes[0]), float(axis.closed_nodes[-1]))
        self.nodes = self.axis.nodes
        slopes, self.offset = closure(self.axis, pair)
        self.slopes = slopes.toarray()
        values, vectors = np.linalg.eig(self.derivative(2)[0])
        if np.abs(values.imag).max() > 1e-6 * np.abs(values).max():
            raise ValueError("the walls of this axis make its diffusion oscillate; no classical solver has that")
        self.eigenvalues, self.from_modes = values.real, vectors.real
        self.to_modes = np.linalg.solve(self.from_modes, np.eye(num_nodes))

    def _eliminated(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        walls = matrix[:, [0, -1]]
        return matrix[:, 1:-1] + walls @ self.slopes, walls @ self.offset

    def derivative(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        return self._eliminated(self.axis.differentiation(order))

    def reading(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._eliminated(self.axis.interpolation(points))


class PeriodicAlong(Along):
    """A periodic axis beside bounded ones; its Nyquist mode is dropped."""

    def __init__(self, axis: FourierAxis, num_nodes: int):
        self.axis = replace(axis, num_nodes=2 * ((num_nodes + 1) // 2))
        self.nodes = self.axis.nodes
        self.eigenvalues = -(self.axis.wave_numbers**2)
        self.from_modes, self.to_modes = self.axis.modes(self.nodes), self.axis.analysis()

    def derivative(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        return self.axis.differentiation(order), np.zeros(len(self.nodes))

    def reading(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.axis.interpolation(points), np.zeros(len(points))

    def given_at(self, points: np.ndarray) -> np.ndarray:
        return self.axis.gathering(points)
