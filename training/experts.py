"""What decompositions, numbers of experts and steps bring: error and time of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from pihc_zoo import evaluation
from pihc_zoo.decomposition import Decomposition, Disjoint, Joint, Overlapping
from pihc_zoo.evaluation.ingredients import row_of
from pihc_zoo.surrogate import Surrogate


def overlapping(model: Surrogate, counts: dict[str, int]) -> Overlapping:
    """Overlapping experts, by six nodes, or by as many as half a subdomain has."""
    halves = [model.constraint.grid.axes[name].num_nodes // count // 2 for name, count in counts.items()]
    return Overlapping(counts, overlap=min(6, *halves))


def _choices(model: Surrogate) -> list[tuple[Decomposition, int]]:
    """Decompositions and numbers of steps to compare."""
    space, steps = model.problem.output_space, model.constraint.solver.max_steps
    if model.num_windows > 1:
        one, two, four = ({}, dict.fromkeys(space, 2), dict.fromkeys(space, 4))
        choices: list[tuple[Decomposition, int]] = [(Joint(counts), steps) for counts in (one, two, four)]
        choices += [(overlapping(model, two), steps), (Disjoint(two), steps)]
        return choices + [(model.constraint.decomposition, n) for n in range(steps)]
    axis = model.problem.default_axis
    choices = [(Joint({axis: k}), steps) for k in (1, 2, 4, 8)]
    choices += [(Joint({axis: 4}), n) for n in (1, 2, 3)]
    choices += [(overlapping(model, {axis: k}), steps) for k in (2, 4)]
    return choices + [(Disjoint({axis: k}), steps) for k in (2, 4)]


def expert_table(model: Surrogate, references: evaluation.ReferenceSet) -> list[dict[str, Any]]:
    """Error and time over decompositions, numbers of experts and steps; a note where there is no answer."""
    size = evaluation.default_batch(model)
    batch = references.cycled(size)
    if model.num_windows > 1:
        references = references.take(slice(0, size))
    rows, calls = [], {}
    for i, (decomposition, max_steps) in enumerate(_choices(model)):
        is_many = len(decomposition.counts) > 1
        row: dict[str, Any] = {
            "decomposition": type(decomposition).__name__.lower(),
            "experts": dict(decomposition.counts) if is_many else decomposition.num_experts,
            "max_steps": max_steps,
            "batch": size,
        }
        try:
            row |= _answered(model, references, decomposition, max_steps)
            calls[i] = lambda d=decomposition, n=max_steps: _answer(model, batch, d, n)
        except ValueError as error:
            row |= {"error_mean": None, "error_max": None, "failed": len(references), "note": str(error)}
        rows.append(row)
    times = evaluation.timings(calls, 3, model.device)
    return [{**row, "ms": 1e3 * times[i]["median"] / size if i in times else None} for i, row in enumerate(rows)]


def _answer(
    model: Surrogate, rows: evaluation.ReferenceSet, decomposition: Decomposition, max_steps: int
) -> tuple[np.ndarray, list[str]]:
    """(batch, time, *space) and messages."""
    if max_steps == 0:
        return evaluation.unsolved(model, rows, decomposition), []
    options: dict[str, Any] = {"experts": decomposition, "max_steps": max_steps}
    if max_steps < model.constraint.solver.max_steps:
        options["rtol"] = 1.0e3  # what the steps bring: failure to converge is not a refusal
    prediction = rows.predict(model, **options)
    return prediction.u, prediction.messages


def _answered(
    model: Surrogate, references: evaluation.ReferenceSet, decomposition: Decomposition, max_steps: int
) -> dict[str, Any]:
    """Errors and how many failed; a note where some did."""
    u, messages = _answer(model, references, decomposition, max_steps)
    errors = evaluation.relative_error(u, references.u)
    failed = [messages[i] if messages else "not finite" for i in np.flatnonzero(~np.isfinite(errors))]
    note = {"note": f"{len(failed)} of {len(errors)} failed: {failed[0]}"} if failed else {}
    return {**row_of(errors), **note}
