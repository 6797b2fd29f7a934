"""Figures of predictions and training runs; needs matplotlib, opens no window."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .files import atomic_path
from .prediction import Prediction, to_numpy
from .text import percent, shown_unit, unit_of

SUFFIXES = (".png", ".pdf", ".svg")
_NUM_PROFILES = 6
_NUM_SNAPSHOTS = 5
_SPECTRAL_RANGE = 1e-11  # lowest value of a spectrum that is drawn, of the highest
_ACCENT, _SECOND, _MUTED = "#1f5a96", "#b5452c", "#5b6570"
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a939c",
    "xtick.color": "#444b52",
    "ytick.color": "#444b52",
    "axes.labelcolor": "#2a2f34",
}


def require_matplotlib() -> None:
    """Raises ValueError with the remedy if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ValueError('plots need matplotlib; install it with: pip install "pihc_zoo[plot]"') from None


def check_suffix(path: str | os.PathLike) -> Path:
    """``path`` if figures can be written in its format, ValueError otherwise."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot must end in {', '.join(SUFFIXES)}; got {str(path)!r}")
    return path


def plot_prediction(prediction: Prediction, index: int = 0, path: str | os.PathLike | None = None) -> Any:
    """Draws one trajectory with its estimated error.

    In one space dimension: maps over (x, t) of u, residual and estimated error, and profiles of u at several
    times. In two: snapshots of u, the estimated error at the end, and, on periodic axes, shell spectra.

    Args:
        prediction: of a problem in one or two space dimensions.
        index: trajectory.
        path: .png, .pdf or .svg to write; nothing is written if None.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: no matplotlib, no such trajectory, or the file cannot be written.
    """
    require_matplotlib()
    path = None if path is None else check_suffix(path)
    import matplotlib

    check_trajectory(prediction, index)
    names = wide_axes(prediction)
    if len(names) > 2:
        raise ValueError(f"plots show one or two space dimensions; this field has {len(names)}")
    with matplotlib.rc_context(STYLE):
        figure = (_draw_plane if len(names) == 2 else _draw_line)(prediction, index, names)
        if path is not None:
            _write(figure, path)
    return figure


def check_trajectory(prediction: Prediction, index: int) -> None:
    """Raises ValueError if there is no trajectory ``index``."""
    count = len(prediction.u)
    if not -count <= index < count:
        raise ValueError(f"there is no trajectory {index}; the prediction has {count}, counted from 0")


def wide_axes(prediction: Prediction) -> list[str]:
    """The axes along which there is more than one output point; the first axis if there is none."""
    names = [name for name, points in prediction.points.items() if len(points) > 1]
    return names or list(prediction.points)[:1]


def trajectory(prediction: Prediction, fields: Any, index: int, names: list[str]) -> np.ndarray:
    """(time, *names) of one trajectory: axes with a single point are left out."""
    values = to_numpy(fields)[index]
    return values.reshape(len(values), *(len(prediction.points[name]) for name in names))


def _draw_line(prediction: Prediction, index: int, names: list[str]) -> Any:
    from matplotlib.figure import Figure

    (name,) = names
    t, x = to_numpy(prediction.t), to_numpy(prediction.points[name])
    u = trajectory(prediction, prediction.u, index, names)
    has_map = len(t) > 1 and len(x) > 1
    figure = Figure(figsize=(13, 7.6 if has_map else 4.4), layout="constrained", dpi=130)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.06)
    _headline(figure, prediction, index)
    if has_map:
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
        residual, error = (
            trajectory(prediction, fields, index, names)
            for fields in (prediction.residual_field, prediction.estimated_error_field)
        )
        symbol, unit = prediction.symbol, _unit(prediction, "u")
        order = np.argsort(t, kind="stable")
        maps = (
            (u, f"Prediction {symbol}", "viridis", False),
            (residual, "Mapped residual", "RdBu_r", True),
            (error, f"Estimated error, {symbol} − {symbol}_true", "RdBu_r", True),
        )
        for axes, (values, title, colours, is_signed) in zip(upper.subplots(1, 3), maps, strict=True):
            _map(upper, axes, x, t[order], values[order], title, colours, is_signed, unit)
            axes.set_ylim(t.min(), t.max())
            axes.set_xlabel(axis_label(prediction, name))
            axes.set_ylabel(axis_label(prediction, "t"))
        axes = lower.subplots(1, 1)
    else:
        axes = figure.subplots(1, 1)
    _profiles(axes, prediction, name, x, t, u, to_numpy(prediction.u0)[index])
    return figure


def _draw_plane(prediction: Prediction, index: int, names: list[str]) -> Any:
    import matplotlib
    from matplotlib.figure import Figure

    t, u = to_numpy(prediction.t), trajectory(prediction, prediction.u, index, names)
    order = np.argsort(t, kind="stable")
    known = [row for row in order if np.isfinite(u[row]).all()]
    rows = snapshot_rows(known, _NUM_SNAPSHOTS)
    figure = Figure(figsize=(13, 7.4), layout="constrained", dpi=130)
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.05, hspace=0.05)
    _headline(figure, prediction, index)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    shown = [(u[row], f"{prediction.symbol},  {time_label(prediction, t[row])}") for row in rows]
    if not rows:
        shown = [(to_numpy(prediction.u0)[index], f"Initial condition {prediction.symbol}")]
    _snapshots(upper, prediction, names, shown)
    error = trajectory(prediction, prediction.estimated_error_field, index, names)
    last = rows[-1] if rows else order[-1]
    left, *panels = lower.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    x, y = (to_numpy(prediction.points[name]) for name in names)
    title = f"Estimated error at {time_label(prediction, t[last])}"
    _map(lower, left, x, y, error[last].T, title, "RdBu_r", True, _unit(prediction, "u"))
    _square(left, prediction, names)
    spectra = _spectra(prediction, index, rows) if rows else []
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
    for axes, (title, label, curves) in zip(panels, spectra, strict=False):
        for row, colour, curve in zip(rows, colours, curves, strict=True):
            axes.loglog(*curve, color=colour, linewidth=1.8, label=time_label(prediction, t[row]))
        highest = max((curve[1].max() for curve in curves), default=0.0)
        if highest > 0:
            axes.set_ylim(max(axes.get_ylim()[0], _SPECTRAL_RANGE * highest), 3 * highest)
        axes.set_title(title)
        axes.set_xlabel("wave number k / 2π")
        axes.set_ylabel(label)
        axes.grid(color="#e4e7ea", linewidth=0.8)
        axes.set_axisbelow(True)
    if spectra:
        panels[0].legend(frameon=False, loc="lower left")
    for axes in panels[len(spectra) :]:
        axes.set_axis_off()
    return figure


def _unit(prediction: Prediction, name: str) -> str:
    return shown_unit(prediction.units.get(name, ""))


def axis_label(prediction: Prediction, name: str) -> str:
    """A coordinate's name, or the field's symbol for "u", with its unit."""
    unit = _unit(prediction, name)
    symbol = prediction.symbol if name == "u" else name
    return f"{symbol} [{unit}]" if unit else symbol


def time_label(prediction: Prediction, time: float) -> str:
    """As in "t = 2.5 s"."""
    digits = 3 if abs(time) < 100 else 4
    return f"t = {time:.{digits}g}{unit_of(_unit(prediction, 't'))}"


def snapshot_rows(rows: list[int], count: int) -> list[int]:
    """At most ``count`` of the rows, the first and the last among them."""
    places = np.unique(np.round(np.linspace(0, len(rows) - 1, min(count, len(rows)))).astype(int))
    return [rows[place] for place in places]


def symmetric_limit(values: np.ndarray, quantile: float = 0.995) -> float:
    """The largest magnitude of the finite values but for a few extremes, never zero."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.quantile(finite, quantile)) or float(finite.max()) or 1.0


