"""Families of initial conditions (numpy only): random fields at any positions on one or several axes.

The same draw evaluated on two grids is the same field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..registration import registrar
from .base import Draws, Family, NumpyDraws, draw_parameters, sample_parameters
from .bounded import (
    BoundedFamily,
    Constants,
    GaussianProcess,
    HighPlateaus,
    NarrowPulses,
    RandomSines,
    ShortWaves,
    SmoothFields,
    SquareWaves,
    WhiteNoise,
)
from .periodic import (
    PeriodicGaussianProcess,
    PeriodicNoise,
    PeriodicShortWaves,
    PeriodicSquareWaves,
    PeriodicStrongFields,
    RandomWaves,
)

__all__ = [
    "FAMILIES",
    "OUT_OF_FAMILY",
    "PERIODIC_OUT_OF_FAMILY",
    "BoundedFamily",
    "Constants",
    "Draws",
    "Family",
    "GaussianProcess",
    "HighPlateaus",
    "NarrowPulses",
    "NumpyDraws",
    "PeriodicGaussianProcess",
    "PeriodicNoise",
    "PeriodicShortWaves",
    "PeriodicSquareWaves",
    "PeriodicStrongFields",
    "RandomSines",
    "RandomWaves",
    "ShortWaves",
    "SmoothFields",
    "SquareWaves",
    "WhiteNoise",
    "draw_parameters",
    "out_of_family",
    "register_family",
    "sample_parameters",
]

FAMILIES: dict[str, type[Family]] = {
    "constants": Constants,
    "smooth_fields": SmoothFields,
    "gaussian_process": GaussianProcess,
    "random_sines": RandomSines,
    "square_waves": SquareWaves,
    "narrow_pulses": NarrowPulses,
    "white_noise": WhiteNoise,
    "short_waves": ShortWaves,
    "high_plateaus": HighPlateaus,
    "periodic_gaussian_process": PeriodicGaussianProcess,
    "random_waves": RandomWaves,
    "periodic_square_waves": PeriodicSquareWaves,
    "periodic_noise": PeriodicNoise,
    "periodic_short_waves": PeriodicShortWaves,
    "periodic_strong_fields": PeriodicStrongFields,
}
_Class = TypeVar("_Class", bound=type[Family])
OUT_OF_FAMILY = ("square_waves", "narrow_pulses", "white_noise", "short_waves", "high_plateaus")
PERIODIC_OUT_OF_FAMILY = ("periodic_square_waves", "periodic_noise", "periodic_short_waves", "periodic_strong_fields")


def out_of_family(space: dict[str, Any]) -> tuple[str, ...]:
    """Names of the sets that no model of a problem on the axes ``space`` was trained for."""
    is_periodic = all(axis.is_periodic for axis in space.values())
    names = PERIODIC_OUT_OF_FAMILY if is_periodic else OUT_OF_FAMILY
    return tuple(name for name in names if len(space) in FAMILIES[name].num_axes)


def filling(space: dict[str, Any], low: float, high: float) -> dict[str, Family]:
    """Families of smooth fields on the axes ``space``, by name; on bounded ones from just above low to just below high.

    Periodic ones have a scale of their own.
    """
    if all(axis.is_periodic for axis in space.values()):
        names = ("periodic_gaussian_process", "random_waves")
        return {name: FAMILIES[name]() for name in names if len(space) in FAMILIES[name].num_axes}
    margin = (high - low) / 60
    names = ("random_sines", "gaussian_process", "constants")
    return {name: FAMILIES[name](low=low + margin, high=high - margin) for name in names}


def register_family(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_family("my-family")``: a decorator that makes a family of initial conditions known by its name.

    Configurations, recipes and commands may use it then. Entering the same class again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("family", FAMILIES, name, Family)
