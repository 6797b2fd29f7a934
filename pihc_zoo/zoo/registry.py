"""The models shipped in the wheel: names, descriptions and measured figures (no torch)."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

from .config import nearest

WEIGHTS = Path(__file__).parent / "weights"


def list_models(pattern: str = "*", *, problem: str | None = None, pretrained: bool | None = None) -> list[str]:
    """Names ``problem.variant`` of the shipped models.

    Args:
        pattern: shell-style pattern on the name.
        problem: keep one problem's models.
        pretrained: all shipped models are; False lists none.
    """
    if pretrained is False:
        return []
    names = sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))
    return [n for n in names if fnmatch.fnmatch(n, pattern) and problem in (None, n.split(".")[0])]


def shipped_folder(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        ValueError: unknown name; the nearest ones are suggested.
    """
    if name not in list_models():
        raise ValueError(f"no shipped model {name!r}; {nearest(name, list_models())}")
    return WEIGHTS / name


def model_info(name: str) -> dict[str, Any]:
    """Configuration and measured metrics of a shipped model."""
    folder = shipped_folder(name)
    info = {"name": name, "config": json.loads((folder / "config.json").read_text(encoding="utf-8"))}
    metrics = folder / "metrics.json"
    if metrics.exists():
        info["metrics"] = json.loads(metrics.read_text(encoding="utf-8"))
    return info
