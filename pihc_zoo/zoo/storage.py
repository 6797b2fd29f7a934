"""Reading and writing a model folder: config.json and safetensors, strict and checked."""

from __future__ import annotations

import copy
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn

from .. import config as configuration
from ..config import ConfigError
from ..files import atomic_path, make_folder, write_text
from .folder import (
    CONFIG_FILE,
    INDEX_FILE,
    SHARD_PATTERN,
    WEIGHTS_FILE,
    check_weights,
    digests,
    is_text,
    problem_digest,
    read_config,
    write_config,
)

if TYPE_CHECKING:
    from ..surrogate import Surrogate

_Model = TypeVar("_Model", bound="Surrogate")
_OWN = ("its config.json", "is it another model's file?")  # what weights must fit, and what may be wrong
_CHANGED = ("the changed settings", "leave pretrained out, or change nothing that the network depends on")
MAX_SHARD_SIZE = 5_000_000_000  # bytes; the Hub's recommendation


def save_folder(model: Surrogate, folder: str | os.PathLike, max_shard_size: int = MAX_SHARD_SIZE) -> Path:
    """Writes config.json and the weights; each file appears whole or not at all.

    Weights above ``max_shard_size`` bytes become shards with an index, as the Hub's clients expect.
    config.json, which holds the digests, comes last: an interrupted save never passes for a model.

    Raises:
        ValueError: the folder cannot be written.
    """
    folder = make_folder(folder)
    config = configuration.migrate(copy.deepcopy(model.config))
    config.pop("digests", None)
    before = _recorded(folder)
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    try:
        files = _write_weights(state, folder, max_shard_size)
        config["weights_sha256"] = digests(files)
        config.pop("problem_sha256", None)
        if is_text(config["problem"]):
            config["problem_sha256"] = problem_digest(config["problem"])
        if before.get("weights_sha256") == config["weights_sha256"] and "digests" in before:
            config["digests"] = before["digests"]  # of files that stay
        write_config(folder, config)
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


def _recorded(folder: Path) -> dict[str, Any]:
    """The configuration that a folder holds already; {} without a usable one."""
    try:
        return read_config(folder)
    except ConfigError:
        return {}


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
        write_text(folder / INDEX_FILE, json.dumps(index, indent=2) + "\n")
    return [folder / name for name in sorted(parts)]


def load_folder(
    folder: str | os.PathLike,
    model_class: type[_Model],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    config: dict[str, Any] | None = None,
) -> _Model:
    """Loads a model folder.

    Args:
        folder: holds config.json and weights.
        model_class: builds the model, with its ``from_config``.
        device, dtype: of the model and of its network.
        config: built in place of the folder's own, which it differs from in some settings.

    Raises:
        ConfigError: config.json is missing, foreign, newer or has unknown keys.
        ValueError: the weights are missing, damaged or do not fit the configuration; no such device.
    """
    folder = Path(folder)
    own = read_config(folder)
    state = read_weights(folder, own)
    source, fit = str(folder / WEIGHTS_FILE), _OWN if config is None else _CHANGED
    config = own if config is None else config
    _check_settings(config["network"], state, source, fit)
    model = build(config, model_class, lambda network: _check_shapes(network, state, source, fit), folder)
    model.network.load_state_dict(state, strict=True)
    return finished(model, device, dtype)


def read_weights(folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a folder's weights, their digests compared with its ``config``.

    Raises:
        ValueError: missing, damaged or changed.
    """
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
    return state


def build(
    config: dict[str, Any],
    model_class: type[_Model],
    check_network: Callable[[nn.Module], None] | None = None,
    folder: Path | None = None,
) -> _Model:
    """The model of a configuration, see `Surrogate.from_config`.

    Args:
        folder: where the configuration comes from, for the message.

    Raises:
        ConfigError: unknown or missing settings.
    """
    try:
        return model_class.from_config(config, check_network)
    except (KeyError, TypeError, AttributeError) as error:
        what = "the configuration" if folder is None else repr(str(folder / CONFIG_FILE))
        raise ConfigError(
            f"{what} is incomplete or malformed ({type(error).__name__}: {error}); "
            + ("check the settings that you changed" if folder is None else "download or export it again")
        ) from None


def untrained(config: dict[str, Any], model_class: type[_Model], generator: torch.Generator | None = None) -> _Model:
    """The model of a configuration with random weights, from a generator or, by default, from seed 0."""
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config, model_class)


def finished(model: _Model, device: str | torch.device, dtype: torch.dtype | None) -> _Model:
    """The model on a device, its network in ``dtype`` if any, ready to predict.

    Raises:
        ValueError: no such device, or a dtype that networks do not have.
    """
    try:
        model = model.to(device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot use device {str(device)!r}: {reason}; use device='cpu' or run: pihc doctor") from None
    return (model if dtype is None else model.with_network_dtype(dtype)).eval()


def rebuilt(model: _Model, config: dict[str, Any]) -> _Model:
    """The model under another configuration, its weights carried over, its name and history kept.

    More basis functions are filled with fresh weights behind the given ones.

    Raises:
        ConfigError: unknown or missing settings.
        ValueError: weights that do not fit.
    """
    config = {key: value for key, value in config.items() if key not in ("weights_sha256", "digests")}
    changed = finished(untrained(config, type(model)), model.device, model.dtype)
    changed.network.load_state_dict(_carried(model.network.state_dict(), changed.network.state_dict()))
    changed.name, changed.history = model.name, model.history
    return changed


def _carried(given: dict[str, torch.Tensor], fresh: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``fresh`` tensors with the ``given`` ones as their leading rows.

    Raises:
        ValueError: tensors that are missing, or differ by more than a number of leading rows.
    """
    if given.keys() != fresh.keys():
        name = min(given.keys() ^ fresh.keys())
        raise ValueError(f"the weights cannot be carried over to the changed settings: {name!r} is in one of both only")
    state = {}
    for key, value in given.items():
        target = fresh[key].clone()
        if value.dim() and (value.shape[1:] != target.shape[1:] or len(value) > len(target)):
            raise ValueError(
                f"the weights cannot be carried over to the changed settings: {key!r} has the shape "
                f"{tuple(value.shape)}, expected {tuple(target.shape)}; basis functions may be added, other sizes of "
                "a network stay"
            )
        if value.dim():
            target[: len(value)] = value
        else:
            target.copy_(value)
        state[key] = target
    return state


def _check_settings(
    settings: dict[str, Any], state: dict[str, torch.Tensor], source: str, fit: tuple[str, str] = _OWN
) -> None:
    """Raises ValueError for a size that exceeds the number of weights: each width, mode and layer needs one."""
    total = sum(value.numel() for value in state.values())
    for key, value in settings.items():
        for size in value if isinstance(value, list) else [value]:
            if isinstance(size, int | float) and size > total:
                raise ValueError(
                    f"{source} does not fit {fit[0]}: it holds {total} numbers, {key} = {size:g} needs more; {fit[1]}"
                )


def _check_shapes(network: nn.Module, state: dict[str, torch.Tensor], source: str, fit: tuple[str, str] = _OWN) -> None:
    """Raises ValueError for missing or extra keys, or other shapes."""
    expected = network.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    if missing or extra or shapes:
        parts = [
            f"{kind} {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
            for kind, keys in (("missing", missing), ("unexpected", extra), ("of another shape", sorted(shapes)))
            if keys
        ]
        raise ValueError(f"{source} does not fit {fit[0]}: {'; '.join(parts)}; {fit[1]}")
