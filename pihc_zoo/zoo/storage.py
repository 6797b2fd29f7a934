"""Reading and writing a model folder: config.json and safetensors, strict and checked."""

from __future__ import annotations

import copy
import errno
import json
import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ..prediction import atomic_path
from ..surrogate import Surrogate
from .config import ConfigError
from .folder import CONFIG_FILE, INDEX_FILE, SHARD_PATTERN, WEIGHTS_FILE, check_weights, digests, read_config, sha256

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "load_folder", "load_network", "save_folder", "sha256"]

MAX_SHARD_SIZE = 5_000_000_000  # bytes; the Hub's recommendation


def save_folder(model: Surrogate, folder: str | os.PathLike, max_shard_size: int = MAX_SHARD_SIZE) -> Path:
    """Writes config.json and the weights; each file appears whole or not at all.

    Weights above ``max_shard_size`` bytes become shards with an index, as the Hub's clients expect.
    config.json, which holds the digests, comes last: an interrupted save never passes for a model.

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
    try:
        files = _write_weights(state, folder, max_shard_size)
        config["weights_sha256"] = digests(files)
        with atomic_path(folder / CONFIG_FILE) as temporary:
            temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except safetensors.SafetensorError as error:  # what it makes of a full disk
        raise ValueError(f"cannot write {str(folder)!r}: {error}; free some space") from None
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else "choose a writable folder"
        raise ValueError(f"cannot write {str(folder)!r}: {error.strerror or error}; {hint}") from None
    kept = {path.name for path in files}
    for path in [folder / WEIGHTS_FILE, *folder.glob(SHARD_PATTERN)]:
        if path.name not in kept:
            path.unlink(missing_ok=True)
    if len(files) == 1:
        (folder / INDEX_FILE).unlink(missing_ok=True)
    model.config = config
    return folder


def _write_weights(state: dict[str, torch.Tensor], folder: Path, max_shard_size: int) -> list[Path]:
    if sum(value.nbytes for value in state.values()) <= max_shard_size:
        parts, index = {WEIGHTS_FILE: list(state)}, None
    else:
        from huggingface_hub import split_torch_state_dict_into_shards

        split = split_torch_state_dict_into_shards(state, max_shard_size=max_shard_size)
        parts = split.filename_to_tensors
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename} if len(parts) > 1 else None
    for name, keys in parts.items():
        with atomic_path(folder / name) as temporary:
            safetensors.torch.save_file({key: state[key] for key in keys}, temporary, metadata={"format": "pt"})
    if index:
        with atomic_path(folder / INDEX_FILE) as temporary:
            temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [folder / name for name in sorted(parts)]


def load_folder(folder: str | os.PathLike, device="cpu", dtype: torch.dtype | None = None) -> Surrogate:
    """Loads a model folder.

    Raises:
        ConfigError: config.json is missing, foreign, newer or has unknown keys.
        ValueError: the weights are missing, damaged or do not fit the configuration; no such device.
    """
    folder = Path(folder)
    config = read_config(folder)
    state: dict[str, torch.Tensor] = {}
    for path in check_weights(folder, config):
        try:
            part = safetensors.torch.load_file(path)
        except Exception as error:  # safetensors raises its own type; the cause is in its text
            raise ValueError(f"{str(path)!r} is not a complete safetensors file ({error})") from None
        twice = state.keys() & part.keys()
        if twice:
            raise ValueError(f"{str(path)!r} repeats the tensor {min(twice)!r} of another shard; export it again")
        state |= part
    try:
        model = Surrogate.from_config(config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{str(folder / CONFIG_FILE)!r} is incomplete or malformed ({type(error).__name__}: {error}); "
            "download or export it again"
        ) from None
    load_network(model, state, str(folder / WEIGHTS_FILE))
    try:
        model = model.to(device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot use device {str(device)!r}: {reason}; use device='cpu' or run: pihc doctor") from None
    return (model if dtype is None else model.with_network_dtype(dtype)).eval()


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
