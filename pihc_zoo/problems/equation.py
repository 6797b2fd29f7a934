"""A problem from text: equations, walls and parameters as a recipe or a config.json spells them.

    [problem]
    name = "growth-1d"
    equations = ["u_t = D*u_xx + r*u*(1 - u/K)"]

Nothing of it is run: `expression` reads formulas into a graph of allowed operations, `binding` says what its names are.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import ConfigError
from ..solvers import functions
from ..solvers.dual import Dual
from . import tables
from .base import Problem, units_of
from .binding import Binding, Symbol
from .conservation import is_divergence
from .expression import Place, sides
from .graph import MAX_EXTENT
from .typesetting import equality, formula, symbol
from .walls import Walls, shown

KEYS = ("name", "title", "equations", "definitions", "duration", "inputs", "fields", "parameters", "space")
KEYS += ("times", "time_unit", "conserves_mean")
MAX_TEXTS = 64  # equations, and definitions
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VALUE = ""  # among partials by feature
_STATES = (0.5, 0.55, 0.6, 0.75, 0.25, 0.9, 0.1)  # in each field's range: where A is taken, the first that serves


class TextProblem(Problem):
    """A problem from the table [problem] of a recipe or a configuration.

    Args:
        spec: the table; see README and `pihc new`. It is kept as it is in ``spec``.

    Attributes:
        inputs: parameters that a model takes as inputs.
        text, wall_text: equations and definitions, and the walls, as they were written.

    Raises:
        ConfigError: unknown keys or names, values of the wrong kind, formulas that are none: one line, with the place.
    """

    def __init__(self, spec: Mapping[str, Any]):
        own = tables.Table(spec, "problem", KEYS)
        self.spec = copy.deepcopy(dict(spec))
        self.name = own.text("name")
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"problem: a name has lower-case letters, digits, - and _, got {self.name!r:.80}")
        self.title = own.text("title", self.name)
        self.duration = own.number("duration") if "duration" in own else None
        if self.duration is not None and not self.duration > 0:
            raise ConfigError(f"problem: duration must be positive, got {self.duration:g}; a steady problem has none")
        self.fields = tables.variables(own.tables("fields"))
        declared = own.tables("parameters", {})
        spread = {key: values for key, values in declared.items() if tables.is_spread(values)}
        self.coefficients, self.coefficient_families = tables.coefficients(spread)
        if self.series and self.duration is None:
            raise ConfigError(f"problem: parameter {self.series[0]} is a series over time; a steady problem has none")
        self.inputs = tuple(key for key in own.texts("inputs", []) if key not in spread)
        numbers = {key: values for key, values in declared.items() if key not in spread}
        self.parameters = tables.parameters(numbers, self.inputs)
        self.output_space, units, walls = tables.axes(own.tables("space"))
        self.output_times = tables.times(own.values.get("times"), self.duration)
        self.default_axis = next(iter(self.output_space))
        self.units = {**units_of(self.fields), **units, "t": own.text("time_unit", "dimensionless")}
        self._read(own, walls)
        is_autonomous = "t" not in self.coordinates and not self.series
        self.can_continue = self.duration is not None and not walls and is_autonomous
        self.conserves_mean = own.flag("conserves_mean", self._is_conserving())
        if self.conserves_mean and walls:
            raise ConfigError("problem: conserves_mean is for periodic axes; leave it out")

    def _read(self, own: tables.Table, walls: dict[str, tuple[list[str], list[str]]]) -> None:
        equations, definitions = own.texts("equations"), own.tables("definitions", {})
        if len(equations) != len(self.fields):
            counts = f"{len(equations)} equation{'s' * (len(equations) != 1)} for {len(self.fields)} field"
            raise ConfigError(f"problem: {counts}{'s' * (len(self.fields) != 1)}; give one per field")
        if max(len(equations), len(definitions)) > MAX_TEXTS:
            raise ConfigError(f"problem: at most {MAX_TEXTS} equations and as many definitions")
        names = {
            "fields": tuple(self.fields),
            "axes": {name: axis.is_periodic for name, axis in self.output_space.items()},
            "parameters": tuple(self.parameters),
            "coefficients": self.coefficient_fields,
            "series": self.series,
            "definitions": definitions,
            "has_time": self.duration is not None,
        }
        self._binding = binding = Binding(**names)
        self._graph = binding.graph
        nodes = []
        for i, text in enumerate(equations):
            place = Place(f"problem: equation {i + 1}")
            left, right, right_place = sides(text, place)
            left, right = binding.read(left, place), binding.read(right, right_place)
            nodes.append(self._graph.apply("-", left, right))
            if any(own > most for own, most in zip(self._graph.extent(nodes[-1]), MAX_EXTENT, strict=True)):
                most = f"at most {MAX_EXTENT[0]} operations, {MAX_EXTENT[1]} deep"
                raise ConfigError(f"{place.where} is too large with its definitions written out: {most}")
        self._nodes = nodes if self.duration is None else self._ordered(nodes)
        symbols = binding.symbols(self._nodes)
        self.coordinates = tuple(key for kind, key in symbols if kind == "coordinate")
        used = {key for kind, key in symbols if kind == "feature"}
        self.features = {name: own for name, own in binding.features.items() if name in used}
        held = {key for kind, key in symbols if kind == "coefficient"}  # series have no derivatives
        self.coefficient_features = {name: own for name, own in binding.coefficient_features.items() if name in held}
        for i, node in enumerate(nodes):
            if not any(own.kind == "feature" for own in binding.symbols([node])):
                raise ConfigError(f"problem: equation {i + 1} holds no field")
        self._walls = Walls(walls, names, self.typical())
        self._nodes, self._terms, self._state = self._linearisation()
        self._check_inverses()
        self.diagnostics = self._outputs()
        self.text = (*equations, *(f"{name} = {text}" for name, text in definitions.items()))
        self.wall_text = tuple(shown(walls))
        self.equation = self._typeset(equations, definitions)

    def _ordered(self, nodes: list[int]) -> list[int]:
        """The equations in the order of the fields whose time derivative they hold."""
        rates = {f"{name}_t": name for name in self.fields}
        degrees = self._graph.degrees(lambda own: own.kind == "feature" and own.key in rates)
        by_field: dict[str, tuple[int, int]] = {}
        for i, node in enumerate(nodes):
            held = [key for kind, key in self._binding.symbols([node]) if kind == "feature" and key in rates]
            where = f"problem: equation {i + 1}"
            if not held:
                raise ConfigError(f"{where} has no time derivative, though a duration is given; steady: leave it out")
            if len(held) > 1:
                raise ConfigError(f"{where} holds {' and '.join(held)}; solve for one of them, one per equation")
            if degrees[node] > 1:
                raise ConfigError(f"{where} is not linear in {held[0]}; solve it for {held[0]}")
            field = rates[held[0]]
            if field in by_field:
                raise ConfigError(f"problem: equations {by_field[field][0] + 1} and {i + 1} both hold {held[0]}")
            by_field[field] = i, node
        return [by_field[name][1] for name in self.fields]

    # ------------------------------------------------------------------ what a problem answers

    def residual(self, f, c, at):
        values = self._graph.evaluate(self._nodes, lambda own: self._looked_up(own, f, c, at))
        return tuple(values) if self.is_system else values[0]

    @staticmethod
    def _looked_up(own: Symbol, f: Mapping[str, Any], c: Mapping[str, Any], at: Mapping[str, Any]) -> Any:
        return (f if own.kind == "feature" else c if own.kind == "parameter" else at)[own.key]

    def linearised(self, c):
        """All linear terms at the middle of the ranges, at the centre of the domain; None where there are none.

        Those kept are the ones that do not vanish there for some parameters in their ranges.
        """
        if self._terms is None:
            return None
        forms = [
            {name: form.get(name, 0.0) for name in terms}
            for form, terms in zip(self._forms(c, self._state), self._terms, strict=True)
        ]
        return forms if self.is_system else forms[0]

    def walls(self, c):
        return self._walls(c)

    def layer_width(self, t, c):
        """√(D t) of the smallest D, the ratio of the coefficients of u_xx and u_t; a tenth of the axis without u_xx."""
        linear: Any = self.linearised(c) or {}
        ratios = []
        for name, form in zip(self.fields, self.by_equation(linear), strict=False):
            for axis, own in self.output_space.items():
                second = f"{name}_{axis}{axis}"
                if not own.is_periodic and second in form and f"{name}_t" in form:
                    ratios.append(functions.abs(form[second] / form[f"{name}_t"]))
        if not ratios:
            lengths = [axis.stop - axis.start for axis in self.output_space.values() if not axis.is_periodic]
            return 0.1 * min(lengths) + 0 * t
        smallest = ratios[0]
        for ratio in ratios[1:]:
            smallest = functions.minimum(smallest, ratio)
        return (smallest * t) ** 0.5

    # ------------------------------------------------------------------ what follows from the text

    def _forms(self, c: Mapping[str, Any], state: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Per equation: the partials by feature at a constant state, and the value itself under `_VALUE`."""
        names = list(self.features)
        values = {}
        for i, (name, feature) in enumerate(self.features.items()):
            is_field = not feature.orders and not feature.laplacian
            values[name] = Dual(state[feature.field] if is_field else 0.0 * state[feature.field], {i: 1.0})
        centre = {name: 0.5 * (axis.start + axis.stop) for name, axis in self.output_space.items()}
        centre["t"] = 0.5 * (self.duration or 0.0)
        centre |= {name: c[name] for name in self.coefficients}
        centre |= {name: 0.0 * c[own.field] for name, own in self.coefficient_features.items()}
        results = self._graph.evaluate(self._nodes, lambda own: self._looked_up(own, values, c, centre))
        return [{_VALUE: own.value, **{names[i]: part for i, part in own.partials.items()}} for own in results]

    def _linearisation(self) -> tuple[list[int], list[tuple[str, ...]] | None, dict[str, float]]:
        """The equations, those signed whose time derivative had a negative factor; the terms of A; its state."""
        values = [self._trial(share) for share in (None, 0.0, 0.5, 1.0)]
        state: dict[str, float] = {}
        for is_strict, share in ((is_strict, share) for is_strict in (True, False) for share in _STATES):
            state = {name: own.low + share * (own.high - own.low) for name, own in self.fields.items()}
            exact = {name: np.float64(value) for name, value in state.items()}
            with np.errstate(all="ignore"):
                trials = [self._forms(c, exact) for c in values]
            if self._is_usable(trials[0], is_strict):
                break
        else:
            return self._nodes, None, state
        nodes = list(self._nodes)
        for i, (name, form) in enumerate(zip(self.fields, trials[0], strict=True)):
            if form.get(f"{name}_t", 1.0) < 0:
                nodes[i] = self._graph.apply("negative", nodes[i])
        terms = []
        for i in range(len(nodes)):
            held = [[trial[i].get(name, 0.0) for trial in trials] for name in self.features]
            kept = [math.isfinite(own[0]) and any(np.isfinite(own) & (np.array(own) != 0)) for own in held]
            terms.append(tuple(name for name, is_kept in zip(self.features, kept, strict=True) if is_kept))
        return nodes, terms, state

    def _trial(self, share: float | None) -> dict[str, np.float64]:
        """The parameters' defaults, or values at a share of their ranges; fields are uniform."""
        return {
            key: np.float64(own.default if share is None else own.low + share * (own.high - own.low))
            for key, own in (self.parameters | self.coefficients).items()
        }

    def _is_usable(self, forms: list[dict[str, Any]], is_strict: bool) -> bool:
        """Whether all coefficients are finite, or at least those of the time derivatives, and these not zero."""
        if is_strict and not all(math.isfinite(value) for form in forms for value in form.values()):
            return False
        rates = [form.get(f"{name}_t", 0.0) for name, form in zip(self.fields, forms, strict=True)]
        return self.duration is None or all(math.isfinite(rate) and rate != 0 for rate in rates)

    def _check_inverses(self) -> None:
        own = {feature.field for feature in self.features.values() if feature.laplacian < 0}
        self._without_mean = own
        for name in own:
            if self.fields[name].low > 0 or self.fields[name].high < 0:
                raise ConfigError(
                    f"problem: the inverse Laplacian of {name} needs a mean of 0, which its range excludes"
                )

    def _is_conserving(self) -> bool:
        """Whether each equation is a constant times u_t plus derivatives along periodic axes, as far as is seen."""
        is_periodic = all(axis.is_periodic for axis in self.output_space.values())
        if self.duration is None or not is_periodic:
            return False
        return all(is_divergence(self._graph, node, self.features) for node in self._nodes)

    def _outputs(self) -> dict[str, tuple[float, Any]]:
        """Definitions that are inverse Laplacians of fields, as further outputs."""
        found = {}
        if self.is_system or not self._without_mean:
            return found
        for name, node in self._binding.definitions.items():
            held = self._graph.nodes[node]
            if held[0] == "name" and held[1].kind == "feature":
                found[name] = (1.0, self._binding.features[held[1].key])
        return found

    def _typeset(self, equations: list[str], definitions: Mapping[str, str]) -> str:
        is_derivative = self._binding.is_derivative
        lines = [equality(text, is_derivative) for text in equations]
        lines += [f"{symbol(name)} = {formula(text, is_derivative)}" for name, text in definitions.items()]
        if len(lines) == 1:
            return lines[0]
        aligned = r" \\ ".join(line.replace(" = ", " &= ", 1) for line in lines)
        return rf"\begin{{aligned}} {aligned} \end{{aligned}}"
