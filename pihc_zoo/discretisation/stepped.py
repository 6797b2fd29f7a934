"""The lift by steps in time: the whole equation on the surrogate's own nodes, its linear part exactly.

    u_t = −G u − n(u),    u ↦ e^(−G h) u over a step where n = 0

G = M⁻¹S of the linear operator A in its modes, a small matrix exponential per group of them; the rest by Runge–Kutta 4
with that as integrating factor. Any terms, axes and systems that A holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..parameters import Parameters
from .constants import kept
from .discretisation import Discretisation
from .field import Field
from .lifts import ConstantLift, IntegratedLift, Lift, LinearisedLift, SteppingLift
from .linear import LinearOperator
from .modal import ModalOperator
from .tendencies import DenseTendency

_TERMS = 14  # of the series at a norm of at most ½: .5^15 / 15! is 2e-17
_SQUARINGS = 40


def exponential(matrices: Tensor) -> Tensor:
    """e^matrices (..., n, n), in an export by products alone: a series of matrices/2^s, squared s times.

    Source: C. Moler, C. Van Loan, "Nineteen dubious ways to compute the exponential of a matrix" (2003), method 3,
    doi:10.1137/S00361445024180.
    """
    if not torch.compiler.is_exporting():
        return torch.linalg.matrix_exp(matrices)
    return by_products(matrices)


def by_products(matrices: Tensor) -> Tensor:
    """`exponential` where there are products only; infinity norms up to 5e11."""
    norm = matrices.abs().sum(dim=-1, keepdim=True).amax(dim=-2, keepdim=True)
    squarings = torch.log2(norm.clamp(min=0.5)).ceil() + 1
    scaled = matrices * torch.exp2(-squarings)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    result = identity + scaled / _TERMS
    for k in range(_TERMS - 1, 0, -1):
        result = identity + scaled @ result / k
    for k in range(_SQUARINGS):
        result = torch.where(k < squarings, result @ result, result)
    return result


class SteppedLift(SteppingLift):
    """Runge–Kutta 4 on all modes of the grid.

    Raises:
        ValueError: an A that does not separate by axis.
    """

    settings = ("steps",)

    def __init__(self, discretisation: Discretisation, linearised: LinearOperator, steps: int = 16):
        super().__init__(discretisation, linearised, steps)
        self.modal = (
            linearised
            if isinstance(linearised, ModalOperator)
            else ModalOperator(discretisation.problem, discretisation)
        )
        self.dense = DenseTendency.of(discretisation, self.modal)
        self._propagators: dict = {}

    def _propagator(self, c: Parameters) -> tuple[Tensor, Tensor]:
        """G and e^(−G h/2), (batch or 1, group, component, component); those of fixed parameters are kept."""

        def made() -> tuple[Tensor, Tensor]:
            generator = self.modal.generator(c)
            return generator, exponential(-generator * (self.step / 2))

        like = self.modal.time_blocks
        return made() if c.fixed is None else kept(self._propagators, (c.fixed, like.device, like.dtype), made)

    def forward(self, u0, c, walls, inverse, start=0.0):
        own, modal, step = self.discretisation, self.modal, self.step
        generator, half = self._propagator(c)
        broadcast, at = c.against(own.num_inner), {name: part[:, 0] for name, part in own.at(c).items()}

        def tendency(state: Tensor, t: float) -> tuple[Tensor, Tensor]:
            """u_t, and its part beyond the linear one."""
            if self.dense is None:
                rate = modal.state(own.tendency(modal.values(state, u0), walls, broadcast, at | {"t": t}))
            else:
                rate = self.dense(state, broadcast, at | {"t": t})
            return rate, rate + generator @ state

        state = modal.state(u0)
        states, rates = [state], []
        for k in range(self.steps):
            t = start + k * step
            rate, k1 = tendency(state, t)
            rates.append(rate)
            half_state = half @ state
            k2 = tendency(half_state + (step / 2) * (half @ k1), t + step / 2)[1]
            k3 = tendency(half_state + (step / 2) * k2, t + step / 2)[1]
            whole, half_k3 = half @ half_state, half @ k3
            k4 = tendency(whole + step * half_k3, t + step)[1]
            state = whole + (step / 6) * (half @ (half @ k1 + 2 * k2) + 2 * half_k3 + k4)
            states.append(state)
        rates.append(tendency(state, start + self.steps * step)[0])
        both = torch.stack([torch.stack(part, dim=1) for part in (states, rates)], dim=1)  # (batch, 2, step, …)
        at_nodes = (self.to_nodes @ both.flatten(3)).unflatten(3, both.shape[3:])
        batch, times = u0.shape[0], len(self.to_nodes)
        like = u0.new_empty(batch * 2 * times, *u0.shape[1:])
        u, rate = modal.values(at_nodes.flatten(0, 2), like).unflatten(0, (batch, 2, times)).unbind(1)
        return Field(u, walls, u0, rate)


LIFTS: dict[str, type[Lift]] = {
    "linearised": LinearisedLift,
    "constant": ConstantLift,
    "integrated": IntegratedLift,
    "stepped": SteppedLift,
}
