"""A recipe: everything that one training run needs, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pihc_zoo import config as configuration
from pihc_zoo.families import Family
from pihc_zoo.problems import problem_of
from pihc_zoo.sampling import read_family, training_family
from pihc_zoo.text import nearest

from .defaults import completed

FOLDER = Path(__file__).parent / "recipes"
SHIPPED = "shipped"  # the word for the weights in this checkout
_OWN = ("name", "description", "training", "family", "test_families", "test_parameters", "ablations")


@dataclass(frozen=True)
class Training:
    """Settings of the optimisation.

    Attributes:
        steps: optimiser steps; the cosine schedule ends there.
        batch: initial conditions a step.
        learning_rate: Adam's, at the start.
        clip: largest gradient norm.
        seed: of weights and data; step k draws for place i of the batch from (seed, k, i).
        validate_every: steps between evaluations against references.
        log_every: steps between other lines of the log; on a GPU the host waits for the device then only.
        loss: "log" (mean log of the rows' norm: easy and hard starts alike) or "mean" (mean of the norm:
            what adds up along a roll-out).
        warmup: steps over which the learning rate rises.
        pool, restart: roll-outs only: trajectories in the replay pool, and the probability of a new
            beginning after any window.
        ema: decay of the weights' exponential moving average, which is validated and kept; 0: none.
        dtype: of the network, "float32" or "float64".
    """

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 2e-3
    clip: float = 1.0
    seed: int = 0
    validate_every: int = 250
    log_every: int = 50
    loss: str = "log"
    warmup: int = 0
    pool: int = 256
    restart: float = 0.05
    ema: float = 0.0
    dtype: str = "float32"

    def __post_init__(self):
        least_of = {"steps": 1, "batch": 1, "validate_every": 1, "log_every": 1, "pool": 1, "seed": 0, "warmup": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"training: {name} must be an integer of at least {least}, got {value!r}")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise ValueError(f"training: {name} must be a positive number, got {value!r}")
        if type(self.restart) not in (int, float) or not 0 <= self.restart <= 1:
            raise ValueError(f"training: restart must be a probability, got {self.restart!r}")
        if type(self.ema) not in (int, float) or not 0 <= self.ema < 1:
            raise ValueError(f"training: ema must be in [0, 1), got {self.ema!r}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"training: dtype must be 'float32' or 'float64', not {self.dtype!r}")
        if self.seed >= 2**64:
            raise ValueError(f"training: seed must be below 2**64, got {self.seed}")
        if self.loss not in ("log", "mean"):
            raise ValueError(f"training: loss must be 'log' or 'mean', not {self.loss!r}")


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


def load(name: str, overrides: dict[str, Any] | None = None, quiet: bool = True) -> Recipe:
    """Reads ``recipes/<name>.toml`` (or a path), with overrides such as training.steps; see `config.overridden`.

    What a recipe leaves out follows from its problem, see `defaults.completed`: it may be a name and a problem alone.

    Args:
        quiet: no progress bar while settings are tried.

    Raises:
        ValueError: no such recipe, unknown or missing keys, settings of the wrong kind.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in FOLDER.glob("*.toml"))
        raise ValueError(f"no recipe {name!r}; {nearest(name, known)}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}") from None
    data = configuration.overridden(data, overrides or {})
    for key in data:
        if key not in (*_OWN, *configuration.PARTS):
            raise ValueError(
                f"{path.name} has the unknown key {key!r}; {configuration.nearest(key, (*_OWN, *configuration.PARTS))}"
            )
    missing = [key for key in ("name", "problem") if not data.get(key)]
    if missing:
        raise ValueError(f"{path.name} lacks {', '.join(map(repr, missing))}; compare training/recipes/")
    for key in ("name", "description"):
        if not isinstance(data.get(key, ""), str):
            raise ValueError(f"{path.name}: {key!r} must be a text, got {data[key]!r}")
    for key in (*_OWN[2:], *configuration.PARTS):
        if key in data and not isinstance(data[key], dict):
            raise ValueError(f"{path.name}: {key!r} must be a table, got {data[key]!r}")
    own = {key: data.pop(key) for key in _OWN if key in data}
    problem, _ = problem_of(data["problem"])
    trust = data.get("trust")
    family = read_family(own["family"], problem, trust) if "family" in own else training_family(problem, trust)
    training = own.get("training", {})
    settings = configuration.build("training", Training, training)
    if not all(part in data for part in configuration.PARTS):
        data, training = completed(data, training, problem, family, quiet)
        settings = configuration.build("training", Training, training)
    config = {"format": configuration.FORMAT, "config_version": "{}.{}".format(*configuration.CONFIG_VERSION), **data}
    configuration.check_keys(config)
    trust = config["trust"]
    tests = {key: read_family(spec, problem, trust) for key, spec in own.get("test_families", {}).items()}
    return Recipe(
        name=own["name"],
        config=config,
        training=settings,
        family=family,
        test_families=tests or {own.get("family", {}).get("name", "smooth fields"): family},
        description=own.get("description", ""),
        test_parameters=own.get("test_parameters", {}),
        ablations=own.get("ablations", {}),
    )
