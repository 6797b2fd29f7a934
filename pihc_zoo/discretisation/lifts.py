"""Lifts u_L: fields that meet the conditions and are cheap to find; experts correct them.

``linearised`` solves the linearised problem, ``integrated`` the Galerkin truncation of the problem
itself to few modes, ``constant`` continues the initial values.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..grid import FourierAxis
from ..grid.stencils import stencil_matrix
from ..parameters import Parameters, column
from ..solvers.dense import combination, from_left
from ..solvers.runge_kutta import integrating_factor_step
from .discretisation import Discretisation
from .field import Field, Walls
from .interleaved import InterleavedSemiDiscrete
from .linear import LinearInverse, LinearOperator
from .terms import linear_terms

_DEPTH = 3  # sweeps that are mixed
_STENCIL = 9  # steps that a time node is read from: polynomials through many more amplify rounding


class Lift(nn.Module):
    """Base of all lifts.

    Args:
        discretisation: of the grid.
        linearised: A of the problem on it; None where the lift takes none.
    """

    settings: ClassVar[tuple[str, ...]] = ()  # further arguments
    has_rate: ClassVar[bool] = False  # whether its fields bring their time derivatives

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator | None = None):
        super().__init__()
        self.discretisation, self.linearised = discretisation, linearised

    def inverse(self, c: Parameters, batch: int) -> LinearInverse | None:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)); None without A."""
        return None if self.linearised is None else self.linearised.inverse(c, batch)

    def forward(
        self, u0: Tensor, c: Parameters, walls: Walls, inverse: LinearInverse | None, start: float = 0.0
    ) -> Field:
        """The lift of initial values at the nodes (batch, *space), with all that is known of it.

        Args:
            c: parameters, tensors of shape () or (batch,); ``walls`` and ``inverse`` for them.
            start: time at which the grid's begins.
        """
        raise NotImplementedError

    def correction(self, residual: Tensor, inverse: LinearInverse | None) -> Tensor:
        """−A⁻¹ρ: to first order, what a field with residual ρ lacks; (batch, time, *space)."""
        if inverse is None:
            return -residual  # without a linearised operator the residual itself is the best hint
        scale = self.linearised.row_scale.reshape(-1, *[1] * (residual.dim() - 2))
        return -inverse.apply((residual * scale)[:, None])[:, 0]


class LinearisedLift(Lift):
    """u_L = A⁻¹(conditions): the solution of the linearised problem A u = 0; then ``sweeps`` of u ← u + z(u).

    z(u) = −A⁻¹ρ(u). Picard's iteration converges where A resembles the equation; sweeps are mixed with the two before
    them so that a combination of their z is least, which converges faster, and where Picard's does not.

    Args:
        discretisation, linearised: on the surrogate's grid.
        sweeps: how many.

    Source: D. G. Anderson, "Iterative procedures for nonlinear integral equations" (1965), doi:10.1145/321296.321305.
    """

    settings = ("sweeps",)

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator | None = None, sweeps: int = 0):
        super().__init__(discretisation, linearised)
        if not 0 <= sweeps <= 64:
            raise ValueError(f"the linearised lift takes 0 to 64 sweeps, got {sweeps}")
        self.sweeps = sweeps

    def forward(self, u0, c, walls, inverse, start=0.0):
        own = self.discretisation
        shape, names = (own.grid.shape[0], *u0.shape[1:]), list(own.problem.features)
        zero = torch.zeros(u0.shape[0], *shape, dtype=u0.dtype, device=u0.device)
        features = own(Field(zero, walls, u0))  # of the conditions alone
        equations = [
            sum(column(value, len(shape), u0) * features[:, names.index(name)] for name, value in terms.items())
            for terms in linear_terms(own.problem, c)
        ]
        field = Field(self.correction(own.project(own.joined(equations)), inverse), walls, u0)
        before: list[tuple[Tensor, Tensor]] = []
        for _ in range(self.sweeps):
            z = self.correction(own.residual(field, c, start), inverse)
            following = field.u + z if not before else _mixed(field.u, z, before)
            before = [*before[1 - _DEPTH :], (field.u, z)]
            field = Field(following, walls, u0)
        return field


def _mixed(u: Tensor, z: Tensor, before: list[tuple[Tensor, Tensor]]) -> Tensor:
    """u + z less the combination of earlier differences that z has in common with them."""
    du = torch.stack([u - own for own, _ in before], dim=1).flatten(2)
    dz = torch.stack([z - own for _, own in before], dim=1).flatten(2)  # (batch, sweep, values)
    weights = combination(dz, z, ridge=1e-10 * len(before))
    return u + z - ((du + dz) * weights).sum(dim=1).view_as(u)


class ConstantLift(Lift):
    """u_L(x, t) = u₀(x)."""

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator | None = None):
        super().__init__(discretisation)

    def forward(self, u0, c, walls, inverse, start=0.0):
        return Field(u0[:, None].expand(-1, self.discretisation.grid.shape[0], *u0.shape[1:]), walls, u0)


