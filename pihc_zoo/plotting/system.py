"""Figures of systems: a row per field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from .line import draw_profiles
from .plane import draw_snapshots
from .style import (
    axis_label,
    difference_scale,
    draw_map,
    headline,
    scale,
    snapshot_rows,
    time_label,
    trajectory,
    unit,
)

if TYPE_CHECKING:
    from ..prediction.prediction import Prediction

_NUM_SNAPSHOTS = 4  # beside a map of the error


def draw_system(prediction: Prediction, index: int, names: list[str], truth: np.ndarray | None) -> Any:
    """Each field with its estimated error, and with the true one where the truth (time, *names, field) is known.

    One axis: maps over it and time, and profiles. Two: snapshots, and the error at the last of their times.
    """
    from matplotlib.figure import Figure

    is_line = len(names) == 1
    count = len(prediction.fields)
    figure = Figure(figsize=(13, 1.0 + (3.5 if is_line else 2.9) * count), layout="constrained", dpi=130)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06, hspace=0.04)
    headline(figure, prediction, index)
    rows = np.atleast_1d(figure.subfigures(count, 1))
    for place, (part, name) in enumerate(zip(rows, prediction.fields, strict=True)):
        own = prediction.of_field(name)
        known = None if truth is None else truth[..., place]
        (_draw_line if is_line else _draw_plane)(part, own, index, names, known)
    return figure


def _draw_line(figure: Any, own: Prediction, index: int, names: list[str], truth: np.ndarray | None) -> None:
    (name,) = names
    t, x = to_numpy(own.t), to_numpy(own.points[name])
    order = np.argsort(t, kind="stable")
    u, u0 = trajectory(own, own.u, index, names), to_numpy(own.u0)[index]
    if len(t) == 1 or len(x) == 1:
        draw_profiles(figure.subplots(), own, name, order, u, u0, truth)
        return
    estimate = trajectory(own, own.estimated_error_field, index, names)
    errors = [(estimate, "Estimated error")]
    if truth is not None:
        errors.append((u - truth, "True error"))
    colours = difference_scale(*(values for values, _ in errors))
    maps = [(u, f"Prediction {own.symbol}", scale(own, u))]
    maps += [(values, f"{title} of {own.symbol}", colours) for values, title in errors]
    *panels, below = figure.subplots(1, len(maps) + 1, width_ratios=[*[1] * len(maps), 1.1])
    for axes, (values, title, own_colours) in zip(panels, maps, strict=True):
        draw_map(figure, axes, x, t[order], values[order], title, own_colours, unit(own, "u"))
        axes.set_ylim(t.min(), t.max())
        axes.set_xlabel(axis_label(own, name))
        axes.set_ylabel(axis_label(own, "t"))
    draw_profiles(below, own, name, order, u, u0, truth)


def _draw_plane(figure: Any, own: Prediction, index: int, names: list[str], truth: np.ndarray | None) -> None:
    t, u = to_numpy(own.t), trajectory(own, own.u, index, names)
    order = np.argsort(t, kind="stable")
    estimate = trajectory(own, own.estimated_error_field, index, names)
    rows = snapshot_rows([row for row in order if np.isfinite(u[row]).all()], _NUM_SNAPSHOTS - (truth is not None))
    last = rows[-1] if rows else order[-1]
    at = time_label(own, t[last])
    errors = [(estimate[last], f"Estimated error,  {at}")]
    if truth is not None:
        errors.append((u[last] - truth[last], f"True error,  {at}"))
    left, right = figure.subfigures(1, 2, width_ratios=(len(rows) or 1, len(errors) + 0.15))
    shown = [(u[row], f"{own.symbol},  {time_label(own, t[row])}") for row in rows]
    draw_snapshots(left, own, names, shown, scale(own, *(values for values, _ in shown)), 1)
    draw_snapshots(right, own, names, errors, difference_scale(*(values for values, _ in errors)), 1)
