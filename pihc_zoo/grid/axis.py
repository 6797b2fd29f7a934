"""What an axis is: nodes, quadrature weights, and matrices that read and differentiate values along it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .stencils import stencil_matrix

INPUT_STENCIL = 6  # width of the interpolation of initial conditions
ZOOMED_NODES = 1.5  # nodes of an axis for a shorter duration, over those for the whole one


@dataclass(frozen=True)
class Axis:
    """One coordinate of a grid. Subclasses give nodes, weights and matrices."""

    if TYPE_CHECKING:  # fields or properties of subclasses, in their own order

        @property
        def start(self) -> float:
            """Where it begins, in the axis' physical unit."""
            ...

        @property
        def stop(self) -> float:
            """Where it ends."""
            ...

        @property
        def num_nodes(self) -> int:
            """The number of nodes."""
            ...

    num_before: ClassVar[int] = 0  # closed nodes before the first node
    num_after: ClassVar[int] = 0  # closed nodes after the last node

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        """(n + boundary,) increasing positions, in the axis' physical unit."""
        raise NotImplementedError

    @property
    def nodes(self) -> np.ndarray:
        """(n,) positions of the unknowns."""
        return self.closed_nodes[self.num_before : len(self.closed_nodes) - self.num_after]

    @cached_property
    def weights(self) -> np.ndarray:
        """(n,) quadrature weights of the nodes, in the axis' physical unit."""
        raise NotImplementedError

    @property
    def coordinates(self) -> np.ndarray:
        """(n,) computational coordinates in [0, 1] in which the nodes are (nearly) uniform."""
        raise NotImplementedError

    @property
    def row_scale(self) -> np.ndarray:
        """(n,) natural scale of a residual row: d(position)/d(computational coordinate) in time."""
        return np.ones(len(self.nodes))

    @property
    def collocation_points(self) -> np.ndarray:
        """(c,) positions at which features and the residual are formed."""
        return self.nodes

    @property
    def projection(self) -> np.ndarray | None:
        """(n, c) matrix from values at collocation points to nodes; None where they are the same."""
        return None

    @property
    def is_periodic(self) -> bool:
        """Whether the axis closes on itself."""
        return False

    def sized(self, num_points: int) -> Axis:
        """The axis of the same kind on which a caller's array of ``num_points`` lives.

        Raises:
            ValueError: an array of this length does not fit.
        """
        if num_points != len(self.nodes):
            raise ValueError(f"expected {len(self.nodes)} points, got {num_points}")
        return self

    @property
    def block_size(self) -> int:
        """Nodes that are coupled both ways: derivative matrices are lower triangular in such blocks."""
        return len(self.nodes)

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        """(m, closed) matrix of the derivative at ``points`` (default: the nodes)."""
        raise NotImplementedError

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        """(m, closed) matrix of the values at ``points``."""
        raise NotImplementedError

    def resampling(self, source: np.ndarray, target: np.ndarray, *, order: int = 0) -> np.ndarray:
        """(target, source) matrix from the values of any field at ``source`` to its values at ``target``.

        Args:
            order: of a derivative that is read in place of the values.
        """
        return stencil_matrix(source, target, order, INPUT_STENCIL + order)

    def gathering(self, points: np.ndarray) -> np.ndarray:
        """(n, p) matrix from the values of any field at ``points`` to what the nodes carry of it."""
        return self.resampling(points, self.nodes)

    def refined(self, factor: float) -> Axis:
        """The same axis with about ``factor`` times the nodes."""
        raise NotImplementedError

    def zoomed(self, factor: float) -> Axis:
        """The axis for a duration ``factor`` times shorter: in time that duration, in space thinner layers."""
        raise ValueError(f"{type(self).__name__} has no form for shorter durations")
