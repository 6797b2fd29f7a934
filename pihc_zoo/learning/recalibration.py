"""A tuned model's trust report: calibrated on the user's family, because the old settings belong to the old one."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..arrays import to_numpy
from ..data import Trajectories
from ..estimate import DefectEstimator
from ..evaluation.calibration import calibrated
from ..prediction.trust import CHOSEN
from ..problems import Variable
from ..reference import reference_solver
from .consistency import predicted
from .targets import pieces

if TYPE_CHECKING:
    from ..surrogate import Surrogate

MOST, MOST_SOLVED = 64, 16  # trajectories for the thresholds, and for the growth of roll-outs
_CLASSICAL = 4  # trajectories that are solved classically where data hold no solutions
_BATCH = 16
_MARGIN = 0.1  # of the data's range of values, by which the trained range reaches beyond them


@dataclasses.dataclass
class _Found:
    estimated_error: np.ndarray
    unresolved: np.ndarray
    errors: np.ndarray


class Family:
    """The user's initial conditions, at the default output."""

    def __init__(self, data: Trajectories, rows: np.ndarray):
        self.data, self.rows = data, rows

    def predict(self, model: Surrogate) -> _Found:
        """Estimates of all of them."""
        parts = []
        for first in range(0, len(self.rows), _BATCH):
            rows = self.rows[first : first + _BATCH]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                out = model.predict(self.data.u0[rows], parameters=self.data.own(rows), input_x=self.data.points)
            parts.append((to_numpy(out.estimated_error), to_numpy(out.unresolved)))
        estimate, unresolved = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _Found(estimate, unresolved, np.full(len(self.rows), np.nan))

    def errors_of(self, found: _Found) -> np.ndarray:
        """NaN: solutions are not looked at."""
        return found.errors


class Solved:
    """Trajectories with solutions, compared where these are."""

    def __init__(self, data: Trajectories, rows: np.ndarray):
        self.data, self.rows = data, rows

    def predict(self, model: Surrogate) -> _Found:
        """Estimates and true errors."""
        parts = []
        for targets in pieces(self.data, self.rows):
            found = predicted(model, targets, polish=None)
            parts.append(
                (found.estimated_error, found.unresolved, targets.error(torch.as_tensor(found.values)).numpy())
            )
        return _Found(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def errors_of(self, found: _Found) -> np.ndarray:
        """(batch,) distances from the solutions."""
        return found.errors


def recalibrated(model: Surrogate, data: Trajectories, rows: np.ndarray, is_clean: bool) -> Surrogate:
    """The model with its trust report calibrated on the trajectories ``rows`` of the user's family.

    Args:
        rows: the most telling first: those held out.
        is_clean: whether the data's solutions are good enough to judge an estimate by; where they are not, or there
            are none, a few trajectories are solved classically, on periodic axes only, whose estimate needs it.
    """
    trust: dict[str, Any] = {key: value for key, value in model.config["trust"].items() if key in CHOSEN}
    if "state_range" in trust:
        ranges, fields = model.problem.trained_ranges(trust), model.problem.fields
        trust["state_range"] = model.problem.trained_on(
            data.u0, lambda name, u0: _widened(ranges[name], u0, fields[name])
        )
    sets: list[Any] = [Family(data, rows[:MOST])]
    if isinstance(model.estimator, DefectEstimator):
        solved = _solved(model, data, rows, is_clean)
        sets += [] if solved is None else [solved]
        if solved is None:
            trust["growth"] = model.trust.growth
    return calibrated(model, sets, trust)


def _solved(model: Surrogate, data: Trajectories, rows: np.ndarray, is_clean: bool) -> Solved | None:
    if data.has_solutions and is_clean:
        return Solved(data, rows[:MOST_SOLVED])
    rows = rows[:_CLASSICAL]
    times = np.asarray(model.problem.output_times)
    points: Any = data.points if len(data.points) > 1 else next(iter(data.points.values()))
    try:
        u = reference_solver(model.problem)(data.u0[rows], data.own(rows), input_x=points, x=points, times=times)
    except (RuntimeError, ValueError):
        return None
    solved = Trajectories(data.u0[rows], data.points, times, np.asarray(u), data.own(rows))
    return Solved(solved, np.arange(len(rows)))


def _widened(old: tuple[float, float], u0: np.ndarray, field: Variable) -> list[float]:
    """The old range of a field's values and that of initial conditions, with room for others of the family."""
    low, high = float(u0.min()), float(u0.max())
    room = _MARGIN * (high - low)
    return [
        old[0] if low >= old[0] else max(low - room, float(field.low)),
        old[1] if high <= old[1] else min(high + room, float(field.high)),
    ]
