"""``pihc demo``: predicts unseen initial conditions with a shipped model, compares with the truth, draws."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..files import check_writable, make_folder
from ..text import percent
from .evaluate import print_comparison
from .predict import print_prediction
from .printing import plain_equation

DEMO_MODEL, DEMO_COUNT, DEMO_SEED = "diffusion-sorption.general", 8, 2024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc demo``."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for demo.npz and demo.png")


def run(options: argparse.Namespace) -> int:
    """Predicts unseen initial conditions with a shipped model, compares with the truth, draws."""
    folder = make_folder(options.output)
    array_path, plot_path = check_writable(folder / "demo.npz"), folder / "demo.png"
    from ..plotting.style import require_matplotlib

    require_matplotlib()
    from ..evaluation import one_thread

    with one_thread():  # the classical solvers have one as well
        _demonstrate(array_path, plot_path)
    print(f"\nwritten to {array_path} and {plot_path}")
    return 0


def _demonstrate(array_path: Path, plot_path: Path) -> None:
    from ..evaluation import compare, family_of, reference_set, relative_error
    from ..zoo.loading import from_pretrained

    model = from_pretrained(DEMO_MODEL)
    problem = model.problem
    print(f"{DEMO_MODEL}: {problem.title}\n  {plain_equation(problem.equation)}")
    print(f"solving {DEMO_COUNT} unseen random initial conditions to convergence for comparison …", flush=True)
    family = family_of("random_sines", model)
    references = reference_set(problem, family, model.parameter_inputs, DEMO_COUNT, DEMO_SEED)
    references.predict(model)  # builds what is cached from then on
    begin = time.perf_counter()
    prediction = references.predict(model)
    seconds = time.perf_counter() - begin
    errors = relative_error(prediction.u, references.u)
    print_prediction(prediction, seconds)
    print(f"true error:      mean {percent(errors.mean())}, max {percent(errors.max())}\n")
    print_comparison(compare(model, references, DEMO_COUNT, repeats=5))
    prediction.save(array_path)
    prediction.plot(0, plot_path, truth=references.u)
