"""Families of values inside a range, on axes of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .base import Draws, Family
from .features import RandomFeatures, along, flat

_FINE = {1: 257, 2: 65, 3: 49}  # points per axis of the grid on which ranges are attained, by number of axes

Shape = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class BoundedFamily(Family):
    """Base: fields with values in [low, high], attained on a fixed fine grid; between its points a little beyond.

    Along periodic axes they continue with the axis' length. Where ``low`` is not negative, no value is.
    """

    low: float = 0.003
    high: float = 0.297

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def fields(self, points, draws):
        xp, number = draws.xp, len(points)
        shape = self.shape(points.is_periodic, draws)
        fine = np.linspace(0.0, 1.0, _FINE[number])
        if number == 1:
            values = shape([draws.array(np.concatenate([fine, points[0]]))])
            inside, unit = values[:, : len(fine)], values[:, len(fine) :]
        else:
            inside = shape([draws.array(fine)] * number)
            unit = shape([draws.array(own) for own in points])
        inside = inside.reshape(len(inside), -1)
        lowest = xp.amin(inside, axis=1)
        spread = flat(xp.amax(inside, axis=1) - lowest, number)
        ends = draws.uniform(self.low, self.high, 2)
        bottom, top = flat(xp.amin(ends, axis=1), number), flat(xp.amax(ends, axis=1), number)
        unit = xp.where(spread > 0, (unit - flat(lowest, number)) / xp.where(spread > 0, spread, 1.0), 0.0)
        values = bottom + (top - bottom) * unit
        return xp.clip(values, 0.0, None) if self.low >= 0 else values

    def shape(self, is_periodic: Sequence[bool], draws: Draws) -> Shape:
        """Draws unscaled fields: positions (n,) on each axis ↦ (count, *points).

        Each field is mapped to a random range inside [low, high].
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constants(BoundedFamily):
    """u₀ = const, uniform in [low, high], or exactly ``low`` for the share ``clean`` of them.

    PDEBench's diffusion–sorption data with U(0, 0.2).
    """

    low: float = 0.0
    high: float = 0.2
    clean: float = 0.0

    def fields(self, points, draws):
        values = draws.uniform(self.low, self.high, 1)
        if self.clean:
            values = draws.xp.where(draws.uniform(0, 1, 1) < self.clean, self.low, values)
        return flat(values, len(points)) + draws.array(np.zeros(points.shape))


@dataclass(frozen=True)
class GaussianProcess(BoundedFamily):
    """Smooth fields: squared-exponential process of random length scale, by random features.

    Args:
        shortest, longest: length scale, log-uniform between them, in units of each axis' length.
        num_features: see `features.RandomFeatures`.
    """

    shortest: float = 0.1
    longest: float = 0.5
    num_features: int = 64

    def shape(self, is_periodic, draws):
        return RandomFeatures.drawn(self.num_features, self.shortest, self.longest, is_periodic, draws)


@dataclass(frozen=True)
class RandomSines(BoundedFamily):
    """Σ_j a_j sin(π j x + θ_j), j ≤ num_modes, a_j normal with deviation j^(−decay); 2π j x on a periodic axis."""

    low: float = 0.005
    high: float = 0.295
    num_modes: int = 6
    decay: float = 1.5

    num_axes: ClassVar[tuple[int, ...]] = (1,)

    def shape(self, is_periodic, draws):
        j = np.arange(1, self.num_modes + 1)
        amplitudes = draws.normal(self.num_modes) * draws.array(j) ** -self.decay
        phases = draws.uniform(0, 2 * np.pi, self.num_modes)
        numbers = draws.array(2 * j if is_periodic[0] else j)

        def values(axes):
            sines = draws.xp.sin(np.pi * (axes[0][:, None] * numbers) + phases[:, None])
            return (sines @ amplitudes[..., None])[..., 0]

        return values


