"""The figure of a training run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from .style import ACCENT, SECOND, STYLE, check_suffix, grid, require_matplotlib, write


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
        panels[0].plot(seconds, loss, "o-", color=ACCENT, markersize=3.5)
        panels[0].set_title("Training loss")
        panels[0].set_ylabel("loss")
        if measured:
            at = [record["seconds"] for record in measured]
            for key, label, colour in (("error_mean", "mean", ACCENT), ("error_max", "maximum", SECOND)):
                panels[1].plot(at, [100 * r[key] for r in measured], "o-", color=colour, markersize=3.5, label=label)
            values = [r[key] for r in measured for key in ("error_mean", "error_max")]
            panels[1].set_yscale("log" if min(values) > 0 and max(values) > 10 * min(values) else "linear")
            panels[1].set_title("Relative L2 error on unseen initial conditions")
            panels[1].set_ylabel("error [%]")
            panels[1].legend(frameon=False)
        for axes in panels:
            grid(axes, which="both")
        panels[-1].set_xlabel("training time [s]")
        write(figure, path)
    return path
