"""What callers of classical solvers give: initial values of one or several fields, numbers, fields and series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..grid import Axis
from ..text import nearest
from .equations import coefficient_names


def layout(problem, u0: Any) -> tuple[np.ndarray, bool]:
    """u0 (batch, *space[, field]) or (*space[, field]) ↦ (batch, field, *space), and whether it is one trajectory.

    Raises:
        ValueError: another shape.
    """
    given = np.ascontiguousarray(u0, dtype=np.float64)
    names = [*problem.output_space, *(["field"] if problem.is_system else [])]
    is_single = given.ndim == len(names)
    values = given[None] if is_single else given
    if values.ndim != len(names) + 1:
        raise ValueError(f"u0 must have the shape (batch, {', '.join(names)}), got {given.shape}")
    if not problem.is_system:
        return values[:, None], is_single
    if values.shape[-1] != len(problem.fields):
        raise ValueError(
            f"the last axis of u0 must hold the {len(problem.fields)} fields {', '.join(problem.fields)}, "
            f"got the shape {given.shape}"
        )
    return np.moveaxis(values, -1, 1), is_single


def split_inputs(problem, parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers by symbol; coefficient fields (batch or 1, *space) and series (batch or 1, time) by name.

    Raises:
        ValueError: a name that is neither.
    """
    fields, names, derived = {}, coefficient_names(problem), problem.coefficient_features
    for key in problem.coefficients:
        if key not in parameters:
            raise ValueError(f"the coefficient field or series {key!r} is missing; give its values")
        own, is_series = np.asarray(parameters[key], dtype=np.float64), key in problem.series
        dims = ["time"] if is_series else list(problem.output_space)
        is_fit = own.ndim in (len(dims), len(dims) + 1)
        if not is_fit or (is_series and own.shape[-1] != len(problem.output_times)):
            raise ValueError(f"{key!r} must have the shape ({', '.join(dims)}), got {own.shape}")
        fields[key] = own if own.ndim > len(dims) else own[None]
    fields |= {key: _derivative(problem, fields[own.field], own.orders) for key, own in derived.items()}
    numbers = {key: value for key, value in parameters.items() if key not in names}
    for key in numbers:
        if key not in problem.parameters:
            raise ValueError(f"no parameter {key!r}; {nearest(key, problem.parameters)}")
    return numbers, fields


def _derivative(problem, values: np.ndarray, orders: dict[str, int]) -> np.ndarray:
    """A derivative of coefficient fields (batch or 1, *space) on the native grid."""
    for dim, (name, axis) in enumerate(problem.output_space.items(), start=1):
        if orders.get(name):
            own = axis.sized(values.shape[dim])
            matrix = own.resampling(own.nodes, own.nodes, order=orders[name])
            values = np.moveaxis(np.moveaxis(values, dim, -1) @ matrix.T, -1, dim)
    return values


def on_axes(space: dict[str, Axis], fields: dict[str, np.ndarray], native: dict[str, Axis] | None = None) -> dict:
    """Coefficient fields (batch or 1, *space) on equally many points as the native axes ↦ at collocation points."""
    found = {}
    for name, values in fields.items():
        for dim, (key, axis) in enumerate(space.items(), start=1):
            own = (native or space)[key].sized(values.shape[dim])
            matrix = own.resampling(own.nodes, axis.collocation_points)
            values = np.moveaxis(np.moveaxis(values, dim, -1) @ matrix.T, -1, dim)
        found[name] = values
    return found


def rows_of(problem, parameters: dict[str, Any] | None, count: int) -> list[dict[str, Any]]:
    """The inputs of each of ``count`` trajectories: numbers by symbol, fields (*space) and series (time) by name."""
    numbers, fields = split_inputs(problem, parameters or {})
    own = {key: np.broadcast_to(np.asarray(value, dtype=np.float64), count) for key, value in numbers.items()}
    return [
        {**problem.defaults(), **{key: float(value[i]) for key, value in own.items()}}
        | {key: value[i if len(value) > 1 else 0] for key, value in fields.items()}
        for i in range(count)
    ]


def over_time(problem, inputs: dict[Any, np.ndarray]) -> Callable[[float], dict[Any, Any]]:
    """Time ↦ the values of what is given at the output times, (…, time), linear between them, by name."""
    times = problem.output_times
    if not inputs:
        return lambda t: {}

    def at(t: float) -> dict[str, Any]:
        k = int(np.clip(np.searchsorted(times, t) - 1, 0, len(times) - 2))
        share = float(np.clip((t - times[k]) / (times[k + 1] - times[k]), 0.0, 1.0))
        return {key: (1 - share) * own[..., k] + share * own[..., k + 1] for key, own in inputs.items()}

    return at


def refuse_series(problem, solver: str) -> None:
    """Raises a ValueError where a problem has series."""
    if problem.series:
        raise ValueError(
            f"{solver} takes no series over time, and {problem.name} has {', '.join(problem.series)}; "
            "give the problem a solver of its own, Problem.reference_solvers"
        )
