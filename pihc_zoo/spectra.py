"""Fields on equally spaced points of periodic axes (numpy only): derivatives and shell spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def check_periodic_grid(points: Mapping[str, np.ndarray], periods: Mapping[str, float]) -> list[float]:
    """The lengths of the axes, if ``points`` fill each of them at equal distances.

    Raises:
        ValueError: an axis is not periodic, or its points are others.
    """
    for name, values in points.items():
        if name not in periods:
            raise ValueError(f"the axis {name} is not periodic; spectra need periodic axes")
        count, length = len(values), periods[name]
        if count < 4 or not np.allclose(values, values[0] + length * np.arange(count) / count, atol=1e-9 * length):
            raise ValueError(
                f"expected at least 4 equally spaced output points over the whole period {length:g} of {name} (its end "
                f"left out), got {count} from {values[0]:g} to {values[-1]:g}; predict without {name} of your own"
            )
    return [periods[name] for name in points]


def wave_numbers(shape: Sequence[int], lengths: Sequence[float]) -> list[np.ndarray]:
    """Per axis the angular wave numbers 2πk/length of `numpy.fft.rfftn`, shaped to broadcast over its result."""
    result = []
    for axis, (count, length) in enumerate(zip(shape, lengths, strict=True)):
        frequencies = (np.fft.rfftfreq if axis == len(shape) - 1 else np.fft.fftfreq)(count, length / count)
        result.append(2 * np.pi * frequencies.reshape(-1, *[1] * (len(shape) - axis - 1)))
    return result


def resolved(shape: Sequence[int]) -> np.ndarray:
    """Which modes of `numpy.fft.rfftn` have no Nyquist wave number, whose odd derivatives are undefined."""
    mask = np.ones((), dtype=bool)
    for k, count in zip(wave_numbers(shape, shape), shape, strict=True):  # unit spacing: k in [−π, π]
        mask = mask & (np.abs(k) < np.pi * (1 - 1e-9) if count % 2 == 0 else np.abs(k) < 4)
    return mask


def derivative(
    values: np.ndarray, lengths: Sequence[float], orders: Sequence[int], laplacian: int = 0, factor: float = 1.0
) -> np.ndarray:
    """factor · ∂^orders Δ^laplacian of fields (..., *space); the Nyquist mode is dropped.

    Args:
        lengths, orders: period and order of differentiation per axis.
        laplacian: power of the Laplacian; negative powers leave fields of zero mean.
    """
    shape = values.shape[-len(lengths) :]
    k = wave_numbers(shape, lengths)
    multiplier = factor * resolved(shape).astype(complex)
    for wave_number, order in zip(k, orders, strict=True):
        multiplier = multiplier * (1j * wave_number) ** order
    if laplacian:
        squared = np.asarray(sum(wave_number**2 for wave_number in k))
        power = np.zeros_like(squared)
        np.power(-squared, laplacian, out=power, where=squared > 0)
        multiplier = multiplier * power
    axes = tuple(range(-len(lengths), 0))
    return np.fft.irfftn(multiplier * np.fft.rfftn(values, axes=axes), s=shape, axes=axes)


def shell_spectrum(values: np.ndarray, lengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic spectrum of one field: ½|values_hat|² summed over shells of |k| rounded to whole cycles.

    Wave numbers are in cycles per longest length; shells that the shortest axis does not fill are left out.
    Summed over all k, including those, it is half the mean square (Parseval) without the Nyquist mode.

    Returns:
        k (m,) from 1 and the spectrum (m,).
    """
    shape, unit = values.shape, 2 * np.pi / max(lengths)
    k = wave_numbers(shape, lengths)
    cycles = np.sqrt(np.asarray(sum((wave_number / unit) ** 2 for wave_number in k)))
    density = 0.5 * np.abs(np.fft.rfftn(values) / values.size) ** 2 * resolved(shape)
    density = density * np.where(k[-1] > 0, 2.0, 1.0)  # the modes that a real transform leaves out
    highest = int(min((count - 1) // 2 * max(lengths) / length for count, length in zip(shape, lengths, strict=True)))
    sums = np.bincount(np.rint(cycles).astype(int).ravel(), weights=density.ravel())
    return np.arange(1, highest + 1), sums[1 : highest + 1]
