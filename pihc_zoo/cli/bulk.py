"""``pihc predict … --output out.zarr``: many trajectories, at constant memory; see `pihc_zoo.bulk`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from .arguments import assignment, load_model, number, positive

_ELSEWHERE = ("constant", "sample", "family", "seed", "plot", "animate")  # of a prediction in memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of a prediction into a Zarr store."""
    bulk = parser.add_argument_group("many trajectories: --output NAME.zarr")
    bulk.add_argument("--resume", action="store_true", help="go on from the finished chunks of a run that was stopped")
    bulk.add_argument("--overwrite", action="store_true", help="replace the store, when the new one is complete")
    bulk.add_argument("--batch-size", type=positive, metavar="N", help="trajectories of a chunk (default: by memory)")
    bulk.add_argument(
        "--timeout", type=number, default=60.0, metavar="S", help="seconds until a silent process is lost (default 60)"
    )


def check_unused(options: argparse.Namespace) -> None:
    """Refuses what only a Zarr store has.

    Raises:
        ValueError: --resume, --overwrite or --batch-size with another output.
    """
    for name in ("resume", "overwrite", "batch_size"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is for an --output that ends in .zarr, got {options.output}")


def positions(texts: list[str]) -> Any:
    """Output positions: numbers, or with several axes NAME=NUMBER,NUMBER each.

    Raises:
        ValueError: something else.
    """
    try:
        if not any("=" in text for text in texts):
            return [number(text) for text in texts]
        pairs = [text.partition("=") for text in texts]
        return {name.strip(): [number(value) for value in values.split(",")] for name, _, values in pairs}
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--x expects numbers, or x=0.25,0.5 y=0.5 with several axes: {error}") from None


def run(options: argparse.Namespace, settings: Any) -> int:
    """Predicts into a Zarr store and prints a summary.

    Args:
        settings: model ↦ experts, max_steps and polish of the call.
    """
    from ..bulk.ranks import PeerError, Ranks
    from ..learning.interruption import Terminated, terminable

    for name in _ELSEWHERE:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is not for a Zarr store; leave it out, or choose an --output that ends in .npz")
    if options.input is None:
        raise ValueError("expected --input with u0: an NPZ, netCDF, Zarr or HDF5 file; see: pihc predict --help")
    ranks = Ranks.of_environment(options.timeout)
    try:
        with terminable(), ranks.together():
            summary = _predict(options, settings, ranks)
    except PeerError as error:
        if error.is_said:
            return 2
        raise
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        if not getattr(interrupt, "is_said", False):
            what = "terminated" if is_terminated else "interrupted"
            print(f"{what}; --resume goes on from the finished chunks", file=sys.stderr)
        return Terminated.exit_code if is_terminated else 130
    if ranks.is_first:
        print_summary(options.model, summary)
    return 0


def _predict(options: argparse.Namespace, settings: Any, ranks: Any) -> Any:
    from ..bulk import predict_many

    if options.device == "cuda" and ranks.world > 1:
        options.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if options.backend == "torch":
        import torch

        torch.set_num_threads(options.threads)  # before loading, whose sums depend on it as well
    model = load_model(options)
    return predict_many(
        model,
        options.input,
        options.output,
        x=None if options.x is None else positions(options.x),
        times=options.times,
        parameters=dict(assignment(text) for text in options.set),
        batch_size=options.batch_size,
        resume=options.resume,
        overwrite=options.overwrite,
        compress=options.compress,
        diagnostics=options.save_diagnostics,
        on_failure=options.on_failure or "warn",
        ranks=ranks,
        **settings(model),
    )


def print_summary(model: str, summary: Any) -> None:
    """Rate, failures and where the store is."""
    if summary.computed:
        rate = summary.computed / max(summary.seconds, 1e-9)
        before = summary.count - summary.computed
        more = f", {before} were finished before" if before else ""
        print(f"{model}: {summary.computed} trajectories in {summary.seconds:.1f} s ({rate:.3g} per second){more}")
    else:
        print(f"{model}: all {summary.count} trajectories were finished before")
    print(f"failed: {summary.failed} of {summary.count}; reliable: {summary.reliable} of {summary.count}")
    if summary.first_failure:
        index, message = summary.first_failure
        print(f"first failure: trajectory {index}: {message}; each one's is in the variable messages")
    print(f"written to {summary.path}")
