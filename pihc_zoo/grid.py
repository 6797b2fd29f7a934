"""Axes and grids (numpy only): where the unknowns live and how they are read between them.

An axis has *nodes*, which carry the unknowns, and *closed nodes*: the nodes plus the boundary
points whose values the conditions give (two walls in space, the initial time in time; none on a
periodic axis). All matrices act on values at closed nodes, so that conditions enter every stencil.
The residual is formed at *collocation points*: the nodes, or more of them where products are
dealiased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.polynomial import legendre

from .config import ConfigError, build, lookup
from .operators.finite_difference import fornberg_weights, stencil_matrix
from .registration import registrar
from .text import nearest

INPUT_STENCIL = 6  # width of the interpolation of initial conditions
_ZOOMED_NODES = 1.5  # nodes of a space axis for a shorter duration, over those for the whole one
MAX_AXIS_NODES = 4096  # matrices along an axis are dense
MAX_GRID_NODES = 2**24


@dataclass(frozen=True)
class Axis:
    """One coordinate of a grid. Subclasses give nodes, weights and matrices."""

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

    def resampling(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """(target, source) matrix from the values of any field at ``source`` to its values at ``target``."""
        return stencil_matrix(source, target, 0, INPUT_STENCIL)

    def gathering(self, points: np.ndarray) -> np.ndarray:
        """(n, p) matrix from the values of any field at ``points`` to what the nodes carry of it."""
        return self.resampling(points, self.nodes)

    def refined(self, factor: float) -> Axis:
        """The same axis with about ``factor`` times the nodes."""
        raise NotImplementedError

    def zoomed(self, factor: float) -> Axis:
        """The axis for a duration ``factor`` times shorter: in time that duration, in space thinner layers."""
        raise ValueError(f"{type(self).__name__} has no form for shorter durations")


@dataclass(frozen=True)
class _BoundedAxis(Axis):
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
class GradedAxis(_BoundedAxis):
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
        num_nodes = round(_ZOOMED_NODES * self.num_nodes)

        def spacing(grading: float, nodes: int) -> float:
            return grading / (nodes * np.sinh(grading) * np.cosh(grading))

        wanted, low, high = spacing(self.grading, self.num_nodes) / factor**0.5, self.grading, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if spacing(middle, num_nodes) > wanted else (low, middle)
        return replace(self, num_nodes=num_nodes, grading=round(low, 3))


@dataclass(frozen=True)
class UniformAxis(_BoundedAxis):
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
class RadauAxis(Axis):
    """Time t = duration · s^power with Radau IIA collocation elements in s.

    Elements have the edges (k/elements)^grading in s; each has ``stages`` nodes, the last at its
    end. The initial time is the one closed node more. Solutions that start like √t are smooth in s
    for power = 2.

    Source: E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", IV.5.
    """

    duration: float
    elements: int = 5
    stages: int = 5
    grading: float = 1.5
    power: float = 2.0

    num_before: ClassVar[int] = 1

    def __post_init__(self):
        if not 1 <= self.stages <= 32:
            raise ValueError(f"a Radau element has 1 to 32 stages, got {self.stages}")

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
        return (np.arange(self.elements + 1) / self.elements) ** self.grading

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
        return replace(self, elements=round(self.elements * factor))

    def zoomed(self, factor: float) -> Axis:
        return replace(self, duration=self.duration / factor, elements=round(_ZOOMED_NODES * self.elements))


@dataclass(frozen=True)
class FourierAxis(Axis):
    """Points x_j = start + j·length/n of a periodic interval; fields are trigonometric polynomials.

    Modes in real form: 1, √2 cos(2πkx/length), √2 sin(2πkx/length) for k ≤ band = n/2 − 1; the
    Nyquist mode is dropped. Products of features are formed on dealiasing·n points: 3/2 keeps
    quadratic ones exact on the resolved modes, 1 is cheaper.

    Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 11.5 (two-thirds rule).
    """

    num_nodes: int
    length: float = 1.0
    start: float = 0.0
    dealiasing: float = 1.5
    smallest: int = 32  # fewest points of a caller's array

    def __post_init__(self):
        if self.num_nodes < 4 or self.num_nodes % 2:
            raise ValueError(f"a Fourier axis needs an even number of at least 4 nodes, got {self.num_nodes}")
        if not 1 <= self.dealiasing <= 4:
            raise ValueError(f"dealiasing must lie in [1, 4], got {self.dealiasing}")

    @property
    def stop(self) -> float:
        return self.start + self.length

    @property
    def is_periodic(self) -> bool:
        return True

    @property
    def band(self) -> int:
        """Highest wave number that the nodes carry, in cycles per length."""
        return self.num_nodes // 2 - 1

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        return self._points(self.num_nodes)

    def _points(self, count: int) -> np.ndarray:
        return self.start + self.length * np.arange(count) / count

    @property
    def coordinates(self) -> np.ndarray:
        return np.arange(self.num_nodes) / self.num_nodes

    @cached_property
    def weights(self) -> np.ndarray:
        return np.full(self.num_nodes, self.length / self.num_nodes)

    @cached_property
    def wave_numbers(self) -> np.ndarray:
        """(m,) angular wave numbers 2πk/length of the real modes: 0, cosines, sines; m = 2·band + 1."""
        k = 2 * np.pi * np.arange(1, self.band + 1) / self.length
        return np.concatenate([[0.0], k, k])

    def modes(self, points: np.ndarray, order: int = 0) -> np.ndarray:
        """(p, m) values or derivatives of the real modes at ``points``."""
        k = self.wave_numbers[1 : self.band + 1]
        angle = np.outer(np.asarray(points, dtype=np.float64) - self.start, k) + order * np.pi / 2
        scale = np.sqrt(2) * k**order
        constant = np.full((len(angle), 1), 0.0 if order else 1.0)
        return np.concatenate([constant, scale * np.cos(angle), scale * np.sin(angle)], axis=1)

    def analysis(self, count: int | None = None) -> np.ndarray:
        """(m, count) matrix from values at ``count`` equally spaced points (default: the nodes) to modes."""
        points = self.nodes if count is None else self._points(count)
        return self.modes(points).T / len(points)

    @cached_property
    def collocation_points(self) -> np.ndarray:
        return self._points(2 * round(self.dealiasing * self.num_nodes / 2))

    @cached_property
    def projection(self) -> np.ndarray | None:
        if len(self.collocation_points) == self.num_nodes:
            return None
        return self.modes(self.nodes) @ self.analysis(len(self.collocation_points))

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        return self.modes(self.nodes if points is None else points, order) @ self.analysis()

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        return self.modes(points) @ self.analysis()

    def resampling(self, source: np.ndarray, target: np.ndarray, band: int | None = None) -> np.ndarray:
        """As `Axis.resampling`, from equally spaced points of the whole period; modes above ``band`` are cut."""
        axis = replace(self, num_nodes=2 * (len(source) // 2), start=float(source[0]))
        if len(source) % 2 or not np.allclose(source, axis.nodes, rtol=0, atol=1e-9 * self.length):
            raise ValueError(
                "values on a periodic axis are read at an even number of equally spaced points of the period"
            )
        band = axis.band if band is None else min(band, axis.band)
        kept = np.r_[0 : band + 1, axis.band + 1 : axis.band + band + 1]
        return axis.modes(target)[:, kept] @ axis.analysis()[kept]

    def gathering(self, points: np.ndarray) -> np.ndarray:
        return self.resampling(points, self.nodes, self.band)

    def sized(self, num_points: int) -> Axis:
        if num_points < self.smallest or num_points % 2:
            raise ValueError(f"expected an even number of at least {self.smallest} points, got {num_points}")
        return replace(self, num_nodes=num_points)

    def refined(self, factor: float) -> Axis:
        return replace(self, num_nodes=2 * round(self.num_nodes * factor / 2))


AXES: dict[str, type[Axis]] = {
    "graded": GradedAxis,
    "uniform": UniformAxis,
    "radau": RadauAxis,
    "fourier": FourierAxis,
}
_Class = TypeVar("_Class", bound=type[Axis])


def register_axis(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_axis("my-axis")``: a decorator that makes a kind of axis known by its name.

    Configurations and model folders may use it then. Entering the same class again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("axis", AXES, name, Axis)


@dataclass(frozen=True)
class Grid:
    """A tensor product of a time axis and named space axes."""

    time: Axis
    space: dict[str, Axis]

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Grid:
        """The grid that a configuration describes: {"time": axis, "space": {name: axis}}.

        Raises:
            ConfigError: unknown names or settings, or more nodes than fit; none has been made then.
        """
        for key in spec:
            if key not in ("time", "space"):
                raise ConfigError(f"grid: unknown setting {key!r}; {nearest(key, ('time', 'space'))}")
        axes, total = {}, 1
        for name, own in {"t": spec["time"], **spec["space"]}.items():
            axis_class, settings = lookup("grid", own, AXES)
            axes[name] = build("grid", axis_class, settings)
            count = axes[name].num_nodes
            if not isinstance(count, int) or not 1 <= count <= MAX_AXIS_NODES:
                raise ConfigError(f"grid: axis {name!r} asks for {count} nodes; expected 1 to {MAX_AXIS_NODES}")
            total *= count
        if total > MAX_GRID_NODES:
            raise ConfigError(f"grid: {total} nodes in all; expected at most {MAX_GRID_NODES}: take fewer per axis")
        return cls(axes.pop("t"), axes)

    @property
    def axes(self) -> dict[str, Axis]:
        """All axes by name, time ("t") first: the order of array dimensions."""
        return {"t": self.time, **self.space}

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, *space): the number of nodes along each axis."""
        return tuple(len(axis.nodes) for axis in self.axes.values())

    @property
    def collocation_shape(self) -> tuple[int, ...]:
        """(time, *space): the number of collocation points along each axis."""
        return tuple(len(axis.collocation_points) for axis in self.axes.values())

    @property
    def weights(self) -> np.ndarray:
        """(time, *space) quadrature weights, normalised to sum 1."""
        product = np.ones(())
        for axis in self.axes.values():
            product = product[..., None] * axis.weights
        return product / product.sum()

    def refined(self, factor: float) -> Grid:
        """The grid with about ``factor`` times the nodes along each axis."""
        return Grid(self.time.refined(factor), {name: axis.refined(factor) for name, axis in self.space.items()})

    @property
    def can_zoom(self) -> bool:
        """Whether every axis has a `zoomed` form."""
        return all(type(axis).zoomed is not Axis.zoomed for axis in self.axes.values())

    def zoomed(self, factor: float) -> Grid:
        """The grid for a duration ``factor`` times shorter, see `Axis.zoomed`."""
        return Grid(self.time.zoomed(factor), {name: axis.zoomed(factor) for name, axis in self.space.items()})
