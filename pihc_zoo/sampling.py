"""Test families of a model, and draws from them (no torch)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import families
from .config import ConfigError, build, describe, lookup
from .families import FAMILIES, Constants, Domain, Family, FieldFamilies, Values, sample_parameters
from .problems import Problem
from .text import nearest

NO_START = Constants(0.0, 0.0)  # what stands for the initial values of steady problems


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


def values_of(problem: Problem, trust: dict[str, Any] | None = None) -> dict[str, Values]:
    """What values each field of a problem takes initially.

    Args:
        trust: a model's settings, see `Problem.trained_ranges`.
    """
    ranges = problem.trained_ranges(trust or {})
    something_enters = _enters(problem)
    values = {}
    for name, own in problem.fields.items():
        values[name] = Values(
            *ranges[name], own.high, own.scale, name in problem.zero_mean_fields, may_be_clean=something_enters
        )
    return values


def _enters(problem: Problem) -> bool:
    """Whether a wall drives the solution: its target, at default parameters, is not zero."""
    for conditions in problem.walls(problem.typical()).values():
        pairs = conditions.values() if isinstance(conditions, dict) else [conditions]
        if any(np.any(np.asarray(wall.target) != 0) for pair in pairs for wall in pair):
            return True
    return False


def default_families(model: Model) -> dict[str, Family]:
    """Families of smooth fields that fill the range of values for which a model was trained."""
    if model.problem.duration is None:
        return {"coefficient_fields": NO_START}
    domain = Domain.of(model.problem.output_space)
    return _together(
        {name: families.filling(domain, own) for name, own in values_of(model.problem, model.config["trust"]).items()}
    )


def training_family(problem: Problem, trust: dict[str, Any] | None = None) -> Family:
    """A family of smooth fields that fill the range, with constants, for training where a recipe names none."""
    if problem.duration is None:
        return NO_START
    domain = Domain.of(problem.output_space)
    parts = {name: families.for_training(domain, own) for name, own in values_of(problem, trust).items()}
    return FieldFamilies(parts) if problem.is_system else parts[problem.field]


def out_of_family(model: Model) -> dict[str, Family]:
    """Sets by name that a model was not trained for."""
    if model.problem.duration is None:
        return {}
    domain = Domain.of(model.problem.output_space)
    values = values_of(model.problem, model.config["trust"])
    return _together({name: families.out_of_family(domain, own) for name, own in values.items()})


def _together(by_field: dict[str, dict[str, Family]]) -> dict[str, Family]:
    """The sets that all fields have, of one field as they are."""
    first, *others = by_field.values()
    if not others:
        return first
    names = [name for name in first if all(name in other for other in others)]
    return {name: FieldFamilies({field: own[name] for field, own in by_field.items()}) for name in names}


def read_family(spec: Any, problem: Problem, trust: dict[str, Any] | None = None) -> Family:
    """The family that a recipe or a record describes.

    Args:
        spec: ``{"name": …, …settings}``, or such a table by field. One table serves every field of a system, each
            drawn by itself. Families that are given no range, mean or scale fill the range of their field.
        problem: of whose initial conditions.
        trust: a model's settings, see `values_of`.

    Raises:
        ConfigError: no such family, unknown settings, a field without a family, a family of an unknown field.
    """
    if not isinstance(spec, dict):
        raise ConfigError(f"a family must be a table with its name, got {spec!r}")
    values = values_of(problem, trust)
    if isinstance(spec.get("name"), str) or not spec:
        parts = {name: _read(spec, own) for name, own in values.items()}
    else:
        for name, own in spec.items():
            if not isinstance(own, dict):
                raise ConfigError(f"a family must be a table with its name, or one by field, got {name} = {own!r}")
            if name not in values:
                raise ConfigError(f"family: {problem.name} has no field {name!r}; {nearest(name, values)}")
        for name in values:
            if name not in spec:
                raise ConfigError(f"family: the field {name!r} of {problem.name} has none; add a table [family.{name}]")
        parts = {name: _read(spec[name], own) for name, own in values.items()}
    return FieldFamilies(parts) if problem.is_system else parts[problem.field]


def _read(spec: dict[str, Any], values: Values) -> Family:
    cls, settings = lookup("family", spec, FAMILIES)
    has_mean = bool({"mean", "scale"} & set(settings))
    if has_mean and cls is families.GaussianProcess:
        cls = families.PeriodicGaussianProcess
    build("family", cls, settings)  # unknown settings are named
    return families.filled(cls, values, **settings)


def describe_family(family: Family) -> dict[str, Any]:
    """What `read_family` reads back.

    Raises:
        ConfigError: a family that is not registered.
    """
    if isinstance(family, FieldFamilies):
        return {name: describe(own, FAMILIES) for name, own in family.families.items()}
    return describe(family, FAMILIES)


def family_of(name: str, model: Model, settings: dict[str, Any] | None = None) -> Family:
    """The family ``name`` with its recorded settings, or inside the model's range of values.

    Args:
        settings: with another ``name`` than that of the record, or by field, where they have them.

    Raises:
        ValueError: no such family.
    """
    if not settings:
        known = default_families(model) | out_of_family(model)
        return known[name] if name in known else read_family({"name": name}, model.problem, model.config["trust"])
    is_whole = "name" in settings or all(isinstance(own, dict) for own in settings.values())
    return read_family(settings if is_whole else {"name": name, **settings}, model.problem, model.config["trust"])


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
        u0 (count, *space), of a system (count, *space, field), and (count,) values by symbol.
    """
    rng = np.random.default_rng([seed, 2**31])
    axes = list(problem.output_space.values())
    if num_points is not None:
        axes = [axis.sized(num_points) if axis.is_periodic else axis for axis in axes]
    u0 = family.sample(count, [axis.nodes for axis in axes], rng, Domain.of(problem.output_space))
    parameters = sample_parameters(problem, tuple(inputs), count, rng)
    factor = problem.initial_factor({**problem.typical(), **parameters})
    if factor is not None:
        u0 = u0 * np.reshape(factor, (-1, *[1] * (u0.ndim - 1)))
    return u0, parameters
