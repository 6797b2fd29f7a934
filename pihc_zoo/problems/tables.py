"""Checked reading of the tables that describe a problem in a recipe or a config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..config import ConfigError
from ..grid import Axis, CellAxis, FourierAxis
from ..text import nearest
from .base import Parameter, Variable

MAX_POINTS, MAX_ALL_POINTS = 4096, 2**24
_SENTINEL = object()
_PARAMETER_KEYS = ("kind", "default", "low", "high", "unit", "is_logarithmic", "description", "physical")
_PARAMETER_KEYS += ("normalised_over",)


class Table:
    """A mapping of settings, read key by key, each of a known kind.

    Args:
        values: as it was parsed.
        where: what it is, for messages.
        keys: all that may stand in it.

    Raises:
        ConfigError: no mapping, or unknown keys; the nearest ones are named.
    """

    def __init__(self, values: Any, where: str, keys: Iterable[str]):
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a table, got {values!r:.80}")
        self.values, self.where, keys = values, where, tuple(keys)
        for key in values:
            if key not in keys:
                raise ConfigError(f"{where}: unknown key {key!r}; {nearest(key, keys)}")

    def _get(self, key: str, default: Any) -> Any:
        if key in self.values:
            return self.values[key]
        if default is _SENTINEL:
            raise ConfigError(f"{self.where} lacks {key!r}")
        return default

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str, default: Any = _SENTINEL) -> str:
        """One line of text."""
        value = self._get(key, default)
        if not isinstance(value, str) or len(value) > 400 or any(ord(letter) < 32 for letter in value):
            raise ConfigError(f"{self.where}: {key} must be one line of text, got {value!r:.80}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.where}: {key} must be true or false, got {value!r:.80}")
        return value

    def number(self, key: str, default: Any = _SENTINEL) -> float:
        """A finite number."""
        value = self._get(key, default)
        if not _is_number(value) or not math.isfinite(value):
            raise ConfigError(f"{self.where}: {key} must be a finite number, got {value!r:.80}")
        return float(value)

    def interval(self, key: str, default: Any = _SENTINEL) -> tuple[float, float]:
        """[low, high], low < high; infinite ends where the default has them."""
        value = self._get(key, default)
        is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(own) for own in value)
        is_open = isinstance(default, tuple) and not math.isfinite(default[1])
        if not is_pair or not value[0] < value[1] or not (is_open or all(map(math.isfinite, value))):
            raise ConfigError(f"{self.where}: {key} must be [low, high] with low < high, got {value!r:.80}")
        return float(value[0]), float(value[1])

    def texts(self, key: str, default: Any = _SENTINEL) -> list[str]:
        """A list of texts; one text stands for a list of one."""
        value = self._get(key, default)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple) or not all(isinstance(own, str) for own in value):
            raise ConfigError(f"{self.where}: {key} must be a list of texts, got {value!r:.80}")
        return list(value)

    def tables(self, key: str, default: Any = _SENTINEL) -> dict[str, Any]:
        """A table of what has names."""
        value = self._get(key, default)
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"{self.where}: {key} must be a table, got {value!r:.80}")
        return dict(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= math.inf


def variables(tables: Mapping[str, Any]) -> dict[str, Variable]:
    """The fields, [problem.fields.NAME]: range = [low, high], unit, description, scale."""
    if not tables:
        raise ConfigError("problem: fields must name at least one field, as in [problem.fields.u]")
    found = {}
    for name, values in tables.items():
        own = Table(values, f"problem: field {name}", ("range", "unit", "description", "scale"))
        unit, description = own.text("unit", "dimensionless"), own.text("description", "")
        scale = own.number("scale") if "scale" in own else None
        if scale is not None and scale <= 0:
            raise ConfigError(f"{own.where}: scale must be positive, got {scale:g}")
        found[name] = Variable(*own.interval("range"), unit, description, scale)
    return found


def is_spread(values: Any) -> bool:
    """Whether a parameter's table declares a field over space or a series over time."""
    return isinstance(values, Mapping) and values.get("kind") in ("field", "series")


def coefficients(tables: Mapping[str, Any]) -> tuple[dict[str, Parameter], dict[str, dict[str, float]]]:
    """Parameters of the kinds "field" and "series": their ranges, and the settings of the families that draw them.

    Their tables have ``shortest`` and ``longest``, too: scales of what is drawn, in units of the axes' lengths or
    of the duration.
    """
    found, families = {}, {}
    for name, values in tables.items():
        own = Table(values, f"problem: parameter {name}", (*_PARAMETER_KEYS, "shortest", "longest"))
        numbers = {key: own.values[key] for key in _PARAMETER_KEYS if key in own and key != "kind"}
        (declared,) = parameters({name: numbers}, ()).values()
        found[name] = dataclasses.replace(declared, is_series=own.values["kind"] == "series")
        if not declared.low < declared.high:
            raise ConfigError(f"{own.where} is a {own.values['kind']}: give its range, low < high")
        scales = {key: own.number(key) for key in ("shortest", "longest") if key in own}
        shortest, longest = scales.get("shortest", 0.1), scales.get("longest", 0.5)
        if not 0 < shortest <= longest:
            raise ConfigError(
                f"{own.where}: shortest must be positive and at most longest, {shortest:g} and {longest:g}"
            )
        families[name] = scales
    return found, families