@dataclass(frozen=True)
class SmoothFields(BoundedFamily):
    """A mixture for training: Gaussian-process fields and constants.

    Args:
        constants: probability of a constant.
        shortest, longest: see `GaussianProcess`.
        clean: probability of the constant ``low``.
    """

    constants: float = 0.15
    shortest: float = 0.1
    longest: float = 0.5
    clean: float = 0.0

    def __post_init__(self):
        if min(self.constants, self.clean) < 0 or self.constants + self.clean > 1:
            raise ValueError(
                "constants and clean are probabilities of which at most 1 is left to smooth fields, "
                f"got {self.constants} and {self.clean}"
            )

    def fields(self, points, draws):
        smooth = GaussianProcess(self.low, self.high, self.shortest, self.longest).fields(points, draws)
        constant = Constants(self.low, self.high).fields(points, draws)
        return self._mixed(smooth, constant, draws.uniform(0, 1, 1), draws.xp)

    def draw(self, count, points, rng):
        smooth = GaussianProcess(self.low, self.high, self.shortest, self.longest).draw(count, points, rng)
        constant = Constants(self.low, self.high).draw(count, points, rng)
        return self._mixed(smooth, constant, rng.uniform(size=(count, 1)), np)

    def _mixed(self, smooth: Any, constant: Any, chance: Any, xp: Any) -> Any:
        chance = flat(chance, smooth.ndim - 1)
        return xp.where(chance < self.constants, constant, xp.where(chance > 1 - self.clean, self.low, smooth))


# Out-of-family sets, for calibrating and testing the trust report.


@dataclass(frozen=True)
class SquareWaves(BoundedFamily):
    """Piecewise constant fields with one to four periods along each axis."""

    def shape(self, is_periodic, draws):
        waves = [(draws.integers(1, 5, 1), draws.uniform(0, 2 * np.pi, 1)) for _ in is_periodic]

        def values(axes):
            product = 1.0
            for j, (periods, phases) in enumerate(waves):
                sign = draws.xp.sign(draws.xp.sin(2 * np.pi * periods * axes[j] + phases))
                product = product * along(sign, j, len(axes))
            return product

        return values


@dataclass(frozen=True)
class NarrowPulses(BoundedFamily):
    """One Gaussian pulse from ``low`` to ``high``, of width 0.005 to 0.015 of the axes."""

    low: float = 0.02
    high: float = 0.27

    def fields(self, points, draws):
        squares: Any = 0.0
        for j, positions in enumerate(points):
            centres, widths = draws.uniform(0.2, 0.8, 1), draws.uniform(0.005, 0.015, 1)
            distance = draws.array(positions) - centres
            if points.is_periodic[j]:
                distance = distance - draws.xp.round(distance)
            squares = squares + along((distance / widths) ** 2, j, len(points))
        return self.low + (self.high - self.low) * draws.xp.exp(-0.5 * squares)


@dataclass(frozen=True)
class WhiteNoise(BoundedFamily):
    """Independent uniform values at every point."""

    def fields(self, points, draws):
        return draws.uniform(self.low, self.high, *points.shape)


@dataclass(frozen=True)
class ShortWaves(BoundedFamily):
    """sin(2π k·x + φ), each component of k from 20 to 40, whole on periodic axes."""

    def shape(self, is_periodic, draws):
        numbers = [draws.uniform(20, 40, 1) for _ in is_periodic]
        numbers = [draws.xp.round(k) if closed else k for k, closed in zip(numbers, is_periodic, strict=True)]
        phases = draws.uniform(0, 2 * np.pi, 1)

        def values(axes):
            waves = (along(2 * np.pi * k * axes[j], j, len(axes)) for j, k in enumerate(numbers))
            return draws.xp.sin(sum(waves, 0.0) + flat(phases, len(axes)))

        return values


@dataclass(frozen=True)
class HighPlateaus(BoundedFamily):
    """Smooth fields with values between 0.5 and 0.95, above the trained range."""

    low: float = 0.5
    high: float = 0.95

    def shape(self, is_periodic, draws):
        phases = [draws.uniform(0, 2 * np.pi, 1) for _ in is_periodic]
        numbers = [np.pi * (2 if closed else 1) for closed in is_periodic]

        def values(axes):
            waves = (draws.xp.sin(k * axes[j] + phases[j]) for j, k in enumerate(numbers))
            return sum((along(wave, j, len(axes)) for j, wave in enumerate(waves)), 0.0)

        return values
