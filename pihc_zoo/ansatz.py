"""The ansatz  u = u_L(φ) + Σⱼ wⱼ zⱼ(φ) + Σᵢ wᵢ m bᵢ(φ):  lift u_L, its corrections z₁ = −A⁻¹ρ(u_L), …,
mollifier m, network basis b.

The lift meets the initial and wall conditions; corrections meet them with zero targets, because
every stencil closes them so, and the mollifier makes them small where conditions are imposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .basis import DenseBasis, SeparableBasis
from .discretisation import CoefficientFields, Discretisation, Field, LinearInverse, Walls
from .grid import Grid
from .parameters import Parameters


@dataclass
class Conditions:
    """What is known before any network runs.

    Attributes:
        u0: (batch, *space) initial values at the nodes.
        c: parameters, tensors of shape () or (batch,); ``walls`` and ``inverse``, A⁻¹, for them.
        lift: (batch, time, *space), with what is known of it; ``lift_features`` (batch, feature, time,
            *collocation) its features.
        residual: (batch, time, *space) the lift's residual, its resolved part.
        start: time at which the grid's begins.
        corrections: (batch, count, time, *space) the lift's first-order correction −A⁻¹ρ(u_L) and
            further Krylov directions of the linearised problem; as many as the ansatz asks for.
    """

    u0: Tensor
    c: Parameters
    walls: Walls
    inverse: LinearInverse | None
    lift: Field
    start: float = 0.0
    lift_features: Tensor | None = None
    residual: Tensor | None = None
    corrections: Tensor | None = None

    @cached_property
    def residual_size(self) -> Tensor:
        """(batch,) root mean square of the lift's residual."""
        return self.residual.square().flatten(1).mean(dim=1).sqrt()

    def field(self, u: Tensor, discretisation: Discretisation) -> Field:
        """A field (batch, time, *space) under these conditions; its rate by the lift's, where that is known."""
        rate = self.lift.rate
        if rate is not None:
            rate = rate + discretisation.rate(u - self.lift.u)
        return Field(u, self.walls, self.u0, rate)

    def take(self, indices: Tensor) -> Conditions:
        """Those of some trajectories."""
        features, residual, corrections = (
            None if part is None else part[indices] for part in (self.lift_features, self.residual, self.corrections)
        )
        inverse, lift = self.inverse and self.inverse.take(indices), self.lift.take(indices)
        c, walls = self.c.take(indices), self.walls.take(indices)
        return Conditions(self.u0[indices], c, walls, inverse, lift, self.start, features, residual, corrections)


