"""What became of a fine-tuning: errors before and after, in numbers and in words."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_text
from ..text import percent

HISTORY_FILE = "history.json"
_NOISE = 0.002  # relative size of noise from which on it is said


@dataclasses.dataclass(frozen=True)
class Measured:
    """Errors of a model on some trajectories.

    Attributes:
        error: mean relative L2 distance from the given solutions over times after the start; NaN without any.
        estimated_error: mean of the model's own estimate, relative.
        failed: trajectories without an answer; they are in neither mean.
        error_max: largest distance.
    """

    error: float
    estimated_error: float
    failed: int
    error_max: float = math.nan

    @classmethod
    def of(cls, error: np.ndarray, estimated_error: np.ndarray) -> Measured:
        """From values per trajectory, NaN where it failed; ``error`` may be empty."""
        answered = np.isfinite(estimated_error)
        error, estimated_error = error[answered] if len(error) else error, estimated_error[answered]
        means = (float(values.mean()) if len(values) else math.nan for values in (error, estimated_error))
        return cls(next(means), next(means), int((~answered).sum()), float(error.max()) if len(error) else math.nan)

    def is_better(self, than: Measured, criterion: str) -> bool:
        """Fewer failures, or as many and a lower mean."""
        mine, theirs = getattr(self, criterion), getattr(than, criterion)
        if self.failed != than.failed:
            return self.failed < than.failed and math.isfinite(mine)
        return mine < theirs

    def __eq__(self, other: object) -> bool:
        """NaN equals NaN: not measured in both."""
        if not isinstance(other, Measured):
            return NotImplemented
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return all(one == two or (math.isnan(one) and math.isnan(two)) for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class History:
    """What `finetune` did; errors are fractions, not percentages, of what the weights reach without a polish.

    Attributes:
        part: "held-out" or "training": the trajectories that errors are measured on.
        count: how many they are.
        criterion: "error" (against given solutions) or "estimated_error" (where only physics is asked for):
            the best weights are those with the lowest one.
        before: of the given model, under the new constants if there are any.
        start: of the model that tuning began with; ``before`` but for changed settings.
        after: of the returned model.
        is_improved: False where nothing was better; the weights and settings are then the given ones.
        steps: per review its step and `Measured`.
        stopped: why it ended early, or "".
        contradiction: relative L2 distance of the data from solutions of the equation, where it is far above
            what the model's answers leave; else None.
        noise: mean relative size of what neighbouring values of the data do not share.
        errors_before, errors_after: per trajectory by the criterion, NaN where it failed.
        reliable_before, reliable_after: how many `predict` calls reliable, by the old and by the new trust settings.
        seconds: of tuning.
        constants, settings: what was changed in the configuration.
        trust_before, trust_after: the settings of the trust report.
        data: what it was tuned on, in words.
        base_model: the model that was given.
        options: the arguments of the run.
    """

    part: str
    count: int
    criterion: str
    before: Measured
    after: Measured
    start: Measured | None = None
    is_improved: bool = False
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stopped: str = ""
    contradiction: float | None = None
    noise: float = 0.0
    errors_before: list[float] = dataclasses.field(default_factory=list)
    errors_after: list[float] = dataclasses.field(default_factory=list)
    reliable_before: int = 0
    reliable_after: int = 0
    seconds: float = dataclasses.field(default=0.0, compare=False)
    constants: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    trust_before: dict[str, Any] = dataclasses.field(default_factory=dict)
    trust_after: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: str = ""
    base_model: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The criterion in words."""
        return self.criterion.replace("_", " ")

    @property
    def best_review(self) -> int:
        """The number of the last review that brought a gain, from 1; 0 if none did."""
        best, number = self.before if self.start is None else self.start, 0
        best = self.before if self.before.is_better(best, self.criterion) else best
        for i, row in enumerate(self.steps, start=1):
            now = Measured(row["error"], row["estimated_error"], row["failed"], row["error_max"])
            if now.is_better(best, self.criterion):
                best, number = now, i
        return number

    @property
    def factor(self) -> float:
        """How many times less error there is after than before, by the criterion."""
        after = getattr(self.after, self.criterion)
        return getattr(self.before, self.criterion) / after if after else math.inf

    def summary(self) -> str:
        """A few lines for people."""
        noun = "trajectory" if self.count == 1 else "trajectories"
        before, after = (getattr(measured, self.criterion) for measured in (self.before, self.after))
        lines = [
            f"{self.part} {self.kind} of {self.count} {noun}: {percent(before, digits=3)} before, "
            f"{percent(after, digits=3)} after"
        ]
        if self.start is not None and self.settings:
            lines.append(
                f"of the changed settings without tuning: {percent(getattr(self.start, self.criterion), digits=3)}"
            )
        if self.before.failed or self.after.failed:
            lines.append(f"without an answer: {self.before.failed} before, {self.after.failed} after")
        if self.noise > _NOISE:
            lines.append(
                f"of that about {percent(self.noise, digits=2)} is noise of the data, which no model of the equation "
                "removes"
            )
        if self.stopped:
            lines.append(self.stopped)
        if not self.is_improved:
            kept = ", with the new constants" if self.constants else ", unchanged"
            lines.append(f"no step lowered the {self.part} {self.kind}: the model returned is the one given{kept}")
        return "\n".join(lines)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (what, before, after) for a card."""
        both = (self.before, self.after)
        rows = []
        if math.isfinite(self.before.error):
            rows.append(("mean error", *(percent(m.error, digits=3) for m in both)))
            rows.append(("largest error", *(percent(m.error_max, digits=3) for m in both)))
        rows.append(("mean estimated error", *(percent(m.estimated_error, digits=3) for m in both)))
        rows.append(("called reliable", *(f"{n} of {self.count}" for n in (self.reliable_before, self.reliable_after))))
        if any(m.failed for m in both):
            rows.append(("without an answer", *(str(m.failed) for m in both)))
        for key, label in (("threshold", "threshold of the estimate"), ("growth", "growth of the estimate")):
            values = [trust.get(key) for trust in (self.trust_before, self.trust_after)]
            if any(value is not None for value in values):
                shown = [
                    "–" if v is None else percent(v, digits=3) if key == "threshold" else f"{v:.3g}" for v in values
                ]
                rows.append((label, *shown))
        return rows

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds of a tuned model; {} where the model is the given one."""
        if not (self.is_improved or self.constants):
            return {}
        known = self.to_dict()
        figures = {
            key: known[key] for key in ("base_model", "data", "part", "count", "constants", "settings", "options")
        }
        figures |= {"table": self.table(), "summary": self.summary(), "minutes": self.seconds / 60}
        return {"threshold": self.trust_after.get("threshold"), "finetuning": figures}

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what is not finite is None."""
        return _finite(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """The inverse of `to_dict`."""
        values = dict(values)
        for key in ("before", "start", "after"):
            if values.get(key) is not None:
                values[key] = Measured(**{k: math.nan if v is None else v for k, v in values[key].items()})
        for key in ("errors_before", "errors_after"):
            values[key] = [math.nan if value is None else value for value in values.get(key, [])]
        values["steps"] = [{k: math.nan if v is None else v for k, v in row.items()} for row in values["steps"]]
        return cls(**values)

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes history.json beside the model; what is not finite is null there."""
        path = Path(folder) / HISTORY_FILE
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
