"""The models shipped in the wheel: names, descriptions and measured figures (no torch)."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

from ..text import nearest
from .folder import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, read_config

WEIGHTS = Path(__file__).parent / "weights"
_REGISTERED: dict[str, Path] = {}
_NAME = re.compile(r"[a-z][a-z0-9_-]*\.[a-z0-9][a-z0-9_.-]*")


def list_models(pattern: str = "*", *, problem: str | None = None, pretrained: bool | None = None) -> list[str]:
    """Names ``problem.variant`` of the shipped and registered models.

    Args:
        pattern: shell-style pattern on the name.
        problem: keep one problem's models.
        pretrained: True keeps those with weights, False those without.
    """
    folders = _folders()
    names = [n for n in sorted(folders) if fnmatch.fnmatch(n, pattern) and problem in (None, n.split(".")[0])]
    return names if pretrained is None else [n for n in names if _has_weights(folders[n]) is pretrained]


def register_model(name: str, folder: str | os.PathLike) -> None:
    """Makes a model of your own known by a name, as the shipped ones are.

    Args:
        name: ``problem.variant``.
        folder: holds config.json and, where the model is trained, what `Surrogate.save_pretrained` writes beside it.

    Raises:
        ConfigError: the folder holds no usable config.json.
        ValueError: an unusable name, or one that another folder's model has.
    """
    folder = Path(folder).resolve()
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"a model is registered as 'problem.variant' in lower case, got {name!r}")
    problem = read_config(folder)["problem"].get("name")
    if name.split(".")[0] != problem:
        raise ValueError(f"the model in {str(folder)!r} is of the problem {problem!r}; register it as '{problem}.…'")
    held = _folders().get(name)
    if held is not None and held != folder:
        raise ValueError(f"the name {name!r} belongs to the model in {str(held)!r}; choose another variant")
    _REGISTERED[name] = folder


def _folders() -> dict[str, Path]:
    """The folders of all models that have a name."""
    return {**_REGISTERED, **{path.parent.name: path.parent for path in WEIGHTS.glob(f"*/{CONFIG_FILE}")}}


def _has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file()


def shipped_folder(name: str) -> Path:
    """The folder of a shipped or registered model.

    Raises:
        ValueError: unknown name; the nearest ones are suggested.
    """
    folders = _folders()
    if name not in folders:
        raise ValueError(f"no shipped model {name!r}; {nearest(name, folders)}")
    return folders[name]