def _square(axes: Any, prediction: Prediction, names: list[str], is_first: bool = True) -> None:
    """Equal scales and axis labels of a map over two axes."""
    axes.set_aspect("equal")
    axes.locator_params(nbins=4)
    axes.set_xlabel(axis_label(prediction, names[0]))
    if is_first:
        axes.set_ylabel(axis_label(prediction, names[1]))
    else:
        axes.tick_params(labelleft=False)


def _snapshots(figure: Any, prediction: Prediction, names: list[str], shown: list[tuple[np.ndarray, str]]) -> None:
    """Fields on one symmetric scale, side by side."""
    panels = np.atleast_1d(figure.subplots(1, max(len(shown), _NUM_SNAPSHOTS)))
    stacked = np.stack([values for values, _ in shown])
    positions = [to_numpy(prediction.points[name]) for name in names]
    if not np.isfinite(stacked).any() or stacked.shape[1:] != tuple(map(len, positions)):
        shown = []
    limit = symmetric_limit(stacked, 1.0) if shown else 1.0
    for i, (axes, (values, title)) in enumerate(zip(panels, shown, strict=False)):
        mesh = axes.pcolormesh(
            *positions, values.T, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest", rasterized=True
        )
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
        panels[0].text(0, 0.5, "failed: no values", transform=panels[0].transAxes, color=_SECOND)


