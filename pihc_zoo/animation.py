"""Animated GIFs of predictions; needs matplotlib with pillow, opens no window."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import to_numpy
from .files import atomic_path
from .plotting.style import (
    STYLE,
    axis_label,
    cell_limits,
    check_trajectory,
    parameter_line,
    report_line,
    require_matplotlib,
    scale,
    time_label,
    trajectory,
    wide_axes,
)

if TYPE_CHECKING:
    from .prediction.prediction import Prediction

_WIDTH, _HEIGHT, _DPI = 5.4, 5.0, 80


def check_gif(path: str | os.PathLike, fps: int = 12) -> Path:
    """``path`` if animations can be written in its format.

    Raises:
        ValueError: another suffix, no positive ``fps``, or no matplotlib or pillow.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"an animation must end in .gif; got {str(path)!r}")
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    require_matplotlib()
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ValueError('animations need pillow; install it with: pip install "pihc_zoo[plot]"') from None
    return path


def animate_prediction(prediction: Prediction, index: int = 0, path: str | os.PathLike = "out.gif", fps: int = 12):
    """Writes one trajectory as a GIF, a frame per output time: a line in one space dimension, a map in two.

    The fields of a system stand side by side.

    A roll-out that failed ends with its last values.

    Args:
        prediction: with two output times or more.
        index: trajectory.
        path: .gif to write.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        ValueError: nothing to show, no matplotlib, no such trajectory, or the file cannot be written.
    """
    path = check_gif(path, fps)
    check_trajectory(prediction, index)
    names = [name for name in wide_axes(prediction) if len(prediction.points[name]) > 1]
    if len(names) not in (1, 2):
        raise ValueError(f"animations need one or two axes with several output points; this field has {len(names)}")
    parts = [prediction.of_field(name) for name in prediction.fields]
    t = to_numpy(prediction.t)
    fields = [trajectory(part, part.u, index, names) for part in parts]
    rows = [row for row in np.argsort(t, kind="stable") if all(np.isfinite(u[row]).all() for u in fields)]
    if len(rows) < 2:
        reason = prediction.messages[index] or "ask for more times"
        raise ValueError(f"trajectory {index} has values at {len(rows)} times, an animation needs two: {reason}")
    import matplotlib
    from matplotlib.animation import PillowWriter

    with matplotlib.rc_context(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH * len(parts), _HEIGHT), layout="constrained", dpi=_DPI)
        parameters = textwrap.fill(parameter_line(prediction, index), 95 * len(parts))
        figure.suptitle(f"{report_line(prediction, index).replace('   ·   ', ' · ')}\n{parameters}", fontsize=8)
        panels = figure.subplots(1, len(parts), squeeze=False)[0]
        start = _line if len(names) == 1 else _map
        draws = [start(figure, *own[:2], names, own[2][rows]) for own in zip(panels, parts, fields, strict=True)]
        writer = PillowWriter(fps=fps)
        with atomic_path(path) as temporary, writer.saving(figure, os.fspath(temporary), _DPI):
            for frame, row in enumerate(rows):
                panels[0].set_title(time_label(prediction, t[row]))
                for draw, u in zip(draws, fields, strict=True):
                    draw(u[row])
                writer.grab_frame()
                if frame == 0:  # the layout of the first frame is that of all
                    figure.set_layout_engine("none")
    return path


def _line(figure: Any, axes: Any, prediction: Prediction, names: list[str], u: np.ndarray) -> Any:
    """Draws the first frame; returns a function that draws another."""
    x = to_numpy(prediction.points[names[0]])
    axes.plot(x, u[0], color="#b4bbc2", linewidth=1.5)
    (line,) = axes.plot(x, u[0], color="#1f5a96", linewidth=2.0)
    margin = 0.05 * (u.max() - u.min()) or 0.1
    axes.set_xlim(*cell_limits(x))
    axes.set_ylim(u.min() - margin, u.max() + margin)
    axes.set_xlabel(axis_label(prediction, names[0]))
    axes.set_ylabel(axis_label(prediction, "u"))
    axes.grid(color="#e4e7ea", linewidth=0.8)
    axes.set_axisbelow(True)
    return line.set_ydata


def _map(figure: Any, axes: Any, prediction: Prediction, names: list[str], u: np.ndarray) -> Any:
    x, y = (to_numpy(prediction.points[name]) for name in names)
    mesh = axes.pcolormesh(x, y, u[0].T, shading="nearest", rasterized=True, **scale(prediction, u))
    axes.spines[:].set_visible(False)
    axes.set_xlim(*cell_limits(x))
    axes.set_ylim(*cell_limits(y))
    axes.set_aspect("equal")
    axes.set_xlabel(axis_label(prediction, names[0]))
    axes.set_ylabel(axis_label(prediction, names[1]))
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=28, shrink=0.85)
    bar.outline.set_visible(False)
    bar.set_label(axis_label(prediction, "u"))
    return lambda values: mesh.set_array(values.T)
