"""The settings of a fine-tuning, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LOSSES, WEIGHTS = ("data", "physics", "both"), ("all", "head")


@dataclass(frozen=True)
class Settings:
    """Of `finetune`, where they are explained.

    Raises:
        ValueError: one that means nothing.
    """

    loss: str = "both"
    weights: str = "all"
    steps: int = 300
    batch: int = 8
    learning_rate: float = 1e-3
    clip: float = 1.0
    validation: float = 0.2
    patience: int = 5
    minutes: float | None = None
    seed: int = 0

    def __post_init__(self):
        for name, known in (("loss", LOSSES), ("weights", WEIGHTS)):
            if getattr(self, name) not in known:
                words = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
                raise ValueError(f"{name} must be {words}, not {getattr(self, name)!r}")
        for name, least in (("steps", 1), ("batch", 1), ("patience", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        for name in ("learning_rate", "clip", "minutes"):
            value = getattr(self, name)
            if value is None and name == "minutes":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if not isinstance(self.validation, int | float | np.number) or not 0 <= self.validation < 1:
            raise ValueError(f"validation must be in [0, 1), got {self.validation!r}")

    def split(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the held-out trajectories and of those to train on; at least one of each if any are held out."""
        if self.validation and count < 2:
            raise ValueError(
                "1 trajectory cannot be split into a training and a held-out part; give more, or choose validation=0 "
                "to judge by the training error"
            )
        order = np.random.default_rng(self.seed).permutation(count)
        num_held = min(max(1, round(self.validation * count)), count - 1) if self.validation else 0
        return order[:num_held], order[num_held:]
