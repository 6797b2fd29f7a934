"""Figures of a fit and of its posterior; needs matplotlib, opens no window."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from ..plotting.style import ACCENT, MUTED, SECOND, STYLE, check_suffix, grid, require_matplotlib, write
from ..text import number, shown_unit, unit_of
from .correction import initial_of, parameters_of

if TYPE_CHECKING:
    from .fit import Fit
    from .posterior import Posterior

_CURVES = 7  # most curves in a panel
_POINTS = 201  # of a curve
_BINS = 45
_DOTS = {"fmt": "o", "markersize": 5, "capsize": 2.5, "markeredgecolor": "white", "markeredgewidth": 0.6}


def plot_fit(fit: Fit, path: str | os.PathLike | None = None, experiment: int = 0) -> Any:
    """Draws readings on the fitted solution, residuals over time, and the unknowns with their region.

    Each field has a panel. On one space axis readings stand on curves, over x at each time or over t at each position,
    whichever are fewer; where both are many, or there are several axes, fitted values stand against measured ones.

    Args:
        fit: of `calibrate`.
        path: .png, .pdf or .svg to write; nothing is written if None.
        experiment: whose readings are drawn on curves, counted from 0.

    Returns:
        the matplotlib Figure.

    Raises:
        ValueError: no matplotlib, no such experiment, or the file cannot be written.
    """
    require_matplotlib()
    path = None if path is None else check_suffix(path)
    if not 0 <= experiment < len(fit.experiments):
        raise ValueError(f"there is no experiment {experiment}; the fit has {len(fit.experiments)}, counted from 0")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 7.2), layout="constrained", dpi=130)
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.1)
        _headline(figure, fit)
        left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
        measured = np.unique(fit.experiments[experiment].field)
        for axes, k in zip(left.subplots(len(measured), 1, squeeze=False)[:, 0], measured, strict=True):
            _readings(axes, fit, experiment, int(k))
        upper, lower = right.subplots(2, 1, height_ratios=(1, 1.25))
        _residuals(upper, fit)
        _region(lower, fit)
        if path is not None:
            write(figure, path)
    return figure


def _headline(figure: Any, fit: Fit) -> None:
    parts = []
    for own in fit.readings.unknowns:
        low, high = fit.interval[own.name]
        text = f"{own.name} = {number(fit.parameters[own.name], 4)}{own.suffix}"
        known = fit.is_determined[own.name]
        parts.append(f"{text} [{number(low, 4)}, {number(high, 4)}]" if known else f"{own.name} not determined")
    chi2 = f"reduced χ² {number(fit.reduced_chi2)}" if np.isfinite(fit.reduced_chi2) else f"σ = {number(fit.sigma[0])}"
    trust = "trustworthy" if fit.is_trustworthy else "NOT trustworthy"
    lines = ["   ·   ".join(parts), f"{fit.model.name or 'surrogate'}   ·   {chi2}   ·   {trust}"]
    if not fit.is_trustworthy:
        lines.append(_wrapped(fit.messages[0]))
    figure.suptitle("\n".join(lines), fontsize=12, color="#2a2f34" if fit.is_trustworthy else SECOND)


def _wrapped(text: str, width: int = 130) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def _label(fit: Fit, name: str) -> str:
    unit = shown_unit(fit.model.problem.units.get(name, ""))
    return f"{name} [{unit}]" if unit else name


def _readings(axes: Any, fit: Fit, experiment: int, k: int) -> None:
    """One experiment's readings of its field number ``k``."""
    own_field = fit.experiments[experiment].field
    mine = np.flatnonzero((fit.readings.owner == experiment) & (fit.readings.field == k))
    t, u = fit.readings.t[mine], fit.experiments[experiment].u[own_field == k]
    symbol = list(fit.model.problem.fields)[k]
    names = list(fit.readings.points)
    x = fit.readings.points[names[0]][mine]
    sigma = fit.sigma[mine]
    times, places = np.unique(t), np.unique(x)
    if len(names) > 1 or min(len(times), len(places)) > _CURVES:
        draw_against(axes, fit.fitted[mine], u, sigma, symbol)
        return
    is_profile = len(times) <= len(places) if max(len(times), len(places)) <= _CURVES else len(times) <= _CURVES
    shared, along, own = (times, x, t) if is_profile else (places, t, x)
    grid_points = _curve_points(fit, is_profile, names[0])
    field = _solution(fit, experiment, times if is_profile else grid_points, grid_points if is_profile else places, k)
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(shared)))
    key = "t" if is_profile else names[0]
    unit = unit_of(fit.model.problem.units.get(key, ""))
    for i, (value, colour) in enumerate(zip(shared, colours, strict=True)):
        axes.plot(grid_points, field[i] if is_profile else field[:, i], color=colour, linewidth=1.6)
        picked = own == value
        label = f"{key} = {number(value, 4)}{unit}"
        axes.errorbar(along[picked], u[picked], sigma[picked], color=colour, label=label, **_DOTS)
    axes.set_xlabel(_label(fit, names[0] if is_profile else "t"))
    unit = shown_unit(fit.model.problem.fields[symbol].unit)
    axes.set_ylabel(f"{symbol} [{unit}]" if unit else symbol)
    axes.set_xlim(grid_points[0], grid_points[-1])
    many = f" of experiment {fit.experiments[experiment].name}" if len(fit.experiments) > 1 else ""
    of_field = f" of {symbol}" if fit.model.problem.is_system else ""
    axes.set_title(f"Readings{of_field} ± σ{many} on the fit")
    axes.legend(frameon=False)
    grid(axes)


