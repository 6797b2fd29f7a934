"""A pointwise formula, recorded once and then evaluated without what is known of it beforehand.

Terms of features that are left out are dropped, terms of parameters alone are evaluated once, and a product that is
added or subtracted takes one operation with that.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Term:
    """A part of a formula: what `evaluate` gives, of fields by name.

    Attributes:
        value: a number or tensor where the term holds no field; None else.
        factors: of a product of two tensors.
        monomial: a coefficient and the names of the fields that it multiplies; None for what is no product of these.
    """

    def __init__(
        self,
        evaluate: Callable[[dict], Any] | None,
        value: Any = None,
        factors: tuple[Term, Term] | None = None,
        monomial: tuple[Any, tuple[str, ...]] | None = None,
    ):
        self.evaluate, self.value, self.factors = evaluate or (lambda fields: value), value, factors
        self.monomial = monomial if value is None else (value, ())

    @classmethod
    def field(cls, name: str) -> Term:
        """A field itself."""
        return cls(operator.itemgetter(name), monomial=(1, (name,)))

    @property
    def is_zero(self) -> bool:
        """Whether it is a feature left out, or holds one as a factor."""
        return self is _ZERO

    def __add__(self, other: Any) -> Term:
        other = _term(other)
        if self.is_zero or other.is_zero:
            return other if self.is_zero else self
        if other.factors is None and self.factors is not None:
            return other._with_product(self, 1)
        return _binary(operator.add, self, other) if other.factors is None else self._with_product(other, 1)

    def __sub__(self, other: Any) -> Term:
        other = _term(other)
        if self.is_zero or other.is_zero:
            return -other if self.is_zero else self
        return _binary(operator.sub, self, other) if other.factors is None else self._with_product(other, -1)

    def _with_product(self, other: Term, sign: int) -> Term:
        first, second = other.factors

        def evaluate(fields: dict) -> Any:
            own, a, b = self.evaluate(fields), first.evaluate(fields), second.evaluate(fields)
            if all(isinstance(part, Tensor) for part in (own, a, b)):
                return torch.addcmul(own, a, b, value=sign)
            return own + sign * (a * b)

        return Term(evaluate)

    def __mul__(self, other: Any) -> Term:
        other = _term(other)
        if self.is_zero or other.is_zero:
            return _ZERO
        product = _binary(operator.mul, self, other)
        if product.value is None and self.monomial and other.monomial:
            product.monomial = self.monomial[0] * other.monomial[0], self.monomial[1] + other.monomial[1]
        return product

    def __truediv__(self, other: Any) -> Term:
        return self if self.is_zero else _binary(operator.truediv, self, _term(other))

    def __pow__(self, other: Any) -> Term:
        return _binary(operator.pow, self, _term(other))

    def __neg__(self) -> Term:
        return self if self.is_zero else _binary(lambda value, _: -value, self, _term(0))

    def __rsub__(self, other: Any) -> Term:
        return _term(other) - self

    def __rtruediv__(self, other: Any) -> Term:
        return _term(other) / self

    def __rpow__(self, other: Any) -> Term:
        return _term(other) ** self

    __radd__, __rmul__ = __add__, __mul__

    def clip(self, *arguments: Any, **options: Any) -> Term:
        """As of tensors."""
        return _binary(lambda value, _: value.clip(*arguments, **options), self, _term(0))


_ZERO = Term(None, 0.0)


def _term(value: Any) -> Term:
    return value if isinstance(value, Term) else Term(None, value)


def _binary(function: Callable[[Any, Any], Any], first: Term, second: Term) -> Term:
    if first.is_zero or second.is_zero:
        raise TypeError("a formula may add, multiply and divide a feature that it is without, not more")
    if first.value is not None and second.value is not None:
        return Term(None, function(first.value, second.value))
    factors = (first, second) if function is operator.mul else None
    if first.value is not None:
        own = first.value
        return Term(lambda fields: function(own, second.evaluate(fields)), factors=factors)
    if second.value is not None:
        own = second.value
        return Term(lambda fields: function(first.evaluate(fields), own), factors=factors)
    return Term(lambda fields: function(first.evaluate(fields), second.evaluate(fields)), factors=factors)


def recorded(
    formula: Callable[[dict, dict], Any], names: Iterable[str], absent: Iterable[str], c: dict[str, Tensor]
) -> Term:
    """``formula(fields, c)`` as a term, whose `evaluate` takes the fields alone.

    Args:
        formula: pointwise; in plain arithmetic, else it is handed back as it is.
        names: of the fields.
        absent: fields that are zero, of which sums and products alone are taken.
        c: parameters.
    """
    absent = set(absent)
    terms = {name: _ZERO if name in absent else Term.field(name) for name in names}
    try:
        result = _term(formula(terms, {key: Term(None, value) for key, value in c.items()}))
    except (TypeError, AttributeError):
        zero = torch.zeros_like(next(iter(c.values()))) if c else 0.0
        return Term(lambda fields: formula({**fields, **dict.fromkeys(absent, zero)}, c))
    return result
