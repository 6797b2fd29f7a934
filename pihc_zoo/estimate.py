"""A posteriori error: the residual on a finer grid, in solution units.

The prediction is interpolated to a grid with more nodes in space and time. There the error solves, to
first order, J e = ρ(u) with the exact linearisation J of the residual. A few Krylov directions
z₁ = A⁻¹ρ, z₂ = A⁻¹J z₁, … approximate it in the sense of least squares of A⁻¹(ρ − J e); what they
leave of it adds to the estimate, so that it stays honest where A resembles the equation poorly. The
estimate includes what the coarse grid cannot see: its own discretisation error and initial data that
it does not resolve.

Source: Y. Saad, M. Schultz, "GMRES" (1986), doi:10.1137/0907058, with left preconditioning by A.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from .ansatz import Conditions
from .discretisation import Discretisation, Field, LinearInverse, Readout, Walls, along, constants, linear_operator
from .grid import Axis, Grid
from .objective import ProblemResidual
from .parameters import Parameters
from .prediction.trust import Trust
from .residual_map import InverseLinearised, ResidualMap
from .solvers.dense import combination


@dataclass
class Candidate:
    """A field whose error is asked for, in one time window.

    Attributes:
        u: (batch, time, *space) at the nodes.
        conditions: of the window.
        fine_initial: (batch, *fine space) its initial condition at the estimator's nodes.
        carried: (batch, *fine space) the error at its start; None at the first window.
        residual: (batch, time, *space) the mapped one at the nodes, where it is at hand.
        inverse: `inverse` of the estimator for these conditions, where it is at hand.
    """

    u: Tensor
    conditions: Conditions
    fine_initial: Tensor
    carried: Tensor | None = None
    residual: Tensor | None = None
    inverse: LinearInverse | None = None


@dataclass
class Estimate:
    """What an estimator finds in one time window, on its finer grid.

    Attributes:
        error: (batch, time, *space) e ≈ u − u_true; ``unexplained`` likewise A⁻¹(ρ − J e), what e leaves of the
            residual in solution units, None where e leaves nothing.
        u: (batch, time, *space) the field.
        error_before: (batch, *space) the error at the window's start.
        weights: (time, *space) square roots of quadrature weights, zero at times that the problem's own output
            does not cover.
        discretisation: of the grid where they live; ``walls`` its walls for errors.
        since: first time of the problem's own output; the layers before it are not resolved here.
    """

    error: Tensor
    unexplained: Tensor | None
    u: Tensor
    error_before: Tensor
    weights: Tensor
    discretisation: Discretisation
    walls: Walls
    since: float = 0.0

    def squares(self) -> tuple[Tensor, Tensor]:
        """(batch,) sums of squares of error and field over the problem's own output, by quadrature."""
        fields = [self.error, self.u] if self.unexplained is None else [self.error, self.u, self.unexplained]
        error, u, *rest = ((field * self.weights).flatten(1).square().sum(dim=1) for field in fields)
        return error + sum(rest), u

    def squares_at(self, times: np.ndarray) -> Tensor:
        """(batch, m) mean squares over space of the error at ``times`` (m,), counted from the window's start.

        Between time nodes squares are interpolated linearly: an error is no polynomial in time. Times from
        ``since`` on take nothing from nodes before it.
        """
        own, count = self.discretisation.grid.key, len(self.discretisation.problem.fields)
        later, share, weights = _placed(own, count, self.since, times.tobytes(), self.u.device, self.u.dtype)

        def at(field: Tensor, before: Tensor) -> Tensor:
            squares = torch.cat([before[:, None], field], dim=1).flatten(2).square() @ weights  # (batch, closed)
            return torch.lerp(squares[:, later - 1], squares[:, later], share)

        error = at(self.error, self.error_before)
        if self.unexplained is not None:
            error = error + at(self.unexplained, torch.zeros_like(self.error_before))
        return error