def _curve_points(fit: Fit, is_profile: bool, name: str) -> np.ndarray:
    problem = fit.model.problem
    if is_profile:
        axis = problem.output_space[name]
        return np.linspace(axis.start, axis.stop, _POINTS)
    first = min(time for time in problem.output_times if time > 0)
    return np.linspace(min(first, fit.readings.t.min()), max(problem.span, fit.readings.t.max()), _POINTS)


def _solution(fit: Fit, experiment: int, times: np.ndarray, x: np.ndarray, k: int) -> np.ndarray:
    """(time, x) of an experiment's field number ``k`` at the fit."""
    import warnings

    u0, points = initial_of(fit.readings, fit.z, experiment)
    own = parameters_of(fit.readings, fit.z, experiment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        u = np.asarray(fit.model.predict(u0[None], x=x, times=times, parameters=own, input_x=points).u)[0]
    return u[..., k] if fit.model.problem.is_system else u


def draw_against(axes: Any, fitted: np.ndarray, measured: np.ndarray, sigma: np.ndarray, symbol: str) -> None:
    """Measured values with their σ against fitted ones."""
    low, high = min(fitted.min(), measured.min()), max(fitted.max(), measured.max())
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1.0)
    axes.errorbar(fitted, measured, sigma, color=ACCENT, **_DOTS)
    axes.set_xlabel(f"fitted {symbol}")
    axes.set_ylabel(f"measured {symbol} ± σ")
    axes.set_title("Measured against fitted")
    grid(axes)


def _residuals(axes: Any, fit: Fit) -> None:
    for band, alpha in ((2, 0.08), (1, 0.1)):
        axes.axhspan(-band, band, color=ACCENT, alpha=alpha, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    name = next(iter(fit.readings.points))
    if len(fit.experiments) > 1:
        import matplotlib

        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(fit.experiments)))
        for i, own in enumerate(fit.experiments):
            mine = fit.readings.owner == i
            axes.plot(fit.readings.t[mine], fit.residual[mine], "o", color=colours[i], markersize=5, label=own.name)
        axes.legend(frameon=False, title="experiment", ncols=2)
    else:
        shown = axes.scatter(fit.readings.t, fit.residual, c=fit.readings.points[name], cmap="viridis", s=26)
        bar = axes.figure.colorbar(shown, ax=axes, pad=0.02, aspect=18)
        bar.outline.set_visible(False)
        bar.set_label(_label(fit, name))
    limit = max(3.0, 1.1 * float(np.abs(fit.residual).max()))
    axes.set_ylim(-limit, limit)
    axes.set_xlabel(_label(fit, "t"))
    axes.set_ylabel("(fitted − measured) / σ")
    axes.set_title("Residuals; bands of one and two σ")
    grid(axes)


