"""Smooth random fields on any axes, by random features, and fields that are composed axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import Draws


@dataclass(frozen=True)
class RandomFeatures:
    """Σ_f cos(Σ_j ω_fj x_j + φ_f): over √(F/2), nearly a Gaussian process of unit variance.

    Attributes:
        frequencies: (count, F, axes) ω.
        phases: (count, F) φ.
        xp: the arrays' module.

    Source: A. Rahimi, B. Recht, "Random features for large-scale kernel machines" (2007).
    """

    frequencies: Any
    phases: Any
    xp: Any

    @classmethod
    def drawn(cls, number: int, shortest: float, longest: float, is_periodic: Sequence[bool], draws: Draws):
        """``number`` features of a squared exponential with a length scale log-uniform from shortest to longest.

        Along periodic axes frequencies are rounded to whole waves.
        """
        xp = draws.xp
        length = xp.exp(draws.uniform(np.log(shortest), np.log(longest)))
        frequencies = draws.normal(number, len(is_periodic)) / length[:, None, None]
        if any(is_periodic):
            whole = 2 * np.pi * xp.round(frequencies / (2 * np.pi))
            frequencies = xp.where(draws.array(np.array(is_periodic, dtype=float)) > 0, whole, frequencies)
        return cls(frequencies, draws.uniform(0, 2 * np.pi, number), xp)

    def __call__(self, axes: Sequence[Any]) -> Any:
        """(count, *points) values on the tensor grid of positions (n,) on each axis.

        Axis after axis by cos(a + b) = cos a cos b − sin a sin b, so that the grid costs two products of matrices.
        """
        xp, angles = self.xp, [x[:, None] * self.frequencies[:, None, :, j] for j, x in enumerate(axes)]
        first = angles[0] + self.phases[:, None]  # (count, n, F)
        if len(axes) == 1:
            return xp.cos(first).sum(axis=2)
        cosine, sine = xp.cos(first), xp.sin(first)
        count, _, number = first.shape
        for angle in angles[1:-1]:
            c, s = xp.cos(angle)[:, None], xp.sin(angle)[:, None]
            cosine, sine = cosine[:, :, None], sine[:, :, None]
            cosine, sine = cosine * c - sine * s, sine * c + cosine * s
            cosine, sine = cosine.reshape(count, -1, number), sine.reshape(count, -1, number)
        last = xp.swapaxes(angles[-1], 1, 2)
        return (cosine @ xp.cos(last) - sine @ xp.sin(last)).reshape(count, *(len(x) for x in axes))


def along(values: Any, axis: int, number: int) -> Any:
    """(count, n) values along one of ``number`` axes, as (count, 1, …, n, …, 1)."""
    return values.reshape(len(values), *[-1 if j == axis else 1 for j in range(number)])


def flat(values: Any, number: int) -> Any:
    """(count,) or (count, 1) values, as (count, 1, …, 1) for ``number`` axes."""
    return values.reshape(-1, *[1] * number)
