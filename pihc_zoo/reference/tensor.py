"""A spectral method on several axes of which some are bounded: truth and baseline.

    u_t = −(σ u + n(u, t)):  the Laplacian is diagonal in products of each axis' modes, σ holds what is diffusion
    or decay with constant coefficients, n is formed point by point from matrix products along the axes.

Bounded axes are cosines where all walls say u_x = 0 and the equation is even in the axis, else Chebyshev points with
any linear walls. Grids are refined until answers agree.

Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 14 and 15 (fast diagonalisation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .equations import Equations, coefficient_names
from .evolution import Evolution, Stepping
from .inputs import layout, rows_of
from .semi_discrete import solved
from .spectral_axes import Along, CosineAlong, PeriodicAlong, WalledAlong
from .walled import conditions, expanded

_FIRST_NODES, _MOST_NODES, _GROWTH = 64, 384, 1.5
_ACCEPTED = 100.0  # times the asked tolerance: what the finest grid may miss it by


class TensorSpectral:
    """Solves a problem on several axes on one grid, or on finer ones until two answers agree.

    Args:
        problem: of first order in time.
        num_nodes: per axis; default: from 64 on by factors of 3/2, until answers agree to ``rtol``.
        rtol: relative L2 error, in time and over grids.
        steps: over the duration; default: as many as ``rtol`` asks for, halved until answers agree.
        device: where it computes.

    Raises:
        ValueError: a field without time derivative, a feature that no product of the axes has.
    """

    has_own_grid = False
    pass_size = 1

    def __init__(
        self, problem, num_nodes: int | None = None, rtol: float = 1e-6, steps: int | None = None, device: Any = "cpu"
    ):
        self.problem, self.num_nodes, self.rtol, self.device = problem, num_nodes, rtol, device
        self.equations = Equations(problem)
        self.equations.check_rates()
        for name in self.equations.rates:
            if len(problem.features[name].orders) > 1 or problem.features[name].laplacian:
                raise ValueError(f"{name!r} is mixed in space and time; between walls only u_t itself can be advanced")
        self.stepping = Stepping(problem.duration, steps, rtol=0.3 * rtol, is_verified=num_nodes is None)

    def __call__(
        self,
        u0: np.ndarray,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: dict[str, np.ndarray] | None = None,
        x: dict[str, np.ndarray] | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """u0 (batch, *space[, field]) ↦ (batch, time, *space[, field]); without the batch for one trajectory.

        Args:
            u0: values at ``input_x``, positions by axis, default the problem's output grid.
            parameters: numbers or (batch,) arrays, and coefficient fields at the positions of ``u0``.
            x: positions of the output by axis, default those of the input.
            times: of the output, default the problem's.

        Raises:
            RuntimeError: no end, or grids that do not agree.
        """
        values, is_single = layout(self.problem, u0)
        native = {name: axis.nodes for name, axis in self.problem.output_space.items()}
        given = native if input_x is None else {name: np.asarray(input_x[name]) for name in native}
        outputs = given if x is None else {name: np.atleast_1d(x[name]) for name in native}
        times = self.problem.output_times if times is None else np.atleast_1d(np.asarray(times, dtype=np.float64))
        asked = np.unique(np.concatenate([[0.0], times]))
        rows = rows_of(self.problem, parameters, len(values))
        answers = []
        for own, inputs in zip(values, rows, strict=True):
            u = self._converged(own, inputs, given, asked, outputs)
            if outputs is given:
                u[0] = own
            answers.append(u[np.searchsorted(asked, times)])
        u = np.stack(answers)  # (batch, time, field, *space)
        u = np.moveaxis(u, 2, -1) if self.problem.is_system else u[:, :, 0]
        return u[0] if is_single else u

    def _converged(self, u0, inputs, given, times, outputs) -> np.ndarray:
        if self.num_nodes is not None:
            return self._on(self.num_nodes, u0, inputs, given, times, outputs)
        nodes, before = _FIRST_NODES, None
        while True:
            u = self._on(nodes, u0, inputs, given, times, outputs)
            if before is not None:
                change = float(np.linalg.norm(u - before) / max(np.linalg.norm(u), 1e-300))
                if change <= 3 * self.rtol:  # the finer one errs by less: a third already at second order
                    return u
                if nodes * _GROWTH > _MOST_NODES:
                    break
            before, nodes = u, 2 * round(_GROWTH * nodes / 2)
        if change > _ACCEPTED * self.rtol:
            raise RuntimeError(f"the spectral method has not converged: the finest grids differ by {change:.1e}")
        return u

    @torch.no_grad()
    def _on(self, num_nodes: int, u0, inputs, given, times, outputs) -> np.ndarray:
        """One trajectory on one grid, (time, field, *points)."""
        rates = TensorRates(self.problem, self.equations, num_nodes, inputs, given, self.device)
        start = torch.as_tensor(u0, device=self.device)[None]
        pairs = [list(zip(row, given.values(), strict=True)) for row in rates.axes]
        modes = rates.per_field(start, [[own.to_modes @ own.given_at(points) for own, points in row] for row in pairs])
        readings = [[own.reading(p) for own, p in zip(row, outputs.values(), strict=True)] for row in rates.axes]

        def read(v: Tensor) -> np.ndarray:
            nodal = rates.to_nodes(v)
            parts = []
            for i, row in enumerate(readings):
                part = nodal[:, i]
                for dim, (matrix, offset) in enumerate(row):
                    part = _times(matrix, part, dim, len(row))
                    part = part + _column(offset, dim, len(row), part)
                parts.append(part)
            return torch.stack(parts, dim=1).cpu().numpy()

        u, _ = Evolution(self.stepping, rates, modes, times, read).verified(lambda number: None, np.inf)
        if not np.isfinite(u).all():
            raise RuntimeError("the spectral method did not reach the end: values are not finite or steps too short")
        return u[0]


class TensorRates:
    """σ and n of one trajectory's parameters on the modes (batch, field, *modes) of products of axes."""

    def __init__(self, problem, equations: Equations, num_nodes: int, inputs: dict, given: dict, device: Any):
        self.problem, self.equations, self.device = problem, equations, device
        names = coefficient_names(problem)
        self.c = {key: value for key, value in inputs.items() if key not in names}
        self.space = list(problem.output_space)
        self.axes = [[self._axis(name, field, num_nodes) for name in self.space] for field in equations.fields]
        nodes = [own.nodes for own in self.axes[0]]
        dims = len(self.space)
        self.at = {
            name: torch.as_tensor(own, device=device).reshape(-1, *[1] * (dims - 1 - dim))
            for dim, (name, own) in enumerate(zip(self.space, nodes, strict=True))
        }
        for key in names:
            values = torch.as_tensor(inputs[key], device=device)
            for dim, (own, points) in enumerate(zip(self.axes[0], given.values(), strict=True)):
                values = _times(own.given_at(points), values, dim, dims)
            self.at[key] = values
        self.shape = tuple(len(own) for own in nodes)
        self.parameters = {
            key: torch.as_tensor(value, dtype=torch.float64, device=device) for key, value in self.c.items()
        }
        self._split()

    def _axis(self, name: str, field: str, num_nodes: int) -> Along:
        axis = self.problem.output_space[name]
        if axis.is_periodic:
            return PeriodicAlong(axis, num_nodes)
        pairs = [conditions(self.problem, self.c, name, own) for own in self.equations.fields]
        is_even = all(feature.orders.get(name, 0) % 2 == 0 for feature in self.problem.features.values())
        is_mirror = all(own is not None and own.value == 0 and own.target == 0 for pair in pairs for own in pair)
        if is_mirror and is_even and name not in self.problem.coordinates and not coefficient_names(self.problem):
            return CosineAlong(axis, num_nodes)
        return WalledAlong(axis, num_nodes, conditions(self.problem, self.c, name, field))

    def _split(self) -> None:
        """σ, and the features that n needs none of, because σ holds them exactly."""
        known = self.equations.constant(self.parameters, torch.ones(1, 2, dtype=torch.float64, device=self.device))
        offered = self.equations.linearised(self.c)
        place, rates = self.equations.place, self.equations.rates
        self.has_constant_mass = all(own.get(n, 0.0) is not None for own in known for n in rates)
        count = len(self.equations.fields)
        self.mass = torch.zeros(count, count, dtype=torch.float64, device=self.device)
        weights, terms = [], []
        for i, (exact, own) in enumerate(zip(known, offered, strict=True)):
            both = {name: own.get(name) if value is None else value for name, value in exact.items()}
            both = {name: float(value) for name, value in both.items() if value is not None}
            heavy = {place[n]: both.get(n) for n in rates if exact.get(n, 0.0) is None or n in both}
            weights.append(heavy.get(i) if set(heavy) == {i} else None)
            terms.append({n: v for n, v in both.items() if n not in rates and place[n] == i})
            for n in rates:
                if self.has_constant_mass:
                    self.mass[i, place[n]] += both.get(n, 0.0)
        symbols = [torch.zeros(1, *self._modes(i), dtype=torch.float64, device=self.device) for i in range(count)]
        self.linear: list[dict[str, float]] = [{} for _ in range(count)]
        for i, own in enumerate(terms):
            for name, value in own.items():
                symbol = self._symbol(name, i)
                if weights[i] is not None and symbol is not None:
                    symbols[i] = symbols[i] + value / weights[i] * symbol
                    self.linear[i][name] = value / weights[i]
        self.symbol = torch.stack(symbols, dim=1)
        self.maps = {name: self._map(name) for name in self.equations.static}
        self.skip = frozenset(
            name
            for name, own in self.maps.items()
            if self.has_constant_mass
            and all(not bool((offset != 0).any()) for term in own for _, _, offset in term)
            and all(
                name not in exact or (exact[name] is not None and name in self.linear[i])
                for i, exact in enumerate(known)
            )
        )

    def _modes(self, i: int) -> tuple[int, ...]:
        return tuple(len(own.eigenvalues) for own in self.axes[i])

    def _symbol(self, name: str, i: int) -> Tensor | None:
        """(1, *modes) of a feature that is the field, a second derivative or a Laplacian; else None."""
        feature, total = self.problem.features[name], torch.zeros(1, dtype=torch.float64, device=self.device)
        if feature.laplacian not in (0, 1):
            return None
        for orders in expanded(feature, self.space):
            own = torch.ones(1, *self._modes(i), dtype=torch.float64, device=self.device)
            for axis, order in orders.items():
                if order != 2:
                    return None
                dim = self.space.index(axis)
                own = own * _column(self.axes[i][dim].eigenvalues, dim, len(self.space), own)
            total = total + own
        return total

    def _map(self, name: str) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
        """A feature as a sum of products of (axis, matrix, offset); only the first axis of a product has an offset."""
        feature = self.problem.features[name]
        if feature.laplacian < 0:
            raise ValueError(f"feature {name!r} is an inverse Laplacian; between walls no classical solver has it")
        products = []
        for orders in expanded(feature, self.space):
            product: list[tuple[int, np.ndarray, np.ndarray]] = []
            for axis, order in orders.items():
                dim = self.space.index(axis)
                matrix, offset = self.axes[self.equations.place[name]][dim].derivative(order)
                product.append((dim, matrix, offset if not product else 0 * offset))
            products.append(product)
        return products

    def per_field(self, values: Tensor, matrices: list[list[np.ndarray]]) -> Tensor:
        """(batch, field, *space): one matrix per field and axis applied along each axis."""
        parts = []
        for i, row in enumerate(matrices):
            part = values[:, i]
            for dim, matrix in enumerate(row):
                part = _times(matrix, part, dim, len(row))
            parts.append(part)
        return torch.stack(parts, dim=1)

    def to_nodes(self, modes: Tensor) -> Tensor:
        """Modes ↦ values at the nodes."""
        return self.per_field(modes, [[own.from_modes for own in row] for row in self.axes])

    def to_modes(self, values: Tensor) -> Tensor:
        """Values at the nodes ↦ modes."""
        return self.per_field(values, [[own.to_modes for own in row] for row in self.axes])

    def features(self, modes: Tensor) -> dict[str, Tensor]:
        """The features that n needs, at the nodes."""
        nodal, found = self.to_nodes(modes), {}
        for name, products in self.maps.items():
            if name in self.skip:
                continue
            values = nodal[:, self.equations.place[name]]
            total = None
            for product in products:
                part = values
                for dim, matrix, offset in product:
                    part = _times(matrix, part, dim, len(self.space))
                    part = part + _column(offset, dim, len(self.space), part)
                total = part if total is None else total + part
            found[name] = total
        return found

    def __call__(self, modes: Tensor, t: float = 0.0) -> Tensor:
        """n: modes ↦ modes."""
        fields = self.features(modes)
        parts = [own.expand(len(modes), *self.shape) for own in self._pointwise(fields, t)]
        return self.to_modes(torch.stack(parts, dim=1))

    def _pointwise(self, fields: dict[str, Tensor], t: float) -> list[Tensor]:
        zero, at = torch.zeros((), dtype=torch.float64, device=self.device), {**self.at, "t": t}
        still = {**fields, **dict.fromkeys((*self.skip, *self.equations.rates), zero)}
        if self.has_constant_mass:
            rest = [zero + own for own in self.equations.residuals(still, self.parameters, at)]
            whole = torch.broadcast_tensors(*rest)
            parts = list(
                torch.linalg.solve(self.mass, torch.stack(whole).flatten(1)).reshape(len(rest), *whole[0].shape)
            )
        else:
            parts = solved(*self.equations.partials(still, self.parameters, at, self.equations.rates), self.equations)
        for i, own in enumerate(self.linear):
            for name, value in own.items():
                if name in fields:
                    parts[i] = parts[i] - value * fields[name]
        return parts

    def fastest(self, modes: Tensor, t: float = 0.0) -> Tensor:
        """(batch,) λ = max over points and equations of Σ_j |∂n/∂f_j| · norm of the feature's map."""
        total = torch.zeros(len(modes), dtype=torch.float64, device=self.device)
        with torch.enable_grad():
            fields = {name: own.detach().requires_grad_() for name, own in self.features(modes).items()}
            for part in self._pointwise(fields, t):
                if part.requires_grad:
                    own = torch.autograd.grad(part.sum(), list(fields.values()), retain_graph=True, allow_unused=True)
                    pairs = zip(fields, own, strict=True)
                    row = sum(p.abs() * self._size(name) for name, p in pairs if p is not None)
                    total = torch.maximum(total, row.flatten(1).amax(dim=1).expand(len(modes)))
        return total

    def _size(self, name: str) -> float:
        """About the largest eigenvalue of a feature's map."""
        sizes = [[float(np.linalg.norm(matrix, 2)) for _, matrix, _ in product] for product in self.maps[name]]
        return sum(float(np.prod(own)) if own else 1.0 for own in sizes)


def _times(matrix: np.ndarray, values: Tensor, dim: int, dims: int) -> Tensor:
    """A matrix along axis ``dim`` of the last ``dims``."""
    own = torch.as_tensor(matrix, dtype=values.dtype, device=values.device)
    if dim == dims - 1:
        return values @ own.T
    if dim == dims - 2:
        return own @ values
    return (values.movedim(dim - dims, -1) @ own.T).movedim(-1, dim - dims)


def _column(values: np.ndarray, dim: int, dims: int, like: Tensor) -> Tensor:
    """(n,) broadcasting along axis ``dim`` of the last ``dims``."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).reshape(-1, *[1] * (dims - 1 - dim))
