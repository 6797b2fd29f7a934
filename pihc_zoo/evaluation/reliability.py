"""How well a model judges its own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..families import Domain, sample_parameters
from ..sampling import out_of_family as sets_of
from .references import ReferenceSet, relative_error


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation in [−1, 1], ties averaged; None for fewer than 3 pairs or a constant."""
    from scipy.stats import rankdata

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def trust(model, references: ReferenceSet) -> dict[str, Any]:
    """How well the estimated error tells the true one, inside the family.

    Returns:
        ratio_median, ratio_low, ratio_high (median and 5 %, 95 % quantiles of estimate / true error),
        rank_correlation, threshold (the model's, or None), estimate_99 (99 % quantile of the estimates,
        a threshold with 1 % false alarms), false_alarms (fraction not reliable).
    """
    prediction = references.predict(model)
    errors, estimates = (
        relative_error(to_numpy(prediction.u), references.u),
        to_numpy(prediction.estimated_error),
    )
    is_known = np.isfinite(errors) & np.isfinite(estimates)
    if not is_known.any():
        raise ValueError("all predictions failed: there are no estimates to judge")
    errors, estimates = errors[is_known], estimates[is_known]
    low, median, high = (float(q) for q in np.quantile(estimates / errors, (0.05, 0.5, 0.95)))
    return {
        "count": len(references),
        "ratio_median": median,
        "ratio_low": low,
        "ratio_high": high,
        "rank_correlation": spearman(estimates, errors),
        "threshold": model.config["trust"].get("threshold"),
        "estimate_99": float(np.quantile(estimates, 0.99)),
        "false_alarms": float(1 - np.mean(to_numpy(prediction.is_reliable))),
    }


def out_of_family(model, count: int = 32, seed: int = 0) -> dict[str, float]:
    """Per family that the model was not trained for: the fraction flagged, that is not reliable."""
    axes = model.problem.output_space
    domain, flagged = Domain.of(axes), {}
    for name, family in sets_of(model).items():
        rng = np.random.default_rng([seed, 2**31])
        u0 = family.sample(count, [axis.nodes for axis in axes.values()], rng, domain)
        parameters = sample_parameters(model.problem, model.parameter_inputs, count, rng)
        prediction = ReferenceSet(u0, parameters, u0).predict(model)
        flagged[name] = float(1 - np.mean(to_numpy(prediction.is_reliable)))
    return flagged
