"""Checkpoints: one safetensors file with weights, optimiser state and the step; no pickle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..files import atomic_path


def open_folder(folder: Path) -> Path:
    """``folder``, made if it does not exist.

    Raises:
        ValueError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write {str(folder)!r}: {error.strerror or error}; choose a writable output folder"
        ) from None
    return folder


def save(
    path: Path,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    run: dict,
    extra: dict[str, torch.Tensor] | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Writes atomically: an interrupted save leaves the previous checkpoint.

    Args:
        run: everything that determines the run.
        extra, notes: what `restore` returns; notes are JSON.

    Raises:
        ValueError: the file cannot be written; the previous checkpoint stays.
    """
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{key}"] = value
    tensors |= {f"extra.{key}": value for key, value in (extra or {}).items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {"step": str(step), "recipe": fingerprint(run), "notes": json.dumps(notes or {})}
    try:
        with atomic_path(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata=metadata)
    except (OSError, safetensors.SafetensorError) as error:  # the latter also where a disk is full
        raise ValueError(
            f"cannot write the checkpoint {str(path)!r}: {error}; free some space and run the same again, "
            "the state saved before stays"
        ) from None


def header(path: Path) -> tuple[int, dict[str, Any], str]:
    """The step of a checkpoint, its notes and the fingerprint of its run.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        return int(metadata["step"]), json.loads(metadata.get("notes", "{}")), metadata.get("recipe", "")
    except Exception as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); delete it to start again") from None


def restore(
    path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, run: dict | None, kind: str = "recipe"
) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]]:
    """Loads a checkpoint into network and optimiser; returns the step to continue with, extra tensors and notes.

    Args:
        run: what determines the run; None takes the state of any run whose weights fit.

    Raises:
        ValueError: the file is damaged, belongs to another run (another ``kind``) or to another network.
    """
    step, notes, own = header(path)
    if run is not None and own != fingerprint(run):
        raise ValueError(f"checkpoint {path} is of another {kind}; choose another --output or delete it")
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); delete it to start again") from None
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    _check_fit(path, weights, network.state_dict())
    network.load_state_dict(weights)
    for name, parameter in network.named_parameters():
        prefix = f"optimiser.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            on_device = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
            optimiser.state[parameter] = on_device
    extra = {key.removeprefix("extra."): value for key, value in tensors.items() if key.startswith("extra.")}
    return step, extra, notes


def _check_fit(path: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Refuses weights of another network or precision."""
    for key in found.keys() | expected.keys():
        pair = [
            "none" if key not in part else f"{tuple(part[key].shape)} {str(part[key].dtype).removeprefix('torch.')}"
            for part in (found, expected)
        ]
        if pair[0] != pair[1]:
            raise ValueError(
                f"checkpoint {path} is of another network: {key!r} is {pair[0]} there and {pair[1]} here; "
                "choose another --output or delete it"
            )


def fingerprint(run: dict) -> str:
    """A digest of everything that determines a run."""
    return hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()
