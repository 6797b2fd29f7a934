"""``pihc finetune``: tunes a model on your own data."""

from __future__ import annotations

import argparse
import sys

from .arguments import add_device, load_model, number, positive, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc finetune``."""
    parser.add_argument("model", help="name, Hub id or folder of the model to start from")
    parser.add_argument("data", help="NPZ or HDF5 file with u0 and, for a data loss, u (batch, time, x)")
    parser.add_argument(
        "--output", required=True, help="folder of the tuned model; an interrupted run continues from it"
    )
    parser.add_argument("--loss", choices=("data", "physics", "both"), default="both")
    parser.add_argument("--steps", type=positive, default=300)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--learning-rate", type=number, default=1e-4)
    parser.add_argument(
        "--validation", type=number, default=0.2, help="held-out fraction of trajectories (default 0.2)"
    )
    parser.add_argument("--seed", type=seed, default=0)
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="neither progress nor errors before and after")


def run(options: argparse.Namespace) -> int:
    """Fine-tunes and writes the model folder; an interrupt leaves a state to continue with."""
    from ..learning.finetune import finetune
    from ..learning.interruption import Terminated, terminable

    try:
        with terminable():
            finetune(
                load_model(options),
                options.data,
                options.output,
                loss=options.loss,
                steps=options.steps,
                batch=options.batch,
                learning_rate=options.learning_rate,
                validation=options.validation,
                seed=options.seed,
                quiet=options.quiet,
            )
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        what = "; ".join(["terminated" if is_terminated else "interrupted", *getattr(interrupt, "__notes__", [])])
        print(f"{what}; run the same command again to continue", file=sys.stderr)
        return Terminated.exit_code if is_terminated else 130
    print(f"tuned model written to {options.output}; evaluate it with: pihc evaluate {options.output}")
    return 0
