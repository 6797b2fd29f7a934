"""Families on [0, 1], values inside a range that is attained on a fixed fine grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Family

_FINE = np.linspace(0.0, 1.0, 257)


@dataclass(frozen=True)
class BoundedFamily(Family):
    """Base: fields on [0, 1] with values in [low, high]."""

    low: float = 0.003
    high: float = 0.297

    def draw(self, count, axes, rng):
        (positions,) = axes
        points = np.concatenate([_FINE, positions])
        fields = []
        for _ in range(count):
            shape = self.shape(points, rng)
            inside = shape[: len(_FINE)]
            spread = inside.max() - inside.min()
            bottom, top = np.sort(rng.uniform(self.low, self.high, 2))
            unit = (shape[len(_FINE) :] - inside.min()) / spread if spread > 0 else shape[len(_FINE) :] * 0
            fields.append(np.clip(bottom + (top - bottom) * unit, 0.0, None))
        return np.stack(fields)

    def shape(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One unscaled field; it is mapped to a random range inside [low, high]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constants(BoundedFamily):
    """u₀ = const, uniform in [low, high]; PDEBench's diffusion–sorption data with U(0, 0.2)."""

    low: float = 0.0
    high: float = 0.2

    def draw(self, count, axes, rng):
        return np.repeat(rng.uniform(self.low, self.high, (count, 1)), len(axes[0]), axis=1)


@dataclass(frozen=True)
class GaussianProcess(BoundedFamily):
    """Smooth fields: squared-exponential process of random length scale, by random features.

    Source: A. Rahimi, B. Recht, "Random features for large-scale kernel machines" (2007).
    """

    shortest: float = 0.1
    longest: float = 0.5
    num_features: int = 64

    def shape(self, points, rng):
        length = np.exp(rng.uniform(np.log(self.shortest), np.log(self.longest)))
        frequencies = rng.standard_normal(self.num_features) / length
        phases = rng.uniform(0, 2 * np.pi, self.num_features)
        return np.cos(np.outer(points, frequencies) + phases).sum(axis=1)


@dataclass(frozen=True)
class RandomSines(BoundedFamily):
    """Σ_j a_j sin(π j x + θ_j), j ≤ num_modes, a_j normal with deviation j^(−decay)."""

    low: float = 0.005
    high: float = 0.295
    num_modes: int = 6
    decay: float = 1.5

    def shape(self, points, rng):
        j = np.arange(1, self.num_modes + 1)
        amplitudes = rng.standard_normal(self.num_modes) * j**-self.decay
        phases = rng.uniform(0, 2 * np.pi, self.num_modes)
        return np.sin(np.pi * np.outer(points, j) + phases) @ amplitudes


@dataclass(frozen=True)
class SmoothFields(BoundedFamily):
    """A mixture for training: Gaussian-process fields and, with probability ``constants``, constants."""

    constants: float = 0.15
    shortest: float = 0.1
    longest: float = 0.5

    def draw(self, count, axes, rng):
        smooth = GaussianProcess(self.low, self.high, self.shortest, self.longest).draw(count, axes, rng)
        flat = Constants(self.low, self.high).draw(count, axes, rng)
        return np.where(rng.uniform(size=(count, 1)) < self.constants, flat, smooth)


# Out-of-family sets, for calibrating and testing the trust report.


@dataclass(frozen=True)
class SquareWaves(BoundedFamily):
    """Piecewise constant fields with one to four periods."""

    def shape(self, points, rng):
        return np.sign(np.sin(2 * np.pi * rng.integers(1, 5) * points + rng.uniform(0, 2 * np.pi)))


@dataclass(frozen=True)
class NarrowPulses(BoundedFamily):
    """One Gaussian pulse of width 0.005 to 0.015."""

    def draw(self, count, axes, rng):
        (positions,) = axes
        fields = [
            0.02 + 0.25 * np.exp(-0.5 * ((positions - rng.uniform(0.2, 0.8)) / rng.uniform(0.005, 0.015)) ** 2)
            for _ in range(count)
        ]
        return np.stack(fields)


@dataclass(frozen=True)
class WhiteNoise(BoundedFamily):
    """Independent uniform values at every point."""

    def draw(self, count, axes, rng):
        return rng.uniform(self.low, self.high, (count, len(axes[0])))


@dataclass(frozen=True)
class ShortWaves(BoundedFamily):
    """sin(2π k x), k from 20 to 40, inside the value range."""

    def shape(self, points, rng):
        return np.sin(2 * np.pi * rng.uniform(20, 40) * points + rng.uniform(0, 2 * np.pi))


@dataclass(frozen=True)
class HighPlateaus(BoundedFamily):
    """Smooth fields with values between 0.5 and 0.95, above the trained range."""

    low: float = 0.5
    high: float = 0.95

    def shape(self, points, rng):
        return np.sin(np.pi * points + rng.uniform(0, 2 * np.pi))
