"""The model that a tuning starts with: the given weights under new constants and changed settings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import config as configuration
from ..problems.constants import changed_table
from ..text import nearest
from ..zoo.storage import rebuilt

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
    if "equations" in model.config["problem"]:
        own = changed_table(model.problem.parameters, own, constants, model.parameter_inputs)
    else:
        own |= {key: {**own.get(key, {}), **changes} for key, changes in constants.items()}
    config = {**model.config, "problem": {**model.config["problem"], "parameters": own}}
    return rebuilt(model, config)


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
    return rebuilt(model, configuration.overridden(model.config, overrides))


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
