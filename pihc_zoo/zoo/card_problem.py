"""What a card says of its problem: walls, domain, input, parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..text import NONE, number


def conditions(problem: Any) -> str:
    """The wall conditions, in words."""
    if problem.wall_text:
        own = "; ".join(
            f"`{condition}` ({where})" for where, _, condition in (t.partition(": ") for t in problem.wall_text)
        )
        return f"Boundary conditions: {own}. The initial condition is the input."
    lines = []
    for axis, walls in problem.walls(problem.defaults()).items():
        nodes = problem.output_space[axis].closed_nodes
        for wall, position in zip(walls, (nodes[0], nodes[-1]), strict=True):
            at = "" if wall.at is None else f"({number(wall.at)})"
            parts = [(wall.value, problem.field), (wall.slope, f"{problem.field}_{axis}{at}")]
            terms = [
                symbol if value == 1 else f"{number(value)} {symbol}" for value, symbol in parts if np.any(value != 0)
            ]
            lines.append(f"`{' + '.join(terms)} = {number(wall.target)}` at {axis} = {number(position)}")
    walls = "; ".join(lines) if lines else "periodic"
    return f"Boundary conditions (default parameters): {walls}. The initial condition is the input."


def smallest(problem: Any) -> int:
    """Fewest points per axis of an input, of which any even number will do; 0 where there is one grid."""
    axes = list(problem.output_space.values())
    return max(axis.smallest for axis in axes) if all(axis.is_periodic for axis in axes) else 0


def input_shape(problem: Any) -> str:
    """Of u0."""
    axes, least = problem.output_space.values(), smallest(problem)
    sizes = ", ".join("n" if least else str(len(axis.nodes)) for axis in axes)
    return f"(batch, {sizes})" + (f", n even and at least {least}" if least else "")


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
            "points": "the input's points" if smallest(problem) else f"{len(axis.nodes)} points",
        }
        for name, axis in problem.output_space.items()
    ]
    times = {"name": "t", "range": f"0 … {number(problem.duration)}", "unit": problem.units.get("t", NONE)}
    return [*rows, {**times, "points": f"{len(problem.output_times)} points"}]


def parameters(problem: Any, inputs: Any) -> list[dict[str, str]]:
    """A row per parameter."""
    return [
        {
            "symbol": symbol,
            "description": p.description,
            "unit": p.unit,
            "default": number(p.default),
            "use": f"input, {number(p.low)} … {number(p.high)}" if symbol in inputs else "fixed at the default",
        }
        for symbol, p in problem.parameters.items()
    ]
