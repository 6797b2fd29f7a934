"""Test families of a model, and draws from them (no torch)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .config import build, lookup
from .families import FAMILIES, Family, filling, out_of_family, sample_parameters
from .problems import Problem


class Model(Protocol):
    """What draws need to know of a model, whatever its backend."""

    @property
    def problem(self) -> Problem: ...
    @property
    def parameter_inputs(self) -> tuple[str, ...]: ...
    @property
    def config(self) -> dict[str, Any]: ...


@dataclass
class Described:
    """A model that is described and not loaded; ``folder`` is where its config.json is."""

    problem: Problem
    parameter_inputs: tuple[str, ...]
    config: dict[str, Any]
    folder: Path | None = None


def default_families(model: Model) -> dict[str, Family]:
    """Families that fill the range of values for which a model was trained; periodic ones as they are."""
    low, high = model.config["trust"].get("state_range", model.problem.state_range)
    return filling(model.problem.output_space, low, high)


def family_of(name: str, model: Model, settings: dict[str, Any] | None = None) -> Family:
    """The family ``name`` with its recorded settings, or inside the model's range of values.

    Raises:
        ValueError: no such family.
    """
    cls, recorded = lookup("family", {"name": name, **(settings or {})}, FAMILIES)
    family = build("family", cls, recorded)
    if settings or name in out_of_family(model.problem.output_space) or "low" not in {f.name for f in fields(cls)}:
        return family
    default: Any = next(iter(default_families(model).values()))
    return replace(family, low=default.low, high=default.high) if hasattr(default, "low") else family


def draw(
    problem: Problem, family: Family, inputs: Iterable[str], count: int, seed: int, num_points: int | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Initial conditions, and parameters ``inputs``; the same fields whatever the number of points.

    Args:
        problem: on whose native grid they are.
        family: of the initial conditions.
        inputs: symbols of the parameters to draw from their declared ranges.
        count, seed: how many, and which; the draws are none of training's.
        num_points: per periodic axis, in place of the native ones.

    Returns:
        u0 (count, *space), and (count,) values by symbol.
    """
    rng = np.random.default_rng([seed, 2**31])
    axes = list(problem.output_space.values())
    axes = axes if num_points is None else [axis.sized(num_points) for axis in axes]
    u0 = family.sample(count, [axis.nodes for axis in axes], rng)
    return u0, sample_parameters(problem, tuple(inputs), count, rng)
