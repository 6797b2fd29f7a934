"""The roll-out: time windows, each starting from the end of the one before."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .ansatz import Conditions
from .basis import Basis
from .constraint import ConstrainedField, HardConstraint
from .discretisation import Field
from .lift_alone import constrained
from .parameters import Parameters
from .positions import Positions
from .status import Status, is_converged


@dataclasses.dataclass
class Frame:
    """A frame that moves, in which the problem is the same, see `Problem.moving_frame`.

    Attributes:
        velocity: (batch,) by axis name.
        offset: (batch,) what u is less in it.
    """

    velocity: dict[str, Tensor]
    offset: Tensor

    def like(self, field: Tensor) -> Tensor:
        """The offset, broadcasting against a field (batch, ...)."""
        return self.offset.to(field.dtype).reshape(-1, *[1] * (field.dim() - 1))

    def shift(self, times: Tensor) -> dict[str, Tensor]:
        """(batch, time) how far it has moved along each axis."""
        return {name: velocity[:, None] * times.to(self.offset) for name, velocity in self.velocity.items()}


@dataclasses.dataclass
class Window:
    """One time window of a roll-out.

    Attributes:
        index: from 0.
        initial: (batch, *space) state at its start, float64.
        conditions, field: of the constraint.
        u: (batch, time, *space) the field in float64.
        frame: the moving frame that all of these are given in, if any.
    """

    index: int
    initial: Tensor
    conditions: Conditions
    field: ConstrainedField
    u: Tensor
    frame: Frame | None = None


class Rollout:
    """The windows of a constraint whose time axis is a part of the problem's duration.

    Args:
        constraint: of one window.
        positions: reads its fields.

    Attributes:
        length: of one window.
        num_windows: in the duration.

    Raises:
        ValueError: the duration is no multiple of the constraint's time axis.
    """

    def __init__(self, constraint: HardConstraint, positions: Positions):
        self.constraint, self.positions, self.problem = constraint, positions, constraint.problem
        self.length = constraint.grid.time.stop
        windows = self.problem.span / self.length
        if abs(windows - round(windows)) > 1e-6 * windows:
            raise ValueError(
                f"the time axis of length {self.length:g} must divide the duration {self.problem.span:g} into "
                "equal windows"
            )
        self.num_windows = max(1, round(windows))

    def windows(
        self,
        basis: Callable[[Conditions], Basis],
        initial: Tensor,
        c: Parameters,
        num_windows: int,
        num_basis: int | None = None,
        **options: Any,
    ) -> Iterator[Window]:
        """One constrained field per time window, each starting from the last one's end.

        Args:
            basis: conditions ↦ basis functions, see `HardConstraint.basis`.
            initial: (batch, *space) initial values at the nodes.
            c: parameters, tensors of shape () or (batch,).
            num_windows: how many.
            num_basis: how many functions ``basis`` gives, if that is known, see `lift_alone`.
            options: decomposition, solver, gradient of `HardConstraint`.
        """
        state, moving = initial.double(), self.problem.moving_frame(initial.double())
        frame = None if moving is None else Frame(*moving)
        if frame is not None:
            state = state - frame.like(state)
        mean = state.flatten(1).mean(dim=1)[:, None]
        conditions = None
        for k in range(num_windows):
            conditions = self.constraint.conditions(state, c, k * self.length, conditions)
            field = constrained(self.constraint, basis, conditions, num_basis, **options)
            u = field.u.double()
            if self.problem.conserves_mean:  # float32 rounds it
                excess = u.flatten(2).mean(dim=2) - mean
                u = u - excess.reshape(*excess.shape, *[1] * (u.dim() - 2))
            yield Window(k, state, conditions, field, u, frame)
            state = u[:, -1]

    def count(self, times: np.ndarray) -> int:
        """How many windows it takes to reach all of ``times``."""
        return int(self.window_of(times).max()) + 1

    def window_of(self, times: np.ndarray) -> np.ndarray:
        """Indices of the windows in which times lie; a window holds its end, not its start."""
        return np.maximum(np.ceil(times / self.length - 1e-9).astype(int) - 1, 0)

    def local_times(self, times: np.ndarray, index: int) -> np.ndarray:
        """The times of a window, counted from its start."""
        return np.minimum(times[self.window_of(times) == index] - index * self.length, self.length)

    def read(self, window: Window, times: np.ndarray, points: dict[str, np.ndarray]) -> Tensor:
        """(batch, time, *points) values at those of ``times`` > 0 that lie in the window."""
        times = times[times > 0]
        local, times = self.local_times(times, window.index), times[self.window_of(times) == window.index]
        if not len(local):
            fields = window.u.shape[2 : window.u.dim() - len(points)]
            return window.u.new_zeros(window.u.shape[0], 0, *fields, *(len(part) for part in points.values()))
        readout = self.positions.readout(self.constraint.discretisation, local, points)
        field = Field(window.u, window.conditions.walls, window.initial)
        if window.frame is None:
            return readout(field)
        values = readout(field, window.frame.shift(self.positions.times(times)))
        return values + window.frame.like(values)

    def solution(self, windows: Iterable[Window], times: np.ndarray, points: dict[str, np.ndarray]) -> Tensor:
        """(batch, time, *points) at increasing ``times`` > 0, which the windows reach; warns of failed solves."""
        fields, status = [], []
        for window in windows:
            fields.append(self.read(window, times, points))
            status.append(window.field.solution.status)
        _warn_of_failures(torch.cat(status))
        return torch.cat(fields, dim=1)

    def failure_time(self, status: Tensor, mean_squares: Tensor, num_windows: int) -> Tensor:
        """(batch,) start of the first window whose solve failed or whose field left the range of states; NaN."""
        bound = max(abs(value) for value in self.problem.state_range)
        is_bad = (~is_converged(status.reshape(len(status), num_windows, -1))).any(dim=2)
        is_bad = is_bad | ~(mean_squares < bound**2)
        first = is_bad.double().argmax(dim=1) * self.length
        return torch.where(is_bad.any(dim=1), first, torch.nan)


def _warn_of_failures(status: Tensor) -> None:
    """One warning if solves did not converge; where none was asked for there is none to converge."""
    is_failed = ~is_converged(status) & (status != int(Status.NOT_SOLVED))
    failed = status[is_failed].tolist()
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(status)} solves did not converge ({Status(failed[0]).message}); predict says "
            "which trajectories they belong to and leaves them out",
            RuntimeWarning,
            stacklevel=8,  # of who calls the model
        )
