"""The loop of a fine-tuning: steps, reviews on the watched part, the best state, checkpoints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data import Trajectories
from ..progress import progress
from ..text import percent
from . import checkpoint
from .consistency import answer
from .history import History, Measured
from .interruption import uninterrupted
from .settings import Settings
from .start import head_of
from .step import cosine_rate, take_step
from .tuning_loss import Loss

if TYPE_CHECKING:
    from ..surrogate import Surrogate

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 60.0
REVIEWS = 10  # comparisons on the watched part
_BEST, _POOL = "best.", "pool."
_WARMUP = 10  # steps over which the learning rate rises


class Tuning:
    """One run.

    Step k draws its batch from the seed pair (seed, k), so that a resumed run equals an unbroken one.

    Args:
        model: is tuned in place; at the end it has the best weights.
        data: trajectories; ``used`` of them are trained on, ``watched`` of them judge.
        settings: of the run.
        history: with the errors before and, in ``start``, of this model.
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
        folder: Path | None = None,
        run: dict[str, Any] | None = None,
    ):
        self.model, self.data, self.settings, self.watched = model, data, settings, watched
        self.history, self.folder, self.run = history, folder, run or {}
        self.loss = Loss(settings.loss, model, data, used, history.noise, settings.seed, settings.batch)
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
        if self.path is None or not self.path.exists():
            return
        network = self.model.network
        done, extra, notes = checkpoint.restore(self.path, network, self.optimiser, self.run, "fine-tuning")
        self.done, self.seconds, self.is_finished = done, notes["seconds"], notes["is_finished"]
        self.best = {key.removeprefix(_BEST): value for key, value in extra.items() if key.startswith(_BEST)}
        pool = {key.removeprefix(_POOL): value for key, value in extra.items() if key.startswith(_POOL)}
        if self.loss.pool is not None and pool:
            self.loss.pool.restore(pool)
        self.history = History.from_dict(notes["history"])

    def save(self) -> None:
        """Writes the checkpoint."""
        if self.path is None:
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
                with uninterrupted():
                    take_step(total_loss, self.optimiser, rate, settings.clip)
                    self.loss.commit(step)
                    self.done, self.seconds = step + 1, before + time.monotonic() - begin
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
        self.model.network.load_state_dict(self.best)
        self.model.network.requires_grad_(True)
        return history

    def _review(self, fraction: float) -> bool:
        """Compares with the best weights so far, where that is due and was not done; whether it was."""
        history = self.history
        last = history.steps[-1] if history.steps else {"step": 0, "fraction": 0.0}
        is_due = int(REVIEWS * fraction + 1e-9) > int(REVIEWS * last["fraction"] + 1e-9)
        if self.done == last["step"] or not is_due:
            return False
        answers = answer(self.model, self.data, self.watched)
        now = Measured.of(answers.error, answers.estimated_error)
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
