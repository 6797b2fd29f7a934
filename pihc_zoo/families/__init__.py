"""Families of initial conditions and coefficients (numpy only): random fields at any positions on any axes.

The same draw evaluated on two grids is the same field, and the same on a domain of another length, stretched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..registration import registrar
from .base import Draws, Family, NumpyDraws
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
from .coefficients import LognormalProcess, NormalProcess
from .defaults import OUT_OF_FAMILY, PERIODIC_OUT_OF_FAMILY, Values, filled, filling, for_training, out_of_family
from .domain import Domain, Points
from .parameters import coefficient_family, draw_parameters, sample_parameters
from .periodic import (
    PeriodicGaussianProcess,
    PeriodicNoise,
    PeriodicShortWaves,
    PeriodicSquareWaves,
    PeriodicStrongFields,
    RandomWaves,
)
from .systems import FieldFamilies

__all__ = [
    "FAMILIES",
    "OUT_OF_FAMILY",
    "PERIODIC_OUT_OF_FAMILY",
    "BoundedFamily",
    "Constants",
    "Domain",
    "Draws",
    "Family",
    "FieldFamilies",
    "GaussianProcess",
    "HighPlateaus",
    "LognormalProcess",
    "NarrowPulses",
    "NormalProcess",
    "NumpyDraws",
    "PeriodicGaussianProcess",
    "PeriodicNoise",
    "PeriodicShortWaves",
    "PeriodicSquareWaves",
    "PeriodicStrongFields",
    "Points",
    "RandomSines",
    "RandomWaves",
    "ShortWaves",
    "SmoothFields",
    "SquareWaves",
    "Values",
    "WhiteNoise",
    "coefficient_family",
    "draw_parameters",
    "filled",
    "filling",
    "for_training",
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
    "lognormal_process": LognormalProcess,
    "normal_process": NormalProcess,
}
_Class = TypeVar("_Class", bound=type[Family])


def register_family(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_family("my-family")``: a decorator that makes a family of initial conditions known by its name.

    Configurations, recipes and commands may use it then. Entering the same class again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("family", FAMILIES, name, Family)
