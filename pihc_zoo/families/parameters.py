"""Draws of physical parameters and of coefficient fields."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Draws, NumpyDraws
from .coefficients import LognormalProcess, NormalProcess
from .domain import Domain


def draw_parameters(problem, inputs: tuple[str, ...], draws: Draws) -> dict[str, Any]:
    """(count,) values of each input parameter, uniform (or log-uniform) in its declared range, and coefficient fields.

    These are (count, *space) on the problem's native grid, series (count, time) at its output times.
    """
    values = {}
    for key in inputs:
        parameter = problem.parameters[key]
        if parameter.is_logarithmic:
            values[key] = draws.xp.exp(draws.uniform(np.log(parameter.low), np.log(parameter.high)))
        else:
            values[key] = draws.uniform(parameter.low, parameter.high)
    over_space = Domain.of(problem.output_space).points([axis.nodes for axis in problem.output_space.values()])
    for key, declared in problem.coefficients.items():
        points = over_space
        if declared.is_series:
            points = Domain((0.0,), (problem.span,), (False,)).points([problem.output_times])
        values[key] = coefficient_family(declared, problem.coefficient_families.get(key, {})).fields(points, draws)
    return values


def sample_parameters(problem, inputs: tuple[str, ...], count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`draw_parameters` of a numpy generator."""
    return draw_parameters(problem, inputs, NumpyDraws(rng, count))


def coefficient_family(declared: Any, settings: dict[str, Any]) -> LognormalProcess | NormalProcess:
    """The process that draws a coefficient field; its range is some seven standard deviations.

    Fields on a logarithmic scale are log-normal, others normal.

    Args:
        declared: the field's range.
        settings: of the process, in place of these.
    """
    low, high = declared.low, declared.high
    if declared.is_logarithmic:
        low, high = np.log([low, high])
    process = LognormalProcess if declared.is_logarithmic else NormalProcess
    own = {"mean": float(low + high) / 2, "deviation": float(high - low) / 7}
    return process(**{**own, "low": declared.low, "high": declared.high, **settings})
