"""Everything that metrics.json and a model card hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..arrays import to_numpy
from ..families import Family
from ..progress import progress
from ..reference import truth_solver
from ..sampling import default_families, describe_family
from .classical import benchmark, compare
from .clocks import environment, peak_memory
from .ingredients import default_batch, ladder, row_of, summary
from .parameters import by_parameter
from .references import (
    ReferenceSet,
    end_error,
    fine_reference_set,
    reference_set,
    relative_error,
)
from .reliability import out_of_family, trust
from .rollouts import roll_out


def _accuracy(model, references: ReferenceSet) -> dict[str, Any]:
    """`accuracy`, of a system also by field, and the errors at the final time of a roll-out."""
    prediction = references.predict(model)
    u = to_numpy(prediction.u)
    result = summary(relative_error(u, references.u)) | {"polished": int(to_numpy(prediction.is_polished).sum())}
    if model.problem.is_system:
        by_field = {
            name: relative_error(u[..., k], references.u[..., k]) for k, name in enumerate(model.problem.fields)
        }
        result["by_field"] = {name: row_of(errors) for name, errors in by_field.items()}
    if model.num_windows > 1:
        end = summary(end_error(u, references.u))
        result |= {"end_mean": end["mean"], "end_max": end["max"]}
    return result


def evaluate(
    model,
    families: dict[str, Family] | None = None,
    count: int = 32,
    seed: int = 0,
    quick: bool = False,
    cache: Path | None = None,
    fixed_parameters: dict[str, dict[str, float]] | None = None,
    sizes: Iterable[int] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Everything that metrics.json and a model card hold.

    Args:
        model: a loaded surrogate; it is measured where it is.
        families: test families by name; default `default_families`.
        count: initial conditions per family.
        seed: which ones.
        quick: fewer trajectories, batches and repeats; not for a card.
        cache: folder for the converged solutions.
        fixed_parameters: further sets of models with inputs, see `by_parameter`.
        sizes: points per axis of `roll_out`.
        quiet: show no progress.

    Returns:
        model, problem, count, seed, left_out (per family the references that were not solved, if any), hardware,
        environment, families (how to draw them again), results (errors per family), ladder, compare, classical
        (`compare` without the surrogate), experts (`benchmark`), threshold, trust (per family), out_of_family,
        peak_memory_mb; for models with inputs by_parameter, on periodic axes what `roll_out` returns. All but results
        and trust are measured on the first family.
    """
    families = families or default_families(model)
    if quick:
        count = min(count, 8)
    problem, sets, fine = model.problem, {}, None
    for name, family in families.items():
        path = None if cache is None else Path(cache) / f"{name}.npz"
        if truth_solver(problem).has_own_grid and fine is None and not quick:
            path = path and path.with_name(f"{name}-fine.npz")
            fine = fine_reference_set(problem, family, model.parameter_inputs, count, seed, cache=path, quiet=quiet)
            sets[name] = fine.resampled(max(len(axis.nodes) for axis in problem.output_space.values()))
        else:
            sets[name] = reference_set(problem, family, model.parameter_inputs, count, seed, path, quiet=quiet)
    (first_name, first), *_ = sets.items()
    batch, repeats = (16, 3) if quick else (default_batch(model), 7 if fine is None else 5)
    options: dict[str, Any] = {"batches": (1, 16), "experts": (None,)} if quick else {}
    if not quick and fine is not None:
        options["experts"] = (None, 2)
    rows = first.cycled(batch)
    place = environment(model.device)
    report: dict[str, Any] = {
        "model": model.name,
        "problem": problem.name,
        "count": count,
        "seed": seed,
        "hardware": f"{place['device']}, {'one GPU' if place['is_cuda'] else 'one CPU thread'}",
        "environment": place,
        "families": {name: describe_family(family) for name, family in families.items()},
        "threshold": model.config["trust"].get("threshold"),
    }
    left_out = {name: list(references.left_out) for name, references in sets.items() if references.left_out}
    if left_out:
        report["left_out"] = left_out
    stages: dict[str, Callable[[], Any]] = {
        "compare": lambda: compare(model, first, batch, repeats),
        "results": lambda: {name: _accuracy(model, references) for name, references in sets.items()},
        "ladder": lambda: ladder(problem, first, model, batch, repeats),
        "experts": lambda: benchmark(model, first, repeats=repeats, **options),
        "trust": lambda: {name: trust(model, references) for name, references in sets.items()},
        "out_of_family": lambda: out_of_family(model, count, seed),
        "peak_memory_mb": lambda: {
            "batch": batch,
            "value": peak_memory(lambda: rows.predict(model), model.device),
        },
    }
    if model.parameter_inputs and not quick:
        family = families[first_name]
        stages["by_parameter"] = lambda: by_parameter(model, first, family, fixed_parameters, seed, cache)
    if fine is not None:
        stages["roll_out"] = lambda: roll_out(model, fine, sizes, batch)
    for name in progress(stages, "measuring", total=len(stages), quiet=quiet, leave=False):
        report[name] = stages[name]()
    report["classical"] = report["compare"][1:]
    return report | report.pop("roll_out", {})