def _spectra(prediction: Prediction, index: int, rows: list[int]) -> list[tuple[str, str, list]]:
    """Title, label and a curve per row of each shell spectrum; none where the axes are not periodic."""
    from .spectra import check_periodic_grid, derivative, shell_spectrum

    points = {name: to_numpy(values) for name, values in prediction.points.items()}
    try:
        lengths = check_periodic_grid(points, prediction.periods)
    except ValueError:
        return []
    fields = to_numpy(prediction.u)[index, rows]
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


def cell_limits(x: np.ndarray) -> tuple[float, float]:
    """From the outer face of the first cell to that of the last; ``x`` are cell centres."""
    return x[0] - (x[1] - x[0]) / 2, x[-1] + (x[-1] - x[-2]) / 2


def report_line(prediction: Prediction, index: int) -> str:
    """Model, trajectory, estimated error and reliability in one line."""
    parts = [prediction.model or "surrogate", f"trajectory {index}"]
    estimate = float(to_numpy(prediction.estimated_error)[index])
    parts.append(f"estimated error {percent(estimate)}" if np.isfinite(estimate) else "no estimate")
    parts.append("reliable" if to_numpy(prediction.is_reliable)[index] else "NOT reliable")
    return "   ·   ".join(parts)


def _headline(figure: Any, prediction: Prediction, index: int) -> None:
    title = report_line(prediction, index)
    if prediction.messages[index]:
        title += f"\n{prediction.messages[index]}"
    is_reliable = bool(to_numpy(prediction.is_reliable)[index])
    figure.suptitle(title, fontsize=13, fontweight="bold", color="#2a2f34" if is_reliable else _SECOND)


