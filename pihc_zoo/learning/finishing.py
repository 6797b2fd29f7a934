"""The complete folder of a tuned model: weights, figures, history, plot, example, card."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import write_text
from ..zoo.card import TUNING_PLOT
from ..zoo.exporting import export
from ..zoo.folder import METRICS_FILE
from .history import History
from .result import Finetuned


def write_finished(result: Finetuned, folder: Path) -> None:
    """Writes the folder; config.json, which makes it a model, comes after history and figures.

    Raises:
        ValueError: it cannot be written.
    """
    history = result.history
    history.save(folder)
    write_text(folder / METRICS_FILE, json.dumps(metrics_of(history), indent=1, ensure_ascii=False) + "\n")
    if importlib.util.find_spec("matplotlib"):
        result.plot(folder / TUNING_PLOT)
    export(result.model, folder)


def metrics_of(history: History) -> dict[str, Any]:
    """What metrics.json holds of a tuned model."""
    known = history.to_dict()
    figures = {
        "base_model": history.base_model,
        "data": history.data,
        "part": history.part,
        "count": history.count,
        "table": history.table(),
        "summary": history.summary(),
        "constants": known["constants"],
        "settings": known["settings"],
        "options": known["options"],
        "minutes": history.seconds / 60,
        "version": __version__,
    }
    return {"threshold": history.trust_after.get("threshold"), "finetuning": figures}
