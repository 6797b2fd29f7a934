"""The training loop: data-free, resumable, logged, on one process or many."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import torch

from pihc_zoo.evaluation import ReferenceSet
from pihc_zoo.learning.draws import Purpose
from pihc_zoo.learning.interruption import Signals
from pihc_zoo.learning.loss import residual_sum
from pihc_zoo.learning.step import check_finite, cosine_rate
from pihc_zoo.progress import progress
from pihc_zoo.surrogate import Surrogate

from .log import Log
from .profile import Profile
from .recipe import Recipe
from .run import INTERRUPTS, LEFT_OUT, SAVES, TERMINATIONS, TOTAL, USED, Run, prepare

CHECKPOINT_SECONDS = 60.0
_CALIBRATED = 64  # places at most that a network sees before its first step


def train(
    recipe: Recipe, output: Path, references: ReferenceSet | None, device: str = "cpu", quiet: bool = False
) -> Surrogate:
    """Trains ``recipe`` into ``output``, continuing from a checkpoint there if there is one; see `advance`."""
    return advance(prepare(recipe, output, device), references, quiet)


def advance(
    run: Run,
    references: Any = None,
    quiet: bool = False,
    save_every: float | None = None,
    log: Log | None = None,
    profile: Profile | None = None,
) -> Surrogate:
    """Trains to the end.

    Every random number of a step is a function of (seed, step, place in the batch), so that a resumed run equals an
    unbroken one, and one of several processes that of one. An interrupt saves a checkpoint before it passes. Writes
    metrics.jsonl, a line per validation and every ``log_every`` steps: step, loss, unsolved subproblems, seconds and,
    with references, the mean and maximal relative error. On a GPU the host waits for the device at these lines only.

    Args:
        references: with a method ``errors``, see `references.ReferenceSet`.
        save_every: seconds between checkpoints.
    """
    loop = _Loop(run, references, quiet, CHECKPOINT_SECONDS if save_every is None else save_every, log)
    with Signals() as signals, profile or nullcontext():
        run.processes.signals = signals
        try:
            return loop.advance(signals, profile)
        except KeyboardInterrupt:
            if run.processes.world == 1:
                loop.save()
            raise
        finally:
            run.processes.signals = None


class _Loop:
    def __init__(self, run: Run, references: Any, quiet: bool, save_every: float, log: Log | None):
        self.run, self.references, self.save_every = run, references, save_every
        self.quiet = quiet or not run.processes.is_first
        self.log = log or Log(run.output)
        self.begin = self.last_save = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.run.seconds + time.monotonic() - self.begin

    def save(self) -> None:
        self.run.save(self.seconds)
        self.last_save = time.monotonic()

    def advance(self, signals: Signals, profile: Profile | None) -> Surrogate:
        run, settings = self.run, self.run.recipe.training
        steps = range(run.done, settings.steps)
        self.bar = progress(steps, run.recipe.name, start=run.done, total=settings.steps, quiet=self.quiet)
        if run.done == 0:
            _calibrate(run)
        self.report(signals)  # where the run was interrupted in the middle of it
        for step in self.bar:
            rate = cosine_rate(settings.learning_rate, step, settings.steps, settings.warmup)
            states = _add_up(run, step, signals, time.monotonic() - self.last_save > self.save_every)
            seen = take_step(run, step, rate, self.is_looked_at(step + 1))
            if run.pool is not None:
                run.pool.put(step, states)
            run.done = step + 1
            if profile is not None:
                profile.step()
            self.report(signals)
            if run.processes.world == 1 and signals.has_come:
                signals.raise_first()
            if seen is not None and any(seen):
                self.save()
                if seen[0] or seen[1]:
                    signals.came[:0] = [SIGTERM if seen[1] else SIGINT]
                    signals.raise_first()
        with run.averaged():
            weights = {key: value.detach().clone() for key, value in run.model.network.state_dict().items()}
        run.model.network.load_state_dict(weights)
        self.log.close()
        return run.model.eval()

    def is_looked_at(self, done: int) -> bool:
        """Whether the host waits for the device after so many steps: on a CPU it always does."""
        settings = self.run.recipe.training
        is_due = done % settings.log_every == 0 or done % settings.validate_every == 0 or done == settings.steps
        return is_due or not self.run.sums.is_cuda

    def report(self, signals: Signals) -> None:
        """Adds a line to the log where one is due; before a validation, which may take long, the state is saved."""
        run, settings = self.run, self.run.recipe.training
        is_validated = run.done % settings.validate_every == 0 or run.done == settings.steps
        if not is_validated and run.done % settings.log_every:
            return
        loss, steps, unsolved, _ = run.sums.tolist()
        if not steps:
            return
        record = {"step": run.done, "loss": loss / steps, "unsolved": int(unsolved), "seconds": self.seconds}
        text = f"loss {record['loss']:.4g}"
        if is_validated:
            self.save()
            if self.references is not None:
                with run.averaged(), signals.raising() if run.processes.world == 1 else nullcontext():
                    errors = self.references.errors(run.model)
                record |= {"error_mean": float(errors.mean()), "error_max": float(errors.max())}
                text += f", error {100 * errors.mean():.4f} % (max {100 * errors.max():.4f})"
            record["seconds"] = self.seconds
        rate = cosine_rate(settings.learning_rate, run.done - 1, settings.steps, settings.warmup)
        run.processes.first(lambda: self.log.add(record, rate))
        run.sums.zero_()
        self.bar.set_postfix_str(text)


def _add_up(run: Run, step: int, signals: Signals, is_save_due: bool) -> torch.Tensor | None:
    """Gradients and sums of a step over the own places; returns the end states of a roll-out's windows."""
    model, gradient, settings = run.model, run.gradient, run.recipe.training
    gradient.zero()
    u0, parameters = run.source(step, run.places) if run.pool is None else run.pool.take(step)
    ends = []
    with run.shared():
        for part in run.parts:
            c = model.tensors({key: value[part] for key, value in parameters.items()})
            field = model.constrained(u0[part], c, gradient="envelope", stride=1)
            total, *counts = residual_sum(field, settings.loss)
            total.backward()
            if run.processes.expert_index == 0:  # who shares a batch knows all of its costs
                for index, value in zip((TOTAL, USED, LEFT_OUT), (total, *counts), strict=True):
                    gradient.sums[index] += value.detach()
            ends.append(field.u[:, -1].detach())
    gradient.sums[INTERRUPTS] = float(SIGINT in signals.came)
    gradient.sums[TERMINATIONS] = float(SIGTERM in signals.came)
    gradient.sums[SAVES] = float(is_save_due and run.processes.is_first)
    return None if run.pool is None else torch.cat(ends)


