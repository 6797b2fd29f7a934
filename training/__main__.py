"""python -m training RECIPE [--output DIR] [--set key=value …]"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tomllib
from pathlib import Path

import torch

from pihc_zoo.cli.arguments import add_imports
from pihc_zoo.evaluation import reference_set
from pihc_zoo.plotting.training import plot_training
from pihc_zoo.registration import import_packages
from pihc_zoo.zoo.storage import save_folder

from . import recipe as recipes
from .console import Parser, guarded, integer
from .loop import LOG, advance, prepare


def main(arguments: list[str] | None = None) -> int:
    """Command line of training; errors are one line and exit code 2."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "run the same command again to continue")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training", description="Train a surrogate without solution data.")
    parser.add_argument("recipe", help="name of a recipe in training/recipes, or a TOML file")
    parser.add_argument("--output", type=Path, help="folder of checkpoint, log and model (default runs/RECIPE)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. training.steps=500"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=integer(1), help="CPU threads")
    parser.add_argument(
        "--references", type=integer(0), default=16, help="references to validate against (default 16; 0: none)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_imports(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    import_packages(options.imports)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = recipes.load(options.recipe, dict(_override(text) for text in options.set))
    output = options.output or Path("runs") / recipe.name
    run = prepare(recipe, output, options.device)
    validation = None
    if options.references:
        family = next(iter(recipe.test_families.values()))
        problem, inputs = run.model.problem, run.model.parameter_inputs
        cache = output / "references.npz"
        validation = reference_set(
            problem, family, inputs, options.references, seed=77, cache=cache, quiet=options.quiet
        )
    model = advance(run, validation, options.quiet)
    save_folder(model, output / "model")
    print(f"model written to {output / 'model'}; evaluate it with: pihc evaluate {output / 'model'}")
    if importlib.util.find_spec("matplotlib"):
        plot_training(output / LOG, output / "training.png")


def _override(text: str):
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"--set expects KEY=VALUE, got {text!r}")
    try:
        return key, tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key, value


if __name__ == "__main__":
    sys.exit(main())
