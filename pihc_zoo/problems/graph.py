"""Pointwise operations on values of any kind: numbers, numpy arrays, torch tensors and dual numbers.

Equal parts are shared, so that the size of a graph bounds the work of an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np

from ..config import ConfigError
from ..solvers.functions import FUNCTIONS, power

OPERATORS = ("laplacian", "inverse_laplacian")  # of linear expressions; the others are pointwise
MAX_NODES = 12_000
MAX_EXTENT = (20_000, 400)  # operations and depth of an equation, its definitions written out
MAX_NUMBER = 1e100

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": power,
}


class Graph:
    """Operations in an order in which they can be evaluated, each once; a node is its index.

    A node is ("number", value), ("name", anything hashable), ("negative", node), (operator or function, *nodes).
    Constants are folded. Indices of arguments are smaller than a node's own, so that passes over a graph are loops.
    """

    def __init__(self):
        self.nodes: list[tuple] = []
        self._index: dict[tuple, int] = {}

    def number(self, value: float) -> int:
        """The node of a constant."""
        return self._node("number", float(value))

    def name(self, name: Hashable) -> int:
        """The node of a value that is given at evaluation."""
        return self._node("name", name)

    def apply(self, operation: str, *arguments: int) -> int:
        """The node of an operation.

        Raises:
            ArithmeticError: of constants, without a finite value.
        """
        values = [self.constant(node) for node in arguments]
        if all(value is not None for value in values) and operation not in OPERATORS:
            return self.number(_folded(operation, values))
        if (operation == "*" and 0.0 in values) or (operation == "/" and values[0] == 0.0):
            return self.number(0.0)
        if operation == "*" and 1.0 in values:
            return arguments[1 - values.index(1.0)]
        if (operation in ("+", "-") and values[1] == 0.0) or (operation in ("/", "**") and values[1] == 1.0):
            return arguments[0]
        if operation == "+" and values[0] == 0.0:
            return arguments[1]
        return self._node(operation, *arguments)

    def constant(self, node: int) -> float | None:
        """The value of a constant node; None of others."""
        operation, *rest = self.nodes[node]
        return rest[0] if operation == "number" else None

    def _node(self, *key: Any) -> int:
        if key not in self._index:
            if len(self.nodes) >= MAX_NODES:
                raise ConfigError(f"the equations are too large: more than {MAX_NODES} operations in all")
            self._index[key] = len(self.nodes)
            self.nodes.append(key)
        return self._index[key]

    def needed(self, outputs: Iterable[int]) -> list[int]:
        """The nodes that ``outputs`` depend on, in order."""
        found = set(outputs)
        for node in range(len(self.nodes) - 1, -1, -1):
            if node in found and self.nodes[node][0] not in ("number", "name"):
                found.update(self.nodes[node][1:])
        return sorted(found)

    def names(self, outputs: Iterable[int]) -> list[Any]:
        """The names that ``outputs`` depend on, in the order of their first use."""
        return [self.nodes[node][1] for node in self.needed(outputs) if self.nodes[node][0] == "name"]

    def evaluate(self, outputs: list[int], value_of: Callable[[Any], Any]) -> list[Any]:
        """The values of nodes.

        Args:
            outputs: nodes.
            value_of: a name's value: a number, an array, a tensor or a dual; all broadcast.
        """
        values: dict[int, Any] = {}
        for node in self.needed(outputs):
            operation, *arguments = self.nodes[node]
            if operation == "number":
                values[node] = arguments[0]
            elif operation == "name":
                values[node] = value_of(arguments[0])
            elif operation == "negative":
                values[node] = -values[arguments[0]]
            else:
                function = _ARITHMETIC.get(operation) or FUNCTIONS[operation]
                values[node] = function(*(values[argument] for argument in arguments))
        return [values[node] for node in outputs]

    def extent(self, output: int) -> tuple[int, int]:
        """How many operations a node takes, and how deep they are nested, where equal parts are not shared."""
        extents: list[tuple[int, int]] = []
        for operation, *arguments in self.nodes:
            parts = [] if operation in ("number", "name") else [extents[node] for node in arguments]
            extents.append((1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0)))
        return extents[output]

    def degrees(self, is_variable: Callable[[Any], bool]) -> list[int]:
        """Per node: 0 where it does not depend on the variables, 1 where it does by a linear form, 2 otherwise."""
        degrees: list[int] = []
        for operation, *arguments in self.nodes:
            if operation in ("number", "name"):
                degrees.append(int(operation == "name" and is_variable(arguments[0])))
                continue
            of = [degrees[node] for node in arguments]
            if operation in ("+", "-", "negative", *OPERATORS):
                degrees.append(max(of))
            elif operation == "*" or (operation == "/" and of[1] == 0):
                degrees.append(min(sum(of), 2))
            else:
                degrees.append(2 if any(of) else 0)
        return degrees


def _folded(operation: str, values: list[Any]) -> float:
    """The value of an operation on constants."""
    if operation == "negative":
        return -values[0]
    with np.errstate(all="ignore"):
        result = (_ARITHMETIC.get(operation) or FUNCTIONS[operation])(*values)
    if isinstance(result, complex) or not abs(result) <= MAX_NUMBER:
        raise ArithmeticError("the result is no finite real number")
    return float(result)