def _map(figure: Any, axes: Any, x, y, values, title: str, colours: str, is_signed: bool, unit: str) -> None:
    """One field (y, x); signed fields get a symmetric scale that a few extremes may exceed."""
    finite = values[np.isfinite(values)]
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.set_xlim(*cell_limits(x))
    axes.set_ylim(*cell_limits(y))
    if not len(finite):
        axes.text(0.5, 0.5, "failed: no values", transform=axes.transAxes, ha="center", va="center", color=_SECOND)
        return
    options: dict[str, Any] = {"vmin": finite.min(), "vmax": finite.max()}
    extend = "neither"
    if is_signed:
        limit = symmetric_limit(finite)
        options = {"vmin": -limit, "vmax": limit}
        extend = "both" if np.abs(finite).max() > 1.001 * limit else "neither"
    mesh = axes.pcolormesh(x, y, values, cmap=colours, shading="nearest", rasterized=True, **options)
    bar = figure.colorbar(mesh, ax=axes, extend=extend, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    if unit:
        bar.set_label(f"[{unit}]")
    if is_signed:
        bar.formatter.set_powerlimits((-2, 3))
        bar.update_ticks()


def _profiles(axes: Any, prediction: Prediction, name: str, x, t, u, u0) -> None:
    """u over one axis at a few times, or over t where there is one point."""
    import matplotlib

    if not np.isfinite(u).any():
        axes.set_title("Initial condition")
        if np.isfinite(u0).any() and u0.shape == x.shape:
            axes.plot(x, u0, color=_MUTED, linewidth=1.8)
    elif len(x) == 1:
        order = np.argsort(t, kind="stable")
        axes.plot(t[order], u[order, 0], "o-" if len(t) < 40 else "-", color=_ACCENT)
        axes.set_xlabel(axis_label(prediction, "t"))
        axes.set_title(f"{prediction.symbol} at {name} = {x[0]:.4g}{unit_of(_unit(prediction, name))}")
    else:
        order = np.argsort(t, kind="stable")
        spaced = np.linspace(0, 1, min(_NUM_PROFILES, len(t))) ** 2  # solutions change fast at first
        rows = np.unique(np.round(spaced * (len(t) - 1)).astype(int))
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
        for row, colour in zip(order[rows], colours, strict=True):
            axes.plot(x, u[row], color=colour, linewidth=1.8, label=time_label(prediction, t[row]))
        axes.set_xlim(*cell_limits(x))
        axes.set_xlabel(axis_label(prediction, name))
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_title(f"Profiles of {prediction.symbol}")
    axes.set_ylabel(axis_label(prediction, "u"))
    axes.grid(color="#e4e7ea", linewidth=0.8)
    axes.set_axisbelow(True)


def plot_training(metrics: str | os.PathLike, path: str | os.PathLike) -> Path:
    """Loss and, where it was measured, validation error over the seconds of a training run.

    Args:
        metrics: metrics.jsonl with ``seconds``, ``loss`` and optionally ``error_mean``, ``error_max``.
        path: .png, .pdf or .svg to write.

    Raises:
        ValueError: no matplotlib, an unreadable log, or the file cannot be written.
    """
    require_matplotlib()
    path = check_suffix(path)
    import matplotlib

    try:
        lines = Path(metrics).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        seconds, loss = (np.array([float(record[key]) for record in records]) for key in ("seconds", "loss"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(metrics)!r} is not a training log ({error}); expected the metrics.jsonl of a run"
        ) from None
    if not records:
        raise ValueError(f"{str(metrics)!r} is empty; the run has not been validated yet")
    measured = [record for record in records if "error_mean" in record]
    with matplotlib.rc_context(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 6 if measured else 3.4), layout="constrained", dpi=130)
        panels = np.atleast_1d(figure.subplots(1 + bool(measured), 1, sharex=True))
        panels[0].plot(seconds, loss, "o-", color=_ACCENT, markersize=3.5)
        panels[0].set_title("Training loss")
        panels[0].set_ylabel("loss")
        if measured:
            at = [record["seconds"] for record in measured]
            for key, label, colour in (("error_mean", "mean", _ACCENT), ("error_max", "maximum", _SECOND)):
                panels[1].plot(at, [100 * r[key] for r in measured], "o-", color=colour, markersize=3.5, label=label)
            values = [r[key] for r in measured for key in ("error_mean", "error_max")]
            panels[1].set_yscale("log" if min(values) > 0 and max(values) > 10 * min(values) else "linear")
            panels[1].set_title("Relative L2 error on unseen initial conditions")
            panels[1].set_ylabel("error [%]")
            panels[1].legend(frameon=False)
        for axes in panels:
            axes.grid(color="#e4e7ea", linewidth=0.8, which="both")
            axes.set_axisbelow(True)
        panels[-1].set_xlabel("training time [s]")
        _write(figure, path)
    return path


def _write(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())
