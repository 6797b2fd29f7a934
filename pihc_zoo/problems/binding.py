"""What the names in equations stand for: fields and their derivatives, parameters, coordinates, definitions."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from ..config import ConfigError
from ..text import nearest
from .base import Derivative
from .expression import NUM_ARGUMENTS, Place, Reader
from .graph import OPERATORS, Graph

Refuse = Callable[[str], NoReturn]
_RESERVED = ("t", "pi", "u0", *NUM_ARGUMENTS)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
MAX_ORDER = 8  # of a derivative along one axis


class Symbol(NamedTuple):
    """What is looked up at evaluation: a "feature", a "parameter", a "coordinate" or a "coefficient", by its key."""

    kind: str
    key: str


class _Linear(NamedTuple):
    """∂^orders Δ^laplacian of a field; hashable."""

    field: str
    orders: tuple[int, ...]  # along t and the space axes
    laplacian: int


class Binding:
    """Reads formulas into one graph and collects the features that they need.

    Args:
        fields: names of the unknowns.
        axes: name of a space axis ↦ whether it is periodic.
        parameters: symbols of those that are numbers.
        coefficients: symbols of those that are fields over space.
        series: symbols of those that are series over time.
        definitions: name ↦ formula, each of earlier ones.
        has_time: whether there are t and derivatives along it.

    Raises:
        ConfigError: names that clash or formulas that cannot be used, with their place.
    """

    def __init__(
        self,
        fields: Iterable[str],
        axes: Mapping[str, bool],
        parameters: Iterable[str],
        coefficients: Iterable[str],
        series: Iterable[str],
        definitions: Mapping[str, str],
        has_time: bool,
    ):
        self.fields, self.axes, self.parameters = tuple(fields), dict(axes), tuple(parameters)
        self.coefficients, self.coefficient_features, self.series = tuple(coefficients), {}, tuple(series)
        self.has_time, self._later = has_time, tuple(definitions)
        self.letters = ("t", *self.axes)
        self.graph, self._keys, self.definitions = Graph(), {}, {}
        self._check_names()
        for name, text in definitions.items():
            self.definitions[name] = self.read(text, Place(f"problem: definition {name}"))

    def _check_names(self) -> None:
        taken: dict[str, str] = {}
        kinds = {"field": self.fields, "parameter": (*self.parameters, *self.coefficients, *self.series)}
        kinds["definition"] = self._later
        for kind, names in kinds.items():
            for name in names:
                what = f"problem: the {kind} {name!r}"
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise ConfigError(f"{what} needs a name of up to 32 ASCII letters, digits and _, a letter first")
                if name in (*_RESERVED, *self.axes) or keyword.iskeyword(name):
                    raise ConfigError(f"{what} has the name of an axis, a function or a word of the grammar; rename it")
                if name in taken:
                    raise ConfigError(f"{what} has the name of a {taken[name]}; rename one of them")
                taken[name] = kind
        for name in taken:
            base, _, letters = name.rpartition("_")
            is_differentiable = taken.get(base) in ("field", "definition") or base in self.coefficients
            if is_differentiable and letters and set(letters) <= set(self.letters):
                raise ConfigError(f"problem: {name!r} would be read as a derivative of {base}; rename it")

    def read(self, text: Any, place: Place, check: Callable[[int, str, Refuse], None] | None = None) -> int:
        """The node of a formula.

        Args:
            text: the formula.
            place: for messages.
            check: is shown each name's node, the name, and how to refuse it.
        """

        def name_of(name: str, refuse: Refuse) -> int:
            node = self._name(name, refuse)
            if check is not None:
                check(node, name, refuse)
            return node

        return Reader(self.graph, name_of, self._operator).read(text, place)

    @property
    def features(self) -> dict[str, Derivative]:
        """The derivatives that were read, the fields themselves first."""
        fields = [name for name in self.fields if name in self._keys]
        ordered = {name: self._keys[name] for name in (*fields, *self._keys)}
        return {
            name: Derivative(
                key.field,
                laplacian=key.laplacian,
                **{axis: order for axis, order in zip(self.letters, key.orders, strict=True) if order},
            )
            for name, key in ordered.items()
        }

    def symbols(self, nodes: Iterable[int]) -> list[Symbol]:
        """What the nodes depend on."""
        return self.graph.names(nodes)

    def is_derivative(self, name: str) -> bool:
        """Whether a name is a field, or a definition, with axes along which it is differentiated."""
        base, _, letters = name.rpartition("_")
        return (
            base in (*self.fields, *self.coefficients, *self._later)
            and bool(letters)
            and set(letters) <= set(self.letters)
        )

    def _name(self, name: str, refuse: Refuse) -> int:
        if name in self.definitions:
            return self.definitions[name]
        if name in self.fields:
            return self._feature(_Linear(name, (0,) * len(self.letters), 0))
        if name in self.coefficients or name in self.series:
            return self.graph.name(Symbol("coefficient", name))
        if name == "pi":
            return self.graph.number(math.pi)
        if name in self.parameters:
            return self.graph.name(Symbol("parameter", name))
        if name in self.axes or (name == "t" and self.has_time):
            return self.graph.name(Symbol("coordinate", name))
        if name in self._later:
            refuse(f"{name} is defined further down; a definition takes earlier ones only")
        if self.is_derivative(name):
            return self._differentiated(name, refuse)
        if name == "t":
            refuse("t does not exist in a steady problem; give a duration")
        if name in NUM_ARGUMENTS:
            refuse(f"{name} is a function; write {name}(…)")
        derivatives = [f"{own}_{letters}" for own in self.fields for letters in self._spellings()]
        known = (*self.fields, *self.definitions, *self.parameters, *self.coefficients, *self.series, *self.axes)
        known = (*known, "t", "pi", *NUM_ARGUMENTS, *derivatives)
        refuse(f"unknown name {name!r}; {nearest(name, known)}")

    def _spellings(self) -> list[str]:
        space = [axis * order for axis in self.axes for order in (1, 2, 3, 4)]
        return ["t", *space] if self.has_time else space

    def _differentiated(self, name: str, refuse: Refuse) -> int:
        base, _, letters = name.rpartition("_")
        orders = tuple(letters.count(axis) for axis in self.letters)
        if orders[0] and not self.has_time:
            refuse(f"{name}: a steady problem has no derivatives in time; give a duration")
        if base in self.fields and orders[0] > 1:
            refuse(f"{name}: derivatives in time are of first order; write a system, with a field for {base}_t")
        if orders[0] and (sum(orders) > 1 or base not in self.fields):
            refuse(f"{name}: derivatives in time are those of the fields themselves, such as {self.fields[0]}_t")
        if max(orders) > MAX_ORDER:
            refuse(f"{name}: derivatives of order up to {MAX_ORDER} along an axis")
        if base in self.fields:
            return self._feature(_Linear(base, orders, 0))
        if base in self.coefficients:
            return self._of_coefficient(base, orders[1:])
        terms = self._linear_form(self.definitions.get(base), f"{name}: {base}", refuse)
        return self._sum(
            [
                (key._replace(orders=tuple(a + b for a, b in zip(key.orders, orders, strict=True))), factor)
                for key, factor in terms.items()
                if key is not None
            ]
        )

    def _operator(self, operator: str, node: int, refuse: Refuse) -> int:
        """The node of Δ or its inverse of a linear expression; Δ by axis where that is simpler or walls are."""
        is_periodic = all(self.axes.values())
        terms = self._linear_form(node, f"{operator}(…): its argument", refuse)
        found: list[tuple[_Linear, int]] = []
        for key, factor in terms.items():
            if key is None:
                if operator == "inverse_laplacian":
                    refuse("inverse_laplacian(…) takes no constants: fields of zero mean only")
            elif operator == "inverse_laplacian":
                if not is_periodic:
                    refuse("inverse_laplacian needs periodic axes")
                found.append((key._replace(laplacian=key.laplacian - 1), factor))
            elif key.laplacian < 0 or (is_periodic and len(self.axes) > 1):
                found.append((key._replace(laplacian=key.laplacian + 1), factor))
            else:
                for i in range(1, len(self.letters)):
                    orders = tuple(order + 2 * (i == j) for j, order in enumerate(key.orders))
                    found.append((key._replace(orders=orders), factor))
        if any(max(key.orders) > MAX_ORDER or abs(key.laplacian) > MAX_ORDER // 2 for key, _ in found):
            refuse(f"derivatives of order up to {MAX_ORDER} along an axis")
        return self._sum(found)

    def _linear_form(self, node: int | None, what: str, refuse: Refuse) -> dict[_Linear | None, int]:
        """Feature ↦ node of its constant coefficient; None stands for what has no feature."""
        if node is None:
            refuse(f"{what} is defined further down; a definition takes earlier ones only")
        forms: dict[int, dict[_Linear | None, int] | None] = {}
        for own in self.graph.needed([node]):
            forms[own] = self._form_of(own, forms)
        form = forms[node]
        if form is None:
            refuse(f"{what} is not linear in the fields with constant coefficients; write the derivatives out")
        return form

    def _form_of(self, node: int, forms: dict) -> dict[_Linear | None, int] | None:
        operation, *arguments = self.graph.nodes[node]
        if operation == "number":
            return {None: node}
        if operation == "name":
            kind, key = arguments[0]
            if kind in ("coordinate", "coefficient"):
                return None
            return {
                self._keys[key] if kind == "feature" else None: self.graph.number(1.0) if kind == "feature" else node
            }
        own = [forms[argument] for argument in arguments]
        if None in own:
            return None
        if all(set(form) == {None} for form in own):
            return {None: node}
        apply = self.graph.apply
        if operation == "negative":
            return {key: apply("negative", factor) for key, factor in own[0].items()}
        if operation in ("+", "-"):
            form = dict(own[0])
            for key, factor in own[1].items():
                if key in form:
                    form[key] = apply(operation, form[key], factor)
                else:
                    form[key] = factor if operation == "+" else apply("negative", factor)
            return form
        if operation in ("*", "/"):
            constant = 1 if set(own[1]) == {None} else 0
            if set(own[constant]) != {None} or (operation == "/" and constant == 0):
                return None
            return {key: apply(operation, factor, own[constant][None]) for key, factor in own[1 - constant].items()}
        return None

    def _of_coefficient(self, field: str, orders: tuple[int, ...]) -> int:
        """The node of a derivative of a coefficient field along space axes."""
        by_axis = {axis: order for axis, order in zip(self.axes, orders, strict=True) if order}
        name = f"{field}_{''.join(axis * order for axis, order in by_axis.items())}"
        self.coefficient_features[name] = Derivative(field, **by_axis)
        return self.graph.name(Symbol("coefficient", name))

    def _sum(self, terms: list[tuple[_Linear, int]]) -> int:
        apply = self.graph.apply
        total = self.graph.number(0.0)
        for key, factor in terms:
            total = apply("+", total, apply("*", factor, self._feature(key)))
        return total

    def _feature(self, key: _Linear) -> int:
        letters = "".join(axis * order for axis, order in zip(self.letters, key.orders, strict=True))
        powers = f"{abs(key.laplacian)}" if abs(key.laplacian) > 1 else ""
        prefix = f"{OPERATORS[int(key.laplacian < 0)]}{powers}_" if key.laplacian else ""
        name = f"{prefix}{key.field}" + (f"_{letters}" if letters else "")
        self._keys[name] = key
        return self.graph.name(Symbol("feature", name))
