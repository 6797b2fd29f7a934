"""``pihc finetune``: tunes a model on your own data; several processes under torchrun share the work."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text import one_line
from .arguments import add_device, load_model, number, number_or_text, positive, seed, setting

if TYPE_CHECKING:
    from ..learning.distributed import Processes
    from ..learning.result import Finetuned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc finetune``."""
    parser.add_argument("model", help="name, Hub id or folder of the model to start from")
    parser.add_argument(
        "data", help="NPZ, HDF5 (PDEBench's too), netCDF or Zarr with u0 or u (batch, time, space), or CSV of points"
    )
    parser.add_argument(
        "--output", required=True, help="folder of the tuned model; an interrupted run continues from it"
    )
    parser.add_argument(
        "--loss",
        choices=("data", "physics", "both"),
        default="both",
        help="solutions, the equation alone, or both (default; without solutions: physics)",
    )
    parser.add_argument("--weights", choices=("all", "head"), default="all", help="which weights (default all)")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="new constant: k_f=5e-4, or an input's new range: D=1e-4:3e-4 or D=1e-4:2e-4:3e-4; may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="changed setting of the tuned model, such as network.num_basis=8; may be repeated",
    )
    parser.add_argument(
        "--u0", type=number_or_text, help="initial condition of data without one: a number, or an NPZ file with u0"
    )
    parser.add_argument("--count", type=positive, help="trajectories to read, the first ones (default all)")
    parser.add_argument("--steps", type=positive, default=300)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--learning-rate", type=number, default=1e-3)
    parser.add_argument(
        "--validation", type=number, default=0.2, help="held-out fraction of trajectories (default 0.2)"
    )
    parser.add_argument(
        "--patience", type=positive, default=5, help="reviews of ten without a gain after which it ends (default 5)"
    )
    parser.add_argument("--minutes", type=number, help="time after which it ends")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw errors before and after")
    parser.add_argument("--threads", type=positive, help="CPU threads")
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="neither progress nor errors before and after")
    parser.add_argument(
        "--timeout",
        type=number,
        default=600.0,
        metavar="S",
        help="seconds until a silent peer is lost (default 600)",
    )


def run(options: argparse.Namespace) -> int:
    """Fine-tunes and writes the model folder; an interrupt leaves a state to continue with."""
    from ..learning.distributed import Processes
    from ..learning.interruption import Terminated, terminable
    from ..learning.mesh import Mesh, Place

    place = Place.of_environment()
    processes = Processes(place, Mesh(place.world), options.device, timeout=options.timeout)
    try:
        with terminable():
            if place.world > 1:
                processes.connect()
                options.device = processes.device
            tuned = _tuned(options, processes)
            processes.first(lambda: _said(tuned, options))
            processes.close()
        return 0
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        what = "; ".join(["terminated" if is_terminated else "interrupted", *getattr(interrupt, "__notes__", [])])
        line, code = f"{what}; run the same command again to continue", Terminated.exit_code if is_terminated else 130
    except (ValueError, OSError, MemoryError) as error:
        if place.world == 1:
            raise
        line, code = f"error: {one_line(error) or type(error).__name__}", 2
    if processes.speaks():
        print(line, file=sys.stderr, flush=True)
    if place.world > 1:
        processes.leave(code)
    return code


def _tuned(options: argparse.Namespace, processes: Processes) -> Finetuned:
    from ..files import check_writable
    from ..learning.finetune import finetune
    from ..plotting.style import check_suffix

    parameters = dict(constant(text) for text in options.parameter)
    overrides = dict(setting(text) for text in options.set)
    if options.plot is not None:
        check_writable(check_suffix(options.plot))
    model = load_model(options)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    return finetune(
        model,
        options.data,
        options.output,
        loss=options.loss,
        weights=options.weights,
        parameters=parameters,
        overrides=overrides,
        u0=options.u0,
        count=options.count,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        validation=options.validation,
        patience=options.patience,
        minutes=options.minutes,
        seed=options.seed,
        quiet=options.quiet,
        processes=processes,
    )


def _said(tuned: Finetuned, options: argparse.Namespace) -> None:
    if options.plot is not None:
        tuned.plot(options.plot)
    print(f"tuned model written to {options.output}; use it with: pihc predict {options.output}", flush=True)


def constant(text: str) -> tuple[str, Any]:
    """NAME=VALUE, NAME=LOW:HIGH or NAME=LOW:DEFAULT:HIGH.

    Raises:
        ValueError: another form.
    """
    name, _, value = text.partition("=")
    try:
        values = [float(part) for part in value.split(":")]
    except ValueError:
        values = []
    if not name.strip() or not 1 <= len(values) <= 3:
        raise ValueError(f"--parameter expects NAME=VALUE, NAME=LOW:HIGH or NAME=LOW:DEFAULT:HIGH, got {text!r}")
    return name.strip(), values[0] if len(values) == 1 else tuple(values)
