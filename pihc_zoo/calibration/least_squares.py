"""Bounded nonlinear least squares from several starts in one batch: Levenberg–Marquardt in scaled unknowns.

    min ½ ‖r(z)‖²,  z ∈ [−1, 1]^p:   (JᵀJ + μ diag JᵀJ) d = −Jᵀr  on the free unknowns

An unknown is free unless it is at a bound and the gradient points outwards. Steps are cut at the bounds.

Source: J. Nocedal, S. Wright, "Numerical Optimization" (2006), 10.3 and 16.7 (projected steps).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_STEP = 1e-2  # of a standard error: a smaller step changes nothing that the data can tell
_FLOOR = 0.2  # the same where a step fails: the surrogate's solves are no more accurate than their tolerance
_SMALLEST = 1e-9  # step, in scaled unknowns
_SAME = 0.1  # descents whose next steps lead as near as this to a better one's are the same
_MAX_STEPS = 30


@dataclass
class Descent:
    """Where one start led.

    Attributes:
        start, end, next: (p,) scaled unknowns, those of the next step at last.
        values: (m,) the model's readings at the end.
        jacobian: (m, p) of the weighted residual, there.
        cost: ‖r‖² there; inf where the model has no answer.
        steps: sensitivities that were computed.
        is_converged: False where it ran out of steps.
        is_merged: whether it ran into a better descent and was left.
    """

    start: np.ndarray
    end: np.ndarray
    next: np.ndarray
    values: np.ndarray
    jacobian: np.ndarray
    cost: float
    steps: int = 0
    is_converged: bool = False
    is_merged: bool = False
    damping: float = 1e-4
    expected: float = np.inf  # decrease of ‖r‖² by the next step
    variance: float = 1.0  # of a weighted residual


def descend(
    sensitivities: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    starts: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    has_sigma: bool,
) -> list[Descent]:
    """Descends from every start, all in one batch.

    Args:
        sensitivities: (rows, p) ↦ readings (rows, m) and their derivatives (rows, m, p).
        starts: (rows, p).
        target, weights: (m,) data and 1/σ.
        has_sigma: whether the weights are those of the noise, or only relative.

    Returns:
        one per start, the best first.
    """
    descents = _at(sensitivities, starts, target, weights)
    active = [own for own in descents if np.isfinite(own.cost)]
    for _ in range(_MAX_STEPS):
        for own in active:
            step, own.expected = _step(own, target, weights)
            own.next = own.end + step
            own.variance = 1.0 if has_sigma else own.cost / max(1, len(target) - len(step))
            is_small = own.expected <= _STEP**2 * own.variance or np.abs(step).max() <= _SMALLEST
            own.is_converged = own.is_converged or bool(is_small)
        active = [own for own in _distinct(active, descents) if not own.is_converged]
        if not active:
            break
        trials = _at(sensitivities, np.stack([own.next for own in active]), target, weights)
        for own, new in zip(active, trials, strict=True):
            own.steps += 1
            if new.cost < own.cost:
                own.end, own.values, own.jacobian, own.cost = new.end, new.values, new.jacobian, new.cost
                own.damping *= 0.1
            else:
                own.damping = max(1e-3, 10 * own.damping)
                own.is_converged = own.expected <= _FLOOR**2 * own.variance
    return sorted(descents, key=lambda own: own.cost)


def _at(sensitivities, z: np.ndarray, target: np.ndarray, weights: np.ndarray) -> list[Descent]:
    values, jacobian = sensitivities(z)
    costs = (((values - target) * weights) ** 2).sum(axis=1)
    costs = np.where(np.isfinite(costs) & np.isfinite(jacobian).all(axis=(1, 2)), costs, np.inf)
    return [
        Descent(own, own, own, value, weights[:, None] * columns, float(cost), 1)
        for own, value, columns, cost in zip(z, values, jacobian, costs, strict=True)
    ]


def is_free(z: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """(p,) whether an unknown may move down the gradient."""
    return ~(((z <= -1) & (gradient > 0)) | ((z >= 1) & (gradient < 0)))


def _step(own: Descent, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """The damped step, cut at the bounds, and by how much an undamped one is expected to lower ‖r‖²."""
    residual = (own.values - target) * weights
    normal, gradient = own.jacobian.T @ own.jacobian, own.jacobian.T @ residual
    free = is_free(own.end, gradient)
    step, full = np.zeros(len(free)), np.zeros(len(free))
    if free.any():
        block = normal[np.ix_(free, free)]
        diagonal = np.diag(np.maximum(np.diag(block), 1e-12 * np.trace(normal) + 1e-300))
        step[free] = np.linalg.lstsq(block + own.damping * diagonal, -gradient[free], rcond=None)[0]
        full[free] = np.linalg.lstsq(block + 1e-12 * diagonal, -gradient[free], rcond=None)[0]
    step, full = (np.clip(own.end + part, -1, 1) - own.end for part in (step, full))
    expected = -2 * gradient @ full - full @ normal @ full
    return step, float(max(expected, step @ normal @ step if own.damping < 1 else 0.0))


def _distinct(active: list[Descent], descents: list[Descent]) -> list[Descent]:
    """Those that are not on the heels of a better one."""
    kept = []
    for own in active:
        better = [other for other in descents if other.cost < own.cost and not other.is_merged]
        near = [other for other in better if np.abs(other.next - own.next).max() < _SAME]
        own.is_merged = bool(near)
        if not near:
            kept.append(own)
    return kept