def parameters(tables: Mapping[str, Any], inputs: Iterable[str]) -> dict[str, Parameter]:
    """The parameters, a table each: kind, default, low, high, unit, is_logarithmic, description, physical."""
    found = {}
    for name, values in tables.items():
        own = Table(values, f"problem: parameter {name}", _PARAMETER_KEYS)
        kind = own.text("kind", "number")
        if kind != "number":
            raise ConfigError(f"{own.where}: kind must be 'number', 'field' or 'series', got {kind!r:.80}")
        default = own.number("default")
        low, high = own.number("low", default), own.number("high", default)
        is_logarithmic = own.flag("is_logarithmic", False)
        physical = own.interval("physical", (0.0 if is_logarithmic else -math.inf, math.inf))
        if not low <= default <= high:
            raise ConfigError(f"{own.where}: its default {default:g} lies outside of its range, {low:g} to {high:g}")
        if is_logarithmic and low <= 0:
            raise ConfigError(f"{own.where} is logarithmic: its values must be positive, got {low:g}")
        if not physical[0] < low or not high < physical[1]:
            raise ConfigError(
                f"{own.where}: {low:g} to {high:g} leaves what is physical, {physical[0]:g} to {physical[1]:g}"
            )
        over = own.interval("normalised_over") if "normalised_over" in own else None
        unit, description = own.text("unit", "dimensionless"), own.text("description", "")
        found[name] = Parameter(default, low, high, unit, description, is_logarithmic, physical, over)
    for name in inputs:
        if name not in found:
            raise ConfigError(f"problem: inputs name no parameter {name!r}; {nearest(name, found)}")
        if not found[name].low < found[name].high:
            raise ConfigError(f"problem: parameter {name} is an input: give its range, low < high")
    return found


def axes(tables: Mapping[str, Any]) -> tuple[dict[str, Axis], dict[str, str], dict[str, tuple[list[str], list[str]]]]:
    """The axes, [problem.space.NAME]: kind, start, stop, points, unit, and left and right where it is bounded.

    Returns:
        By name: the axes; their units; the conditions at both walls of the bounded ones, as texts.
    """
    found, units, walls = {}, {}, {}
    if not tables or len(tables) > 3:
        raise ConfigError("problem: space must have one to three axes, as in [problem.space.x]")
    for name, values in tables.items():
        if name not in ("x", "y", "z"):
            raise ConfigError(f"problem: axes are called x, y and z, got {name!r}")
        own = Table(values, f"problem: axis {name}", ("kind", "start", "stop", "points", "unit", "left", "right"))
        kind, start, stop = own.text("kind"), own.number("start", 0.0), own.number("stop", 1.0)
        points = own.values.get("points", 128)
        if kind not in ("bounded", "periodic"):
            raise ConfigError(f"{own.where}: kind must be 'bounded' or 'periodic', got {kind!r:.80}")
        if not start < stop:
            raise ConfigError(f"{own.where}: start must lie below stop, got {start:g} and {stop:g}")
        least = 32 if kind == "periodic" else 8
        if type(points) is not int or not least <= points <= MAX_POINTS or (kind == "periodic" and points % 2):
            even = "an even number" if kind == "periodic" else "an integer"
            raise ConfigError(f"{own.where}: points must be {even} from {least} to {MAX_POINTS}, got {points!r:.80}")
        sides = [own.texts(side) for side in ("left", "right") if side in own]
        if kind == "periodic":
            if sides:
                raise ConfigError(f"{own.where} is periodic: it has no walls; leave left and right out")
            found[name] = FourierAxis(points, stop - start, start)
        else:
            if len(sides) < 2:
                raise ConfigError(
                    f'{own.where} is bounded: give both walls, as in left = "u = 1", right = "u_{name} = 0"'
                )
            found[name], walls[name] = CellAxis(points, start, stop), tuple(sides)
        units[name] = own.text("unit", "dimensionless")
    if math.prod(len(axis.nodes) for axis in found.values()) > MAX_ALL_POINTS:
        raise ConfigError(f"problem: space has more than {MAX_ALL_POINTS} points")
    return found, units, walls


def times(values: Any, duration: float | None) -> np.ndarray:
    """(n,) output times: those that are given, or so many equal steps; 101 by default, 1 alone where steady."""
    if duration is None:
        if values is not None:
            raise ConfigError("problem: a steady problem has no times; leave them out, or give a duration")
        return np.ones(1)
    if values is None:
        values = 101
    if type(values) is int and 2 <= values <= 100_000:
        return np.linspace(0.0, duration, values)
    if not isinstance(values, list | tuple) or not 2 <= len(values) <= 100_000 or not all(map(_is_number, values)):
        raise ConfigError(f"problem: times must be a number of times or a list of them, got {values!r:.80}")
    found = np.array(values, dtype=np.float64)
    if found[0] != 0 or found[-1] != duration or not (np.diff(found) > 0).all():
        raise ConfigError(f"problem: times must increase from 0 to the duration, {duration:g}")
    return found
