"""Figures of predictions; needs matplotlib, opens no window."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .line import draw_line
from .plane import draw_plane
from .steady import draw_steady
from .style import STYLE, check_suffix, check_trajectory, require_matplotlib, trajectory, wide_axes, write
from .system import draw_system

if TYPE_CHECKING:
    from ..prediction.prediction import Prediction


def plot_prediction(
    prediction: Prediction,
    index: int = 0,
    path: str | os.PathLike | None = None,
    truth: Any = None,
    field: str | None = None,
) -> Any:
    """Draws one trajectory with its estimated error.

    In one space dimension: maps over (x, t) of u, residual and estimated error, and profiles of u at several
    times. In two: snapshots of u, the estimated error at the end, and, on periodic axes, shell spectra. Beside a
    truth also that and the true error. Of a system each field has a row: its values, their estimated error and, beside
    a truth, the true one.

    Args:
        prediction: of a problem in one or two space dimensions.
        index: trajectory.
        path: .png, .pdf or .svg to write; nothing is written if None.
        truth: (batch, time, *space[, field]) at the same times and points, if it is known.
        field: of a system, to draw alone.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: no matplotlib, no such trajectory, a truth of another shape, or the file cannot be written.
    """
    require_matplotlib()
    path = None if path is None else check_suffix(path)
    import matplotlib

    check_trajectory(prediction, index)
    if field is not None:
        prediction.of_field(field)  # there is one
    names = wide_axes(prediction)
    if len(names) > 2:
        raise ValueError(f"plots show one or two space dimensions; this field has {len(names)}")
    own = None
    if truth is not None:
        if np.shape(truth) != np.shape(prediction.u):
            raise ValueError(f"truth must have the shape of u, {np.shape(prediction.u)}, got {np.shape(truth)}")
        own = trajectory(prediction, truth, index, names)
        if field is not None and prediction.is_system:
            own = own[..., prediction.fields.index(field)]
    if field is not None:
        prediction = prediction.of_field(field)
    is_steady = len(prediction.t) == 1 and "t" not in prediction.units
    draw_field = (draw_steady if is_steady else draw_plane) if len(names) == 2 else draw_line
    draw = draw_system if prediction.is_system else draw_field
    with matplotlib.rc_context(STYLE):
        figure = draw(prediction, index, names, own)
        if path is not None:
            write(figure, path)
    return figure
