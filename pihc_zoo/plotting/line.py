"""Figures of fields over one space axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from ..text import unit_of
from .style import (
    ACCENT,
    MUTED,
    axis_label,
    cell_limits,
    difference_scale,
    draw_map,
    grid,
    headline,
    scale,
    time_label,
    trajectory,
    unit,
)

if TYPE_CHECKING:
    from ..prediction.prediction import Prediction

_NUM_PROFILES = 6


def draw_line(prediction: Prediction, index: int, names: list[str], truth: np.ndarray | None) -> Any:
    """Maps over (x, t), profiles, and the truth (time, x) where it is known; see `plot_prediction`."""
    from matplotlib.figure import Figure

    (name,) = names
    t, x = to_numpy(prediction.t), to_numpy(prediction.points[name])
    order = np.argsort(t, kind="stable")
    u = trajectory(prediction, prediction.u, index, names)
    has_map = len(t) > 1 and len(x) > 1
    figure = Figure(figsize=(13, 7.8 if has_map else 4.6), layout="constrained", dpi=130)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.06)
    headline(figure, prediction, index)
    if not has_map:
        below = figure.subplots(1, 1)
    else:
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1) if truth is None else (1, 1))
        panels = [(upper, axes) for axes in upper.subplots(1, 3)]
        if truth is None:
            below = lower.subplots(1, 1)
        else:
            below, *others = lower.subplots(1, 3)
            panels += [(lower, axes) for axes in others]
        maps = _maps(prediction, index, names, u, truth)
        for (part, axes), (values, title, colours) in zip(panels, maps, strict=True):
            draw_map(part, axes, x, t[order], values[order], title, colours, unit(prediction, "u"))
            axes.set_ylim(t.min(), t.max())
            axes.set_xlabel(axis_label(prediction, name))
            axes.set_ylabel(axis_label(prediction, "t"))
    draw_profiles(below, prediction, name, order, u, to_numpy(prediction.u0)[index], truth)
    return figure


def _maps(prediction: Prediction, index: int, names: list[str], u: np.ndarray, truth: np.ndarray | None) -> list:
    """(values, title, scale) of each map; beside the truth, true and estimated error share theirs."""
    residual, estimate = (
        trajectory(prediction, fields, index, names)
        for fields in (prediction.residual_field, prediction.estimated_error_field)
    )
    symbol = prediction.symbol
    own = (residual, f"Residual ρ({symbol}) in solution units", difference_scale(residual))
    estimated = f"Estimated error, {symbol} − {symbol}_true"
    if truth is None:
        shown = (u, f"Prediction {symbol}", scale(prediction, u))
        return [shown, own, (estimate, estimated, difference_scale(estimate))]
    fields, errors = scale(prediction, u, truth), difference_scale(u - truth, estimate)
    true_error = (u - truth, f"True error, {symbol} − {symbol}_true", errors)
    shown = [(u, f"Prediction {symbol}", fields), (truth, f"Truth {symbol}_true", fields), true_error]
    return [*shown, own, (estimate, estimated, errors)]


def draw_profiles(axes: Any, prediction: Prediction, name: str, order, u, u0, truth: np.ndarray | None) -> None:
    """u over one axis at a few times, or over t where there is one point; the truth is dotted."""
    import matplotlib

    t, x = to_numpy(prediction.t), to_numpy(prediction.points[name])
    if not np.isfinite(u).any():
        axes.set_title("Initial condition")
        if np.isfinite(u0).any() and u0.shape == x.shape:
            axes.plot(x, u0, color=MUTED, linewidth=1.8)
    elif len(x) == 1:
        axes.plot(t[order], u[order, 0], "o-" if len(t) < 40 else "-", color=ACCENT, label="prediction")
        if truth is not None:
            axes.plot(t[order], truth[order, 0], ":", color="black", label="truth")
            axes.legend(frameon=False)
        axes.set_xlabel(axis_label(prediction, "t"))
        axes.set_title(f"{prediction.symbol} at {name} = {x[0]:.4g}{unit_of(unit(prediction, name))}")
    else:
        spaced = np.linspace(0, 1, min(_NUM_PROFILES, len(t))) ** 2  # solutions change fast at first
        rows = np.unique(np.round(spaced * (len(t) - 1)).astype(int))
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
        for row, colour in zip(order[rows], colours, strict=True):
            axes.plot(x, u[row], color=colour, linewidth=1.8, label=time_label(prediction, t[row]))
        if truth is not None:
            for row in order[rows]:
                axes.plot(x, truth[row], ":", color="black", linewidth=1.2)
            axes.plot([], [], ":", color="black", linewidth=1.2, label="truth")
        axes.set_xlim(*cell_limits(x))
        axes.set_xlabel(axis_label(prediction, name))
        if truth is None:
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        else:
            axes.legend(frameon=False, fontsize=8)
        axes.set_title(f"Profiles of {prediction.symbol}")
    axes.set_ylabel(axis_label(prediction, "u"))
    grid(axes)
