"""Loading by name: shipped models and local folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .registry import list_models, shipped_folder
from .storage import load_folder


def from_pretrained(name: str, *, device: Any = "cpu", dtype: Any = None):
    """Loads a surrogate: a short name of a shipped model, or a local folder."""
    if name in list_models() or not Path(name).is_dir():
        folder = shipped_folder(name)
        model = load_folder(folder, device, dtype)
        model.name = name
        return model
    model = load_folder(name, device, dtype)
    model.name = Path(name).name
    return model
