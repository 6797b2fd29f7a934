"""The model that a tuning starts with: the given weights under new constants and changed settings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import config as configuration
from ..text import nearest

if TYPE_CHECKING:
    from ..surrogate import Surrogate

_FIXED = ("format", "config_version", "problem", "trust", "weights_sha256", "digests")


def with_constants(model: Surrogate, constants: dict[str, dict[str, float]]) -> Surrogate:
    """A copy of the model with other defaults and ranges, see `problems.constants`; the copy where there are none.

    Raises:
        ConfigError: constants that the problem does not take.
    """
    if not constants:
        return copy.deepcopy(model)
    own = {**model.config["problem"].get("parameters", {})}
    own |= {key: {**own.get(key, {}), **changes} for key, changes in constants.items()}
    config = {**model.config, "problem": {**model.config["problem"], "parameters": own}}
    return _rebuilt(model, config)


def with_settings(model: Surrogate, overrides: Mapping[str, Any]) -> Surrogate:
    """A copy of the model with changed settings, its weights carried over; the copy where there are none.

    More basis functions are filled with fresh weights behind the given ones.

    Args:
        overrides: changes of its configuration, dotted or nested, see `config.overridden`.

    Raises:
        ConfigError: settings that do not exist or do not fit together.
        ValueError: weights that cannot be carried over, or settings that other arguments change.
    """
    if not overrides:
        return copy.deepcopy(model)
    for key in overrides:
        part = key.split(".")[0]
        if part in _FIXED:
            raise ValueError(
                f"cannot change {key!r} by fine-tuning: constants go in parameters, the trust report is recalibrated"
            )
        if part not in configuration.PARTS:
            raise ValueError(f"unknown setting {key!r}; {nearest(part, configuration.PARTS)}")
    return _rebuilt(model, configuration.overridden(model.config, overrides))


def head_of(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of a network's last layers: of its last child that has any.

    Raises:
        ValueError: it has no children with parameters.
    """
    for child in reversed(list(network.children())):
        parameters = list(child.parameters())
        if parameters:
            return parameters
    raise ValueError(f"{type(network).__name__} has no layers to tell a head from; tune all weights (weights='all')")


def _rebuilt(model: Surrogate, config: dict[str, Any]) -> Surrogate:
    config = {key: value for key, value in config.items() if key not in ("weights_sha256", "digests")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            changed = type(model).from_config(config)
        except (KeyError, TypeError, AttributeError) as error:
            raise configuration.ConfigError(f"the changed settings are incomplete or malformed ({error!r})") from None
    changed.to(model.device).with_network_dtype(model.dtype)
    changed.network.load_state_dict(_carried(model.network.state_dict(), changed.network.state_dict()))
    changed.name = model.name
    return changed.eval()


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
