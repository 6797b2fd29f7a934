"""python -m training.measure RECIPE MODEL_FOLDER [--to FOLDER]: calibrate, measure, write metrics.json.

It calibrates the trust threshold on one seed, measures everything that a model card shows on
another, adds example.npz for self-tests, and writes the finished model folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pihc_zoo import evaluation
from pihc_zoo.decomposition import Disjoint, Joint, Overlapping
from pihc_zoo.prediction import atomic_path, save_npz
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.folder import read_metrics
from pihc_zoo.zoo.storage import load_folder, load_network, save_folder

from . import recipe as recipes
from .loop import train

CALIBRATION_SEED, TEST_SEED = 101, 0
FALSE_ALARMS = 0.01  # share of in-family trajectories above a threshold, per test family
MARGIN = 1.3  # keeps false alarms below 5 % on other draws of the same families


def calibrate(model: Surrogate, recipe: recipes.Recipe, count: int, cache: Path) -> dict[str, float]:
    """Thresholds of the trust report, from the largest (1 − FALSE_ALARMS) quantile of any test family.

    The unresolved part has a heavier tail, hence its wider margin.
    """
    estimates, unresolved = [], []
    for name, family in recipe.test_families.items():
        references = evaluation.reference_set(
            model.problem, family, model.parameter_inputs, count, CALIBRATION_SEED, cache / f"calibrate-{name}.npz"
        )
        prediction = references.predict(model)
        estimates.append(np.nanquantile(prediction.estimated_error, 1 - FALSE_ALARMS))
        unresolved.append(np.nanquantile(prediction.unresolved, 1 - FALSE_ALARMS))
    return {"threshold": float(MARGIN * max(estimates)), "unresolved": float(5 * max(unresolved) + 1e-9)}


def expert_table(model: Surrogate, references: evaluation.ReferenceSet) -> list[dict[str, Any]]:
    """Error and time over decompositions, numbers of experts and steps."""
    axis = model.problem.default_axis
    steps = model.constraint.solver.max_steps
    choices = [(Joint({axis: k}), steps) for k in (1, 2, 4, 8)]
    choices += [(Joint({axis: 4}), n) for n in (1, 2, 3)]
    choices += [(Overlapping({axis: k}, overlap=6), steps) for k in (2, 4)]
    choices += [(Disjoint({axis: k}), steps) for k in (2, 4)]
    rows = []
    batch = references.take(np.arange(64) % len(references))
    for decomposition, max_steps in choices:
        # max_steps below the default: what the steps bring, so failure to converge is not a refusal
        options: dict[str, Any] = {"experts": decomposition, "max_steps": max_steps}
        if max_steps < steps:
            options["rtol"] = 1.0e3
        summary = evaluation.accuracy(model, references, **options)
        measured = evaluation.timing(lambda o=options: batch.predict(model, **o), 3)
        rows.append(
            {
                "decomposition": type(decomposition).__name__.lower(),
                "experts": decomposition.num_experts,
                "max_steps": max_steps,
                "batch": 64,
                "error_mean": summary["mean"],
                "error_max": summary["max"],
                "failed": summary["failed"],
                "ms": 1e3 * measured["median"] / 64,
            }
        )
    return rows


# PI-SC, PI-HC and PI-HC-MoE: three settings of one pipeline
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
        "decomposition": {"name": "overlapping", "counts": {"x": 4}, "overlap": 6},
        "residual_map": {"name": "quadrature_weights"},
    },
    "PI-HC-MoE, disjoint (the paper's), quadrature-weighted rows": {
        "decomposition": {"name": "disjoint", "counts": {"x": 4}},
        "residual_map": {"name": "quadrature_weights"},
    },
}


def ablation(name: str, references: evaluation.ReferenceSet, seconds: float, seeds: int, output: Path) -> list[dict]:
    """Every setting trained for the same time, over seeds: PI-SC, PI-HC, PI-HC-MoE."""
    rows = []
    for label, overrides in ABLATIONS.items():
        for seed in range(seeds if label in ("PI-SC", "PI-HC", "PI-HC-MoE") else 1):
            shared = {**overrides, "training.seed": seed, "training.validate_every": 10**9}
            trial = recipes.load(name, {**shared, "training.steps": 12})
            folder = output / f"{label}-{seed}".replace(" ", "").replace(",", "-").replace("(", "").replace(")", "")
            shutil.rmtree(folder, ignore_errors=True)
            train(trial, folder, None, quiet=True)  # warm-up and calibration of the step time
            shutil.rmtree(folder)
            begin = time.monotonic()
            train(trial, folder, None, quiet=True)
            step_seconds = (time.monotonic() - begin) / 12
            shutil.rmtree(folder)
            steps = max(12, round(seconds / step_seconds))
            begin = time.monotonic()
            model = train(recipes.load(name, {**shared, "training.steps": steps}), folder, None, quiet=True)
            elapsed = time.monotonic() - begin
            fields = []
            with torch.no_grad():  # not through predict: a soft constraint is never "converged"
                fields = model(torch.as_tensor(references.u0), references.parameters).numpy()
            errors = evaluation.relative_error(fields, references.u)
            rows.append(
                {
                    "name": label,
                    "seed": seed,
                    "steps": steps,
                    "error_mean": float(errors.mean()),
                    "error_max": float(errors.max()),
                    "minutes": elapsed / 60,
                }
            )
            print(f"{label} seed {seed}: {100 * errors.mean():.4f} % after {steps} steps, {elapsed:.0f} s", flush=True)
            shutil.rmtree(folder)
    return rows


def measure(name: str, source: Path, target: Path, seconds: float, seeds: int, count: int) -> dict[str, Any]:
    """Calibrates and measures the model in ``source``; writes the finished folder to ``target``."""
    recipe = recipes.load(name)
    model = load_folder(source)
    model.name = recipe.name
    cache = Path("runs") / "references" / recipe.name
    config = {**model.config, "trust": {**recipe.config["trust"]}}
    config["trust"] |= calibrate(model, recipe, max(count, 64), cache)
    finished = Surrogate.from_config(config)
    load_network(finished, model.network.state_dict(), str(source))
    model = finished.eval()
    model.name = recipe.name
    results = evaluation.evaluate(model, recipe.test_families, count=count, seed=TEST_SEED, cache=cache)
    first = next(iter(recipe.test_families))
    references = evaluation.reference_set(
        model.problem, recipe.test_families[first], model.parameter_inputs, count, TEST_SEED, cache / f"{first}.npz"
    )
    log = [json.loads(line) for line in (source.parent / "metrics.jsonl").read_text().splitlines()]
    with evaluation.one_thread():
        experts = expert_table(model, references)
    trained = {
        "recipe": f"training/recipes/{name}.toml",
        "description": recipe.description,
        "command": f"python -m training {name}",
        "measured_with": f"python -m training.measure {name} runs/{source.parent.name}/model",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "hardware": f"{results['environment']['device']}, 1 thread",
        "training_minutes": log[-1]["seconds"] / 60,
        "training_steps": log[-1]["step"],
    }
    if seconds:
        rows = ablation(name, references, seconds, seeds, Path("runs") / "ablation" / recipe.name)
    else:
        rows = (read_metrics(target) or {}).get("training_ablation", [])
    smaller = [row for row in results["experts"] if row["batch"] < 64]
    metrics = {
        **results,
        **trained,
        "experts": experts + smaller,
        "benchmark": results["experts"],
        "training_ablation": rows,
    }
    save_folder(model, target)
    example = references.take(slice(0, 2))
    prediction = example.predict(model)
    arrays = {"u0": example.u0, "x": prediction.x, "t": prediction.t[::20], "u": prediction.u[:, ::20]}
    save_npz(target / "example.npz", arrays | {f"parameter_{k}": v for k, v in example.parameters.items()})
    with atomic_path(target / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return metrics


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m training.measure", description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("source", type=Path, help="folder of the trained model, runs/…/model")
    parser.add_argument("--to", type=Path, help="finished folder (default: the shipped weights)")
    parser.add_argument(
        "--ablation-seconds", type=float, default=30.0, help="training time of each setting (0: keep earlier rows)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=48, help="initial conditions per test family")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        name = options.recipe
        target = options.to or Path(__file__).parents[1] / "pihc_zoo" / "zoo" / "weights" / recipes.load(name).name
        metrics = measure(name, options.source, target, options.ablation_seconds, options.seeds, options.count)
        for family, row in metrics["results"].items():
            print(f"{family}: mean {100 * row['mean']:.4f} %, max {100 * row['max']:.4f} % of {row['count']}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
