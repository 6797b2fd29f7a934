"""Whether given solutions solve the model's equation, and by how much they do not.

The model's answer solves the equation up to its estimated error; data much farther from it are of
another physics, or the estimate is wrong. A classical solver decides.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from ..data import Trajectories
from ..prediction.request import unit_of
from ..reference import reference_solver
from .history import percent

if TYPE_CHECKING:
    from ..surrogate import Surrogate

LEAST, FACTOR = 0.005, 5.0  # distances that count: above this, and above so many times the estimated error
_MOST = 64  # trajectories looked at
_CONFIRMED = 2  # trajectories solved classically


@dataclasses.dataclass
class Answers:
    """A model's answers for some trajectories, at the data's times after the start.

    Attributes:
        u: (batch, time, *space); NaN where it failed.
        error: (batch,) relative L2 distance from the data, NaN where it failed; empty without solutions.
        estimated_error: (batch,), NaN where it failed.
    """

    u: np.ndarray
    error: np.ndarray
    estimated_error: np.ndarray


def answer(model: Surrogate, data: Trajectories, rows: np.ndarray) -> Answers:
    """Predicts the trajectories ``rows``; failures without a warning."""
    later = data.t > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        out = model.predict(
            data.u0[rows],
            x=data.points,
            times=data.t[later],
            parameters={key: value[rows] for key, value in data.parameters.items()},
            input_x=data.points,
            polish=False,  # what the weights reach
        )
    u = to_numpy(out.u)
    is_answered = np.isfinite(u).reshape(len(u), -1).all(axis=1)
    estimate = np.where(is_answered, to_numpy(out.estimated_error), np.nan)
    return Answers(u, np.empty(0) if data.u is None else _relative(u, data.u[rows][:, later]), estimate)


def contradiction(model: Surrogate, data: Trajectories, order: np.ndarray) -> float | None:
    """How far the data are from solutions of the model's equation, relative L2; None where that is not seen.

    Warns with the percentage, and with what to check.

    Args:
        order: trajectories; the first 64 are looked at.

    Raises:
        ValueError: solutions belong to other trajectories' initial conditions.
    """
    if data.u is None:
        return None
    rows, truths = np.asarray(order)[:_MOST], data.u[:, data.t > 0]
    answers = answer(model, data, rows)
    bound = np.maximum(LEAST, FACTOR * answers.estimated_error)
    far = np.flatnonzero(answers.error > bound)
    if not len(far):
        return None
    _check_order(answers.u[far], truths, rows[far], bound[far])
    worst = far[np.argsort(-answers.error[far])[:_CONFIRMED]]
    if not any(_is_confirmed(model, data, int(rows[i]), truths[rows[i]], float(answers.error[i])) for i in worst):
        return None
    distance, estimate = float(answers.error[far].mean()), float(answers.estimated_error[far].mean())
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
        stacklevel=3,
    )
    return distance


def _relative(u: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(batch,) ‖u − truth‖ / ‖truth‖."""
    difference, scale = (part.reshape(len(part), -1) for part in (u - truth, truth))
    size = np.linalg.norm(scale, axis=1)
    return np.linalg.norm(difference, axis=1) / np.maximum(size, np.finfo(float).tiny)


def _check_order(u: np.ndarray, truths: np.ndarray, rows: np.ndarray, bound: np.ndarray) -> None:
    """Refuses data in which most answers ``u`` to the initial conditions ``rows`` solve another's, up to ``bound``."""
    u, truths = u.reshape(len(u), -1), truths.reshape(len(truths), -1)
    sizes = (truths**2).sum(axis=1)
    squares = (u**2).sum(axis=1)[:, None] + sizes - 2 * u @ truths.T
    nearest = squares.argmin(axis=1)
    is_other = squares[np.arange(len(rows)), nearest] < bound**2 * sizes[nearest]
    if 2 * is_other.sum() > len(rows):
        i = int(np.argmax(is_other))
        raise ValueError(
            f"u is in another order than u0: the solution from u0 of trajectory {rows[i]} is found in u of trajectory "
            f"{nearest[i]}, and so in {is_other.sum()} of {len(rows)}; bring both into the same order"
        )


def _is_confirmed(model: Surrogate, data: Trajectories, row: int, truth: np.ndarray, distance: float) -> bool:
    """Whether a classical solution is far from the data, too; it is taken for so where there is none."""
    points: Any = next(iter(data.points.values())) if len(data.points) == 1 else data.points
    own = {key: float(value[row]) for key, value in data.parameters.items()}
    try:
        u = reference_solver(model.problem)(data.u0[row], own, input_x=points, x=points, times=data.t[data.t > 0])
    except (RuntimeError, ValueError):
        return True
    return float(_relative(u[None], truth[None])[0]) > max(LEAST, distance / 2)
