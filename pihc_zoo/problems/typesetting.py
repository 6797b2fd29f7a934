"""Formulas as LaTeX, for cards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .expression import Place, Reader, sides
from .graph import Graph

_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
_GREEK += " Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
GREEK = frozenset(_GREEK.split())
_SUM, _PRODUCT, _FRACTION, _POWER, _ATOM = range(5)  # how tightly a piece holds together


def equality(text: str, is_derivative: Callable[[str], bool]) -> str:
    """LaTeX of an equality; see `formula`."""
    left, right, place = sides(text, Place("equation"))
    return f"{formula(left, is_derivative, Place('equation'))} = {formula(right, is_derivative, place)}"


def formula(text: str, is_derivative: Callable[[str], bool], place: Place | None = None) -> str:
    """LaTeX of an expression, as it is written.

    Args:
        text: see `expression`.
        is_derivative: whether a name is a field with the axes along which it is differentiated, as ``u_xx``.
        place: for messages.
    """
    graph = Graph()
    reader = Reader(
        graph, lambda name, refuse: graph.name(name), lambda operator, node, refuse: graph.apply(operator, node)
    )
    output = reader.read(text, place or Place("formula"))
    pieces: list[tuple[str, int]] = []
    for operation, *arguments in graph.nodes:
        if operation == "number":
            pieces.append(_number(arguments[0]))
        elif operation == "name":
            pieces.append((symbol(arguments[0], is_derivative(arguments[0])), _ATOM))
        else:
            pieces.append(_operation(operation, [pieces[node] for node in arguments]))
    return pieces[output][0]


def symbol(name: str, is_derivative: bool = False) -> str:
    """LaTeX of a name: Greek letters by their names, what follows the first _ as an index."""
    letter, _, index = name.partition("_")
    match = re.fullmatch(r"([A-Za-z]+)(\d+)", letter)
    if match and not index:
        letter, index = match.groups()
    if not index:
        return _letters(letter)
    indices = [part if is_derivative or part.isdigit() else _letters(part) for part in index.split("_") if part]
    joined = ", ".join(indices)
    return f"{_letters(letter)}_{joined}" if len(joined) == 1 else f"{_letters(letter)}_{{{joined}}}"


def _letters(word: str) -> str:
    if word in GREEK:
        return f"\\{word}"
    return word if len(word) == 1 else f"\\mathrm{{{word}}}"


def _number(value: float) -> tuple[str, int]:
    mantissa, _, exponent = f"{value:.12g}".partition("e")
    if not exponent:
        return mantissa, _SUM if value < 0 else _ATOM
    power = f"10^{{{int(exponent)}}}"
    if mantissa in ("1", "-1"):
        return mantissa[:-1] + power, _SUM if value < 0 else _POWER
    return f"{mantissa} \\cdot {power}", _SUM if value < 0 else _PRODUCT


def _operation(operation: str, arguments: Iterable[tuple[str, int]]) -> tuple[str, int]:
    pieces = list(arguments)
    (first, _), (last, _) = pieces[0], pieces[-1]
    if operation == "negative":
        return "-" + _within(pieces[0], _PRODUCT), _SUM
    if operation in ("+", "-"):
        right = _within(pieces[1], _SUM if operation == "+" else _PRODUCT)
        if operation == "+" and right.startswith("-"):
            return f"{first} - {right[1:]}", _SUM
        return f"{first} {operation} {right}", _SUM
    if operation == "*":
        left, right = _within(pieces[0], _PRODUCT), _within(pieces[1], _PRODUCT)
        return left + (r" \cdot " if right[0].isdigit() else r"\,") + right, _PRODUCT
    if operation == "/":
        return f"\\frac{{{first}}}{{{last}}}", _FRACTION
    if operation == "**":
        exponent = last if len(last) == 1 else f"{{{last}}}"
        return f"{_within(pieces[0], _ATOM)}^{exponent}", _POWER
    if operation == "sqrt":
        return f"\\sqrt{{{first}}}", _ATOM
    if operation == "abs":
        return f"\\left|{first}\\right|", _ATOM
    if operation in ("laplacian", "inverse_laplacian"):
        return ("\\Delta " if operation == "laplacian" else "\\Delta^{-1} ") + _within(pieces[0], _ATOM), _PRODUCT
    name = {"minimum": "min", "maximum": "max"}.get(operation, operation)
    return f"\\{name}{_bracketed(', '.join(text for text, _ in pieces))}", _FRACTION


def _within(piece: tuple[str, int], least: int) -> str:
    """The piece, in brackets where it is looser than ``least``."""
    text, tightness = piece
    return text if tightness >= least else _bracketed(text)


def _bracketed(text: str) -> str:
    is_tall = "\\frac" in text or "\\sqrt" in text
    return f"\\left({text}\\right)" if is_tall else f"({text})"
