"""A problem's equations as the classical solvers take them: M ∂u/∂t + r(u) = 0, for any number of fields.

Terms whose coefficient holds neither a field nor a coordinate are told apart by dual numbers, not by what the
problem says of its linearisation: the solvers share a problem's physics and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..solvers.dual import Dual


class Equations:
    """The residual of a problem, one per field, and what is linear in it.

    Args:
        problem: of first order in time, or steady.

    Raises:
        ValueError: a time derivative of higher order.
    """

    def __init__(self, problem):
        self.problem, self.fields = problem, list(problem.fields)
        features = problem.features
        for name, feature in features.items():
            if feature.field not in problem.fields:
                raise ValueError(f"feature {name!r} is of {feature.field!r}; the fields are {', '.join(self.fields)}")
            if feature.orders.get("t", 0) > 1:
                raise ValueError(
                    f"{name!r} is of order {feature.orders['t']} in time; write the equation as a system of first order"
                )
        self.place = {name: self.fields.index(feature.field) for name, feature in features.items()}
        self.rates = [name for name, feature in features.items() if "t" in feature.orders]
        self.static = [name for name in features if name not in self.rates]

    def residuals(self, f: dict[str, Any], c: dict[str, Any], at: dict[str, Any]) -> tuple[Any, ...]:
        """One residual per equation."""
        return self._each(self.problem.residual(f, c, at))

    def at_rest(self, f: dict[str, Any], c: dict[str, Any], at: dict[str, Any]) -> tuple[Any, ...]:
        """r of each equation: its residual where nothing changes in time."""
        return self._each(self.problem.at_rest(f, c, at))

    def _each(self, residual: Any) -> tuple[Any, ...]:
        found = tuple(residual) if isinstance(residual, tuple | list) else (residual,)
        if len(found) != len(self.fields):
            raise ValueError(f"{len(found)} equations for {len(self.fields)} fields {', '.join(self.fields)}")
        return found

    def partials(
        self, f: dict[str, Any], c: dict[str, Any], at: dict[str, Any], names: Sequence[str]
    ) -> tuple[list[Any], list[dict[str, Any]]]:
        """Residuals and ∂residual/∂feature by name, per equation; partials that vanish identically are left out."""
        places = {name: i for i, name in enumerate(names)}
        duals = {key: Dual(value, {places[key]: 1.0} if key in places else None) for key, value in f.items()}
        constants = {key: Dual(value) for key, value in c.items()}
        found = self.residuals(duals, constants, {key: Dual(value) for key, value in at.items()})
        found = tuple(own if isinstance(own, Dual) else Dual(own) for own in found)
        return [own.value for own in found], [
            {name: own.partials[i] for name, i in places.items() if i in own.partials} for own in found
        ]

    def constant(self, c: dict[str, Any], two: Any) -> list[dict[str, Any]]:
        """Per equation and feature: the coefficient where it is a number, None where it varies.

        Args:
            c: parameters, which broadcast against ``two``.
            two: two ones along the last dimension: a coefficient that holds a field or a coordinate takes its shape.
        """
        along = two * np.array([0.3, 0.6]) if isinstance(two, np.ndarray) else two * two.new_tensor([0.3, 0.6])
        at = dict.fromkeys(("t", *self.problem.output_space, *coefficient_names(self.problem)), along)
        _, partials = self.partials(dict.fromkeys(self.problem.features, two), c, at, list(self.problem.features))
        return [
            {name: None if tuple(getattr(value, "shape", ()))[-1:] == (2,) else value for name, value in own.items()}
            for own in partials
        ]

    def linearised(self, c: dict[str, Any]) -> list[dict[str, Any]]:
        """Per equation what the problem offers as linear terms; empty where it has none."""
        found = self.problem.linearised({**self.problem.typical(), **c})
        if found is None:
            return [{} for _ in self.fields]
        return [dict(found)] if isinstance(found, dict) else [dict(own) for own in found]

    def check_rates(self) -> None:
        """Refuses equations that no solver in time can advance.

        Raises:
            ValueError: a field without time derivative.
        """
        for i, field in enumerate(self.fields):
            if i not in {self.place[name] for name in self.rates}:
                raise ValueError(f"no equation has a time derivative of {field!r}: nothing says how it evolves")


def coefficient_names(problem) -> tuple[str, ...]:
    """Names of what a problem's residual takes over space and time: coefficient fields, series, and derivatives."""
    return (*problem.coefficients, *problem.coefficient_features)
