"""A stiff banded method of lines between two walls: truth, baseline and fallback.

Space is discretised by finite differences, fields interleaved node by node; time is LSODA with a banded Jacobian.
Works for every problem, systems included, on one bounded axis whose residual is linear in the time derivatives,
M(u) u_t + r(u) = 0.

Source: L. Petzold, "Automatic selection of methods for solving stiff and nonstiff systems of
ordinary differential equations" (1983), doi:10.1137/0904010, through SciPy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import ODEintWarning, odeint

from ..grid import INPUT_STENCIL, Axis
from ..grid.stencils import stencil_matrix
from .equations import Equations, coefficient_names
from .inputs import layout, over_time, rows_of
from .walled import WalledFeatures, graded

_FIRST_NODES, _MOST_NODES = 128, 4096
_ACCEPTED = 100.0  # times the asked tolerance: what the finest grid may miss it by


class MethodOfLines:
    """Solves a problem on one bounded axis, one trajectory at a time.

    Args:
        problem: the equation.
        rtol, atol: local tolerances of the integrator; 1e-10 gives a solution converged to about
            1e-9 in time. ``atol`` is in units of each field's range.
        num_nodes: of a graded grid between the walls, five-point differences; default: the problem's own output grid
            (for PDEBench's problems the cells of its generator).

    Raises:
        ValueError: other axes than one bounded one, a field without time derivative.
    """

    has_own_grid = False  # answers are on the grid that is asked for
    pass_size = 1

    def __init__(self, problem, rtol: float = 1e-10, atol: float = 1e-10, num_nodes: int | None = None):
        self.problem, self.rtol, self.atol = problem, rtol, atol
        if len(problem.output_space) != 1 or next(iter(problem.output_space.values())).is_periodic:
            raise ValueError(
                f"the method of lines needs one bounded axis; the problem has {tuple(problem.output_space)}"
            )
        ((self.axis_name, self.native),) = problem.output_space.items()
        self.axis: Axis = self.native if num_nodes is None else graded(self.native, num_nodes)
        self.equations = Equations(problem)
        self.equations.check_rates()
        two = self.equations.constant(problem.defaults(), np.ones(2))
        self.has_constant_mass = all(
            own.get(name, 0.0) is not None for own in two for name in self.equations.rates
        )  # then r alone is formed in every step
        sizes = [max(abs(own.low), abs(own.high)) for own in problem.fields.values()]
        self.scales = np.array([size if np.isfinite(size) and size > 0 else 1.0 for size in sizes])

    def __call__(
        self,
        u0: np.ndarray,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: np.ndarray | None = None,
        x: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """u0 (n,) ↦ (time, x), or (batch, n) and parameters of shape () or (batch,) ↦ (batch, time, x).

        Of a system, fields come last, in and out.

        Args:
            u0: values at ``input_x``, default the problem's output grid.
            parameters: numbers by symbol, coefficient fields on the output grid, series at the output times.
            input_x, x: positions of input and output, default the problem's output grid for both.
            times: of the output, default the problem's.

        Raises:
            RuntimeError: the integrator did not reach the end.
        """
        values, is_single = layout(self.problem, u0)
        input_x, x = (self.native.nodes if own is None else np.asarray(own) for own in (input_x, x))
        times = self.problem.output_times if times is None else np.atleast_1d(np.asarray(times, dtype=np.float64))
        rows = zip(values, rows_of(self.problem, parameters, len(values)), strict=True)
        u = np.stack([self._solved(own, inputs, input_x, x, times) for own, inputs in rows])  # (batch, time, field, x)
        u = np.moveaxis(u, 2, -1) if self.problem.is_system else u[:, :, 0]
        return u[0] if is_single else u

    def _solved(self, u0, inputs, input_x, x, times) -> np.ndarray:
        """One trajectory, (time, field, x)."""
        nodes, names = self.axis.nodes, coefficient_names(self.problem)
        c = {key: value for key, value in inputs.items() if key not in names}
        series = {key: inputs[key] for key in self.problem.series}
        fields = {key: inputs[key] for key in names if key not in series}
        is_own = len(input_x) == len(nodes) and np.array_equal(input_x, nodes)
        start = u0 if is_own else u0 @ stencil_matrix(input_x, nodes, 0, INPUT_STENCIL).T
        if fields and self.axis is not self.native:
            of_native = stencil_matrix(self.native.nodes, nodes, 0, INPUT_STENCIL)
            fields = {key: of_native @ value for key, value in fields.items()}
        features = WalledFeatures(self.equations, {self.axis_name: self.axis}, c, series)
        still, moving = {self.axis_name: nodes, **fields}, over_time(self.problem, series)
        asked = np.unique(np.concatenate([[0.0], times]))
        found = self._integrated(features, start, c, lambda t: {**still, **moving(t), "t": t}, asked)
        solution = found[np.searchsorted(asked, times)]
        if len(x) == len(nodes) and np.array_equal(x, nodes):
            return solution
        closed = np.stack([features.closed(u, t) for u, t in zip(solution, times, strict=True)])
        read = closed @ self.axis.interpolation(x).T
        if np.array_equal(x, input_x):
            read[times == 0] = u0
        return read

    def _integrated(self, features: WalledFeatures, start: np.ndarray, c, at: Callable, times) -> np.ndarray:
        """(time, field, n) at the increasing ``times``, 0 first; ``at`` of `_rate`."""
        if len(times) == 1:
            return start[None]
        count, n = start.shape
        rate = self._rate(features, c, at, count)
        reach = max(
            (int(np.abs(np.subtract(*own[0].nonzero())).max(initial=0)) for own in features.maps.values() if own),
            default=0,
        )
        band = count * reach + count - 1
        bands = {"ml": band, "mu": band} if 2 * band + 1 < count * n else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ODEintWarning)  # the report says it
            solution, report = odeint(
                rate,
                start.T.ravel(),
                times,
                **bands,
                rtol=self.rtol,
                atol=np.tile(self.atol * self.scales, n),
                mxstep=100_000,
                full_output=True,
            )
        if not report["message"].startswith("Integration successful"):
            raise RuntimeError(f"the classical solver stopped early: {report['message']}")
        if not np.isfinite(solution).all():
            raise RuntimeError("the classical solver stopped early: values are not finite")
        return solution.reshape(len(times), n, count).swapaxes(1, 2)

    def _rate(
        self, features: WalledFeatures, c, at: Callable[[float], dict[str, Any]], count: int
    ) -> Callable[[np.ndarray, float], np.ndarray]:
        """(n · field,) interleaved, time ↦ its time derivative; ``at``: time ↦ what residuals take beside features."""
        equations = self.equations
        inverse = self._mass(c) if self.has_constant_mass else None
        zero = np.zeros(len(self.axis.nodes))

        def rate(y: np.ndarray, t: float) -> np.ndarray:
            f = features(y.reshape(-1, count).T, t)
            place = at(t)
            rest = np.stack([np.broadcast_to(own, zero.shape) for own in equations.at_rest(f, c, place)])
            if inverse is not None:
                return -(inverse @ rest).T.ravel()
            if count == 1:
                full = {**f, **dict.fromkeys(equations.rates, zero)}
                none, one = (
                    equations.residuals({**full, equations.rates[0]: own}, c, place)[0] for own in (zero, zero + 1)
                )
                return -rest[0] / (one - none)
            _, partials = equations.partials({**f, **dict.fromkeys(equations.rates, zero)}, c, place, equations.rates)
            mass = np.zeros((len(zero), count, count))
            for i, own in enumerate(partials):
                for name, value in own.items():
                    mass[:, i, equations.place[name]] += value
            return -np.linalg.solve(mass, rest.T[:, :, None])[:, :, 0].ravel()

        return rate

    def _mass(self, c: dict[str, float]) -> np.ndarray:
        """(field, field) inverse of the constant coefficients of the time derivatives."""
        mass = np.zeros((len(self.equations.fields),) * 2)
        for i, own in enumerate(self.equations.constant(c, np.ones(2))):
            for name in self.equations.rates:
                mass[i, self.equations.place[name]] += own.get(name, 0.0)
        return np.linalg.solve(mass, np.eye(len(mass)))


class ConvergedLines:
    """`MethodOfLines` on grids of its own, twice as fine each, until two answers agree.

    The error of the finer one is taken from their difference and the order at which differences fall, at most 4.

    Args:
        problem: on one bounded axis.
        rtol: relative L2 error over the asked times and points.
        first, most: nodes to begin and to end with.
    """

    has_own_grid = False
    pass_size = 1

    def __init__(self, problem, rtol: float = 1e-7, first: int = _FIRST_NODES, most: int = _MOST_NODES):
        self.problem, self.rtol, self.first, self.most = problem, rtol, first, most
        self._made: dict[int, MethodOfLines] = {}

    @property
    def axis(self) -> Axis:
        """The axis that answers are on."""
        return self._on(self.first).native

    def _on(self, num_nodes: int) -> MethodOfLines:
        if num_nodes not in self._made:
            own = max(1e-12, 1e-3 * self.rtol)
            self._made[num_nodes] = MethodOfLines(self.problem, own, own, num_nodes)
        return self._made[num_nodes]

    def __call__(self, u0: np.ndarray, parameters: dict[str, Any] | None = None, **grid: Any) -> np.ndarray:
        """As `MethodOfLines`.

        Raises:
            RuntimeError: no end, or grids that do not agree.
        """
        values, is_single = layout(self.problem, u0)
        given = np.asarray(u0, dtype=np.float64)
        if is_single:
            return self._converged(given, parameters or {}, grid)
        rows = zip(given, rows_of(self.problem, parameters, len(values)), strict=True)
        return np.stack([self._converged(row, one, grid) for row, one in rows])

    def _converged(self, u0: np.ndarray, parameters: dict[str, Any], grid: dict[str, Any]) -> np.ndarray:
        nodes, before, change = self.first, self._on(self.first)(u0, parameters, **grid), np.inf
        while True:
            nodes, last = 2 * nodes, change
            u = self._on(nodes)(u0, parameters, **grid)
            change = float(np.linalg.norm(u - before) / max(np.linalg.norm(u), 1e-300))
            order = np.clip(np.log2(last / change), 1.0, 4.0) if 0 < change < last < np.inf else 1.0
            error = change / (2**order - 1)
            if error <= self.rtol or nodes >= self.most:
                break
            before = u
        if error > _ACCEPTED * self.rtol:
            raise RuntimeError(
                f"the method of lines has not converged: {nodes // 2} and {nodes} nodes differ by {change:.1e}"
            )
        return u
