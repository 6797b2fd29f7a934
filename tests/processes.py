"""Several processes on this machine that find each other as torchrun's do; forked from one that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["training_cases", "training_faults", "test_training_options", "bulk_cases", "tuning_cases"]
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _begin(folder: Path, environment: dict[str, str], target: Callable, arguments: tuple) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    with open(f"stderr-{environment['RANK']}", "wb") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(target(*arguments))


class Job:
    """``target(*arguments)`` on processes of ``world`` with some ``ranks``, in ``folder``."""

    def __init__(
        self, folder: Path, world: int, target: Callable, *arguments, ranks: Iterable[int] = (), port: int = 0
    ):
        self.folder, self.ranks = folder, list(ranks or range(world))
        common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port())}
        common |= {"MPLBACKEND": "Agg", "LOCAL_WORLD_SIZE": str(world)}
        self.processes = []
        for rank in self.ranks:
            own = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            self.processes.append(_CONTEXT.Process(target=_begin, args=(folder, own, target, arguments)))
            self.processes[-1].start()

    def end(self, timeout: float = 100) -> tuple[list[int], list[str]]:
        """Exit codes, and the lines on stderr of all that are ours."""
        for process in self.processes:
            process.join(timeout)
        texts = [(self.folder / f"stderr-{rank}").read_text() for rank in self.ranks]
        assert not any("Traceback" in text for text in texts), "\n".join(texts)
        lines = [line for text in texts for line in text.splitlines()]
        ours = [line for line in lines if line.startswith(("error", "terminated", "interrupted"))]
        return [process.exitcode for process in self.processes], ours