class Ansatz(nn.Module):
    """Lift, mollifier and the network's input channels, over space-time.

    Args:
        discretisation: of the grid.
        lift: of `pihc_zoo.discretisation.stepped.LIFTS`.
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
        discretisation: Discretisation,
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
        self.problem, self.grid = discretisation.problem, discretisation.grid
        self.lift, self.coefficients = lift, discretisation.coefficients
        self.parameter_inputs = tuple(parameter_inputs)
        self.num_fields = len(self.problem.fields)
        if not 0 <= num_corrections <= 64:
            raise ValueError(f"num_corrections must lie in [0, 64], got {num_corrections}")
        self.num_corrections = num_corrections
        self.num_directions = max(1, num_corrections)  # the first one is an input channel
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
        conditions = discretisation.space.conditions(self.problem.as_tensors({}))
        for i, (name, axis) in enumerate(self.grid.space.items()):
            if axis.num_before:
                for side, wall in enumerate((axis.closed_nodes[0], axis.closed_nodes[-1])):
                    if any(_is_zero(own[name][side].value) for own in conditions if name in own):
                        continue  # where a slope alone is given, the values are free
                    distance = torch.as_tensor(abs(axis.nodes - wall)).reshape(
                        *[1] * (i + 1), -1, *[1] * (num_space - i - 1)
                    )
                    distances.append(distance.expand(self.grid.shape))
        self.num_walls = len(distances)
        if distances:
            self.register_buffer("distances", torch.stack(distances), persistent=False)

    @property
    def basis_shape(self) -> tuple[int, ...]:
        """Where a basis function has numbers of its own: (time, *space)."""
        return self.grid.shape

    @property
    def num_inputs(self) -> int:
        """Number of network input channels."""
        zero = torch.zeros(self.grid.shape, dtype=torch.float64, device=self.t.device)
        defaults = self.problem.as_tensors({}).to(self.t.device)
        extra = len(self.problem.network_inputs(zero, defaults))
        fields = 3 * self.num_fields + len(self.coefficients.over_space)
        return len(self.coordinates) + 2 * self.num_walls + fields + extra + len(self.parameter_inputs)

    def _eta(self, c: Parameters) -> Tensor:
        """(batch or 1, wall, time, *space) distances to the walls in layer widths."""
        width = self.problem.layer_width(self.t, c.against(len(self.grid.shape)))
        width = width + torch.zeros_like(self.t)[None]  # where nothing of it varies by trajectory it is a number
        return self.distances / (self.layer * width + self.layer_floor)[:, None]

    def mollifier(self, c: Parameters) -> Tensor:
        """(batch or 1, time, *space), in [0, 1)."""
        ramp = torch.tanh(self.coordinates[:1] / self.ramp)
        return ramp * torch.tanh(self._eta(c)).prod(dim=1) if self.num_walls else ramp

    def inputs(self, conditions: Conditions) -> Tensor:
        """(batch, channel, time, *space) network inputs, all of O(1).

        Coordinates, wall layers, the lift and its first-order correction, u₀, what the problem
        adds, the coefficient fields and the parameters.
        """
        u0, lift, c = conditions.u0, self._channels(conditions.lift.u), conditions.c
        correction = self._channels(conditions.corrections[:, 0])
        batch = u0.shape[0]
        channels = [2 * self.coordinates[None] - 1]
        if self.num_walls:
            eta = self._eta(c)
            channels += [torch.erfc(eta), torch.log(eta) / 3]
        broadcast = c.against(len(self.grid.shape))
        initial = (u0 / self.initial_scale - 1).reshape(batch, self.num_fields, 1, *self.grid.shape[1:])
        channels += [lift, initial.expand(-1, -1, *self.grid.shape), correction / self.correction_scale]
        if self.num_fields == 1:
            channels += [extra[:, None] for extra in self.problem.network_inputs(lift[:, 0], broadcast)]
        for own in normalised_coefficients(self.coefficients, c):
            channels.append(own[:, None, None].expand(-1, -1, *self.grid.shape))
        for key in self.parameter_inputs:
            channels.append(self.problem.parameters[key].normalised(broadcast[key])[:, None])
        return torch.cat([part.expand(batch, part.shape[1], *self.grid.shape) for part in channels], dim=1)

    def _channels(self, field: Tensor) -> Tensor:
        """(batch, time, [field], *space) ↦ (batch, field, time, *space)."""
        return field.transpose(1, 2) if self.num_fields > 1 else field[:, None]

    def basis(self, network: nn.Module, output: Tensor, conditions: Conditions) -> DenseBasis:
        """Network output (batch, basis, time, *space) ↦ basis functions in the precision of the solves.

        They vanish where conditions are imposed: network outputs by the mollifier, the lift's
        corrections by construction.
        """
        corrections = conditions.corrections
        learned = output.to(corrections.dtype) * (self.basis_scale * self.mollifier(conditions.c))[:, None]
        if self.num_fields > 1:
            learned = of_components(learned, self.num_fields, 3)
        return DenseBasis(torch.cat([corrections[:, : self.num_corrections], learned], dim=1))


def normalised_coefficients(coefficients: CoefficientFields, c: Parameters) -> list[Tensor]:
    """(batch or 1, *space) coefficient fields at the nodes, their ranges mapped to [−1, 1]."""
    declared = coefficients.problem.coefficients
    return [declared[name].normalised(own) for name, own in coefficients.at_nodes(c).items()]


def _is_zero(value: Any) -> bool:
    """Whether a wall's coefficient is the number 0."""
    return not isinstance(value, Tensor) and value == 0


def of_components(fields: Tensor, count: int, dim: int) -> Tensor:
    """Fields (batch, basis, …) as vector-valued ones, the components of a system at dimension ``dim``.

    Each has one component; the first ones the first, so that every component has coefficients of its own.
    """
    owner = torch.arange(fields.shape[1], device=fields.device) * count // fields.shape[1]
    own = (owner[:, None] == torch.arange(count, device=fields.device)).to(fields.dtype)  # (basis, component)
    shape = [1] * (fields.dim() + 1)
    shape[1], shape[dim] = own.shape
    return fields.unsqueeze(dim) * own.reshape(shape)


