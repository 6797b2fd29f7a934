"""What became of a fine-tuning: errors before and after, in numbers and in words."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_path
from ..text import percent

HISTORY_FILE = "history.json"


@dataclasses.dataclass(frozen=True)
class Measured:
    """Errors of a model on some trajectories.

    Attributes:
        error: mean relative L2 distance from the given solutions over times after the start; NaN without any.
        estimated_error: mean of the model's own estimate, relative.
        failed: trajectories without an answer; they are in neither mean.
    """

    error: float
    estimated_error: float
    failed: int

    @classmethod
    def of(cls, error: np.ndarray, estimated_error: np.ndarray) -> Measured:
        """From values per trajectory, NaN where it failed; ``error`` may be empty."""
        answered = np.isfinite(estimated_error)
        error, estimated_error = error[answered] if len(error) else error, estimated_error[answered]
        means = (float(values.mean()) if len(values) else math.nan for values in (error, estimated_error))
        return cls(next(means), next(means), int((~answered).sum()))

    def is_better(self, than: Measured, criterion: str) -> bool:
        """Fewer failures, or as many and a lower mean."""
        mine, theirs = getattr(self, criterion), getattr(than, criterion)
        if self.failed != than.failed:
            return self.failed < than.failed and math.isfinite(mine)
        return mine < theirs


@dataclasses.dataclass
class History:
    """What `finetune` did; errors are fractions, not percentages.

    Attributes:
        part: "held-out" or "training": the trajectories that errors are measured on.
        count: how many they are.
        criterion: "error" (against given solutions) or "estimated_error" (where only physics is asked for):
            the best weights are those with the lowest one.
        before, after: of the given and of the returned model.
        is_improved: False where no step was better; the weights are then the given ones.
        steps: per review its step and `Measured`.
        stopped: why it ended early, or "".
        contradiction: relative L2 distance of the data from solutions of the equation, where it is far above
            what the model's answers leave; else None.
    """

    part: str
    count: int
    criterion: str
    before: Measured
    after: Measured
    is_improved: bool = False
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stopped: str = ""
    contradiction: float | None = None

    @property
    def kind(self) -> str:
        """The criterion in words."""
        return self.criterion.replace("_", " ")

    def summary(self) -> str:
        """A few lines for people."""
        noun = "trajectory" if self.count == 1 else "trajectories"
        before, after = (getattr(measured, self.criterion) for measured in (self.before, self.after))
        lines = [
            f"{self.part} {self.kind} of {self.count} {noun}: {percent(before, digits=3)} before, "
            f"{percent(after, digits=3)} after"
        ]
        if self.before.failed or self.after.failed:
            lines.append(f"without an answer: {self.before.failed} before, {self.after.failed} after")
        if self.stopped:
            lines.append(self.stopped)
        if not self.is_improved:
            lines.append(f"no step lowered the {self.part} {self.kind}: the model returned is the one given, unchanged")
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes history.json beside the model; what is not finite is null there."""
        path = Path(folder) / HISTORY_FILE
        with atomic_path(path) as temporary:
            text = json.dumps(_finite(dataclasses.asdict(self)), indent=1, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        return path


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
