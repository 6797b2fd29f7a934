"""`Trust`: when a model believes its own answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..text import percent

CHOSEN = ("refinement", "krylov", "state_range")  # settings; the others are measured on a model's weights


@dataclass(frozen=True)
class Trust:
    """How a model judges its own predictions: the estimator's settings and calibrated thresholds.

    Attributes:
        refinement: nodes of the estimator's grid over the model's, per axis.
        krylov: Krylov directions of the error estimate.
        growth: factor on the error estimate of a roll-out, measured.
        threshold: largest estimated error inside the trained family; None before calibration: then no answer
            is reliable.
        unresolved: largest unresolved part of an initial condition; None is not checked.
        state_range: lowest and highest trained value, of a system by field; None is not checked.
    """

    refinement: float = 1.6
    krylov: int = 3
    growth: float = 1.0
    threshold: float | None = None
    unresolved: float | None = None
    state_range: tuple[float, float] | dict[str, tuple[float, float]] | None = None

    def __post_init__(self):
        if not 1 <= self.refinement <= 4 or not 1 <= self.krylov <= 64:
            raise ValueError(
                f"trust: refinement must lie in [1, 4] and krylov in [1, 64], got {self.refinement} and {self.krylov}"
            )
        if not all(isinstance(own, list | tuple) and len(own) == 2 for own in self._ranges.values()):
            raise ValueError(
                f"trust: state_range must be [lowest, highest], of a system one by field, got {self.state_range!r}"
            )

    @property
    def _ranges(self) -> dict[str, Any]:
        """By field, the only one's name being none."""
        if self.state_range is None:
            return {}
        return self.state_range if isinstance(self.state_range, dict) else {"": self.state_range}

    def reasons(self, u0: np.ndarray, estimated_error: float | None, unresolved: float) -> list[str]:
        """Why a trajectory is not to be trusted: how it lies where the model was not calibrated; [] if it does.

        Args:
            u0: (*space[, field]) initial condition, finite.
            estimated_error, unresolved: see `Prediction`; None where there is nothing to judge.
        """
        reasons = []
        for i, (name, (low, high)) in enumerate(self._ranges.items()):
            own = u0[..., i] if name else u0
            if not (own.min() >= low and own.max() <= high):
                whose = f" of {name}" if name else ""
                reasons.append(
                    f"initial values{whose} from {own.min():.6g} to {own.max():.6g} are outside the trained range "
                    f"[{low:g}, {high:g}]"
                )
        if self.unresolved is not None and not unresolved <= self.unresolved:
            reasons.append(
                f"{percent(unresolved, digits=3)} of the initial condition is finer than the model's grid or than its "
                f"points, above its bound of {percent(self.unresolved, digits=3)}"
            )
        if estimated_error is None:
            return reasons
        if not np.isfinite(estimated_error):
            reasons.append("its error could not be estimated")
        elif self.threshold is None:
            reasons.append("the model has no calibrated threshold of the estimated error")
        elif estimated_error > self.threshold:
            reasons.append(
                f"estimated error {percent(estimated_error, digits=3)} is above the model's threshold of "
                f"{percent(self.threshold, digits=3)}"
            )
        return reasons
