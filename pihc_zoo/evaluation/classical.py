"""A model beside the classical solvers that are as accurate, timed in turn."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..config import describe
from ..decomposition import DECOMPOSITIONS, Joint
from ..reference import Baseline, baselines
from .clocks import Clock, per_trajectory, timings
from .ingredients import accuracy, default_batch, row_of
from .references import ReferenceSet, relative_error

_NUM_SINGLE = 4  # trajectories on which a solver of single ones is measured
_NUM_SCREENED = 4  # trajectories on which a setting must not be far off before it meets all
_NUM_NEAREST = 6  # settings that meet all trajectories where none is accurate enough
_NUM_CANDIDATES = 3  # accurate settings of a family that are timed
_DEARER = 2.0  # times the estimated cost of an accurate setting: what is dearer is not tried
_IMPROVED = 0.9  # of the error before: less is no improvement


def _in_passes(solver, rows: ReferenceSet, size: int) -> np.ndarray:
    return np.concatenate([solver(part.u0, part.parameters) for part in rows.pieces(size)])


def _is_single(baseline: Baseline) -> bool:
    return max(baseline.batches) == 1


def cheapest(
    family: list[Baseline], references: ReferenceSet, error: float, batch: int = 64, device: Any = "cpu"
) -> tuple[Baseline, dict[str, Any]]:
    """The fastest setting of a family of solvers whose mean error is at most ``error``, none failing.

    On every grid of the family, steps or tolerances are halved until the answer is as good or no longer improves, and
    the last halving is taken back halfway where that does.

    Args:
        family: from the coarsest to the finest grid; the cheapest few that are accurate enough are timed, in
            all their numbers of trajectories a pass.
        batch: trajectories in all.

    Returns:
        It, and its row: name, settings, error_mean, error_max, failed, batch (trajectories a pass); ``is_equal`` False
        where no setting is that accurate, and then the most accurate one.
    """
    found = _search(family, references, error, device)
    equal = [own for own in found if own[1]["is_equal"]]
    if not equal:
        return _most_accurate(found, references, device)
    equal = sorted(equal, key=lambda own: own[0].cost)[:_NUM_CANDIDATES]
    if len(equal) == 1 and _is_single(equal[0][0]):
        return equal[0][0], {**equal[0][1], "batch": 1}
    rows = references.cycled(batch)
    calls = {}
    for i, (baseline, _) in enumerate(equal):
        solver = baseline.build(device)
        part = references.cycled(min(batch, _NUM_SINGLE)) if _is_single(baseline) else rows
        for size in sorted({min(size, batch) for size in baseline.batches}):
            calls[i, size] = lambda solver=solver, part=part, size=size: _in_passes(solver, part, size)
    times = timings(calls, 3, device)
    i, size = min(times, key=lambda key: times[key]["median"])
    return equal[i][0], {**equal[i][1], "batch": size}


def _search(
    family: list[Baseline], references: ReferenceSet, error: float, device: Any
) -> list[tuple[Baseline, dict[str, Any]]]:
    """Settings that were tried, with their rows: always the cheapest one that is left, of all grids.

    A grid is left where halving its steps no longer helps, and all of them where what is left is much dearer than what
    is accurate enough.
    """
    tried: list[tuple[Baseline, dict[str, Any]]] = []
    left = [(baseline.cost, place, baseline, np.inf) for place, baseline in enumerate(family)]
    heapq.heapify(left)
    most = np.inf
    while left:
        cost, place, baseline, last = heapq.heappop(left)
        if cost > most:
            break
        row, screened = _judged(baseline, references, error, device)
        tried.append((baseline, row))
        if row["is_equal"]:
            most = min(most, _DEARER * cost)
            between = baseline.refined(2**-0.5) if np.isfinite(last) or screened < 0.5 * error else None
            if between is not None:
                tried.append((between, _judged(between, references, error, device)[0]))
        elif not np.isfinite(screened) or screened <= _IMPROVED * last:
            finer = baseline.refined(2.0)
            if finer is not None:
                heapq.heappush(left, (finer.cost, place, finer, screened))
    return tried


def _judged(baseline: Baseline, references: ReferenceSet, error: float, device: Any) -> tuple[dict[str, Any], float]:
    """Its row, and its mean error on the few trajectories that are tried first; inf where one fails."""
    solver = baseline.build(device)
    own = references.take(slice(0, _NUM_SINGLE)) if _is_single(baseline) else references
    few = own.take(slice(0, _NUM_SCREENED))
    errors = row_of(_errors(solver, few, baseline))
    screened = np.inf if errors["error_mean"] is None or errors["failed"] else errors["error_mean"]
    is_close = screened <= 2 * error
    if is_close and len(few) < len(own):
        errors = row_of(_errors(solver, own, baseline))
    is_equal = bool(is_close and not errors["failed"] and errors["error_mean"] <= error)
    return {"name": baseline.name, "settings": baseline.settings, **errors, "is_equal": is_equal}, screened


def _most_accurate(
    found: list[tuple[Baseline, dict[str, Any]]], references: ReferenceSet, device: Any
) -> tuple[Baseline, dict[str, Any]]:
    """The most accurate setting, of those that were best on few trajectories."""

    def badness(own: tuple[Baseline, dict[str, Any]]) -> tuple[int, float]:
        row = own[1]
        return row["failed"], np.inf if row["error_mean"] is None else row["error_mean"]

    rows = []
    for baseline, row in sorted(found, key=badness)[:_NUM_NEAREST]:
        own = references.take(slice(0, _NUM_SINGLE)) if _is_single(baseline) else references
        errors = row_of(_errors(baseline.build(device), own, baseline))
        rows.append((baseline, {**row, **errors, "batch": min(baseline.batches)}))
    return min(rows, key=badness)


def _errors(solver, rows: ReferenceSet, baseline: Baseline) -> np.ndarray:
    """(batch,) relative errors, NaN where the solver gave up."""
    errors = []
    for part in rows.pieces(max(baseline.batches)):
        try:
            errors.append(relative_error(solver(part.u0, part.parameters), part.u))
        except RuntimeError:
            errors.append(np.full(len(part), np.nan))
    return np.concatenate(errors)


def compare(
    model, references: ReferenceSet, batch: int | None = None, repeats: int = 5, clock: Clock = time.perf_counter
) -> list[dict[str, Any]]:
    """The surrogate and the classical solvers that are as accurate, one of each family, timed in turn by ``clock``.

    Returns:
        Rows, the surrogate's first, of name, settings, error_mean, error_max, ms (median, lowest,
        highest) and ``ratio``, the solver's median time over the surrogate's: above 1 the surrogate is
        faster. None where the solver is less accurate than the surrogate.
    """
    problem, device, batch = model.problem, model.device, batch or default_batch(model)
    errors = row_of(references.errors(model))
    if errors["error_mean"] is None:
        raise ValueError("all predictions failed: there is nothing to compare; see the messages of predict")
    own = {"name": "surrogate", "settings": {}, **errors, "is_equal": True, "batch": batch}
    found = {
        key: cheapest(family, references, errors["error_mean"], batch, device)
        for key, family in baselines(problem).items()
    }
    rows = references.cycled(batch)
    calls: dict[Any, Callable[[], Any]] = {"own": lambda: rows.predict(model)}
    counts = {}
    for key, (baseline, row) in found.items():
        solver = baseline.build(device)
        part = references.cycled(min(batch, _NUM_SINGLE)) if _is_single(baseline) else rows
        counts[key] = len(part)
        calls[key] = lambda solver=solver, part=part, size=row["batch"]: _in_passes(solver, part, size)
    times = timings(calls, repeats, device, clock)
    result = [{**own, **per_trajectory(times["own"], batch), "ratio": None}]
    for key, (_, row) in found.items():
        measured = per_trajectory(times[key], counts[key])
        ratio = measured["ms"] / result[0]["ms"] if row["is_equal"] else None
        result.append({**row, **measured, "ratio": ratio})
    return result


def benchmark(
    model,
    references: ReferenceSet,
    batches: Iterable[int] | None = None,
    experts: Iterable[int | None] = (1, 2, 4),
    repeats: int = 5,
    stated_error: float | None = None,
) -> list[dict[str, Any]]:
    """Time and error of joint experts, batch by batch, beside the batched classical solver at equal error.

    Args:
        batches: numbers of trajectories; default 1, 16, 64 as far as `default_batch`.
        experts: counts along every space axis; None is the model's own decomposition.
        stated_error: largest error of an acceptable answer; default: the model's own maximum on
            ``references`` with its own decomposition.

    Returns:
        Rows of batch, experts, decomposition, max_steps, error_mean and error_max over ``references``,
        ms, classical, classical_ms, and ``ratio`` = classical_ms / ms; a row whose answers err by more
        than stated is not accepted and has none.
    """
    own = accuracy(model, references)
    if own["mean"] is None:
        raise ValueError(f"all {own['count']} predictions failed; there is nothing to time")
    stated = own["max"] if stated_error is None else stated_error
    most = default_batch(model)
    batches = [size for size in (1, 16, 64) if size <= most] if batches is None else list(batches)
    families = sorted(baselines(model.problem).values(), key=lambda family: _is_single(family[0]))
    if not families:
        raise ValueError(f"no classical solver serves {model.problem.name}; bring one by Problem.reference_solvers")
    baseline, classical = cheapest(families[0], references, own["mean"], most, model.device)
    solver = baseline.build(model.device)
    default, axes = model.constraint.decomposition, model.problem.output_space
    kinds = {n: default if n is None else Joint(dict.fromkeys(axes, n)) for n in experts}
    errors = {n: row_of(references.errors(model, experts=kind)) for n, kind in kinds.items()}
    table = []
    for batch in batches:
        rows = references.cycled(batch)
        calls: dict[Any, Callable[[], Any]] = {"classical": lambda r=rows: _in_passes(solver, r, classical["batch"])}
        calls |= {n: lambda r=rows, d=kind: r.predict(model, experts=d) for n, kind in kinds.items()}
        times = timings(calls, repeats, model.device)
        classical_ms = 1e3 * times["classical"]["median"] / batch
        for n, kind in kinds.items():
            is_accepted = not errors[n]["failed"] and errors[n]["error_max"] <= stated * (1 + 1e-6)
            measured = per_trajectory(times[n], batch)
            ratio = classical_ms / measured["ms"] if is_accepted and classical["is_equal"] else None
            table.append(
                {
                    "batch": batch,
                    "experts": kind.num_experts,
                    "decomposition": describe(kind, DECOMPOSITIONS)["name"],
                    "max_steps": model.constraint.solver.max_steps,
                    **errors[n],
                    **measured,
                    "classical": classical["name"],
                    "classical_ms": classical_ms,
                    "stated_error": stated,
                    "is_accepted": bool(is_accepted),
                    "ratio": ratio,
                }
            )
    return table


def compare_backends(
    models: dict[str, Any], references: ReferenceSet, batches: Iterable[int] = (1, 16), repeats: int = 7
) -> list[dict[str, Any]]:
    """The same model by several backends, timed in turn on the same input.

    Args:
        models: by name, the reference backend first.

    Returns:
        Rows of backend, batch, ms, ``difference`` (relative L2, to the first backend) and ``ratio`` of
        its time to the first one's, None where the answers differ by more than 1e-5.
    """
    table = []
    for batch in batches:
        rows = references.cycled(batch)
        times = timings({name: lambda m=model, r=rows: r.predict(m) for name, model in models.items()}, repeats)
        first = None
        for name, model in models.items():
            u = to_numpy(rows.predict(model).u)
            own = {"backend": name, "batch": batch, **per_trajectory(times[name], batch)}
            first = first or (u, own["ms"])
            difference = float(np.linalg.norm(u - first[0]) / np.linalg.norm(first[0]))
            ratio = own["ms"] / first[1] if difference <= 1e-5 else None
            table.append({**own, "difference": difference, "ratio": ratio})
    return table