class SteppingLift(Lift):
    """Base of lifts that go by equal ``steps`` over the time axis.

    Values and rates at its nodes are polynomials through those of the nearest nine steps.

    Args:
        discretisation, linearised: on the surrogate's grid.
        steps: how many.

    Raises:
        ValueError: a number of steps that makes no sense.
    """

    has_rate = True

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator, steps: int):
        super().__init__(discretisation, linearised)
        if not 2 <= steps <= 10_000:
            raise ValueError(f"a lift by steps takes at least 2 steps and at most 10000, got {steps}")
        time = discretisation.grid.time
        self.steps, self.step = steps, time.stop / steps
        to_nodes = stencil_matrix(self.step * np.arange(steps + 1), time.nodes, 0, _STENCIL)
        self.register_buffer("to_nodes", torch.as_tensor(to_nodes), persistent=False)  # (time, step + 1)


class IntegratedLift(SteppingLift):
    """The problem truncated to the modes up to ``band``, by Runge–Kutta 4; higher modes only diffuse.

    Periodic axes only.

    Args:
        discretisation, linearised: on the surrogate's grid.
        band: highest wave number of the truncated problem, in cycles per length.
        steps: Runge–Kutta steps.
        dealiasing: as `FourierAxis`, of the truncated problem's products.
    """

    settings = ("band", "steps", "dealiasing")

    def __init__(
        self,
        discretisation: Discretisation,
        linearised: LinearOperator,
        band: int = 15,
        steps: int = 8,
        dealiasing: float = 1.0,
    ):
        super().__init__(discretisation, linearised, steps)
        grid, problem = discretisation.grid, discretisation.problem
        for name, axis in grid.space.items():
            if not axis.is_periodic:
                raise ValueError(f"the integrated lift needs periodic axes; {name!r} is bounded")
            if not 1 <= band <= axis.band:
                raise ValueError(f"the lift's band must lie in [1, {axis.band}], the band of axis {name!r}, got {band}")
        space = {
            name: FourierAxis(2 * band + 2, axis.length, axis.start, dealiasing) for name, axis in grid.space.items()
        }
        self.semi_discrete = InterleavedSemiDiscrete(problem, space)
        self.register_buffer("nodes", torch.as_tensor(grid.time.nodes.copy()), persistent=False)
        resolved = torch.ones(())
        for name, axis in grid.space.items():
            k = np.concatenate([[0], np.arange(1, axis.band + 1), np.arange(1, axis.band + 1)])
            self.register_buffer(f"low_{name}", torch.as_tensor(np.flatnonzero(k <= band)), persistent=False)
            resolved = resolved[..., None] * torch.as_tensor((k <= band).astype(float))
        self.register_buffer("unresolved", 1 - resolved, persistent=False)  # (*modes)

    def _low(self, modes: Tensor) -> Tensor:
        for i, name in enumerate(self.semi_discrete.features.names):
            modes = modes.index_select(i - len(self.semi_discrete.features.names), getattr(self, f"low_{name}"))
        return modes

    def _spread(self, low: Tensor, like: Tensor) -> Tensor:
        """Modes of the truncated problem (..., *low) among those of the grid (..., *modes)."""
        for dim in range(-like.dim() + 1, 0):
            count, missing = low.shape[dim] // 2, (like.shape[dim] - low.shape[dim]) // 2
            cosines, sines = low.narrow(dim, 0, count + 1), low.narrow(dim, count + 1, count)
            shape = [*low.shape]
            shape[dim] = missing
            zeros = low.new_zeros(shape)
            low = torch.cat([cosines, zeros, sines, zeros], dim=dim)
        return low

    def forward(self, u0, c, walls, inverse, start=0.0):
        space = self.discretisation.space
        modes = space.to_coefficients(u0)
        low, own = self._low(modes), self.semi_discrete
        symbol, nonlinear = own.symbol(c), own.with_parameters(c)
        half = torch.exp(-symbol * (self.step / 2))
        values, tendencies = [own.features.interleaved(low).contiguous()], []
        for _ in range(self.steps):
            tendencies.append(nonlinear(values[-1]))
            values.append(integrating_factor_step(values[-1], nonlinear, half, self.step, tendencies[-1]))
        tendencies.append(nonlinear(values[-1]))
        states = torch.stack(values)  # (step, mode_0, batch, …)
        both = torch.stack([states, torch.addcmul(torch.stack(tendencies), symbol, states).neg()])
        at_nodes = from_left(self.to_nodes, both.flatten(2)).unflatten(2, states.shape[1:])
        at_nodes = at_nodes.movedim(2 if low.dim() == 2 else 3, 0)  # (batch, 2, time, *low)
        rate, linear = self.linearised.symbol(c)
        decay = (linear / rate)[:, None]
        high = (modes * self.unresolved)[:, None] * torch.exp(-decay * self.nodes.reshape(-1, *[1] * (u0.dim() - 1)))
        both = self._spread(at_nodes, modes) + torch.stack([high, -decay * high], dim=1)
        u, rate = space.to_nodes(both).unbind(1)
        return Field(u, walls, u0, rate, tuple(both.unbind(1)))
