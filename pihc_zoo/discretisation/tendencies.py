"""u_t of states of a modal operator on periodic axes: two matrices, and the equation at the points between them.

A state's features at all collocation points are one product with a matrix, and so are the modes of what is found there:
of few enough modes that is an order of magnitude fewer operations than axis by axis.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..problems.base import Problem
from ..solvers.dual import Dual
from .discretisation import Discretisation
from .modal import ModalOperator

_MOST = 600  # components times nodes, up to which matrices are made


class DenseTendency(nn.Module):
    """(batch, group, component, 1) state ↦ its rate, see above.

    Args:
        discretisation: of periodic axes.
        modal: whose states are taken.
    """

    def __init__(self, discretisation: Discretisation, modal: ModalOperator):
        super().__init__()
        self.discretisation, self.problem = discretisation, discretisation.problem
        features, space = self.problem.features, discretisation.space
        self.rates = [name for name, feature in features.items() if "t" in feature.orders]
        self.names = [name for name in features if name not in self.rates]
        nodes = [len(self.problem.fields)] * self.problem.is_system + list(discretisation.grid.shape[1:])
        self.points = tuple(discretisation.grid.collocation_shape[1:])
        like = torch.zeros(1, *nodes, dtype=torch.float64)
        self.shape = modal.state(like).shape[1:]
        size = self.shape.numel()
        states = torch.eye(size, dtype=torch.float64).reshape(size, *self.shape)
        found = space(space.to_coefficients(modal.values(states, like.expand(size, *nodes))))
        self.register_buffer(
            "to_features", torch.stack([found[name] for name in self.names], dim=1).flatten(1), persistent=False
        )
        components = [len(self.problem.fields)] * self.problem.is_system
        count = prod([*components, *self.points])
        values = torch.eye(count, dtype=torch.float64).reshape(count, *components, *self.points)
        self.register_buffer("to_state", modal.state(discretisation.project(values)).flatten(1), persistent=False)

    @staticmethod
    def of(discretisation: Discretisation, modal: ModalOperator) -> DenseTendency | None:
        """That of a discretisation; None where matrices would be large, or time derivatives have factors that vary."""
        is_small = modal.num_components * prod(discretisation.grid.shape[1:]) <= _MOST
        if discretisation.space.is_spectral and is_small and _has_plain_rates(discretisation.problem):
            return DenseTendency(discretisation, modal)
        return None

    def forward(self, state: Tensor, c: dict[str, Tensor], at: dict[str, Any]) -> Tensor:
        """The rate of a state under parameters and coordinates that broadcast against collocation points."""
        values = state.flatten(1) @ self.to_features
        inner = [1] * self.problem.is_system + list(self.points)
        own = values.reshape(state.shape[0], len(self.names), *inner).unbind(1)
        absent = dict.fromkeys(self.rates, values.new_zeros(()))
        residual = self.problem.residual({**dict(zip(self.names, own, strict=True)), **absent}, c, at)
        equations = [part.expand(own[0].shape).flatten(1) for part in self.problem.by_equation(residual)]
        points = torch.cat(equations, dim=1)
        return (points @ self.to_state).neg().reshape(state.shape)


def _has_plain_rates(problem: Problem) -> bool:
    """Whether each equation holds its own field's time derivative, with the factor 1."""
    c = {key: Dual(value.reshape(1, 1)) for key, value in problem.as_tensors({}).items()}
    one = torch.ones(1, 1, dtype=torch.float64)
    at = {name: Dual(one) for name in (*problem.coordinates, *problem.coefficients, *problem.coefficient_features)}
    fields = list(problem.fields)
    duals = {
        name: Dual(one, {fields.index(feature.field): 1.0} if "t" in feature.orders else None)
        for name, feature in problem.features.items()
    }
    equations = problem.by_equation(problem.residual(duals, c, at))
    return all(isinstance(own, Dual) and _is_one(own.partials, i) for i, own in enumerate(equations))


def _is_one(partials: dict[int, Any], index: int) -> bool:
    return set(partials) == {index} and isinstance(partials[index], float) and partials[index] == 1.0
