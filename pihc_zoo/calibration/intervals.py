"""How well unknowns are determined: covariance, profile likelihood, directions that the data leave open.

An end of the interval of unknown k is the farthest z_k with χ²(z) ≤ χ²_min + q², whatever the other unknowns: the
profile likelihood's. In a linear problem that is z_k ± q √C_kk, with the others following along C e_k; there χ² must
have risen by q². Where it has not, the profile is computed: min over the others of χ², on an emulator of the
surrogate's readings, and its ends are tried with the surrogate.

Source: D. Venzon, S. Moolgavkar, "A method for computing profile-likelihood-based confidence intervals" (1988),
doi:10.2307/2347496; D. Bates, D. Watts, "Nonlinear Regression Analysis and Its Applications" (1988), 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares

from ..text import number, percent
from .emulator import Emulator, emulate
from .unknowns import INITIAL, Unknown

UNDETERMINED = 0.5  # standard error in scaled unknowns, where the whole range is 2
_LINEAR = (0.8, 1.25)  # of the rise of χ² at the covariance's ends over the expected one
_WIDTH = 2.0  # of the emulator's box over the intervals of the covariance
_REACH = 2.0  # of q²: the rise of χ² that it serves
_TOLERANCE = 0.1  # of the emulator, in standard deviations of a reading
_SCAN = 6  # points of a profile before its end is searched between two of them
_TRIALS = 256  # points of the other unknowns that a profile's minimum is looked for from
_TAKES_PART = 0.2  # component of a direction


@dataclass
class Ends:
    """Ends of the intervals, scaled.

    Attributes:
        z: (p, 2).
        method: "covariance" or "profile".
        nonlinearity: the largest factor by which χ² at the covariance's ends rises more or less than in theory; NaN
            where it was not looked at.
        mismatch: the same at the profile's ends, which the emulator's error makes; NaN without a profile.
    """

    z: np.ndarray
    method: str
    nonlinearity: float = np.nan
    mismatch: float = np.nan


def standard_errors(jacobian: np.ndarray, variance: float, is_free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, p) covariance of scaled unknowns, those at a bound being fixed there, and (p,) standard errors."""
    normal = jacobian.T @ jacobian
    covariance = np.zeros_like(normal)
    free = np.ix_(is_free, is_free)
    if is_free.any():
        block = normal[free]
        floor = 1e-14 * max(np.trace(block), 1e-300)
        covariance[free] = variance * np.linalg.pinv(block + floor * np.eye(len(block)), hermitian=True, rcond=1e-15)
    return covariance, np.sqrt(np.maximum(np.diag(covariance), 0.0))


def find_ends(
    values: Callable[[np.ndarray], np.ndarray],
    z: np.ndarray,
    chi2: float,
    covariance: np.ndarray,
    unbounded: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    quantile: float,
    method: str = "auto",
) -> Ends:
    """The ends of all intervals.

    Args:
        values: of `Readings`.
        z, chi2: the optimum and the sum of squares there.
        covariance: (p, p) of scaled unknowns, those at a bound being fixed.
        unbounded: the same, none being fixed; it sizes the emulator's box.
        target, weights: (m,) data and 1/σ (estimated where it was not given).
        quantile: q, in standard errors.
        method: "covariance", "profile", or "auto": profile where the covariance's ends are not good enough.
    """
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    along = np.divide(covariance, errors, out=np.zeros_like(covariance), where=errors > 0).T  # (end of k, p)
    ends = np.clip(np.concatenate([z - quantile * along, z + quantile * along]), -1, 1)
    own = np.tile(np.arange(len(z)), 2)
    by_covariance = ends[np.arange(len(ends)), own].reshape(2, -1).T
    if method == "covariance":
        return Ends(by_covariance, method)
    rises = _rises(values(ends), chi2, target, weights) / quantile**2
    is_cut = (np.abs(ends) >= 1).any(axis=1)
    nonlinearity = _factor(rises[~is_cut])
    is_good = (rises <= _LINEAR[1]) & ((rises >= _LINEAR[0]) | is_cut)
    if method == "auto" and is_good.all() and not is_cut.any():
        return Ends(by_covariance, "covariance", nonlinearity)
    emulator = emulate(values, z, unbounded, target, weights, _WIDTH * quantile, _REACH * quantile**2, _TOLERANCE)
    paths = [
        _profile_end(emulator, z, k, sign, chi2, target, weights, quantile) for sign in (-1, 1) for k in own[: len(z)]
    ]
    tried = _rises(values(np.stack(paths)), chi2, target, weights) / quantile**2
    is_inside = np.abs(np.stack(paths)[np.arange(len(ends)), own]) < 1
    by_profile = np.stack(paths)[np.arange(len(ends)), own].reshape(2, -1).T
    return Ends(by_profile, "profile", nonlinearity, _factor(tried[is_inside]))


def _rises(found: np.ndarray, chi2: float, target, weights) -> np.ndarray:
    rises = (((found - target) * weights) ** 2).sum(axis=1) - chi2
    return np.where(np.isfinite(rises), rises, np.inf)


def _factor(rises: np.ndarray) -> float:
    """The largest factor away from 1."""
    return float(np.max(np.maximum(rises, 1 / np.maximum(rises, 1e-3)))) if len(rises) else 1.0


