"""Whether given solutions solve the model's equation, and by how much they do not.

The model's answer solves the equation up to its estimated error; data much farther from it are of
another physics, or the estimate is wrong. A classical solver decides. Noise, which neighbouring values do
not share, is not held against the data.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..arrays import to_numpy
from ..data import Trajectories
from ..prediction.request import unit_of
from ..reference import reference_solver
from ..text import percent
from .targets import Targets, pieces

if TYPE_CHECKING:
    from ..surrogate import Surrogate

LEAST, FACTOR = 0.005, 5.0  # distances that count: above this, and above so many times the estimated error
_MOST = 64  # trajectories looked at
_CONFIRMED = 2  # trajectories solved classically


@dataclasses.dataclass
class Answers:
    """A model's answers for some trajectories, at the data's times after the start.

    Attributes:
        error: (batch,) relative L2 distance from the data, NaN where it failed; empty without solutions.
        estimated_error: (batch,), NaN where it failed.
        common, noise: (batch,) shares of the squared distance, see `Targets.shares`; empty without solutions.
        is_reliable, is_polished: (batch,).
        u: (batch, time, *space) answers where solutions are known on the grid; else empty.
    """

    error: np.ndarray
    estimated_error: np.ndarray
    common: np.ndarray
    noise: np.ndarray
    is_reliable: np.ndarray
    is_polished: np.ndarray
    u: np.ndarray


def answer(model: Surrogate, data: Trajectories, rows: np.ndarray, polish: bool | None = False) -> Answers:
    """Predicts the trajectories ``rows``, by default what the weights reach alone; failures without a warning."""
    parts = [_answered(model, targets, polish) for targets in pieces(data, np.asarray(rows))]
    fields = [field.name for field in dataclasses.fields(Answers)]
    return Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@dataclasses.dataclass
class Predicted:
    """What a model predicts where targets are.

    Attributes:
        values: as of `Targets`.
        estimated_error: (batch,) over all times and points that were asked for, NaN where it failed.
        unresolved, is_reliable, is_polished: (batch,) of `Prediction`.
    """

    values: np.ndarray
    estimated_error: np.ndarray
    unresolved: np.ndarray
    is_reliable: np.ndarray
    is_polished: np.ndarray


def predicted(model: Surrogate, targets: Targets, polish: bool | None = False) -> Predicted:
    """The model's predictions where the targets are; failures without a warning."""
    data, rows, outs = targets.data, targets.rows, []
    for grid in targets.grids:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            out = model.predict(
                data.u0[rows],
                x=grid.points,
                times=grid.times,
                parameters=data.own(rows),
                input_x=data.points,
                polish=polish,
            )
        outs.append(out)
    answers = [to_numpy(out.u) for out in outs]
    is_answered = np.all([np.isfinite(u).reshape(len(u), -1).all(axis=1) for u in answers], axis=0)
    counts = np.array([1 if grid.picked is None else len(grid.picked) for grid in targets.grids])
    squares = np.stack([to_numpy(out.estimated_error) for out in outs]) ** 2
    return Predicted(
        targets.values(answers),
        np.where(is_answered, np.sqrt(counts @ squares / counts.sum()), np.nan),
        np.max([to_numpy(out.unresolved) for out in outs], axis=0),
        np.all([to_numpy(out.is_reliable) for out in outs], axis=0),
        np.any([to_numpy(out.is_polished) for out in outs], axis=0),
    )


def _answered(model: Surrogate, targets: Targets, polish: bool | None) -> Answers:
    found = predicted(model, targets, polish)
    error = common = noise = np.empty(0)
    if targets.data.has_solutions:
        error = targets.error(torch.as_tensor(found.values)).numpy()
        common, noise = targets.shares(found.values)
    kept = found.values if targets.data.u is not None else np.empty(0)
    return Answers(error, found.estimated_error, common, noise, found.is_reliable, found.is_polished, kept)


