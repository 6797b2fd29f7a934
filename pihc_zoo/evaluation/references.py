"""Converged solutions of unseen initial conditions, and errors against them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..families import Family
from ..files import atomic_path, save_npz
from ..progress import progress
from ..reference import TRUTH_NODES, in_passes, truth_solver
from ..sampling import draw

LEAST_SCALE = 1e-2  # of a trajectory's root mean square: what has decayed below is not divided by
_LARGE = 2**24  # values; larger solutions are stored in float32, uncompressed


@dataclass
class ReferenceSet:
    """Initial conditions (batch, *space), parameters and their converged solutions; of a system, fields come last.

    Attributes:
        u0: (batch, *space) at the native grid's points.
        parameters: (batch,) values of each parameter that the model takes as input.
        u: (batch, time, *space) at the points of u0.
        left_out: draws that were not solved and are not among these: which, and why.
    """

    u0: np.ndarray
    parameters: dict[str, np.ndarray]
    u: np.ndarray
    left_out: tuple[str, ...] = ()
    is_system: bool = False

    def __len__(self) -> int:
        return len(self.u0)

    def take(self, rows: Any) -> ReferenceSet:
        """The trajectories ``rows``: a slice or indices, which may repeat."""
        own = {key: value[rows] for key, value in self.parameters.items()}
        return replace(self, u0=self.u0[rows], parameters=own, u=self.u[rows])

    def cycled(self, count: int) -> ReferenceSet:
        """The first ``count`` trajectories, from the beginning again where there are fewer."""
        return self.take(np.arange(count) % len(self))

    def pieces(self, size: int) -> Iterator[ReferenceSet]:
        """The trajectories, at most ``size`` at a time."""
        return (self.take(slice(first, first + size)) for first in range(0, len(self), size))

    def resampled(self, num_points: int) -> ReferenceSet:
        """The same fields on ``num_points`` points per axis, all periodic: exact for fields without Nyquist modes."""
        num_axes = self.u0.ndim - 1 - self.is_system
        u0, u = (np.moveaxis(own, -1, 1) if self.is_system else own for own in (self.u0, self.u))
        u0, u = (_resampled(own, num_points, num_axes) for own in (u0, u))
        u0, u = (np.moveaxis(own, 1, -1) if self.is_system else own for own in (u0, u))
        return replace(self, u0=u0, u=u)

    def predict(self, model, **options: Any) -> Any:
        """The model's `Prediction` for these initial conditions, failures without a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return model.predict(self.u0, parameters=self.parameters, **options)

    def errors_of(self, prediction: Any) -> np.ndarray:
        """(batch,) relative L2 errors of a prediction for these initial conditions."""
        return relative_error(to_numpy(prediction.u), self.u)

    def errors(self, model, **options: Any) -> np.ndarray:
        """(batch,) relative L2 errors of a model's predictions; NaN where it failed."""
        return self.errors_of(self.predict(model, **options))


