"""Periodic axes: equally spaced points, trigonometric polynomials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .axis import Axis


@dataclass(frozen=True)
class FourierAxis(Axis):
    """Points x_j = start + j·length/n of a periodic interval; fields are trigonometric polynomials.

    Modes in real form: 1, √2 cos(2πkx/length), √2 sin(2πkx/length) for k ≤ band = n/2 − 1; the
    Nyquist mode is dropped. Products of features are formed on dealiasing·n points: 3/2 keeps
    quadratic ones exact on the resolved modes, 1 is cheaper.

    Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 11.5 (two-thirds rule).
    """

    num_nodes: int
    length: float = 1.0
    start: float = 0.0
    dealiasing: float = 1.5
    smallest: int = 32  # fewest points of a caller's array

    def __post_init__(self):
        if self.num_nodes < 4 or self.num_nodes % 2:
            raise ValueError(f"a Fourier axis needs an even number of at least 4 nodes, got {self.num_nodes}")
        if not 1 <= self.dealiasing <= 4:
            raise ValueError(f"dealiasing must lie in [1, 4], got {self.dealiasing}")

    @property
    def stop(self) -> float:
        return self.start + self.length

    @property
    def is_periodic(self) -> bool:
        return True

    @property
    def band(self) -> int:
        """Highest wave number that the nodes carry, in cycles per length."""
        return self.num_nodes // 2 - 1

    @cached_property
    def closed_nodes(self) -> np.ndarray:
        return self._points(self.num_nodes)

    def _points(self, count: int) -> np.ndarray:
        return self.start + self.length * np.arange(count) / count

    @property
    def coordinates(self) -> np.ndarray:
        return np.arange(self.num_nodes) / self.num_nodes

    @cached_property
    def weights(self) -> np.ndarray:
        return np.full(self.num_nodes, self.length / self.num_nodes)

    @cached_property
    def wave_numbers(self) -> np.ndarray:
        """(m,) angular wave numbers 2πk/length of the real modes: 0, cosines, sines; m = 2·band + 1."""
        k = 2 * np.pi * np.arange(1, self.band + 1) / self.length
        return np.concatenate([[0.0], k, k])

    def modes(self, points: np.ndarray, order: int = 0) -> np.ndarray:
        """(p, m) values or derivatives of the real modes at ``points``."""
        k = self.wave_numbers[1 : self.band + 1]
        angle = np.outer(np.asarray(points, dtype=np.float64) - self.start, k) + order * np.pi / 2
        scale = np.sqrt(2) * k**order
        constant = np.full((len(angle), 1), 0.0 if order else 1.0)
        return np.concatenate([constant, scale * np.cos(angle), scale * np.sin(angle)], axis=1)

    def analysis(self, count: int | None = None) -> np.ndarray:
        """(m, count) matrix from values at ``count`` equally spaced points (default: the nodes) to modes."""
        points = self.nodes if count is None else self._points(count)
        return self.modes(points).T / len(points)

    @cached_property
    def collocation_points(self) -> np.ndarray:
        return self._points(2 * round(self.dealiasing * self.num_nodes / 2))

    @cached_property
    def projection(self) -> np.ndarray | None:
        if len(self.collocation_points) == self.num_nodes:
            return None
        return self.modes(self.nodes) @ self.analysis(len(self.collocation_points))

    def differentiation(self, order: int, points: np.ndarray | None = None) -> np.ndarray:
        return self.modes(self.nodes if points is None else points, order) @ self.analysis()

    def interpolation(self, points: np.ndarray) -> np.ndarray:
        return self.modes(points) @ self.analysis()

    def resampling(
        self, source: np.ndarray, target: np.ndarray, band: int | None = None, *, order: int = 0
    ) -> np.ndarray:
        """As `Axis.resampling`, from equally spaced points of the whole period; modes above ``band`` are cut."""
        axis = replace(self, num_nodes=2 * (len(source) // 2), start=float(source[0]))
        if len(source) % 2 or not np.allclose(source, axis.nodes, rtol=0, atol=1e-9 * self.length):
            raise ValueError(
                "values on a periodic axis are read at an even number of equally spaced points of the period"
            )
        band = axis.band if band is None else min(band, axis.band)
        kept = np.r_[0 : band + 1, axis.band + 1 : axis.band + band + 1]
        return axis.modes(target, order)[:, kept] @ axis.analysis()[kept]

    def gathering(self, points: np.ndarray) -> np.ndarray:
        return self.resampling(points, self.nodes, self.band)

    def sized(self, num_points: int) -> Axis:
        if num_points < self.smallest or num_points % 2:
            raise ValueError(f"expected an even number of at least {self.smallest} points, got {num_points}")
        return replace(self, num_nodes=num_points)

    def refined(self, factor: float) -> Axis:
        return replace(self, num_nodes=2 * round(self.num_nodes * factor / 2))
