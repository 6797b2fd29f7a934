"""What given solutions say about some trajectories: where to evaluate a model, and how far its values are from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Trajectories
from .loss import relative_l2

_LARGEST = 2**22  # values of a tensor grid through scattered points that a model is asked for at once
READ = 2**19  # the same, where a solved roll-out is read part by part
_FEWEST = 8  # neighbours that tell noise from error
_NOISY = 0.1  # share of noise from which on its own scatter is granted


@dataclasses.dataclass
class Grid:
    """A tensor grid on which a model is evaluated; the scattered values ``picked`` lie at ``places`` of it.

    Attributes:
        times, points: of the grid.
        picked: (m,) indices of scattered values; None where all of the grid is given.
        places: (trajectory, time, *axes) of each.
    """

    times: np.ndarray
    points: dict[str, np.ndarray]
    picked: np.ndarray | None = None
    places: tuple[np.ndarray, ...] = ()

    @property
    def size(self) -> int:
        """Values of a trajectory."""
        return len(self.times) * int(np.prod([len(own) for own in self.points.values()]))


class Targets:
    """Solutions of the trajectories ``rows``.

    Values are (batch, time, *points[, field]) where solutions are given on a grid, (m,) where they are scattered.

    Args:
        largest: values that a model is asked for at once; default some millions.

    Attributes:
        grids: on which it is evaluated, one after the other; scattered points are parted by time.
    """

    def __init__(self, data: Trajectories, rows: np.ndarray, largest: int | None = None):
        self.data, self.rows = data, np.asarray(rows)
        self.scattered = None if data.scattered is None else data.scattered.of(self.rows)
        if self.scattered is None:
            self.grids = [Grid(data.t[data.t > 0], data.points)]
        else:
            self.grids = self._parted(np.argsort(self.scattered.t, kind="stable"), largest or _LARGEST)

    def _parted(self, picked: np.ndarray, largest: int) -> list[Grid]:
        own, grid, places = self.scattered, {}, []
        times, place = np.unique(own.t[picked], return_inverse=True)
        for key, values in own.points.items():
            grid[key], at = np.unique(values[picked], return_inverse=True)
            places.append(at)
        found = Grid(times, grid, picked, (own.trajectory[picked], place, *places))
        if len(picked) < 2 or len(self.rows) * found.size <= largest:
            return [found]
        half = len(picked) // 2
        return [*self._parted(picked[:half], largest), *self._parted(picked[half:], largest)]

    @property
    def size(self) -> int:
        """Values of a model's answer on the largest grid."""
        return len(self.rows) * max(grid.size for grid in self.grids)

    def values(self, answers: list[Any]) -> Any:
        """Answers (batch, time, *points[, field]) on each of the grids ↦ values where solutions are given."""
        if self.scattered is None:
            return answers[0]
        order = np.argsort(np.concatenate([grid.picked for grid in self.grids]))
        parts = [u[grid.places] for u, grid in zip(answers, self.grids, strict=True)]
        return (np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts))[order]

    def difference(self, values: Any) -> tuple[Any, Any]:
        """Values less the given ones, and these."""
        truth = self.data.u[self.rows][:, self.data.t > 0] if self.scattered is None else self.scattered.u
        truth = truth if isinstance(values, np.ndarray) else torch.as_tensor(truth, device=values.device)
        return values - truth, truth

    def error(self, values: Tensor) -> Tensor:
        """(batch,) relative L2 distance from the given values."""
        if self.scattered is None:
            difference, truth = self.difference(values)
            return relative_l2(difference + truth, truth)
        difference, truth = self.difference(values)
        places = torch.as_tensor(self.scattered.trajectory, device=values.device)
        zero = values.new_zeros(len(self.rows))
        error, size = (zero.index_add(0, places, part.square()) for part in (difference, truth))
        return (error / size).sqrt()

    def shares(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares (batch,) of the squared distance: what neighbours have in common, at least, and what looks like noise.

        Half the mean squared difference of neighbours over the mean square is 1 for noise and 0 for what is smooth
        (J. von Neumann, 1941), each up to 1/√m of m neighbours, of which three are granted. Scattered values are
        compared with the nearest one of their trajectory, all trajectories together; NaN where they are too few.
        """
        difference, _ = self.difference(values)
        if self.scattered is None:
            along = np.moveaxis(difference, 1 + len(self.data.points), -1)  # the last axis of space
            rough = np.diff(along, axis=-1) ** 2
            smooth = along[..., 1:] ** 2 + along[..., :-1] ** 2
            count = rough[0].size
            sums = [part.reshape(len(values), -1).sum(axis=1) for part in (rough, smooth)]
        else:
            pairs = [self._neighbours(i) for i in range(len(self.rows))]
            one, two = (np.concatenate(part) for part in zip(*pairs, strict=True))
            usable = np.isfinite(difference[one]) & np.isfinite(difference[two])
            one, two, count = one[usable], two[usable], int(usable.sum())
            if count < _FEWEST:
                return (np.full(len(self.rows), np.nan),) * 2
            rough, smooth = (difference[one] - difference[two]) ** 2, difference[one] ** 2 + difference[two] ** 2
            sums = [np.full(len(self.rows), part.sum()) for part in (rough, smooth)]
        noise = np.clip(sums[0] / np.maximum(sums[1], np.finfo(float).tiny), 0, 1)
        granted = np.where(noise > _NOISY, np.minimum(1, noise + 3 / np.sqrt(count)), noise)
        return 1 - granted, noise

    def _neighbours(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of the nearest points of trajectory ``i``."""
        from scipy.spatial import cKDTree

        own = np.flatnonzero(self.scattered.trajectory == i)
        if len(own) < 2:
            return own[:0], own[:0]
        places = np.stack([self.scattered.t, *self.scattered.points.values()], axis=1)[own]
        spread = np.ptp(places, axis=0)
        places = places / np.where(spread > 0, spread, 1.0)
        return own, own[cKDTree(places).query(places, k=2)[1][:, 1]]


def pieces(data: Trajectories, rows: np.ndarray) -> Iterator[Targets]:
    """The trajectories ``rows``, in parts whose answers fit in memory; the points of one trajectory stay together."""
    rows = np.asarray(rows)
    whole = Targets(data, rows)
    if len(rows) == 1 or (len(whole.grids) == 1 and whole.size <= _LARGEST):
        yield whole
    else:
        half = len(rows) // 2
        yield from pieces(data, rows[:half])
        yield from pieces(data, rows[half:])
