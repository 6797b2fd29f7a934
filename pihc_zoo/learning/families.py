"""Families of initial conditions (numpy only).

A family draws random fields at any positions on one or several axes; the same draw evaluated on two
grids is the same field. Value ranges are attained on a fixed fine grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

_FINE = np.linspace(0.0, 1.0, 257)


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


# Periodic axes.


@dataclass(frozen=True)
class PeriodicGaussianProcess(Family):
    """Gaussian process of zero mean with the kernel exp(−2 Σ_j (sin(π d_j)/2)² / l²), the constant mode removed.

    d_j is the distance along axis j, of period 1. The kernel is a product over axes of
    exp(−z (1 − cos 2πd)), z = 1/(4l²) = e^{−z} (I₀(z) + 2 Σ_k I_k(z) cos 2πkd), so that the modes 1,
    √2 cos 2πkx, √2 sin 2πkx of an axis are independent with the variances e^{−z} I_k(z).

    Args:
        length_scale: l, dimensionless; over short distances the kernel is a squared exponential of
            length l/π periods.
        shortest, longest: where given, each field's own l is log-uniform between them.
        scale: factor of all values.

    Source: C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning" (2006), 4.2.3,
    for the periodic kernel; M. Abramowitz, I. A. Stegun (1964), 9.6.34, for its series.
    """

    length_scale: float = 0.8
    shortest: float | None = None
    longest: float | None = None
    scale: float = 1.0

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

    def draw(self, count, axes, rng):
        k = np.arange(1, self.band + 1)
        matrices = []
        for positions in axes:
            angle = 2 * np.pi * np.outer(positions, k)
            one = np.ones((len(positions), 1))
            matrices.append(np.concatenate([one, np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.sin(angle)], axis=1))
        numbers = np.concatenate([[0], k, k])
        shortest, longest = self.range
        fields = []
        for _ in range(count):
            length = self.length_scale
            if self.shortest is not None:
                length = np.exp(rng.uniform(np.log(shortest), np.log(longest)))
            field = self.scale * rng.standard_normal((len(numbers),) * len(axes))
            field[(0,) * len(axes)] = 0.0
            deviations = _deviations(length, numbers)
            for matrix in matrices:  # each turn takes the first axis and puts it last
                field = np.moveaxis(field, 0, -1) @ (matrix * deviations).T
            fields.append(field)
        return np.stack(fields)


def _deviations(length: float, numbers: np.ndarray) -> np.ndarray:
    """Standard deviations of the modes with the wave ``numbers`` along one axis."""
    from scipy.special import ive

    return np.sqrt(ive(numbers, 1 / (4 * length**2)))


@dataclass(frozen=True)
class RandomWaves(Family):
    """Σ_i A_i sin(2π k_i x + φ_i), A_i uniform in [0, 1], k_i integers in 1..highest, φ_i uniform.

    PDEBench's initial fields of advection and Burgers' equation; deviation: without their random
    windows and absolute values, so that fields are smooth.

    Source: M. Takamoto et al., "PDEBench" (NeurIPS 2022), arXiv:2210.07182, appendix D.
    """

    num_waves: int = 2
    highest: int = 8
    scale: float = 1.0

    is_periodic: ClassVar[bool] = True

    def draw(self, count, axes, rng):
        (positions,) = axes
        fields = []
        for _ in range(count):
            amplitudes = self.scale * rng.uniform(0, 1, self.num_waves)
            numbers = rng.integers(1, self.highest + 1, self.num_waves)
            phases = rng.uniform(0, 2 * np.pi, self.num_waves)
            fields.append(np.sin(2 * np.pi * np.outer(positions, numbers) + phases) @ amplitudes)
        return np.stack(fields)


# Out-of-family sets, for calibrating and testing the trust report: bounded axes.


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


# Out-of-family sets: periodic axes. Their means are zero, as far as the grid can tell.


@dataclass(frozen=True)
class PeriodicSquareWaves(Family):
    """Checkerboards of the values ±scale with 1, 2 or 4 periods along each axis."""

    scale: float = 1.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def draw(self, count, axes, rng):
        fields = []
        for _ in range(count):
            field = np.full((), self.scale)
            for positions in axes:
                wave = np.sin(2 * np.pi * rng.choice((1, 2, 4)) * positions + rng.uniform(0, 2 * np.pi))
                field = field[..., None] * np.where(wave < 0, -1.0, 1.0)
            fields.append(field)
        return np.stack(fields)


@dataclass(frozen=True)
class PeriodicNoise(Family):
    """Independent normal values at every point, of deviation ``scale``, their mean subtracted."""

    scale: float = 1.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def draw(self, count, axes, rng):
        fields = self.scale * rng.standard_normal((count, *(len(own) for own in axes)))
        return fields - fields.mean(axis=tuple(range(1, fields.ndim)), keepdims=True)


@dataclass(frozen=True)
class PeriodicShortWaves(Family):
    """scale · sin(2π k·x + φ), each component of k an integer between ±lowest and ±highest."""

    lowest: int = 24
    highest: int = 30
    scale: float = 1.0

    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    is_periodic: ClassVar[bool] = True

    def draw(self, count, axes, rng):
        fields = []
        for _ in range(count):
            phase = np.full((), rng.uniform(0, 2 * np.pi))
            for positions in axes:
                k = rng.integers(self.lowest, self.highest + 1) * rng.choice((-1, 1))
                phase = phase[..., None] + 2 * np.pi * k * positions
            fields.append(self.scale * np.sin(phase))
        return np.stack(fields)


@dataclass(frozen=True)
class PeriodicStrongFields(PeriodicGaussianProcess):
    """The periodic Gaussian process with five times the amplitude."""

    scale: float = 5.0


FAMILIES: dict[str, type[Family]] = {
    "constants": Constants,
    "smooth_fields": SmoothFields,
    "gaussian_process": GaussianProcess,
    "random_sines": RandomSines,
    "square_waves": SquareWaves,
    "narrow_pulses": NarrowPulses,
    "white_noise": WhiteNoise,
    "short_waves": ShortWaves,
    "high_plateaus": HighPlateaus,
    "periodic_gaussian_process": PeriodicGaussianProcess,
    "random_waves": RandomWaves,
    "periodic_square_waves": PeriodicSquareWaves,
    "periodic_noise": PeriodicNoise,
    "periodic_short_waves": PeriodicShortWaves,
    "periodic_strong_fields": PeriodicStrongFields,
}
OUT_OF_FAMILY = ("square_waves", "narrow_pulses", "white_noise", "short_waves", "high_plateaus")
PERIODIC_OUT_OF_FAMILY = ("periodic_square_waves", "periodic_noise", "periodic_short_waves", "periodic_strong_fields")


def out_of_family(space: dict[str, Any]) -> tuple[str, ...]:
    """Names of the sets that no model of a problem on the axes ``space`` was trained for."""
    is_periodic = all(axis.is_periodic for axis in space.values())
    names = PERIODIC_OUT_OF_FAMILY if is_periodic else OUT_OF_FAMILY
    return tuple(name for name in names if len(space) in FAMILIES[name].num_axes)


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
