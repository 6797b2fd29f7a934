"""Dual numbers: partial derivatives of a pointwise formula in one forward pass of plain arithmetic.

A formula written in the operators that numpy arrays and torch tensors share (+ − × ÷ ** clip) takes
duals as well. They serve where automatic differentiation cannot: inside an exported graph. Only
partials that are not identically zero are carried.
"""

from __future__ import annotations

from typing import Any


class Dual:
    """A value with its partials by index; an index left out stands for zero, so constants have none."""

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
        if isinstance(exponent, Dual):
            if exponent.partials:
                raise TypeError("the exponent of a power of a dual must be constant")
            exponent = exponent.value
        power = self.value**exponent
        return self._chain(power, exponent * power / self.value) if self.partials else Dual(power)

    def clip(self, min: Any) -> Dual:
        """Bounded below; the slope below the bound is zero."""
        one = 0 * self.value + 1  # in the value's precision: 1.0 would be in the default one
        return self._chain(self.value.clip(min=min), (self.value >= min) * one)

    def __radd__(self, other: Any) -> Dual:
        return self + other

    def __rmul__(self, other: Any) -> Dual:
        return self * other


def _is_one(partial: Any) -> bool:
    """Whether a partial is the number 1, that of a variable itself; it needs no product."""
    return isinstance(partial, float) and partial == 1.0
