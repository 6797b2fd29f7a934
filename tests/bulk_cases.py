"""What processes of the tests of bulk prediction do."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import xarray  # noqa: F401 (once for all processes)
import zarr  # noqa: F401

from pihc_zoo.bulk import predict_many
from pihc_zoo.cli import main
from pihc_zoo.zoo.testing import sample

MODEL, CHUNK = "diffusion-sorption.general", 3
COMMAND = ["predict", MODEL, "--input", "many.npz", "--output", "out.zarr", "--batch-size", str(CHUNK)]


def write_input(folder: Path, count: int = 14) -> np.ndarray:
    """many.npz, with one trajectory that is not finite; its u0 (count, 1024)."""
    from pihc_zoo import from_pretrained

    u0, _ = sample(from_pretrained(MODEL), count)
    u0[4, 7] = np.nan
    np.savez(folder / "many.npz", u0=u0, t=np.array([0.0, 20.0, 500.0]))
    return u0


def command(options: list[str], kill: str = "", after: int = 0, rank: int = 0) -> int:
    """``pihc predict`` into out.zarr; one process may kill itself.

    Args:
        kill: "written" after a chunk's arrays and before its mark, "marked" after it, "replaced" between the names.
        after: chunks or renames before that.
    """
    if kill and os.environ.get("RANK", "0") == str(rank):
        _die(kill, after)
    return main([*COMMAND, *options])


def _die(kill: str, after: int) -> None:
    from pihc_zoo.bulk import store

    target, name = (os, "rename") if kill == "replaced" else (store, "write_text")
    real, count = getattr(target, name), 0

    def dying(path, *rest):
        nonlocal count
        is_mark = kill == "replaced" or Path(path).parent.name == "done"
        if is_mark and count == after and kill == "written":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(path, *rest)
        count += is_mark
        if is_mark and count > after and kill != "written":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(target, name, dying)


def peak(folder: Path, count: int) -> int:
    """Predicts ``count`` trajectories; the largest resident memory in KiB goes to <count>.txt."""
    import torch

    from pihc_zoo import from_pretrained

    torch.set_num_threads(1)
    np.savez(folder / f"{count}.npz", u0=np.broadcast_to(np.linspace(0.05, 0.2, 1024), (count, 1024)))
    model = from_pretrained(MODEL)
    predict_many(model, f"{count}.npz", f"{count}.zarr", batch_size=16, polish=False, quiet=True)
    (folder / f"{count}.txt").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    return 0
