"""The ansatz  u = u_L(φ) + Σⱼ wⱼ zⱼ(φ) + Σᵢ wᵢ m bᵢ(φ):  lift u_L, its corrections z₁ = −A⁻¹ρ(u_L), …,
mollifier m, network basis b.

The lift meets the initial and wall conditions; corrections meet them with zero targets, because
every stencil closes them so, and the mollifier makes them small where conditions are imposed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .operators.derivatives import FeatureOperator
from .operators.linearised import LinearisedOperator


class LinearisedLift(nn.Module):
    """u_L = A⁻¹(conditions): the solution of the linearised problem A u = 0."""

    def __init__(self, operator: FeatureOperator, linearised: LinearisedOperator):
        super().__init__()
        self.linearised = linearised

    def forward(self, u0: Tensor, c: dict[str, Tensor], operator: FeatureOperator, closures) -> Tensor:
        """(batch, *space) initial values at the nodes ↦ (batch, time, *space)."""
        grid, problem = operator.grid, operator.problem
        zero = torch.zeros(u0.shape[0], 1, *grid.shape, dtype=u0.dtype, device=u0.device)
        features = operator(zero, closures, u0[:, None])  # of the conditions alone
        names = list(problem.features)
        coefficients = problem.linearised(c)
        residual = sum(
            value.reshape(-1, *[1] * len(grid.shape)) * features[:, 0, names.index(name)]
            for name, value in coefficients.items()
        )
        return self.correction(residual, c)

    def correction(self, residual: Tensor, c: dict[str, Tensor]) -> Tensor:
        """−A⁻¹ρ: to first order, what a field with residual ρ lacks; (batch, time, *space)."""
        scale = self.linearised.row_scale.reshape(-1, *[1] * (residual.dim() - 2))
        return -self.linearised.inverse(c, residual.shape[0]).apply((residual * scale)[:, None])[:, 0]


class ConstantLift(nn.Module):
    """u_L(x, t) = u₀(x)."""

    def __init__(self, operator: FeatureOperator, linearised: LinearisedOperator | None = None):
        super().__init__()

    def forward(self, u0: Tensor, c: dict[str, Tensor], operator: FeatureOperator, closures) -> Tensor:
        """(batch, *space) ↦ (batch, time, *space)."""
        return u0[:, None].expand(-1, operator.grid.shape[0], *u0.shape[1:])

    def correction(self, residual: Tensor, c: dict[str, Tensor]) -> Tensor:
        """Without a linearised operator the residual itself is the best hint."""
        return -residual


LIFTS: dict[str, type[nn.Module]] = {"linearised": LinearisedLift, "constant": ConstantLift}


class Ansatz(nn.Module):
    """Lift, mollifier and the network's input channels.

    Args:
        operator: features on the grid.
        lift: of `LIFTS`.
        parameter_inputs: parameters that the network takes as input channels.
        initial_scale: typical size of u₀, divides its channel.
        basis_scale: size of a basis function at an O(1) network output.
        ramp: width in the time coordinate over which corrections grow from zero.
        layer: width of a wall's mollifier in diffusion lengths; ``layer_floor`` is added, in the
            axis' unit.
        correction_scale: typical size of the lift's first-order correction −A⁻¹ρ(u_L), divides its
            channel.
        num_corrections: how many corrections of the lift join the basis, as its first functions: the
            first-order correction, then further Krylov directions of the linearised problem.
    """

    def __init__(
        self,
        operator: FeatureOperator,
        lift: nn.Module,
        parameter_inputs: tuple[str, ...] = (),
        initial_scale: float = 0.2,
        basis_scale: float = 0.05,
        ramp: float = 0.02,
        layer: float = 1.14,
        layer_floor: float = 0.01,
        correction_scale: float = 0.005,
        num_corrections: int = 0,
    ):
        super().__init__()
        self.problem, self.grid = operator.problem, operator.grid
        self.lift = lift
        self.parameter_inputs = tuple(parameter_inputs)
        self.num_corrections = num_corrections
        for name, value in {
            "initial_scale": initial_scale,
            "basis_scale": basis_scale,
            "ramp": ramp,
            "layer": layer,
            "layer_floor": layer_floor,
            "correction_scale": correction_scale,
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64), persistent=False)
        num_space = len(self.grid.space)
        self.register_buffer("t", torch.as_tensor(self.grid.time.nodes).reshape(-1, *[1] * num_space), persistent=False)
        coordinates = [
            torch.as_tensor(axis.coordinates.copy())
            .reshape(*[1] * i, -1, *[1] * (num_space - i))
            .expand(self.grid.shape)
            for i, axis in enumerate(self.grid.axes.values())
        ]
        self.register_buffer("coordinates", torch.stack(coordinates), persistent=False)
        distances = []
        for i, axis in enumerate(self.grid.space.values()):
            if axis.num_before:
                for wall in (axis.closed_nodes[0], axis.closed_nodes[-1]):
                    distance = torch.as_tensor(abs(axis.nodes - wall)).reshape(
                        *[1] * (i + 1), -1, *[1] * (num_space - i - 1)
                    )
                    distances.append(distance.expand(self.grid.shape))
        self.num_walls = len(distances)
        if distances:
            self.register_buffer("distances", torch.stack(distances), persistent=False)

    @property
    def num_inputs(self) -> int:
        """Number of network input channels."""
        zero = torch.zeros(self.grid.shape, dtype=torch.float64, device=self.t.device)
        defaults = {key: value.to(self.t.device) for key, value in self.problem.as_tensors({}).items()}
        extra = len(self.problem.network_inputs(zero, defaults))
        return len(self.coordinates) + 2 * self.num_walls + 3 + extra + len(self.parameter_inputs)

    def _eta(self, c: dict[str, Tensor]) -> Tensor:
        """(batch or 1, wall, time, *space) distances to the walls in layer widths."""
        dims = [1] * len(self.grid.shape)
        width = self.problem.layer_width(self.t, {k: v.reshape(-1, *dims) for k, v in c.items()})
        return self.distances / (self.layer * width + self.layer_floor)[:, None]

    def mollifier(self, c: dict[str, Tensor]) -> Tensor:
        """(batch or 1, time, *space), in [0, 1)."""
        ramp = torch.tanh(self.coordinates[:1] / self.ramp)
        return ramp * torch.tanh(self._eta(c)).prod(dim=1) if self.num_walls else ramp

    def inputs(self, u0: Tensor, lift: Tensor, correction: Tensor, c: dict[str, Tensor]) -> Tensor:
        """(batch, channel, time, *space) network inputs, all of O(1).

        Coordinates, wall layers, the lift and its first-order correction, u₀, what the problem
        adds, and the parameters.
        """
        batch, dims = u0.shape[0], [1] * len(self.grid.shape)
        channels = [2 * self.coordinates[None] - 1]
        if self.num_walls:
            eta = self._eta(c)
            channels += [torch.erfc(eta), torch.log(eta) / 3]
        broadcast = {key: value.reshape(-1, *dims) for key, value in c.items()}
        channels += [lift[:, None], (u0 / self.initial_scale - 1)[:, None, None].expand(-1, 1, *self.grid.shape)]
        channels.append(correction[:, None] / self.correction_scale)
        channels += [extra[:, None] for extra in self.problem.network_inputs(lift, broadcast)]
        for key in self.parameter_inputs:
            channels.append(self.problem.parameters[key].normalised(broadcast[key])[:, None])
        return torch.cat([part.expand(batch, part.shape[1], *self.grid.shape) for part in channels], dim=1)

    def basis(self, output: Tensor, corrections: Tensor, c: dict[str, Tensor]) -> Tensor:
        """Network output (batch, basis, time, *space) ↦ basis functions in float64.

        They vanish where conditions are imposed: network outputs by the mollifier, the lift's
        corrections (batch, count, time, *space) by construction.
        """
        learned = output.double() * (self.basis_scale * self.mollifier(c))[:, None]
        return torch.cat([corrections[:, : self.num_corrections], learned], dim=1)
