"""Dual numbers: partial derivatives of a pointwise formula in one forward pass of plain arithmetic.

A formula written in the operators that numpy arrays and torch tensors share (+ − × ÷ ** clip) and in `functions` takes
duals as well. They serve where automatic differentiation cannot: inside an exported graph. Only
partials that are not identically zero are carried.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Dual:
    """A value with its partials by index; an index left out stands for zero, so constants have none."""

    __array_ufunc__ = None  # array + dual asks the dual, not each of the array's values

    def __init__(self, value: Any, partials: dict[int, Any] | None = None):
        self.value, self.partials = value, partials or {}

    def _chain(self, value: Any, slope: Any) -> Dual:
        """A function of this dual, from its value and slope."""
        if isinstance(slope, float) and slope == 0.0:
            return Dual(value)
        return Dual(value, {i: slope if _is_one(p) else slope * p for i, p in self.partials.items()})

    def __add__(self, other: Any) -> Dual:
        other = other if isinstance(other, Dual) else Dual(other)
        partials = dict(self.partials)
        for i, partial in other.partials.items():
            partials[i] = partials[i] + partial if i in partials else partial
        return Dual(self.value + other.value, partials)

    def __neg__(self) -> Dual:
        return Dual(-self.value, {i: -partial for i, partial in self.partials.items()})

    def __sub__(self, other: Any) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __mul__(self, other: Any) -> Dual:
        other = other if isinstance(other, Dual) else Dual(other)
        own = self._chain(self.value, other.value)
        partials = (own + other._chain(other.value, self.value)).partials
        return Dual(self.value * other.value, partials)

    def __truediv__(self, other: Any) -> Dual:
        other = other if isinstance(other, Dual) else Dual(other)
        quotient = self.value / other.value
        numerator = self._chain(self.value, 1 / other.value if self.partials else None)
        denominator = other._chain(other.value, -quotient / other.value if other.partials else None)
        return Dual(quotient, (numerator + denominator).partials)

    def __rtruediv__(self, other: Any) -> Dual:
        return Dual(other) / self

    def __pow__(self, exponent: Any) -> Dual:
        if isinstance(exponent, Dual) and not exponent.partials:
            exponent = exponent.value
        if isinstance(exponent, Dual | int | float):
            return self.power(exponent)
        power = self.value**exponent  # the cheaper quotient, of values that are not 0
        return self._chain(power, exponent * power / self.value) if self.partials else Dual(power)

    def __rpow__(self, base: Any) -> Dual:
        return Dual(base).power(self)

    def power(self, exponent: Any) -> Dual:
        """self^exponent; its partials hold where the base is 0, too, unlike those of ``**`` with an array."""
        exponent = exponent if isinstance(exponent, Dual) else Dual(exponent)
        a, b = self.value, exponent.value
        value = a**b
        is_square = isinstance(b, int | float) and b == 2
        own = self._chain(value, 2 * a if is_square else b * a ** (b - 1)) if self.partials else Dual(value)
        if not exponent.partials:
            return own
        other = exponent._chain(value, value * plain("log", a))
        return Dual(value, (own + other).partials)

    def exp(self) -> Dual:
        """e^self."""
        value = plain("exp", self.value)
        return self._chain(value, value)

    def log(self) -> Dual:
        """Natural logarithm."""
        return self._chain(plain("log", self.value), 1 / self.value if self.partials else None)

    def sqrt(self) -> Dual:
        """Square root."""
        value = plain("sqrt", self.value)
        return self._chain(value, 0.5 / value if self.partials else None)

    def sin(self) -> Dual:
        """Sine."""
        return self._chain(plain("sin", self.value), plain("cos", self.value))

    def cos(self) -> Dual:
        """Cosine."""
        return self._chain(plain("cos", self.value), -plain("sin", self.value))

    def tanh(self) -> Dual:
        """Hyperbolic tangent."""
        value = plain("tanh", self.value)
        return self._chain(value, 1 - value * value)

    def abs(self) -> Dual:
        """Absolute value; the slope at 0 is 0."""
        return self._chain(plain("abs", self.value), plain("sign", self.value))

    def maximum(self, other: Any) -> Dual:
        """The larger one; where both are equal, the slope is that of this one."""
        other = other if isinstance(other, Dual) else Dual(other)
        is_own = (self.value >= other.value) * (0 * self.value + 0 * other.value + 1)
        own = self._chain(self.value, is_own) + other._chain(other.value, 1 - is_own)
        return Dual(larger(self.value, other.value), own.partials)

    def clip(self, min: Any) -> Dual:
        """Bounded below; the slope below the bound is zero."""
        one = 0 * self.value + 1  # in the value's precision: 1.0 would be in the default one
        return self._chain(self.value.clip(min=min), (self.value >= min) * one)

    def __radd__(self, other: Any) -> Dual:
        return self + other

    def __rmul__(self, other: Any) -> Dual:
        return self * other


def plain(name: str, value: Any) -> Any:
    """A function by its name, of a tensor, an array or a number (which stays one, to take the precision of others)."""
    method = getattr(value, name, None)
    if method is not None:
        return method()
    result = getattr(np, name)(value)
    return float(result) if type(value) in (int, float) else result


def larger(a: Any, b: Any) -> Any:
    """The larger one of tensors, arrays or numbers; torch takes its slope from the first where both are equal."""
    if hasattr(a, "clamp"):
        return a.clamp(min=b)
    if hasattr(b, "clamp"):  # a number against a tensor
        return b.clamp(min=a)
    result = np.maximum(a, b)
    return float(result) if {type(a), type(b)} <= {int, float} else result


def _is_one(partial: Any) -> bool:
    """Whether a partial is the number 1, that of a variable itself; it needs no product."""
    return isinstance(partial, float) and partial == 1.0
