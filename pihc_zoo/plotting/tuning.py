"""The figure of a fine-tuning."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..text import percent
from .style import ACCENT, MUTED, SECOND, STYLE, check_suffix, grid, require_matplotlib, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_tuning(history: Any, path: str | os.PathLike | None = None) -> Figure:
    """Error on the watched part over the steps; error of each of its trajectories before and after.

    Args:
        history: a `learning.history.History`.
        path: .png, .pdf or .svg to write.

    Raises:
        ValueError: no matplotlib, or the file cannot be written.
    """
    require_matplotlib()
    target = None if path is None else check_suffix(path)
    import matplotlib

    with matplotlib.rc_context(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=130)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        _over_steps(left, history)
        _per_trajectory(right, history)
        words = "unchanged" if not history.is_improved else f"{history.factor:.2g} times less"
        before, after = (percent(getattr(m, history.criterion), digits=3) for m in (history.before, history.after))
        name = history.base_model or "surrogate"
        figure.suptitle(
            f"{name}, fine-tuned  ·  {history.part} {history.kind} {before} → {after}  ({words})",
            fontsize=12,
            color="#2a2f34",
        )
        if target is not None:
            write(figure, target)
    return figure


def _over_steps(axes: Any, history: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    key = history.criterion
    start = history.start or history.before
    steps = [0, *(row["step"] for row in history.steps)]
    values = 100 * np.array([getattr(start, key), *(row[key] for row in history.steps)])
    before = 100 * getattr(history.before, key)
    axes.axhline(before, color=MUTED, linewidth=1, linestyle=(0, (5, 3)))
    axes.annotate("before", (1, before), xycoords=("axes fraction", "data"), xytext=(-4, 4), textcoords="offset points",
                  ha="right", color=MUTED)  # fmt: skip
    axes.plot(steps, values, "o-", color=ACCENT, markersize=4, label=f"mean of {history.count}")
    if history.is_improved and np.isfinite(values).any():
        best = int(np.nanargmin(np.abs(values - 100 * getattr(history.after, key))))
        axes.plot(steps[best], values[best], "o", color=SECOND, markersize=9, fillstyle="none", markeredgewidth=1.6)
        axes.annotate("kept", (steps[best], values[best]), xytext=(0, -14), textcoords="offset points", ha="center",
                      color=SECOND)  # fmt: skip
    finite = np.append(values[np.isfinite(values)], before)
    if finite.min() > 0 and finite.max() > 4 * finite.min():
        axes.set_yscale("log")
        axes.set_ylim(finite.min() / 1.6, finite.max() * 1.4)
    else:
        room = 0.18 * (np.ptp(finite) or finite.max() or 1.0)
        axes.set_ylim(max(0.0, finite.min() - 1.4 * room), finite.max() + room)
    axes.set_title(f"{history.part.capitalize()} {history.kind}, mean of {history.count}")
    if history.settings:
        axes.annotate("changed settings, untuned", (0, values[0]), xytext=(8, 6), textcoords="offset points",
                      color=MUTED)  # fmt: skip
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"{history.kind} [%]")
    axes.margins(x=0.06)
    _plain(axes, "y")
    grid(axes, which="both")


def _per_trajectory(axes: Any, history: Any) -> None:
    before, after = (100 * np.array(own, dtype=float) for own in (history.errors_before, history.errors_after))
    axes.set_title("Each trajectory")
    axes.set_xlabel(f"{history.kind} before [%]")
    axes.set_ylabel("after [%]")
    shown = np.isfinite(before) & np.isfinite(after) if len(before) == len(after) else np.zeros(0, dtype=bool)
    if not shown.any():
        axes.text(0.5, 0.5, "no trajectory answered", transform=axes.transAxes, ha="center", color=MUTED)
        return
    both = np.concatenate([before[shown], after[shown]])
    is_log = both.min() > 0 and both.max() > 4 * both.min()
    low, high = (both.min() / 1.5, both.max() * 1.5) if is_log else (0.0, 1.1 * both.max() or 1.0)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    place = {"transform": axes.transAxes, "rotation": 45, "ha": "center", "va": "center", "color": MUTED}
    axes.text(0.13, 0.18, "no change", **place)
    axes.scatter(before[shown], after[shown], s=26, color=ACCENT, alpha=0.85, linewidths=0, zorder=2)
    if is_log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal", adjustable="box")
    _plain(axes, "x")
    _plain(axes, "y")
    grid(axes)


def _plain(axes: Any, which: str) -> None:
    """Plain decimals at a few ticks, on logarithmic axes as well."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = getattr(axes, f"{which}axis")
    if getattr(axes, f"get_{which}scale")() == "log":
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
