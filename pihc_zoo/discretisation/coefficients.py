"""Coefficient fields and series at the points of a grid.

Fields are given on the native points, read and differentiated along each axis; series at the output times, and linear
between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..grid import Grid
from ..parameters import Parameters
from ..problems.base import Derivative, Problem
from .axes import along
from .constants import kept


class CoefficientFields:
    """Reads the coefficient fields of parameters, and their derivatives that the residual takes.

    Both are of the order of the axes' resampling, from native points to those asked for in one step.

    Args:
        problem: names the fields, `Problem.coefficients`, and the derivatives, `Problem.coefficient_features`.
        grid: at whose points.

    Raises:
        ValueError: a derivative of what is no coefficient field, or one in time or of a Laplacian; series on a grid
            that is a window of the problem's duration.
    """

    def __init__(self, problem: Problem, grid: Grid):
        self.problem, self.grid = problem, grid
        self.over_space = problem.coefficient_fields
        self.features = {name: Derivative(name) for name in self.over_space} | problem.coefficient_features
        for name, feature in self.features.items():
            if feature.field not in self.over_space or feature.laplacian or set(feature.orders) - set(grid.space):
                raise ValueError(f"{name!r} must be a derivative in space of a coefficient field, not {feature}")
        self._matrices: dict = {}
        times = grid.time.closed_nodes
        if problem.series and times[-1] < problem.span * (1 - 1e-9):
            raise ValueError(f"the series {', '.join(problem.series)} need one window, of the problem's whole duration")

    def __call__(self, c: Parameters) -> dict[str, Tensor]:
        """(batch or 1, 1, *collocation) values by name, of a system (batch or 1, 1, 1, *collocation).

        Series are (batch or 1, time, 1, …).
        """
        points = {name: axis.collocation_points for name, axis in self.grid.space.items()}
        dims = 1 + self.problem.is_system
        found = {
            name: self._read(c, feature, points).unflatten(0, (-1, *[1] * dims))
            for name, feature in self.features.items()
        }
        inner = [1] * (len(points) + self.problem.is_system)
        return found | {name: own[:, 1:].unflatten(1, (-1, *inner)) for name, own in self.series(c).items()}

    def series(self, c: Parameters) -> dict[str, Tensor]:
        """(batch or 1, closed time) values of the series at the start and at the nodes in time, by name."""
        return {name: self._over_time(c, name) for name in self.problem.series}

    def _over_time(self, c: Parameters, name: str) -> Tensor:
        times = self.grid.time.closed_nodes
        if name not in c.fields:  # a uniform one
            return c[name].reshape(-1, 1).expand(-1, len(times))
        values = c.fields[name]
        matrix = self._kept(values, ("t",), lambda: linear_interpolation(self.problem.output_times, times))
        return values @ matrix.t()

    def at_nodes(self, c: Parameters) -> dict[str, Tensor]:
        """(batch or 1, *space) values of the fields themselves at the nodes, by name."""
        points = {name: axis.nodes for name, axis in self.grid.space.items()}
        return {name: self._read(c, Derivative(name), points) for name in self.over_space}

    def _read(self, c: Parameters, feature: Derivative, points: dict[str, np.ndarray]) -> Tensor:
        """(batch or 1, *points)."""
        num_axes = len(points)
        if feature.field not in c.fields:  # a uniform one
            value = c[feature.field].reshape(-1, *[1] * num_axes)
            value = torch.zeros_like(value) if any(feature.orders.values()) else value
            return value.expand(-1, *(len(own) for own in points.values()))
        values = c.fields[feature.field]
        for i, (name, own) in enumerate(points.items()):
            dim = i - num_axes
            values = along(values, self._matrix(name, values, dim, own, feature.orders.get(name, 0)), dim)
        return values

    def _matrix(self, name: str, values: Tensor, dim: int, points: np.ndarray, order: int) -> Tensor:
        """(point, native point) of a derivative along an axis."""

        def made() -> np.ndarray:
            axis = self.problem.output_space[name].sized(values.shape[dim])
            return axis.resampling(axis.nodes, points, order=order)

        return self._kept(values, (name, values.shape[dim], len(points), order), made)

    def _kept(self, values: Tensor, key: tuple, make: Callable[[], np.ndarray]) -> Tensor:
        """A matrix beside ``values``, made once per kind of input."""
        like = {"device": values.device, "dtype": values.dtype}
        return kept(self._matrices, (*key, *like.values()), lambda: torch.as_tensor(make()).to(**like), count=64)


def linear_interpolation(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(wanted, given) matrix of the function that is linear between increasing positions, constant beyond them."""
    return np.stack([np.interp(wanted, given, row) for row in np.eye(len(given))], axis=1)
