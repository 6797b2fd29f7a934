"""Conditions at walls as text: equalities that are linear in a field and its slope across the wall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import ConfigError
from ..solvers.dual import Dual
from .base import WallCondition
from .binding import Binding, Refuse
from .expression import Place, sides


class Walls:
    """The conditions at the walls of all bounded axes.

    Args:
        texts: axis ↦ the conditions at its left and right wall, one per field.
        names: fields, axes, parameters, definitions and has_time of a `Binding`.
        typical: a value of each parameter, for the sign of conditions.

    Raises:
        ConfigError: a condition that cannot be used, by its place, or fields without one.
    """

    def __init__(self, texts: Mapping[str, tuple[list[str], list[str]]], names: Mapping[str, Any], typical: dict):
        self._binding, self._fields = Binding(**names), tuple(names["fields"])
        self._conditions: dict[str, dict[str, tuple[Any, Any]]] = {}
        for axis, both in texts.items():
            left, right = (
                self._of_wall(own, axis, f"problem: axis {axis}, {side}", typical)
                for own, side in zip(both, ("left", "right"), strict=True)
            )
            self._conditions[axis] = {field: (left[field], right[field]) for field in self._fields}

    def __call__(self, c: Mapping[str, Any]) -> dict[str, Any]:
        """By axis, and by field of a system: the conditions at the left and the right wall."""
        found = {
            axis: {field: tuple(self._condition(own, c) for own in pair) for field, pair in fields.items()}
            for axis, fields in self._conditions.items()
        }
        if len(self._fields) > 1:
            return found
        return {axis: fields[self._fields[0]] for axis, fields in found.items()}

    def _of_wall(self, texts: Sequence[str], axis: str, where: str, defaults: Mapping[str, float]) -> dict[str, tuple]:
        found: dict[str, tuple] = {}
        for i, text in enumerate(texts):
            own = where if len(texts) == 1 else f"{where} {i + 1}"
            field, node = self._read(text, axis, own)
            if field in found:
                raise ConfigError(f"{own}: a second condition for {field}; each field has one per wall")
            at_defaults = self._condition((node, field, f"{field}_{axis}", False), defaults)
            if at_defaults.value == 0 and at_defaults.slope == 0:
                raise ConfigError(f"{own}: holds neither {field} nor {field}_{axis} at the default parameters")
            is_flipped = at_defaults.value < 0 or (at_defaults.value == 0 and at_defaults.slope < 0)
            found[field] = (node, field, f"{field}_{axis}", bool(is_flipped))
        missing = [field for field in self._fields if field not in found]
        if missing:
            raise ConfigError(f"{where}: no condition for {' and '.join(missing)}; give one per field, as a list")
        return found

    def _read(self, text: str, axis: str, where: str) -> tuple[str, int]:
        """The field of a condition, and the node of left − right."""
        binding, allowed = self._binding, {}
        for field in self._fields:
            allowed |= {field: field, f"{field}_{axis}": field}

        def check(node: int, name: str, refuse: Refuse) -> None:
            for kind, key in binding.symbols([node]):
                if kind == "coordinate" or (kind == "coefficient" and key not in binding.series):
                    refuse(f"{name}: a condition at a wall does not depend on {key}")
                if kind == "feature" and key not in allowed:
                    takes = " and ".join([self._fields[0], f"{self._fields[0]}_{axis}"])
                    refuse(f"{name}: a condition at a wall of {axis} is linear in {takes}")

        left, right, place = sides(text, Place(where))
        nodes = [binding.read(left, Place(where), check), binding.read(right, place, check)]
        node = binding.graph.apply("-", *nodes)
        held = [key for kind, key in binding.symbols([node]) if kind == "feature"]
        fields = sorted({allowed[key] for key in held if key in allowed})
        if len(fields) != 1 or len(held) > 2:
            what = " and ".join(fields) or "no field"
            raise ConfigError(f"{where}: {text.strip()!r} holds {what}; a condition is for one field")
        if binding.graph.degrees(lambda symbol: symbol.kind == "feature")[node] > 1:
            raise ConfigError(f"{where}: {text.strip()!r} is not linear in {fields[0]} and {fields[0]}_{axis}")
        if binding.graph.degrees(lambda symbol: symbol.kind in ("feature", "coefficient"))[node] > 1:
            followed = "; ".join(key for kind, key in binding.symbols([node]) if kind == "coefficient")
            raise ConfigError(f"{where}: {followed} is a series: a term of its own, no factor of a field")
        return fields[0], node

    def _condition(self, own: tuple, c: Mapping[str, Any]) -> WallCondition:
        node, field, slope, is_flipped = own
        duals = {field: Dual(0.0, {0: 1.0}), slope: Dual(0.0, {1: 1.0})}
        (form,) = self._binding.graph.evaluate(
            [node], lambda symbol: duals[symbol.key] if symbol.kind == "feature" else c[symbol.key]
        )
        value, slope, rest = (form.partials.get(0, 0.0), form.partials.get(1, 0.0), form.value)
        if is_flipped:
            return WallCondition(0.0 - value, 0.0 - slope, rest)
        return WallCondition(value, slope, 0.0 - rest)  # no −0


def shown(texts: Mapping[str, tuple[list[str], list[str]]]) -> list[str]:
    """A line per wall, as it was written."""
    lines = []
    for axis, both in texts.items():
        for side, own in zip(("left", "right"), both, strict=True):
            lines.append(f"{side} wall of {axis}: {', '.join(text.strip() for text in own)}")
    return lines
