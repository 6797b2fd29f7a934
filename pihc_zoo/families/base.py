"""What a family of initial conditions is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from .domain import Domain, Points


class Draws(Protocol):
    """Random numbers for a batch of fields, a row for each, and the arrays that they come in.

    Attributes:
        xp: the arrays' module, numpy or torch; families use what both have.
    """

    xp: Any

    def uniform(self, low: float, high: float, *shape: int) -> Any:
        """(count, *shape) values between low and high."""
        ...

    def normal(self, *shape: int) -> Any:
        """(count, *shape) standard normal values."""
        ...

    def integers(self, low: int, high: int, *shape: int) -> Any:
        """(count, *shape) whole numbers from low to high − 1, as floats."""
        ...

    def array(self, values: np.ndarray) -> Any:
        """Numbers that are not random, in the same arrays."""
        ...

    def scaled_bessel(self, numbers: np.ndarray, z: Any) -> Any:
        """(count, len(numbers)) values e^{−z} I_k(z) of modified Bessel functions of the orders k, for z (count,)."""
        ...


class NumpyDraws:
    """`Draws` of a numpy generator."""

    xp = np

    def __init__(self, rng: np.random.Generator, count: int = 1):
        self.rng, self.count = rng, count

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, (self.count, *shape))

    def normal(self, *shape):
        return self.rng.standard_normal((self.count, *shape))

    def integers(self, low, high, *shape):
        return self.rng.integers(low, high, (self.count, *shape)).astype(np.float64)

    def array(self, values):
        return np.asarray(values, dtype=np.float64)

    def scaled_bessel(self, numbers, z):
        from scipy.special import ive

        return ive(numbers, z[:, None])


@dataclass(frozen=True)
class Family:
    """Base: random fields on a domain. Lengths of a family are in units of the length of each axis.

    A family of one's own defines `draw`, or `fields`, from which draws follow; training makes the latter's on the
    device, for all of a batch at once. Both get positions from the start of each axis in units of its length, so that
    one family serves domains of any length.
    """

    num_axes: ClassVar[tuple[int, ...]] = (1,)  # for which numbers of axes it serves
    is_periodic: ClassVar[bool] = False  # whether fields continue periodically along every axis, whatever its kind

    def sample(self, count: int, points: Any, rng: np.random.Generator, domain: Domain | None = None) -> np.ndarray:
        """(count, n) or (count, n_x, n_y, …) fields; a system's have one more, last axis.

        Args:
            count: how many.
            points: (n,) physical positions on one axis, or a sequence of such arrays, one per axis; fields are
                drawn on their tensor grid. Positions may lie slightly outside the domain.
            rng: of the draws.
            domain: where; default [0, 1] along every axis, closed on itself for families of periodic fields.

        Raises:
            ValueError: the family does not serve so many axes.
        """
        axes = [points] if np.ndim(points[0]) == 0 else points
        self.check_axes(len(axes))
        domain = Domain.unit(*[self.is_periodic] * len(axes)) if domain is None else domain
        return self.draw(count, domain.points(axes), rng)

    def check_axes(self, number: int) -> None:
        """Refuses a number of axes that the family does not serve.

        Raises:
            ValueError: so it is.
        """
        if number not in self.num_axes:
            served = " or ".join(map(str, self.num_axes))
            raise ValueError(f"{type(self).__name__} draws fields on {served} axes, got positions on {number}")

    def draw(self, count: int, points: Points, rng: np.random.Generator) -> np.ndarray:
        """`sample` at positions in units of lengths: one field after the other, so that few are the first of many."""
        return np.concatenate([self.fields(points, NumpyDraws(rng)) for _ in range(count)])

    def fields(self, points: Points, draws: Draws) -> Any:
        """(count, *points) fields at positions in units of lengths, a row of ``draws`` for each."""
        raise NotImplementedError

    @property
    def is_vectorised(self) -> bool:
        """Whether `fields` says what this family is; a subclass may have a `draw` of its own instead."""
        own = (cls for cls in type(self).__mro__ if {"draw", "fields"} & vars(cls).keys())
        first = next(own)
        return first is not Family and "fields" in vars(first)
