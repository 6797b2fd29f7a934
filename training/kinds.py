"""Kinds of initial conditions that no model was calibrated on, to try its error estimate with.

A kind is drawn as a function of position, so that it can be given on any points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Field = Callable[..., np.ndarray]  # positions by axis in units of its length, broadcasting, ↦ values


def _unit(rng: np.random.Generator) -> float:
    """An amplitude in (0, 1]: mostly uniform, a third of them log-uniform from 1/300."""
    return float(np.exp(rng.uniform(np.log(1 / 300), 0)) if rng.uniform() < 0.35 else rng.uniform(0.05, 1))


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _stretched(shape: Field, rng: np.random.Generator) -> Field:
    """A field with its values mapped to a random range; the same function of position on any points."""
    low, high = np.sort(rng.uniform(0, 1, 2))
    values = shape(np.linspace(0, 1, 1025))
    bottom, top = values.min(), values.max()
    return lambda x: np.clip(low + (high - low) * (shape(x) - bottom) / (top - bottom), 0.0, None)


def _waves(rng: np.random.Generator) -> Field:
    phases, weights = rng.uniform(0, 2 * np.pi, 6), rng.standard_normal(6) * np.arange(1, 7) ** -1.5
    return _stretched(lambda x: np.sin(np.pi * np.multiply.outer(x, np.arange(1, 7)) + phases) @ weights, rng)


def _process(rng: np.random.Generator) -> Field:
    frequencies, phases = rng.standard_normal(64) / _log(rng, 0.1, 0.6), rng.uniform(0, 2 * np.pi, 64)
    return _stretched(lambda x: np.cos(np.multiply.outer(x, frequencies) + phases).sum(axis=-1), rng)


def _constant(rng: np.random.Generator) -> Field:
    value = 0.0 if rng.uniform() < 0.15 else _unit(rng)
    return lambda x: np.full(np.shape(x), value)


def _bumps(rng: np.random.Generator) -> Field:
    height, count, phase = _unit(rng), rng.integers(1, 4), 0.0 if rng.uniform() < 0.5 else rng.uniform(0, np.pi)
    return lambda x: height * np.sin(np.pi * count * x + phase) ** 2


def _exponential(rng: np.random.Generator) -> Field:
    height, length, is_left = _unit(rng), _log(rng, 0.05, 1), rng.uniform() < 0.5
    return lambda x: height * np.exp(-(x if is_left else 1 - x) / length)


def _pulse(rng: np.random.Generator) -> Field:
    base = 0.0 if rng.uniform() < 0.6 else 0.3 * rng.uniform()
    height, centre, width = 0.7 * _unit(rng), rng.uniform(0.1, 0.9), _log(rng, 0.03, 0.3)
    return lambda x: base + height * np.exp(-0.5 * ((x - centre) / width) ** 2)


def _ramp(rng: np.random.Generator) -> Field:
    left, right = (_unit(rng) * (rng.uniform() > 0.3) for _ in range(2))
    return lambda x: left + (right - left) * x


def _front(rng: np.random.Generator) -> Field:
    base = 0.0 if rng.uniform() < 0.4 else 0.15 * rng.uniform()
    height, centre, width = 0.8 * _unit(rng), rng.uniform(0.2, 0.8), _log(rng, 0.03, 0.3) * rng.choice((-1, 1))
    return lambda x: base + height * 0.5 * (1 + np.tanh((x - centre) / width))


def _plateau(rng: np.random.Generator) -> Field:
    height, centre, width, power = _unit(rng), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4), rng.choice((4, 6, 8))
    return lambda x: height * np.exp(-(((x - centre) / width) ** power))


def _square(rng: np.random.Generator) -> Field:
    low, high = np.sort(rng.uniform(0, 1, 2))
    count, phase = rng.integers(1, 5), rng.uniform(0, 2 * np.pi)
    return lambda x: low + (high - low) * (np.sin(2 * np.pi * count * x + phase) > 0)


_ON_WALLS: dict[str, Callable[[np.random.Generator], Field]] = {
    "waves": _waves,
    "gaussian process": _process,
    "constant": _constant,
    "bumps": _bumps,
    "exponential": _exponential,
    "pulse": _pulse,
    "ramp": _ramp,
    "front": _front,
    "plateau": _plateau,
    "square wave": _square,
}
Kinds = dict[str, Callable[[np.random.Generator, int], Field]]  # rng, number of axes ↦ field
BOUNDED: Kinds = {name: lambda rng, _, make=make: make(rng) for name, make in _ON_WALLS.items()}


# Periodic axes: values in about (−1, 1).


def _modes(rng: np.random.Generator, num_axes: int, highest: int, count: int, decay: float) -> Field:
    numbers = rng.integers(-highest, highest + 1, (count, num_axes))
    numbers[(numbers == 0).all(axis=1)] = 1
    phases = rng.uniform(0, 2 * np.pi, count)
    weights = rng.standard_normal(count) / np.maximum(1, np.abs(numbers).max(axis=1)) ** decay
    weights /= np.abs(weights).sum()

    def values(*axes: np.ndarray) -> np.ndarray:
        total = 0.0
        for own, phase, weight in zip(numbers, phases, weights, strict=True):
            total = total + weight * np.sin(2 * np.pi * sum(k * x for k, x in zip(own, axes, strict=True)) + phase)
        return total

    return values


def _single(rng: np.random.Generator, num_axes: int) -> Field:
    return _modes(rng, num_axes, 4, 1, 0.0)


def _few(rng: np.random.Generator, num_axes: int) -> Field:
    return _modes(rng, num_axes, 8, int(rng.integers(2, 6)), 0.5)


def _many(rng: np.random.Generator, num_axes: int) -> Field:
    return _modes(rng, num_axes, int(rng.integers(4, 14)), 40, rng.uniform(0.5, 2.0))


def _bells(rng: np.random.Generator, num_axes: int) -> Field:
    """Periodic bells exp(−Σ sin²(π(x − c)) / 2w²) of both signs."""
    count = int(rng.integers(1, 5))
    centres, widths = rng.uniform(0, 1, (count, num_axes)), np.exp(rng.uniform(np.log(0.15), np.log(0.6), count))
    signs = rng.choice((-1.0, 1.0), count)

    def values(*axes: np.ndarray) -> np.ndarray:
        total = 0.0
        for centre, width, sign in zip(centres, widths, signs, strict=True):
            distance = sum(np.sin(np.pi * (x - c)) ** 2 for x, c in zip(axes, centre, strict=True))
            total = total + sign * np.exp(-distance / (2 * width**2))
        return total / count**0.5

    return values


def _layers(rng: np.random.Generator, num_axes: int) -> Field:
    """Two tanh layers along one axis, perturbed along the others."""
    width, axis, bend = _log(rng, 0.05, 0.3), int(rng.integers(num_axes)), 0.1 * rng.uniform()

    def values(*axes: np.ndarray) -> np.ndarray:
        shifted = axes[axis] + sum(bend * np.sin(2 * np.pi * x) for i, x in enumerate(axes) if i != axis)
        return np.tanh(np.sin(2 * np.pi * shifted) / width)

    return values


def _sawtooth(rng: np.random.Generator, num_axes: int) -> Field:
    """Σ sin(2πkx) / k along every axis, softened."""
    highest, phases = int(rng.integers(3, 10)), rng.uniform(0, 1, num_axes)

    def values(*axes: np.ndarray) -> np.ndarray:
        k = np.arange(1, highest + 1)
        parts = [
            (np.sin(2 * np.pi * np.multiply.outer(x - phase, k)) / k * np.exp(-((k / highest) ** 2))).sum(axis=-1)
            for x, phase in zip(axes, phases, strict=True)
        ]
        return sum(parts) / len(parts) / 1.5

    return values


def _chirp(rng: np.random.Generator, num_axes: int) -> Field:
    depth, number, phases = rng.uniform(0.5, 3.0), rng.integers(1, 4), rng.uniform(0, 2 * np.pi, num_axes)

    def values(*axes: np.ndarray) -> np.ndarray:
        parts = [
            np.sin(2 * np.pi * number * x + p + depth * np.sin(2 * np.pi * x))
            for x, p in zip(axes, phases, strict=True)
        ]
        return np.prod(np.broadcast_arrays(*parts), axis=0)

    return values


def _checks(rng: np.random.Generator, num_axes: int) -> Field:
    counts, phases = rng.choice((1, 2, 4), num_axes), rng.uniform(0, 1, num_axes)

    def values(*axes: np.ndarray) -> np.ndarray:
        signs = [np.sign(np.sin(2 * np.pi * (n * x + p))) for n, x, p in zip(counts, axes, phases, strict=True)]
        return np.prod(np.broadcast_arrays(*signs), axis=0)

    return values


PERIODIC: Kinds = {
    "one wave": _single,
    "few waves": _few,
    "many waves": _many,
    "bells": _bells,
    "layers": _layers,
    "sawtooth": _sawtooth,
    "chirp": _chirp,
    "checks": _checks,
}


def kinds_of(space: dict[str, Any]) -> Kinds:
    """The kinds that suit the axes ``space``."""
    return PERIODIC if all(axis.is_periodic for axis in space.values()) else BOUNDED
