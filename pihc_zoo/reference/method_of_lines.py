"""A stiff banded method of lines: truth for tests and the fallback for users.

Space is the problem's own output grid (for PDEBench's problems the cells of its generator) with
second-order differences, time is LSODA with a banded Jacobian. Works for every problem in one space
dimension whose residual is linear in u_t.

Source: L. Petzold, "Automatic selection of methods for solving stiff and nonstiff systems of
ordinary differential equations" (1983), doi:10.1137/0904010, through SciPy.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.integrate import odeint

from ..grid import INPUT_STENCIL
from ..grid.stencils import stencil_matrix


class MethodOfLines:
    """Solves a 1-D problem on its output grid, one trajectory at a time.

    Args:
        problem: the equation.
        rtol, atol: local tolerances of the integrator; 1e-10 gives a solution converged to about
            1e-9 in time.
    """

    has_own_grid = False  # answers are on the grid that is solved on
    pass_size = 1

    def __init__(self, problem, rtol: float = 1e-10, atol: float = 1e-10):
        self.problem, self.rtol, self.atol = problem, rtol, atol
        ((self.axis_name, self.axis),) = problem.output_space.items()
        self.matrices = {
            name: sparse.csr_array(self.axis.differentiation(feature.orders[self.axis_name]))
            for name, feature in problem.features.items()
            if self.axis_name in feature.orders
        }

    def _walls(self, c: dict[str, float]):
        """Wall values = slopes · u + offset, for the few nodes that take part."""
        nodes, closed = self.axis.nodes, self.axis.closed_nodes
        system, own, target = np.zeros((2, 2)), np.zeros((2, len(nodes))), np.zeros(2)
        for side, condition in enumerate(self.problem.walls(c)[self.axis_name]):
            at = closed[-side] if condition.at is None else condition.at
            d = self.axis.differentiation(1, [at])[0]
            system[side] = condition.slope * d[0], condition.slope * d[-1]
            system[side, side] += condition.value
            own[side], target[side] = -condition.slope * d[1:-1], condition.target
        return sparse.csr_array(np.linalg.solve(system, own)), np.linalg.solve(system, target)

    def __call__(
        self,
        u0: np.ndarray,
        parameters: dict[str, float] | None = None,
        *,
        input_x: np.ndarray | None = None,
        x: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """u0 (n,) at ``input_x`` ↦ (time, x), or (batch, n) and parameters of shape () or (batch,) ↦ (batch, time, x).

        Raises:
            RuntimeError: the integrator did not reach the end.
        """
        problem, nodes = self.problem, self.axis.nodes
        if np.ndim(u0) == 2:
            own = {key: np.broadcast_to(value, len(u0)) for key, value in (parameters or {}).items()}
            rows = [{key: float(value[i]) for key, value in own.items()} for i in range(len(u0))]
            grid = {"input_x": input_x, "x": x, "times": times}
            return np.stack([self(row, one, **grid) for row, one in zip(u0, rows, strict=True)])
        c = {**problem.defaults(), **(parameters or {})}
        start = (
            u0
            if input_x is None or np.array_equal(input_x, nodes)
            else stencil_matrix(input_x, nodes, 0, INPUT_STENCIL) @ u0
        )
        slopes, offset = self._walls(c)
        plain = [name for name, feature in problem.features.items() if not feature.orders]
        (rate,) = [name for name, feature in problem.features.items() if "t" in feature.orders]

        def derivative(u: np.ndarray, t: float) -> np.ndarray:
            at = {self.axis_name: nodes, "t": t}
            walls = slopes @ u + offset
            closed = np.concatenate([walls[:1], u, walls[1:]])
            f = {name: matrix @ closed for name, matrix in self.matrices.items()} | {name: u for name in plain}
            at_rest = problem.residual({**f, rate: np.zeros_like(u)}, c, at)
            return -at_rest / (problem.residual({**f, rate: np.ones_like(u)}, c, at) - at_rest)

        times = problem.output_times if times is None else np.asarray(times, dtype=np.float64)
        asked = np.unique(np.concatenate([[0.0], times]))
        if len(asked) == 1:
            solution = start[None]
        else:
            solution, report = odeint(
                derivative, start, asked, ml=1, mu=1, rtol=self.rtol, atol=self.atol, mxstep=100_000, full_output=True
            )
            if not report["message"].startswith("Integration successful"):
                raise RuntimeError(f"the classical solver stopped early: {report['message']}")
        solution = solution[np.searchsorted(asked, times)]
        if x is not None and not np.array_equal(x, nodes):
            walls = solution @ slopes.T + offset
            closed = np.concatenate([walls[:, :1], solution, walls[:, 1:]], axis=1)
            solution = closed @ self.axis.interpolation(x).T
        return solution