def _resampled(values: np.ndarray, num_points: int, num_axes: int) -> np.ndarray:
    """Periodic fields (..., *space) on another number of equally spaced points per axis."""
    for axis in range(-num_axes, 0):
        count = values.shape[axis]
        if num_points == count:
            continue
        if count % num_points == 0:
            every = [slice(None)] * values.ndim
            every[axis] = slice(None, None, count // num_points)
            values = values[tuple(every)]
        else:
            modes = np.fft.rfft(values, axis=axis)
            kept = [slice(None)] * values.ndim
            kept[axis] = slice(0, (min(count, num_points) - 1) // 2 + 1)
            values = np.fft.irfft(modes[tuple(kept)], n=num_points, axis=axis) * (num_points / count)
    return values


def relative_error(u: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(batch,) ‖u − truth‖ / ‖truth‖ over all times and points."""
    difference, scale = (np.asarray(a, dtype=np.float64).reshape(len(a), -1) for a in (u - truth, truth))
    return np.linalg.norm(difference, axis=1) / np.linalg.norm(scale, axis=1)


def end_error(u: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(batch,) errors at the last time, relative as `relative_at` is."""
    squares = [np.square(a, dtype=np.float64).reshape(*a.shape[:2], -1).mean(axis=2) for a in (u - truth, truth)]
    return relative_at(*squares)[:, -1]


def relative_at(error: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(batch, time) relative errors at each time from the mean squares of error and truth.

    They are relative to the truth then, or to 1 % of its root mean square over all times where it has
    decayed to less: rounding divided by nothing says nothing.
    """
    floor = LEAST_SCALE**2 * scale.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.sqrt(error / np.maximum(scale, floor))


def reference_set(
    problem,
    family: Family,
    inputs: Iterable[str],
    count: int,
    seed: int,
    cache: Path | None = None,
    num_points: int | None = None,
    fixed: dict[str, float] | None = None,
    quiet: bool = False,
) -> ReferenceSet:
    """Draws ``count`` initial conditions, and parameters ``inputs``, and solves them to convergence.

    Args:
        problem: the equation.
        family: where initial conditions come from.
        inputs: symbols of the parameters to draw from their declared ranges.
        count, seed: how many, and which; the draws are none of training's.
        num_points: points per periodic axis of u0 and of the answer; default the problem's own.
        cache: an NPZ that is read if it holds these very draws, and written otherwise; large solutions
            are in float32, that is to 6e-8, with or without it.
        fixed: values of some of the parameters ``inputs``, in place of drawn ones.
        quiet: show no progress.

    Draws that the classical solver gives up on are named in a warning and left out.

    Raises:
        RuntimeError: no draw was solved.
    """
    u0, parameters = draw(problem, family, inputs, count, seed, num_points)
    parameters |= {key: np.full(count, float(value)) for key, value in (fixed or {}).items()}
    drawn, stored = _named(u0, parameters), _read_cache(cache)
    if _holds(stored, u0, parameters):
        return _solved(ReferenceSet(u0, parameters, stored["u"], is_system=problem.is_system), stored.get("reasons"))
    dtype = np.float32 if u0.size * len(problem.output_times) > _LARGE else np.float64
    u, reasons = _solutions(truth_solver(problem), u0, parameters, dtype, quiet)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        if dtype is np.float32:
            with atomic_path(cache) as temporary, open(temporary, "wb") as file:
                np.savez(file, **drawn, u=u, reasons=reasons)
        else:
            save_npz(cache, {**drawn, "u": u, "reasons": reasons})
    return _solved(ReferenceSet(u0, parameters, u, is_system=problem.is_system), reasons)


def _solutions(
    solve: Any, u0: np.ndarray, parameters: dict[str, np.ndarray], dtype: Any, quiet: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(batch, time, *space), NaN where there is no end, and why there is none."""
    size, parts, reasons = solve.pass_size, [], []
    passes = range(0, len(u0), size)
    for first in progress(passes, "references", total=len(passes), quiet=quiet, leave=False):
        rows = slice(first, first + size)
        own = {key: value[rows] for key, value in parameters.items()}
        reason = "the solver did not reach the end"
        try:
            (part,) = in_passes(solve, u0[rows], own)
        except RuntimeError as error:
            part, reason = None, str(error)
        parts.append(None if part is None else part.astype(dtype, copy=False))
        reasons += [reason] * len(u0[rows])
    found = [part for part in parts if part is not None]
    if not found:
        raise RuntimeError(f"no reference could be solved: {reasons[0]}")
    empty = np.full((size, *found[0].shape[1:]), np.nan, dtype)
    u = np.concatenate([empty[: len(u0) - i * size] if part is None else part for i, part in enumerate(parts)])
    return u, np.array(reasons)


def _solved(references: ReferenceSet, reasons: np.ndarray | None) -> ReferenceSet:
    """The draws that have a solution; the others are named in a warning."""
    u = references.u
    is_solved = np.isfinite(u.reshape(len(u), -1)).all(axis=1)
    if is_solved.all():
        return references
    left_out = []
    for i in np.flatnonzero(~is_solved):
        values = "".join(f", {key} = {value[i]:.4g}" for key, value in references.parameters.items())
        left_out.append(f"draw {i}{values}: {'not solved' if reasons is None else reasons[i]}")
    if not is_solved.any():
        raise RuntimeError(f"no reference could be solved: {left_out[0]}")
    text = f"{len(left_out)} of {len(u)} references were not solved and are left out; {'; '.join(left_out)}"
    warnings.warn(text, RuntimeWarning, stacklevel=3)
    return replace(references.take(np.flatnonzero(is_solved)), left_out=tuple(left_out))


def fine_reference_set(
    problem,
    family: Family,
    inputs: Iterable[str],
    count: int,
    seed: int,
    cache: Path | None = None,
    quiet: bool = False,
) -> ReferenceSet:
    """`reference_set` on as many points per periodic axis as the truth has, to be resampled from."""
    native = max(len(axis.nodes) for axis in problem.output_space.values())
    stored = _read_cache(cache)
    points = stored["u0"].shape[1] if "u0" in stored else max(TRUTH_NODES, native)
    u0, parameters = draw(problem, family, inputs, count, seed, points)
    if not _holds(stored, u0, parameters):
        solve = truth_solver(problem)
        passes = range(0, count, solve.pass_size)
        for first in progress(passes, "resolutions", total=len(passes), quiet=quiet, leave=False):
            rows = slice(first, first + solve.pass_size)
            own = {key: value[rows] for key, value in parameters.items()}
            points = max(points, *solve.resolution(u0[rows], own))
    return reference_set(problem, family, inputs, count, seed, cache, num_points=points, quiet=quiet)


def _holds(stored: dict[str, np.ndarray], u0: np.ndarray, parameters: dict[str, np.ndarray]) -> bool:
    """Whether a cache is of these very draws."""
    drawn = _named(u0, parameters)
    return "u" in stored and all(key in stored and np.array_equal(stored[key], drawn[key]) for key in drawn)


def _named(u0: np.ndarray, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"u0": u0, **{f"parameter_{key}": value for key, value in parameters.items()}}


def _read_cache(cache: Path | None) -> dict[str, np.ndarray]:
    if cache is None or not cache.exists():
        return {}
    try:
        with np.load(cache, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception:  # a damaged cache is made again
        return {}
