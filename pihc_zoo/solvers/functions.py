"""Functions of numbers, numpy arrays, torch tensors and dual numbers alike, pointwise.

Tensors and duals are asked for their methods, all else is numpy's; torch is not imported. Where the branches of
`minimum` and `maximum` meet, the slope is that of the first argument, for all kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .dual import Dual, larger, plain


def exp(v: Any) -> Any:
    """e^v."""
    return _of("exp", v)


def log(v: Any) -> Any:
    """Natural logarithm."""
    return _of("log", v)


def sqrt(v: Any) -> Any:
    """Square root."""
    return _of("sqrt", v)


def sin(v: Any) -> Any:
    """Sine of an angle in radians."""
    return _of("sin", v)


def cos(v: Any) -> Any:
    """Cosine of an angle in radians."""
    return _of("cos", v)


def tanh(v: Any) -> Any:
    """Hyperbolic tangent."""
    return _of("tanh", v)


def abs(v: Any) -> Any:
    """Absolute value; its slope at 0 is 0."""
    return _of("abs", v)


def minimum(a: Any, b: Any) -> Any:
    """The smaller one, pointwise."""
    return -maximum(-a, -b)


def maximum(a: Any, b: Any) -> Any:
    """The larger one, pointwise."""
    if isinstance(a, Dual) or isinstance(b, Dual):
        return (a if isinstance(a, Dual) else Dual(a)).maximum(b)
    return larger(a, b)


def power(a: Any, b: Any) -> Any:
    """a^b, with partials that hold where a = 0, too."""
    if isinstance(a, Dual):
        return a.power(b)
    if isinstance(b, Dual):
        return Dual(a).power(b)
    return a**b


def _of(name: str, v: Any) -> Any:
    return getattr(v, name)() if isinstance(v, Dual) else plain(name, v)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (exp, log, sqrt, sin, cos, tanh, abs, minimum, maximum)
}
