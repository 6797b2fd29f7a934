"""Calibrating the trust report on trajectories with known solutions, after training and after fine-tuning alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..arrays import to_numpy
from ..estimate import DefectEstimator
from ..surrogate import Surrogate
from ..text import percent
from ..zoo.storage import rebuilt

FALSE_ALARMS = 0.01  # share of in-family trajectories above a threshold, per set
LEAST = {"threshold": 1.2e-3, "unresolved": 2e-3}
MOST = 0.1  # estimated error above which no answer is reliable, whatever the model's usual one is
WORST = 2.0  # error over estimate that 1 % of answers may exceed
SINGLE = 1e-6  # of an initial condition is lost where it was stored in single precision
MARGIN, MARGIN_ROLL_OUT = 1.3, 1.6  # keep false alarms below 5 % on other draws; chaotic flows have heavier tails


class Known(Protocol):
    """Trajectories of which some are solved."""

    def predict(self, model: Surrogate) -> Any:
        """The model's `Prediction` for them."""
        ...

    def errors_of(self, prediction: Any) -> np.ndarray:
        """(batch,) true relative L2 errors of a prediction; NaN where the solution is not known."""
        ...


def with_trust(model: Surrogate, trust: dict[str, Any]) -> Surrogate:
    """The same weights under other settings of the trust report."""
    return rebuilt(model, {**model.config, "trust": dict(trust)})


def calibrated(
    model: Surrogate,
    sets: Sequence[Known],
    trust: dict[str, Any],
    underestimated: Callable[[Surrogate], float] | None = None,
) -> Surrogate:
    """The model with calibrated thresholds.

    Thresholds come from the largest (1 − FALSE_ALARMS) quantile of any set; the unresolved part has a heavier tail,
    hence its wider margin. Where answers can be polished, those above the easiest set's threshold are, first; then
    both are at least `LEAST`, up to which the estimate holds on fields of any kind (`training.honesty`). On periodic
    axes ``growth`` is the factor with which the median of estimated / true error is 1, or the larger one with which it
    covers half the error of 99 % of the answers that ``underestimated`` judges. A threshold is at most `MOST`; where a
    model's own answers exceed it, that is warned of.

    Args:
        sets: trajectories, each set with some solutions on periodic axes.
        trust: settings to begin with.
        underestimated: model ↦ 99 % quantile of error over estimate; default: on the sets themselves.
    """
    trust = dict(trust)
    model = with_trust(model, trust)
    if isinstance(model.estimator, DefectEstimator):
        for _ in range(2):  # what the first window carries does not grow
            ratios = np.concatenate([ratios_of(model, known) for known in sets])
            if not np.isfinite(ratios).any():
                break
            trust["growth"] = float(model.trust.growth / np.nanmedian(ratios))
            model = with_trust(model, trust)
        worst = _worst(model, sets) if underestimated is None else underestimated(model)
        trust["growth"] = float(model.trust.growth * max(1.0, worst / WORST))
        model = with_trust(model, trust)
    predictions = [known.predict(model) for known in sets]
    estimates = [_high(p.estimated_error) for p in predictions]
    if model.polish is not None and len(sets) > 1:  # what the easiest set would have polished is, before it counts
        model = with_trust(model, trust | {"threshold": max(MARGIN * min(estimates), LEAST["threshold"])})
        predictions = [known.predict(model) for known in sets]
        estimates = [_high(p.estimated_error) for p in predictions]
    unresolved = [_high(p.unresolved) for p in predictions]
    margin = MARGIN_ROLL_OUT if model.num_windows > 1 else MARGIN
    high = max(estimates)
    if not high <= MOST:
        warnings.warn(
            f"1 % of the model's own answers have an estimated error of {percent(high)} or more; above {percent(MOST)} "
            "none is called reliable: take a finer grid or more steps of the lift, or train longer",
            RuntimeWarning,
            stacklevel=2,
        )
    trust |= {"threshold": min(MOST, float(margin * high)), "unresolved": max(SINGLE, float(5 * max(unresolved)))}
    if model.polish is not None:
        trust |= {key: max(trust[key], least) for key, least in LEAST.items()}
    return with_trust(model, trust)


def _high(values: Any) -> float:
    """The quantile above which a share of `FALSE_ALARMS` lies."""
    return float(np.nanquantile(to_numpy(values), 1 - FALSE_ALARMS))


def ratios_of(model: Surrogate, known: Known) -> np.ndarray:
    """(batch,) estimated over true error."""
    prediction = known.predict(model)
    with np.errstate(invalid="ignore", divide="ignore"):
        return to_numpy(prediction.estimated_error) / known.errors_of(prediction)


def _worst(model: Surrogate, sets: Sequence[Known]) -> float:
    ratios = np.concatenate([ratios_of(model, known) for known in sets])
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    return float(np.quantile(1 / ratios, 0.99)) if len(ratios) else 0.0
