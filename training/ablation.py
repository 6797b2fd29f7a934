"""PI-SC, PI-HC and PI-HC-MoE: settings of one pipeline, trained for the same time each.

A recipe may name its own in a table ``[ablations]``: name → overrides, see `pihc_zoo.config.overridden`.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pihc_zoo import evaluation
from pihc_zoo.evaluation.ingredients import row_of

from . import recipe as recipes
from .experts import overlapping
from .loop import train

_SEEDED = ("PI-SC", "PI-HC", "PI-HC-MoE")  # the others are trained once
_FEW, _MORE = 4, 28  # steps of the two runs that measure the time of a step
_PASS = 16

ABLATIONS: dict[str, dict[str, Any]] = {
    "PI-SC": {
        "network.num_basis": 1,
        "ansatz.num_corrections": 0,
        "decomposition.counts": {"x": 1},
        "solver.max_steps": 0,
        "solver.initial_coefficient": 1.0,
    },
    "PI-HC": {"decomposition.counts": {"x": 1}},
    "PI-HC-MoE": {},
    "PI-HC, quadrature-weighted rows": {
        "decomposition.counts": {"x": 1},
        "residual_map": {"name": "quadrature_weights"},
    },
    "PI-HC-MoE, overlapping, quadrature-weighted rows": {
        "decomposition": {"name": "overlapping", "counts": {"x": 4}},
        "residual_map": {"name": "quadrature_weights"},
    },
    "PI-HC-MoE, disjoint (the paper's), quadrature-weighted rows": {
        "decomposition": {"name": "disjoint", "counts": {"x": 4}},
        "residual_map": {"name": "quadrature_weights"},
    },
}


def settings(recipe: recipes.Recipe, model) -> dict[str, dict[str, Any]]:
    """The recipe's own ablations, or those that suit its kind: of roll-outs, or of one solve."""
    if recipe.ablations:
        return recipe.ablations
    if model.num_windows == 1:
        overlap = overlapping(model, {"x": 4}).overlap
        return {
            label: own | {"decomposition.overlap": overlap} if _kind(own) == "overlapping" else own
            for label, own in ABLATIONS.items()
        }
    whole: dict[str, Any] = {"decomposition": {"name": "joint", "counts": {}}}
    quarters = dict.fromkeys(model.problem.output_space, 2)
    return {
        "PI-SC": {**whole, "solver.max_steps": 0, "solver.initial_coefficient": 1.0},
        "PI-HC": whole,
        "PI-HC-MoE": {"decomposition": {"name": "joint", "counts": quarters}},
    }


def _kind(overrides: dict[str, Any]) -> str | None:
    """The decomposition that overrides name, if any."""
    return overrides.get("decomposition", {}).get("name")


def ablation(
    name: str,
    choices: dict[str, dict[str, Any]],
    references: evaluation.ReferenceSet,
    seconds: float,
    seeds: int,
    output: Path,
) -> list[dict[str, Any]]:
    """Every setting trained for ``seconds``, over seeds.

    Returns:
        Rows of name, seed, steps, error_mean, error_max, failed, minutes (of training), ms and batch
        (of inference).
    """
    rows = []
    for label, overrides in choices.items():
        for seed in range(seeds if label in _SEEDED else 1):
            shared = {**overrides, "training.seed": seed, "training.validate_every": 10**9}
            folder = output / f"{label}-{seed}".replace(" ", "").replace(",", "-").replace("(", "").replace(")", "")

            def run(steps: int, shared: dict[str, Any] = shared, folder: Path = folder):
                shutil.rmtree(folder, ignore_errors=True)
                begin = time.monotonic()
                model = train(recipes.load(name, {**shared, "training.steps": steps}), folder, None, quiet=True)
                return model, time.monotonic() - begin

            run(_FEW)  # warm-up
            start, (_, more) = run(_FEW)[1], run(_MORE)
            step = max(1e-4, (more - start) / (_MORE - _FEW))
            steps = max(12, _FEW + round((seconds - start) / step))
            model, elapsed = run(steps)
            shutil.rmtree(folder)
            row = {"name": label, "seed": seed, "steps": steps, **_measured(model, references), "minutes": elapsed / 60}
            rows.append(row)
            error = "failed" if row["error_mean"] is None else f"{100 * row['error_mean']:.4f} %"
            print(f"{label} seed {seed}: {error} after {steps} steps, {elapsed:.0f} s; {row['ms']:.1f} ms", flush=True)
    return rows


@torch.no_grad()
def _measured(model, references: evaluation.ReferenceSet) -> dict[str, Any]:
    """Errors and time of the plain call: through ``predict`` a soft constraint is never "converged"."""

    def answer(rows: evaluation.ReferenceSet) -> np.ndarray:
        return np.concatenate([model(torch.as_tensor(p.u0), p.parameters).numpy() for p in rows.pieces(_PASS)])

    batch = evaluation.default_batch(model)
    rows = references.cycled(batch)
    measured = evaluation.timing(lambda: answer(rows), 3)
    errors = row_of(evaluation.relative_error(answer(references), references.u))
    return {**errors, "ms": 1e3 * measured["median"] / batch, "batch": batch}
