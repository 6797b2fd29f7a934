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

import numpy as np
import torch
from torch import Tensor, nn

from .ansatz import Conditions
from .grid import Grid
from .objective import ProblemResidual
from .operators.derivatives import Closure, FeatureOperator, along
from .operators.linearised import LinearisedOperator
from .operators.periodic import PeriodicFeatureOperator, PeriodicLinearisedOperator
from .prediction.trust import Trust
from .problems.base import Problem
from .residual_map import InverseLinearised
from .solvers.dense import solve


class Readout(nn.Module):
    """Values of a field at any points: interpolation from the closed nodes of a grid.

    Args:
        operator: features on the grid the field lives on.
        times: (m,) output times.
        points: per space axis (n,) output positions.
    """

    def __init__(self, operator: FeatureOperator, times, points: dict):
        super().__init__()
        self.operator = operator
        grid = operator.grid
        to_times = grid.time.interpolation(times)
        self.register_buffer("to_times", torch.as_tensor(to_times), persistent=False)
        self.runs = _runs(to_times)
        for name, values in points.items():
            self.register_buffer(
                f"to_{name}", torch.as_tensor(grid.space[name].interpolation(values)), persistent=False
            )
            if operator.problem.has_moving_frame and grid.space[name].is_periodic:
                self.register_buffer(f"analysis_{name}", torch.as_tensor(grid.space[name].analysis()), persistent=False)
                self.register_buffer(f"at_{name}", torch.as_tensor(grid.space[name].modes(values)), persistent=False)

    def forward(
        self, u: Tensor, initial: Tensor, closures: dict[str, Closure], shift: dict[str, Tensor] | None = None
    ) -> Tensor:
        """(batch, time, *space) and its initial values (batch, *space) ↦ (batch, m, *points).

        Args:
            shift: by periodic axis (batch, m) how far the field is moved along it at each time.
        """
        operator = self.operator
        if shift:
            return self._shifted(u, initial, shift)
        u = operator.close_time(u[:, None], initial[:, None])
        names = operator.space_names
        for name in names:
            dim = names.index(name) - len(names)
            u = along(operator.close_space(u, name, closures.get(name)), getattr(self, f"to_{name}"), dim)
        flat = u[:, 0].flatten(2)  # (batch, closed time, points)
        parts = [self.to_times[rows, nodes] @ flat[:, nodes] for rows, nodes in self.runs]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).unflatten(2, u.shape[3:])

    def _shifted(self, u: Tensor, initial: Tensor, shift: dict[str, Tensor]) -> Tensor:
        """Through the modes of periodic axes: cos k(x − s) and sin k(x − s) by those of x."""
        names = self.operator.space_names
        closed = self.operator.close_time(u[:, None], initial[:, None])[:, 0]
        u = (self.to_times @ closed.flatten(2)).unflatten(2, closed.shape[2:])  # (batch, m, *space)
        for name in names:
            dim = names.index(name) - len(names)
            axis = self.operator.grid.space[name]
            band = axis.band
            modes = along(u, getattr(self, f"analysis_{name}"), dim).movedim(dim, -1)
            mean, cosines, sines = modes.split([1, band, band], dim=-1)
            if name in shift:
                k = torch.as_tensor(axis.wave_numbers[1 : band + 1], dtype=u.dtype, device=u.device)
                angle = shift[name][..., None] * k
                angle = angle.reshape(*angle.shape[:2], *[1] * (modes.dim() - 3), band)
                cos, sin = angle.cos(), angle.sin()
                cosines, sines = cosines * cos - sines * sin, cosines * sin + sines * cos
            modes = torch.cat([mean, cosines, sines], dim=-1).movedim(-1, dim)
            u = along(modes, getattr(self, f"at_{name}"), dim)
        return u