def contradiction(model: Surrogate, data: Trajectories, order: np.ndarray) -> tuple[float | None, float]:
    """How far the data are from solutions of the model's equation, relative L2, None where that is not seen; noise.

    Warns with the percentage, and with what to check.

    Args:
        order: trajectories; the first 64 are looked at.

    Returns:
        the distance, and the mean relative size of noise in the data.

    Raises:
        ValueError: solutions belong to other trajectories' initial conditions.
    """
    if not data.has_solutions:
        return None, 0.0
    rows = np.asarray(order)[:_MOST]
    answers = answer(model, data, rows)
    common = answers.error * np.sqrt(np.nan_to_num(answers.common))  # too few values to tell: nothing is said
    noise = answers.error * np.sqrt(answers.noise)
    noise = float(np.nanmean(noise)) if np.isfinite(noise).any() else 0.0
    bound = np.maximum(LEAST, FACTOR * answers.estimated_error)
    far = np.flatnonzero(common > bound)
    if not len(far):
        return None, noise
    if data.u is not None:
        _check_order(answers.u[far], data.u[rows][:, data.t > 0], rows, far, bound[far])
    worst = far[np.argsort(-common[far])[:_CONFIRMED]]
    if not any(_is_confirmed(model, data, int(rows[i]), float(common[i])) for i in worst):
        return None, noise
    distance, estimate = float(common[far].mean()), float(answers.estimated_error[far].mean())
    problem = model.problem
    taken = ", ".join(
        f"{key} = {parameter.default:g}{unit_of(parameter.unit)}"
        for key, parameter in problem.parameters.items()
        if key not in data.parameters
    )
    warnings.warn(
        f"the data contradict the equation: {len(far)} of {len(rows)} trajectories are {percent(distance, digits=3)} "
        f"away from its solutions, where the model's own answers leave {percent(estimate, digits=3)}; tuning cannot "
        "remove that. Check "
        f"the parameters{f' (not given, taken: {taken})' if taken else ''}, the units and the axes "
        f"({', '.join(['t', *data.points])}) of the data",
        RuntimeWarning,
        stacklevel=5,  # whoever called `finetune`, by way of `Meeting.first`
    )
    return distance, noise


def _check_order(u: np.ndarray, truths: np.ndarray, rows: np.ndarray, far: np.ndarray, bound: np.ndarray) -> None:
    """Refuses data in which most answers ``u`` to the starts of ``rows[far]`` solve another's, up to ``bound``."""
    u, truths = u.reshape(len(u), -1), truths.reshape(len(truths), -1)
    sizes = (truths**2).sum(axis=1)
    squares = (u**2).sum(axis=1)[:, None] + sizes - 2 * u @ truths.T
    nearest = squares.argmin(axis=1)
    is_other = squares[np.arange(len(far)), nearest] < bound**2 * sizes[nearest]
    if 2 * is_other.sum() > len(far):
        i = int(np.argmax(is_other))
        raise ValueError(
            f"u is in another order than u0: the solution from u0 of trajectory {rows[far[i]]} is found in u of "
            f"trajectory {rows[nearest[i]]}, and so in {is_other.sum()} of {len(far)}; bring both into the same order"
        )


def _is_confirmed(model: Surrogate, data: Trajectories, row: int, distance: float) -> bool:
    """Whether a classical solution is far from the data, too; it is taken for so where there is none."""
    targets, one, solve = Targets(data, np.array([row])), len(data.points) == 1, reference_solver(model.problem)
    try:
        answers = [
            solve(
                data.u0[row],
                {key: value[row] for key, value in data.parameters.items()},
                input_x=next(iter(data.points.values())) if one else data.points,
                x=next(iter(grid.points.values())) if one else grid.points,
                times=grid.times,
            )[None]
            for grid in targets.grids
        ]
    except (RuntimeError, ValueError):
        return True
    values = targets.values(answers)
    common, _ = targets.shares(values)
    return float(targets.error(torch.as_tensor(values))[0]) * np.sqrt(np.nan_to_num(common[0], nan=1.0)) > max(
        LEAST, distance / 2
    )
