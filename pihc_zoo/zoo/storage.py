"""Reading and writing a model folder: config.json and model.safetensors, strict and checked."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path

import safetensors.torch
import torch

from ..prediction import atomic_path
from ..surrogate import Surrogate
from . import config as configuration

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_folder(model: Surrogate, folder: str | os.PathLike) -> Path:
    """Writes config.json and model.safetensors; each file appears whole or not at all.

    Raises:
        ValueError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create {str(folder)!r}: {error.strerror}; choose a writable folder") from None
    config = copy.deepcopy(model.config)
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})
        config["weights_sha256"] = sha256(temporary)
    with atomic_path(folder / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model.config = config
    return folder


def load_folder(folder: str | os.PathLike, device="cpu", dtype: torch.dtype | None = None) -> Surrogate:
    """Loads a model folder.

    Raises:
        ConfigError: config.json is missing, foreign, newer or has unknown keys.
        ValueError: the weights are missing, damaged or do not fit the configuration.
    """
    folder = Path(folder)
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not config_path.is_file():
        raise configuration.ConfigError(f"{str(folder)!r} has no config.json; expected a pihc_zoo model folder")
    config = configuration.read(config_path.read_text(encoding="utf-8"))
    if not weights_path.is_file():
        raise ValueError(f"{str(folder)!r} has no model.safetensors; only safetensors weights are loaded")
    digest = sha256(weights_path)
    if config.get("weights_sha256") != digest:
        raise ValueError(
            f"{str(weights_path)!r} is damaged or was changed: sha256 {digest[:12]}…, "
            f"expected {str(config.get('weights_sha256'))[:12]}…; download or export it again"
        )
    try:
        state = safetensors.torch.load_file(weights_path)
    except Exception as error:  # safetensors raises its own type; the cause is in its text
        raise ValueError(f"{str(weights_path)!r} is not a complete safetensors file ({error})") from None
    model = Surrogate.from_config(config)
    load_network(model, state, str(weights_path))
    return model.to(device=device).eval() if dtype is None else model.to(device).with_network_dtype(dtype).eval()


def load_network(model: Surrogate, state: dict[str, torch.Tensor], source: str) -> None:
    """Loads network weights strictly.

    Raises:
        ValueError: missing or extra keys, or other shapes.
    """
    expected = model.network.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    if missing or extra or shapes:
        parts = [
            f"{kind} {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
            for kind, keys in (("missing", missing), ("unexpected", extra), ("of another shape", sorted(shapes)))
            if keys
        ]
        raise ValueError(f"{source} does not fit its config.json: {'; '.join(parts)}; is it another model's file?")
    model.network.load_state_dict(state, strict=True)
