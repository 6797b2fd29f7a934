"""What a partial differential equation tells the rest of the package.

A problem is linear *features* of the unknown, a *pointwise* residual of them, conditions on the
walls, and named parameters. It knows no grid, no network and no solver. Methods use only operators
that numpy arrays and torch tensors share, so that one formula serves reference solvers, training
and export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import ConfigError
from ..grid import Axis
from ..text import unit_of

if TYPE_CHECKING:
    from ..parameters import Parameters

_SLACK = 1e-6  # of a field's range, by which an initial condition may leave it
_LARGEST_MEAN = 1e-6  # of the root mean square, where the inverse Laplacian is taken


@dataclass(frozen=True)
class Parameter:
    """A physical parameter: its literature symbol is its key.

    Attributes:
        default: value when none is given.
        low, high: range in which a surrogate may take it as input; both inclusive.
        unit: physical unit, or "dimensionless".
        description: one line.
        is_logarithmic: sampled and normalised on a logarithmic scale.
        physical: open interval outside of which a value means nothing.
        normalised_over: range that `normalised` maps to [−1, 1], where it is not [low, high]: a model that was
            moved to another range goes on seeing the numbers that it was trained on.
        is_series: of `Problem.coefficients`: a series over time in place of a field over space.
    """

    default: float
    low: float
    high: float
    unit: str
    description: str
    is_logarithmic: bool = False
    physical: tuple[float, float] = (-np.inf, np.inf)
    normalised_over: tuple[float, float] | None = None
    is_series: bool = False

    @property
    def extent(self) -> str:
        """What one of `Problem.coefficients` is, in words."""
        return "a series over time" if self.is_series else "a field over space"

    def normalised(self, value: Any) -> Any:
        """``value`` mapped from [low, high] to [−1, 1], logarithmically if so declared."""
        low, high = self.normalised_over or (self.low, self.high)
        if self.is_logarithmic:
            centre = (low * high) ** 0.5
            return (value / centre).log() / float(np.log(high / centre))
        return (2 * value - low - high) / (high - low)

    def mean(self, field: Any) -> Any:
        """(batch,) mean of tensors (batch, *space) or (batch, time): geometric where all values are positive."""
        flat = field.flatten(1)
        return flat.log().mean(dim=1).exp() if self.low > 0 else flat.mean(dim=1)


@dataclass(frozen=True)
class Variable:
    """A field that a problem solves for.

    Attributes:
        low, high: range of its values.
        unit: physical unit, or "dimensionless".
        description: one line.
        scale: typical deviation of initial fields from their mean; None: nothing is known of it.
    """

    low: float
    high: float
    unit: str = "dimensionless"
    description: str = ""
    scale: float | None = None


@dataclass(frozen=True, init=False)
class Derivative:
    """A linear feature ∂^orders Δ^laplacian of a field: ``Derivative("u", x=1, t=1)`` is u_xt, ``Derivative("u")`` u.

    A negative power of the Laplacian Δ (over all space axes) is its inverse on fields of zero mean,
    a non-local feature; periodic axes only.
    """

    field: str
    orders: dict[str, int]
    laplacian: int = 0

    def __init__(self, field: str, *, laplacian: int = 0, **orders: int):
        for name, value in {"field": field, "orders": orders, "laplacian": laplacian}.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class WallCondition:
    """value·u(wall) + slope·u_x(at) = target, at one wall.

    Attributes:
        value, slope, target: numbers or (batch,) arrays; the target also (batch, time).
        at: where the slope is taken; the wall itself when None.
    """

    value: Any
    slope: Any
    target: Any
    at: float | None = None


class Problem:
    """Base of all problems; see `pihc_zoo.problems.diffusion_sorption` for a complete one.

    A problem of several ``fields`` is a system: its residual is a tuple, one equation per field in their order, and so
    is what `linearised` returns; `walls` gives conditions by axis and field. What is declared is the class's, or an
    instance's own: other ranges of its parameters (`problems.constants`), or all of it (`problems.equation`).
    """

    name: str
    title: str
    equation: str  # LaTeX
    text: tuple[str, ...] = ()  # the same as plain text, a line each, where a user wrote it
    wall_text: tuple[str, ...] = ()  # likewise the conditions at the walls
    fields: dict[str, Variable]
    units: dict[str, str]  # of the coordinates; those of the fields are added
    features: dict[str, Derivative]
    diagnostics: dict[str, tuple[float, Derivative]] = {}  # further outputs: factor × feature
    parameters: dict[str, Parameter]
    coefficients: dict[str, Parameter] = {}  # inputs that are fields over space or series over time, by name
    coefficient_features: dict[str, Derivative] = {}  # likewise derivatives of them, such as a_x
    coefficient_families: dict[str, dict[str, Any]] = {}  # settings of what draws them, `families.coefficient_family`
    duration: float | None  # None: steady, without initial values; its only output time is 1
    output_space: dict[str, Axis]
    output_times: np.ndarray
    default_axis: str = "x"
    coordinates: tuple[str, ...] = ()  # names of axes, "t" among them, that the residual itself depends on
    conserves_mean: bool = False  # the space average is constant in time
    is_defined_on_cells: bool = False  # its truth is the scheme on its output cells: a published generator's
    can_continue: bool = False  # whether an end state may start again: autonomous, no layers at t = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "fields" in vars(cls):
            cls.units = {**units_of(cls.fields), **getattr(cls, "units", {})}

    @property
    def field(self) -> str:
        """Name of the first field."""
        return next(iter(self.fields))

    @property
    def span(self) -> float:
        """The duration; of a steady problem 1, at whose end its only instant is."""
        return 1.0 if self.duration is None else self.duration

    @property
    def is_system(self) -> bool:
        """Whether there are several fields."""
        return len(self.fields) > 1

    def by_equation(self, found: Any) -> list[Any]:
        """What `residual`, `at_rest` or `linearised` returned, as a list: a part per equation, be it one or several."""
        return list(found) if self.is_system else [found]

    def coefficient_shape(self, key: str) -> tuple[int, ...]:
        """Of one trajectory's coefficient field, on the native grid; of a series, at the output times."""
        if self.coefficients[key].is_series:
            return (len(self.output_times),)
        return self._native_sizes

    @property
    def _native_sizes(self) -> tuple[int, ...]:
        return tuple(len(axis.nodes) for axis in self.output_space.values())

    @property
    def native_shape(self) -> tuple[int, ...]:
        """(*space[, field]) of one initial condition on the problem's own grid."""
        return (*self._native_sizes, len(self.fields)) if self.is_system else self._native_sizes

    def native_points(self, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Positions by axis of a caller's values (*space) on the native grid; periodic axes are of their ``sizes``.

        Raises:
            ValueError: sizes that no native grid has.
        """
        axes = self.output_space.items()
        return {name: axis.sized(size).nodes for (name, axis), size in zip(axes, sizes, strict=True)}

    def batch_of(self, parameters: Mapping[str, Any]) -> int:
        """Of how many trajectories values (batch, …) by symbol are; 0 where none has a batch."""
        own = {key: len(self.coefficient_shape(key)) for key in self.coefficients}
        shapes = {key: np.shape(value) for key, value in parameters.items()}
        return max((shape[0] for key, shape in shapes.items() if len(shape) > own.get(key, 0)), default=0)

    @property
    def coefficient_fields(self) -> tuple[str, ...]:
        """The coefficients that are fields over space."""
        return tuple(key for key, own in self.coefficients.items() if not own.is_series)

    @property
    def series(self) -> tuple[str, ...]:
        """The coefficients that are series: linear between the output times, in `residual` and as targets at walls."""
        return tuple(key for key, own in self.coefficients.items() if own.is_series)

    @property
    def state_range(self) -> tuple[float, float]:
        """Lowest and highest value of any field."""
        return min(own.low for own in self.fields.values()), max(own.high for own in self.fields.values())

    def trained_ranges(self, trust: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Lowest and highest initial value by field that a model is for: its ``trust`` settings', or the field's own.

        Raises:
            ConfigError: ranges of other fields.
        """
        own = {name: (field.low, field.high) for name, field in self.fields.items()}
        known = trust.get("state_range")
        if known is None:
            return own
        known = known if isinstance(known, Mapping) else {self.field: known}
        if list(known) != list(own):
            names = ", ".join(own)
            raise ConfigError(
                f"trust: state_range is one range for each of {names} in this order, not {', '.join(known)}"
            )
        return {name: (float(low), float(high)) for name, (low, high) in known.items()}

    def trained_on(self, u0: np.ndarray, widened: Callable[[str, np.ndarray], list[float]]) -> Any:
        """The setting that `trained_ranges` reads.

        Args:
            u0: (..., *space[, field]) initial values.
            widened: a field's name and its values ↦ its range.
        """
        if not self.is_system:
            return widened(self.field, u0)
        return {name: widened(name, u0[..., i]) for i, name in enumerate(self.fields)}

    @property
    def zero_mean_fields(self) -> frozenset[str]:
        """Fields whose space average is zero at all times: those of both signs whose inverse Laplacian is a feature."""
        inverted = {feature.field for feature in self.features.values() if feature.laplacian < 0}
        return frozenset(name for name in inverted if self.fields[name].low < 0 < self.fields[name].high)

    def residual(self, f: dict[str, Any], c: dict[str, Any], at: dict[str, Any]) -> Any:
        """Pointwise residual of the features ``f`` under the parameters ``c``.

        ``at`` holds the coordinates of the points that `coordinates` names, and there the values of coefficient fields
        and series and of their `coefficient_features`; ``c`` holds one number for each of these, its mean, as
        `linearised` takes it.
        """
        raise NotImplementedError

    def at_rest(self, f: dict[str, Any], c: dict[str, Any], at: dict[str, Any]) -> Any:
        """The residual where nothing changes in time; ``f`` without time derivatives."""
        still = {name: 0.0 for name, feature in self.features.items() if "t" in feature.orders}
        return self.residual({**f, **still}, c, at)

    def storage(self, f: dict[str, Any], c: dict[str, Any]) -> Any:
        """m, pointwise in the fields ``f`` (no derivatives), where the residual's time term is ∂m/∂t; else None.

        Then the time axis differentiates m itself, m′(u) u_t not being formed: what is stored is conserved over
        every step, and fronts at which m′ jumps keep their speed.
        """
        return None

    @property
    def is_conservative(self) -> bool:
        """Whether the problem has a `storage`."""
        return type(self).storage is not Problem.storage

    def moving_frame(self, u0: Any) -> tuple[dict[str, Any], Any] | None:
        """A frame in which the problem is the same: its velocities by axis, and what u is less there, each (batch,).

        Surrogates solve in it. None: there is none.
        """
        return None

    @property
    def has_moving_frame(self) -> bool:
        """Whether the problem has a `moving_frame`."""
        return type(self).moving_frame is not Problem.moving_frame

    def walls(self, c: dict[str, Any]) -> dict[str, tuple[WallCondition, WallCondition]]:
        """The conditions at the two walls of each bounded axis.

        Where the problem has `series`, ``c`` holds their values (batch, time) and numbers as (batch or 1, 1); a target
        may be linear in them.
        """
        return {}

    def linearised(self, c: dict[str, Any]) -> dict[str, Any]:
        """Constant coefficients, numbers or like ``c``, of features whose sum resembles the residual: A."""
        raise NotImplementedError

    def layer_width(self, t: Any, c: dict[str, Any]) -> Any:
        """Width of the layers that grow from the walls until time ``t``; bounded axes only."""
        raise NotImplementedError

    def network_inputs(self, lift: Any, c: dict[str, Any]) -> list[Any]:
        """Further input channels of O(1), made of the lift."""
        return []

    def reference_solvers(self) -> dict[str, Callable[[np.ndarray, dict[str, Any]], np.ndarray]]:
        """Classical solvers of one's own by name, measured beside the package's; "truth" takes the place of its truth.

        Each maps u0 (batch, *space[, field]) on the output grid and parameters, numbers or (batch,) by symbol, to
        (batch, time, *space[, field]) at the output times.
        """
        return {}

    def initial_factor(self, c: dict[str, Any]) -> Any:
        """What drawn initial fields are multiplied by, (batch,) or a number; None: nothing."""
        return None

    def check_initial_condition(self, u0: np.ndarray) -> list[str | None]:
        """Per trajectory: None, or what is wrong with it in one line; by default a value outside its field's range."""
        found: list[str | None] = []
        for values in np.asarray(u0):
            parts = np.moveaxis(values, -1, 0) if self.is_system else values[None]
            faults = (self._fault(name, part) for name, part in zip(self.fields, parts, strict=True))
            found.append(next((fault for fault in faults if fault), None))
        return found

    def _fault(self, name: str, values: np.ndarray) -> str | None:
        """What is wrong with the initial values of one field."""
        own, low, high = self.fields[name], values.min(), values.max()
        slack, unit = _SLACK * (own.high - own.low), unit_of(own.unit)
        for value, word, is_beyond in (
            (low, "falls to", low < own.low - slack),
            (high, "reaches", high > own.high + slack),
        ):
            if is_beyond:
                limits = f"it must lie from {own.low:g} to {own.high:g}{unit}"
                return f"initial condition: {name} {word} {value:.3g}{unit}; {limits}"
        if name in self.zero_mean_fields and abs(values.mean()) > _LARGEST_MEAN * np.sqrt(np.mean(values**2)):
            mean = f"{values.mean():.3g}{unit}"
            return f"initial condition: {name} has the mean {mean}; its inverse Laplacian needs none: subtract it"
        return None

    def as_tensors(self, values: dict[str, Any]) -> Parameters:
        """All parameters as float64 torch tensors, defaults where ``values`` has none.

        Coefficient fields, (batch, *space) on the native grid, and series (batch, time), or a number for a uniform one,
        are its ``fields``; by their names it has their means, geometric for positive ones.
        """
        from ..parameters import Parameters

        fields = {key: values[key] for key in self.coefficients if np.ndim(values.get(key)) > 1}
        uniform = {key: own.default for key, own in self.coefficients.items() if key not in fields}
        numbers = {key: value for key, value in values.items() if key not in fields}
        c = Parameters({**self.defaults(), **uniform, **numbers}, fields)
        return c.with_means({key: self.coefficients[key].mean(own) for key, own in c.fields.items()})

    def defaults(self) -> dict[str, float]:
        """Every parameter's default value."""
        return {key: parameter.default for key, parameter in self.parameters.items()}

    def typical(self) -> dict[str, float]:
        """Likewise, and for each coefficient field and series one value."""
        return {key: own.default for key, own in (self.coefficients | self.parameters).items()}


def units_of(fields: dict[str, Variable]) -> dict[str, str]:
    """Units by field, those of the first one as "u" too: an answer's values are called so."""
    first = next(iter(fields.values()))
    return {"u": first.unit, **{name: own.unit for name, own in fields.items()}}
