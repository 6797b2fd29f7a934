"""Measuring a model: against converged truth, and against the fastest classical solver at equal error.

Every function returns plain dicts of JSON types. Errors are relative L2 norms over all times and
points, dimensionless; times are milliseconds per trajectory on one CPU thread (or one GPU), answers
on the problem's native output grid and back in host memory.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .decomposition import DECOMPOSITIONS, Joint
from .learning.families import FAMILIES, OUT_OF_FAMILY, Constants, Family, GaussianProcess, RandomSines
from .learning.families import sample_parameters as _sample_parameters
from .prediction import save_npz, to_numpy
from .reference import MethodOfLines, fast_solver, is_periodic, truth_solver
from .zoo.config import describe

PICARD_GRIDS = ((48, 5, 4), (64, 5, 5), (96, 6, 5))  # (nodes, elements, stages), cheapest first
PICARD_STEPS = (0, 1, 2, 3)
PICARD_BATCHES = (8, 64)  # trajectories a pass; the faster one counts
LSODA_TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6, 1e-7)
_TRUTH_BATCH = 8  # trajectories a pass of a batched truth solver
_NUM_LSODA = 4  # trajectories on which LSODA is measured, one at a time


# ---------------------------------------------------------------------- truth


@dataclass
class ReferenceSet:
    """Initial conditions (batch, *space), parameters and their converged solutions.

    Attributes:
        u0: (batch, *space) at the native grid's points.
        parameters: (batch,) values of each parameter that the model takes as input.
        u: (batch, time, *space) on the problem's output grid.
    """

    u0: np.ndarray
    parameters: dict[str, np.ndarray]
    u: np.ndarray

    def __len__(self) -> int:
        return len(self.u0)

    def take(self, rows: Any) -> ReferenceSet:
        """The trajectories ``rows``: a slice or indices, which may repeat."""
        return ReferenceSet(self.u0[rows], {key: value[rows] for key, value in self.parameters.items()}, self.u[rows])

    def predict(self, model, **options: Any) -> Any:
        """The model's `Prediction` for these initial conditions, failures without a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return model.predict(self.u0, parameters=self.parameters, **options)

    def errors(self, model, **options: Any) -> np.ndarray:
        """(batch,) relative L2 errors of a model's predictions; NaN where it failed."""
        return relative_error(self.predict(model, **options).u, self.u)


