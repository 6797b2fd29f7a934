"""What a card says of its problem: walls, domain, input, parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..text import NONE, number, shown_unit

_START = " The initial condition is the input."


def conditions(problem: Any) -> str:
    """The wall conditions, in words."""
    if problem.wall_text:
        own = "; ".join(
            f"`{condition}` ({where})" for where, _, condition in (t.partition(": ") for t in problem.wall_text)
        )
        return f"Boundary conditions: {own}.{_START if problem.duration else ''}"
    lines = []
    for axis, walls in problem.walls(problem.typical()).items():
        nodes = problem.output_space[axis].closed_nodes
        for field, pair in (walls if problem.is_system else {problem.field: walls}).items():
            for wall, position in zip(pair, (nodes[0], nodes[-1]), strict=True):
                at = "" if wall.at is None else f"({number(wall.at)})"
                parts = [(wall.value, field), (wall.slope, f"{field}_{axis}{at}")]
                terms = [
                    symbol if value == 1 else f"{number(value)} {symbol}"
                    for value, symbol in parts
                    if np.any(value != 0)
                ]
                lines.append(f"`{' + '.join(terms)} = {number(wall.target)}` at {axis} = {number(position)}")
    walls = "; ".join(lines) if lines else "periodic"
    return f"Boundary conditions (default parameters): {walls}.{_START if problem.duration else ''}"


def fields(problem: Any) -> list[dict[str, str]]:
    """A row per field of a system; none where there is one field."""
    return [
        {
            "name": name,
            "range": f"{number(own.low)} … {number(own.high)}",
            "unit": own.unit,
            "description": own.description,
        }
        for name, own in problem.fields.items()
        if problem.is_system
    ]


def initial_values(problem: Any, ranges: dict[str, tuple[float, float]]) -> str:
    """The range of initial values that a model was trained on, in words; of a steady problem nothing."""
    if problem.duration is None:
        return ""
    if problem.is_system:
        own = ", ".join(f"of `{name}` from {number(low)} to {number(high)}" for name, (low, high) in ranges.items())
        return (
            f"Initial values {own} were seen in training; others are predicted but marked unreliable, and come back as "
            "NaN outside the fields' ranges."
        )
    low, high = (number(value) for value in ranges[problem.field])
    unit = shown_unit(problem.units["u"])
    return (
        f"Initial values between {low} and {high}{f' {unit}' if unit else ''} were seen in training; others are "
        "predicted but marked unreliable."
    )


def smallest(problem: Any) -> int:
    """Fewest points per periodic axis of an input, of which any even number will do; 0 where there is none."""
    return max((axis.smallest for axis in problem.output_space.values() if axis.is_periodic), default=0)


def input_shape(problem: Any) -> str:
    """Of u0."""
    return field_shape(problem, f", {len(problem.fields)}" if problem.is_system else "")


def field_shape(problem: Any, last: str = "") -> str:
    """Of a field over space, a further dimension ``last``."""
    axes, least = problem.output_space.values(), smallest(problem)
    sizes = ", ".join("n" if axis.is_periodic else str(len(axis.nodes)) for axis in axes)
    return f"(batch, {sizes}{last})" + (f", n even and at least {least}" if least else "")


def call(problem: Any) -> str:
    """How a model is asked, with the shapes of what it takes."""
    given = {} if problem.duration is None else {"u0": input_shape(problem)}
    series = f"(batch, {len(problem.output_times)})"
    own = {key: series if key in problem.series else field_shape(problem) for key in problem.coefficients}
    fields = ", ".join(f'"{key}": {key}' for key in own)
    arguments = [*given, *([f"parameters={{{fields}}}"] if own else [])]
    shapes = "; ".join(f"{key}: {shape}" for key, shape in {**given, **own}.items())
    return f"model.predict({', '.join(arguments)})" + (f"  # {shapes}, numpy or torch" if shapes else "")


def _ends(axis: Any) -> tuple[float, float]:
    nodes = axis.closed_nodes
    return (axis.start, axis.stop) if axis.is_periodic else (nodes[0], nodes[-1])


def domain(problem: Any) -> list[dict[str, Any]]:
    """A row per axis, and one for time."""
    rows = [
        {
            "name": name,
            "range": " … ".join(map(number, _ends(axis))),
            "unit": problem.units.get(name, NONE),
            "points": "the input's points" if axis.is_periodic else f"{len(axis.nodes)} points",
        }
        for name, axis in problem.output_space.items()
    ]
    if problem.duration is None:
        return rows
    times = {"name": "t", "range": f"0 … {number(problem.span)}", "unit": problem.units.get("t", NONE)}
    return [*rows, {**times, "points": f"{len(problem.output_times)} points"}]


def parameters(problem: Any, inputs: Any) -> list[dict[str, str]]:
    """A row per parameter, coefficient field and series."""
    given = [
        {
            "symbol": symbol,
            "description": f"{p.description}, {p.extent}" if p.description else p.extent,
            "unit": p.unit,
            "default": NONE,
            "use": f"input, {number(p.low)} … {number(p.high)}",
        }
        for symbol, p in problem.coefficients.items()
    ]
    return given + [
        {
            "symbol": symbol,
            "description": p.description,
            "unit": p.unit,
            "default": number(p.default),
            "use": f"input, {number(p.low)} … {number(p.high)}" if symbol in inputs else "fixed at the default",
        }
        for symbol, p in problem.parameters.items()
    ]
