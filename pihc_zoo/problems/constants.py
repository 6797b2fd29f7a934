"""Other constants than a problem declares: new defaults, and new ranges of what a model takes as input.

In a configuration they are ``{"k_f": {"default": 5e-4}, "D": {"default": 3e-4, "low": 1e-4, "high": 4e-4}}``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..config import ConfigError
from ..text import nearest, unit_of
from .base import Parameter

_KEYS = ("default", "low", "high")


def with_constants(declared: dict[str, Parameter], constants: Any, inputs: tuple[str, ...]) -> dict[str, Parameter]:
    """The parameters of a problem with some constants changed.

    Args:
        declared: as the problem has them.
        constants: symbol → {"default": …} or, of an input, also "low" and "high".
        inputs: symbols that a model takes as inputs; networks see them normalised over their declared range.

    Raises:
        ConfigError: unknown symbols or keys, values that are no numbers or mean nothing, a range of what is no input.
    """
    if not isinstance(constants, Mapping):
        raise ConfigError(f"problem: parameters must be a table by symbol, got {constants!r}")
    parameters = dict(declared)
    for key, changes in constants.items():
        if key not in declared:
            raise ConfigError(f"problem: no parameter {key!r}; {nearest(key, declared)}")
        if not isinstance(changes, Mapping) or not changes or set(changes) - set(_KEYS):
            raise ConfigError(f"problem: parameter {key!r} must be a table of {', '.join(_KEYS)}, got {changes!r}")
        parameters[key] = _changed(key, declared[key], dict(changes), key in inputs)
    return parameters


def _changed(key: str, declared: Parameter, changes: dict[str, Any], is_input: bool) -> Parameter:
    least, most = declared.physical
    for name, value in changes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"problem: {name} of {key} must be a finite number, got {value!r}")
        if not least < value < most:
            raise ConfigError(
                f"problem: {key} must lie between {least:g} and {most:g}{unit_of(declared.unit)}, got {value:g}"
            )
    default = float(changes.get("default", declared.default))
    if not is_input:
        if set(changes) != {"default"}:
            raise ConfigError(f"problem: {key} is no input of this model: give its default, not a range")
        return dataclasses.replace(
            declared, default=default, low=min(declared.low, default), high=max(declared.high, default)
        )
    low, high = (float(changes.get(name, getattr(declared, name))) for name in ("low", "high"))
    if not low < high:
        raise ConfigError(f"problem: the range of {key} must increase, got {low:g} to {high:g}")
    if not low <= default <= high:
        raise ConfigError(f"problem: the default of {key}, {default:g}, lies outside its range {low:g} to {high:g}")
    return dataclasses.replace(
        declared,
        default=default,
        low=low,
        high=high,
        normalised_over=declared.normalised_over or (declared.low, declared.high),
    )


def constants_of(
    wanted: Mapping[str, Any], parameters: dict[str, Parameter], inputs: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """What a configuration holds for the constants that a user wants.

    Args:
        wanted: symbol → a new default; or, of an input, (low, high) or (low, default, high). A default outside an
            input's range extends it; one that a new range leaves out becomes the middle of it.
        parameters: as the model has them.
        inputs: what the model takes as input.

    Raises:
        ValueError: an unknown symbol, no number, a range of what is no input.
    """
    if not isinstance(wanted, Mapping):
        raise ValueError(f"parameters must be a dict such as {{'D': 3e-4}} or {{'D': (1e-4, 4e-4)}}, got {wanted!r}")
    constants = {}
    for key, value in wanted.items():
        if key not in parameters:
            raise ValueError(f"no parameter {key!r}; {nearest(key, parameters)}")
        own = parameters[key]
        numbers = list(value) if isinstance(value, list | tuple) else [value]
        if not 1 <= len(numbers) <= 3 or not all(_is_number(number) for number in numbers):
            raise ValueError(f"parameter {key} must be a number, (low, high) or (low, default, high), got {value!r}")
        numbers = [float(number) for number in numbers]
        if len(numbers) > 1 and key not in inputs:
            raise ValueError(
                f"{key} is no input of this model, whose inputs are {', '.join(inputs) or 'none'}: give one value, "
                "or tune a model that takes it (pihc list)"
            )
        if len(numbers) == 1 and key not in inputs:
            constants[key] = {"default": numbers[0]}
            continue
        low, high = (numbers[0], numbers[-1]) if len(numbers) > 1 else (own.low, own.high)
        if not low < high:
            raise ValueError(f"the range of {key} must increase, got {low:g} to {high:g}")
        if len(numbers) == 1:
            default, low, high = numbers[0], min(low, numbers[0]), max(high, numbers[0])
        elif len(numbers) == 3:
            default = numbers[1]
        elif low <= own.default <= high:
            default = own.default
        else:
            default = math.sqrt(low * high) if own.is_logarithmic and low > 0 else 0.5 * (low + high)
        constants[key] = {"default": default, "low": low, "high": high}
    return constants


def changed_table(
    declared: dict[str, Parameter], tables: Mapping[str, Any], constants: Mapping[str, Any], inputs: tuple[str, ...]
) -> dict[str, Any]:
    """The parameters' tables of a problem from text, with some constants changed.

    Args:
        declared: as the problem has them.
        tables: as its text has them.
        constants: see `constants_of`.
        inputs: go on being normalised as they were; the range of others takes in their new default.
    """
    changed = dict(tables)
    for key, changes in constants.items():
        own, new = declared[key], {**tables[key], **changes}
        if key in inputs:
            new["normalised_over"] = list(own.normalised_over or (own.low, own.high))
        else:
            new |= {"low": min(own.low, new["default"]), "high": max(own.high, new["default"])}
        changed[key] = new
    return changed


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool | str) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
