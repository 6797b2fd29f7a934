"""What periodic problems add: resolutions, the error as it grows, spectra and conserved quantities.

Truth is kept on the truth solver's own grid and resampled, which is exact for its trigonometric
polynomials; fine grids are compared a few trajectories at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..spectra import derivative, shell_spectrum
from .clocks import per_trajectory, timings
from .ingredients import default_batch, row_of
from .references import LEAST_SCALE, ReferenceSet, relative_at

_LEAST_SHELL = 1e-10  # of all: what shells hold less is not divided by
_VALUES_A_PIECE = 2**24  # of a streamed answer, 128 MB


def mean_squares(
    model, references: ReferenceSet, num_points: int | None = None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(batch, time) mean squares of u − truth and of the truth on ``num_points`` per axis, streamed."""
    num_axes, num_times = references.u0.ndim - 1 - references.is_system, references.u.shape[1]
    points = int(num_points or references.u0.shape[1])
    size = max(1, _VALUES_A_PIECE // (num_times * points**num_axes))
    errors, scales = [], []
    for part in references.pieces(size):
        own = part.resampled(points)
        difference = to_numpy(own.predict(model, **options).u) - own.u
        space = tuple(range(2, difference.ndim))
        errors.append(np.square(difference, out=difference).mean(axis=space))
        scales.append(np.square(own.u, dtype=np.float64).mean(axis=space))
    return np.concatenate(errors), np.concatenate(scales)


def resolutions(
    model, references: ReferenceSet, sizes: Iterable[int], batch: int | None = None, repeats: int = 3
) -> tuple[list[dict[str, Any]], dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Errors and times with input and output on ``sizes`` points per axis.

    Returns:
        rows of points, count, error_mean, error_max, failed, end_mean and end_max (at the final time),
        ms, batch; and `mean_squares` by size.
    """
    batch, squares = batch or default_batch(model), {}
    for size in sizes:
        squares[size] = mean_squares(model, references, size)
    first = references.cycled(batch)
    inputs = {size: ReferenceSet(first.resampled(size).u0, first.parameters, first.u0) for size in squares}
    times = timings({size: lambda r=r: r.predict(model) for size, r in inputs.items()}, repeats, model.device)
    rows = []
    for size, (error, scale) in squares.items():
        with np.errstate(invalid="ignore"):
            whole, end = np.sqrt(error.sum(1) / scale.sum(1)), relative_at(error, scale)[:, -1]
        at_end = row_of(end)
        rows.append(
            {
                "points": size,
                "count": len(references),
                **row_of(whole),
                "end_mean": at_end["error_mean"],
                "end_max": at_end["error_max"],
                **per_trajectory(times[size], batch),
                "batch": batch,
            }
        )
    return rows, squares


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def error_over_time(model, error: np.ndarray, scale: np.ndarray) -> dict[str, list]:
    """``t`` and the ``mean`` over trajectories of the relative error at each output time.

    Args:
        error, scale: (batch, time), see `mean_squares`.
    """
    relative = relative_at(error, scale)
    times = [float(t) for t in model.problem.output_times]
    return {"t": times, "mean": [_mean(relative[:, i]) for i in range(relative.shape[1])]}


def windows(model, error: np.ndarray, scale: np.ndarray, iterations: np.ndarray) -> list[dict[str, Any]]:
    """Per window: t (the last output time in it), errors then, and the mean number of solver steps in it.

    Args:
        error, scale: (batch, time), see `mean_squares`.
        iterations: (batch, subproblem) of a prediction.
    """
    times = np.asarray(model.problem.output_times)
    index = np.where(times > 0, model.rollout.window_of(times), -1)
    steps = iterations.reshape(len(iterations), model.num_windows, -1).mean(axis=(0, 2))
    rows = []
    for k in range(model.num_windows):
        inside = np.flatnonzero(index == k)
        if len(inside):
            last = inside[-1]
            relative = relative_at(error, scale)[:, last]
            rows.append({"window": k + 1, "t": float(times[last]), **row_of(relative), "steps": float(steps[k])})
    return rows


# ---------------------------------------------------------------------- the final state


def quadratic(problem) -> dict[str, tuple[str, ...]]:
    """Quadratic quantities ½⟨Σ f²⟩ by name, and the fields f in them; "" is the unknown itself.

    Of a system one per field, by its name. A problem that has velocities among its diagnostics is one of a vorticity.
    """
    velocity = tuple(name for name in problem.diagnostics if name.startswith("velocity_"))
    if problem.is_system:
        return {f"{name}²": (name,) for name in problem.fields}
    return {"energy": velocity, "enstrophy": ("",)} if velocity else {"energy": ("",)}


def _lengths(problem) -> list[float]:
    return [axis.stop - axis.start for axis in problem.output_space.values()]


def _field(problem, name: str, u: np.ndarray) -> np.ndarray:
    """(batch, *space) of a field or a diagnostic of the state u, or u itself for ""."""
    if not name:
        return u
    if problem.is_system:
        return u[..., list(problem.fields).index(name)]
    factor, feature = problem.diagnostics[name]
    orders = [feature.orders.get(axis, 0) for axis in problem.output_space]
    return derivative(u, _lengths(problem), orders, feature.laplacian, factor)


def final_state(model, references: ReferenceSet) -> tuple[dict[str, Any], dict[str, Any]]:
    """Spectra and conserved quantities at the final time, of the model and of the truth.

    Returns:
        spectra: per quadratic quantity the wave numbers ``k`` (cycles per longest axis), means over
        trajectories ``surrogate`` and ``truth``, ``band`` (highest wave number of the model's grid),
        ``deviation`` (largest relative one up to there) and ``deviation_k`` (where).
        drift: t; relative errors of each quantity (mean, max; relative to 1e-4 of the initial one where it
        has decayed to less); largest change of the mean; largest
        |∇·velocity| where there is a velocity.
    """
    problem, end = model.problem, float(np.max(model.problem.output_times))
    lengths = _lengths(problem)
    prediction = references.predict(model, times=[end])
    u, truth = to_numpy(prediction.u)[:, 0], np.asarray(references.u[:, -1], dtype=np.float64)
    good = np.flatnonzero(np.isfinite(u.reshape(len(u), -1)).all(axis=1))
    spectra: dict[str, Any] = {}
    drift: dict[str, Any] = {"t": end, "count": len(u), "failed": len(u) - len(good)}
    if not len(good):
        return spectra, drift
    given = {"": to_numpy(prediction.u)[:, 0]}
    band = min(axis.band for axis in model.constraint.grid.space.values())
    for quantity, names in quadratic(problem).items():
        sums, totals = [], []
        for is_truth in (False, True):
            total, spectrum, k = 0.0, 0.0, np.zeros(0)
            for name in names:
                if is_truth:
                    field = _field(problem, name, truth)
                else:
                    if name not in given:
                        own = _field(problem, name, u) if problem.is_system else prediction.diagnostic(name)[:, 0]
                        given[name] = to_numpy(own)
                    field = given[name]
                total = total + 0.5 * np.square(field[good]).reshape(len(good), -1).mean(axis=1)
                shells = [shell_spectrum(row, lengths) for row in field[good]]
                k = shells[0][0]
                spectrum = spectrum + np.mean([values for _, values in shells], axis=0)
            sums.append(np.asarray(spectrum))
            totals.append(total)
        inside = k <= band
        least = _LEAST_SHELL * sums[1].sum()
        deviation = np.abs(sums[0][inside] - sums[1][inside]) / np.maximum(sums[1][inside], least)
        spectra[quantity] = {
            "k": [int(value) for value in k],
            "surrogate": [float(value) for value in sums[0]],
            "truth": [float(value) for value in sums[1]],
            "band": int(band),
            "deviation": float(deviation.max()),
            "deviation_k": int(k[inside][deviation.argmax()]),
        }
        first = sum(0.5 * np.square(_field(problem, name, references.u0[good])) for name in names)
        initial = first.reshape(len(good), -1).mean(axis=1)
        relative = np.abs(totals[0] - totals[1]) / np.maximum(totals[1], LEAST_SCALE**2 * initial)
        drift[quantity] = {"mean": float(relative.mean()), "max": float(relative.max())}
    space = tuple(range(1, 1 + len(lengths)))
    change = u[good].mean(axis=space) - references.u0[good].mean(axis=space)
    drift["mean_of_field"] = float(np.abs(change).max())
    velocity = {name.removeprefix("velocity_"): name for name in problem.diagnostics if name.startswith("velocity_")}
    if velocity:
        orders = {axis: [int(axis == other) for other in problem.output_space] for axis in velocity}
        divergence = sum(derivative(given[name][good], lengths, orders[axis]) for axis, name in velocity.items())
        drift["divergence"] = float(np.abs(divergence).max())
    return spectra, drift


def roll_out(
    model,
    fine: ReferenceSet,
    sizes: Iterable[int] | None = None,
    batch: int | None = None,
    repeats: int = 3,
) -> dict[str, Any]:
    """All that this module measures: resolutions, error_over_time, windows, spectra, drift.

    Args:
        fine: of `fine_reference_set`.
        sizes: points per axis to measure on; default the native number, twice and four times as many.
    """
    native = max(len(axis.nodes) for axis in model.problem.output_space.values())
    sizes = [native, 2 * native, 4 * native] if sizes is None else list(sizes)
    rows, squares = resolutions(model, fine, sizes, batch, repeats)
    error, scale = squares[native] if native in squares else mean_squares(model, fine, native)
    spectra, drift = final_state(model, fine)
    result = {
        "resolutions": rows,
        "error_over_time": error_over_time(model, error, scale),
        "spectra": spectra,
        "drift": drift,
    }
    if model.num_windows > 1:
        iterations = to_numpy(fine.resampled(native).predict(model).iterations)
        result["windows"] = windows(model, error, scale, iterations)
    return result
