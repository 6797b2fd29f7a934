"""The complete folder of a tuned model: weights, figures, history, plot, example, card."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..zoo.card import TUNING_PLOT
from ..zoo.exporting import export
from .result import Finetuned


def write_finished(result: Finetuned, folder: Path) -> None:
    """Writes the folder; config.json, which makes it a model, comes after history and plot.

    Raises:
        ValueError: it cannot be written.
    """
    result.history.save(folder)
    if importlib.util.find_spec("matplotlib"):
        result.plot(folder / TUNING_PLOT)
    export(result.model, folder)
    result.model.folder = folder  # figures and plot belong to these weights
