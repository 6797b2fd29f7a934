"""Checks of what a caller hands to ``predict`` (numpy only): the same for every backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..grid import Axis
from ..problems.base import Parameter, Problem
from ..text import nearest, unit_of
from .initial_values import check_coverage

ON_FAILURE = ("warn", "raise", "fallback")
_SINGLE = 1e-6  # relative rounding of values in single precision
LONGEST_ROLL_OUT = 10  # durations of a problem that can continue


@dataclass
class Request:
    """A checked call of ``predict``.

    Attributes:
        values: (batch, *space) initial conditions, float64, at ``input_points``; of a system (batch, *space, field).
        input_points, points: positions of the input and of the output by axis name, in the order of dimensions.
        times: (m,) output times.
        c: parameters, numbers or (batch,) arrays, defaults filled in.
        has_own_times, has_own_points: whether the caller asked for these, in place of the default output.
    """

    values: np.ndarray
    input_points: dict[str, np.ndarray]
    points: dict[str, np.ndarray]
    times: np.ndarray
    c: dict[str, Any]
    has_own_times: bool = False
    has_own_points: bool = False
    num_fields: int = 1

    @property
    def is_default(self) -> bool:
        """Whether the default output is asked for."""
        return not (self.has_own_times or self.has_own_points)

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, *space) of the output, of a system (time, *space, field)."""
        fields = (self.num_fields,) if self.num_fields > 1 else ()
        return (len(self.times), *(len(points) for points in self.points.values()), *fields)

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """`shape` as fields are inside: (time, [field], *space)."""
        times, *space = self.shape
        return (times, *space) if self.num_fields == 1 else (times, self.num_fields, *space[:-1])


def check_request(
    problem: Problem,
    parameter_inputs: tuple[str, ...],
    u0: Any,
    x: Any = None,
    times: Any = None,
    parameters: dict[str, Any] | None = None,
    input_x: Any = None,
    on_failure: str = "warn",
) -> Request:
    """Checks shapes, positions, times and parameters of a call; see `Surrogate.predict`.

    Args:
        u0: (batch, *space) or (*space,) initial conditions; of a steady problem None.
        x, input_x: positions of the output and of u0: an array where there is one axis, else a dict by axis name.
            Default: of u0 the grid that its shape implies, of the output the same on periodic axes and the
            problem's own nodes on bounded ones.

    Raises:
        ValueError: what was expected, what came, what to do.
    """
    if on_failure not in ON_FAILURE:
        raise ValueError(f"on_failure must be 'warn', 'raise' or 'fallback', not {on_failure!r}")
    axes = problem.output_space
    values = real_array(starts(problem, u0, parameters), "u0")
    if values.ndim == len(axes) + problem.is_system:
        values = values[None]
    if values.ndim and len(values) == 0:
        raise ValueError("u0 has no trajectories; expected at least one")
    asked = by_axis(input_x, "input_x", problem)
    input_points = check_field(problem, values, asked, values.shape if u0 is None else np.shape(u0))
    points = check_outputs(problem, x, input_points)
    has_own_times = times is not None and not np.array_equal(times, problem.output_times)
    times = check_times(problem, times)
    c = check_parameters(problem, parameter_inputs, parameters, len(values))
    default = check_outputs(problem, None, input_points)
    has_own_points = any(not np.array_equal(points[name], default[name]) for name in default)
    return Request(values, input_points, points, times, c, has_own_times, has_own_points, len(problem.fields))


def starts(problem: Problem, u0: Any, parameters: Any) -> Any:
    """u0 as it is; where a steady problem is given none zeros, as many as its parameters have trajectories."""
    if u0 is not None or problem.duration is not None:
        return u0
    return np.zeros((problem.batch_of(parameters or {}) or 1, *problem.native_shape))