def _runs(matrix: np.ndarray) -> list[tuple[slice, slice]]:
    """Runs of consecutive rows that read the same columns, (rows, columns): a time sees one element only."""
    spans = [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1]) + 1) for row in matrix]
    starts = [i for i in range(len(spans)) if i == 0 or spans[i][0] != spans[i - 1][0]]
    runs = []
    for first, stop in zip(starts, [*starts[1:], len(spans)], strict=True):
        group = spans[first:stop]
        runs.append((slice(first, stop), slice(group[0][0], max(end for _, end in group))))
    return runs


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
        operator: features on the grid where they live; ``closures`` its walls for errors.
        since: first time of the problem's own output; the layers before it are not resolved here.
    """

    error: Tensor
    unexplained: Tensor | None
    u: Tensor
    error_before: Tensor
    weights: Tensor
    operator: FeatureOperator | PeriodicFeatureOperator
    closures: dict[str, Closure]
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
        nodes = self.operator.grid.time.nodes
        closed = np.concatenate([[0.0], nodes])
        after = np.clip(np.searchsorted(closed, times), 1, len(nodes))
        share = (np.clip(times, 0.0, nodes[-1]) - closed[after - 1]) / (closed[after] - closed[after - 1])
        share = np.where((times >= self.since * (1 - 1e-9)) & (closed[after - 1] < self.since), 1.0, share)
        weights = torch.ones(())
        for axis in self.operator.grid.space.values():
            weights = weights[..., None] * torch.as_tensor(axis.weights / axis.weights.sum())
        weights = weights.to(self.u).flatten()
        later = torch.as_tensor(after, device=self.u.device)
        share = torch.as_tensor(share).to(self.u)

        def at(field: Tensor, before: Tensor) -> Tensor:
            squares = torch.cat([before[:, None], field], dim=1).flatten(2).square() @ weights  # (batch, closed)
            return torch.lerp(squares[:, later - 1], squares[:, later], share)

        error = at(self.error, self.error_before)
        if self.unexplained is not None:
            error = error + at(self.unexplained, torch.zeros_like(self.error_before))
        return error


class ErrorEstimator(nn.Module):
    """Estimates u − u_true of a field from its residual on a refined grid.

    Args:
        problem: the equation.
        operator: features on the grid of the field.
        refinement: nodes of the finer grid over nodes of the grid, per axis.
        krylov: number of Krylov directions.
    """

    def __init__(self, problem: Problem, operator: FeatureOperator, refinement: float = 1.6, krylov: int = 3):
        super().__init__()
        self.problem, self.krylov = problem, krylov
        self.grid: Grid = operator.grid.refined(refinement)
        self.fine = FeatureOperator(problem, self.grid)
        self.map = InverseLinearised(self.fine, LinearisedOperator(problem, self.fine))
        points = {name: axis.nodes for name, axis in self.grid.space.items()}
        output_times = np.asarray(problem.output_times)
        self.since = float(output_times[output_times > 0].min())
        is_covered = torch.as_tensor(self.grid.time.nodes >= self.since)
        covered = self.map.weights * is_covered.reshape(-1, *[1] * len(self.grid.space))
        self.register_buffer("covered_weights", covered, persistent=False)
        self.refine = Readout(operator, self.grid.time.nodes, points)

    def forward(
        self, u: Tensor, conditions: Conditions, fine_initial: Tensor, carried: Tensor | None = None, residual=None
    ) -> Estimate:
        """The error field.

        Args:
            u: (batch, time, *space) at the nodes.
            conditions: of the window.
            fine_initial: (batch, *fine space) the initial condition at the fine nodes.
            carried, residual: unused; the conditions are exact, the residual is that of the fine grid.
        """
        initial, closures, c = conditions.u0, conditions.closures, conditions.c
        fine = self.refine(u, initial, closures)
        fine_closures = self.fine.closures(c)
        homogeneous = {name: closure.homogeneous() for name, closure in fine_closures.items()}
        dims = [1] * len(self.grid.shape)
        broadcast = {key: value.reshape(-1, *dims) for key, value in c.items()}
        stored = self.problem.storage({"u": fine_initial[:, None]}, broadcast)
        residual = ProblemResidual(self.problem, broadcast, stored)
        row_map = self.map(c, u.shape[0])
        is_plain = stored is None
        features = self.fine(fine[:, None], fine_closures, fine_initial[:, None], has_rates=is_plain)[:, 0]
        parts = residual.partials(features)
        directions, images = [], []
        rows = row_map.apply(row_map.assemble([value for value, _ in parts])[:, None])[:, 0]  # W A⁻¹ρ
        direction = rows
        for _ in range(self.krylov):
            norm = direction.flatten(1).norm(dim=1).clamp(min=torch.finfo(rows.dtype).tiny)
            direction = direction / norm.reshape(-1, *dims)
            features = self.fine((direction / self.map.weights)[:, None], homogeneous, has_rates=is_plain)[:, 0]
            image = row_map.assemble([residual.tangent(partials, features) for _, partials in parts])
            image = row_map.apply(image[:, None])[:, 0]
            directions.append(direction)
            images.append(image)
            direction = image
        z, jz = torch.stack(directions, dim=1).flatten(2), torch.stack(images, dim=1).flatten(2)
        gram = jz @ jz.transpose(1, 2)
        ridge = 1e-12 * gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
        identity = torch.eye(self.krylov, dtype=gram.dtype, device=gram.device)
        weights = solve(gram + ridge * identity, jz @ rows.flatten(1)[..., None])
        error = (weights.transpose(1, 2) @ z).view_as(rows)
        unexplained = rows - (weights.transpose(1, 2) @ jz).view_as(rows)
        return Estimate(
            error / self.map.weights,
            unexplained / self.map.weights,
            fine,
            torch.zeros_like(fine_initial),
            self.covered_weights,
            self.fine,
            homogeneous,
            self.since,
        )


class DefectEstimator(nn.Module):
    """Estimates u − u_true of a roll-out: what each window lacks on a refined grid, carried on.

    In a window the error obeys J e = ρ(u) with the error carried into it as initial value; A in place of
    J, e ≈ e₀ + A⁻¹ρ(u), neither turns nor stretches it. ``growth`` is the measured factor by which that
    falls short. Between nodes the lift is read as a polynomial; what its derivative misses of the lift's
    own rate adds to the error there, A⁻¹(D_t u_L − rate); at the window's end that is a quadrature error,
    and negligible.

    Args:
        problem: the equation.
        operator: features on the grid of the field; periodic axes.
        refinement: nodes of the finer grid over nodes of the grid, per space axis.
        growth: factor on the estimate.
    """

    def __init__(self, problem: Problem, operator: PeriodicFeatureOperator, refinement: float, growth: float = 1.0):
        super().__init__()
        self.problem, self.growth, self.coarse = problem, growth, operator
        space = {name: replace(axis.refined(refinement), dealiasing=1.0) for name, axis in operator.grid.space.items()}
        self.grid = Grid(operator.grid.time, space)
        self.fine = PeriodicFeatureOperator(problem, self.grid)
        self.linearised = PeriodicLinearisedOperator(problem, self.fine)
        self.register_buffer("weights", torch.as_tensor(self.grid.weights).sqrt(), persistent=False)
        for name, axis in operator.grid.space.items():
            matrix = torch.as_tensor(axis.interpolation(space[name].nodes))
            self.register_buffer(f"refine_{name}", matrix, persistent=False)

    def _refined(self, u: Tensor) -> Tensor:
        if self.grid.shape == self.coarse.grid.shape:
            return u
        for i, name in enumerate(self.fine.space_names):
            u = along(u, getattr(self, f"refine_{name}"), i - len(self.fine.space_names))
        return u

    def forward(
        self,
        u: Tensor,
        conditions: Conditions,
        fine_initial: Tensor,
        carried: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Estimate:
        """As `ErrorEstimator`, for one window; ``carried`` (batch, *fine space) is the error at its start.

        At the first window it is what the grid does not carry of the initial condition, and not given.
        ``residual`` (batch, time, *space), the mapped one at the nodes, serves where the grid is not refined:
        without dealiasing it holds, aliased, what products send beyond the band.
        """
        if residual is not None and self.grid.shape == self.coarse.grid.shape:
            before = conditions.u0 - fine_initial if carried is None else carried
            return self._error(residual, u, conditions, before)
        difference = self.coarse.rate((u - conditions.lift)[:, None])[:, 0]
        fine, rate = self._refined(torch.stack([u, conditions.lift_rate + difference])).unbind(0)
        if carried is None:
            carried = self._refined(conditions.u0) - fine_initial
        features = self.fine(fine[:, None], rate=rate[:, None])
        dims = [1] * len(self.grid.shape)
        own = {key: value.reshape(-1, *dims) for key, value in conditions.c.items()}
        rows = ProblemResidual(self.problem, own)(features[:, 0]) * self.linearised.row_scale.reshape(-1, *dims[1:])
        return self._error(rows, fine, conditions, carried)

    def _error(self, rows: Tensor, fine: Tensor, conditions: Conditions, carried: Tensor) -> Estimate:
        """From the residual times the row scale, and what the time nodes miss of the lift between them."""
        closed = torch.cat([conditions.u0[:, None], conditions.lift], dim=1)
        missed = (self.coarse.rate_matrix @ closed.flatten(2)).unflatten(2, closed.shape[2:]) - conditions.lift_rate
        missed = self._refined(missed) * self.linearised.row_scale.reshape(-1, *[1] * (missed.dim() - 2))
        inverse = self.linearised.inverse(conditions.c, fine.shape[0])
        error = carried[:, None] + inverse.apply((self.growth * rows + missed)[:, None])[:, 0]
        return Estimate(error, None, fine, carried, self.weights, self.fine, {})


def error_estimator(problem: Problem, operator, trust: Trust) -> ErrorEstimator | DefectEstimator:
    """The estimator that serves the operator's grid."""
    if isinstance(operator, PeriodicFeatureOperator):
        return DefectEstimator(problem, operator, trust.refinement, trust.growth)
    return ErrorEstimator(problem, operator, trust.refinement, trust.krylov)
