"""Formulas as text, read without being run.

Python's own grammar gives the syntax tree; what is on a short list enters a `graph` of operations, everything else is
refused with its column.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from ..config import ConfigError
from ..solvers.functions import FUNCTIONS
from ..text import nearest
from .graph import MAX_NUMBER, OPERATORS, Graph

NUM_ARGUMENTS = {name: 2 if name in ("minimum", "maximum") else 1 for name in (*FUNCTIONS, *OPERATORS)}
MAX_CHARACTERS = 8000
MAX_BRANCHES = 3000
MAX_DEPTH = 60
MAX_EXPONENT = 32.0

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_REFUSED = {
    ast.Attribute: "an attribute (a point after a name)",
    ast.Subscript: "an index in brackets",
    ast.Lambda: "a lambda",
    ast.Compare: "a comparison",
    ast.BoolOp: "and / or",
    ast.IfExp: "an if",
    ast.NamedExpr: "an assignment",
    ast.JoinedStr: "a text in quotes",
    ast.Tuple: "a comma outside of a call",
    ast.List: "a list",
    ast.Dict: "a table",
    ast.Set: "a set",
    ast.Starred: "a star without a left side",
    ast.Await: "await",
    ast.Yield: "yield",
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "a comprehension"),
}
_OPERATOR_NAMES = {ast.FloorDiv: "//", ast.Mod: "%", ast.MatMult: "@", ast.BitXor: "^ (a power is **)"}
_OPERATOR_NAMES |= {ast.BitOr: "|", ast.BitAnd: "&", ast.LShift: "<<", ast.RShift: ">>"}
_ALLOWED = "a formula has names, numbers, + - * / **, parentheses and calls of functions"


class Place:
    """Where a text stands, for messages.

    Args:
        where: what it is, such as "equation 1".
        start: characters before it, on the line that the user wrote.
    """

    def __init__(self, where: str, start: int = 0):
        self.where, self.start = where, start

    def refuse(self, column: int, message: str) -> NoReturn:
        """Raises the one-line error for the character ``column`` of the text, from 0."""
        raise ConfigError(f"{self.where}, column {self.start + column + 1}: {message}")


class Reader:
    """Enters expressions into a graph.

    Args:
        graph: receives them.
        name: what a name stands for: (name, refuse) ↦ node, where ``refuse(message)`` raises with the place.
        operator: the node of an operator of `OPERATORS`: (operator, node of its argument, refuse) ↦ node.
    """

    def __init__(
        self,
        graph: Graph,
        name: Callable[[str, Callable[[str], NoReturn]], int],
        operator: Callable[[str, int, Callable[[str], NoReturn]], int],
    ):
        self.graph, self.name, self.operator = graph, name, operator

    def read(self, text: str, place: Place) -> int:
        """The node of an expression.

        Raises:
            ConfigError: a syntax error, an unknown name, or anything that is no plain formula, with its column.
        """
        tree, start = parsed(text, place)
        nodes: dict[int, int] = {}
        for branch in _ordered(tree, Place(place.where, place.start + start)):
            own = Place(place.where, place.start + start + branch.col_offset)

            def refuse(message: str, own: Place = own) -> NoReturn:
                own.refuse(0, message)

            try:
                nodes[id(branch)] = self._entered(branch, nodes, refuse)
            except ArithmeticError:
                refuse(f"{ast.unparse(branch)[:60]} is no finite real number")
        return nodes[id(tree)]

    def _entered(self, branch: Any, nodes: dict[int, int], refuse: Callable[[str], NoReturn]) -> int:
        if isinstance(branch, ast.Constant):
            value: Any = branch.value
            return self.graph.number(value)
        if isinstance(branch, ast.Name):
            return self.name(branch.id, refuse)
        if isinstance(branch, ast.UnaryOp):
            node = nodes[id(branch.operand)]
            return node if isinstance(branch.op, ast.UAdd) else self.graph.apply("negative", node)
        if isinstance(branch, ast.BinOp):
            left, right = nodes[id(branch.left)], nodes[id(branch.right)]
            exponent = self.graph.constant(right)
            if isinstance(branch.op, ast.Pow) and exponent is not None and abs(exponent) > MAX_EXPONENT:
                refuse(f"the exponent {exponent:g} is beyond ±{MAX_EXPONENT:g}")
            return self.graph.apply(_BINARY[type(branch.op)], left, right)
        function = branch.func.id  # a call: `_arguments` let nothing else pass
        arguments = [nodes[id(argument)] for argument in branch.args]
        if function in OPERATORS:
            return self.operator(function, arguments[0], refuse)
        return self.graph.apply(function, *arguments)


def parsed(text: Any, place: Place) -> tuple[ast.expr, int]:
    """The syntax tree of an expression, its kinds not yet checked, and how many characters precede it."""
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{place.where} must be a formula as text, got {text!r}")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{place.where} is too long: {len(text)} characters, at most {MAX_CHARACTERS}")
    strange = re.search(r"[^ -~\s]|#", text)  # other letters would be taken for similar ones
    if strange:
        place.refuse(strange.start(), f"{strange.group()!r} does not belong here; {_ALLOWED}")
    start = len(text) - len(text.lstrip())
    flat = re.sub(r"\s", " ", text[start:])  # one line, columns unchanged
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(flat, mode="eval").body, start
    except SyntaxError as error:
        if not error.offset:
            place.refuse(start + len(flat.rstrip()), "syntax error: the formula ends too early")
        message = re.split(r"[.;:] ", error.msg)[0]
        place.refuse(start + error.offset - 1, f"syntax error: {message}")
    except (RecursionError, MemoryError, ValueError):
        raise ConfigError(f"{place.where} is nested too deeply, at most {MAX_DEPTH} levels") from None


def _ordered(tree: ast.expr, place: Place) -> list[ast.expr]:
    """The tree's branches, arguments first, all of them of kinds that are allowed; in source order."""
    found: list[ast.expr] = []
    waiting = [(tree, 1)]
    while waiting:
        branch, depth = waiting.pop()
        found.append(branch)
        if len(found) > MAX_BRANCHES:
            raise ConfigError(f"{place.where} is too large: more than {MAX_BRANCHES} names, numbers and operations")
        if depth > MAX_DEPTH:
            place.refuse(branch.col_offset, f"nested too deeply, at most {MAX_DEPTH} levels")
        left_depth = depth if isinstance(branch, ast.BinOp) else depth + 1  # a sum of many terms leans to the left
        arguments = _arguments(branch, place)
        waiting += [(part, left_depth if i == 0 else depth + 1) for i, part in enumerate(arguments)]
    return found[::-1]


