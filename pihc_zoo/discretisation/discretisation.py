"""A problem on a grid: u ↦ its linear features (u, u_t, u_xx, …) at collocation points, time and space together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..grid import Grid
from ..parameters import Parameters
from ..problems.base import Problem
from ..solvers.dense import from_left
from ..solvers.dual import Dual
from .coefficients import CoefficientFields
from .field import Field, Walls
from .space import Projection, SpaceFeatures


class Discretisation(nn.Module):
    """Features of fields on a grid.

    Args:
        problem: names the features and the wall conditions.
        grid: where fields live.

    Raises:
        ValueError: features that the grid does not have, see `SpaceFeatures`, or a time derivative that is not u_t.
    """

    def __init__(self, problem: Problem, grid: Grid):
        super().__init__()
        self.problem, self.grid = problem, grid
        self.space = SpaceFeatures(problem, grid.space)
        self.num_inner = len(grid.space) + problem.is_system  # dimensions of a field after time
        for name, feature in problem.features.items():
            if "t" in feature.orders and (feature.orders != {"t": 1} or feature.laplacian):
                raise ValueError(f"feature {name!r}: the time derivative is of first order, of the field itself")
        self.is_rate = tuple("t" in feature.orders for feature in problem.features.values())
        for i, (name, axis) in enumerate(grid.axes.items()):
            if name in problem.coordinates:
                shape = [1] * (2 + self.num_inner)
                place = 1 if name == "t" else i - len(grid.axes)
                shape[place] = len(axis.collocation_points)
                points = torch.as_tensor(axis.collocation_points.copy()).reshape(shape)
                self.register_buffer(f"at_{name}", points, persistent=False)
        self.coefficients = CoefficientFields(problem, grid)
        self.register_buffer("rate_matrix", torch.as_tensor(grid.time.differentiation(1)), persistent=False)
        self.projection = None if grid.collocation_shape == grid.shape else Projection(self.space)

    @property
    def storage_rate(self) -> Tensor | None:
        """(time, time) D_t of what vanishes initially, for problems with a storage."""
        return self.rate_matrix[:, 1:] if self.problem.is_conservative else None

    def time_elements(self) -> tuple[Tensor, Tensor]:
        """(element, stage, stage) D_t inside each element, and (element, stage) of the state before it; first none."""
        rates, count = self.rate_matrix, self.grid.time.block_size
        starts = range(0, len(rates), count)
        blocks = torch.stack([rates[k : k + count, k + 1 : k + 1 + count] for k in starts])
        inflow = torch.stack([rates[k : k + count, k] for k in starts])
        inflow[0] = 0.0
        return blocks, inflow

    def walls(self, c: Parameters) -> Walls:
        """Wall elimination for the parameters ``c``, tensors of shape () or (batch,), at the times of the grid."""
        return self.space.walls(c, self.coefficients.series(c))

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ their resolved part at nodes (..., *space)."""
        return values if self.projection is None else self.projection.apply(values)

    def at(self, c: Parameters, start: float = 0.0) -> dict[str, Tensor]:
        """What the residual depends on at collocation points: coordinates, and the coefficient fields of ``c``.

        Args:
            c: whose coefficient fields.
            start: time at which the grid's begins.

        Returns:
            (batch or 1, time, *collocation) or broadcasting so.
        """
        at = {name: getattr(self, f"at_{name}") for name in self.problem.coordinates}
        if "t" in at:
            at["t"] = at["t"] + start
        return at | self.coefficients(c)

    def closed(self, field: Field) -> Tensor:
        """(batch, *columns, closed time, *closed space) values with those at the start and at the walls."""
        return self.space.close(self.started(field.u, field.initial), field.walls)

    def started(self, u: Tensor, initial: Tensor | None) -> Tensor:
        """Puts initial values (..., *space), zero when None, before the first time of u (..., time, *space)."""
        dim = -1 - self.num_inner
        if initial is None:
            initial = torch.zeros_like(u.select(dim, 0))
        return torch.cat([initial.unsqueeze(dim), u], dim=dim)

    def rate(self, u: Tensor, initial: Tensor | None = None) -> Tensor:
        """(..., time, *space) time derivative at the nodes of u, which starts from ``initial``, zero when None."""
        matrix, num_inner = self.rate_matrix, self.num_inner
        if initial is None:
            matrix = matrix[:, 1:]
        else:
            u = self.started(u, initial)
        return from_left(matrix, u.flatten(-num_inner)).unflatten(-1, u.shape[-num_inner:])

    def forward(self, field: Field, has_rates: bool = True, stride: int = 1) -> Tensor:
        """Features (batch, *columns, feature, time, *collocation), in the order of ``problem.features``.

        Args:
            field: on the grid.
            has_rates: whether time derivatives are asked for; where a storage takes their place they are left zero.
            stride: at every so many collocation points along each space axis.
        """
        if field.coefficients is None:
            modes = self.space.to_coefficients(field.u)
            rates = self._rates(field, modes) if has_rates else None
        else:
            modes, rates = field.coefficients
        fields = self.space(modes, field.walls, stride=stride)
        if any(self.is_rate):
            some = next(iter(fields.values())) if fields else None
            own = self.space.at_collocation(rates, stride=stride) if has_rates else torch.zeros_like(some)
            fields |= self.rates_by_name(own)
        return torch.stack([fields[name] for name in self.problem.features], dim=-2 - self.num_inner)

    def residual(self, field: Field, c: Parameters, start: float = 0.0) -> Tensor:
        """(batch, time, [field], *space) ρ of a field, its resolved part, time derivatives by the features."""
        features, problem = self(field), self.problem
        named = {name: features[:, i] for i, name in enumerate(problem.features)}
        rho = problem.residual(named, c.against(1 + self.num_inner), self.at(c, start))
        return self.project(self.joined(problem.by_equation(rho)))

    def joined(self, parts: list[Tensor]) -> Tensor:
        """The parts of a system's fields or equations (..., 1, *space) one beside the other; a single one as it is."""
        return torch.cat(parts, dim=self.space.component_dim) if len(parts) > 1 else parts[0]

    def tendency(self, u: Tensor, walls: Walls, c: dict[str, Tensor], at: dict[str, Any]) -> Tensor:
        """u_t of a state (batch, [field], *space) at the nodes, as the equation has it; resolved part.

        Args:
            u: at the nodes, with its walls.
            c: parameters, broadcasting against it at collocation points.
            at: what else the residual depends on, likewise; time may be a number.
        """
        problem = self.problem
        fields = {name: Dual(own) for name, own in self.space(self.space.to_coefficients(u), walls).items()}
        some = next(iter(fields.values())).value
        rates = [name for name, is_rate in zip(problem.features, self.is_rate, strict=True) if is_rate]
        fields |= {name: Dual(torch.zeros_like(some), {i: 1.0}) for i, name in enumerate(rates)}
        duals = problem.residual(
            fields, {key: Dual(own) for key, own in c.items()}, {key: Dual(own) for key, own in at.items()}
        )
        components = list(problem.fields)
        own = []
        for i, equation in enumerate(problem.by_equation(duals)):
            by_field = {problem.features[rates[j]].field: partial for j, partial in equation.partials.items()}
            if set(by_field) != {components[i]}:
                raise ValueError(
                    f"equation {i + 1} holds time derivatives of {', '.join(by_field) or 'no field'}; a step in time "
                    f"takes that of {components[i]} alone"
                )
            own.append((-equation.value / by_field[components[i]]).expand_as(some))
        return self.project(self.joined(own))

    def rates_by_name(self, rates: Tensor) -> dict[str, Tensor]:
        """The time derivatives among the features, of rates (..., *collocation) of all components."""
        names = [name for name, flag in zip(self.problem.features, self.is_rate, strict=True) if flag]
        if not self.problem.is_system:
            return dict.fromkeys(names, rates)
        components, dim = list(self.problem.fields), self.space.component_dim
        return {name: rates.narrow(dim, components.index(self.problem.features[name].field), 1) for name in names}

    def _rates(self, field: Field, modes: Tensor) -> Tensor:
        """Coefficients of u_t."""
        if field.rate is not None:
            return self.space.to_coefficients(field.rate)
        return self.rate(modes, None if field.initial is None else self.space.to_coefficients(field.initial))
