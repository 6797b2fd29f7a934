"""Whether a fit may be believed: residuals that are no noise, bounds, and the surrogate's own error.

Standardised residuals of a good fit are noise: their squares add up to about the degrees of freedom, their signs
change as often as a coin's, and no smooth function of position and time explains them. Each test is made at a level
of a thousandth, so that about one good fit in three hundred is called bad.

Source: A. Wald, J. Wolfowitz, "On a test whether two samples are from the same population" (1940) for runs;
N. Draper, H. Smith, "Applied Regression Analysis" (1998), 8 (residuals against predictors).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import stats

from ..text import number

_LEVEL = 1e-3  # of each test
_NEGLIGIBLE = 1e-3  # reduced chi² of residuals whose pattern does not matter
_LEAST_RUNS = 8  # readings below which signs say nothing


def residual_faults(
    residual: np.ndarray, coordinates: dict[str, np.ndarray], owner: np.ndarray, num_unknowns: int, has_sigma: bool
) -> tuple[list[str], list[str]]:
    """What is wrong with the residuals, and what is only worth a remark.

    Args:
        residual: (m,) in standard deviations.
        coordinates: (m,) by name: times and positions.
        owner: (m,) experiment of each reading.
        num_unknowns: that were fitted.
        has_sigma: whether the standard deviations were given, or estimated from these residuals.
    """
    faults, remarks = [], []
    dof = len(residual) - num_unknowns
    chi2 = float(residual @ residual)
    if has_sigma and dof > 0:
        if stats.chi2.sf(chi2, dof) < _LEVEL:
            faults.append(
                f"residuals are larger than sigma explains: reduced chi² {number(chi2 / dof)}, and noise has about 1; "
                "the equation, the known values or sigma do not agree with the data"
            )
        elif stats.chi2.cdf(chi2, dof) < _LEVEL:
            remarks.append(f"reduced chi² {number(chi2 / dof)}: sigma looks too large, and intervals are too wide then")
        if chi2 < _NEGLIGIBLE * dof:
            return faults, remarks
    runs = min((_too_few_runs(residual, order) for order in _orders(coordinates, owner)), default=1.0)
    smooth = _smooth_part(residual, coordinates, owner, num_unknowns, has_sigma)
    if min(runs, smooth) < _LEVEL:
        share = (
            "their signs come in runs" if runs < _LEVEL else f"they follow a smooth function (p = {number(smooth, 1)})"
        )
        faults.append(f"residuals are not noise: {share}; data of another physics, a wrong u0 or a wrong known value")
    return faults, remarks


def _orders(coordinates: dict[str, np.ndarray], owner: np.ndarray) -> Iterable[np.ndarray]:
    """Orders in which neighbours are near each other: along each coordinate first, within each experiment."""
    for first in coordinates:
        rest = [values for name, values in coordinates.items() if name != first]
        yield np.lexsort((*rest, coordinates[first], owner))
        yield np.lexsort((coordinates[first], *rest, owner))


def _too_few_runs(residual: np.ndarray, order: np.ndarray) -> float:
    """The probability of so few runs of signs, in noise."""
    signs = residual[order] > 0
    positive, count = int(signs.sum()), len(signs)
    negative = count - positive
    if count < _LEAST_RUNS or not positive or not negative:
        return 1.0
    runs = 1 + int((signs[1:] != signs[:-1]).sum())
    mean = 1 + 2 * positive * negative / count
    variance = (mean - 1) * (mean - 2) / (count - 1)
    return float(stats.norm.cdf((runs + 0.5 - mean) / np.sqrt(variance))) if variance > 0 else 1.0


def _smooth_part(residual, coordinates, owner, num_unknowns: int, has_sigma: bool) -> float:
    """The probability that noise follows a quadratic function of coordinates, and experiments' means, as closely."""
    columns = [(owner == own).astype(float) for own in np.unique(owner)]
    scaled = [_unit(values) for values in coordinates.values()]
    columns += [own for own in scaled if own.any()]
    columns += [a * b for i, a in enumerate(scaled) for b in scaled[i:] if (a * b).any()]
    basis, sizes, _ = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
    basis = basis[:, sizes > 1e-8 * sizes[0]]
    count, rank = len(residual), basis.shape[1]
    left = count - num_unknowns - rank
    if left < 3:
        return 1.0
    explained = float(np.sum((basis.T @ residual) ** 2))
    if has_sigma:
        return float(stats.chi2.sf(explained, rank))
    rest = max(float(residual @ residual) - explained, 1e-300)
    return float(stats.f.sf(explained / rank / (rest / left), rank, left))


def _unit(values: np.ndarray) -> np.ndarray:
    """Scaled to [−1, 1]; zero where all are the same."""
    low, high = values.min(), values.max()
    return (2 * values - low - high) / (high - low) if high > low else np.zeros(len(values))
