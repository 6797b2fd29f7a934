"""From a file, arrays or an xarray Dataset to `Trajectories` of a problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..prediction.prediction_file import LATER_TEXTS, PARAMETER, PERIOD, REPORT, TEXTS
from ..prediction.request import check_field, real_array, starts
from ..text import nearest
from .files import read_arrays
from .labelled import from_dataset, is_dataset
from .scattered import read_scattered
from .table import is_table
from .trajectories import Trajectories, order_message, parameters_of

_ALIASES = {"times": "t", "time": "t", "input_x": "x", "initial_condition": "u0", "solution": "u"}


def check_names(arrays: dict[str, Any], problem) -> None:
    """Raises ValueError for a key that nothing reads; what `Prediction.save` writes is known."""
    axes = problem.output_space
    known = ["u0", "t", "u", *axes, *(f"{PARAMETER}{key}" for key in (*problem.parameters, *problem.coefficients))]
    if problem.is_system:
        known += [f"{name}{start}" for name in problem.fields for start in ("", "0")]
    written = {*known, *REPORT, *TEXTS, *LATER_TEXTS, *problem.diagnostics, *(f"{PERIOD}{key}" for key in axes)}
    for key in arrays:
        if key.startswith(PARAMETER) and key not in known:
            name = key.removeprefix(PARAMETER)
            raise ValueError(
                f"no parameter {name!r} (key {key!r}); {nearest(name, (*problem.parameters, *problem.coefficients))}"
            )
        if key not in written:
            meant = f"{PARAMETER}{key}" if key in problem.parameters else _ALIASES.get(key)
            remedy = f"did you mean {meant!r}?" if meant in known else nearest(key, known)
            raise ValueError(f"unknown key {key!r} in the data; {remedy}")


def read_trajectories(source: Any, problem, *, u0: Any = None, count: int | None = None) -> Trajectories:
    """Trajectories of ``problem`` from a file, a mapping or an xarray Dataset.

    Keys: u0 (batch, *space[, field]); optionally u (batch, time, *space[, field]), of a system also an array per field
    by its name and, of initial values, <name>0; positions by axis name, which default to the grid
    that the shape of u0 implies, t, which defaults to the problem's output times, and parameter_<name>. What
    `Prediction.save` writes beside these is passed over. Without u0 it is u at t = 0. Scattered points have u (m,)
    with t, positions and, optionally, trajectory, each (m,); u0 then lies at ``input_x``, by default the native
    grid. Steady problems need no u0, and no time in u. PDEBench's HDF5 files are read as they are.

    Args:
        source: a path, see `read_arrays`, or arrays by name.
        u0: initial conditions of a source that holds none: a number, an array, or an NPZ file with u0.
        count: trajectories to take, the first ones.

    Raises:
        ValueError: missing or unknown keys, shapes that do not agree, values that are not real numbers.
    """
    axes = tuple(problem.output_space)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1):
        raise ValueError(f"count must be an integer of at least 1, got {count!r}")
    if is_dataset(source):
        arrays = from_dataset(source, axes, count, tuple(problem.fields))
    elif isinstance(source, str | os.PathLike):
        arrays = read_arrays(source, axes, count, tuple(problem.fields))
    elif isinstance(source, dict):
        arrays = dict(source)
    else:
        raise ValueError(
            f"data must be a path, a mapping with the key 'u0' or an xarray Dataset, got {type(source).__name__}"
        )
    given = {} if u0 is None else initial_conditions(u0, problem)
    arrays = joined(arrays, problem)
    if is_table(source) or np.ndim(arrays.get("u", 0)) == 1:
        return read_scattered(arrays, problem, given, count)
    if "u0" in arrays and given:
        raise ValueError("u0 is given twice, in the data and beside them; leave one out")
    if given:
        arrays |= {"u0": given["u0"]} | {key: given[f"input_{key}"] for key in axes if f"input_{key}" in given}
    if problem.duration is None:
        arrays = _steady(arrays, problem)
    if "u0" not in arrays and "u" not in arrays:
        meant = [key for key in arrays if nearest(key, ("u0", "u")).startswith("did you mean")]
        remedy = f"; rename {meant[0]!r} to 'u0'" if meant else ""
        raise ValueError(f"data must have the key 'u0', got {', '.join(sorted(arrays)) or 'nothing'}{remedy}")
    check_names(arrays, problem)
    u = real_array(arrays["u"], "u") if "u" in arrays else None
    t = np.atleast_1d(real_array(arrays.get("t", problem.output_times), "t"))
    _check_rank(u, problem, t, arrays)
    if "u0" not in arrays:
        arrays["u0"] = _start(u, t)
    u0 = real_array(arrays["u0"], "u0")
    u0 = u0[None] if u0.ndim == len(axes) + problem.is_system else u0
    positions = {key: _from_zero(arrays[key], key, problem) for key in axes if key in arrays}
    _check_order(u0, positions, problem)
    points = check_field(problem, u0, positions, np.shape(arrays["u0"]))
    parameters = parameters_of(arrays, problem, len(u0))
    if count is not None:
        u0, u = u0[:count], None if u is None else u[:count]
        parameters = {key: value[:count] for key, value in parameters.items()}
    return Trajectories(u0, points, t, u, parameters)


def _steady(arrays: dict[str, Any], problem) -> dict[str, Any]:
    """Arrays of a steady problem, whose u may lack the time, with initial values of zero: it has none."""
    arrays = dict(arrays)
    if "u" in arrays:
        u = real_array(arrays["u"], "u")
        arrays["u"] = u[:, None] if u.ndim == 1 + len(problem.native_shape) else u
    if "u0" not in arrays:
        parameters = {key.removeprefix(PARAMETER): own for key, own in arrays.items() if key.startswith(PARAMETER)}
        arrays["u0"] = starts(problem, None, parameters)
    return arrays


def _check_order(u0: np.ndarray, positions: dict[str, np.ndarray], problem) -> None:
    """Refuses u0 whose axes are in another order than their positions say."""
    axes = tuple(problem.output_space)
    fields = ("field",) if problem.is_system else ()
    if set(positions) != set(axes) or u0.ndim != 1 + len(axes) + len(fields):
        return
    own = (*(len(positions[key]) for key in axes), *([len(problem.fields)] if fields else ()))
    expected = (u0.size // max(1, int(np.prod(own))), *own)
    if u0.shape != expected:
        message = order_message(u0.shape, expected, ("trajectory", *axes, *fields), "u0")
        if message:
            raise ValueError(f"u0 must have the shape {expected}, got {u0.shape}{message}")


def joined(arrays: dict[str, Any], problem) -> dict[str, Any]:
    """Arrays of a system's fields by their names, and <name>0, as one array u, and u0, with a last axis of fields.

    Raises:
        ValueError: some fields are missing, or they differ in shape.
    """
    arrays = dict(arrays)
    for key in ("u", "u0"):
        names = fields_apart(arrays, problem, key)
        if names:
            arrays[key] = np.stack([real_array(arrays.pop(name), name) for name in names], axis=-1)
    return arrays


def fields_apart(arrays: Mapping[str, Any], problem, key: str) -> list[str]:
    """The names under which ``key``, u or u0, of a system's fields lies apart, in their order; none where it does not.

    Raises:
        ValueError: some fields are missing, or they differ in shape.
    """
    names = [f"{name}{key[1:]}" for name in problem.fields]
    found = [name for name in names if name in arrays]
    if not problem.is_system or not found:
        return []
    if found == [key]:  # of a field u alone, or of all
        shape, without = np.shape(arrays[key]), len(problem.output_space) + (2 if key == "u" else 1)
        if len(shape) != without or shape[-1] == len(names):
            return []
    if len(found) < len(names):
        missing = ", ".join(name for name in names if name not in arrays)
        raise ValueError(f"the fields {', '.join(found)} are there, but {missing} is missing; give all of them")
    shapes = {tuple(np.shape(arrays[name])) for name in names}
    if len(shapes) > 1:
        raise ValueError(f"{', '.join(names)} must have one shape, got {', '.join(map(str, sorted(shapes)))}")
    return names


def initial_conditions(u0: Any, problem) -> dict[str, np.ndarray]:
    """``u0`` (batch, *space) and, where a file has them, its positions as input_<axis>, and parameter_<name>.

    Args:
        u0: a number (a constant field), an array, or an NPZ file.

    Raises:
        ValueError: a file without u0, or what is no number.
    """
    axes = problem.output_space
    if isinstance(u0, str | os.PathLike):
        arrays = joined(read_arrays(Path(u0), tuple(axes), fields=tuple(problem.fields)), problem)
        if "u0" not in arrays:
            raise ValueError(f"{str(u0)!r} has no array u0 (it has: {', '.join(sorted(arrays)) or 'none'})")
        parameters = {key: value for key, value in arrays.items() if key.startswith(PARAMETER)}
        return {"u0": arrays["u0"], **{f"input_{key}": arrays[key] for key in axes if key in arrays}, **parameters}
    values = real_array(u0, "u0")
    if values.ndim == 0:
        values = np.full((1, *problem.native_shape), float(values))
    return {"u0": values}


def _check_rank(u: np.ndarray | None, problem, t: np.ndarray, arrays: dict[str, Any]) -> None:
    """Raises ValueError where u alone shows that its axes are in another order."""
    axes = tuple(problem.output_space)
    if u is None or "u0" in arrays:  # what `check_solutions` sees
        return
    sizes = {key: np.size(arrays[key]) for key in axes if key in arrays}
    if problem.is_system:
        sizes["field"] = len(problem.fields)
        axes = (*axes, "field")
    if u.ndim != 2 + len(axes):
        raise ValueError(f"u must have the axes (trajectory, t, {', '.join(axes)}), got the shape {u.shape}")
    if len(sizes) == len(axes):
        for count in u.shape:
            expected = (count, len(t), *sizes.values())
            if u.shape == expected:
                return
            message = order_message(u.shape, expected, ("trajectory", "t", *axes))
            if message:
                raise ValueError(f"u has the shape {u.shape}{message}")


def _start(u: np.ndarray, t: np.ndarray) -> np.ndarray:
    """u at t = 0."""
    if not len(t) or t[0] != 0 or u.shape[1] == 0:
        first = f"begin at t = {t[0]:g}" if len(t) else "have no times"
        raise ValueError(f"data must have the key 'u0': the solutions {first}, and u0 is not known; add u0, or t = 0")
    return u[:, 0]


def _from_zero(points: Any, name: str, problem) -> Any:
    """Positions on a periodic axis counted from the axis' start, where they are a shifted uniform grid.

    Where the equation does not know the coordinate a shift, such as that of cell centres, changes nothing.
    """
    axis = problem.output_space[name]
    if not axis.is_periodic or name in problem.coordinates:
        return points
    points = np.atleast_1d(real_array(points, "positions"))
    spacing = (axis.stop - axis.start) / max(1, len(points))
    offset = points[0] - axis.start if len(points) else 0.0
    is_uniform = len(points) > 1 and np.allclose(np.diff(points), spacing, rtol=0, atol=1e-4 * spacing)
    return axis.start + spacing * np.arange(len(points)) if is_uniform and 0 < offset < spacing else points
