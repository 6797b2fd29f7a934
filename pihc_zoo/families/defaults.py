"""Families that suit a range of values and a domain: smooth fields that fill it, and sets unlike them."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Family
from .bounded import (
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
from .domain import Domain
from .periodic import (
    PeriodicGaussianProcess,
    PeriodicNoise,
    PeriodicShortWaves,
    PeriodicSquareWaves,
    PeriodicStrongFields,
    RandomWaves,
)

OUT_OF_FAMILY: dict[str, type[Family]] = {
    "square_waves": SquareWaves,
    "narrow_pulses": NarrowPulses,
    "white_noise": WhiteNoise,
    "short_waves": ShortWaves,
    "high_plateaus": HighPlateaus,
}
PERIODIC_OUT_OF_FAMILY: dict[str, type[Family]] = {
    "periodic_square_waves": PeriodicSquareWaves,
    "periodic_noise": PeriodicNoise,
    "periodic_short_waves": PeriodicShortWaves,
    "periodic_strong_fields": PeriodicStrongFields,
}


@dataclass(frozen=True)
class Values:
    """What values a field of initial conditions takes.

    Attributes:
        low, high: the range that a model is for.
        highest: largest admissible value; default ``high``.
        scale: typical deviation of fields around a mean; default: a quarter of the way from mean to range.
        has_zero_mean: whether only fields of zero mean are admissible.
        may_be_clean: whether fields of the constant value 0 = ``low`` are of interest: something enters at a wall.
    """

    low: float
    high: float
    highest: float | None = None
    scale: float | None = None
    has_zero_mean: bool = False
    may_be_clean: bool = False

    @property
    def mean(self) -> float:
        """Of periodic families: zero where it lies inside the range, else the middle."""
        return 0.0 if self.has_zero_mean or self.low < 0 < self.high else (self.low + self.high) / 2

    @property
    def deviation(self) -> float:
        """Of periodic families: their ``scale``."""
        return self.scale or min(self.high - self.mean, self.mean - self.low) / 4

    @property
    def is_clean(self) -> bool:
        """Whether constants of exactly ``low`` belong to the fields."""
        return self.may_be_clean and self.low == 0

    def inside(self, margin: float) -> tuple[float, float]:
        """The range less a share of it at both ends."""
        width = margin * (self.high - self.low)
        return self.low + width, self.high - width


def filling(domain: Domain, values: Values) -> dict[str, Family]:
    """Families of smooth fields by name, from just above the range's low end to just below its high one.

    Where fields must have no mean they are periodic ones of the field's own scale.
    """
    number = len(domain.starts)
    if values.has_zero_mean:
        families: dict[str, Family] = {"periodic_gaussian_process": PeriodicGaussianProcess(scale=values.deviation)}
        return families | ({"random_waves": RandomWaves(scale=values.deviation)} if number == 1 else {})
    low, high = values.inside(1 / 60)
    families = {"random_sines": RandomSines(low, high)} if number == 1 else {}
    families["gaussian_process"] = GaussianProcess(low, high)
    families["constants"] = Constants(0.0, high, clean=0.25) if values.is_clean else Constants(low, high)
    return families


def for_training(domain: Domain, values: Values) -> Family:
    """A family that fills the range, with constants, to train on."""
    if values.has_zero_mean:
        return filling(domain, values)["periodic_gaussian_process"]
    low, high = values.inside(1 / 100)
    return SmoothFields(0.0, high, clean=0.1) if values.is_clean else SmoothFields(low, high)


def out_of_family(domain: Domain, values: Values) -> dict[str, Family]:
    """Sets by name that no model of these values is trained for."""
    if domain.is_all_periodic:
        return {name: filled(cls, values) for name, cls in PERIODIC_OUT_OF_FAMILY.items()}
    families = {name: filled(cls, values) for name, cls in OUT_OF_FAMILY.items()}
    if values.highest is None or values.highest <= values.high:
        del families["high_plateaus"]  # nothing is above the range
    return families


def filled(cls: type[Family], values: Values, **settings) -> Family:
    """A family whose values fill a range, where it has a range or a mean and ``settings`` do not say."""
    accepted = getattr(cls, "__dataclass_fields__", {})
    if not {"low", "high", "mean", "scale"} & set(settings):
        if "low" in accepted and "deviation" not in accepted:
            settings["low"], settings["high"] = _range(cls, values)
        elif "scale" in accepted:
            factor = cls().scale  # type: ignore[attr-defined]
            settings |= {"scale": factor * values.deviation, "mean": values.mean}
    return cls(**settings)


def _range(cls: type[Family], values: Values) -> tuple[float, float]:
    width = values.high - values.low
    if issubclass(cls, NarrowPulses):
        return values.low + width / 15, values.high - width / 10
    if issubclass(cls, HighPlateaus):
        low = values.high + 2 / 3 * width
        return low, max(low, (values.highest or values.high) - width / 6)
    if issubclass(cls, Constants) and values.is_clean:
        return 0.0, values.high
    return values.inside(1 / 60 if issubclass(cls, RandomSines) else 1 / 100)
