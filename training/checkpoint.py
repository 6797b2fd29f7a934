"""Checkpoints: one safetensors file with weights, optimiser state and the step; no pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from pihc_zoo.files import atomic_path


def save(
    path: Path,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    recipe: dict,
    extra: dict[str, torch.Tensor] | None = None,
) -> None:
    """Writes atomically: an interrupted save leaves the previous checkpoint. ``extra`` is what `restore` returns."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{key}"] = value
    tensors |= {f"extra.{key}": value for key, value in (extra or {}).items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {"step": str(step), "recipe": fingerprint(recipe)}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)


def restore(
    path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, recipe: dict
) -> tuple[int, dict[str, torch.Tensor]]:
    """Loads a checkpoint into network and optimiser; returns the step to continue with and the extra tensors.

    Raises:
        ValueError: the file is damaged or belongs to another recipe.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = safetensors.torch.load_file(path)
    except Exception as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); delete it to start again") from None
    if metadata.get("recipe") != fingerprint(recipe):
        raise ValueError(f"checkpoint {path} is of another recipe; choose another --output or delete it")
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    for name, parameter in network.named_parameters():
        prefix = f"optimiser.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            on_device = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
            optimiser.state[parameter] = on_device
    extra = {key.removeprefix("extra."): value for key, value in tensors.items() if key.startswith("extra.")}
    return int(metadata["step"]), extra


def fingerprint(recipe: dict) -> str:
    """A digest of everything that determines a run."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()