@lru_cache(maxsize=256)
def _placed(
    axes: tuple[tuple[str, Axis], ...],
    num_fields: int,
    since: float,
    times: bytes,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of `squares_at`: the closed nodes after ``times``, how near to them these are, and the weights of a mean."""
    (_, time), *space = axes
    values, nodes = np.frombuffer(times), time.nodes
    closed = np.concatenate([[0.0], nodes])
    after = np.clip(np.searchsorted(closed, values), 1, len(nodes))
    share = (np.clip(values, 0.0, nodes[-1]) - closed[after - 1]) / (closed[after] - closed[after - 1])
    share = np.where((values >= since * (1 - 1e-9)) & (closed[after - 1] < since), 1.0, share)
    mean = np.ones(())
    for _, axis in space:
        mean = mean[..., None] * (axis.weights / axis.weights.sum())
    mean = np.tile(mean.ravel(), num_fields) / num_fields
    with constants():
        later = torch.as_tensor(after, device=device)
        return later, *(torch.as_tensor(part).to(device, dtype) for part in (share, mean))


class ErrorEstimator(nn.Module):
    """Estimates u − u_true of a field from its residual on a refined grid.

    Args:
        discretisation: of the grid of the field; periodic axes.
        refinement: nodes of the finer grid over nodes of the grid, per axis.
        krylov: number of Krylov directions.
    """

    def __init__(self, discretisation: Discretisation, refinement: float = 1.6, krylov: int = 3):
        super().__init__()
        self.problem, self.krylov = discretisation.problem, krylov
        self.grid: Grid = discretisation.grid.refined(refinement)
        self.fine = Discretisation(self.problem, self.grid)
        self.map = InverseLinearised(self.fine)
        points = {name: axis.nodes for name, axis in self.grid.space.items()}
        output_times = np.asarray(self.problem.output_times)
        self.since = float(output_times[output_times > 0].min())
        is_covered = torch.as_tensor(self.grid.time.nodes >= self.since)
        covered = self.map.weights * is_covered.reshape(-1, *[1] * self.fine.num_inner)
        self.register_buffer("covered_weights", covered, persistent=False)
        self.refine = Readout(discretisation, self.grid.time.nodes, points)

    def inverse(self, c: Parameters, batch: int) -> LinearInverse:
        """A⁻¹ on the finer grid, which all time windows share."""
        return self.map.linearised.inverse(c, batch)

    def forward(self, candidate: Candidate) -> Estimate:
        """The error field."""
        c, carried = candidate.conditions.c, candidate.carried
        initial = candidate.fine_initial if carried is None else self._state(candidate)
        walls = self.fine.walls(c)
        fine = Field(
            self.refine(Field(candidate.u, candidate.conditions.walls, candidate.conditions.u0)), walls, initial
        )
        dims = [1] * (1 + self.fine.num_inner)
        broadcast = c.against(len(dims))
        stored = self.problem.storage({"u": initial[:, None]}, broadcast)
        residual = ProblemResidual(self.problem, broadcast, stored, self.fine.at(c, candidate.conditions.start))
        row_map = self.map(c, fine.u.shape[0], inverse=candidate.inverse)
        has_rates = stored is None
        parts = residual.partials(self.fine(fine, has_rates))
        directions, images = [], []
        rho, before = row_map.assemble([value for value, _ in parts]), torch.zeros_like(fine.u)
        if carried is not None:  # what is carried in goes on as J has it: e = e₀ + z, J z = ρ − J e₀
            before = carried[:, None].expand_as(fine.u)
            features = self.fine(Field(before, walls.homogeneous(), carried), has_rates)
            rho = rho - row_map.assemble([residual.tangent(partials, features) for _, partials in parts])
        rows = row_map.apply(rho[:, None])[:, 0]  # W A⁻¹ρ
        direction = rows
        for _ in range(self.krylov):
            norm = direction.flatten(1).norm(dim=1).clamp(min=torch.finfo(rows.dtype).tiny)
            direction = direction / norm.reshape(-1, *dims)
            features = self.fine(Field.correction(direction / self.map.weights, walls), has_rates)
            image = row_map.assemble([residual.tangent(partials, features) for _, partials in parts])
            image = row_map.apply(image[:, None])[:, 0]
            directions.append(direction)
            images.append(image)
            direction = image
        z, jz = torch.stack(directions, dim=1).flatten(2), torch.stack(images, dim=1).flatten(2)
        weights = combination(jz, rows, ridge=1e-12).transpose(1, 2)
        error, explained = ((weights @ part).view_as(rows) for part in (z, jz))
        return Estimate(
            before + error / self.map.weights,
            (rows - explained) / self.map.weights,
            fine.u,
            torch.zeros_like(initial) if carried is None else carried,
            self.covered_weights if carried is None else self.map.weights,
            self.fine,
            walls.homogeneous(),
            self.since if carried is None else 0.0,
        )

    def _state(self, candidate: Candidate) -> Tensor:
        """(batch, *fine space) the field at the window's start, read from its nodes."""
        space, own = self.refine.discretisation.space, candidate.conditions
        return space.by_component(own.u0[:, None], own.walls, self.refine.at_points)[:, 0]


class DefectEstimator(nn.Module):
    """Estimates u − u_true of a roll-out: what each window lacks on a refined grid, carried on.

    In a window the error obeys J e = ρ(u) with the error carried into it as initial value; A in place of
    J, e ≈ e₀ + A⁻¹ρ(u), neither turns nor stretches it. ``growth`` is the measured factor by which that
    falls short. Between nodes the lift is read as a polynomial; what its derivative misses of the lift's
    own rate adds to the error there, A⁻¹(D_t u_L − rate); at the window's end that is a quadrature error,
    and negligible.

    Args:
        discretisation: of the grid of the field; periodic axes.
        refinement: nodes of the finer grid over nodes of the grid, per space axis.
        growth: factor on the estimate.
    """

    def __init__(self, discretisation: Discretisation, refinement: float, growth: float = 1.0):
        super().__init__()
        self.problem, self.growth, self.coarse = discretisation.problem, growth, discretisation
        axes = discretisation.grid.space
        space = {name: replace(axis.refined(refinement), dealiasing=1.0) for name, axis in axes.items()}
        self.grid = Grid(discretisation.grid.time, space)
        self.fine = Discretisation(self.problem, self.grid)
        self.linearised = linear_operator(self.problem, self.fine)
        self.register_buffer("weights", ResidualMap(self.fine).weights.clone(), persistent=False)
        for name, axis in axes.items():
            matrix = torch.as_tensor(axis.interpolation(space[name].nodes))
            self.register_buffer(f"refine_{name}", matrix, persistent=False)

    def _refined(self, u: Tensor) -> Tensor:
        if self.grid.shape == self.coarse.grid.shape:
            return u
        for i, name in enumerate(self.grid.space):
            u = along(u, getattr(self, f"refine_{name}"), i - len(self.grid.space))
        return u

    def forward(self, candidate: Candidate) -> Estimate:
        """As `ErrorEstimator`.

        Where the grid is not refined the candidate's residual serves: without dealiasing it holds, aliased, what
        products send beyond the band.
        """
        conditions, carried = candidate.conditions, candidate.carried
        if carried is None:
            carried = self._refined(conditions.u0) - candidate.fine_initial
        if candidate.residual is not None and self.grid.shape == self.coarse.grid.shape:
            return self._error(candidate.residual, candidate.u, candidate, carried)
        own = conditions.field(candidate.u, self.coarse)
        u, rate = self._refined(torch.stack([own.u, own.rate])).unbind(0)
        at = self.fine.at(conditions.c, conditions.start)
        residual = ProblemResidual(self.problem, conditions.c.like(u), at=at)
        rho = residual(self.fine(Field(u, rate=rate)))
        return self._error(rho * self._row_scale(u), u, candidate, carried)

    def inverse(self, c: Parameters, batch: int) -> LinearInverse:
        """A⁻¹ on the finer grid, which all time windows share."""
        return self.linearised.inverse(c, batch)

    def _row_scale(self, field: Tensor) -> Tensor:
        return self.linearised.row_scale.reshape(-1, *[1] * (field.dim() - 2))

    def _error(self, rows: Tensor, fine: Tensor, candidate: Candidate, carried: Tensor) -> Estimate:
        """From the residual times the row scale, and what the time nodes miss of the lift between them."""
        conditions, lift = candidate.conditions, candidate.conditions.lift
        missed = self._refined(self.coarse.rate(lift.u, conditions.u0) - lift.rate)
        missed = missed * self._row_scale(missed)
        inverse = candidate.inverse or self.inverse(conditions.c, fine.shape[0])
        error = carried[:, None] + inverse.apply((self.growth * rows + missed)[:, None])[:, 0]
        return Estimate(error, None, fine, carried, self.weights, self.fine, Walls())


def error_estimator(discretisation: Discretisation, trust: Trust) -> ErrorEstimator | DefectEstimator:
    """The estimator that serves the grid."""
    if discretisation.space.is_spectral:
        return DefectEstimator(discretisation, trust.refinement, trust.growth)
    return ErrorEstimator(discretisation, trust.refinement, trust.krylov)
