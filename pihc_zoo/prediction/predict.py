"""One pass of a surrogate over a batch: roll-out, readout, estimate, and polish where it is needed.

`compute` is a function of tensors, exported as it is; `answer` is what eager mode makes of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..arrays import to_numpy
from ..decomposition import Decomposition
from ..discretisation import Field
from ..estimate import Candidate, Estimate
from ..parameters import Parameters
from ..solvers.levenberg_marquardt import FEW_STEPS, LevenbergMarquardt
from ..status import Status, is_converged
from .answer import Answer
from .passes import NodalField, Pass
from .request import Request

_WANTED = 0.5  # of the trust threshold: an estimate above that is polished

if TYPE_CHECKING:
    from ..rollout import Frame, Window
    from ..surrogate import Surrogate


class Inference:
    """A request put to a surrogate.

    Args:
        model: the surrogate.
        request: checked call of ``predict``.
        decomposition, solver: of the call.
        polish: whether to go on where the experts' answer is not good enough, and to solve for early times.
        has_estimate: whether errors are estimated.
    """

    def __init__(
        self,
        model: Surrogate,
        request: Request,
        decomposition: Decomposition,
        solver: LevenbergMarquardt,
        polish: bool = False,
        has_estimate: bool = True,
    ):
        self.model, self.request = model, request
        self.options = {"decomposition": decomposition, "solver": solver}
        self.has_estimate = has_estimate
        self.times = np.sort(request.times)
        self.num_windows = model.rollout.count(self.times)
        self.polish = model.polish if polish else None
        self.is_early = np.zeros(len(self.times), dtype=bool)
        if self.polish is not None:
            self.is_early = (self.times > 0) & (self.times < self.polish.early.stop * (1 - 1e-9))

    # ------------------------------------------------------------------ the pass

    def compute(self, u0: Tensor, c: Parameters, solver: LevenbergMarquardt | None = None) -> Pass:
        """Initial conditions (batch, *space) at the request's points ↦ what is known of their solutions."""
        model, request = self.model, self.request
        options = {**self.options, "solver": solver or self.options["solver"]}
        estimator, constraint = model.estimator, model.constraint
        initial = model.at_nodes(u0, request.input_points)
        fine_initial = model.at_nodes(u0, request.input_points, estimator.grid).to(constraint.precision)
        psi = constraint.partition(self.options["decomposition"])
        pieces = [self._start(u0)]
        sums, coefficients, status, iterations = [], [], [], []
        fields: dict[str, list[NodalField]] = {"u": [], "residual": [], "estimated_error": []}
        carried = inverse = None
        answer, filled = self._whole(u0, pieces[0])
        for window in model.windows(initial, c, self.num_windows, **options):
            values = model.read(window, self.times, request.points)
            if answer is None:
                pieces.append(values)
            else:
                answer[:, filled : filled + values.shape[1]] = values
                filled += values.shape[1]
            found = window.field
            rows = constraint.rows(found.u, window.conditions) if found.rows is None else found.rows
            start = fine_initial if window.frame is None else fine_initial - window.frame.like(fine_initial)
            residual = rows / constraint.residual_map.weights
            estimate = None
            if self.has_estimate:
                inverse = inverse or estimator.inverse(window.conditions.c, u0.shape[0])
                estimate = estimator(Candidate(found.u, window.conditions, start, carried, residual, inverse))
                carried = estimate.error[:, -1]
            sums.append(self._sums(window, rows, psi, estimate, values))
            coefficients.append(found.coefficients)
            status.append(found.solution.status.reshape(u0.shape[0], -1))
            iterations.append(found.solution.iterations.reshape(u0.shape[0], -1))
            for key, own in self._fields(window, residual, estimate).items():
                fields[key].append(own)
        by_window = torch.stack(sums)
        size, error, scale, *by_expert = by_window.sum(dim=0).unbind(dim=1)
        return Pass(
            torch.cat(pieces, dim=1) if answer is None else answer,
            size,
            error,
            scale,
            torch.stack(by_expert, dim=1),
            torch.cat(coefficients, dim=1),
            torch.cat(status, dim=1),
            torch.cat(iterations, dim=1),
            by_window[:, :, 0].T,
            model.positions.unresolved(u0, initial, request.input_points),
            initial,
            fine_initial,
            fields,
        )

    def computed(self, u0: Tensor, c: Parameters) -> Pass:
        """`compute` by solves that never look whether they are finished: few steps, then all for those that are not.

        Where these are, they are computed in numbers that are powers of two, so that few graphs are recorded.
        """
        solver = self.options["solver"]
        if solver.looks_at(u0):
            return self.compute(u0, c)
        found = self._played(u0, c, dataclasses.replace(solver, max_steps=min(FEW_STEPS, solver.max_steps)))
        remaining = (~is_converged(found.status)).any(dim=1).nonzero()[:, 0]
        if len(remaining) and solver.max_steps > FEW_STEPS:
            size = 1 << (len(remaining) - 1).bit_length()
            remaining = torch.cat([remaining, remaining[:1].expand(size - len(remaining))])
            found.put(remaining, self._played(u0[remaining], c.take(remaining), solver))
        return found

    def _played(self, u0: Tensor, c: Parameters, solver: LevenbergMarquardt) -> Pass:
        """`compute` as a CUDA graph where there is one of these shapes and settings."""
        request, network = self.request, self.model.network
        key = (
            (repr(self.options["decomposition"]), solver, self.has_estimate, request.has_own_points),
            (request.has_own_times, self.times.tobytes(), self.is_early.tobytes(), tuple(c.numbers.items())),
            *((name, own.tobytes()) for part in (request.input_points, request.points) for name, own in part.items()),
        )
        return self.model.graphs(
            key,
            (*network.parameters(), *network.buffers()),
            lambda u0, *values: self.compute(u0, c.replaced(values), solver),
            (u0, *c.tensors),
        )

    def _start(self, u0: Tensor) -> Tensor:
        """(batch, times, *points) the initial condition where t = 0 is asked for."""
        count = int((self.times == 0).sum())
        if not count:
            return u0.new_zeros(u0.shape[0], 0, *self.request.inner_shape[1:])
        start = self.model.positions.resampled(u0, self.request.input_points, self.request.points)
        return start[:, None].expand(-1, count, *start.shape[1:])

    def _whole(self, u0: Tensor, start: Tensor) -> tuple[Tensor | None, int]:
        """Of roll-outs the answer to be filled window by window, one copy less, and how far it is."""
        if self.num_windows == 1:
            return None, 0
        answer = u0.new_empty(u0.shape[0], *self.request.inner_shape)
        answer[:, : start.shape[1]] = start
        return answer, start.shape[1]

    def _sums(self, window: Window, rows: Tensor, psi: Tensor, estimate: Estimate | None, values: Tensor) -> Tensor:
        """(batch, 3 + expert) sums of squares of u, estimated error, its scale and rows by expert, float64."""
        size, by_expert = self._squares(window.field.u, rows, psi)
        error = scale = torch.full_like(size, torch.nan)
        if estimate is not None:
            error, scale = self._errors(estimate, window.frame, *self._times_of(window.index), values)
        if window.frame is not None:
            size = size + window.frame.offset.square()
        return torch.cat([torch.stack([size, error, scale], dim=1), by_expert], dim=1).double()

    def _squares(self, u: Tensor, rows: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """(batch,) sums of squares of u at the nodes, (batch, expert) of rows."""
        size = (u * self.model.constraint.residual_map.weights).flatten(1).square().sum(dim=1)
        return size, (rows[:, None].square() * psi).flatten(2).sum(dim=2)

    def _times_of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The times that are read from a window, and the same counted from its start."""
        times = self.times[(self.times > 0) & ~self.is_early]
        times = times[self.model.rollout.window_of(times) == index]
        return times, self.model.rollout.local_times(times, index)

    def _errors(
        self, estimate: Estimate, frame: Frame | None, times: np.ndarray, local: np.ndarray, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(batch,) squares of the estimated error where it was asked for, and of u there.

        Where points were asked for, it is the larger one of the error there and on average.
        """
        offset = 0.0 if frame is None else frame.offset.square()
        if self.request.is_default:
            error, scale = estimate.squares()
            return error, scale + offset
        if not len(local):  # at t = 0 alone there is no error, relative to anything
            zero = torch.zeros_like(estimate.error.flatten(1)[:, 0])
            return zero, zero + float(not (self.times > 0).any())
        error = estimate.squares_at(local)
        scale = values[:, -len(local) :].flatten(2).square().mean(dim=2)
        if not self.request.has_own_points:
            return error.sum(dim=1), scale.sum(dim=1)
        readout = self.model.positions.readout(estimate.discretisation, local, self.request.points)
        shift = None if frame is None else frame.shift(self.model.positions.times(times))
        near, before = torch.zeros_like(error), estimate.error_before.double()
        for part in (estimate.error, estimate.unexplained):
            if part is not None:
                own = Field(part.double(), estimate.walls, before)
                near = near + readout(own, shift).flatten(2).square().mean(dim=2)
        return torch.maximum(error, near).sum(dim=1), scale.sum(dim=1)

    def _fields(self, window: Window, residual: Tensor, estimate: Estimate | None) -> dict[str, NodalField]:
        times, local = self._times_of(window.index)
        own, walls = self.model.constraint.discretisation, window.conditions.walls
        fields = {
            "u": (Field(window.u, walls, window.initial), own),
            "residual": (Field.correction(residual, walls), own),
        }
        if estimate is not None:
            error = Field(estimate.error, estimate.walls, estimate.error_before)
            fields["estimated_error"] = error, estimate.discretisation
        return {key: NodalField(*field, times, local, window.frame) for key, field in fields.items()}

    # ------------------------------------------------------------------ what eager mode makes of it

    def answer(self, u0: Tensor, c: dict[str, Any]) -> tuple[Tensor, Answer]:
        """Initial conditions (batch, *space) ↦ their solution (batch, time, *points), and all else of their answer."""
        model, request = self.model, self.request
        values, own = model.inward(u0), model.tensors(c)
        found = self.computed(values, own)
        is_polished = torch.zeros(len(values), dtype=torch.bool, device=model.device)
        if self.polish is not None:
            is_polished = self._polish(found, own)
        if self.is_early.any():
            self._add_early(found, values, own)
        order = np.argsort(np.argsort(request.times, kind="stable"))
        is_sorted = bool((np.diff(order) > 0).all())
        failure_time = None
        if self.num_windows > 1:
            failure_time = to_numpy(model.rollout.failure_time(found.status, found.mean_squares, self.num_windows))
        fields = found.fields  # all that is kept of the pass
        answer = Answer(
            None,
            to_numpy(found.coefficients),
            to_numpy(found.status),
            to_numpy(found.iterations),
            to_numpy(found.residual),
            to_numpy(found.residual_per_expert),
            to_numpy(found.estimated_error if self.has_estimate else torch.full_like(found.error, torch.nan)),
            to_numpy(found.unresolved),
            lambda key: self._read(fields.get(key, []), len(u0))[:, order],
            to_numpy(is_polished),
            failure_time,
        )
        return model.outward(found.u if is_sorted else found.u[:, order]), answer

    @torch.no_grad()
    def _read(self, fields: list[NodalField], batch: int) -> np.ndarray:
        """(batch, time, *points) a field at the request's points and times, increasing; at t = 0 as at its start.

        NaN where it was not computed.
        """
        shape = (batch, *self.request.shape)  # as callers see it
        result = np.full(shape, 0.0 if fields else np.nan)
        for own in fields:
            at = np.flatnonzero(np.isin(self.times, own.times))
            if len(at):
                result[:, at] = to_numpy(self.model.outward(self._at_points(own)))
        return result

    def _at_points(self, own: NodalField) -> Tensor:
        """(batch, time, *points) a field at the times that are read from it."""
        readout = self.model.positions.readout(own.discretisation, own.local, self.request.points)
        return readout(
            own.field.double(), None if own.frame is None else own.frame.shift(self.model.positions.times(own.times))
        )

    def _polish(self, found: Pass, c: Parameters) -> Tensor:
        """Goes on where solves failed or the estimated error is too large; keeps what got better."""
        model = self.model
        threshold = np.inf if model.trust.threshold is None else _WANTED * model.trust.threshold
        is_solved = is_converged(found.status).all(dim=1)
        is_good = is_solved & (found.estimated_error <= threshold) if self.has_estimate else is_solved
        times, local = self._times_of(0)
        if not len(times):  # nothing is read from these nodes
            is_good = is_solved
        # where the grid does not carry the initial condition, solving on it better does not help
        is_blind = is_solved & (found.unresolved > found.estimated_error)
        indices = (~is_good & ~is_blind).nonzero()[:, 0]
        is_polished = torch.zeros_like(is_good)
        if not len(indices):
            return is_polished
        solved, is_found, rows, estimate = self.polish.improve(model, indices, found, c)
        error, scale = self._errors(estimate, None, times, local, found.u[indices])
        is_better = is_found & (~is_solved[indices] | ~(error * found.scale[indices] > found.error[indices] * scale))
        size, by_expert = self._squares(solved.u, rows, model.constraint.partition(self.options["decomposition"]))
        kept = indices[is_better]
        changes = ((found.error, error), (found.scale, scale), (found.size, size), (found.by_expert, by_expert))
        for target, values in changes:
            target[kept] = values[is_better].to(target)
        status = found.status[kept]
        found.status[kept] = torch.where(is_converged(status), status, int(Status.POLISHED))
        residual = rows / model.constraint.residual_map.weights
        for key, values in (("u", solved.u), ("residual", residual), ("estimated_error", estimate.error)):
            if key not in found.fields:
                continue
            (own,) = found.fields[key]
            own.field.u[kept] = values[is_better]
        if len(times):
            (own,) = found.fields["u"]
            better = NodalField(solved.take(is_better), own.discretisation, times, local)
            at = torch.as_tensor(np.flatnonzero(np.isin(self.times, times)), device=kept.device)
            found.u[kept[:, None], at] = self._at_points(better)
        is_polished[kept] = True
        return is_polished

    def _add_early(self, found: Pass, u0: Tensor, c: Parameters) -> None:
        """Times before the first output time, from grids of their own."""
        model, early, request = self.model, self.polish.early, self.request
        times = self.times[self.is_early]
        coarse, initial = (model.at_nodes(u0, request.input_points, grid) for grid in early.grids)
        estimate, solved = early(coarse, initial, c)
        field = NodalField(solved, early.discretisation, times, times)
        values = self._at_points(field)
        at = torch.as_tensor(np.flatnonzero(self.is_early), device=u0.device)
        found.u[:, at] = values
        error, scale = self._errors(estimate, None, times, times, values)
        found.error = found.error + error
        found.scale = found.scale + scale
        found.fields["u"].append(field)
        parts = {"residual": torch.zeros_like(estimate.u), "estimated_error": estimate.error}
        for key, own in parts.items():
            if key not in found.fields:
                continue
            field = Field.correction(own, estimate.walls)
            found.fields[key].append(NodalField(field, early.discretisation, times, times))
