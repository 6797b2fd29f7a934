"""Families of fields that continue periodically along every axis: a mean, and a scale of what varies around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .base import Draws, Family


@dataclass(frozen=True)
class PeriodicGaussianProcess(Family):
    """Gaussian process with the kernel exp(−2 Σ_j (sin(π d_j)/2)² / l²), its constant mode replaced by ``mean``.

    d_j is the distance along axis j in units of its length. The kernel is a product over axes of
    exp(−z (1 − cos 2πd)), z = 1/(4l²) = e^{−z} (I₀(z) + 2 Σ_k I_k(z) cos 2πkd), so that the modes 1,
    √2 cos 2πkx, √2 sin 2πkx of an axis are independent with the variances e^{−z} I_k(z).

    Args:
        length_scale: l, dimensionless; over short distances the kernel is a squared exponential of
            length l/π periods.
        shortest, longest: where given, each field's own l is log-uniform between them.
        scale: factor of what varies around the mean.
        mean: of every field over the domain.

    Source: C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning" (2006), 4.2.3,
    for the periodic kernel; M. Abramowitz, I. A. Stegun (1964), 9.6.34, for its series.
    """

    length_scale: float = 0.8
    shortest: float | None = None
    longest: float | None = None
    scale: float = 1.0
    mean: float = 0.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def __post_init__(self):
        if (self.shortest is None) != (self.longest is None):
            raise ValueError("shortest and longest length scale come together: give both or neither")
        if min(self.range) <= 0 or self.range[0] > self.range[1]:
            raise ValueError(f"length scales must be positive and increasing, got {self.range}")

    @property
    def range(self) -> tuple[float, float]:
        """Shortest and longest length scale."""
        if self.shortest is None or self.longest is None:
            return self.length_scale, self.length_scale
        return self.shortest, self.longest

    @cached_property
    def band(self) -> int:
        """Highest wave number drawn; those beyond it have less than 1e-12 of the deviation."""
        deviations = _deviations(self.range[0], np.arange(513))
        return max(1, int(np.flatnonzero(deviations > 1e-12 * deviations[0])[-1]))

    def fields(self, points, draws):
        k = np.arange(1, self.band + 1)
        matrices = []
        for positions in points:
            angle = 2 * np.pi * np.outer(positions, k)
            one = np.ones((len(positions), 1))
            matrices.append(np.concatenate([one, np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.sin(angle)], axis=1))
        deviations = self._deviations(np.concatenate([[0], k, k]), draws)
        field = self.scale * self._coefficients(len(points), draws)
        for matrix in matrices:  # each turn takes the first axis and puts it last
            field = draws.xp.moveaxis(field, 1, -1)
            *rest, number = field.shape
            field = field.reshape(rest[0], -1, number) @ (draws.array(matrix).T * deviations[..., None])
            field = field.reshape(*rest, -1)
        return self.mean + field

    def _coefficients(self, num_axes: int, draws: Draws) -> Any:
        """(count, *modes) standard normal values, the constant mode's zero."""
        values = draws.normal(*(2 * self.band + 1,) * num_axes)
        values[(slice(None), *(0,) * num_axes)] = 0.0
        return values

    def _deviations(self, numbers: np.ndarray, draws: Draws) -> Any:
        """Standard deviations of an axis' modes, (modes,) or, where length scales vary, (count, modes)."""
        if self.shortest is None:
            return draws.array(_deviations(self.length_scale, numbers))
        lengths = draws.xp.exp(draws.uniform(*np.log(self.range)))
        return draws.xp.sqrt(draws.scaled_bessel(numbers, 1 / (4 * lengths**2)))


def _deviations(length: float, numbers: np.ndarray) -> np.ndarray:
    """Standard deviations of the modes with the wave ``numbers`` along one axis."""
    from scipy.special import ive

    return np.sqrt(ive(numbers, 1 / (4 * length**2)))


@dataclass(frozen=True)
class RandomWaves(Family):
    """mean + scale · Σ_i A_i sin(2π k_i x + φ_i), A_i uniform in [0, 1], k_i integers in 1..highest, φ_i uniform.

    x is in units of the axis' length.

    PDEBench's initial fields of advection and Burgers' equation; deviation: without their random
    windows and absolute values, so that fields are smooth.

    Source: M. Takamoto et al., "PDEBench" (NeurIPS 2022), arXiv:2210.07182, appendix D.
    """

    num_waves: int = 2
    highest: int = 8
    scale: float = 1.0
    mean: float = 0.0

    is_periodic: ClassVar[bool] = True

    def fields(self, points, draws):
        positions = draws.array(points[0])
        amplitudes = self.scale * draws.uniform(0, 1, self.num_waves)
        numbers = draws.integers(1, self.highest + 1, self.num_waves)
        phases = draws.uniform(0, 2 * np.pi, self.num_waves)
        waves = draws.xp.sin(2 * np.pi * (positions[:, None] * numbers[:, None]) + phases[:, None])
        return self.mean + (waves @ amplitudes[..., None])[..., 0]


# Out-of-family sets, for calibrating and testing the trust report.


@dataclass(frozen=True)
class PeriodicSquareWaves(Family):
    """Checkerboards of the values mean ± scale with 1, 2 or 4 periods along each axis."""

    scale: float = 1.0
    mean: float = 0.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def fields(self, points, draws):
        xp, field = draws.xp, draws.array(np.full((), self.scale))
        for positions in points:
            periods = 2 ** draws.integers(0, 3, 1)
            wave = xp.sin(2 * np.pi * periods * draws.array(positions) + draws.uniform(0, 2 * np.pi, 1))
            sign = xp.where(wave < 0, -1.0, 1.0)
            field = field[..., None] * sign.reshape(len(sign), *[1] * max(0, field.ndim - 1), -1)
        return self.mean + field


@dataclass(frozen=True)
class PeriodicNoise(Family):
    """Independent normal values at every point, of deviation ``scale``, shifted to the mean ``mean``."""

    scale: float = 1.0
    mean: float = 0.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def fields(self, points, draws):
        fields = self.scale * draws.normal(*points.shape)
        return self.mean + fields - fields.mean(axis=tuple(range(1, fields.ndim)), keepdims=True)


@dataclass(frozen=True)
class PeriodicShortWaves(Family):
    """mean + scale · sin(2π k·x + φ), each component of k an integer between ±lowest and ±highest."""

    lowest: int = 24
    highest: int = 30
    scale: float = 1.0
    mean: float = 0.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def fields(self, points, draws):
        phase = draws.uniform(0, 2 * np.pi)
        for positions in points:
            k = draws.integers(self.lowest, self.highest + 1, 1) * (2 * draws.integers(0, 2, 1) - 1)
            wave = 2 * np.pi * k * draws.array(positions)
            phase = phase[..., None] + wave.reshape(len(wave), *[1] * (phase.ndim - 1), -1)
        return self.mean + self.scale * draws.xp.sin(phase)


@dataclass(frozen=True)
class PeriodicStrongFields(PeriodicGaussianProcess):
    """The periodic Gaussian process with five times the amplitude."""

    scale: float = 5.0
