"""A problem on products of spectral axes: σ diagonal on their modes, n point by point from products along the axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .equations import Equations, coefficient_names
from .semi_discrete import solved
from .spectral_axes import Along, CosineAlong, PeriodicAlong, WalledAlong
from .walled import conditions, expanded


class TensorRates:
    """σ and n of one trajectory's parameters on the modes (batch, field, *modes) of products of axes."""

    def __init__(self, problem, equations: Equations, num_nodes: int, inputs: dict, device: Any):
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
            given = problem.native_points(np.shape(inputs[key])).values()
            for dim, (own, points) in enumerate(zip(self.axes[0], given, strict=True)):
                values = along(own.given_at(points), values, dim, dims)
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
        nothing = torch.zeros(1, *self.shape, dtype=torch.float64, device=self.device)
        self.offsets = {name: self._mapped(nothing, own) for name, own in self.maps.items()}
        self.skip = frozenset(
            name
            for name in self.maps
            if self.has_constant_mass
            and not bool((self.offsets[name] != 0).any())
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
                own = own * column_along(self.axes[i][dim].eigenvalues, dim, len(self.space), own)
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
                part = along(matrix, part, dim, len(row))
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
        nodal = self.to_nodes(modes)
        return {
            name: self._mapped(nodal[:, self.equations.place[name]], products)
            for name, products in self.maps.items()
            if name not in self.skip
        }

    def _mapped(self, values: Tensor, products: list) -> Tensor:
        total = None
        for product in products:
            part = values
            for dim, matrix, offset in product:
                part = along(matrix, part, dim, len(self.space))
                part = part + column_along(offset, dim, len(self.space), part)
            total = part if total is None else total + part
        return total

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
                    parts[i] = parts[i] - value * (fields[name] - self.offsets[name])
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


def along(matrix: np.ndarray, values: Tensor, dim: int, dims: int) -> Tensor:
    """A matrix along axis ``dim`` of the last ``dims``."""
    own = torch.as_tensor(matrix, dtype=values.dtype, device=values.device)
    if dim == dims - 1:
        return values @ own.T
    if dim == dims - 2:
        return own @ values
    return (values.movedim(dim - dims, -1) @ own.T).movedim(-1, dim - dims)


def column_along(values: np.ndarray, dim: int, dims: int, like: Tensor) -> Tensor:
    """(n,) broadcasting along axis ``dim`` of the last ``dims``."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).reshape(-1, *[1] * (dims - 1 - dim))
