"""Checks of what a caller hands to ``predict`` (numpy only): the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .grid import Axis
from .prediction import to_numpy
from .problems.base import Problem
from .zoo.config import nearest

ON_FAILURE = ("warn", "raise", "fallback")


@dataclass
class Request:
    """A checked call of ``predict``.

    Attributes:
        values: (batch, n) initial conditions, float64, at ``input_x`` (n,).
        x, times: output positions and times.
        c: parameters, numbers or (batch,) arrays, defaults filled in.
    """

    values: np.ndarray
    input_x: np.ndarray
    x: np.ndarray
    times: np.ndarray
    c: dict[str, Any]


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

    Raises:
        ValueError: what was expected, what came, what to do.
    """
    if on_failure not in ON_FAILURE:
        raise ValueError(f"on_failure must be 'warn', 'raise' or 'fallback', not {on_failure!r}")
    values = np.asarray(to_numpy(u0), dtype=np.float64)
    (axis,) = problem.output_space.values()
    input_x = axis.nodes if input_x is None else check_positions(input_x, "input_x", axis)
    x = axis.nodes if x is None else check_positions(x, "x", axis)
    times = check_times(problem, times)
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or values.shape[1] != len(input_x):
        raise ValueError(
            f"u0 must have the shape (batch, {len(input_x)}), one value per point of input_x; got {tuple(np.shape(u0))}"
            + ("; pass your own points as input_x" if values.ndim == 2 else "")
        )
    if len(values) == 0:
        raise ValueError("u0 has no trajectories; expected at least one")
    return Request(values, input_x, x, times, check_parameters(problem, parameter_inputs, parameters, len(values)))


def check_positions(points: Any, name: str, axis: Axis) -> np.ndarray:
    """(n,) strictly increasing positions inside the axis, its ghost points included."""
    points = np.atleast_1d(np.asarray(to_numpy(points), dtype=np.float64))
    low, high = axis.closed_nodes[0], axis.closed_nodes[-1]
    if points.ndim != 1 or not np.isfinite(points).all() or points.min() < low or points.max() > high:
        raise ValueError(f"{name} must be finite positions in [{axis.start:g}, {axis.stop:g}]")
    if (np.diff(points) <= 0).any():
        raise ValueError(f"{name} must be strictly increasing")
    return points


def check_times(problem: Problem, times: Any) -> np.ndarray:
    """(m,) output times in [0, duration]; the problem's own when None."""
    if times is None:
        return problem.output_times
    times = np.atleast_1d(np.asarray(to_numpy(times), dtype=np.float64))
    duration = problem.duration
    if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all():
        raise ValueError("times must be a non-empty list of finite numbers")
    if times.min() < 0 or times.max() > duration:
        bad = times.min() if times.min() < 0 else times.max()
        raise ValueError(f"times must lie in [0, {duration:g}] {problem.units['t']}, got {bad:g}")
    return times


def check_parameters(
    problem: Problem, parameter_inputs: tuple[str, ...], parameters: dict[str, Any] | None, batch: int
) -> dict[str, Any]:
    """All parameters as numbers or (batch,) arrays; only ``parameter_inputs`` may differ from the defaults."""
    c = dict(problem.defaults())
    for key, value in (parameters or {}).items():
        if key not in problem.parameters:
            raise ValueError(f"no parameter {key!r}; {nearest(key, problem.parameters)}")
        declared = problem.parameters[key]
        value = np.asarray(to_numpy(value), dtype=np.float64)
        if value.ndim and value.shape != (batch,):
            raise ValueError(f"parameter {key} must be a number or have the shape ({batch},), got {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"parameter {key} must be finite, got {value[~np.isfinite(value)].flat[0]}")
        is_input = key in parameter_inputs
        low, high = (declared.low, declared.high) if is_input else (declared.default, declared.default)
        slack = 1e-12 * abs(high)
        if value.min() < low - slack or value.max() > high + slack:
            bad = value.min() if value.min() < low - slack else value.max()
            if is_input:
                raise ValueError(f"parameter {key} must lie in [{low:g}, {high:g}] {declared.unit}, got {bad:g}")
            raise ValueError(
                f"parameter {key} is fixed at {low:g} {declared.unit} in this model, got {bad:g}; "
                "choose a model that takes it as input (pihc list)"
            )
        if is_input:
            c[key] = float(value) if value.ndim == 0 else value
    if parameter_inputs and any(np.ndim(value) for value in c.values()):
        c = {k: np.broadcast_to(v, (batch,)).copy() if k in parameter_inputs else v for k, v in c.items()}
    return c


def check_values(problem: Problem, values: np.ndarray, on_failure: str = "warn") -> list[str | None]:
    """Per trajectory: None, or what is wrong with its initial condition.

    Raises:
        ValueError: a bad trajectory, with on_failure="raise".
    """
    is_finite = np.isfinite(values).all(axis=1)
    messages = problem.check_initial_condition(np.where(is_finite[:, None], values, 0.0))
    for i in np.flatnonzero(~is_finite):
        count = int((~np.isfinite(values[i])).sum())
        messages[i] = f"initial condition has {count} values that are not finite; remove or interpolate them"
    if on_failure == "raise":
        for i, message in enumerate(messages):
            if message:
                raise ValueError(f"trajectory {i}: {message}")
    return messages
