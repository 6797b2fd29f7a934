"""What is unknown: names, ranges and the scale on which it is sought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from ..prediction.request import parameter_range
from ..text import nearest, unit_of

INITIAL = "u0"  # the unknown that is no parameter: a constant initial value


@dataclass(frozen=True)
class Unknown:
    """One number that is sought, as z in [−1, 1] over its range: linearly, or in its logarithm.

    Attributes:
        name: symbol, or "u0".
        low, high: range.
        is_logarithmic: which scale.
        unit: as the problem declares it.
    """

    name: str
    low: float
    high: float
    is_logarithmic: bool
    unit: str

    def value(self, z: Any) -> Any:
        """The physical value at ``z``, an array or a tensor."""
        if self.is_logarithmic:
            return (self.low * self.high) ** 0.5 * (self.high / self.low) ** (0.5 * z)
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * z

    def scaled(self, value: Any) -> Any:
        """z of a physical value."""
        if self.is_logarithmic:
            return 2 * np.log(value / (self.low * self.high) ** 0.5) / np.log(self.high / self.low)
        return (2 * value - self.low - self.high) / (self.high - self.low)

    def slope(self, z: Any) -> Any:
        """d(value)/dz."""
        if self.is_logarithmic:
            return 0.5 * np.log(self.high / self.low) * self.value(z)
        return 0.5 * (self.high - self.low) + 0 * z

    @property
    def suffix(self) -> str:
        """ " unit" to follow a number."""
        return unit_of(self.unit)


def check_unknowns(model: Any, unknown: Any, known: dict[str, Any]) -> list[Unknown]:
    """The unknowns with their ranges in this model.

    Raises:
        ValueError: none, twice the same, a name that nothing has, one that this model does not take, or one that is
            known as well.
    """
    problem, inputs = model.problem, model.parameter_inputs
    names = [unknown] if isinstance(unknown, str) else list(unknown)
    choices = [*inputs] if problem.is_system else [*inputs, INITIAL]
    if not names:
        raise ValueError(f"nothing is unknown: name at least one of {', '.join(choices) or 'the inputs of a model'}")
    if len(set(names)) < len(names):
        raise ValueError(f"unknown names {', '.join(names)}: one of them is there twice")
    for name in names:
        if problem.is_system and name == INITIAL:
            raise ValueError(f"u0 cannot be unknown where there are several fields ({', '.join(problem.fields)})")
        if name not in problem.parameters and name != INITIAL:
            raise ValueError(f"no parameter {name!r}; {nearest(name, choices)}")
        if name in known:
            raise ValueError(f"{name} is both known ({known[name]}) and unknown; leave it out of one of them")
        if name != INITIAL and name not in inputs:
            raise ValueError(_not_an_input(problem, name))
    return [_unknown(model, name) for name in names]


def _unknown(model: Any, name: str) -> Unknown:
    problem = model.problem
    if name == INITIAL:
        low, high = model.trust.state_range or problem.state_range
        return Unknown(name, float(low), float(high), False, problem.units.get("u", "dimensionless"))
    declared = problem.parameters[name]
    low, high = parameter_range(problem, model.parameter_inputs, name)
    return Unknown(name, low, high, declared.is_logarithmic, declared.unit)


def _not_an_input(problem: Any, name: str) -> str:
    """Says which models take a parameter that this one does not."""
    from ..zoo.loading import model_info
    from ..zoo.registry import list_models

    takers = [
        own
        for own in list_models(problem=problem.name)
        if name in model_info(own)["config"]["problem"].get("inputs", ())
    ]
    default = f"{name} is fixed at {problem.parameters[name].default:g}{unit_of(problem.parameters[name].unit)}"
    if takers:
        return f"{default} in this model; {' and '.join(takers)} take{'' if takers[1:] else 's'} it as input"
    return f"{default}; no model of {problem.name} takes it as input"


def starting_points(count: int, dimension: int, seed: int) -> np.ndarray:
    """(count, dimension) well spread points of the scaled box, the centre first."""
    sampler = qmc.Halton(dimension, scramble=True, seed=seed)
    return np.concatenate([np.zeros((1, dimension)), 1.8 * sampler.random(max(0, count - 1)) - 0.9])
