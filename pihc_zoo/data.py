"""Reading trajectories from NPZ and HDF5 files (numpy only)."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .prediction.prediction_file import PARAMETER, PERIOD, REPORT, TEXTS
from .prediction.request import check_field, real_array
from .text import nearest

SAME_START = 0.01  # relative L2 distance of u at t = 0 from u0, beyond which they are not one trajectory


@dataclass
class Trajectories:
    """Initial conditions and, if known, their solutions.

    Attributes:
        u0: (batch, *space) at ``points``, positions by axis name; ``x`` is that of the axis "x".
        u: (batch, time, *space) at times t, or None.
        parameters: (batch,) by symbol.
    """

    u0: np.ndarray
    points: dict[str, np.ndarray]
    t: np.ndarray
    u: np.ndarray | None
    parameters: dict[str, np.ndarray]

    @property
    def x(self) -> np.ndarray:
        """(n,) positions along the axis "x"."""
        return self.points["x"]


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an NPZ or HDF5 file; pickled objects are refused.

    Raises:
        ValueError: missing, foreign, truncated, or with object arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file {str(path)!r}; expected an NPZ or HDF5 file with the key u0")
    if path.suffix in (".h5", ".hdf5"):
        try:
            import h5py
        except ImportError:
            raise ValueError('HDF5 files need h5py: pip install "pihc_zoo[hdf5]"') from None
        try:
            with h5py.File(path) as file:
                return {key: np.asarray(value) for key, value in file.items() if isinstance(value, h5py.Dataset)}
        except OSError as error:
            raise ValueError(f"{str(path)!r} is not a complete HDF5 file ({error})") from None
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError(
                    f"{str(path)!r} is not an NPZ file, or not a complete one; write it with numpy.savez(path, u0=...)"
                )
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {key: arrays[key] for key in arrays.files}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{str(path)!r} is not a complete NPZ file ({error})") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{str(path)!r} holds pickled objects, which are never read; save plain arrays") from None
        raise
    return {key: value for key, value in loaded.items() if isinstance(value, np.ndarray)}


_ALIASES = {"times": "t", "time": "t", "input_x": "x", "initial_condition": "u0", "solution": "u"}


def check_names(arrays: dict[str, Any], problem) -> None:
    """Raises ValueError for a key that nothing reads; what `Prediction.save` writes is known."""
    axes = problem.output_space
    known = ["u0", "t", "u", *axes, *(f"{PARAMETER}{key}" for key in problem.parameters)]
    written = {*known, *REPORT, *TEXTS, *problem.diagnostics, *(f"{PERIOD}{key}" for key in axes)}
    for key in arrays:
        if key.startswith(PARAMETER) and key not in known:
            name = key.removeprefix(PARAMETER)
            raise ValueError(f"no parameter {name!r} (key {key!r}); {nearest(name, problem.parameters)}")
        if key not in written:
            meant = f"{PARAMETER}{key}" if key in problem.parameters else _ALIASES.get(key)
            remedy = f"did you mean {meant!r}?" if meant in known else nearest(key, known)
            raise ValueError(f"unknown key {key!r} in the data; {remedy}")


def read_trajectories(source: str | os.PathLike | dict[str, Any], problem) -> Trajectories:
    """Trajectories of ``problem`` from a file or a mapping.

    Keys: u0 (batch, *space); optionally u (batch, time, *space), positions by axis name, which default to the grid
    that the shape of u0 implies, t, which defaults to the problem's output times, and parameter_<name>. What
    `Prediction.save` writes beside these is passed over.

    Raises:
        ValueError: missing or unknown keys, shapes that do not agree, values that are not real numbers.
    """
    if not isinstance(source, dict | str | os.PathLike):
        raise ValueError(f"data must be a path or a mapping with the key 'u0', got {type(source).__name__}")
    arrays = source if isinstance(source, dict) else read_arrays(source)
    axes = problem.output_space
    if "u0" not in arrays:
        raise ValueError(f"data must have the key 'u0', got {', '.join(sorted(arrays)) or 'nothing'}")
    check_names(arrays, problem)
    u0 = real_array(arrays["u0"], "u0")
    u0 = u0[None] if u0.ndim == len(axes) else u0
    points = check_field(problem, u0, {key: arrays[key] for key in axes if key in arrays}, np.shape(arrays["u0"]))
    t = np.atleast_1d(real_array(arrays.get("t", problem.output_times), "t"))
    u = real_array(arrays["u"], "u") if "u" in arrays else None
    parameters = {}
    for key, value in arrays.items():
        if key.startswith(PARAMETER):
            value = real_array(value, key)
            if value.shape not in ((), (1,), (len(u0),)):
                raise ValueError(f"{key} must be a number or have the shape ({len(u0)},), got {value.shape}")
            parameters[key.removeprefix(PARAMETER)] = np.broadcast_to(value, (len(u0),)).copy()
    return Trajectories(u0, points, t, u, parameters)


def check_solutions(data: Trajectories) -> None:
    """Checks that the solutions are of these initial conditions, at these times.

    Raises:
        ValueError: times that do not increase, another shape, values that are not finite, no time after the start,
            a trajectory of zeros, or one that does not start at its initial condition.
    """
    t, u = data.t, data.u
    if t.ndim != 1 or (np.diff(t) <= 0).any():
        raise ValueError("t must be one row of strictly increasing times; sort t, and u with it")
    if u is None:
        return
    expected = (len(data.u0), len(t), *data.u0.shape[1:])
    if u.shape != expected:
        raise ValueError(f"u must have the shape {expected} of (u0, t, {', '.join(data.points)}), got {u.shape}")
    if t[-1] <= 0:
        raise ValueError("u has no time after the start (t = 0 only): there is nothing to learn from; add later times")
    is_bad = ~np.isfinite(u).reshape(len(u), -1).all(axis=1)
    if is_bad.any():
        raise ValueError(
            f"u has values that are not finite in {is_bad.sum()} of {len(u)} trajectories, the first is "
            f"{np.argmax(is_bad)}; leave those trajectories out"
        )
    size = np.linalg.norm(u.reshape(len(u), -1), axis=1) / np.sqrt(len(t))  # of a snapshot, on average
    if (size == 0).any():
        raise ValueError(f"trajectory {np.argmin(size)} of u is zero at all times: it has no relative error")
    if t[0] == 0:
        start = np.linalg.norm((u[:, 0] - data.u0).reshape(len(u), -1), axis=1)
        distance = start / np.maximum(size, np.linalg.norm(data.u0.reshape(len(u), -1), axis=1))
        far = np.flatnonzero(~(distance <= SAME_START))
        if len(far):
            worst = far[np.argmax(distance[far])]
            raise ValueError(
                f"u does not start at u0: at t = 0 {len(far)} of {len(u)} trajectories differ from u0, trajectory "
                f"{worst} by {100 * distance[worst]:.3g} %; is u in another order or unit, or on another grid?"
            )
