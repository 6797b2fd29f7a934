"""Figures of steady fields over two space axes: what was given, the solution, its estimated error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from .style import axis_label, difference_scale, draw_map, headline, scale, trajectory, unit

if TYPE_CHECKING:
    from ..prediction.prediction import Prediction


def draw_steady(prediction: Prediction, index: int, names: list[str], truth: np.ndarray | None) -> Any:
    """Coefficient fields, u, where it is known the truth (1, *space) and the difference, and the estimated error."""
    from matplotlib.figure import Figure

    u, symbol, label = trajectory(prediction, prediction.u, index, names)[0], prediction.symbol, unit(prediction, "u")
    x, y = (to_numpy(prediction.points[name]) for name in names)
    given = {key: to_numpy(value)[index] for key, value in prediction.parameters.items() if np.ndim(value) > 1}
    both = scale(prediction, u) if truth is None else scale(prediction, u, truth[0])
    panels = [(own, key, scale(prediction, own), unit(prediction, key)) for key, own in given.items()]
    panels.append((u, symbol, both, label))
    if truth is not None:
        panels.append((truth[0], f"{symbol}, truth", both, label))
        panels.append((u - truth[0], f"{symbol} − {symbol}_true", difference_scale(u - truth[0]), label))
    error = trajectory(prediction, prediction.estimated_error_field, index, names)[0]
    panels.append((error, "Estimated error", difference_scale(error), label))
    panels = [own for own in panels if own[0].shape == (len(x), len(y))]
    figure = Figure(figsize=(4.4 * len(panels), 4.6), layout="constrained", dpi=130)
    headline(figure, prediction, index)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for i, (axes, (values, title, colours, own_unit)) in enumerate(zip(all_axes, panels, strict=True)):
        draw_map(figure, axes, x, y, values.T, title, colours, own_unit)
        axes.set_aspect("equal")
        axes.locator_params(nbins=4)
        axes.set_xlabel(axis_label(prediction, names[0]))
        axes.set_ylabel(axis_label(prediction, names[1]) if i == 0 else "")
    return figure