def relative_error(u: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(batch,) ‖u − truth‖ / ‖truth‖ over all times and points."""
    difference, scale = (a.reshape(len(a), -1) for a in (u - truth, truth))
    return np.linalg.norm(difference, axis=1) / np.linalg.norm(scale, axis=1)


def reference_set(
    problem,
    family: Family,
    inputs: Iterable[str],
    count: int,
    seed: int,
    cache: Path | None = None,
    num_points: int | None = None,
) -> ReferenceSet:
    """Draws ``count`` initial conditions, and parameters ``inputs``, and solves them to convergence.

    Args:
        problem: the equation.
        family: where initial conditions come from.
        inputs: symbols of the parameters to draw from their declared ranges.
        count, seed: how many, and which; the draws are none of training's.
        num_points: points per periodic axis of u0 and of the answer; default the problem's own.
        cache: an NPZ that is read if it holds these very draws, and written otherwise.
    """
    rng = np.random.default_rng([seed, 2**31])
    axes = problem.output_space.values() if num_points is None else [a.sized(num_points) for a in problem.output_space.values()]
    u0 = family.sample(count, [axis.nodes for axis in axes], rng)
    parameters = _sample_parameters(problem, tuple(inputs), count, rng)
    drawn = {"u0": u0, **{f"parameter_{key}": value for key, value in parameters.items()}}
    stored = _read_cache(cache)
    if "u" in stored and all(key in stored and np.array_equal(stored[key], drawn[key]) for key in drawn):
        return ReferenceSet(u0, parameters, stored["u"])
    solve = truth_solver(problem)
    size = _TRUTH_BATCH if is_periodic(problem) else 1
    bar = tqdm(range(0, count, size), desc="references", leave=False, disable=None)
    parts = []
    for first in bar:
        rows = slice(first, first + size)
        own = {key: value[rows] for key, value in parameters.items()}
        if is_periodic(problem):
            parts.append(solve(u0[rows], own))
        else:
            parts.append(solve(u0[first], {key: float(value[0]) for key, value in own.items()})[None])
    u = np.concatenate(parts)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_npz(cache, {**drawn, "u": u})
    return ReferenceSet(u0, parameters, u)


def _read_cache(cache: Path | None) -> dict[str, np.ndarray]:
    if cache is None or not cache.exists():
        return {}
    try:
        with np.load(cache, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception:  # a damaged cache is made again
        return {}


def default_families(model) -> dict[str, Family]:
    """Families that fill the range of values for which a model was trained."""
    low, high = model.config["trust"].get("state_range", model.problem.state_range)
    margin = (high - low) / 60
    inside = {"low": low + margin, "high": high - margin}
    families = (RandomSines(**inside), GaussianProcess(**inside), Constants(**inside))
    return {describe(family, FAMILIES)["name"]: family for family in families}


# ---------------------------------------------------------------------- time and memory


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context: torch computes on one CPU thread, as the classical solvers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timing(call: Callable[[], Any], repeats: int = 5, device: Any = "cpu") -> dict[str, Any]:
    """Seconds of ``call``, after one call to warm up: median, lowest, highest, repeats."""
    return timings({"call": call}, repeats, device)["call"]


def timings(calls: dict[Any, Callable[[], Any]], repeats: int = 5, device: Any = "cpu") -> dict[Any, dict[str, Any]]:
    """`timing` of several calls in turn, so that a change of the machine's load meets all of them."""
    synchronise = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    with one_thread():
        for repeat in range(repeats + 1):
            for name, call in calls.items():
                synchronise()
                begin = time.perf_counter()
                call()
                synchronise()
                if repeat:
                    seconds[name].append(time.perf_counter() - begin)
    return {
        name: {
            "median": float(np.median(values)),
            "lowest": float(min(values)),
            "highest": float(max(values)),
            "repeats": repeats,
        }
        for name, values in seconds.items()
    }


def _per_trajectory(time: dict[str, Any], count: int) -> dict[str, float]:
    return {
        "ms": 1e3 * time["median"] / count,
        "ms_lowest": 1e3 * time["lowest"] / count,
        "ms_highest": 1e3 * time["highest"] / count,
    }


def peak_memory(call: Callable[[], Any], device: Any = "cpu") -> float | None:
    """MB (1e6 bytes) that ``call`` holds at most beyond what was held before; None where unknown."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None

    def resident() -> float:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    before = peak = resident()
    is_done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
        peak = max(peak, resident())
    finally:
        is_done.set()
        watcher.join()
    return peak - before


# ---------------------------------------------------------------------- accuracy


def _summary(errors: np.ndarray) -> dict[str, Any]:
    """Mean, median, maximum over the finite errors, and how many are not finite."""
    finite = errors[np.isfinite(errors)]
    names = {"mean": np.mean, "median": np.median, "max": np.max}
    values = {name: float(function(finite)) if len(finite) else None for name, function in names.items()}
    return {"count": len(errors), "failed": len(errors) - len(finite), **values}


def _errors(errors: np.ndarray) -> dict[str, Any]:
    """The part of `_summary` that rows of tables hold."""
    summary = _summary(errors)
    return {"error_mean": summary["mean"], "error_max": summary["max"], "failed": summary["failed"]}


def accuracy(model, references: ReferenceSet, **options: Any) -> dict[str, Any]:
    """Errors of a model: count, failed, mean, median, max.

    Args:
        model: anything with ``predict``.
        references: converged solutions.
        options: of ``predict``.
    """
    return _summary(references.errors(model, **options))


def untrained(model, seed: int = 0):
    """The model's configuration with fresh random weights."""
    from .surrogate import Surrogate

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Surrogate.from_config(model.config)
    fresh.name = "untrained"
    return fresh.to(model.device).with_network_dtype(model.dtype).eval()


def ladder(problem, references: ReferenceSet, model=None, batch: int = 64, repeats: int = 3) -> list[dict[str, Any]]:
    """What each ingredient brings: the lift alone, 1, 2, 3 Picard steps; untrained and trained network.

    Returns:
        Rows of name, error_mean, error_max, failed, ms per trajectory in a batch, batch.
    """
    device = "cpu" if model is None else model.device
    rows = references.take(np.arange(batch) % len(references))
    answers: dict[str, Callable[[ReferenceSet], np.ndarray]] = {}
    for steps in PICARD_STEPS:
        solver = fast_solver(problem, steps=steps, device=device)
        name = "lift alone" if steps == 0 else f"lift + {steps} Picard step{'s' * (steps > 1)}"
        answers[name] = lambda r, solver=solver: solver(r.u0, r.parameters)
    if model is not None:
        fresh = untrained(model)
        answers["untrained network"] = lambda r: to_numpy(r.predict(fresh).u)
        answers["trained network"] = lambda r: to_numpy(r.predict(model).u)
    times = timings({name: lambda a=answer: a(rows) for name, answer in answers.items()}, repeats, device)
    return [
        {
            "name": name,
            **_errors(relative_error(answer(references), references.u)),
            **_per_trajectory(times[name], batch),
            "batch": batch,
        }
        for name, answer in answers.items()
    ]


# ---------------------------------------------------------------------- classical solvers at equal error


def _in_passes(solver, rows: ReferenceSet, size: int) -> np.ndarray:
    parts = (rows.take(slice(first, first + size)) for first in range(0, len(rows), size))
    return np.concatenate([solver(part.u0, part.parameters) for part in parts])


def cheapest_picard(problem, references: ReferenceSet, error: float, device: Any = "cpu") -> dict[str, Any]:
    """The fastest setting of the Picard solver whose mean error is at most ``error``.

    Returns:
        name, settings, error_mean, error_max, failed, batch (trajectories a pass); ``is_equal`` False
        where no setting is that accurate, and then the most accurate one.
    """
    found: list[dict[str, Any]] = []
    for nodes, elements, stages in PICARD_GRIDS:
        for steps in PICARD_STEPS:
            settings = {"steps": steps, "num_nodes": nodes, "elements": elements, "stages": stages}
            solver = fast_solver(problem, **settings, device=device)
            errors = _errors(relative_error(solver(references.u0, references.parameters), references.u))
            name = f"Picard, {steps} step{'s' * (steps != 1)}, {nodes} × {elements * stages} nodes"
            is_equal = errors["error_mean"] is not None and errors["error_mean"] <= error
            found.append({"name": name, "settings": settings, **errors, "is_equal": is_equal})
            if found[-1]["is_equal"]:
                break  # more steps on this grid only cost more
    equal = [row for row in found if row["is_equal"]]
    if not equal:
        return {**min(found, key=lambda row: row["error_mean"]), "batch": PICARD_BATCHES[0]}
    rows = references.take(np.arange(max(PICARD_BATCHES)) % len(references))
    calls = {}
    for i, row in enumerate(equal):
        solver = fast_solver(problem, **row["settings"], device=device)
        for size in PICARD_BATCHES:
            calls[i, size] = lambda solver=solver, size=size: _in_passes(solver, rows, size)
    times = timings(calls, 3, device)
    i, size = min(times, key=lambda key: times[key]["median"])
    return {**equal[i], "batch": size}


def loosest_lsoda(problem, references: ReferenceSet, error: float) -> dict[str, Any]:
    """LSODA on the native cells with the loosest tolerance whose mean error is at most ``error``."""
    few = references.take(slice(0, _NUM_LSODA))
    row: dict[str, Any] = {}
    for tolerance in LSODA_TOLERANCES:
        solver = MethodOfLines(problem, rtol=tolerance, atol=tolerance)
        errors = _errors(relative_error(_one_by_one(solver, few), few.u))
        settings = {"rtol": tolerance, "atol": tolerance}
        is_equal = errors["error_mean"] is not None and errors["error_mean"] <= error
        name = f"LSODA, tolerance {tolerance:.0e}, {len(solver.axis.nodes)} cells"
        row = {"name": name, "settings": settings, **errors, "is_equal": is_equal, "batch": 1}
        if row["is_equal"]:
            break
    return row


def _one_by_one(solver, rows: ReferenceSet) -> np.ndarray:
    own = [{key: float(value[i]) for key, value in rows.parameters.items()} for i in range(len(rows))]
    return np.stack([solver(u0, c) for u0, c in zip(rows.u0, own, strict=True)])


def compare(model, references: ReferenceSet, batch: int = 64, repeats: int = 5) -> list[dict[str, Any]]:
    """The surrogate and the classical solvers that are as accurate, timed in turn.

    Returns:
        Rows, the surrogate's first, of name, settings, error_mean, error_max, ms (median, lowest,
        highest) and ``ratio``, the solver's median time over the surrogate's: above 1 the surrogate is
        faster. None where the solver is less accurate than the surrogate.
    """
    problem, device = model.problem, model.device
    errors = _errors(references.errors(model))
    if errors["error_mean"] is None:
        raise ValueError("all predictions failed: there is nothing to compare; see the messages of predict")
    own = {"name": "surrogate", "settings": {}, **errors, "is_equal": True, "batch": batch}
    picard = cheapest_picard(problem, references, errors["error_mean"], device)
    lsoda = loosest_lsoda(problem, references, errors["error_mean"])
    rows = references.take(np.arange(batch) % len(references))
    few = references.take(np.arange(min(batch, _NUM_LSODA)) % len(references))
    picard_solver = fast_solver(problem, **picard["settings"], device=device)
    lsoda_solver = MethodOfLines(problem, **lsoda["settings"])
    calls = {
        "own": lambda: rows.predict(model),
        "picard": lambda: _in_passes(picard_solver, rows, picard["batch"]),
        "lsoda": lambda: _one_by_one(lsoda_solver, few),
    }
    times = timings(calls, repeats, device)
    result = [{**own, **_per_trajectory(times["own"], batch), "ratio": None}]
    for row, key, count in ((picard, "picard", batch), (lsoda, "lsoda", len(few))):
        measured = _per_trajectory(times[key], count)
        ratio = measured["ms"] / result[0]["ms"] if row["is_equal"] else None
        result.append({**row, **measured, "ratio": ratio})
    return result


def benchmark(
    model,
    references: ReferenceSet,
    batches: Iterable[int] = (1, 16, 64),
    experts: Iterable[int | None] = (1, 2, 4),
    repeats: int = 5,
    stated_error: float | None = None,
) -> list[dict[str, Any]]:
    """Time and error of joint experts, batch by batch, beside the Picard solver at equal error.

    Args:
        experts: counts along the problem's default axis; None is the model's own decomposition.
        stated_error: largest error of an acceptable answer; default: the model's own maximum on
            ``references`` with its own decomposition.

    Returns:
        Rows of batch, experts, decomposition, max_steps, error_mean and error_max over
        ``references``, ms, picard_ms, and ``ratio`` = picard_ms / ms; a row whose answers err by more
        than stated is not accepted and has none.
    """
    own = accuracy(model, references)
    if own["failed"]:
        raise ValueError(f"{own['failed']} of {own['count']} predictions failed; there is nothing to time")
    stated = own["max"] if stated_error is None else stated_error
    picard = cheapest_picard(model.problem, references, own["mean"], model.device)
    solver = fast_solver(model.problem, **picard["settings"], device=model.device)
    default = model.constraint.decomposition
    kinds = {n: default if n is None else Joint({model.problem.default_axis: n}) for n in experts}
    errors = {n: _errors(references.errors(model, experts=kind)) for n, kind in kinds.items()}
    table = []
    for batch in batches:
        rows = references.take(np.arange(batch) % len(references))
        calls: dict[Any, Callable[[], Any]] = {"picard": lambda r=rows: _in_passes(solver, r, picard["batch"])}
        calls |= {n: lambda r=rows, d=kind: r.predict(model, experts=d) for n, kind in kinds.items()}
        times = timings(calls, repeats, model.device)
        picard_ms = 1e3 * times["picard"]["median"] / batch
        for n, kind in kinds.items():
            is_accepted = not errors[n]["failed"] and errors[n]["error_max"] <= stated * (1 + 1e-6)
            measured = _per_trajectory(times[n], batch)
            ratio = picard_ms / measured["ms"] if is_accepted and picard["is_equal"] else None
            table.append(
                {
                    "batch": batch,
                    "experts": kind.num_experts,
                    "decomposition": describe(kind, DECOMPOSITIONS)["name"],
                    "max_steps": model.constraint.solver.max_steps,
                    **errors[n],
                    **measured,
                    "picard_ms": picard_ms,
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
        rows = references.take(np.arange(batch) % len(references))
        times = timings({name: lambda m=model, r=rows: r.predict(m) for name, model in models.items()}, repeats)
        first = None
        for name, model in models.items():
            u = to_numpy(rows.predict(model).u)
            own = {"backend": name, "batch": batch, **_per_trajectory(times[name], batch)}
            first = first or (u, own["ms"])
            difference = float(np.linalg.norm(u - first[0]) / np.linalg.norm(first[0]))
            ratio = own["ms"] / first[1] if difference <= 1e-5 else None
            table.append({**own, "difference": difference, "ratio": ratio})
    return table


# ---------------------------------------------------------------------- trust


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation in [−1, 1], ties averaged; None for fewer than 3 pairs or a constant."""
    from scipy.stats import rankdata

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def trust(model, references: ReferenceSet) -> dict[str, Any]:
    """How well the estimated error tells the true one, inside the family.

    Returns:
        ratio_median, ratio_low, ratio_high (median and 5 %, 95 % quantiles of estimate / true error),
        rank_correlation, threshold (the model's, or None), estimate_99 (99 % quantile of the estimates,
        a threshold with 1 % false alarms), false_alarms (fraction not reliable).
    """
    prediction = references.predict(model)
    errors, estimates = relative_error(prediction.u, references.u), to_numpy(prediction.estimated_error)
    is_known = np.isfinite(errors) & np.isfinite(estimates)
    if not is_known.any():
        raise ValueError("all predictions failed: there are no estimates to judge")
    errors, estimates = errors[is_known], estimates[is_known]
    low, median, high = (float(q) for q in np.quantile(estimates / errors, (0.05, 0.5, 0.95)))
    return {
        "count": len(references),
        "ratio_median": median,
        "ratio_low": low,
        "ratio_high": high,
        "rank_correlation": spearman(estimates, errors),
        "threshold": model.config["trust"].get("threshold"),
        "estimate_99": float(np.quantile(estimates, 0.99)),
        "false_alarms": float(1 - np.mean(to_numpy(prediction.is_reliable))),
    }


def out_of_family(model, count: int = 32, seed: int = 0) -> dict[str, float]:
    """Per family that the model was not trained for: the fraction flagged, that is not reliable."""
    (axis,) = model.problem.output_space.values()
    flagged = {}
    for name in OUT_OF_FAMILY:
        rng = np.random.default_rng([seed, 2**31])
        u0 = FAMILIES[name]().sample(count, axis.nodes, rng)
        parameters = _sample_parameters(model.problem, model.parameter_inputs, count, rng)
        prediction = ReferenceSet(u0, parameters, u0).predict(model)
        flagged[name] = float(1 - np.mean(to_numpy(prediction.is_reliable)))
    return flagged


# ---------------------------------------------------------------------- everything


def environment(device: Any = "cpu") -> dict[str, Any]:
    """Where a measurement was made: device, threads, versions."""
    is_cuda = torch.device(device).type == "cuda"
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else processor,
        "is_cuda": is_cuda,
        "threads": 1,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def evaluate(
    model,
    families: dict[str, Family] | None = None,
    count: int = 32,
    seed: int = 0,
    quick: bool = False,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Everything that metrics.json and a model card hold.

    Args:
        model: a loaded surrogate; it is measured where it is.
        families: test families by name; default `default_families`.
        count: initial conditions per family.
        seed: which ones.
        quick: fewer trajectories, batches and repeats; not for a card.
        cache: folder for the converged solutions.

    Returns:
        model, problem, count, seed, hardware, environment, families (how to draw them again), results
        (`accuracy` per family), ladder, compare, classical (`compare` without the surrogate), experts
        (`benchmark`), threshold, trust (per family), out_of_family, peak_memory_mb. Times and the ladder
        are measured on the first family.
    """
    families = families or default_families(model)
    if quick:
        count = min(count, 8)
    sets = {}
    for name, family in families.items():
        path = None if cache is None else Path(cache) / f"{name}.npz"
        sets[name] = reference_set(model.problem, family, model.parameter_inputs, count, seed, path)
    first = next(iter(sets.values()))
    batch, repeats = (16, 3) if quick else (64, 7)
    options: dict[str, Any] = {"batches": (1, 16), "experts": (None,)} if quick else {}
    rows = first.take(np.arange(batch) % len(first))
    place = environment(model.device)
    compared = compare(model, first, batch, repeats)
    return {
        "model": model.name,
        "problem": model.problem.name,
        "count": count,
        "seed": seed,
        "hardware": f"{place['device']}, {'one GPU' if place['is_cuda'] else 'one CPU thread'}",
        "environment": place,
        "families": {name: describe(family, FAMILIES) for name, family in families.items()},
        "results": {name: accuracy(model, references) for name, references in sets.items()},
        "ladder": ladder(model.problem, first, model, batch, repeats),
        "compare": compared,
        "classical": compared[1:],
        "experts": benchmark(model, first, repeats=repeats, **options),
        "threshold": model.config["trust"].get("threshold"),
        "trust": {name: trust(model, references) for name, references in sets.items()},
        "out_of_family": out_of_family(model, count, seed),
        "peak_memory_mb": {"batch": batch, "value": peak_memory(lambda: rows.predict(model), model.device)},
    }


def family_of(name: str, model, settings: dict[str, Any] | None = None) -> Family:
    """The family ``name`` with its recorded settings, or inside the model's range of values.

    Raises:
        ValueError: no such family.
    """
    from .zoo.config import build, lookup

    cls, recorded = lookup("family", {"name": name, **(settings or {})}, FAMILIES)
    family = build("family", cls, recorded)
    if settings or name in OUT_OF_FAMILY:
        return family
    default = next(iter(default_families(model).values()))
    return replace(family, low=default.low, high=default.high)
