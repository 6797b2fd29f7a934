"""What given solutions say about some trajectories: where to evaluate a model, and how far its values are from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Trajectories
from .loss import relative_l2

_LARGEST = 2**23  # values of the tensor grid through scattered points that are evaluated at once
_FEWEST = 8  # neighbours that tell noise from error
_NOISY = 0.1  # share of noise from which on its own scatter is granted


class Targets:
    """Solutions of the trajectories ``rows``.

    Attributes:
        times, points: the tensor grid on which a model is evaluated; scattered points lie on it.
    """

    def __init__(self, data: Trajectories, rows: np.ndarray):
        self.data, self.rows = data, np.asarray(rows)
        self.scattered = None if data.scattered is None else data.scattered.of(self.rows)
        if self.scattered is None:
            self.times, self.points = data.t[data.t > 0], data.points
            self.places = None
            return
        own, places = self.scattered, []
        self.times, place = np.unique(own.t, return_inverse=True)
        places.append(place)
        self.points = {}
        for key, values in own.points.items():
            self.points[key], place = np.unique(values, return_inverse=True)
            places.append(place)
        self.places = (own.trajectory, *places)

    @property
    def size(self) -> int:
        """Values of a model's answer."""
        return len(self.rows) * len(self.times) * int(np.prod([len(own) for own in self.points.values()]))

    def difference(self, u: Any) -> tuple[Any, Any]:
        """u (batch, time, *points[, field]) ↦ its values less the given ones, and these; scattered ones are (m,)."""
        if self.scattered is None:
            truth = self.data.u[self.rows][:, self.data.t > 0]
            truth = truth if isinstance(u, np.ndarray) else torch.as_tensor(truth, device=u.device)
            return u - truth, truth
        values = u[self.places]
        truth = self.scattered.u if isinstance(u, np.ndarray) else torch.as_tensor(self.scattered.u, device=u.device)
        return values - truth, truth

    def error(self, u: Tensor) -> Tensor:
        """(batch,) relative L2 distance of u (batch, time, *points) from the given values."""
        if self.scattered is None:
            difference, truth = self.difference(u)
            return relative_l2(difference + truth, truth)
        difference, truth = self.difference(u)
        places = torch.as_tensor(self.scattered.trajectory, device=u.device)
        zero = u.new_zeros(len(self.rows))
        error, size = (zero.index_add(0, places, part.square()) for part in (difference, truth))
        return (error / size).sqrt()

    def shares(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares (batch,) of the squared distance: what neighbours have in common, at least, and what looks like noise.

        Half the mean squared difference of neighbours over the mean square is 1 for noise and 0 for what is smooth
        (J. von Neumann, 1941), each up to 1/√m of m neighbours, of which three are granted. Scattered values are
        compared with the nearest one of their trajectory, all trajectories together; NaN where they are too few.
        """
        difference, _ = self.difference(u)
        if self.scattered is None:
            along = np.moveaxis(difference, 1 + len(self.points), -1)  # the last axis of space
            rough = np.diff(along, axis=-1) ** 2
            smooth = along[..., 1:] ** 2 + along[..., :-1] ** 2
            count = rough[0].size
            sums = [part.reshape(len(u), -1).sum(axis=1) for part in (rough, smooth)]
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
    """The trajectories ``rows``, in parts whose answers fit in memory."""
    rows = np.asarray(rows)
    whole = Targets(data, rows)
    if whole.size <= _LARGEST or len(rows) == 1:
        yield whole
    else:
        half = len(rows) // 2
        yield from pieces(data, rows[:half])
        yield from pieces(data, rows[half:])
