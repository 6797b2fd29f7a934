"""Figures of fields over two space axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from .style import (
    SECOND,
    axis_label,
    cell_limits,
    difference_scale,
    draw_map,
    grid,
    headline,
    scale,
    snapshot_rows,
    time_label,
    trajectory,
    unit,
)

if TYPE_CHECKING:
    from ..prediction.prediction import Prediction

NUM_SNAPSHOTS = 5
_SPECTRAL_RANGE = 1e-11  # lowest value of a spectrum that is drawn, of the highest


def draw_plane(prediction: Prediction, index: int, names: list[str], truth: np.ndarray | None) -> Any:
    """Snapshots, estimated error, spectra, and the truth (time, *space) where it is known; see `plot_prediction`."""
    import matplotlib
    from matplotlib.figure import Figure

    t, u = to_numpy(prediction.t), trajectory(prediction, prediction.u, index, names)
    order = np.argsort(t, kind="stable")
    known = [row for row in order if np.isfinite(u[row]).all()]
    rows = snapshot_rows(known, NUM_SNAPSHOTS)
    has_truth = truth is not None and bool(rows)
    figure = Figure(figsize=(13, 13.4 if has_truth else 7.6), layout="constrained", dpi=130)
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.05, hspace=0.05)
    headline(figure, prediction, index)
    *parts, lower = figure.subfigures(4 if has_truth else 2, 1, height_ratios=(*[1] * (3 if has_truth else 1), 1.25))
    symbol = prediction.symbol
    shown = [(u[row], f"{symbol},  {time_label(prediction, t[row])}") for row in rows]
    if not rows:
        shown = [(to_numpy(prediction.u0)[index], f"Initial condition {symbol}")]
    fields = [values for values, _ in shown]
    if has_truth:
        true = [(truth[row], f"truth,  {time_label(prediction, t[row])}") for row in rows]
        wrong = [(u[row] - truth[row], f"{symbol} − {symbol}_true,  {time_label(prediction, t[row])}") for row in rows]
        fields += [values for values, _ in true]
        draw_snapshots(parts[1], prediction, names, true, scale(prediction, *fields))
        draw_snapshots(parts[2], prediction, names, wrong, difference_scale(*(values for values, _ in wrong)))
    draw_snapshots(parts[0], prediction, names, shown, scale(prediction, *fields))
    error = trajectory(prediction, prediction.estimated_error_field, index, names)
    last = rows[-1] if rows else order[-1]
    left, *panels = lower.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    x, y = (to_numpy(prediction.points[name]) for name in names)
    title = f"Estimated error at {time_label(prediction, t[last])}"
    draw_map(lower, left, x, y, error[last].T, title, difference_scale(error[last]), unit(prediction, "u"))
    _square(left, prediction, names)
    spectra = _spectra(prediction, to_numpy(prediction.u)[index, rows]) if rows else []
    true_spectra = _spectra(prediction, truth[rows]) if has_truth else []
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
    for i, (axes, (title, label, curves)) in enumerate(zip(panels, spectra, strict=False)):
        for row, colour, curve in zip(rows, colours, curves, strict=True):
            axes.loglog(*curve, color=colour, linewidth=1.8, label=time_label(prediction, t[row]))
        for curve in true_spectra[i][2] if true_spectra else ():
            axes.loglog(*curve, ":", color="black", linewidth=1.0)
        if true_spectra:
            axes.plot([], [], ":", color="black", linewidth=1.0, label="truth")
        highest = max((curve[1].max() for curve in curves), default=0.0)
        if highest > 0:
            axes.set_ylim(max(axes.get_ylim()[0], _SPECTRAL_RANGE * highest), 3 * highest)
        axes.set_title(title)
        axes.set_xlabel("wave number k / 2π")
        axes.set_ylabel(label)
        grid(axes)
    if spectra:
        panels[0].legend(frameon=False, loc="lower left")
    for axes in panels[len(spectra) :]:
        axes.set_axis_off()
    return figure


def _square(axes: Any, prediction: Prediction, names: list[str], is_first: bool = True) -> None:
    """Equal scales and axis labels of a map over two axes."""
    axes.set_aspect("equal")
    axes.locator_params(nbins=4)
    axes.set_xlabel(axis_label(prediction, names[0]))
    if is_first:
        axes.set_ylabel(axis_label(prediction, names[1]))
    else:
        axes.tick_params(labelleft=False)


def draw_snapshots(
    figure: Any,
    prediction: Prediction,
    names: list[str],
    shown: list[tuple[np.ndarray, str]],
    colours: dict[str, Any],
    count: int = NUM_SNAPSHOTS,
) -> None:
    """Fields on one scale, side by side."""
    panels = np.atleast_1d(figure.subplots(1, max(len(shown), count)))
    positions = [to_numpy(prediction.points[name]) for name in names]
    sizes = tuple(map(len, positions))
    if not any(np.isfinite(values).any() and values.shape == sizes for values, _ in shown):
        shown = []
    for i, (axes, (values, title)) in enumerate(zip(panels, shown, strict=False)):
        mesh = axes.pcolormesh(*positions, values.T, shading="nearest", rasterized=True, **colours)
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        axes.set_xlim(*cell_limits(positions[0]))
        axes.set_ylim(*cell_limits(positions[1]))
        _square(axes, prediction, names, i == 0)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    if shown:
        bar = figure.colorbar(mesh, ax=list(panels[: len(shown)]), pad=0.01, aspect=22, shrink=0.8)
        bar.outline.set_visible(False)
        bar.set_label(axis_label(prediction, "u"))
    else:
        panels[0].text(0, 0.5, "failed: no values", transform=panels[0].transAxes, color=SECOND)


def _spectra(prediction: Prediction, fields: np.ndarray) -> list[tuple[str, str, list]]:
    """Title, label and a curve per field of each shell spectrum; none where the axes are not periodic."""
    from ..spectra import check_periodic_grid, derivative, shell_spectrum

    points = {name: to_numpy(values) for name, values in prediction.points.items()}
    try:
        lengths = check_periodic_grid(points, prediction.periods)
    except ValueError:
        return []
    symbol = prediction.symbol
    velocity = [feature for name, feature in prediction.diagnostics.items() if name.startswith("velocity_")]
    own = [shell_spectrum(field, lengths) for field in fields]
    if not velocity:
        return [(f"Spectrum of {symbol}", f"½ |{symbol}|²", own)]
    energy = []
    for field in fields:
        parts = [
            shell_spectrum(
                derivative(field, lengths, [feature.orders.get(name, 0) for name in points], feature.laplacian, factor),
                lengths,
            )
            for factor, feature in velocity
        ]
        energy.append((parts[0][0], sum(values for _, values in parts)))
    return [("Energy spectrum", "½ |velocity|²", energy), ("Enstrophy spectrum", f"½ |{symbol}|²", own)]
