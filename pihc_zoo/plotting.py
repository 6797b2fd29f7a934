"""Figures of predictions and training runs; needs matplotlib, opens no window."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .prediction import Prediction, atomic_path, to_numpy

SUFFIXES = (".png", ".pdf", ".svg")
_NUM_PROFILES = 6
_ACCENT, _SECOND, _MUTED = "#1f5a96", "#b5452c", "#5b6570"
_STYLE = {
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
    """Maps over (x, t) of u, residual and estimated error, and profiles of u at several times.

    Args:
        prediction: of a problem in one space dimension.
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

    fields = to_numpy(prediction.u)
    if not -len(fields) <= index < len(fields):
        raise ValueError(f"there is no trajectory {index}; the prediction has {len(fields)}, counted from 0")
    if fields.ndim != 3:
        raise ValueError(f"plots show one space dimension; this field has {fields.ndim - 2}")
    t, x = to_numpy(prediction.t), to_numpy(prediction.x)
    u = fields[index]
    has_map = len(t) > 1 and len(x) > 1
    with matplotlib.rc_context(_STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 7.6 if has_map else 4.4), layout="constrained", dpi=130)
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.06)
        _headline(figure, prediction, index)
        if has_map:
            upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
            maps = (
                (u, "Prediction u", "viridis", False, _unit(prediction, "u")),
                (to_numpy(prediction.residual_field)[index], "Mapped residual", "RdBu_r", True, _unit(prediction, "u")),
                (
                    to_numpy(prediction.estimated_error_field)[index],
                    "Estimated error, u − u_true",
                    "RdBu_r",
                    True,
                    _unit(prediction, "u"),
                ),
            )
            for axes, (values, title, colours, is_signed, unit) in zip(upper.subplots(1, 3), maps, strict=True):
                _map(upper, axes, x, t, values, title, colours, is_signed, unit)
                axes.set_xlabel(_label(prediction, "x"))
                axes.set_ylabel(_label(prediction, "t"))
            axes = lower.subplots(1, 1)
        else:
            axes = figure.subplots(1, 1)
        _profiles(axes, prediction, x, t, u, to_numpy(prediction.u0)[index])
        if path is not None:
            _write(figure, path)
    return figure


def _unit(prediction: Prediction, name: str) -> str:
    unit = prediction.units.get(name, "")
    return "" if unit == "dimensionless" else unit


def _label(prediction: Prediction, name: str) -> str:
    unit = _unit(prediction, name)
    return f"{name} [{unit}]" if unit else name


def _extent(x: np.ndarray) -> tuple[float, float]:
    """From the outer face of the first cell to that of the last; ``x`` are cell centres."""
    return x[0] - (x[1] - x[0]) / 2, x[-1] + (x[-1] - x[-2]) / 2


def _headline(figure: Any, prediction: Prediction, index: int) -> None:
    parts = [prediction.model or "surrogate", f"trajectory {index}"]
    estimate = float(to_numpy(prediction.estimated_error)[index])
    parts.append(f"estimated error {_percent(estimate)}" if np.isfinite(estimate) else "no estimate")
    is_reliable = bool(to_numpy(prediction.is_reliable)[index])
    message = prediction.messages[index] if prediction.messages else ""
    parts.append("reliable" if is_reliable else "NOT reliable")
    title = "   ·   ".join(parts)
    if message:
        title += f"\n{message}"
    figure.suptitle(title, fontsize=13, fontweight="bold", color="#2a2f34" if is_reliable else _SECOND)


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def _map(figure: Any, axes: Any, x, t, values, title: str, colours: str, is_signed: bool, unit: str) -> None:
    """One field over (x, t); signed fields get a symmetric scale that a few extremes may exceed."""
    finite = values[np.isfinite(values)]
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.set_xlim(*_extent(x))
    axes.set_ylim(t.min(), t.max())
    if not len(finite):
        axes.text(0.5, 0.5, "failed: no values", transform=axes.transAxes, ha="center", va="center", color=_SECOND)
        return
    options: dict[str, Any] = {"vmin": finite.min(), "vmax": finite.max()}
    extend = "neither"
    if is_signed:
        largest = np.abs(finite).max()
        limit = float(np.quantile(np.abs(finite), 0.995)) or float(largest) or 1.0
        options = {"vmin": -limit, "vmax": limit}
        extend = "both" if largest > 1.001 * limit else "neither"
    order = np.argsort(t, kind="stable")
    mesh = axes.pcolormesh(x, t[order], values[order], cmap=colours, shading="nearest", rasterized=True, **options)
    bar = figure.colorbar(mesh, ax=axes, extend=extend, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    if unit:
        bar.set_label(f"[{unit}]")
    if is_signed:
        bar.formatter.set_powerlimits((-2, 3))
        bar.update_ticks()


def _profiles(axes: Any, prediction: Prediction, x, t, u, u0) -> None:
    """u over x at a few times, or over t where there is one point."""
    import matplotlib

    if not np.isfinite(u).any():
        axes.set_title("Initial condition")
        if np.isfinite(u0).any() and len(u0) == len(x):
            axes.plot(x, u0, color=_MUTED, linewidth=1.8)
    elif len(x) == 1:
        order = np.argsort(t, kind="stable")
        axes.plot(t[order], u[order, 0], "o-" if len(t) < 40 else "-", color=_ACCENT)
        axes.set_xlabel(_label(prediction, "t"))
        axes.set_title(f"u at x = {x[0]:.4g} {_unit(prediction, 'x')}")
    else:
        order = np.argsort(t, kind="stable")
        spaced = np.linspace(0, 1, min(_NUM_PROFILES, len(t))) ** 2  # solutions change fast at first
        rows = np.unique(np.round(spaced * (len(t) - 1)).astype(int))
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
        for row, colour in zip(order[rows], colours, strict=True):
            label = f"t = {t[row]:.4g} {_unit(prediction, 't')}"
            axes.plot(x, u[row], color=colour, linewidth=1.8, label=label)
        axes.set_xlim(*_extent(x))
        axes.set_xlabel(_label(prediction, "x"))
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_title("Profiles of u")
    axes.set_ylabel(_label(prediction, "u"))
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
    with matplotlib.rc_context(_STYLE):
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
