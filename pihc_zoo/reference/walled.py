"""Features on bounded axes by finite differences: sparse matrices from values at nodes, walls eliminated.

f = G u + g:  the values at the walls follow from the conditions there, linearly in those at the nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from ..grid import Axis, GradedAxis
from ..grid.stencils import fornberg_weights
from .equations import Equations
from .inputs import over_time

GRADING = 1.5  # of the solvers' own grids: spacings at the walls are a third of those inside


def graded(axis: Axis, num_nodes: int, stencil: int = 5) -> GradedAxis:
    """A grid of one's own between the walls of a problem's axis."""
    return GradedAxis(num_nodes, float(axis.closed_nodes[0]), float(axis.closed_nodes[-1]), stencil, grading=GRADING)


def conditions(problem, c: dict[str, Any], axis: str, field: str) -> tuple[Any, Any]:
    """The conditions of a field at the two walls of an axis, None for a wall that has none."""
    own = problem.walls(c).get(axis, (None, None))
    if isinstance(own, dict):
        own = own.get(field, (None, None))
    return (None, None) if own is None else tuple(own)


def closure(axis: Axis, pair: tuple[Any, Any]) -> tuple[sparse.csr_array, np.ndarray]:
    """Wall values (2,) = slopes (2, n) · u + offset; at a wall without condition u is extrapolated."""
    slopes, inverse = elimination(axis, pair)
    return slopes, inverse @ targets(pair)


def targets(pair: tuple[Any, Any]) -> np.ndarray:
    """(2,) targets of the conditions at two walls, 0 where there is none."""
    return np.array([0.0 if condition is None else condition.target for condition in pair])


def elimination(axis: Axis, pair: tuple[Any, Any]) -> tuple[sparse.csr_array, np.ndarray]:
    """Wall values (2,) = slopes (2, n) · u + inverse (2, 2) · targets."""
    closed, count = axis.closed_nodes, len(axis.nodes)
    width = min(axis.stencil, count)
    system, own = np.zeros((2, 2)), np.zeros((2, count))
    for side, condition in enumerate(pair):
        if condition is None:
            inner = slice(0, width) if side == 0 else slice(count - width, count)
            system[side, side] = 1.0
            own[side, inner] = fornberg_weights(closed[-side], axis.nodes[inner], 0)
            continue
        at = closed[-side] if condition.at is None else condition.at
        d = axis.differentiation(1, [at])[0]
        system[side] = condition.slope * d[0], condition.slope * d[-1]
        system[side, side] += condition.value
        own[side] = -condition.slope * d[1:-1]
    return sparse.csr_array(np.linalg.solve(system, own)), np.linalg.inv(system)


class WalledFeatures:
    """The features of a problem on bounded axes for given parameters.

    Values are (field, *space), C-ordered; each feature is of one field.

    Args:
        equations: of the problem.
        space: bounded axes by name.
        c: parameters, numbers.
        series: (time,) values of the problem's series at the output times, by name; on one axis.

    Raises:
        ValueError: a feature that needs another axis, an inverse Laplacian or a mixed time derivative.
    """

    def __init__(
        self,
        equations: Equations,
        space: dict[str, Axis],
        c: dict[str, float],
        series: dict[str, np.ndarray] | None = None,
    ):
        self.equations, self.space = equations, space
        self._change = over_time(equations.problem, self._changes(c, series) if series else {})
        c = {**equations.problem.typical(), **c}
        self.shape = tuple(len(axis.nodes) for axis in space.values())
        self.closures = {
            (name, field): closure(axis, conditions(equations.problem, c, name, field))
            for name, axis in space.items()
            for field in equations.fields
        }
        self._axes: dict[tuple[str, int, str], tuple[sparse.csr_array, np.ndarray]] = {}
        self.maps = {name: self._map(name) for name in equations.static}
        for name in equations.rates:
            feature = equations.problem.features[name]
            if feature.laplacian or len(feature.orders) > 1:
                raise ValueError(f"{name!r} is mixed in space and time; between walls only u_t itself can be advanced")

    def along(self, axis: str, order: int, field: str) -> tuple[sparse.csr_array, np.ndarray]:
        """(n, n) matrix and (n,) offset of a derivative along one axis, the field's walls closed."""
        key = axis, order, field
        if key not in self._axes:
            matrix = self.space[axis].differentiation(order)
            slopes, offset = self.closures[axis, field]
            walls = matrix[:, [0, -1]]
            whole = sparse.csr_array(matrix[:, 1:-1]) + sparse.csr_array(walls) @ slopes
            self._axes[key] = sparse.csr_array(whole), walls @ offset
        return self._axes[key]

    def _map(self, name: str) -> tuple[sparse.csr_array, np.ndarray | float] | None:
        """(points, points) matrix and (points,) offset; None for the field itself."""
        feature = self.equations.problem.features[name]
        for axis in feature.orders:
            if axis not in self.space:
                raise ValueError(f"feature {name!r} needs axis {axis!r}; the problem has {', '.join(self.space)}")
        if feature.laplacian < 0:
            raise ValueError(f"feature {name!r} is an inverse Laplacian; between walls no classical solver has it")
        if not feature.orders and not feature.laplacian:
            return None
        total, offset = None, 0.0
        for orders in expanded(feature, list(self.space)):
            matrix, own = self._product(orders, feature.field)
            total = matrix if total is None else total + matrix
            offset = offset + own
        return sparse.csr_array(total), offset

    def _product(self, orders: dict[str, int], field: str) -> tuple[Any, Any]:
        """One mixed derivative; targets are constant along the walls, so that only the first axis sees them."""
        total, offset = sparse.identity(int(np.prod(self.shape)), format="csr"), None
        for name, order in orders.items():
            own, shift = self.along(name, order, field)
            dim = list(self.space).index(name)
            before, after = int(np.prod(self.shape[:dim])), int(np.prod(self.shape[dim + 1 :]))
            matrix = sparse.kron(sparse.kron(sparse.identity(before), own), sparse.identity(after), format="csr")
            total = matrix @ total
            offset = np.tile(np.repeat(shift, after), before) if offset is None else matrix @ offset
        return total, offset

    def _changes(self, c: dict[str, float], series: dict[str, np.ndarray]) -> dict[Any, np.ndarray]:
        """By how much wall values (2, time) of each field and features (n, time) are others than at typical values.

        Between the output times all of them are linear, as the series are.
        """
        (axis,), problem = self.space, self.equations.problem
        typical = {**problem.typical(), **c}
        rows = [{**c, **dict(zip(series, own, strict=True))} for own in zip(*series.values(), strict=True)]
        walls = {}
        for field in self.equations.fields:
            pair = conditions(problem, typical, axis, field)
            changes = [targets(conditions(problem, row, axis, field)) - targets(pair) for row in rows]
            walls[field] = elimination(self.space[axis], pair)[1] @ np.stack(changes, axis=1)  # (2, time)
        found = {("walls", field): own for field, own in walls.items()}
        for name in self.equations.static:
            feature = problem.features[name]
            if feature.orders or feature.laplacian:
                orders = [own[axis] for own in expanded(feature, [axis])]
                ends = sum(self.space[axis].differentiation(order)[:, [0, -1]] for order in orders)
                found["feature", name] = ends @ walls[feature.field]
        return found

    def __call__(self, u: np.ndarray, t: float = 0.0) -> dict[str, np.ndarray]:
        """(field, *space) ↦ static features (*space) by name."""
        found, change = {}, self._change(t)
        for name, own in self.maps.items():
            values = u[self.equations.place[name]]
            found[name] = values if own is None else (own[0] @ values.ravel() + own[1]).reshape(self.shape)
            if ("feature", name) in change:
                found[name] = found[name] + change["feature", name]
        return found

    def closed(self, u: np.ndarray, t: float = 0.0) -> np.ndarray:
        """(field, *space) ↦ the same with the values at the walls, (field, *closed)."""
        parts, change = [], self._change(t)
        for values, field in zip(u, self.equations.fields, strict=True):
            for dim, name in enumerate(self.space):
                slopes, offset = self.closures[name, field]
                offset = offset + change.get(("walls", field), 0.0)
                moved = np.moveaxis(values, dim, 0)
                flat = moved.reshape(len(moved), -1)
                walls = (slopes @ flat + offset[:, None]).reshape(2, *moved.shape[1:])
                values = np.moveaxis(np.concatenate([walls[:1], moved, walls[1:]]), 0, dim)
            parts.append(values)
        return np.stack(parts)


def expanded(feature: Any, axes: list[str]) -> list[dict[str, int]]:
    """A feature ∂^orders Δ^laplacian as a sum of mixed derivatives, each orders by axis in the order of the axes."""
    terms = [{name: order for name, order in feature.orders.items() if name != "t"}]
    for _ in range(feature.laplacian):
        terms = [{**term, name: term.get(name, 0) + 2} for term in terms for name in axes]
    return [{name: term[name] for name in axes if term.get(name)} for term in terms]