@torch.no_grad()
def take_step(run: Run, step: int, rate: float, is_looked_at: bool) -> list[bool] | None:
    """Adds up over all processes, and updates the weights; each process does the same with the same numbers.

    Returns:
        where it is looked at: whether any process was interrupted, whether any was to end, and whether to save.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; on a CPU weights are unchanged.
    """
    gradient, settings = run.gradient, run.recipe.training
    run.processes.reduce(gradient.buffer)
    used = gradient.sums[USED].clamp(min=1)
    gradient.values.div_(used)
    loss = gradient.sums[TOTAL].double() / used
    norm = gradient.clip(settings.clip).double()
    run.sums += torch.stack([loss, torch.ones_like(loss), gradient.sums[LEFT_OUT].double(), norm])
    seen = None
    if is_looked_at:
        values = torch.cat([loss[None], norm[None], run.sums[[0, 3]], gradient.sums[INTERRUPTS:].double()])
        *numbers, interrupts, terminations, saves = run.processes.look(values)
        check_finite(numbers, step)
        seen = [interrupts > 0, terminations > 0, saves > 0]
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    run.optimiser.step()
    if run.average:
        decay = min(settings.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(run.average.values()), list(run.model.network.parameters()), 1 - decay)
    return seen


@torch.no_grad()
def _calibrate(run: Run) -> None:
    """Lets a network that normalises its inputs see some, from all windows of the untrained roll-out."""
    model = run.model
    if hasattr(model.network, "calibrate"):
        places = torch.arange(min(run.recipe.training.batch, _CALIBRATED), device=model.device)
        u0, parameters = run.source(0, places, Purpose.CALIBRATION)
        inputs = []
        for window in model.windows(u0, model.tensors(parameters)):
            inputs.append(model.constraint.inputs(window.conditions))
        model.network.calibrate(torch.cat(inputs).to(model.dtype))
        run.processes.broadcast(list(model.network.state_dict().values()))
