"""What a fine-tuning lowers: the equation's residual on the user's family, and the distance from given solutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data import Trajectories
from .draws import KeyedDraws, Purpose
from .loss import residual_sum
from .replay import ReplayPool
from .targets import READ, Targets

if TYPE_CHECKING:
    from ..surrogate import Surrogate
    from .distributed import Processes
    from .settings import Settings

PHYSICS = 0.1  # weight beside the data
MIXED = 0.7  # share of the initial conditions for physics that are mixtures of two
POOL, RESTART = 64, 0.05  # trajectories of a roll-out's replay pool; probability of a new beginning
_QUIET = 1e-3  # relative noise of data up to which their states may start a window


@dataclass
class Mixtures:
    """A `draws.Source` of a user's fields and mixtures of two of them.

    Attributes:
        draw: count, rng ↦ initial values at the nodes and parameters (count,).
        seed: of the run.
    """

    draw: Callable[[int, np.random.Generator], tuple[Tensor, dict[str, np.ndarray]]]
    seed: int

    def draws(self, step: int, places: Tensor, purpose: Purpose) -> KeyedDraws:
        """Random numbers for some places (count,) of a step."""
        return KeyedDraws(self.seed, step, places, purpose)

    def __call__(self, step: int, places: Tensor, purpose: Purpose = Purpose.BATCH) -> tuple[Tensor, dict[str, Tensor]]:
        """(count, *space) initial values and (count,) parameters."""
        state, parameters = self.draw(len(places), np.random.default_rng([self.seed, step, int(purpose)]))
        return state, {key: torch.as_tensor(value, device=state.device) for key, value in parameters.items()}


class Physics:
    """The data-free loss on initial conditions of the user's family and mixtures of two of them.

    A few fields alone are learnt by heart; mixtures with random weights in between, of parameters as well, are as
    good as data here, since no solutions are needed. Roll-outs are trained on single windows from a pool of the
    model's own end states, as in training. Several processes share a step's batch; each holds the whole pool.

    Args:
        data: whose trajectories ``rows`` are used.
        batch: trajectories a step.
    """

    def __init__(
        self, model: Surrogate, data: Trajectories, rows: np.ndarray, seed: int, batch: int, processes: Processes
    ):
        self.model, self.data, self.rows, self.processes = model, data, rows, processes
        self.pool: ReplayPool | None = None
        self.ends: Tensor | None = None
        if model.num_windows > 1:
            bound = max(abs(value) for value in model.problem.state_range)
            places = torch.arange(min(batch, POOL), device=model.device)
            source = Mixtures(self.draw, seed)
            self.pool = ReplayPool(source, places, len(places), POOL, model.num_windows, bound, RESTART)

    def draw(
        self, count: int, rng: np.random.Generator, picked: slice = slice(None)
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        """Initial values at the nodes (count, [field], *space), in the moving frame if there is one; parameters.

        Args:
            picked: which of ``count`` draws are returned.
        """
        one, two = rng.choice(self.rows, count)[picked], rng.choice(self.rows, count)[picked]
        share = np.where(rng.uniform(size=count) < MIXED, rng.uniform(size=count), 0.0)[picked]
        u0 = self.data.u0
        along = share.reshape(-1, *[1] * (u0.ndim - 1))
        mixed = torch.as_tensor((1 - along) * u0[one] + along * u0[two], device=self.model.device)
        parameters, declared = {}, self.model.problem.parameters | self.model.problem.coefficients
        for key, value in self.data.parameters.items():
            own = share.reshape(-1, *[1] * (value.ndim - 1))
            if declared[key].is_logarithmic:
                parameters[key] = np.exp((1 - own) * np.log(value[one]) + own * np.log(value[two]))
            else:
                parameters[key] = (1 - own) * value[one] + own * value[two]
        state = self.model.at_nodes(self.model.inward(mixed), self.data.points)
        moving = self.model.problem.moving_frame(state)
        if moving is not None:
            state = state - moving[1].reshape(-1, *[1] * (state.dim() - 1))
        return state, parameters

    def loss(self, batch: int, rng: np.random.Generator, step: int) -> Tensor:
        """Mean norm of the residual's rows of a batch, or of its logarithm where there is one window."""
        model, own, kind = self.model, self.processes.share(batch), "log"
        if self.pool is None:
            state, parameters = self.draw(batch, rng, own)
        else:
            states, values = self.pool.take(step)
            self.ends, kind = torch.zeros_like(states), "mean"
            own = self.processes.share(len(states))
            state, parameters = states[own], {key: value[own] for key, value in values.items()}
        total = used = torch.zeros((), dtype=torch.float64, device=model.device)
        if len(state):
            field = model.constrained(state, model.tensors(parameters), gradient="envelope", stride=1)
            total, used, _ = residual_sum(field, kind)
            if self.ends is not None:
                self.ends[own] = field.u[:, -1].detach().to(self.ends)
        mean = _mean(self.processes, total, used)
        return mean if self.pool is None else mean.log()

    def commit(self, step: int) -> None:
        """Puts the end states of the last loss into the pool, when its step was taken."""
        if self.pool is not None and self.ends is not None:
            self.processes.reduce(self.ends)
            self.pool.put(step, self.ends)
            self.ends = None


