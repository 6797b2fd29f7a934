"""What initial values determine: their points reach from wall to wall, and what lies between them is in range."""

from __future__ import annotations

import numpy as np

from ..grid import INPUT_STENCIL, Axis
from ..grid.stencils import stencil_matrix
from ..problems.base import Problem

_OVERSHOOT = 1e-3  # of the range of states that interpolated values may leave it by


def _beyond(problem: Problem, values: np.ndarray) -> str | None:
    """What is wrong with interpolated initial values (*space[, field]) that leave the range of their field."""
    for k, (name, field) in enumerate(problem.fields.items()):
        own, slack = values[..., k] if problem.is_system else values, _OVERSHOOT * (field.high - field.low)
        if own.min() < field.low - slack or own.max() > field.high + slack:
            return (
                f"between its points the initial condition{f' of {name}' if problem.is_system else ''} is interpolated "
                f"from {own.min():.3g} to {own.max():.3g}, beyond [{field.low:g}, {field.high:g}]; give it at more "
                "points"
            )
    return None


def _between(problem: Problem, values: np.ndarray, points: dict[str, np.ndarray], width: int | None = None):
    """(batch, *space) values at the problem's own nodes along bounded axes, by stencils of ``width`` points."""
    for i, (name, axis) in enumerate(problem.output_space.items()):
        if not axis.is_periodic and not np.array_equal(points[name], axis.nodes):
            matrix = stencil_matrix(points[name], axis.nodes, 0, width or INPUT_STENCIL)
            values = np.moveaxis(np.moveaxis(values, i + 1, -1) @ matrix.T, -1, i + 1)
    return values


def undetermined(problem: Problem, values: np.ndarray, points: dict[str, np.ndarray]) -> np.ndarray:
    """(batch,) relative L2 distance of two interpolants of initial conditions, of full and of lower order.

    What differs between them is not determined by the values given; zero where these are at the problem's nodes.
    """
    lower = INPUT_STENCIL - 2
    full, less = _between(problem, values, points), _between(problem, values, points, lower)
    if full is less or not len(values):
        return np.zeros(len(values))
    difference, size = (np.linalg.norm(part.reshape(len(values), -1), axis=1) for part in (full - less, full))
    return difference / np.maximum(size, np.finfo(float).tiny)


def check_coverage(points: np.ndarray, name: str, axis: Axis) -> None:
    """Raises ValueError if values at ``points`` say nothing of part of a bounded axis."""
    if len(points) < INPUT_STENCIL:
        count = "one point" if len(points) == 1 else f"{len(points)} points"
        raise ValueError(
            f"{name} is {count}, which do not determine a field; give at least {INPUT_STENCIL}, from wall to wall"
        )
    before, after = points[0] - axis.start, axis.stop - points[-1]
    first, last = np.diff(points)[[0, -1]]
    slack = 1e-6 * (axis.stop - axis.start)
    if before > first + slack or after > last + slack:
        raise ValueError(
            f"{name} covers [{points[0]:.4g}, {points[-1]:.4g}] of [{axis.start:g}, {axis.stop:g}]; nothing is "
            "extrapolated: give values from wall to wall, no farther from a wall than from each other"
        )


def check_values(
    problem: Problem, values: np.ndarray, on_failure: str = "warn", points: dict[str, np.ndarray] | None = None
) -> list[str | None]:
    """Per trajectory: None, or what is wrong with its initial condition.

    Args:
        problem: says which initial conditions it takes.
        values: (batch, *space[, field]).
        on_failure: of the call.
        points: where the values are, by axis name; those between them are checked as well.

    Raises:
        ValueError: a bad trajectory, with on_failure="raise".
    """
    space = tuple(range(1, values.ndim))
    is_finite = np.isfinite(values).all(axis=space)
    messages = problem.check_initial_condition(np.where(np.expand_dims(is_finite, space), values, 0.0))
    for i in np.flatnonzero(~is_finite):
        count = int((~np.isfinite(values[i])).sum())
        messages[i] = f"initial condition has {count} values that are not finite; remove or interpolate them"
    if points is not None:
        between = _between(problem, np.where(np.expand_dims(is_finite, space), values, 0.0), points)
        for i, own in enumerate(between):
            messages[i] = messages[i] or _beyond(problem, own)
    if on_failure == "raise":
        for i, message in enumerate(messages):
            if message:
                raise ValueError(f"trajectory {i}: {message}")
    return messages