class EvolutionAnsatz(nn.Module):
    """Lift and the network's input channels for one window of a roll-out.

    The network sees space only: the lift, its features and its residual at a few instants of the
    window. To first order the lift's error is linear in its residual, so residual and basis functions
    are measured in each trajectory's own unit, the root mean square of ρ(u_L) times the window's length.

    Args:
        discretisation: of the grid.
        lift: of `pihc_zoo.discretisation.stepped.LIFTS`.
        parameter_inputs: parameters that the network takes as input channels.
        basis_scale: size of a basis function at an O(1) network output, in that unit.
        instants: at how many time nodes the network sees the lift; evenly chosen, the last included.

    Raises:
        ValueError: a lift that does not know its rate.
    """

    num_directions = num_corrections = 0

    def __init__(
        self,
        discretisation: Discretisation,
        lift: nn.Module,
        parameter_inputs: tuple[str, ...] = (),
        basis_scale: float = 0.3,
        instants: int = 3,
    ):
        super().__init__()
        self.problem, self.grid, self.lift = discretisation.problem, discretisation.grid, lift
        self.discretisation = discretisation
        self.parameter_inputs, self.basis_scale = tuple(parameter_inputs), basis_scale
        if not lift.has_rate:
            raise ValueError(
                f"this lift needs bounded axes; {next(iter(self.grid.space))!r} is periodic: choose the ansatz "
                "'integrated' or 'stepped'"
            )
        num_times = self.grid.shape[0]
        if not 1 <= instants <= num_times:
            raise ValueError(f"instants must lie in [1, {num_times}], got {instants}")
        picked = [round((i + 1) * num_times / instants) - 1 for i in range(instants)]
        self.register_buffer("instants", torch.tensor(picked), persistent=False)
        self.register_buffer("t", torch.as_tensor(self.grid.time.nodes.copy()), persistent=False)
        self.space_features = [i for i, f in enumerate(self.problem.features.values()) if "t" not in f.orders]

    @property
    def basis_shape(self) -> tuple[int, ...]:
        """Where a basis function has numbers of its own: (*space)."""
        return self.grid.shape[1:]

    @property
    def num_inputs(self) -> int:
        """Number of network input channels."""
        own = len(self.space_features) + 2 * len(self.problem.fields)
        over_space = len(self.discretisation.coefficients.over_space)
        return own * len(self.instants) + over_space + len(self.parameter_inputs)

    def unit(self, conditions: Conditions) -> Tensor:
        """(batch, 1, ...) root mean square of the lift's residual times the window's length."""
        size = conditions.residual_size * self.grid.time.stop
        return size.clamp(min=1e-12).reshape(-1, *[1] * (conditions.residual.dim() - 1))

    def inputs(self, conditions: Conditions) -> Tensor:
        """(batch, channel, *space) network inputs.

        The lift, its space features, and its residual in the trajectory's unit, each at the chosen
        instants; the coefficient fields and the parameters.
        """
        unit = self.unit(conditions)
        batch, space = unit.shape[0], self.grid.shape[1:]
        picked = conditions.lift_features.unbind(1)
        features = torch.stack([picked[i][:, self.instants] for i in self.space_features], dim=1)
        fields = [conditions.lift.u[:, self.instants], self.discretisation.project(features)]
        fields.append(conditions.residual[:, self.instants] * (self.grid.time.stop / unit))
        channels = [own.reshape(batch, -1, *space) for own in fields]
        for own in normalised_coefficients(self.discretisation.coefficients, conditions.c):
            channels.append(own[:, None].expand(batch, 1, *space))
        for key in self.parameter_inputs:
            value = self.problem.parameters[key].normalised(conditions.c[key])
            channels.append(value.reshape(-1, 1, *[1] * len(space)).expand(batch, 1, *space))
        return torch.cat(channels, dim=1)

    def basis(self, network: nn.Module, output: Tensor, conditions: Conditions) -> SeparableBasis:
        """The network's fields (batch, basis, *space) and time modes ↦ basis functions.

        They vanish at the window's start by their time modes, and have no mean where it is conserved.
        """
        unit = self.unit(conditions)
        scale = self.basis_scale * unit.reshape(-1, *[1] * (output.dim() - 1))
        fields = output.to(conditions.lift.u.dtype) * scale
        if self.problem.is_system:
            fields = of_components(fields, len(self.problem.fields), 2)
        if self.problem.conserves_mean:
            fields = fields - fields.flatten(2).mean(dim=2).reshape(*fields.shape[:2], *[1] * (fields.dim() - 2))
        return SeparableBasis(fields, network.time.to(fields.dtype), network.rate.to(fields.dtype))


def ansatz_on(grid: Grid) -> type[Ansatz] | type[EvolutionAnsatz]:
    """The ansatz that serves a grid: over space-time between walls, else over space with polynomials in time."""
    return EvolutionAnsatz if all(axis.is_periodic for axis in grid.space.values()) else Ansatz
