"""python -m training.measure RECIPE MODEL_FOLDER [--to FOLDER]: calibrate, measure, print the figures.

It calibrates the trust threshold on one seed and measures everything that a model card shows on
another. With --to it writes the finished model folder, example.npz for self-tests included; without,
nothing but caches of references in runs/. ``--to shipped`` is for maintainers: it replaces the weights
of that name in this checkout.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pihc_zoo import evaluation
from pihc_zoo.cli.arguments import Parser, add_imports
from pihc_zoo.files import save_npz, write_text
from pihc_zoo.learning.checkpoint import open_folder
from pihc_zoo.reference import truth_solver
from pihc_zoo.registration import import_packages
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.card import PLOT_FILE
from pihc_zoo.zoo.folder import EXAMPLE_FILE, METRICS_FILE, read_metrics, record
from pihc_zoo.zoo.registry import WEIGHTS
from pihc_zoo.zoo.storage import load_folder, save_folder

from . import honesty
from . import recipe as recipes
from .ablation import ablation, settings
from .console import guarded, integer
from .experts import expert_table
from .recipe import SHIPPED

CALIBRATION_SEED, TEST_SEED = 101, 0
KINDS_COUNT = 160  # answers on other kinds of fields, of which 1 % may err more than `evaluation.calibration.WORST`


def calibrate(model: Surrogate, recipe: recipes.Recipe, count: int, cache: Path, kinds: int | None = None) -> Surrogate:
    """The model with the recipe's trust settings and thresholds calibrated on its test families.

    On periodic axes the estimate also covers half the error of 99 % of the answers on other kinds of fields, of which
    ``kinds`` are solved.
    """
    kinds = KINDS_COUNT if kinds is None else kinds
    sets = []
    for name, family in recipe.test_families.items():
        path = cache / f"calibrate-{name}.npz"
        sets.append(
            evaluation.reference_set(model.problem, family, model.parameter_inputs, count, CALIBRATION_SEED, path)
        )
    return evaluation.calibrated(model, sets, recipe.config["trust"], lambda own: _underestimated(own, kinds))


def _underestimated(model: Surrogate, kinds: int) -> float:
    """99 % quantile of error over estimate, of errors that count, on kinds of fields outside the families."""
    if not kinds:
        return 0.0
    cases = honesty.search(model, kinds, CALIBRATION_SEED, most=kinds).cases
    ratios = [case.ratio for case in cases if case.error > honesty.SMALL and np.isfinite(case.ratio)]
    return float(np.quantile(ratios, 0.99)) if ratios else 0.0


def write_example(model: Surrogate, references: evaluation.ReferenceSet, target: Path) -> None:
    """example.npz for self-tests, and its last trajectory drawn: of fields on several axes one, at few times."""
    is_large = references.u0.ndim > 2
    example = references.take(slice(0, 1 if is_large else 2))
    prediction = example.predict(model)
    every = slice(None, None, max(1, len(prediction.t) // 3) if is_large else 20)
    u = prediction.u[:, every]
    arrays = {"u0": example.u0, **prediction.points, "t": prediction.t[every]}
    arrays["u"] = u.astype(np.float32) if is_large else u
    save_npz(target / EXAMPLE_FILE, arrays | {f"parameter_{k}": v for k, v in example.parameters.items()})
    if importlib.util.find_spec("matplotlib"):
        prediction.plot(len(example) - 1, target / PLOT_FILE)


def measure(
    name: str,
    source: Path,
    target: Path | None,
    seconds: float,
    seeds: int,
    count: int | None,
    sizes: list[int] | None = None,
    kinds: int | None = None,
    calibration: int | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Calibrates and measures the model in ``source``; writes the finished folder to ``target``, if there is one."""
    recipe = recipes.load(name)
    model = load_folder(source, Surrogate)
    wanted, found = recipe.config["problem"]["name"], model.problem.name
    if wanted != found:
        raise ValueError(f"{str(source)!r} is a model of {found}, but the recipe {recipe.name!r} of {wanted}")
    if target is not None:
        open_folder(target)
    model.name = recipe.name
    is_roll_out = model.num_windows > 1
    count = count or (32 if is_roll_out else 48)
    cache = Path("runs") / "references" / recipe.name
    calibration = calibration or max(count, 96 if is_roll_out else 64)
    model = calibrate(model, recipe, calibration, cache, kinds)
    results = evaluation.evaluate(
        model,
        recipe.test_families,
        count=count,
        seed=TEST_SEED,
        cache=cache,
        fixed_parameters=recipe.test_parameters or None,
        sizes=sizes,
        quick=quick,
    )
    first, family = next(iter(recipe.test_families.items()))
    draw = (model.problem, family, model.parameter_inputs, count, TEST_SEED)
    if truth_solver(model.problem).has_own_grid:
        native = max(len(axis.nodes) for axis in model.problem.output_space.values())
        references = evaluation.fine_reference_set(*draw, cache=cache / f"{first}-fine.npz").resampled(native)
    else:
        references = evaluation.reference_set(*draw, cache=cache / f"{first}.npz")
    with evaluation.one_thread():
        experts = [] if quick else expert_table(model, references)
    before = read_metrics(source) or {}  # weights that were measured once keep what is known of their training
    log_path = source.parent / "metrics.jsonl"
    log = [json.loads(line) for line in log_path.read_text().splitlines()] if log_path.is_file() else []
    trained = {
        "recipe": f"training/recipes/{name}.toml",
        "description": recipe.description,
        "command": f"python -m training {name}",
        "measured_with": f"python -m training.measure {name} runs/{source.parent.name}/model",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "hardware": f"{results['environment']['device']}, 1 thread",
        "training_minutes": log[-1]["seconds"] / 60 if log else before.get("training_minutes"),
        "training_steps": log[-1]["step"] if log else before.get("training_steps"),
    }
    if seconds:
        output = Path("runs") / "ablation" / recipe.name
        rows = ablation(name, settings(recipe, model), references, seconds, seeds, output)
    else:
        rows = ((target and read_metrics(target)) or before).get("training_ablation", [])
    most = evaluation.default_batch(model)
    metrics = {
        **results,
        **trained,
        "experts": experts + [row for row in results["experts"] if row["batch"] < most],
        "benchmark": results["experts"],
        "training_ablation": rows,
    }
    if target is None:
        return metrics
    save_folder(model, target)
    write_example(model, references, target)
    write_text(target / METRICS_FILE, json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    record(target, METRICS_FILE, EXAMPLE_FILE)
    return metrics


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "run the same command again")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training.measure", description="Calibrate and measure a trained model.")
    parser.add_argument("recipe")
    parser.add_argument("source", type=Path, help="folder of the trained model, runs/…/model")
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        help=f"write the finished folder there; '{SHIPPED}' replaces the weights of that name in this checkout "
        "(default: print the figures only)",
    )
    parser.add_argument(
        "--ablation-seconds", type=float, default=30.0, help="training time of each setting (0: keep earlier rows)"
    )
    parser.add_argument("--seeds", type=integer(1), default=3)
    parser.add_argument(
        "--count", type=integer(1), help="initial conditions per test family (default 48, of roll-outs 32)"
    )
    parser.add_argument(
        "--sizes",
        type=integer(2),
        nargs="+",
        help="periodic axes: points per axis (default: native, two and four times it)",
    )
    parser.add_argument(
        "--kinds",
        type=integer(0),
        help=f"answers on other kinds of fields that calibrate growth (default {KINDS_COUNT})",
    )
    parser.add_argument(
        "--calibration",
        type=integer(2),
        help="initial conditions per family to calibrate on (default 64, of roll-outs 96)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="at most 8 fields, few batches, no table of experts: where a solution is dear",
    )
    add_imports(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    import_packages(options.imports)
    torch.set_num_threads(1)
    name, target = options.recipe, options.to and Path(options.to)
    if options.to == SHIPPED:
        target = WEIGHTS / recipes.load(name).name
    metrics = measure(
        name,
        options.source,
        target,
        options.ablation_seconds,
        options.seeds,
        options.count,
        options.sizes,
        options.kinds,
        options.calibration,
        options.quick,
    )
    for family, row in metrics["results"].items():
        print(f"{family}: mean {100 * row['mean']:.4f} %, max {100 * row['max']:.4f} % of {row['count']}")
    if target is None:
        print("nothing was written; to keep model and figures, run it with --to FOLDER")
    else:
        print(f"finished folder written to {target}")


if __name__ == "__main__":
    sys.exit(main())
