"""metrics.jsonl, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pihc_zoo.files import atomic_path

LOG = "metrics.jsonl"


class Log:
    """A run's log in its folder; see `training.loop.advance` for what a line holds.

    Args:
        folder: of the run.
        tensorboard: write events for TensorBoard beside it.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool = False):
        self.path, self.writer = folder / LOG, None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ValueError(
                    'TensorBoard is not installed: pip install "pihc_zoo[tensorboard]", or leave out --tensorboard'
                ) from None
            self.folder, self._make = folder / "tensorboard", SummaryWriter

    def add(self, record: dict[str, Any], rate: float) -> None:
        """Adds a line; ``rate`` is the learning rate, which TensorBoard shows too."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if not hasattr(self, "_make"):
            return
        if self.writer is None:
            self.writer = self._make(self.folder, purge_step=record["step"])
        names = {"loss": "train/loss", "unsolved": "train/unsolved", "error_mean": "validation/error_mean"}
        names["error_max"] = "validation/error_max"
        for key, name in names.items():
            if key in record and math.isfinite(record[key]):
                self.writer.add_scalar(name, record[key], record["step"])
        self.writer.add_scalar("train/learning_rate", rate, record["step"])
        self.writer.flush()

    def close(self) -> None:
        """Closes what is open."""
        if self.writer is not None:
            self.writer.close()


def truncate(path: Path, step: int) -> dict[str, Any]:
    """Drops log lines after ``step``, and one that was not written to its end; returns the last one kept, or {}.

    Raises:
        ValueError: it is not a training log.
    """
    if not path.exists():
        return {}
    try:
        *whole, rest = path.read_text(encoding="utf-8").split("\n")
        lines = [json.loads(line) for line in whole if line.strip()]
        kept = [line for line in lines if line["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a training log ({error}); delete it") from None
    if rest or len(kept) < len(lines):
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return kept[-1] if kept else {}
