"""The surrogate's own error in a fit: its estimate at the readings, and a polish by the classical solver.

An error e(z) of the readings shifts the optimum by (JᵀJ)⁻¹Jᵀe to first order. The polish goes on with the classical
solver's residuals and the surrogate's sensitivities, until Jᵀr vanishes: it converges as fast as the sensitivities
are right, and needs a few classical solutions.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..reference import reference_solver
from .intervals import UNDETERMINED
from .least_squares import is_free
from .readings import Readings
from .unknowns import INITIAL

_STEP = 1e-2  # of a standard error
_MAX_STEPS = 8


def parameters_of(readings: Readings, z: np.ndarray, experiment: int) -> dict[str, float]:
    """All parameters of an experiment at ``z`` that are not the default, as numbers."""
    own = {key: float(value[experiment]) for key, value in readings.known.items()}
    found = {u.name: float(u.value(z[k])) for k, u in enumerate(readings.unknowns) if u.name != INITIAL}
    return {**own, **found}


def initial_of(readings: Readings, z: np.ndarray, experiment: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(*space,) initial values of an experiment at ``z`` and their positions."""
    own = readings.experiments[experiment]
    if own.u0 is not None:
        return own.u0, own.input_points
    (value,) = (float(u.value(z[k])) for k, u in enumerate(readings.unknowns) if u.name == INITIAL)
    points = {name: axis.nodes for name, axis in readings.model.problem.output_space.items()}
    return np.full([len(part) for part in points.values()], value), points


def estimated_error(readings: Readings, z: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(m,) estimated error of the surrogate's ``values`` at the readings, and why its inputs are not to be trusted.

    `predict` polishes where that is needed; by how much its answer differs is part of the error.
    """
    model, error, reasons = readings.model, np.zeros(len(values)), []
    for i, experiment in enumerate(readings.experiments):
        u0, points = initial_of(readings, z, i)
        label = f"experiment {experiment.name}: " if len(readings.experiments) > 1 else ""
        for own, times, grid, places in readings.chunks:
            is_mine = readings.owner[own] == i
            if not is_mine.any():
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the verdict says it
                out = model.predict(
                    u0[None], times=times, x=grid, parameters=parameters_of(readings, z, i), input_x=points
                )
            at = (0, *(place[is_mine] for place in readings.at_fields(places, own)))
            rows = own[is_mine]
            error[rows] = values[rows] - to_numpy(out.u)[at] + to_numpy(out.estimated_error_field)[at]
        judged = model.trust.reasons(u0, None, float(to_numpy(out.unresolved)[0]) if readings.chunks else 0.0)
        reasons += [label + reason for reason in judged]
    return error, reasons


def shift_of(jacobian: np.ndarray, error: np.ndarray, free: np.ndarray, sigma: float) -> np.ndarray:
    """(p,) by how much a weighted error of the readings moves the scaled optimum, along what the data determine.

    Args:
        jacobian: (m, p) weighted sensitivities.
        error: (m,) weighted.
        free: (p,) whether an unknown moves.
        sigma: standard deviation of weighted residuals.
    """
    shift = np.zeros(jacobian.shape[1])
    if free.any():
        left, sizes, right = np.linalg.svd(jacobian[:, free], full_matrices=False)
        is_determined = sizes > sigma / UNDETERMINED
        shift[free] = right.T @ np.where(is_determined, left.T @ error / np.maximum(sizes, 1e-300), 0.0)
    return shift


def classical_values(readings: Readings, z: np.ndarray, solver: Any = None) -> np.ndarray:
    """(m,) the classical solver's readings at ``z``."""
    values = np.zeros(len(readings.t))
    for i in range(len(readings.experiments)):
        own = readings.owner == i
        values[own] = classical_values_of(
            readings, *initial_of(readings, z, i), parameters_of(readings, z, i), own, solver
        )
    return values


def classical_values_of(
    readings: Readings,
    u0: np.ndarray,
    points: dict[str, np.ndarray],
    parameters: dict[str, float],
    picked: np.ndarray | slice = slice(None),
    solver: Any = None,
) -> np.ndarray:
    """The classical solver's values at readings, all or the ``picked`` ones, from an initial condition."""
    solver = reference_solver(readings.model.problem) if solver is None else solver
    times, grid, places = readings.grid_of(picked)
    (axis, *others) = grid
    asked, given = (grid, points) if others else (grid[axis], points[axis])
    u = solver(u0, parameters, input_x=given, x=asked, times=times)
    return u[tuple(readings.at_fields(places, picked))]


def polish(
    readings: Readings, z: np.ndarray, jacobian: np.ndarray, target: np.ndarray, weights: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """The optimum by the classical solver.

    Args:
        readings: of the surrogate.
        z, jacobian: its optimum, scaled, and the weighted sensitivities there.
        target, weights: (m,) data and 1/σ.
        sigma: standard deviation of weighted residuals.

    Returns:
        scaled unknowns, the classical readings there, and the number of classical solutions.

    Raises:
        ValueError: the classical solver failed.
    """
    solver = reference_solver(readings.model.problem)
    step, change = 0, np.zeros(len(z))
    while True:
        z, step = z + change, step + 1
        try:
            values = classical_values(readings, z, solver)
        except RuntimeError as error:
            raise ValueError(f"polish: {error}; leave it out with polish=False") from None
        residual = (values - target) * weights
        change = np.clip(z - shift_of(jacobian, residual, is_free(z, jacobian.T @ residual), sigma), -1, 1) - z
        is_small = np.linalg.norm(jacobian @ change) <= _STEP * sigma or np.abs(change).max() < 1e-9
        if is_small or step == _MAX_STEPS:
            return z, values, step * len(readings.experiments)
