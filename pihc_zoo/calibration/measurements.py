"""Measurements at scattered points and times: reading and checking."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.table import read_table
from ..prediction.initial_values import check_values
from ..prediction.request import by_axis, check_field, real_array
from ..text import nearest, unit_of

_SLACK = 0.25  # of the range of states that noisy values may leave it by
_UNUSUAL = {"times": "t", "time": "t", "value": "u", "values": "u", "c": "u", "error": "sigma", "std": "sigma"}


@dataclass(frozen=True)
class Experiment:
    """One trajectory and what was measured of it.

    Attributes:
        name: of its file, or its number.
        u0: (*space[, field]) initial condition at ``input_points``; None where it is unknown.
        input_points: positions of u0 by axis name.
        points: (m,) positions of the measurements by axis name.
        t, u: (m,) their times and values.
        sigma: (m,) standard deviations; None where unknown.
        field: (m,) which field of a system was measured, counted from 0.
    """

    name: str
    u0: np.ndarray | None
    input_points: dict[str, np.ndarray]
    points: dict[str, np.ndarray]
    t: np.ndarray
    u: np.ndarray
    sigma: np.ndarray | None
    field: np.ndarray

    def __len__(self) -> int:
        return len(self.u)


def read_experiments(data: Any, problem: Any, is_u0_known: bool, u0: Any = None) -> list[Experiment]:
    """Experiments from a mapping, the path of a CSV file, or a list of these.

    Args:
        data: mappings have the keys t, u, a key per space axis (x, …), all (m,), and optionally sigma ((m,) or a
            number), u0 ((n,) or a number) and input_x (positions of u0); files have columns of these names. Of a
            system, instead of u, a key for each field that was measured; sigma is theirs, or sigma_<field>.
        problem: says what is admissible.
        is_u0_known: False where the initial condition is itself unknown.
        u0: of every experiment that brings none.

    Raises:
        ValueError: what is missing, misnamed, misshapen, not finite or outside the domain.
    """
    parts = list(data) if isinstance(data, list | tuple) else [data]
    if not parts:
        raise ValueError("no measurements: expected a mapping or a file with x, t and u")
    experiments = [
        _experiment(part, problem, is_u0_known, u0, i if len(parts) > 1 else None) for i, part in enumerate(parts)
    ]
    with_sigma = [experiment.sigma is not None for experiment in experiments]
    if any(with_sigma) and not all(with_sigma):
        raise ValueError("some experiments have a sigma and some have not; give it for all of them, or for none")
    return experiments


def _experiment(part: Any, problem: Any, is_u0_known: bool, u0: Any, index: int | None) -> Experiment:
    label, name = "" if index is None else f"experiment {index}: ", str(index or 0)
    if isinstance(part, str | os.PathLike):
        label, name, part = f"{os.fspath(part)}: ", Path(part).stem, read_table(part)
    if not isinstance(part, dict):
        raise ValueError(f"{label}measurements must be a mapping or a path, got {type(part).__name__}")
    try:
        return _checked(name, part, problem, is_u0_known, u0)
    except ValueError as error:
        raise ValueError(f"{label}{error}") from None


def _checked(name: str, part: dict[str, Any], problem: Any, is_u0_known: bool, u0: Any) -> Experiment:
    axes, names = problem.output_space, list(problem.fields) if problem.is_system else ["u"]
    _check_names(part, axes, names)
    measured = [name for name in names if name in part]
    columns = {key: np.atleast_1d(real_array(part[key], key)) for key in (*axes, "t", *measured)}
    first = columns[measured[0]]
    count = len(first)
    for key, values in columns.items():
        if values.shape != (count,) or not count:
            raise ValueError(f"{', '.join(columns)} must be rows of the same length, one number per reading; {key} "
                             f"has the shape {values.shape}, {measured[0]} has {first.shape}")  # fmt: skip
        if not np.isfinite(values).all():
            row = int(np.argmax(~np.isfinite(values)))
            raise ValueError(f"{key} of reading {row} (counted from 0) is {values[row]}; leave that reading out")
    for key, axis in axes.items():
        _check_inside(key, columns[key], axis.start, axis.stop, problem)
    _check_inside("t", columns["t"], 0.0, problem.span, problem)
    sigmas = [_sigma(part.get(f"sigma_{name}", part.get("sigma")), count) for name in measured]
    if any(own is None for own in sigmas) and len(measured) > 1:
        raise ValueError(
            f"sigma is needed where several fields were measured ({', '.join(measured)}), to weigh one against the "
            f"other: give sigma, or {' and '.join(f'sigma_{name}' for name in measured)}"
        )
    for name, own in zip(measured, sigmas, strict=True):
        _check_states(name, columns[name], own, problem)
    own = part.get("u0", u0)
    if not is_u0_known:
        if own is not None:
            raise ValueError("u0 is both given and unknown; leave it out of one of them")
        initial, input_points = None, {}
    else:
        initial, input_points = _initial(own, part.get("input_x"), problem)
    points = {key: np.tile(columns[key], len(measured)) for key in axes}
    return Experiment(
        name,
        initial,
        input_points,
        points,
        np.tile(columns["t"], len(measured)),
        np.concatenate([columns[key] for key in measured]),
        None if sigmas[0] is None else np.concatenate(sigmas),
        np.repeat([names.index(key) for key in measured], count),
    )


def _check_names(part: dict[str, Any], axes: dict[str, Any], fields: list[str]) -> None:
    known = [*axes, "t", *fields, "sigma", "u0", "input_x"]
    known += [f"sigma_{name}" for name in fields] if len(fields) > 1 else []
    extra = [key for key in part if key not in known]
    if len(fields) > 1 and not any(name in part for name in fields):
        raise ValueError(
            f"no column of a field in the measurements: expected one or more of {', '.join(fields)}; it has: "
            f"{', '.join(map(str, part)) or 'nothing'}"
        )
    for key in [*axes, "t", *(fields if len(fields) == 1 else [])]:
        if key not in part:
            alike = [own for own in extra if _UNUSUAL.get(str(own).strip().lower(), str(own).strip().lower()) == key]
            alike = alike or [own for own in extra if nearest(own, [key]).startswith("did you mean")]
            remedy = f"rename {alike[0]!r} to {key!r}" if alike else f"it has: {', '.join(map(str, part)) or 'nothing'}"
            raise ValueError(f"no column {key!r} in the measurements; {remedy}")
    for key in extra:
        meant = _UNUSUAL.get(str(key).strip().lower())
        remedy = f"did you mean {meant!r}?" if meant in known else nearest(key, known)
        raise ValueError(f"unknown column {key!r} in the measurements; {remedy}")


def _check_inside(key: str, values: np.ndarray, low: float, high: float, problem: Any) -> None:
    slack = 1e-9 * (high - low)
    is_outside = (values < low - slack) | (values > high + slack)
    if is_outside.any():
        unit = unit_of(problem.units.get(key, ""))
        raise ValueError(
            f"{key} must lie in [{low:g}, {high:g}]{unit}, got {values[is_outside][0]:g} "
            f"({is_outside.sum()} of {len(values)} readings); leave those out, or convert the unit"
        )


def _sigma(sigma: Any, count: int) -> np.ndarray | None:
    if sigma is None:
        return None
    values = real_array(sigma, "sigma")
    if values.shape not in ((), (1,), (count,)):
        raise ValueError(f"sigma must be a number or one per reading ({count}), got the shape {values.shape}")
    if not (np.isfinite(values) & (values > 0)).all():
        bad = values[~(np.isfinite(values) & (values > 0))].flat[0]
        raise ValueError(f"sigma must be positive, got {bad:g}; leave it out where it is not known")
    return np.broadcast_to(values, (count,)).copy()


def _check_states(name: str, u: np.ndarray, sigma: np.ndarray | None, problem: Any) -> None:
    field = problem.fields[name] if problem.is_system else None
    low, high = problem.state_range if field is None else (field.low, field.high)
    slack = _SLACK * (high - low) + (0.0 if sigma is None else 5 * sigma)
    is_outside = (u < low - slack) | (u > high + slack)
    if is_outside.any():
        unit = unit_of(problem.units.get("u", "") if field is None else field.unit)
        worst = u[is_outside][np.argmax(np.abs(u[is_outside]))]
        raise ValueError(
            f"{name} must lie in the problem's range of states [{low:g}, {high:g}]{unit}, got {worst:g} "
            f"({is_outside.sum()} of {len(u)} readings): are these in another unit? divide by the factor between them"
        )


def _initial(u0: Any, input_x: Any, problem: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(*space[, field]) values and their positions of one initial condition, an array or a number (per field)."""
    axes = problem.output_space
    if u0 is None:
        raise ValueError("no initial condition: give u0, a number or its values at the model's points (or seek it)")
    values = real_array(u0, "u0")
    own = (len(problem.fields),) if problem.is_system else ()
    if values.shape in ((own,) if own else ((), (1,))):
        if any(axis.is_periodic for axis in axes.values()):
            raise ValueError("u0 must be a field here: a constant one does not determine its grid")
        values = np.broadcast_to(values.reshape(own), problem.native_shape).copy()
        input_x = None
    if values.ndim != len(axes) + len(own):
        numbers = f"{own[0]} numbers, one per field ({', '.join(problem.fields)})," if own else "a number"
        raise ValueError(
            f"u0 must be {numbers} or have the axes ({', '.join([*axes, *(['field'] if own else [])])}), got the "
            f"shape {values.shape}"
        )
    points = check_field(problem, values[None], by_axis(input_x, "input_x", problem), values.shape)
    (message,) = check_values(problem, values[None], points=points)
    if message:
        raise ValueError(message)
    return values, points
