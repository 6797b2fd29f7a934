"""A recipe: everything that one training run needs, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pihc_zoo import config as configuration
from pihc_zoo.families import FAMILIES, Family
from pihc_zoo.text import nearest

FOLDER = Path(__file__).parent / "recipes"
_OWN = ("name", "description", "training", "family", "test_families", "test_parameters", "ablations")


@dataclass(frozen=True)
class Training:
    """Settings of the optimisation.

    Attributes:
        steps: optimiser steps; the cosine schedule ends there.
        batch: initial conditions a step.
        learning_rate: Adam's, at the start.
        clip: largest gradient norm.
        seed: of weights and data; step k draws from the seed pair (seed, k).
        validate_every: steps between evaluations against references.
        loss: "log" (mean log of the rows' norm: easy and hard starts alike) or "mean" (mean of the norm:
            what adds up along a roll-out).
        warmup: steps over which the learning rate rises.
        pool, restart: roll-outs only: trajectories in the replay pool, and the probability of a new
            beginning after any window.
    """

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 2e-3
    clip: float = 1.0
    seed: int = 0
    validate_every: int = 250
    loss: str = "log"
    warmup: int = 0
    pool: int = 256
    restart: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """A named model configuration, how to train it and on which families to test it.

    Attributes:
        test_parameters: further test sets by name, in which parameters are held at these values.
        ablations: overrides by name, in place of the usual ones; see `training.ablation`.
    """

    name: str
    config: dict[str, Any]
    training: Training
    family: Family
    test_families: dict[str, Family]
    description: str = ""
    test_parameters: dict[str, dict[str, float]] = field(default_factory=dict)
    ablations: dict[str, dict[str, Any]] = field(default_factory=dict)


def load(name: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Reads ``recipes/<name>.toml`` (or a path), with dotted overrides such as training.steps.

    Raises:
        ValueError: no such recipe, unknown keys.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in FOLDER.glob("*.toml"))
        raise ValueError(f"no recipe {name!r}; {nearest(name, known)}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}") from None
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        target = data
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    own = {key: data.pop(key) for key in _OWN if key in data}
    config = {"format": configuration.FORMAT, "config_version": "{}.{}".format(*configuration.CONFIG_VERSION), **data}
    configuration.check_keys(config)
    return Recipe(
        name=own["name"],
        config=config,
        training=configuration.build("training", Training, own.get("training", {})),
        family=_family(own["family"]),
        test_families={key: _family(spec) for key, spec in own["test_families"].items()},
        description=own.get("description", ""),
        test_parameters=own.get("test_parameters", {}),
        ablations=own.get("ablations", {}),
    )


def _family(spec: dict[str, Any]) -> Family:
    cls, settings = configuration.lookup("family", spec, FAMILIES)
    return configuration.build("family", cls, settings)
