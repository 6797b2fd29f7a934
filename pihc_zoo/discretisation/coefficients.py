"""Coefficient fields at the points of a grid: given on the native points, read and differentiated along each axis."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..grid import Grid
from ..parameters import Parameters
from ..problems.base import Derivative, Problem
from .axes import along
from .constants import constants


class CoefficientFields:
    """Reads the coefficient fields of parameters, and their derivatives that the residual takes.

    Both are of the order of the axes' resampling, from native points to those asked for in one step.

    Args:
        problem: names the fields, `Problem.coefficients`, and the derivatives, `Problem.coefficient_features`.
        grid: at whose points.

    Raises:
        ValueError: a derivative of what is no coefficient field, or one in time or of a Laplacian.
    """

    def __init__(self, problem: Problem, grid: Grid):
        self.problem, self.grid = problem, grid
        self.features = {name: Derivative(name) for name in problem.coefficients} | problem.coefficient_features
        for name, feature in self.features.items():
            if feature.field not in problem.coefficients or feature.laplacian or set(feature.orders) - set(grid.space):
                raise ValueError(f"{name!r} must be a derivative in space of a coefficient field, not {feature}")
        self._matrices: dict = {}

    def __call__(self, c: Parameters) -> dict[str, Tensor]:
        """(batch or 1, 1, *collocation) values by name, of a system (batch or 1, 1, 1, *collocation)."""
        points = {name: axis.collocation_points for name, axis in self.grid.space.items()}
        dims = 1 + self.problem.is_system
        return {
            name: self._read(c, feature, points).unflatten(0, (-1, *[1] * dims))
            for name, feature in self.features.items()
        }

    def at_nodes(self, c: Parameters) -> dict[str, Tensor]:
        """(batch or 1, *space) values of the fields themselves at the nodes, by name."""
        points = {name: axis.nodes for name, axis in self.grid.space.items()}
        return {name: self._read(c, Derivative(name), points) for name in self.problem.coefficients}

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
        """(point, native point) of a derivative along an axis, made once per kind of input."""
        key = name, values.shape[dim], len(points), order, values.device, values.dtype
        if key not in self._matrices:
            axis = self.problem.output_space[name].sized(values.shape[dim])
            with constants():
                matrix = torch.as_tensor(axis.resampling(axis.nodes, points, order=order))
                self._matrices[key] = matrix.to(values.device, values.dtype)
        return self._matrices[key]