def check_outputs(problem: Problem, x: Any, input_points: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output positions by axis name, see `check_request`; where ``x`` has none, u0's or the problem's own."""
    outputs, points = by_axis(x, "x", problem), {}
    for name, axis in problem.output_space.items():
        if name in outputs:
            points[name] = check_positions(outputs[name], name if isinstance(x, dict) else "x", axis)
        else:
            points[name] = input_points[name] if axis.is_periodic else axis.nodes
    return points


def real_array(value: Any, name: str) -> np.ndarray:
    """A float64 array of a tensor, an array or numbers.

    Raises:
        ValueError: it is complex, or holds no numbers.
    """
    try:
        array = np.asarray(to_numpy(value))
    except (TypeError, ValueError) as error:  # a ragged list; a type that numpy has not
        raise ValueError(f"{name} must be an array of real numbers ({error})") from None
    if array.dtype.kind not in "fiub":
        remedy = "; pass its real part" if array.dtype.kind == "c" else ""
        raise ValueError(f"{name} must be real numbers, got the type {array.dtype}{remedy}")
    return array.astype(np.float64, copy=False)


def by_axis(positions: Any, name: str, problem: Problem) -> dict[str, Any]:
    """Positions by axis name: a dict as it is, an array as that of the only axis, None as {}.

    Raises:
        ValueError: an axis that the problem has not, or an array where there are several.
    """
    axes = problem.output_space
    if positions is None:
        return {}
    if isinstance(positions, dict):
        for key in positions:
            if key not in axes:
                raise ValueError(f"{name}: no axis {key!r}; {nearest(key, axes)}")
        return positions
    if len(axes) > 1:
        example = ", ".join(f"{key!r}: ..." for key in axes)
        raise ValueError(f"{name} must be a dict with the positions along each axis, {{{example}}}")
    return dict.fromkeys(axes, positions)


def check_field(
    problem: Problem, values: np.ndarray, positions: dict[str, Any], shape: tuple[int, ...] | None = None
) -> dict[str, np.ndarray]:
    """The positions of the values of initial conditions (batch, *space), by axis name.

    Args:
        positions: by axis name, where the caller gave them.
        shape: what the caller passed, for the message; default the values' own.

    Raises:
        ValueError: a wrong number of dimensions or of points, or fields that are not square on a periodic problem.
    """
    axes = problem.output_space
    shape = values.shape if shape is None else tuple(shape)
    points = {}
    for name, axis in axes.items():
        label = "input_x" if len(axes) == 1 else f"input_x[{name!r}]"
        if name in positions:
            points[name] = check_positions(positions[name], label, axis)
            if not axis.is_periodic:
                check_coverage(points[name], label, axis)
        elif not axis.is_periodic:
            points[name] = axis.nodes
    expected = ", ".join(str(len(points[name])) if name in points else f"n_{name}" for name in axes)
    if problem.is_system:
        expected += f", {len(problem.fields)}"
        if values.ndim == 2 + len(axes) and values.shape[-1] != len(problem.fields):
            names = ", ".join(problem.fields)
            raise ValueError(f"u0 must end in an axis of the {len(problem.fields)} fields {names}, got {shape}")
    if values.ndim != 1 + len(axes) + problem.is_system:
        raise ValueError(f"u0 must have the shape (batch, {expected}) or ({expected}), got {shape}")
    sized = {}
    for (name, axis), num_points in zip(axes.items(), values.shape[1 : 1 + len(axes)], strict=True):
        if name in points and len(points[name]) != num_points:
            raise ValueError(
                f"u0 must have the shape (batch, {expected}), one value per point of input_x; got {shape}; "
                "pass your own points as input_x of predict"
            )
        if axis.is_periodic:
            try:
                sized[name] = axis.sized(num_points)
            except ValueError as error:
                raise ValueError(f"u0 has the shape {shape}; along {name}: {error}; resample the fields") from None
            points[name] = _periodic_points(points.get(name), name, sized[name])
    densities = {axis.closed_nodes.size / (axis.stop - axis.start) for axis in sized.values()}
    if len(sized) > 1 and max(densities) > (1 + 1e-9) * min(densities):
        numbers = [round(max(densities) * (axis.stop - axis.start)) for axis in sized.values()]
        raise ValueError(
            f"non-square fields: u0 has {' x '.join(map(str, values.shape[1:]))} points; expected equally many per "
            f"unit length along {' and '.join(sized)}; resample to {' x '.join(map(str, numbers))}"
        )
    return {name: points[name] for name in axes}


def _periodic_points(points: np.ndarray | None, name: str, axis: Axis) -> np.ndarray:
    """The axis' own nodes, if given positions are these to single precision."""
    nodes, length = axis.nodes, axis.stop - axis.start
    if points is not None and not np.allclose(points, nodes, rtol=0, atol=1e-6 * length):
        raise ValueError(
            f"initial conditions on the periodic axis {name} live on {len(nodes)} equally spaced points "
            f"{axis.start:g}, {nodes[1]:g}, …, {nodes[-1]:g} (without {axis.stop:g}), "
            f"got {points[0]:g} … {points[-1]:g}; resample to these"
        )
    return nodes


def check_positions(points: Any, name: str, axis: Axis) -> np.ndarray:
    """(n,) strictly increasing positions inside the axis, its ghost points included."""
    points = np.atleast_1d(real_array(points, name))
    low, high = (axis.start, axis.stop) if axis.is_periodic else (axis.closed_nodes[0], axis.closed_nodes[-1])
    is_inside = points.ndim == 1 and points.size and np.isfinite(points).all()
    if not is_inside or points.min() < low or points.max() > high:
        raise ValueError(f"{name} must be finite positions in [{axis.start:g}, {axis.stop:g}]")
    if (np.diff(points) <= 0).any():
        raise ValueError(f"{name} must be strictly increasing")
    return points


def check_times(problem: Problem, times: Any) -> np.ndarray:
    """(m,) output times in [0, duration], or [0, 10 durations] if the problem continues; its own when None."""
    if times is None:
        return problem.output_times
    times = np.atleast_1d(real_array(times, "times"))
    if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all():
        raise ValueError("times must be a non-empty list of finite numbers")
    if problem.duration is None and not np.array_equal(times, problem.output_times):
        raise ValueError("a steady problem has no times; leave them out")
    last = problem.span * (LONGEST_ROLL_OUT if problem.can_continue else 1)
    if times.min() < 0 or times.max() > last:
        bad = times.min() if times.min() < 0 else times.max()
        why = f" ({LONGEST_ROLL_OUT} trained durations)" if problem.can_continue else ""
        raise ValueError(
            f"times must lie in [0, {last:g}]{unit_of(problem.units.get('t', 'dimensionless'))}{why}, got {bad:g}"
        )
    return times


def parameter_range(problem: Problem, parameter_inputs: tuple[str, ...], key: str) -> tuple[float, float]:
    """Lowest and highest value of a parameter in this model; both the default where it is no input."""
    if key in problem.coefficients:
        return problem.coefficients[key].low, problem.coefficients[key].high
    declared = problem.parameters[key]
    return (declared.low, declared.high) if key in parameter_inputs else (declared.default, declared.default)


def check_parameters(
    problem: Problem, parameter_inputs: tuple[str, ...], parameters: dict[str, Any] | None, batch: int
) -> dict[str, Any]:
    """All parameters as numbers or (batch,) arrays; only ``parameter_inputs`` may differ from the defaults.

    Coefficient fields are (batch, *space) on the problem's native grid, series (batch, time) at its output times;
    given without batch or as a number, they are the same for all trajectories. Values beyond a bound by no more than
    single precision rounds are the bound.
    """
    if parameters is not None and not isinstance(parameters, Mapping):
        declared = problem.coefficients | problem.parameters
        example = next(iter((*parameter_inputs, *declared)))
        raise ValueError(
            f"parameters must be a dict such as {{{example!r}: {declared[example].default:g}}}, "
            f"got {type(parameters).__name__}"
        )
    c = dict(problem.defaults())
    for key, value in (parameters or {}).items():
        if key in problem.coefficients:
            c[key] = _check_coefficient(problem, key, value, batch)
            continue
        if key not in problem.parameters:
            raise ValueError(f"no parameter {key!r}; {nearest(key, (*problem.parameters, *problem.coefficients))}")
        unit = unit_of(problem.parameters[key].unit)
        value = real_array(value, f"parameter {key}")
        if value.ndim and value.shape != (batch,):
            raise ValueError(f"parameter {key} must be a number or have the shape ({batch},), got {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"parameter {key} must be finite, got {value[~np.isfinite(value)].flat[0]}")
        low, high = parameter_range(problem, parameter_inputs, key)
        is_low, is_high = value < low - _SINGLE * abs(low), value > high + _SINGLE * abs(high)
        if is_low.any() or is_high.any():
            bad = value[is_low | is_high].flat[0]
            if key in parameter_inputs:
                raise ValueError(f"parameter {key} must lie in [{low:g}, {high:g}]{unit}, got {bad:g}")
            raise ValueError(
                f"parameter {key} is fixed at {low:g}{unit} in this model, got {bad:g}; "
                "choose a model that takes it as input (pihc list)"
            )
        if key in parameter_inputs:
            value = value.clip(low, high)
            c[key] = float(value) if value.ndim == 0 else value
    for key in problem.coefficients:
        if key not in c:
            what, where = _kind(problem.coefficients[key])
            raise ValueError(f"the {what} {key!r} is missing; give its values {where} among the parameters")
    if parameter_inputs and any(np.ndim(value) for value in c.values()):
        c = {k: np.broadcast_to(v, (batch,)).copy() if k in parameter_inputs else v for k, v in c.items()}
    return c


def _kind(declared: Parameter) -> tuple[str, str]:
    """What one of `Problem.coefficients` is called, and where its values lie."""
    return ("series", "at the output times") if declared.is_series else ("coefficient field", "over space")


def _check_coefficient(problem: Problem, key: str, value: Any, batch: int) -> np.ndarray:
    """(batch, *space) values of a coefficient field, (batch, time) of a series."""
    declared, native = problem.coefficients[key], problem.coefficient_shape(key)
    kind, where = _kind(declared)
    what, num_own, expected = f"{kind} {key}", len(native), ", ".join(map(str, native))
    value = real_array(value, what)
    if value.ndim == 0:
        value = np.full(native, float(value))
    if value.ndim not in (num_own, num_own + 1) or value.shape[: value.ndim - num_own] not in ((), (batch,)):
        raise ValueError(
            f"{what} must be a number or have the shape ({expected}) or ({batch}, {expected}), got {value.shape}"
        )
    if declared.is_series:
        if value.shape[-1:] != native:
            raise ValueError(f"{what} has the shape {value.shape}; it needs {native[0]} values, {where}")
    else:
        for count, (name, axis) in zip(value.shape[-num_own:], problem.output_space.items(), strict=True):
            try:
                axis.sized(count)
            except ValueError as error:
                raise ValueError(f"{what} has the shape {value.shape}; along {name}: {error}") from None
    if not np.isfinite(value).all():
        raise ValueError(f"{what} must be finite, got {value[~np.isfinite(value)].flat[0]}")
    is_bad = (value < declared.low - _SINGLE * abs(declared.low)) | (
        value > declared.high + _SINGLE * abs(declared.high)
    )
    if is_bad.any():
        bad, unit = value[is_bad].flat[0], unit_of(declared.unit)
        raise ValueError(
            f"{what} must lie in [{declared.low:g}, {declared.high:g}]{unit}"
            f"{' and so be positive' if declared.low > 0 >= bad else ''}, got {bad:g}"
        )
    return np.broadcast_to(value.clip(declared.low, declared.high), (batch, *value.shape[-num_own:]))
