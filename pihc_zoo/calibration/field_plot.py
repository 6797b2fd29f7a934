"""Figures of recovered initial fields; needs matplotlib, opens no window."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plotting.style import (
    ACCENT,
    SECOND,
    STYLE,
    check_suffix,
    draw_map,
    grid,
    require_matplotlib,
    symmetric_limit,
    write,
)
from ..text import number
from .plot import draw_against

if TYPE_CHECKING:
    from .initial_field import FieldFit


def plot_field(fit: FieldFit, path: str | os.PathLike | None = None, truth: np.ndarray | None = None) -> Any:
    """Draws a recovered initial field with the sensors, and fitted against measured readings.

    Args:
        fit: a `FieldFit` over one or two axes.
        path: .png, .pdf or .svg to write; nothing is written if None.
        truth: (*space,) at the same points, if it is known.

    Raises:
        ValueError: no matplotlib, more than two axes, a truth of another shape, or the file cannot be written.
    """
    require_matplotlib()
    path = None if path is None else check_suffix(path)
    import matplotlib
    from matplotlib.figure import Figure

    if fit.u0.ndim > 2:
        raise ValueError(f"plots show one or two space dimensions; this field has {fit.u0.ndim}")
    if truth is not None and np.shape(truth) != fit.u0.shape:
        raise ValueError(f"truth must have the shape of u0, {fit.u0.shape}, got {np.shape(truth)}")
    fields = [("Most probable initial field, and sensors", fit.u0)]
    if truth is not None:
        fields += [("Truth", np.asarray(truth)), ("Difference", fit.u0 - truth)]
    is_plane = fit.u0.ndim == 2
    with matplotlib.rc_context(STYLE):
        panels = len(fields) + 1 if is_plane else 2
        figure = Figure(figsize=(4.3 * panels + 0.6, 4.6), layout="constrained", dpi=130)
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
        *maps, last = figure.subplots(1, panels)
        if is_plane:
            _planes(figure, maps, fit, fields)
        else:
            _lines(maps[0], fit, truth)
        measured = fit.readings.experiments[0].u
        draw_against(last, fit.fitted, measured, fit.sigma, fit.readings.model.problem.field)
        trust = "trustworthy" if fit.is_trustworthy else "NOT trustworthy: " + fit.messages[0]
        title = f"{len(measured)} readings   ·   reduced χ² {number(fit.reduced_chi2)}   ·   {trust}"
        figure.suptitle(title, fontsize=12, color="#2a2f34" if fit.is_trustworthy else SECOND)
        if path is not None:
            write(figure, path)
    return figure


def _planes(figure: Any, panels: list, fit: Any, fields: list[tuple[str, np.ndarray]]) -> None:
    """Fields on one scale; a difference has its own."""
    names, points = list(fit.points), list(fit.points.values())
    shared = symmetric_limit(np.stack([values for _, values in fields[:2]]), 1.0)
    for i, (axes, (title, values)) in enumerate(zip(panels, fields, strict=True)):
        limit = shared if i < 2 else symmetric_limit(values, 1.0)
        colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        draw_map(figure, axes, *points, values.T, title, colours, "")
        axes.set_aspect("equal")
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
    panels[0].plot(*fit.readings.points.values(), "k.", markersize=3)


def _lines(axes: Any, fit: Any, truth: np.ndarray | None) -> None:
    (name, x), *_ = fit.points.items()
    axes.plot(x, fit.u0, color=ACCENT, linewidth=1.8, label="most probable")
    if truth is not None:
        axes.plot(x, truth, ":", color="black", label="truth")
    places = np.unique(fit.readings.points[name])
    axes.plot(places, np.full(len(places), axes.get_ylim()[0]), "k|", markersize=8, label="sensors")
    axes.set_xlabel(name)
    axes.set_title("Initial field")
    axes.legend(frameon=False)
    grid(axes)