class Data:
    """The mean relative L2 distance from given solutions, with exact gradients through the solves.

    Of a roll-out of which whole fields are known, some time is drawn, and the windows from there to the next known
    time or a whole window; scattered or noisy solutions are compared along the whole roll-out.
    """

    def __init__(self, model: Surrogate, data: Trajectories, rows: np.ndarray, noise: float, processes: Processes):
        self.model, self.data, self.rows, self.processes = model, data, rows, processes
        t = data.t
        self.starts = np.array([0])
        if data.u is not None and model.num_windows > 1 and noise <= _QUIET:
            self.starts = np.arange(len(t) - 1) if len(t) > 1 and t[0] == 0 else np.array([0])

    def loss(self, batch: int, rng: np.random.Generator) -> Tensor:
        """The logarithm of the mean distance of a batch."""
        rows = rng.choice(self.rows, size=min(batch, len(self.rows)), replace=False)
        start = int(rng.choice(self.starts))
        errors = self._errors(rows[self.processes.share(len(rows))], start)
        mean = _mean(self.processes, errors.sum(), torch.tensor(len(errors)))
        return mean.clamp(min=torch.finfo(mean.dtype).eps).log()  # exact data have no logarithm

    def _errors(self, rows: np.ndarray, start: int) -> Tensor:
        """Distances of the trajectories ``rows`` that have an answer."""
        if not len(rows):
            return torch.zeros(0, dtype=torch.float64, device=self.model.device)
        errors = self._from(rows, start) if len(self.starts) > 1 else self._whole(rows)
        is_answered = errors.detach().isfinite().cpu().numpy()
        return errors if is_answered.all() else self._errors(rows[is_answered], start)

    def _whole(self, rows: np.ndarray) -> Tensor:
        model, data, targets = self.model, self.data, Targets(self.data, rows, READ)
        u0 = model.inward(torch.as_tensor(data.u0[rows], device=model.device))
        last = max(model.rollout.count(grid.times) for grid in targets.grids)
        parts: list[list[Tensor]] = [[] for _ in targets.grids]
        for window in model.windows(model.at_nodes(u0, data.points), model.tensors(data.own(rows)), last):
            for part, grid in zip(parts, targets.grids, strict=True):
                if (model.rollout.window_of(grid.times) == window.index).any():
                    part.append(model.read(window, grid.times, grid.points))
        return targets.error(targets.values([model.outward(torch.cat(part, dim=1)) for part in parts]))

    def _from(self, rows: np.ndarray, start: int) -> Tensor:
        model, data = self.model, self.data
        times = data.t[start + 1 :] - data.t[start]
        times = times[: max(1, int((times <= model.rollout.length * (1 + 1e-9)).sum()))]
        state = data.u0 if start == 0 else data.u[:, start]
        initial = model.at_nodes(model.inward(torch.as_tensor(state[rows], device=model.device)), data.points)
        windows = model.windows(initial, model.tensors(data.own(rows)), model.rollout.count(times))
        u = model.outward(torch.cat([model.read(own, times, data.points) for own in windows], dim=1))
        truth = torch.as_tensor(data.u[rows][:, start + 1 : start + 1 + len(times)], device=model.device)
        return (u - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def _mean(processes: Processes, total: Tensor, used: Tensor) -> Tensor:
    """Of all processes' trajectories that have an answer.

    Raises:
        FloatingPointError: none has one.
    """
    used = processes.total(used.to(total))
    if not float(used):
        raise FloatingPointError(
            "no trajectory of the batch has an answer: a finer grid, or more time steps of the lift where the ansatz "
            "has steps, may help (overrides)"
        )
    return processes.total(total) / used


class Loss:
    """The loss that is asked for: data, physics, or data + 0.1 · physics."""

    def __init__(
        self,
        model: Surrogate,
        data: Trajectories,
        rows: np.ndarray,
        noise: float,
        settings: Settings,
        processes: Processes,
    ):
        self.batch, kind = settings.batch, settings.loss
        own = model, data, rows
        self.physics = None if kind == "data" else Physics(*own, settings.seed, settings.batch, processes)
        self.data = None if kind == "physics" else Data(*own, noise, processes)

    def __call__(self, rng: np.random.Generator, step: int) -> Tensor:
        """Of a batch."""
        parts = []
        if self.data is not None:
            parts.append(self.data.loss(self.batch, rng))
        if self.physics is not None:
            parts.append(self.physics.loss(self.batch, rng, step) * (1.0 if self.data is None else PHYSICS))
        return torch.stack(parts).sum()

    def commit(self, step: int) -> None:
        """After the step of the last loss."""
        if self.physics is not None:
            self.physics.commit(step)

    @property
    def pool(self) -> ReplayPool | None:
        """The replay pool of a roll-out, which belongs to a run's state."""
        return None if self.physics is None else self.physics.pool
