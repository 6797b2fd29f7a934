"""A surrogate's values at scattered points and their exact sensitivities, for many trial parameters in a batch.

For readings y(z) and any vector v the reverse pass gives g(v) = Jᵀv, linear in v. A reverse pass through it, with v
as its variable, gives a column of J: as many passes as there are unknowns, not readings. All trial parameters and
experiments are rows of one batch; sensitivities pass the solves by the implicit adjoint.

Source: J. Townsend, "A new trick for calculating Jacobian vector products" (2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..status import Status, is_converged
from .measurements import Experiment
from .unknowns import INITIAL, Unknown

_ROWS = 16  # of a pass on a CPU: the working set stays in cache
_POINTS = 48  # readings that share a grid of times and positions
_CHUNKS = 24  # such grids at most


class Readings:
    """What a surrogate says at the points of some experiments.

    Args:
        model: the surrogate.
        experiments: E of them, m readings in all.
        unknowns: the p numbers that vary.
        known: other parameters, numbers or (E,) arrays.

    Attributes:
        num_solves: trajectories solved so far.
    """

    def __init__(self, model: Any, experiments: list[Experiment], unknowns: list[Unknown], known: dict[str, Any]):
        self.model, self.experiments, self.unknowns = model, experiments, unknowns
        self.known = {key: np.broadcast_to(value, (len(experiments),)) for key, value in known.items()}
        self.num_solves = 0
        self.t = np.concatenate([experiment.t for experiment in experiments])
        self.owner = np.repeat(np.arange(len(experiments)), [len(experiment) for experiment in experiments])
        self.field = np.concatenate([experiment.field for experiment in experiments])
        axes = model.problem.output_space
        self.points = {key: np.concatenate([own.points[key] for own in experiments]) for key in axes}
        self.chunks = self._chunks()
        self.initial, self.start = self._initial()

    def _chunks(self) -> list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], list[np.ndarray]]]:
        """Readings after the start in groups: their indices, the group's grid, their places on it."""
        later = np.flatnonzero(self.t > 0)
        later = later[np.argsort(self.t[later], kind="stable")]
        size = max(_POINTS, -(-len(later) // _CHUNKS))
        chunks = []
        for first in range(0, len(later), size):
            own = later[first : first + size]
            chunks.append((own, *self.grid_of(own)))
        return chunks

    def grid_of(self, picked: np.ndarray | slice) -> tuple[np.ndarray, dict[str, np.ndarray], list[np.ndarray]]:
        """Times and positions of the ``picked`` readings, each once, and where a reading stands: (time, *axes)."""
        times, at = np.unique(self.t[picked], return_inverse=True)
        grid, places = {}, [at]
        for key, values in self.points.items():
            grid[key], place = np.unique(values[picked], return_inverse=True)
            places.append(place)
        return times, grid, places

    def at_fields(self, places: list[np.ndarray], picked: np.ndarray | slice) -> list[np.ndarray]:
        """Places (time, *axes) of the ``picked`` readings in an answer, of a system with the field's last."""
        return [*places, self.field[picked]] if self.model.problem.is_system else places

    def _initial(self) -> tuple[Tensor | None, np.ndarray]:
        """(E, *space) initial values at the nodes, and (m,) those at the readings' points."""
        model, start = self.model, np.zeros(len(self.t))
        if self.experiments[0].u0 is None:
            return None, start
        fields = []
        for i, experiment in enumerate(self.experiments):
            u0 = model.inward(torch.as_tensor(experiment.u0, device=model.device)[None])
            fields.append(model.at_nodes(u0, experiment.input_points))
            for j in np.flatnonzero((self.owner == i) & (self.t == 0)):
                target = {key: values[j : j + 1] for key, values in self.points.items()}
                values = model.positions.resampled(u0, experiment.input_points, target).flatten()
                start[j] = float(values[self.field[j]])
        return torch.cat(fields), start

    # ------------------------------------------------------------------ values and sensitivities

    @torch.no_grad()
    def values(self, z: np.ndarray) -> np.ndarray:
        """(rows, p) trial unknowns, scaled ↦ (rows, m) readings; NaN where a solve failed."""
        parts = [self._read(torch.as_tensor(part)).cpu().numpy() for part in self._passes(z)]
        return np.concatenate(parts)

    def sensitivities(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, p) ↦ (rows, m) readings and (rows, m, p) their derivatives in z."""
        values, columns = [], []
        for part in self._passes(z):
            own = torch.as_tensor(part).requires_grad_()
            y = self._read(own)
            v = torch.zeros_like(y, requires_grad=True)
            (g,) = torch.autograd.grad(y, own, v, create_graph=True)
            last = len(self.unknowns) - 1
            by_unknown = [
                torch.autograd.grad(g[:, k].sum(), v, retain_graph=k < last)[0] for k in range(len(self.unknowns))
            ]
            values.append(y.detach().cpu().numpy())
            columns.append(torch.stack(by_unknown, dim=2).cpu().numpy())
        return np.concatenate(values), np.concatenate(columns)

    def _passes(self, z: np.ndarray) -> list[np.ndarray]:
        """Trial rows in groups that a pass takes."""
        size = max(1, _ROWS // len(self.experiments)) if self.model.device.type == "cpu" else len(z)
        return [z[first : first + size] for first in range(0, len(z), size)]

    def _read(self, z: Tensor) -> Tensor:
        """(rows, p) ↦ (rows, m), differentiable; rows whose solves failed are NaN."""
        model, rows, count = self.model, len(z), len(self.experiments)
        self.num_solves += rows * count
        values = {own.name: own.value(z[:, k]).to(model.device) for k, own in enumerate(self.unknowns)}
        own = {key: torch.as_tensor(value.copy()).repeat(rows) for key, value in self.known.items()}
        own |= {key: value.repeat_interleave(count) for key, value in values.items() if key != INITIAL}
        return self.of(*self._state(values, rows), model.tensors(own), rows)

    def of(self, initial: Tensor, start: Tensor, c: dict[str, Tensor], rows: int) -> Tensor:
        """(rows, m) readings of given initial values, differentiable; rows whose solves failed are NaN.

        Args:
            initial: (rows · E, *space) values at the nodes.
            start: (rows, m) initial values at the readings' points.
            c: parameters, tensors of shape () or (rows · E,).
            rows: of trials.
        """
        y: list[Any] = [None] * len(self.t)
        for j in np.flatnonzero(self.t == 0):
            y[j] = start[:, j]
        if self.chunks:
            self._fill(y, initial, c, rows)
        return torch.stack(y, dim=1)

    def _state(self, values: dict[str, Tensor], rows: int) -> tuple[Tensor, Tensor]:
        """(rows · E, *space) initial values at the nodes and (rows, m) at the readings' points."""
        if self.initial is not None:
            start = torch.as_tensor(self.start, device=self.initial.device).expand(rows, -1)
            return self.initial.repeat(rows, *[1] * (self.initial.dim() - 1)), start
        shape = [len(axis.nodes) for axis in self.model.constraint.grid.space.values()]
        u0 = values[INITIAL]
        repeated = u0.repeat_interleave(len(self.experiments))
        return repeated.reshape(-1, *[1] * len(shape)).expand(-1, *shape), u0[:, None].expand(-1, len(self.t))

    def _fill(self, y: list, initial: Tensor, c: dict[str, Tensor], rows: int) -> None:
        """Reads every window at every group of points."""
        model, count = self.model, len(self.experiments)
        windows = model.rollout.count(self.t[self.t > 0])
        pieces: list[list[Tensor]] = [[] for _ in self.chunks]
        is_solved = torch.ones(rows * count, dtype=torch.bool, device=initial.device)
        for window in model.windows(initial, c, windows):
            status = window.field.solution.status.reshape(rows * count, -1)
            is_solved = is_solved & (is_converged(status) | (status == int(Status.NOT_SOLVED))).all(dim=1)
            for piece, (_, times, grid, _) in zip(pieces, self.chunks, strict=True):
                piece.append(model.read(window, times, grid))
        for piece, (own, _, _, places) in zip(pieces, self.chunks, strict=True):
            field = model.outward(torch.cat(piece, dim=1))  # (rows · E, time, *points[, field])
            field = torch.where(is_solved.reshape(-1, *[1] * (field.dim() - 1)), field, torch.nan)
            field = field.unflatten(0, (rows, count))
            at = [self.owner[own], *self.at_fields(places, own)]
            picked = field[(slice(None), *map(torch.as_tensor, at))]
            for place, j in enumerate(own):
                y[j] = picked[:, place]
