"""python -m training RECIPE [--output DIR] [--set key=value …]"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import torch

from pihc_zoo.plotting.training import plot_training
from pihc_zoo.problems import PROBLEMS
from pihc_zoo.zoo.storage import save_folder

from . import recipe as recipes
from . import references
from .loop import train


def main(arguments: list[str] | None = None) -> int:
    """Command line of training; errors are one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train a surrogate without solution data.")
    parser.add_argument("recipe", help="name of a recipe in training/recipes, or a TOML file")
    parser.add_argument("--output", type=Path, help="folder of checkpoint, log and model (default runs/RECIPE)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. training.steps=500"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--references", type=int, default=16, help="references to validate against (0: none)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        overrides = dict(_override(text) for text in options.set)
        recipe = recipes.load(options.recipe, overrides)
        output = options.output or Path("runs") / recipe.name
        problem = PROBLEMS[recipe.config["problem"]["name"]]()
        inputs = tuple(recipe.config["problem"].get("inputs", ()))
        validation = None
        if options.references:
            family = next(iter(recipe.test_families.values()))
            cache = output / "references.npz"
            validation = references.build(problem, family, inputs, options.references, seed=77, cache=cache)
        model = train(recipe, output, validation, options.device, options.quiet)
        save_folder(model, output / "model")
        plot_training(output / "metrics.jsonl", output / "training.png")
        print(f"model written to {output / 'model'}; evaluate it with: pihc evaluate {output / 'model'}")
    except (ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def _override(text: str):
    key, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"--set expects KEY=VALUE, got {text!r}")
    try:
        return key, tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key, value


if __name__ == "__main__":
    sys.exit(main())
