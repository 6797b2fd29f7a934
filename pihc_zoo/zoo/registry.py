"""The models shipped in the wheel: names, descriptions and measured figures (no torch)."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

from ..text import nearest
from .folder import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, read_config, read_metrics

WEIGHTS = Path(__file__).parent / "weights"


def list_models(pattern: str = "*", *, problem: str | None = None, pretrained: bool | None = None) -> list[str]:
    """Names ``problem.variant`` of the shipped models.

    Args:
        pattern: shell-style pattern on the name.
        problem: keep one problem's models.
        pretrained: True keeps those with weights, False those without.
    """
    names = sorted(path.parent.name for path in WEIGHTS.glob(f"*/{CONFIG_FILE}"))
    names = [n for n in names if fnmatch.fnmatch(n, pattern) and problem in (None, n.split(".")[0])]
    return names if pretrained is None else [n for n in names if _has_weights(WEIGHTS / n) is pretrained]


def _has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file()


def shipped_folder(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        ValueError: unknown name; the nearest ones are suggested.
    """
    if name not in list_models():
        raise ValueError(f"no shipped model {name!r}; {nearest(name, list_models())}")
    return WEIGHTS / name


def model_info(name: str, **options: Any) -> dict[str, Any]:
    """Configuration and measured metrics of a model, without loading its weights.

    Args:
        name: a short name, a local folder or a Hub id.
        options: revision, cache_dir, token, local_files_only, force_download, subfolder of
            `from_pretrained`.

    Returns:
        "name", "config" and, where the model has them, "metrics".

    Raises:
        ValueError: not found or not a pihc_zoo model.
    """
    from .hub import find_folder

    folder, found = find_folder(name, backend="info", **options)
    info: dict[str, Any] = {"name": found, "config": read_config(folder)}
    metrics = read_metrics(folder)
    if metrics is not None:
        info["metrics"] = metrics
    return info