def _profile_end(emulator: Emulator, z, k: int, sign: int, chi2: float, target, weights, quantile: float) -> np.ndarray:
    """(p,) where the profile of unknown k has risen by q² for the first time, or the face of the box."""
    others = np.arange(len(z)) != k
    spread = np.random.default_rng(0).uniform(emulator.low, emulator.high, (_TRIALS, len(z)))
    path = {float(z[k]): z}

    def profile(at: float) -> float:
        nearest = path[min(path, key=lambda known: abs(known - at))]
        point = nearest.copy()
        point[k] = at
        if others.any():

            def residual(free: np.ndarray) -> np.ndarray:
                point[others] = free
                return (emulator.values(point[None])[0] - target) * weights

            def jacobian(free: np.ndarray) -> np.ndarray:
                point[others] = free
                return weights[:, None] * emulator.jacobian(point)[:, others]

            bounds = emulator.low[others], emulator.high[others]
            trials = np.vstack([nearest, spread])  # the profile may have jumped to another valley
            trials[:, k] = at
            costs = (((emulator.values(trials) - target) * weights) ** 2).sum(axis=1)
            start = np.clip(trials[np.argmin(costs)][others], bounds[0] + 1e-9, bounds[1] - 1e-9)
            point[others] = least_squares(residual, start, jacobian, bounds, xtol=1e-7, ftol=1e-6, gtol=1e-9).x
        path[at] = point.copy()
        return float((((emulator.values(point[None])[0] - target) * weights) ** 2).sum()) - least - quantile**2

    least = float((((emulator.values(z[None])[0] - target) * weights) ** 2).sum())
    face = float((emulator.low if sign < 0 else emulator.high)[k])
    before = float(z[k])
    for at in np.linspace(before, face, _SCAN + 1)[1:]:
        if profile(float(at)) > 0:
            end = float(brentq(profile, before, float(at), xtol=1e-3 * abs(at - before) + 1e-12))  # type: ignore
            profile(end)
            return path[end]
        before = float(at)
    return path[face]


# ---------------------------------------------------------------------- what the data leave open


def open_directions(unknowns: list[Unknown], z: np.ndarray, jacobian: np.ndarray, variance: float) -> list[str]:
    """In words: the unknowns, or combinations of them, that the data do not determine within their range."""
    sizes, directions = np.linalg.eigh(jacobian.T @ jacobian)
    variances = variance / np.maximum(sizes, 1e-300)
    is_open = np.sqrt(variances) > UNDETERMINED
    rest = directions[:, ~is_open]
    covariance = (rest * variances[~is_open]) @ rest.T  # of what is determined
    count = int(is_open.sum())
    return [_sentence(unknowns, z, covariance, own, count) for own in directions[:, is_open].T]


def _sentence(unknowns: list[Unknown], z, covariance, direction, count: int) -> str:
    part = np.flatnonzero(np.abs(direction) > _TAKES_PART * np.abs(direction).max())
    names = [unknowns[k].name for k in part]
    if len(part) == 1:
        own = unknowns[part[0]]
        span = f"[{own.low:g}, {own.high:g}]{own.suffix}"
        return f"the data do not determine {own.name}: values all over {span} fit about as well"
    listed = ", ".join(names[:-1]) + f" and {names[-1]}"
    if len(part) == 2 and INITIAL not in names:
        product, spread = _product(unknowns, z, covariance, direction, part)
        what = f"only {product} is determined, to ± {percent(spread)}"
        what = what if count == 1 else f"the fit stays as good while {product} stays the same"
    else:
        changes = ", ".join(_change(unknowns[k], z[k], direction[k] / np.abs(direction).max()) for k in part)
        what = f"the fit stays as good along {changes}"
    return f"the data do not tell {listed} apart: {what}; fix one of them"


def _change(own: Unknown, z: float, direction: float) -> str:
    """As in "D -12 %", for a tenth of the range."""
    change = 0.2 * direction * float(own.slope(z) / max(abs(own.value(z)), 1e-300))
    return f"{own.name} {'+' if change > 0 else '-'}{percent(abs(change))}"


def _product(unknowns: list[Unknown], z, covariance, direction, part) -> tuple[str, float]:
    """The product a·b^γ that stays the same along a direction, dlog a + γ dlog b = 0, and its relative error."""
    relative = np.array([float(own.slope(z[k]) / own.value(z[k])) for k, own in enumerate(unknowns)])
    rates = direction * relative  # of the logarithms
    j, i = sorted(part, key=lambda k: -abs(rates[k]))
    exponent = -rates[i] / rates[j]
    gradient = np.zeros(len(z))
    gradient[i], gradient[j] = relative[i], exponent * relative[j]
    spread = float(np.sqrt(max(gradient @ covariance @ gradient, 0.0)))
    a, b = unknowns[i].name, unknowns[j].name
    integer = round(exponent)
    power = integer if integer != 0 and abs(exponent - integer) < 0.05 else number(exponent, 2)
    return {"1": f"{a}·{b}", "-1": f"{a}/{b}"}.get(str(power), f"{a}·{b}^{power}"), spread
