"""``pihc finetune``: tunes a model on your own data."""

from __future__ import annotations

import argparse

from .arguments import add_device, load_model, number, positive, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc finetune``."""
    parser.add_argument("model", help="name, Hub id or folder of the model to start from")
    parser.add_argument("data", help="NPZ or HDF5 file with u0 and, for a data loss, u (batch, time, x)")
    parser.add_argument("--output", required=True, help="folder of the tuned model")
    parser.add_argument("--loss", choices=("data", "physics", "both"), default="both")
    parser.add_argument("--steps", type=positive, default=300)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--learning-rate", type=number, default=1e-4)
    parser.add_argument("--seed", type=seed, default=0)
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Fine-tunes and writes the model folder."""
    from ..learning.finetune import finetune

    model = load_model(options)
    finetune(
        model,
        options.data,
        options.output,
        loss=options.loss,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        quiet=options.quiet,
    )
    print(f"tuned model written to {options.output}; evaluate it with: pihc evaluate {options.output}")
    return 0
