"""``python -m training`` with something that happens to one process after some steps; a program for torchrun.

torchrun --nproc-per-node N tests/training_faults.py EVENT RANK STEPS ARGUMENTS…
"""

from __future__ import annotations

import os
import resource
import signal
import sys

from training import __main__ as command
from training import loop

SMALL = [
    "grid.time.elements=2", "grid.time.stages=3", "grid.space.x.num_nodes=16", "grid.space.x.grading=1.0",
    "network.width=4", "network.num_layers=1", "network.modes=[3, 4]", "network.num_basis=2",
    "training.steps=6", "training.batch=3", "training.validate_every=2", "training.dtype=float64",
]  # fmt: skip
TRAIN = ["diffusion-sorption.general", "--references", "0", "--device", "cpu", "--output", "run", "--quiet"]
TRAIN += [part for text in SMALL for part in ("--set", text)]


def nothing() -> None:
    pass


def kill() -> None:
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))


def nan() -> None:
    residual_sum = loop.residual_sum
    loop.residual_sum = lambda *arguments: (residual_sum(*arguments)[0] * float("nan"), *residual_sum(*arguments)[1:])


def main(event: str, rank: int, steps: int, arguments: list[str]) -> int:
    own, count, take_step = int(os.environ.get("RANK", "0")), iter(range(steps)), loop.take_step

    def counted(*given):
        seen = take_step(*given)
        if next(count, None) is None and own == rank:
            globals()[event]()
        return seen

    loop.take_step = counted
    return command.main(arguments)


if __name__ == "__main__":
    name, rank, steps, *arguments = sys.argv[1:]
    sys.exit(main(name, int(rank), int(steps), arguments))
