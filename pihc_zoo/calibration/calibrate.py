"""`calibrate`: unknown parameters from measurements."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import stats

from ..prediction.request import check_parameters
from ..text import number, percent
from ..zoo.loading import check_surrogate
from .correction import estimated_error, shift_of
from .correction import polish as polished
from .fit import Fit
from .intervals import UNDETERMINED, find_ends, open_directions, standard_errors
from .least_squares import Descent, descend, is_free
from .measurements import Experiment, read_experiments
from .readings import Readings
from .unknowns import INITIAL, Unknown, check_unknowns, starting_points
from .verdict import residual_faults

_DESCENTS = 3  # that begin at the best of all starts
_SHIFT = 0.3  # standard errors, that the surrogate's error may move an unknown by
_APART = 25.0  # squared distance of another minimum, in standard errors
_AS_GOOD = 6.0  # rise of chi² of another minimum
INTERVALS = ("auto", "covariance", "profile")


def calibrate(
    model: Any,
    data: Any,
    unknown: str | list[str],
    known: dict[str, Any] | None = None,
    *,
    u0: Any = None,
    level: float = 0.9,
    intervals: str = "auto",
    polish: bool | None = None,
    starts: int = 16,
    seed: int = 0,
    **field_options: Any,
) -> Any:
    """Finds unknown parameters, or an unknown initial value, from measurements at scattered points and times.

    >>> fit = pz.calibrate(model, {"u0": 0.1, "x": x, "t": t, "u": u, "sigma": 0.01}, ["D", "n_f"], {"phi": 0.3})

    Levenberg–Marquardt with exact sensitivities, all starts in one batch; intervals from the covariance where the
    problem is linear enough and from the profile likelihood where not; the surrogate's own error is estimated, and
    where it matters the classical solver goes on.

    Args:
        model: a surrogate that takes the unknowns as inputs.
        data: one experiment, or a list of several that share their unknowns. A mapping with u, t and x (…), all
            (m,), u0 ((n,) or a number), optionally sigma ((m,) or a number; estimated where left out) and input_x
            (positions of u0); or the path of a CSV file with the columns x, t, u and optionally sigma. Of a system
            with the fields u and v: a key u, v or both, sigma for both or sigma_u and sigma_v, and u0 (n, field) or a
            number per field; fields measured at different points are two experiments with the same u0.
        unknown: names of parameters; "u0" is a constant initial value, or, alone and on periodic axes, a field.
        known: further parameters by symbol, numbers or one per experiment; defaults where left out.
        u0: of all experiments that bring none of their own.
        level: probability of the intervals.
        intervals: "auto", "covariance" or "profile".
        polish: go on with the classical solver: True always, False never, None where the surrogate's error matters.
        starts: points of the range that are looked at; the best three of them are descended from.
        seed: of these points.
        field_options: of `calibration.initial_field.calibrate_field`, where u0 is an unknown field.

    Returns:
        a `Fit`; of an unknown field a `FieldFit`.

    Raises:
        ValueError: what is missing, misnamed, outside its range, contradictory or too little.
    """
    begin = time.perf_counter()
    check_surrogate(model)
    if model.problem.duration is None:
        raise ValueError(
            f"calibration reads trajectories, and {model.problem.name} is steady; fit it with "
            "model(None, parameters), which is differentiable"
        )
    known = dict(known or {})
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}; 0.9 gives 90 % intervals")
    if intervals not in INTERVALS:
        raise ValueError(f"intervals must be one of {', '.join(map(repr, INTERVALS))}, not {intervals!r}")
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts}")
    problem = model.problem
    unknowns = check_unknowns(model, unknown, known)
    experiments = read_experiments(data, problem, INITIAL not in [own.name for own in unknowns], u0)
    known = check_known(model, known, len(experiments))
    if any(axis.is_periodic for axis in problem.output_space.values()) and INITIAL in [own.name for own in unknowns]:
        from .initial_field import calibrate_field

        return calibrate_field(model, experiments, [own.name for own in unknowns], known, seed=seed, **field_options)
    if field_options:
        raise ValueError(
            f"no option {next(iter(field_options))!r} where parameters are unknown; see help(pz.calibrate)"
        )
    _check_count(experiments, unknowns)
    readings = Readings(model, experiments, unknowns, known)
    problem_data = _Data(experiments)
    descents = _descents(readings, problem_data, starting_points(starts, len(unknowns), seed))
    return _fit(readings, problem_data, descents, level, intervals, polish, begin)


class _Data:
    """(m,) values of all experiments, and weights: 1/σ, or 1 where σ is unknown."""

    def __init__(self, experiments: list[Experiment]):
        self.target = np.concatenate([own.u for own in experiments])
        self.has_sigma = experiments[0].sigma is not None
        sigmas = [own.sigma if own.sigma is not None else np.ones(len(own)) for own in experiments]
        self.weights = 1 / np.concatenate(sigmas)

    def judge(self, values: np.ndarray, z: np.ndarray, jacobian: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """(m,) weighted residuals of ``values`` at ``z``, their variance, and (p,) which unknowns may move there."""
        residual = (values - self.target) * self.weights
        dof = len(values) - len(z)
        variance = 1.0 if self.has_sigma else max(float(residual @ residual) / dof, 1e-300)
        return residual, variance, is_free(z, jacobian.T @ residual)


def check_known(model: Any, known: dict[str, Any], count: int) -> dict[str, Any]:
    """Known parameters, checked: numbers or one per experiment."""
    own = {key: np.asarray(value)[0] if np.shape(value) == (1,) else value for key, value in known.items()}
    checked = check_parameters(model.problem, model.parameter_inputs, own, count)
    return {key: checked[key] for key in own}


def _check_count(experiments: list[Experiment], unknowns: list[Unknown]) -> None:
    count = sum(len(own) for own in experiments)
    least = len(unknowns) + (experiments[0].sigma is None)
    if count < least:
        why = "" if experiments[0].sigma is not None else ", one more because sigma is unknown too"
        raise ValueError(f"{count} readings for {len(unknowns)} unknowns; at least {least} are needed{why}")


def _descents(readings: Readings, data: _Data, starts: np.ndarray) -> list[Descent]:
    """Descents from the best of the starts."""
    if len(starts) > _DESCENTS:
        costs = (((readings.values(starts) - data.target) * data.weights) ** 2).sum(axis=1)
        starts = starts[np.argsort(np.where(np.isfinite(costs), costs, np.inf))[:_DESCENTS]]
    descents = descend(readings.sensitivities, starts, data.target, data.weights, data.has_sigma)
    if not np.isfinite(descents[0].cost):
        raise ValueError(
            "the model has no answer for these experiments at any start: its solves fail; look at "
            "model.predict(u0, parameters=…).messages"
        )
    return descents


def _fit(readings, data: _Data, descents: list[Descent], level: float, method: str, polish, begin: float) -> Fit:
    best, unknowns = descents[0], readings.unknowns
    names = [own.name for own in unknowns]
    target, weights, count = data.target, data.weights, len(data.target)
    dof = count - len(names)
    residual, variance, free = data.judge(best.values, best.end, best.jacobian)
    covariance, errors = standard_errors(best.jacobian, variance, free)
    unbounded, _ = standard_errors(best.jacobian, variance, np.ones_like(free))
    quantile = stats.norm.ppf(0.5 + level / 2) if data.has_sigma else stats.t.ppf(0.5 + level / 2, dof)
    own_weights = weights / np.sqrt(variance)
    chi2 = float(residual @ residual) / variance
    ends = find_ends(
        readings.values, best.end, chi2, covariance, unbounded, target, own_weights, float(quantile), method
    )
    z, values, surrogate = best.end, best.values, None
    error, reasons = estimated_error(readings, z, values)
    error = error * weights
    shift = shift_of(best.jacobian, error, free, float(np.sqrt(variance)))
    shifts = np.divide(shift, errors, out=np.zeros_like(shift), where=errors > 0)
    open_words = open_directions(unknowns, z, best.jacobian, variance)
    is_linear = errors <= UNDETERMINED
    widths = ends.z[:, 1] - ends.z[:, 0]
    is_determined = is_linear if ends.method == "covariance" else widths <= 2 * UNDETERMINED * quantile
    matters = bool(np.nanmax(np.abs(shifts * is_determined), initial=0.0) > _SHIFT) or not np.isfinite(error).all()
    num_classical = 0
    ends_z = ends.z
    if polish or (polish is None and matters):
        z, values, num_classical = polished(readings, z, best.jacobian, target, weights, float(np.sqrt(variance)))
        surrogate = {own.name: float(own.value(best.end[k])) for k, own in enumerate(unknowns)}
        ends_z = np.clip(ends.z + (z - best.end)[:, None], -1, 1)
        residual, variance, free = data.judge(values, z, best.jacobian)
    sigma = np.sqrt(variance) / weights
    residual = (values - target) / sigma
    slopes = np.array([own.slope(z[k]) for k, own in enumerate(unknowns)])
    physical = slopes[:, None] * covariance * slopes
    physical[~is_linear] = np.nan
    physical[:, ~is_linear] = np.nan
    interval = {}
    for k, own in enumerate(unknowns):
        low, high = ends_z[k] if is_determined[k] else (-1.0, 1.0)
        interval[own.name] = (float(own.value(low)), float(own.value(high)))

    coordinates = {"t": readings.t, **readings.points}
    groups = readings.owner * (1 + readings.field.max()) + readings.field
    faults, remarks = residual_faults(residual, coordinates, groups, len(names), data.has_sigma)
    faults += open_words
    faults += [_bound(own, z[k]) for k, own in enumerate(unknowns) if not free[k]]
    faults += reasons
    if not best.is_converged:
        faults.append("the fit did not converge: no step lowers chi² although it is not at a minimum")
    if not open_words:
        faults += _other_minima(descents, unknowns, variance)
    worst = int(np.argmax(np.abs(shifts))) if len(shifts) else 0
    if matters:
        said = (
            f"the surrogate's estimated error moves {names[worst]} by {number(abs(shifts[worst]), 2)} standard errors"
        )
        (remarks if surrogate is not None else faults).append(
            f"{said}; the classical solver polished the fit" if surrogate is not None else f"{said}; use polish=True"
        )
    for k, own in enumerate(unknowns):
        if free[k] and is_determined[k] and np.abs(ends_z[k]).max() >= 1 - 1e-9:
            remarks.append(
                f"the interval of {own.name} ends at the model's range [{own.low:g}, {own.high:g}]{own.suffix}"
            )
    return Fit(
        parameters={own.name: float(own.value(z[k])) for k, own in enumerate(unknowns)},
        interval=interval,
        standard_error={own.name: float(np.sqrt(physical[k, k])) for k, own in enumerate(unknowns)},
        covariance=physical,
        level=level,
        interval_method=ends.method,
        nonlinearity=ends.nonlinearity,
        is_determined=dict(zip(names, map(bool, is_determined), strict=True)),
        reduced_chi2=float(residual @ residual) / dof if data.has_sigma and dof else float("nan"),
        dof=dof,
        sigma=sigma,
        has_sigma=data.has_sigma,
        fitted=values,
        residual=residual,
        surrogate_error=error / np.sqrt(variance),
        surrogate_shift=dict(zip(names, map(float, shifts), strict=True)),
        surrogate_parameters=surrogate,
        minima=[
            {**{own.name: float(own.value(d.end[k])) for k, own in enumerate(unknowns)}, "chi2": d.cost / variance}
            for d in descents
            if not d.is_merged
        ],
        messages=faults + remarks,
        is_trustworthy=not faults,
        num_solves=readings.num_solves,
        num_classical=num_classical,
        seconds=time.perf_counter() - begin,
        readings=readings,
        z=z,
        scaled_covariance=unbounded,
    )


def _bound(own: Unknown, z: float) -> str:
    side, value = ("lower", own.low) if z < 0 else ("upper", own.high)
    return f"{own.name} is at the {side} end of the model's range, {value:g}{own.suffix}; the best value may lie beyond"


def _other_minima(descents: list[Descent], unknowns: list[Unknown], variance: float) -> list[str]:
    """Minima far from the best one, in its standard errors, that fit almost as well."""
    best, sentences = descents[0], []
    normal = best.jacobian.T @ best.jacobian
    for other in descents[1:]:
        apart = other.end - best.end
        if not other.is_converged or other.is_merged or apart @ normal @ apart < _APART * variance:
            continue
        if other.cost - best.cost < _AS_GOOD * variance:
            values = ", ".join(f"{own.name} = {number(own.value(other.end[k]))}" for k, own in enumerate(unknowns))
            share = percent(np.exp(-0.5 * (other.cost - best.cost) / variance))
            sentences.append(f"another minimum fits almost as well ({share} of the likelihood): {values}")
    return sentences
