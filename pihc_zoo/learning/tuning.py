"""The loop of a fine-tuning: steps, reviews on the watched part, best state, checkpoints; on one process or many."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data import Trajectories
from ..progress import progress
from ..text import percent
from . import checkpoint
from .consistency import answer
from .history import History, Measured
from .interruption import Signals, uninterrupted
from .settings import Settings
from .start import head_of
from .step import cosine_rate, take_step
from .tuning_loss import Loss

if TYPE_CHECKING:
    from ..surrogate import Surrogate
    from .distributed import Processes

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 60.0
REVIEWS = 10  # comparisons on the watched part
_BEST, _POOL = "best.", "pool."
_WARMUP = 10  # steps over which the learning rate rises


class Tuning:
    """One run.

    Step k draws its batch from the seed pair (seed, k), so that a resumed run equals an unbroken one. Several
    processes share its trajectories and hold the same state otherwise.

    Args:
        model: is tuned in place; at the end it has the best weights.
        data: trajectories; ``used`` of them are trained on, ``watched`` of them judge.
        settings: of the run.
        history: with the errors before and, in ``start``, of this model.
        processes: that tune together.
        folder: of the checkpoint, None for none; ``run`` is all that determines the run.
    """

    def __init__(
        self,
        model: Surrogate,
        data: Trajectories,
        settings: Settings,
        used: np.ndarray,
        watched: np.ndarray,
        history: History,
        processes: Processes,
        folder: Path | None = None,
        run: dict[str, Any] | None = None,
    ):
        self.model, self.data, self.settings, self.watched = model, data, settings, watched
        self.history, self.folder, self.run, self.processes = history, folder, run or {}, processes
        self.loss = Loss(model, data, used, history.noise, settings, processes)
        parameters = list(model.network.parameters()) if settings.weights == "all" else head_of(model.network)
        chosen = {id(parameter) for parameter in parameters}
        for parameter in model.network.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        self.optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
        self.done, self.seconds, self.best = 0, 0.0, self._weights()
        self.is_finished = False

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().clone() for key, value in self.model.network.state_dict().items()}

    # ------------------------------------------------------------------ state

    @property
    def path(self) -> Path | None:
        """Of the checkpoint."""
        return None if self.folder is None else self.folder / CHECKPOINT

    def restore(self) -> None:
        """Goes on from the folder's checkpoint, if there is one.

        Raises:
            ValueError: it is damaged, or of another run.
        """
        path, extra = self.path, {}

        def read() -> dict[str, Any] | None:
            if path is None or not path.exists():
                return None
            done, tensors, notes = checkpoint.restore(path, self.model.network, self.optimiser, self.run, "fine-tuning")
            extra.update(tensors)
            return {**notes, "done": done}

        notes = self.processes.first(read)
        if notes is None:
            return
        self.done, self.seconds, self.is_finished = notes["done"], notes["seconds"], notes["is_finished"]
        best = {key.removeprefix(_BEST): value for key, value in extra.items() if key.startswith(_BEST)}
        pool = {key.removeprefix(_POOL): value for key, value in extra.items() if key.startswith(_POOL)}
        self.best = {key: best.get(key, own) for key, own in self.best.items()}
        if self.loss.pool is not None and pool:
            self.loss.pool.restore(pool)
        self.history = History.from_dict(notes["history"])
        self._tell()

    @torch.no_grad()
    def _tell(self) -> None:
        """Tells all processes what the first has restored."""
        state = [*self.model.network.state_dict().values(), *self.best.values()]
        for group in self.optimiser.param_groups if self.processes.world > 1 else ():
            for parameter in group["params"]:
                own = self.optimiser.state[parameter]
                if not own:
                    blank = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                    own.update({"step": torch.zeros(()), **blank})
                state += [own[key] for key in ("step", "exp_avg", "exp_avg_sq")]
        if self.loss.pool is not None:
            state += self.loss.pool.tensors().values()
        self.processes.broadcast(state)

    def save(self) -> None:
        """Writes the checkpoint, on the first process."""
        if self.path is None or not self.processes.is_first:
            return
        extra = {f"{_BEST}{key}": value for key, value in self.best.items()}
        if self.loss.pool is not None:
            extra |= {f"{_POOL}{key}": value for key, value in self.loss.pool.tensors().items()}
        notes = {"history": self.history.to_dict(), "seconds": self.seconds, "is_finished": self.is_finished}
        checkpoint.save(self.path, self.model.network, self.optimiser, self.done, self.run, extra, notes)

    # ------------------------------------------------------------------ the loop

    def advance(self, quiet: bool = False) -> History:
        """Tunes to the end, until nothing has been gained for a while, or until the time is up.

        An interrupt saves the state before it passes.
        """
        with Signals() if self.processes.world > 1 else nullcontext() as signals:
            self.processes.signals = signals
            try:
                return self._advance(quiet or not self.processes.is_first, signals)
            finally:
                self.processes.signals = None

    def _advance(self, quiet: bool, signals: Signals | None) -> History:
        settings, history = self.settings, self.history
        begin, before = time.monotonic(), self.seconds
        last_save = begin
        total = settings.steps
        remaining = range(self.done, self.done if history.stopped or self.is_finished else total)
        bar = progress(remaining, "fine-tuning", start=self.done, total=total, quiet=quiet)
        first = percent(getattr(history.before, history.criterion), digits=3)

        def fraction() -> float:
            spent = 0.0 if settings.minutes is None else self.seconds / (60 * settings.minutes)
            return max(self.done / total, spent)

        try:
            self._review(fraction())  # where the run was interrupted in the middle of it
            for step in bar:
                rng = np.random.default_rng([settings.seed, step])
                total_loss = self.loss(rng, step)
                warm = min(1.0, (step + 1) / (_WARMUP + 1))
                rate = warm * cosine_rate(settings.learning_rate, fraction(), 1)
                with uninterrupted() if signals is None else nullcontext():
                    take_step(total_loss, self.optimiser, rate, settings.clip, self.processes)
                    self.loss.commit(step)
                    self.done = step + 1
                    self.seconds = before + time.monotonic() - begin
                if signals is not None:
                    self._agree(signals)
                if self._review(fraction()):
                    now = percent(history.steps[-1][history.criterion], digits=3)
                    bar.set_postfix_str(f"{history.part} {history.kind} {now} (at first {first})")
                if self._is_over(fraction()):
                    break
                if time.monotonic() - last_save > CHECKPOINT_SECONDS:
                    self.save()
                    last_save = time.monotonic()
        except FloatingPointError as error:
            history.stopped = f"stopped at step {self.done} of {total}: {error}"
        except KeyboardInterrupt as interrupt:
            self.save()
            kept = "its state is kept, the same call continues" if self.folder else "nothing is kept without output_dir"
            interrupt.add_note(f"fine-tuning was interrupted after {self.done} of {total} steps; {kept}")
            raise
        history.seconds = self.seconds
        self.save()
        self.restore_best()
        return history

    def restore_best(self) -> None:
        """Gives the model the best weights."""
        self.model.network.load_state_dict(self.best)
        self.model.network.requires_grad_(True)

    def _agree(self, signals: Signals) -> None:
        """The first process' seconds are everybody's, and so is an interrupt of any of them."""
        numbers = [self.seconds * self.processes.is_first, *(float(kind in signals.came) for kind in (SIGINT, SIGTERM))]
        words = torch.tensor(numbers, dtype=torch.float64, device=self.model.device)
        self.processes.reduce(words)
        self.seconds, interrupts, terminations = self.processes.look(words)
        if interrupts or terminations:
            signals.came[:0] = [SIGTERM if terminations else SIGINT]
            signals.raise_first()

    def _measured(self) -> Measured:
        """Errors on the watched part, of which each process answers its share."""
        own = self.processes.share(len(self.watched))
        found = torch.zeros(2, len(self.watched), dtype=torch.float64)
        if own.stop > own.start:
            answers = answer(self.model, self.data, self.watched[own])
            found[1, own] = torch.as_tensor(answers.estimated_error)
            if self.data.has_solutions:
                found[0, own] = torch.as_tensor(answers.error)
        found = found.to(self.model.device)
        self.processes.reduce(found)
        error, estimate = found.cpu().numpy()
        return Measured.of(error if self.data.has_solutions else error[:0], estimate)

    def _review(self, fraction: float) -> bool:
        """Compares with the best weights so far, where that is due and was not done; whether it was."""
        history = self.history
        last = history.steps[-1] if history.steps else {"step": 0, "fraction": 0.0}
        is_due = int(REVIEWS * fraction + 1e-9) > int(REVIEWS * last["fraction"] + 1e-9)
        if self.done == last["step"] or not is_due:
            return False
        now = self._measured()
        row = {"step": self.done, "fraction": fraction, "error": now.error, "error_max": now.error_max}
        row |= {"estimated_error": now.estimated_error, "failed": now.failed}
        with uninterrupted():
            history.steps.append(row)
            if now.is_better(history.after, history.criterion):
                history.after, history.is_improved, self.best = now, True, self._weights()
        return True

    def _is_over(self, fraction: float) -> bool:
        """Whether to stop before the last step; says why in the history."""
        settings, history = self.settings, self.history
        if self.done == settings.steps:
            return False
        best = history.best_review
        if len(history.steps) - best >= settings.patience:
            history.stopped = (
                f"stopped at step {self.done} of {settings.steps}: nothing was gained in {len(history.steps) - best} "
                "reviews"
            )
        elif fraction >= 1:
            history.stopped = (
                f"stopped at step {self.done} of {settings.steps}: the {settings.minutes:g} minutes are over"
            )
        return bool(history.stopped)
