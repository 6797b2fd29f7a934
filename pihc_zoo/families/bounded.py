"""Families on [0, 1], values inside a range that is attained on a fixed fine grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import Draws, Family

_FINE = np.linspace(0.0, 1.0, 257)


@dataclass(frozen=True)
class BoundedFamily(Family):
    """Base: fields on [0, 1] with values in [low, high]."""

    low: float = 0.003
    high: float = 0.297

    def fields(self, axes, draws):
        xp, (positions,) = draws.xp, axes
        shape = self.shape(draws.array(np.concatenate([_FINE, positions])), draws)
        inside, unit = shape[:, : len(_FINE)], shape[:, len(_FINE) :]
        lowest = xp.amin(inside, axis=1)[:, None]
        spread = xp.amax(inside, axis=1)[:, None] - lowest
        ends = draws.uniform(self.low, self.high, 2)
        bottom, top = xp.amin(ends, axis=1)[:, None], xp.amax(ends, axis=1)[:, None]
        unit = xp.where(spread > 0, (unit - lowest) / xp.where(spread > 0, spread, 1.0), 0.0)
        return xp.clip(bottom + (top - bottom) * unit, 0.0, None)

    def shape(self, points: Any, draws: Draws) -> Any:
        """(count, n) unscaled fields at points (n,); each is mapped to a random range inside [low, high]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constants(BoundedFamily):
    """u₀ = const, uniform in [low, high]; PDEBench's diffusion–sorption data with U(0, 0.2)."""

    low: float = 0.0
    high: float = 0.2

    def fields(self, axes, draws):
        return draws.uniform(self.low, self.high, 1) + draws.array(np.zeros(len(axes[0])))


@dataclass(frozen=True)
class GaussianProcess(BoundedFamily):
    """Smooth fields: squared-exponential process of random length scale, by random features.

    Source: A. Rahimi, B. Recht, "Random features for large-scale kernel machines" (2007).
    """

    shortest: float = 0.1
    longest: float = 0.5
    num_features: int = 64

    def shape(self, points, draws):
        length = draws.xp.exp(draws.uniform(np.log(self.shortest), np.log(self.longest)))
        frequencies = draws.normal(self.num_features) / length[:, None]
        phases = draws.uniform(0, 2 * np.pi, self.num_features)
        return draws.xp.cos(points[:, None] * frequencies[:, None] + phases[:, None]).sum(axis=2)


@dataclass(frozen=True)
class RandomSines(BoundedFamily):
    """Σ_j a_j sin(π j x + θ_j), j ≤ num_modes, a_j normal with deviation j^(−decay)."""

    low: float = 0.005
    high: float = 0.295
    num_modes: int = 6
    decay: float = 1.5

    def shape(self, points, draws):
        j = draws.array(np.arange(1, self.num_modes + 1))
        amplitudes = draws.normal(self.num_modes) * j**-self.decay
        phases = draws.uniform(0, 2 * np.pi, self.num_modes)
        return (draws.xp.sin(np.pi * (points[:, None] * j) + phases[:, None]) @ amplitudes[..., None])[..., 0]


@dataclass(frozen=True)
class SmoothFields(BoundedFamily):
    """A mixture for training: Gaussian-process fields and, with probability ``constants``, constants."""

    constants: float = 0.15
    shortest: float = 0.1
    longest: float = 0.5

    def fields(self, axes, draws):
        smooth = GaussianProcess(self.low, self.high, self.shortest, self.longest).fields(axes, draws)
        flat = Constants(self.low, self.high).fields(axes, draws)
        return draws.xp.where(draws.uniform(0, 1, 1) < self.constants, flat, smooth)

    def draw(self, count, axes, rng):
        smooth = GaussianProcess(self.low, self.high, self.shortest, self.longest).draw(count, axes, rng)
        flat = Constants(self.low, self.high).draw(count, axes, rng)
        return np.where(rng.uniform(size=(count, 1)) < self.constants, flat, smooth)


# Out-of-family sets, for calibrating and testing the trust report.


@dataclass(frozen=True)
class SquareWaves(BoundedFamily):
    """Piecewise constant fields with one to four periods."""

    def shape(self, points, draws):
        periods, phases = draws.integers(1, 5, 1), draws.uniform(0, 2 * np.pi, 1)
        return draws.xp.sign(draws.xp.sin(2 * np.pi * periods * points + phases))


@dataclass(frozen=True)
class NarrowPulses(BoundedFamily):
    """One Gaussian pulse of width 0.005 to 0.015."""

    def fields(self, axes, draws):
        centres, widths = draws.uniform(0.2, 0.8, 1), draws.uniform(0.005, 0.015, 1)
        return 0.02 + 0.25 * draws.xp.exp(-0.5 * ((draws.array(axes[0]) - centres) / widths) ** 2)


@dataclass(frozen=True)
class WhiteNoise(BoundedFamily):
    """Independent uniform values at every point."""

    def fields(self, axes, draws):
        return draws.uniform(self.low, self.high, len(axes[0]))


@dataclass(frozen=True)
class ShortWaves(BoundedFamily):
    """sin(2π k x), k from 20 to 40, inside the value range."""

    def shape(self, points, draws):
        numbers, phases = draws.uniform(20, 40, 1), draws.uniform(0, 2 * np.pi, 1)
        return draws.xp.sin(2 * np.pi * numbers * points + phases)


@dataclass(frozen=True)
class HighPlateaus(BoundedFamily):
    """Smooth fields with values between 0.5 and 0.95, above the trained range."""

    low: float = 0.5
    high: float = 0.95

    def shape(self, points, draws):
        return draws.xp.sin(np.pi * points + draws.uniform(0, 2 * np.pi, 1))
