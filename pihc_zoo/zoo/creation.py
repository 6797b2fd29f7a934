"""Models by name with changed settings, untrained or with the pretrained weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..config import check_keys, overridden
from ..prediction.trust import CHOSEN
from .folder import read_config
from .hub import find_folder, load, torch_dtype

if TYPE_CHECKING:
    import torch

    from ..surrogate import Surrogate


def create_model(
    name: str | os.PathLike,
    pretrained: bool = False,
    overrides: Mapping[str, Any] | None = None,
    *,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Surrogate:
    """A model of a known configuration, with some of its settings changed.

    >>> model = pz.create_model("diffusion-sorption.general", overrides={"decomposition.counts": {"x": 2}})

    Args:
        name: as of `from_pretrained`; a registered model needs no weights unless they are asked for.
        pretrained: with the model's weights, where these fit the changed settings; else with fresh random ones.
            Of an untrained model nothing is reliable: it has no calibrated threshold.
        overrides: changes of its configuration (config.json), by dotted path, ``{"solver.max_steps": 4}``, or
            nested, ``{"solver": {"max_steps": 4}}``. A dict changes the settings that it names; one with a
            ``name`` replaces the whole part or axis; settings that are dicts, such as counts, are replaced whole.
        generator: draws the untrained weights, on the CPU; default one that is seeded with 0.
        device, dtype: as of `from_pretrained`.

    Returns:
        the model in evaluation mode; ``train()`` changes that.

    Raises:
        ConfigError: settings that do not exist or do not fit together.
        ValueError: no such model, no weights, or weights that do not fit the changed settings.
    """
    if pretrained and generator is not None:
        raise ValueError("a generator draws the weights of an untrained model; leave it out, or pretrained")
    from ..surrogate import Surrogate

    if pretrained and not overrides:
        return load(Surrogate, name, device=device, dtype=dtype)
    folder, found = find_folder(name, backend="torch" if pretrained else "info")
    config = read_config(folder)
    for key in ("weights_sha256", "problem_sha256", "digests"):
        config.pop(key, None)
    if not pretrained:
        config["trust"] = {key: value for key, value in config["trust"].items() if key in CHOSEN}
    config = check_keys(overridden(config, overrides or {}))
    from . import storage

    if pretrained:
        model = storage.load_folder(folder, Surrogate, device, torch_dtype(dtype), config)
    else:
        model = storage.finished(storage.untrained(config, Surrogate, generator), device, torch_dtype(dtype))
    model.name = found
    return model
