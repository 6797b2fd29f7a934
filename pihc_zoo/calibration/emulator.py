"""A polynomial in the unknowns that stands for the surrogate's readings where the data allow them, its error checked.

Chebyshev polynomials of total degree ≤ d on a box around the optimum, fitted by least squares to the surrogate's
readings at well spread points of it. The error is looked at afterwards, at fresh points where the likelihood is not
negligible; while it is too large these join the fit and the degree grows.

Source: L. Trefethen, "Approximation Theory and Approximation Practice" (2013), 4, 7; total degree and points denser
at the box' faces: A. Cohen, G. Migliorati, "Optimal weighted least-squares methods" (2017), doi:10.5802/smai-jcm.24.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from scipy.stats import qmc

TOLERANCE = 0.03  # standard deviations of a reading
_CHECKS = 16
_OVERSAMPLING = 1.6
_MOST_TERMS = 260
_FIRST_DEGREE = {1: 5, 2: 4}
_BEYOND = 1.5  # of the reach: the rise of χ² at the faces of a box that is large enough
_GROWTH = 1.6
_LEAST_SIZE = 1e-4  # of a box: solves are no smoother than their tolerance
_GAIN = 0.7  # of the error, that a higher degree is worth


@dataclass
class Emulator:
    """Readings as a polynomial.

    Attributes:
        low, high: (p,) the box, scaled unknowns.
        degree: of the polynomial.
        coefficients: (term, m).
        powers: (term, p) degrees by unknown.
        error: largest difference from the surrogate at the fresh points, in standard deviations.
        num_solves: points at which the surrogate was asked.
    """

    low: np.ndarray
    high: np.ndarray
    degree: int
    coefficients: np.ndarray
    powers: np.ndarray
    error: float
    num_solves: int

    def values(self, z: np.ndarray) -> np.ndarray:
        """(rows, p) ↦ (rows, m)."""
        return self._terms(z) @ self.coefficients

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        """(p,) ↦ (m, p)."""
        columns = [self._terms(z[None], along=k) @ self.coefficients for k in range(len(z))]
        return np.concatenate(columns).T

    def holds(self, z: np.ndarray) -> np.ndarray:
        """(rows,) whether points lie in the box."""
        return ((z >= self.low) & (z <= self.high)).all(axis=1)

    def _terms(self, z: np.ndarray, along: int | None = None) -> np.ndarray:
        return _terms(z, self.low, self.high, self.powers, along)


def _terms(z, low, high, powers, along: int | None = None) -> np.ndarray:
    """(rows, term) products of Chebyshev polynomials; differentiated in one unknown where asked."""
    result, degree = np.ones((len(z), len(powers))), int(powers.max())
    for k in range(z.shape[1]):
        s = (2 * z[:, k] - low[k] - high[k]) / (high[k] - low[k])
        table = chebyshev.chebvander(s, degree)
        if k == along:
            slopes = np.stack([np.resize(np.append(chebyshev.chebder(row), np.zeros(degree + 1)), degree + 1)
                               for row in np.eye(degree + 1)])  # fmt: skip
            table = table @ slopes.T * (2 / (high[k] - low[k]))
        result = result * table[:, powers[:, k]]
    return result


def _powers(dimension: int, degree: int) -> np.ndarray:
    every = itertools.product(range(degree + 1), repeat=dimension)
    return np.array([own for own in every if sum(own) <= degree])


def emulate(
    values: Callable[[np.ndarray], np.ndarray],
    z: np.ndarray,
    covariance: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    width: float,
    reach: float,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Emulator:
    """The emulator around an optimum.

    Args:
        values: the surrogate, (rows, p) ↦ (rows, m), NaN where it has no answer.
        z, covariance: (p,) optimum and (p, p) covariance, scaled.
        target, weights: (m,) data and 1/σ (estimated where it was not given).
        width: half width of the box in standard errors, to begin with; it grows where χ² rises too little up to its
            faces, at most to the model's range.
        reach: rise of χ² up to which the polynomial is asked for and its error is checked.
        tolerance: of the error, in standard deviations of a reading.
        seed: of the points.
    """
    size = np.maximum(width * np.sqrt(np.diag(covariance)), _LEAST_SIZE)
    below, above = size.copy(), size.copy()
    total = 0
    while True:
        low, high = np.maximum(z - below, -1.0), np.minimum(z + above, 1.0)
        found = _on_box(values, z, covariance, target, weights, low, high, reach, tolerance, seed)
        total += found.num_solves
        found.num_solves = total
        grown = _open_faces(found, z, target, weights, _BEYOND * reach)
        if not grown.any():
            return found
        below, above = np.where(grown[0], below * _GROWTH, below), np.where(grown[1], above * _GROWTH, above)


def _on_box(values, z, covariance, target, weights, low, high, reach: float, tolerance: float, seed: int) -> Emulator:
    dimension = len(z)
    rng = np.random.default_rng(seed)
    sampler = qmc.Halton(dimension, scramble=True, seed=seed)
    points, readings = np.empty((0, dimension)), np.empty((0, len(target)))
    degree = _FIRST_DEGREE.get(dimension, 3)
    best, solves = None, 0

    def ask(new: np.ndarray) -> np.ndarray:
        nonlocal points, readings, solves
        answers = values(new)
        is_answered = np.isfinite(answers).all(axis=1)
        points = np.concatenate([points, new[is_answered]])
        readings = np.concatenate([readings, answers[is_answered]])
        solves += len(new)
        return is_answered

    while True:
        powers = _powers(dimension, degree)
        wanted = int(np.ceil(_OVERSAMPLING * len(powers))) + 2 - len(points)
        if wanted > 0:
            s = np.cos(np.pi * sampler.random(wanted))  # denser at the faces
            ask(low + 0.5 * (s + 1) * (high - low))
        terms = _terms(points, low, high, powers)
        coefficients = np.linalg.lstsq(terms, readings, rcond=None)[0]
        own = Emulator(low, high, degree, coefficients, powers, np.inf, solves)
        checks = _likely(own, z, covariance, target, weights, reach, rng)
        is_answered = ask(checks)
        fresh = readings[len(readings) - int(is_answered.sum()) :]
        if len(fresh):
            own.error = float(np.abs((own.values(checks[is_answered]) - fresh) * weights).max())
        own.num_solves = solves
        is_stuck = best is not None and own.error > _GAIN * best.error  # as at the solves' own tolerance
        best = own if best is None or own.error < best.error else best
        if best.error <= tolerance or is_stuck or len(_powers(dimension, degree + 1)) > _MOST_TERMS:
            best.num_solves = solves
            return best
        degree += 1 if dimension > 2 else 2


def rises(emulator: Emulator, z: np.ndarray, points: np.ndarray, target, weights) -> np.ndarray:
    """(rows,) χ² at points less that at the optimum z."""
    chi2 = (((emulator.values(np.concatenate([z[None], points])) - target) * weights) ** 2).sum(axis=1)
    return chi2[1:] - chi2[0]


def _likely(emulator: Emulator, z, covariance, target, weights, reach: float, rng) -> np.ndarray:
    """Points of the box where χ² rises by no more than the reach."""
    low, high = emulator.low, emulator.high
    spread = rng.multivariate_normal(z, 4 * covariance, 500, method="eigh")
    candidates = np.concatenate([rng.uniform(low, high, (1500, len(z))), np.clip(spread, low, high)])
    rise = rises(emulator, z, candidates, target, weights)
    inside = np.flatnonzero(rise <= reach)
    if len(inside) < _CHECKS:
        return candidates[np.argsort(rise)[:_CHECKS]]
    return candidates[rng.choice(inside, _CHECKS, replace=False)]


def _open_faces(emulator: Emulator, z, target, weights, needed: float) -> np.ndarray:
    """(2, p) at which faces, low and high, that are not the model's range χ² has risen by less than is needed."""
    low, high = emulator.low, emulator.high
    rng = np.random.default_rng(0)
    result = np.zeros((2, len(z)), dtype=bool)
    for k in range(len(z)):
        for side, face in enumerate((low, high)):
            if abs(face[k]) >= 1:
                continue
            points = rng.uniform(low, high, (800, len(z)))
            points[:, k] = face[k]
            result[side, k] = rises(emulator, z, points, target, weights).min() < needed
    return result
