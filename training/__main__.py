"""python -m training RECIPE [--output DIR] [--set key=value …]; torchrun -m training … for several processes"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch

from pihc_zoo.cli.arguments import Parser, add_imports, setting
from pihc_zoo.evaluation import ReferenceSet, calibrated, reference_set
from pihc_zoo.learning.distributed import BACKENDS, Processes
from pihc_zoo.learning.mesh import Mesh, Place
from pihc_zoo.plotting.training import plot_training
from pihc_zoo.registration import import_packages
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.storage import save_folder

from . import recipe as recipes
from .console import guarded, integer, seconds
from .log import LOG, Log
from .loop import advance
from .profile import Profile
from .references import SharedReferences
from .run import prepare


def main(arguments: list[str] | None = None) -> int:
    """Command line of training; errors are one line and exit code 2, of all processes."""
    started: list[Processes] = []

    def speaks() -> bool:
        return started[0].speaks() if started else _rank() == 0

    def command() -> None:
        options = _parser().parse_args(arguments)
        place = Place.of_environment()
        mesh = Mesh.parse(options.mesh, place.world)
        import_packages(options.imports)
        recipe = recipes.load(options.recipe, dict(setting(text) for text in options.set), options.quiet)
        if options.threads:
            torch.set_num_threads(options.threads)
        processes = Processes(place, mesh, options.device, options.backend, options.timeout)
        started.append(processes)
        processes.connect()
        _run(options, recipe, processes)

    code = guarded(command, "run the same command again to continue", speaks)
    if code and started and started[0].world > 1:
        started[0].leave(code)
    return code


def _rank() -> int:
    try:
        return Place.of_environment().rank
    except ValueError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training", description="Train a surrogate without solution data.")
    parser.add_argument("recipe", help="name of a recipe in training/recipes, or a TOML file")
    parser.add_argument("--output", type=Path, help="folder of checkpoint, log and model (default runs/RECIPE)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. training.steps=500"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=integer(1), help="CPU threads of each process")
    parser.add_argument(
        "--references", type=integer(0), default=16, help="references to validate against (default 16; 0: none)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    before = parser.add_mutually_exclusive_group()
    before.add_argument(
        "--resume", action="store_true", help="go on from the folder's checkpoint under other training settings"
    )
    before.add_argument("--overwrite", action="store_true", help="delete the run in the folder and begin anew")
    parser.add_argument("--accumulate", type=integer(1), default=1, help="parts of a batch, one after the other")
    parser.add_argument("--save-every", type=seconds, help="seconds between checkpoints (default 60)")
    parser.add_argument("--profile", action="store_true", help="write profile.txt and profile.json of a few steps")
    parser.add_argument("--tensorboard", action="store_true", help="write the log for TensorBoard, too")
    several = parser.add_argument_group("several processes, started by torchrun")
    several.add_argument(
        "--mesh", metavar="data=N,expert=M", help="shares of the batch and of its experts (default data=all)"
    )
    several.add_argument("--backend", choices=BACKENDS, help="default nccl on GPUs, gloo on CPUs")
    several.add_argument(
        "--timeout", type=seconds, default=600.0, help="seconds until a silent process counts as lost (default 600)"
    )
    add_imports(parser)
    return parser


def _run(options: argparse.Namespace, recipe: recipes.Recipe, processes: Processes) -> None:
    output = options.output or Path("runs") / recipe.name
    log = Log(output, options.tensorboard and processes.is_first)
    run = prepare(
        recipe,
        output,
        processes=processes,
        parts=options.accumulate,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    validation = None
    if options.references:
        family = next(iter(recipe.test_families.values()))
        problem, inputs = run.model.problem, run.model.parameter_inputs
        cache = output / "references.npz"
        validation = SharedReferences(
            processes,
            lambda: reference_set(
                problem, family, inputs, options.references, seed=77, cache=cache, quiet=options.quiet
            ),
        )
    profile = Profile(output if options.profile and processes.is_first else None)
    model = advance(run, validation, options.quiet, options.save_every, log, profile)
    processes.first(lambda: _finish(model.float(), output, validation and validation.references))
    processes.close()


def _finish(model: Surrogate, output: Path, references: ReferenceSet | None) -> None:
    """Writes the model, what it is to be trusted for calibrated on the references."""
    if references is not None and model.trust.threshold is None:
        model = calibrated(model, [references], model.config["trust"])
    save_folder(model, output / "model")
    print(f"model written to {output / 'model'}; evaluate it with: pihc evaluate {output / 'model'}")
    if importlib.util.find_spec("matplotlib"):
        plot_training(output / LOG, output / "training.png")


if __name__ == "__main__":
    sys.exit(main())
