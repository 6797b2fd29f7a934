"""Words and numbers for people: nearest names, units, figures (standard library only)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

NONE = "–"  # a figure that was not measured


def nearest(name: Any, known: Iterable[Any]) -> str:
    """ "did you mean …?" for a misspelt name, or the list of known ones."""
    known = list(map(str, known))
    names = {name.lower(): name for name in known}
    close = [names[key] for key in difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.4)]
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(known)}"


def shown_unit(unit: str) -> str:
    """The unit as it stands in a label: nothing for dimensionless quantities."""
    return "" if unit == "dimensionless" else unit


def unit_of(unit: str) -> str:
    """ " unit" to follow a number; nothing for dimensionless quantities."""
    return f" {unit}" if shown_unit(unit) else ""


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, without needless exponents; a dash for None."""
    if value is None:
        return NONE
    value = float(value)
    text = f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:.4g}"
    if "e+" in text and abs(value) < 1e6:
        text = f"{value:.0f}"
    mantissa, separator, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if separator else mantissa


def percent(value: Any, decimals: int | None = None, digits: int = 2) -> str:
    """A fraction in per cent, with so many significant digits or decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{number(100 * value, digits) if decimals is None else f'{100 * value:.{decimals}f}'} %"


def one_line(text: Any) -> str:
    """The text on one line."""
    return " ".join(str(text).split())
