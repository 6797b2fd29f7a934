"""A problem of first order in time as an ordinary differential equation for the modes of periodic axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..grid import FourierAxis
from ..parameters import Parameters, column
from ..problems.base import Problem
from ..solvers.dual import Dual
from ..solvers.recorded import recorded
from .space import SpaceFeatures


class SemiDiscrete(nn.Module):
    """u_t = −(σ u + n(u)) on the modes of periodic axes: the linear part by its symbol, the rest pointwise.

    Args:
        problem: of first order in time, residual ρ affine in u_t with the constant coefficient a_t.
        space: periodic axes by name.
    """

    def __init__(self, problem: Problem, space: dict[str, FourierAxis]):
        super().__init__()
        others = (*problem.coordinates, *problem.coefficients)
        if others:
            raise ValueError(
                f"the integrated lift takes no {', '.join(others)} in the residual; choose the ansatz 'stepped'"
            )
        self.problem, self.features = problem, SpaceFeatures(problem, space)
        self.rates = [name for name, feature in problem.features.items() if "t" in feature.orders]
        self.linear = [name for name in problem.linearised(problem.as_tensors({})) if name not in self.rates]
        # where ρ holds a linear term exactly, both drop it and its feature need not be formed
        self.skip = frozenset(name for name in self.linear if self._is_exact(name))

    def _is_exact(self, name: str) -> bool:
        """Whether ∂ρ/∂f of a feature f holds no field, by its shape: then the coefficient of f is a number."""
        partial = self._partial(name, self.problem.as_tensors({}))
        return not isinstance(partial, Tensor) or partial.shape[-1] == 1

    def _partial(self, name: str, c: Parameters) -> Any:
        """∂ρ/∂f of a feature, (batch or 1, 1) where it holds no field."""
        fields = dict.fromkeys(self.problem.features, self.features.squares.new_ones(1, 2))
        duals = {key: Dual(value, {0: 1.0} if key == name else None) for key, value in fields.items()}
        own = {key: Dual(value) for key, value in c.against(1).items()}
        return self.problem.residual(duals, own, {}).partials.get(0, 0.0)

    def symbol(self, c: Parameters) -> Tensor:
        """(batch or 1, *modes) σ / a_t."""
        num_dims, like = len(self.features.names), self.features.squares
        coefficients = self.problem.linearised(c)
        coefficients |= {name: self._partial(name, c) for name in self.skip}
        symbol = sum(column(coefficients[name], num_dims, like) * self.features.symbol(name) for name in self.linear)
        return symbol / column(coefficients[self.rates[0]], num_dims, like)

    def with_parameters(self, c: Parameters) -> Callable[[Tensor], Tensor]:
        """`nonlinear` for parameters that stay the same, their shapes and coefficients made once."""
        if len(self.skip) + len(self.rates) == len(self.problem.features):  # a linear problem
            return torch.zeros_like
        own = self.against(c)
        coefficients = self.problem.linearised(own)
        rate = coefficients[self.rates[0]]
        is_one = not isinstance(rate, Tensor) and rate == 1
        remaining = [name for name in self.linear if name not in self.skip]

        def formula(fields: dict, c: dict) -> Any:
            residual = self.problem.residual(fields, c, {})
            for name in remaining:
                residual = residual - coefficients[name] * fields[name]
            return residual if is_one else residual / rate

        pointwise = recorded(formula, self.problem.features, (*self.rates, *self.skip), own)
        flux = None if pointwise.monomial is None else self.flux(*pointwise.monomial)
        if flux is not None:
            return flux
        pointwise = pointwise.evaluate
        features, project = self.features.forward, self.features.project  # calling a module costs as much as they do

        def nonlinear(modes: Tensor) -> Tensor:
            fields = features(modes, skip=self.skip)
            values = pointwise(fields)
            if not isinstance(values, Tensor):  # nothing is left of it
                return torch.zeros_like(modes)
            shape = next(iter(fields.values())).shape if fields else self.features.point_shape(modes)
            return project(values if values.shape == shape else values.expand(shape))

        return nonlinear

    def flux(self, factor: Any, names: tuple[str, ...]) -> Callable[[Tensor], Tensor] | None:
        """`nonlinear` of a product, ``factor`` times the features ``names``, where a shorter way is known."""
        return None

    def against(self, c: Parameters) -> dict[str, Tensor]:
        """The parameters, broadcasting against fields at collocation points."""
        return c.against(len(self.features.names))

    def nonlinear(self, modes: Tensor, c: Parameters) -> Tensor:
        """(batch, *modes) ↦ n(u) = (ρ(u; u_t = 0) − linear part) / a_t on the same modes."""
        return self.with_parameters(c)(modes)

    def rate(self, modes: Tensor, c: Parameters) -> Tensor:
        """(batch, *modes) u_t of a field."""
        return -(self.symbol(c) * modes + self.nonlinear(modes, c))
