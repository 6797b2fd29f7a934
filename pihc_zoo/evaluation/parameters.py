"""How a model's error depends on the parameters that it takes as input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..families import Family
from .ingredients import row_of
from .references import ReferenceSet, end_error, reference_set, relative_error

_BINS = 4
_NUM_FIXED = 16  # trajectories of a set with fixed parameters


def _row(parameter: str, label: dict[str, Any], references: ReferenceSet, u: np.ndarray) -> dict[str, Any]:
    errors = relative_error(u, references.u)
    at_end = end_error(u, references.u)
    return {
        "parameter": parameter,
        **label,
        "count": len(references),
        **row_of(errors),
        "end_mean": row_of(at_end)["error_mean"],
    }


def by_parameter(
    model,
    references: ReferenceSet,
    family: Family,
    fixed: dict[str, dict[str, float]] | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """Errors over the declared range of each input parameter, in bins, and where some are held fixed.

    Args:
        references: solutions for parameters drawn from their ranges, sorted into bins that are equal on
            the parameter's own scale.
        family: initial conditions of the further sets, of at most 16 trajectories.
        fixed: further sets by name, values by symbol; default: each input at its lower end.
        seed, cache: as for `evaluate`.

    Returns:
        Rows of parameter, low and high (a bin) or name and values (a set), count, error_mean,
        error_max, failed, end_mean (at the final time).
    """
    problem, inputs = model.problem, model.parameter_inputs
    if not inputs:
        return []
    rows, u = [], to_numpy(references.predict(model).u)
    for key in inputs:
        parameter = problem.parameters[key]
        space = np.geomspace if parameter.is_logarithmic else np.linspace
        edges = space(parameter.low, parameter.high, _BINS + 1)
        place = np.clip(np.searchsorted(edges, references.parameters[key], side="right") - 1, 0, _BINS - 1)
        for i in range(_BINS):
            chosen = np.flatnonzero(place == i)
            if len(chosen):
                label = {"low": float(edges[i]), "high": float(edges[i + 1])}
                rows.append(_row(key, label, references.take(chosen), u[chosen]))
    if fixed is None:
        fixed = {f"{key} at its lower end": {key: problem.parameters[key].low} for key in inputs}
    for name, values in fixed.items():
        path = None if cache is None else Path(cache) / f"parameters-{name.replace(' ', '_')}.npz"
        own = reference_set(problem, family, inputs, min(len(references), _NUM_FIXED), seed, path, fixed=values)
        label = {"name": name, "values": {key: float(value) for key, value in values.items()}}
        rows.append(_row(", ".join(values), label, own, to_numpy(own.predict(model).u)))
    return rows
