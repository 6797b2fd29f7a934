"""From positions to positions: given points, the nodes of a grid, points that are asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .constraint import HardConstraint
from .discretisation import Discretisation, Readout, along, kept
from .grid import Axis, Grid

Matrix = Callable[..., np.ndarray]  # axis, positions ↦ matrix
_LATEST = 64  # matrices, and readouts, that are kept


class Positions:
    """Takes fields between points and a surrogate's nodes; the latest matrices are kept.

    Args:
        constraint: of the surrogate.
    """

    def __init__(self, constraint: HardConstraint):
        self.constraint = constraint
        self._matrices: dict = {}
        self._readouts: dict = {}
        self._times: dict = {}

    @property
    def device(self) -> torch.device:
        """Where the constraint's buffers are."""
        return self.constraint.ansatz.t.device

    def _along(self, u: Tensor, axes: dict[str, Axis], make: Matrix, *points: dict[str, np.ndarray]) -> Tensor:
        """u (batch, *points) taken along every axis by a matrix that the axis makes of positions."""
        for i, (name, axis) in enumerate(axes.items()):
            u = along(u, self._matrix(axis, make, *(part[name] for part in points)), i - len(axes))
        return u

    def _matrix(self, axis: Axis, make: Matrix, *points: np.ndarray) -> Tensor:
        key = (axis, make, *(part.tobytes() for part in points), self.device)
        return kept(self._matrices, key, lambda: torch.as_tensor(make(axis, *points), device=self.device), _LATEST)

    def resampled(self, u: Tensor, source: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> Tensor:
        """(batch, *source) values of any field ↦ (batch, *target); as they are where these are the same points."""
        if all(np.array_equal(source[name], target[name]) for name in target):
            return u
        return self._along(u, self.constraint.problem.output_space, _resampling, source, target)

    def readout(self, own: Discretisation, times: np.ndarray, points: dict[str, np.ndarray]) -> Readout:
        """Reads fields on the grid of ``own`` at ``times`` and ``points``."""
        key = (own.grid.key, times.tobytes(), *(p.tobytes() for p in points.values()), self.device)
        return kept(self._readouts, key, lambda: Readout(own, times, points).to(self.device), _LATEST)

    def times(self, times: np.ndarray) -> Tensor:
        """``times`` as a tensor on the device."""
        key = (times.tobytes(), self.device)
        own = {"dtype": torch.float64, "device": self.device}
        return kept(self._times, key, lambda: torch.as_tensor(times, **own), 32 * _LATEST)

    def at_nodes(self, u0: Tensor, points: dict[str, np.ndarray], grid: Grid | None = None) -> Tensor:
        """(batch, *points) initial values at ``points`` ↦ (batch, *space) at the nodes of the grid, float64."""
        return self._along(u0.double(), (grid or self.constraint.grid).space, _gathering, points)

    def unresolved(self, u0: Tensor, initial: Tensor, points: dict[str, np.ndarray]) -> Tensor:
        """(batch,) relative L2 part of u0 at ``points`` that its values at the nodes do not carry."""
        axes = self.constraint.grid.space
        nodes = {name: axis.nodes for name, axis in axes.items()}
        lost = (u0 - self._along(initial, axes, _resampling, nodes, points)).flatten(1)
        return lost.norm(dim=1) / u0.flatten(1).norm(dim=1).clamp(min=torch.finfo(u0.dtype).tiny)


def _resampling(axis: Axis, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return axis.resampling(source, target)


def _gathering(axis: Axis, points: np.ndarray) -> np.ndarray:
    return axis.gathering(points)