def _arguments(branch: Any, place: Place) -> list[ast.expr]:
    """What an allowed branch is made of."""
    column = branch.col_offset
    if isinstance(branch, ast.Name):
        return []
    if isinstance(branch, ast.Constant):
        value: Any = branch.value
        if type(value) not in (int, float):
            place.refuse(column, f"{value!r:.40} is no real number")
        if not abs(value) <= MAX_NUMBER:
            place.refuse(column, f"a number beyond {MAX_NUMBER:g}")
        return []
    if isinstance(branch, ast.UnaryOp):
        if not isinstance(branch.op, ast.USub | ast.UAdd):
            place.refuse(column, f"an operator that is not allowed; {_ALLOWED}")
        return [branch.operand]
    if isinstance(branch, ast.BinOp):
        if type(branch.op) not in _BINARY:
            name = _OPERATOR_NAMES.get(type(branch.op), "operator")
            place.refuse(column, f"{name} is not allowed; {_ALLOWED}")
        return [branch.left, branch.right]
    if isinstance(branch, ast.Call):
        if not isinstance(branch.func, ast.Name):
            place.refuse(column, f"a call of something that is no function; {_ALLOWED}")
        name = branch.func.id
        if name not in NUM_ARGUMENTS:
            place.refuse(column, f"{name} is no function; {nearest(name, NUM_ARGUMENTS)}")
        if branch.keywords or len(branch.args) != NUM_ARGUMENTS[name]:
            place.refuse(column, f"{name} takes {'two arguments' if NUM_ARGUMENTS[name] == 2 else 'one argument'}")
        return list(branch.args)
    what = _REFUSED.get(type(branch), type(branch).__name__)
    place.refuse(column, f"{what} is not allowed; {_ALLOWED}")


def sides(text: Any, place: Place) -> tuple[str, str, Place]:
    """Left and right side of an equality, and the place of the right one.

    Raises:
        ConfigError: not exactly one plain ``=``.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{place.where} must be an equality as text, such as 'u_t = D*u_xx', got {text!r}")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{place.where} is too long: {len(text)} characters, at most {MAX_CHARACTERS}")
    compared = re.search(r"[=<>!:]=|<|>", text)
    if compared:
        place.refuse(
            compared.start(), f"{compared.group()!r} is not allowed; an equality has one = between two formulas"
        )
    if text.count("=") != 1:
        raise ConfigError(f"{place.where} must be an equality with one =, got {text[:80]!r}")
    at = text.index("=")
    for side, own, column in ((text[:at], "left", 0), (text[at + 1 :], "right", at + 1)):
        if not side.strip():
            place.refuse(column, f"nothing on the {own} of =; write 0 there")
    return text[:at], text[at + 1 :], Place(place.where, place.start + at + 1)
