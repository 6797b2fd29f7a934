"""What all figures share: colours, labels, scales, maps; needs matplotlib, opens no window."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from ..files import atomic_path
from ..text import number, percent, shown_unit, unit_of

if TYPE_CHECKING:
    from ..prediction.prediction import Prediction

SUFFIXES = (".png", ".pdf", ".svg")
ACCENT, SECOND, MUTED = "#1f5a96", "#b5452c", "#5b6570"
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
    """(time, *names[, field]) of one trajectory: axes with a single point are left out."""
    values = to_numpy(fields)[index]
    last = values.shape[1 + len(prediction.points) :]
    return values.reshape(len(values), *(len(prediction.points[name]) for name in names), *last)


def unit(prediction: Prediction, name: str) -> str:
    """As it stands in a label: nothing for dimensionless quantities."""
    return shown_unit(prediction.units.get(name, ""))


def axis_label(prediction: Prediction, name: str) -> str:
    """A coordinate's name, or the field's symbol for "u", with its unit."""
    own = unit(prediction, name)
    symbol = prediction.symbol if name == "u" else name
    return f"{symbol} [{own}]" if own else symbol


def time_label(prediction: Prediction, time: float) -> str:
    """As in "t = 2.5 s"."""
    digits = 3 if abs(time) < 100 else 4
    return f"t = {time:.{digits}g}{unit_of(unit(prediction, 't'))}"


def snapshot_rows(rows: list[int], count: int) -> list[int]:
    """At most ``count`` of the rows, the first and the last among them."""
    places = np.unique(np.round(np.linspace(0, len(rows) - 1, min(count, len(rows)))).astype(int))
    return [rows[place] for place in places]


def symmetric_limit(values: np.ndarray, quantile: float = 0.995) -> float:
    """The largest magnitude of the finite values but for a few extremes, never zero."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.quantile(finite, quantile)) or float(finite.max()) or 1.0


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


def parameter_line(prediction: Prediction, index: int) -> str:
    """The physical parameters of a trajectory, as in "nu = 1e-4"."""
    parts = []
    numbers = {key: values for key, values in prediction.parameters.items() if values.ndim == 1}
    for key, values in numbers.items():
        parts.append(f"{key} = {number(float(to_numpy(values)[index]))}{unit_of(prediction.units.get(key, ''))}")
    return ",  ".join(parts)


def headline(figure: Any, prediction: Prediction, index: int) -> None:
    """The title of a figure: report, parameters and, where there is one, the trajectory's message."""
    lines = [report_line(prediction, index), parameter_line(prediction, index), prediction.messages[index]]
    is_reliable = bool(to_numpy(prediction.is_reliable)[index])
    figure.suptitle("\n".join(filter(None, lines)), fontsize=12, color="#2a2f34" if is_reliable else SECOND)


def scale(prediction: Prediction, *fields: np.ndarray) -> dict[str, Any]:
    """Colour map and limits for fields of u: diverging about zero where the problem's states have both signs."""
    finite = np.concatenate([np.zeros(0), *(values[np.isfinite(values)] for values in fields)])
    if prediction.symbol in prediction.signed_fields:
        limit = symmetric_limit(finite, 1.0) if len(finite) else 1.0
        return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    return {"cmap": "viridis", "vmin": low, "vmax": high}


def difference_scale(*fields: np.ndarray) -> dict[str, Any]:
    """Colour map and limits for errors and residuals, about zero; a few extremes exceed them."""
    finite = np.concatenate([values[np.isfinite(values)] for values in fields])
    limit = symmetric_limit(finite) if len(finite) else 1.0
    return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}


def draw_map(figure: Any, axes: Any, x, y, values, title: str, colours: dict[str, Any], unit: str) -> None:
    """One field (y, x) with its colour bar."""
    finite = values[np.isfinite(values)]
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.set_xlim(*cell_limits(x))
    axes.set_ylim(*cell_limits(y))
    if not len(finite):
        axes.text(0.5, 0.5, "failed: no values", transform=axes.transAxes, ha="center", va="center", color=SECOND)
        return
    is_about_zero = colours["vmin"] == -colours["vmax"]
    extend = "both" if np.abs(finite).max() > 1.001 * abs(colours["vmax"]) and is_about_zero else "neither"
    mesh = axes.pcolormesh(x, y, values, shading="nearest", rasterized=True, **colours)
    bar = figure.colorbar(mesh, ax=axes, extend=extend, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    if unit:
        bar.set_label(f"[{unit}]")
    if is_about_zero:
        bar.formatter.set_powerlimits((-2, 3))
        bar.update_ticks()


def grid(axes: Any, which: str = "major") -> None:
    """Thin lines behind the curves."""
    axes.grid(color="#e4e7ea", linewidth=0.8, which=which)
    axes.set_axisbelow(True)


def write(figure: Any, path: Path) -> None:
    """Writes a figure, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())
