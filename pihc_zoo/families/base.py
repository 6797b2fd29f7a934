"""What a family of initial conditions is, and draws of physical parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Family:
    """Base: random fields on [0, 1] along each axis."""

    num_axes: ClassVar[tuple[int, ...]] = (1,)  # for which numbers of axes it serves
    is_periodic: ClassVar[bool] = False  # whether fields continue with period 1

    def sample(self, count: int, points: Any, rng: np.random.Generator) -> np.ndarray:
        """(count, n) or (count, n_x, n_y, …) fields.

        Args:
            count: how many.
            points: (n,) positions on one axis, or a sequence of such arrays, one per axis; fields are
                drawn on their tensor grid. Positions may lie slightly outside [0, 1].
            rng: of the draws.

        Raises:
            ValueError: the family does not serve so many axes.
        """
        axes = [points] if np.ndim(points[0]) == 0 else points
        if len(axes) not in self.num_axes:
            served = " or ".join(map(str, self.num_axes))
            raise ValueError(f"{type(self).__name__} draws fields on {served} axes, got positions on {len(axes)}")
        return self.draw(count, [np.asarray(own, dtype=np.float64) for own in axes], rng)

    def draw(self, count: int, axes: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """`sample` at one array of positions per axis."""
        raise NotImplementedError


def sample_parameters(problem, inputs: tuple[str, ...], count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """(count,) values of each input parameter, uniform (or log-uniform) in its declared range."""
    values = {}
    for key in inputs:
        parameter = problem.parameters[key]
        if parameter.is_logarithmic:
            values[key] = np.exp(rng.uniform(np.log(parameter.low), np.log(parameter.high), count))
        else:
            values[key] = rng.uniform(parameter.low, parameter.high, count)
    return values