def _region(axes: Any, fit: Fit) -> None:
    """The joint region of the two unknowns that correlate most, or the interval of a single one."""
    unknowns, names = fit.readings.unknowns, list(fit.parameters)
    level = f"{100 * fit.level:g} %"
    if len(unknowns) == 1:
        (own,) = unknowns
        low, high = fit.interval[own.name]
        axes.plot([low, high], [0, 0], color=ACCENT, linewidth=3)
        axes.plot(fit.parameters[own.name], 0, "o", color=ACCENT, markersize=8)
        axes.set_yticks([])
        axes.margins(x=0.5)
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(_unknown_label(own))
        axes.set_title(f"{own.name} with its {level} interval")
        return
    i, j = _pair(fit.scaled_covariance)
    covariance = fit.scaled_covariance[np.ix_((i, j), (i, j))]
    angle = np.linspace(0, 2 * np.pi, 2001)
    circle = np.linalg.cholesky(covariance + 1e-14 * np.eye(2)) @ np.stack([np.cos(angle), np.sin(angle)])
    for share, width in ((fit.level, 2.0), (0.5, 1.0)):
        ring = fit.z[[i, j]][:, None] + np.sqrt(stats.chi2.ppf(share, 2)) * circle
        ring = np.where((np.abs(ring) <= 1).all(axis=0), ring, np.nan)
        axes.plot(unknowns[i].value(ring[0]), unknowns[j].value(ring[1]), color=ACCENT, linewidth=width,
                  label=f"{100 * share:g} % region, linear theory")  # fmt: skip
    axes.plot(fit.parameters[names[i]], fit.parameters[names[j]], "o", color=ACCENT, label="fit")
    if fit.surrogate_parameters is not None:
        own = fit.surrogate_parameters
        axes.plot(own[names[i]], own[names[j]], "s", color=MUTED, markerfacecolor="none", label="surrogate alone")
    by = "profile likelihood" if fit.interval_method == "profile" else "covariance"
    for at, span in ((i, axes.axvspan), (j, axes.axhspan)):
        low, high = fit.interval[names[at]]
        span(low, high, color=SECOND, alpha=0.08, linewidth=0, label=f"{level} intervals, {by}" if at == i else None)
    axes.set_xlabel(_unknown_label(unknowns[i]))
    axes.set_ylabel(_unknown_label(unknowns[j]))
    axes.ticklabel_format(axis="both", style="sci", scilimits=(-2, 4))
    axes.set_title(f"{names[i]} and {names[j]}")
    axes.legend(frameon=False, fontsize=8)
    grid(axes)


def _pair(covariance: np.ndarray) -> tuple[int, int]:
    """The two unknowns of the strongest correlation."""
    size, count = np.sqrt(np.diag(covariance)), len(covariance)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return max(pairs, key=lambda pair: abs(covariance[pair]) / (size[pair[0]] * size[pair[1]]))


def _unknown_label(own: Any) -> str:
    unit = shown_unit(own.unit)
    return f"{own.name} [{unit}]" if unit else own.name


def plot_posterior(posterior: Posterior, path: str | os.PathLike | None = None) -> Any:
    """Draws the marginals and the joint density of every pair of unknowns.

    Args:
        posterior: of `Fit.sample`.
        path: .png, .pdf or .svg to write; nothing is written if None.

    Returns:
        the matplotlib Figure.
    """
    require_matplotlib()
    path = None if path is None else check_suffix(path)
    import matplotlib
    from matplotlib.figure import Figure

    unknowns, draws, fit = posterior.fit.readings.unknowns, posterior.draws, posterior.fit
    count, intervals = len(unknowns), posterior.interval()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * count + 1.6, 2.8 * count + 1.4), layout="constrained", dpi=130)
        panels = np.atleast_2d(figure.subplots(count, count, squeeze=False))
        for i in range(count):
            for j in range(count):
                axes = panels[i, j]
                if j > i:
                    axes.set_axis_off()
                    continue
                _density(axes, unknowns, draws, i, j, intervals, fit)
                if i == count - 1:
                    axes.set_xlabel(_unknown_label(unknowns[j]))
                else:
                    axes.tick_params(labelbottom=False)
                if j == 0 and i > 0:
                    axes.set_ylabel(_unknown_label(unknowns[i]))
                elif j > 0 or i == 0:
                    axes.tick_params(labelleft=False)
        shape = posterior.log_probability.shape
        title = "\n".join([f"Posterior: {shape[0]} draws of {shape[1]} walkers", *posterior.messages[:1]])
        title = "\n".join(_wrapped(line, 28 * count) for line in title.split("\n"))
        figure.suptitle(title, fontsize=12, color=SECOND if posterior.messages else "#2a2f34")
        if path is not None:
            write(figure, path)
    return figure


def _density(axes: Any, unknowns: list, draws: dict, i: int, j: int, intervals: dict, fit: Fit) -> None:
    own, other = unknowns[j].name, unknowns[i].name
    axes.locator_params(nbins=4)
    if i == j:
        axes.hist(draws[own], bins=_BINS, density=True, color=ACCENT, alpha=0.35, histtype="stepfilled")
        axes.axvspan(*intervals[own], color=ACCENT, alpha=0.08, linewidth=0)
        axes.axvline(fit.parameters[own], color=SECOND, linewidth=1.2)
        axes.set_yticks([])
        low, high = intervals[own]
        axes.set_title(f"{own} in [{number(low, 3)}, {number(high, 3)}]", fontsize=9.5)
    else:
        density, x, y = np.histogram2d(draws[own], draws[other], bins=_BINS)
        axes.pcolormesh(x, y, density.T, cmap="Blues", rasterized=True)
        axes.plot(fit.parameters[own], fit.parameters[other], "+", color=SECOND, markersize=9, markeredgewidth=1.6)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4))
