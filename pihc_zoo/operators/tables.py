"""Which operators serve a grid: spectral ones where all axes are periodic, local stencils elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..grid import Grid
from .derivatives import FeatureOperator
from .linearised import LinearisedOperator
from .periodic import PeriodicFeatureOperator, PeriodicLinearisedOperator

if TYPE_CHECKING:
    from ..problems.base import Problem


def feature_operator(problem: Problem, grid: Grid) -> FeatureOperator | PeriodicFeatureOperator:
    """The features of ``problem`` on ``grid``."""
    is_periodic = all(axis.is_periodic for axis in grid.space.values())
    return (PeriodicFeatureOperator if is_periodic else FeatureOperator)(problem, grid)


def linearised_operator(problem: Problem, operator) -> LinearisedOperator | PeriodicLinearisedOperator:
    """A of ``problem`` on the grid of ``operator``."""
    is_periodic = isinstance(operator, PeriodicFeatureOperator)
    return (PeriodicLinearisedOperator if is_periodic else LinearisedOperator)(problem, operator)
