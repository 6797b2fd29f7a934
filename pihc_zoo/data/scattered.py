"""Scattered points of solutions: columns t, positions and u, with the initial conditions given or at t = 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..prediction.prediction_file import PARAMETER
from ..prediction.request import check_field, real_array, starts
from ..text import nearest, unit_of
from .trajectories import Scattered, Trajectories, parameters_of

_INPUT = "input_"


def read_scattered(arrays: dict[str, Any], problem, given: dict[str, Any], count: int | None) -> Trajectories:
    """Trajectories of which single values are known.

    Args:
        arrays: t, u and a position per axis, each (m,); trajectory (m,) where there are several; u0 (batch, *space)
            at input_<axis>; parameter_<name>, a number or one per trajectory, or per point; of a field or a series one
            (*own) or one per trajectory. A steady problem needs no t, and no u0.
        given: u0 and its positions from elsewhere.
        count: trajectories to take, the first ones.

    Raises:
        ValueError: missing or misnamed columns, lengths that differ, positions and times outside the domain, no
            initial conditions.
    """
    if problem.is_system:
        raise ValueError(
            f"scattered points have one field, {problem.name} has {', '.join(problem.fields)}; give solutions on a "
            "grid, u (trajectory, t, space, field)"
        )
    axes = problem.output_space
    arrays = _named(dict(arrays), axes)
    columns = ("t", "u", *axes)
    optional = ("trajectory", "u0", *(f"{_INPUT}{key}" for key in axes))
    known = [*columns, *optional, *(f"{PARAMETER}{key}" for key in (*problem.parameters, *problem.coefficients))]
    if problem.duration is None and "u" in arrays:
        arrays = {"t": np.full(np.shape(arrays["u"]), problem.span), **arrays}
        given = {"u0": starts(problem, None, None), **given}
    for key in arrays:
        if key not in known:
            name = f"{PARAMETER}{key}" if key in problem.parameters else ""
            raise ValueError(f"unknown column {key!r}; {f'did you mean {name!r}?' if name else nearest(key, known)}")
    missing = [key for key in columns if key not in arrays]
    if missing:
        raise ValueError(
            f"scattered points need the columns {', '.join(columns)}; missing: {', '.join(missing)} (found: "
            f"{', '.join(sorted(arrays))})"
        )
    values = {key: np.atleast_1d(real_array(arrays[key], key)) for key in columns}
    size = len(values["u"])
    for key, value in values.items():
        if value.shape != (size,):
            raise ValueError(f"{key} must have the shape ({size},) of u, got {value.shape}")
    _check_inside(values, problem)
    labels = np.atleast_1d(np.asarray(arrays.get("trajectory", np.zeros(size))))
    if labels.shape != (size,):
        raise ValueError(f"trajectory must have the shape ({size},) of u, got {labels.shape}")
    names, rows = np.unique(labels, return_inverse=True)
    if "u0" in arrays and given:
        raise ValueError("u0 is given twice, in the data and beside them; leave one out")
    own = {key: arrays[key] for key in arrays if key == "u0" or key.startswith(_INPUT)}
    own = given or own or _from_start(values, rows, len(names), problem)
    u0, points = _initial(own, problem, len(names))
    own = {key: value for key, value in {**arrays, **given}.items() if key.startswith(PARAMETER)}
    for key in own:
        if key in arrays and key.removeprefix(PARAMETER) in problem.parameters:
            own[key] = _per_trajectory(real_array(own[key], key), key, rows, names)
    parameters = parameters_of(own, problem, len(names))
    keep = (values["t"] > 0) & (rows < (len(names) if count is None else count))
    if not keep.any():
        raise ValueError("no point lies after the start (t > 0): there is nothing to learn from; add later times")
    taken = slice(None, count)
    scattered = Scattered(rows[keep], values["t"][keep], {key: values[key][keep] for key in axes}, values["u"][keep])
    parameters = {key: value[taken] for key, value in parameters.items()}
    return Trajectories(u0[taken], points, np.unique(scattered.t), None, parameters, scattered)


def _named(arrays: dict[str, Any], axes: Any) -> dict[str, Any]:
    """``input_x`` may be a dict by axis."""
    if isinstance(arrays.get("input_x"), dict):
        arrays |= {f"{_INPUT}{key}": value for key, value in arrays.pop("input_x").items()}
    return arrays


def _check_inside(values: dict[str, np.ndarray], problem) -> None:
    limits = {key: (axis.start, axis.stop) for key, axis in problem.output_space.items()}
    for key, (low, high) in {"t": (0.0, problem.span), **limits}.items():
        is_outside = ~((values[key] >= low) & (values[key] <= high))
        if is_outside.any():
            first = int(np.argmax(is_outside))
            raise ValueError(
                f"{is_outside.sum()} of {len(is_outside)} points lie outside {key} in [{low:g}, {high:g}]"
                f"{unit_of(problem.units[key])}, the first is point {first} at {key} = {values[key][first]:g}; "
                "check the unit"
            )
    low, high = problem.state_range
    slack = 0.5 * (high - low)
    is_far = ~((values["u"] >= low - slack) & (values["u"] <= high + slack))
    if is_far.any():
        first = int(np.argmax(is_far))
        raise ValueError(
            f"{is_far.sum()} of {len(is_far)} values are far outside [{low:g}, {high:g}]{unit_of(problem.units['u'])}, "
            f"the first is u = {values['u'][first]:g} of point {first}; check the unit"
        )


def _from_start(values: dict[str, np.ndarray], rows: np.ndarray, count: int, problem) -> dict[str, Any]:
    """The initial conditions from points at t = 0, on one axis, at the same positions in every trajectory."""
    axes = list(problem.output_space)
    remedy = "give u0: a number, or an NPZ file with u0 (--u0 on the command line)"
    if len(axes) > 1:
        raise ValueError(f"the initial conditions are not known; {remedy}")
    (axis,) = axes
    fields, positions = [], None
    for i in range(count):
        chosen = np.flatnonzero((rows == i) & (values["t"] == 0))
        chosen = chosen[np.argsort(values[axis][chosen])]
        if not len(chosen) or (positions is not None and not np.array_equal(values[axis][chosen], positions)):
            what = "has no point at t = 0" if not len(chosen) else "starts at other positions than the first"
            raise ValueError(f"the initial conditions are not known: trajectory {i} {what}; {remedy}")
        positions = values[axis][chosen]
        fields.append(values["u"][chosen])
    return {"u0": np.stack(fields), f"{_INPUT}{axis}": positions}


def _initial(own: dict[str, Any], problem, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    axes = problem.output_space
    u0 = real_array(own["u0"], "u0")
    if u0.ndim == 0:
        u0 = np.full(problem.native_shape, float(u0))
    shape = u0.shape
    u0 = u0[None] if u0.ndim == len(axes) else u0
    if len(u0) == 1 and count > 1:
        u0 = np.repeat(u0, count, axis=0)  # the same start, other parameters
    positions = {key: own[f"{_INPUT}{key}"] for key in axes if f"{_INPUT}{key}" in own}
    points = check_field(problem, u0, positions, shape)
    if len(u0) != count:
        raise ValueError(f"there are {count} trajectories of points, but {len(u0)} initial conditions; give one each")
    return u0, points


def _per_trajectory(value: np.ndarray, key: str, rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """(trajectory,) of a number, of one value per trajectory or per point."""
    if value.shape in ((), (1,), (len(names),)):
        return np.broadcast_to(value, (len(names),)).copy()
    if value.shape != rows.shape:
        raise ValueError(f"{key} must be a number, one per trajectory ({len(names)}) or per point, got {value.shape}")
    first = np.array([value[rows == i][0] for i in range(len(names))])
    if not np.array_equal(first[rows], value):
        raise ValueError(f"{key} changes within a trajectory; a parameter is constant in each")
    return first
