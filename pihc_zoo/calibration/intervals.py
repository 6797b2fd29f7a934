"""How well unknowns are determined: covariance, profile likelihood, directions that the data leave open.

An end of the interval of unknown k is the farthest z_k with χ²(z) ≤ χ²_min + q²: the profile likelihood's. With
r ≈ r + J d it is reached in one step,

    d = −H⁻¹g ± √((χ²_min + q² − ‖r‖² + gᵀH⁻¹g) / (H⁻¹)_kk) H⁻¹e_k,   H = JᵀJ, g = Jᵀr,

which from the optimum gives the interval of the covariance. The χ² found there says whether the problem is linear
enough; if not, the step is repeated from there until it is.

Source: D. Venzon, S. Moolgavkar, "A method for computing profile-likelihood-based confidence intervals" (1988),
doi:10.2307/2347496; W. Murphy, "Efficient computation of confidence intervals from profile likelihood" (1995).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..text import number, percent
from .unknowns import INITIAL, Unknown

UNDETERMINED = 0.5  # standard error in scaled unknowns, where the whole range is 2
_LINEAR = (0.8, 1.25)  # of the rise of χ² at the covariance's ends over the expected one
_MATCH = 0.05  # of q², at an end of the profile likelihood
_MAX_STEPS = 12
_TAKES_PART = 0.2  # component of a direction


@dataclass
class Ends:
    """Ends of the intervals in scaled unknowns, (p, 2), and how they were found ("covariance" or "profile")."""

    z: np.ndarray
    method: str
    nonlinearity: float  # largest ratio of the rise of χ² to the expected one, or its inverse, over the ends


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
    sensitivities: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    z: np.ndarray,
    residual: np.ndarray,
    jacobian: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    rise: float,
    method: str = "auto",
) -> Ends:
    """The ends of all intervals, every one a row of one batch.

    Args:
        values, sensitivities: of `Readings`.
        z, residual, jacobian: at the optimum; weighted.
        target, weights: (m,) data and 1/σ.
        rise: q², in the units of ‖r‖².
        method: "covariance", "profile", or "auto": profile where the covariance's ends are not good enough.
    """
    count = len(z)
    least = float(residual @ residual)
    sides = [(k, sign) for k in range(count) for sign in (-1.0, 1.0)]
    ends = np.stack([_towards(z, residual, jacobian, k, sign, least + rise) for k, sign in sides])
    if method == "covariance":
        return Ends(_own(ends, sides), method, np.nan)
    weighted = (values(ends) - target) * weights
    rises = ((weighted**2).sum(axis=1) - least) / rise
    at_bound = np.array([abs(abs(end[k]) - 1) < 1e-9 for end, (k, _) in zip(ends, sides, strict=True)])
    is_good = ((rises >= _LINEAR[0]) & (rises <= _LINEAR[1])) | (at_bound & (rises <= _LINEAR[1]))
    free = rises[~at_bound]
    ratio = float(np.max(np.maximum(free, 1 / np.maximum(free, 1e-3)))) if len(free) else 1.0
    if method == "auto" and is_good.all():
        return Ends(_own(ends, sides), "covariance", ratio)
    active = np.arange(len(sides))
    best = [z.copy() for _ in sides]  # the farthest that are known to be inside
    for _ in range(_MAX_STEPS):
        found, columns = sensitivities(ends[active])
        unfinished = []
        for i, y, j in zip(active, found, columns, strict=True):
            k, sign = sides[i]
            own = (y - target) * weights
            cost = float(own @ own)
            if not np.isfinite(cost):
                ends[i] = 0.5 * (ends[i] + best[i])
                unfinished.append(i)
                continue
            if cost <= least + (1 + _MATCH) * rise and sign * (ends[i][k] - best[i][k]) >= 0:
                best[i] = ends[i].copy()
            new = _towards(ends[i], own, weights[:, None] * j, k, sign, least + rise)
            moved = np.clip(new - ends[i], -0.5, 0.5)
            is_done = abs(cost - least - rise) <= _MATCH * rise and abs(moved[k]) <= 0.02 * abs(ends[i][k] - z[k])
            is_stuck = abs(abs(ends[i][k]) - 1) < 1e-9 and cost <= least + rise
            if is_done or is_stuck or np.abs(moved).max() < 1e-7:
                continue
            ends[i] = ends[i] + moved
            unfinished.append(i)
        active = np.array(unfinished, dtype=int)
        if not len(active):
            break
    return Ends(_own(np.stack(best), sides), "profile", ratio)


def _own(ends: np.ndarray, sides: list[tuple[int, float]]) -> np.ndarray:
    """(p, 2) the component of each end that it is the end of."""
    return np.array([end[k] for end, (k, _) in zip(ends, sides, strict=True)]).reshape(-1, 2)


def _towards(z, residual, jacobian, k: int, sign: float, level: float) -> np.ndarray:
    """The farthest z_k, up or down, with ‖r + J d‖² ≤ level, inside the bounds: those that are hit hold."""
    normal, gradient = jacobian.T @ jacobian, jacobian.T @ residual
    held = np.zeros(len(z), dtype=bool)
    new = z.copy()
    for _ in range(len(z)):
        free = ~held
        fixed = np.where(held, new - z, 0.0)
        own_gradient = (gradient + normal @ fixed)[free]
        block = normal[np.ix_(free, free)]
        inverse = np.linalg.pinv(block + 1e-14 * max(np.trace(block), 1e-300) * np.eye(len(block)), hermitian=True)
        newton = -inverse @ own_gradient
        at = int(np.flatnonzero(np.flatnonzero(free) == k)[0])
        size = float(residual @ residual + 2 * gradient @ fixed + fixed @ normal @ fixed)
        room = level - size - float(own_gradient @ newton)
        along = inverse[:, at] / np.sqrt(max(inverse[at, at], 1e-300))
        step = fixed.copy()
        step[free] = newton + sign * np.sqrt(max(room, 0.0)) * along
        new = np.clip(z + step, -1, 1)
        outside = free & (np.abs(z + step) > 1)
        outside[k] = False
        if not outside.any():
            break
        held = held | outside
    return new


# ---------------------------------------------------------------------- what the data leave open


def open_directions(unknowns: list[Unknown], z: np.ndarray, jacobian: np.ndarray, variance: float) -> list[str]:
    """In words: the unknowns, or combinations of them, that the data do not determine within their range."""
    sizes, directions = np.linalg.eigh(jacobian.T @ jacobian)
    variances = variance / np.maximum(sizes, 1e-300)
    is_open = np.sqrt(variances) > UNDETERMINED
    rest = directions[:, ~is_open]
    covariance = (rest * variances[~is_open]) @ rest.T  # of what is determined
    sentences = []
    for direction in directions[:, is_open].T:
        part = np.flatnonzero(np.abs(direction) > _TAKES_PART * np.abs(direction).max())
        names = [unknowns[k].name for k in part]
        if len(part) == 1:
            own = unknowns[part[0]]
            span = f"[{own.low:g}, {own.high:g}]{own.suffix}"
            sentences.append(f"the data do not determine {own.name}: values all over {span} fit about as well")
        elif len(part) == 2 and INITIAL not in names:
            sentences.append(_product(unknowns, z, covariance, direction, part))
        else:
            listed = ", ".join(names[:-1]) + f" and {names[-1]}"
            sentences.append(f"the data do not tell {listed} apart; make one of them known")
    return sentences


def _product(unknowns: list[Unknown], z, covariance, direction, part) -> str:
    """The product a·b^γ that stays the same along an open direction: dlog a + γ dlog b = 0."""
    relative = np.array([float(own.slope(z[k]) / own.value(z[k])) for k, own in enumerate(unknowns)])
    rates = direction * relative  # of the logarithms
    j, i = sorted(part, key=lambda k: -abs(rates[k]))
    exponent = -rates[i] / rates[j]
    gradient = np.zeros(len(z))
    gradient[i], gradient[j] = relative[i], exponent * relative[j]
    spread = float(np.sqrt(max(gradient @ covariance @ gradient, 0.0)))
    a, b = unknowns[i].name, unknowns[j].name
    nearest_integer = round(exponent)
    is_integer = nearest_integer != 0 and abs(exponent - nearest_integer) < 0.05
    power = nearest_integer if is_integer else number(exponent, 2)
    text = {1: f"{a}·{b}", -1: f"{a}/{b}"}.get(power, f"{a}·{b}^{power}")
    return f"the data do not tell {a} and {b} apart: only {text} is determined, to ± {percent(spread)}; fix one of them"
