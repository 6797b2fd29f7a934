"""Steady problems between walls: Newton's method on finite differences, with sparse direct solves.

    r(u; c, x) = 0:  J δ = −r,  J = Σ_j diag(∂r/∂f_j) G_j,  G_j the matrix of the feature f_j with its walls closed.

Grids are refined until answers agree. Partials come from dual numbers.

Source: T. A. Davis, "Direct Methods for Sparse Linear Systems" (2006), through SciPy's SuperLU; J. Nocedal, S. J.
Wright, "Numerical Optimization" (2006), 11.1 (Newton's method with backtracking).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from ..grid import INPUT_STENCIL
from ..grid.stencils import stencil_matrix
from .equations import Equations, coefficient_names
from .inputs import rows_of
from .walled import WalledFeatures, conditions, graded

_FIRST_NODES, _MOST_POINTS, _GROWTH = {1: 64, 2: 24}, {1: 8192, 2: 2**15}, {1: 2.0, 2: 1.5}
_ACCEPTED = 1000.0  # times the asked tolerance: what the finest grid may miss it by
_NEWTON_STEPS, _BACKTRACKS, _NEWTON_RTOL = 40, 12, 1e-11


class SteadySolver:
    """Solves a steady problem, one trajectory at a time.

    Args:
        problem: all axes bounded, no time derivatives.
        num_nodes: per axis; default: ever finer ones, until answers agree to ``rtol``.
        rtol: relative L2 error.

    Raises:
        ValueError: periodic axes, a time derivative, a field that is differentiated but has no walls, such as the flux
            of an equation written as a system of first order: differences of differences decouple there.
    """

    has_own_grid = False
    pass_size = 1

    def __init__(self, problem, num_nodes: int | None = None, rtol: float = 1e-6):
        self.problem, self.num_nodes, self.rtol = problem, num_nodes, rtol
        self.equations = Equations(problem)
        if self.equations.rates:
            raise ValueError(
                f"a steady problem has no time derivative, but {self.equations.rates[0]!r}; give a duration"
            )
        periodic = [name for name, axis in problem.output_space.items() if axis.is_periodic]
        if periodic:
            raise ValueError(f"axis {periodic[0]!r} is periodic; the steady solver needs walls on all axes")
        for feature in problem.features.values():
            for axis in feature.orders:
                if all(own is None for own in conditions(problem, problem.typical(), axis, feature.field)):
                    raise ValueError(
                        f"the steady solver needs walls for {feature.field!r} on axis {axis!r}, along which it is "
                        "differentiated: eliminate it from the equations, or bring your own truth by "
                        "Problem.reference_solvers"
                    )

    def __call__(
        self,
        u0: Any = None,
        parameters: dict[str, Any] | None = None,
        *,
        x: dict[str, np.ndarray] | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Parameters ↦ (batch, 1, *space[, field]), or (1, *space[, field]) where none has a batch.

        Args:
            u0: not looked at but for its batch; a steady problem has no initial values.
            parameters: numbers or (batch,) arrays by symbol; coefficient fields ([batch,] *space) on the output grid.
            x: positions of the output by axis, or an array on one axis; default the problem's output grid.

        Raises:
            RuntimeError: Newton's method did not converge, or grids do not agree.
        """
        native = {name: axis.nodes for name, axis in self.problem.output_space.items()}
        outputs, is_system = self._positions(x, native), self.problem.is_system
        shape = np.shape(u0)
        count = max(self.problem.batch_of(parameters or {}), shape[0] if len(shape) > len(native) + is_system else 0)
        rows = rows_of(self.problem, parameters, count or 1)
        u = np.stack([self._converged(own, outputs) for own in rows])
        u = (np.moveaxis(u, 1, -1) if is_system else u[:, 0])[:, None]
        return u if count else u[0]

    def _positions(self, points: Any, native: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if points is None:
            return native
        if not isinstance(points, dict):
            points = {next(iter(native)): points}
        return {name: np.atleast_1d(np.asarray(points[name], dtype=np.float64)) for name in native}

    def _converged(self, inputs: dict[str, Any], outputs: dict) -> np.ndarray:
        """(field, *points)."""
        dims = len(self.problem.output_space)
        if self.num_nodes is not None:
            return self._on(self.num_nodes, inputs, outputs)
        nodes, before, change = _FIRST_NODES.get(dims, 16), None, np.inf
        while True:
            u, last = self._on(nodes, inputs, outputs), change
            if before is not None:
                change = float(np.linalg.norm(u - before) / max(np.linalg.norm(u), 1e-300))
                growth = np.log(_GROWTH.get(dims, 1.5))
                order = np.clip(np.log(last / change) / growth, 1.0, 4.0) if 0 < change < last < np.inf else 1.0
                error = change / (np.exp(order * growth) - 1)
                if error <= self.rtol:
                    return u
            finer = round(_GROWTH.get(dims, 1.5) * nodes)
            if finer**dims > _MOST_POINTS.get(dims, 2**15):
                break
            before, nodes = u, finer
        if error > _ACCEPTED * self.rtol:
            raise RuntimeError(f"the steady solver has not converged: its finest grids differ by {change:.1e}")
        return u

    def _on(self, num_nodes: int, inputs: dict[str, Any], outputs: dict) -> np.ndarray:
        """(field, *points) on one grid."""
        names = coefficient_names(self.problem)
        c = {key: value for key, value in inputs.items() if key not in names}
        space = {name: graded(axis, num_nodes) for name, axis in self.problem.output_space.items()}
        features = WalledFeatures(self.equations, space, c)
        at = dict(zip(space, np.meshgrid(*(axis.nodes for axis in space.values()), indexing="ij"), strict=True))
        for key in names:
            given = self.problem.native_points(np.shape(inputs[key]))
            at[key] = _along([stencil_matrix(given[n], space[n].nodes, 0, INPUT_STENCIL) for n in space], inputs[key])
        u = self._newton(features, c, at)
        closed = features.closed(u)
        return np.stack([_along([axis.interpolation(outputs[n]) for n, axis in space.items()], own) for own in closed])

    def _newton(self, features: WalledFeatures, c: dict[str, Any], at: dict[str, Any]) -> np.ndarray:
        """(field, *space) from the middle of the fields' ranges on, with backtracking."""
        count, size = len(self.equations.fields), int(np.prod(features.shape))
        middle = [0.5 * (own.low + own.high) for own in self.problem.fields.values()]
        u = np.stack([np.full(features.shape, m if np.isfinite(m) else 0.0) for m in middle])
        identity = sparse.identity(size, format="csr")
        rest, partials = self._residual(features, u, c, at)
        first = norm = np.linalg.norm(rest)
        for _ in range(_NEWTON_STEPS):
            blocks: list[list[Any]] = [[sparse.csr_array((size, size)) for _ in range(count)] for _ in range(count)]
            for i, own in enumerate(partials):
                for name, value in own.items():
                    j, mapped = self.equations.place[name], features.maps[name]
                    weight = sparse.diags_array(np.broadcast_to(value, features.shape).ravel())
                    blocks[i][j] = blocks[i][j] + weight @ (identity if mapped is None else mapped[0])
            try:
                step = -splu(sparse.csc_array(sparse.block_array(blocks))).solve(rest).reshape(u.shape)
            except RuntimeError:
                raise RuntimeError(
                    "the steady solver met a singular Jacobian: do the walls fix the solution?"
                ) from None
            share = 1.0
            for _ in range(_BACKTRACKS):
                trial, own = self._residual(features, u + share * step, c, at)
                if np.isfinite(trial).all() and np.linalg.norm(trial) <= (1 - 1e-4 * share) * norm:
                    break
                share /= 2
            else:
                if norm <= 1e-8 * max(first, 1e-300):  # rounding
                    return u
                raise RuntimeError(
                    f"Newton's method stopped at a residual of {norm:.1e}, {norm / first:.1e} of the first"
                )
            u, rest, partials, norm = u + share * step, trial, own, np.linalg.norm(trial)
            is_still = np.linalg.norm(share * step) <= _NEWTON_RTOL * max(np.linalg.norm(u), 1e-300)
            if is_still or norm <= _NEWTON_RTOL * first:
                return u
        raise RuntimeError(f"Newton's method did not converge in {_NEWTON_STEPS} steps; residual {norm:.1e}")

    def _residual(self, features: WalledFeatures, u: np.ndarray, c, at) -> tuple[np.ndarray, list[dict[str, Any]]]:
        rest, partials = self.equations.partials(features(u), c, at, self.equations.static)
        return np.concatenate([np.broadcast_to(own, features.shape).ravel() for own in rest]), partials


def _along(matrices: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """One matrix along each axis."""
    for dim, matrix in enumerate(matrices):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, dim)), 0, dim)
    return values
