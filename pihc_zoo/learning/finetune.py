"""Fine-tuning a surrogate on your own data, on physics alone, or on both."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data import Trajectories, check_solutions, read_trajectories
from ..prediction.initial_values import check_values
from ..prediction.request import check_request
from ..progress import progress
from . import checkpoint
from .consistency import answer, contradiction
from .history import History, Measured, percent
from .interruption import uninterrupted
from .objective import relative_l2, residual_loss
from .step import cosine_rate, take_step

if TYPE_CHECKING:
    from ..surrogate import Surrogate

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 60.0
REVIEWS = 10  # comparisons on the held-out part


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of `finetune`, checked."""

    loss: str
    steps: int
    batch: int
    learning_rate: float
    clip: float
    validation: float
    seed: int

    def __post_init__(self):
        if self.loss not in ("data", "physics", "both"):
            raise ValueError(f"loss must be 'data', 'physics' or 'both', not {self.loss!r}")
        for name, least in (("steps", 1), ("batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if not isinstance(self.validation, int | float | np.number) or not 0 <= self.validation < 1:
            raise ValueError(f"validation must be in [0, 1), got {self.validation!r}")

    def split(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the held-out trajectories and of those to train on; at least one of each if any are held out."""
        if self.validation and count < 2:
            raise ValueError(
                "1 trajectory cannot be split into a training and a held-out part; give more, or choose validation=0 "
                "to judge by the training error"
            )
        order = np.random.default_rng(self.seed).permutation(count)
        num_held = min(max(1, round(self.validation * count)), count - 1) if self.validation else 0
        return order[:num_held], order[num_held:]


def finetune(
    model: Surrogate,
    data: str | os.PathLike | dict[str, Any] | Trajectories,
    output_dir: str | os.PathLike | None = None,
    *,
    loss: str = "both",
    steps: int = 300,
    batch: int = 8,
    learning_rate: float = 1e-4,
    clip: float = 1.0,
    validation: float = 0.2,
    seed: int = 0,
    quiet: bool = False,
) -> Surrogate:
    """Continues training on given initial conditions.

    The data loss is the mean relative L2 error against given solutions, with exact gradients
    through the solves (implicit function theorem); the physics loss needs initial conditions only.
    The best weights on the held-out part are kept, by the error against the solutions or, with the physics
    loss alone, by the estimated error; where no step is better these are the given ones. The given model is
    left as it is.

    With ``output_dir`` the state is saved there every minute and on an interrupt (Ctrl-C); the same call
    continues from it. A finished run is not repeated.

    Args:
        model: the surrogate to start from.
        data: an NPZ or HDF5 file, or a mapping, with keys u0 (batch, n), and optionally x, t, u
            (batch, time, n) and parameter_<name>.
        output_dir: where the tuned model folder is written, if given, with history.json.
        loss: "data", "physics" or "both" (data + 0.1 · physics).
        steps, batch, learning_rate, clip: of Adam on a cosine schedule.
        validation: held-out fraction of trajectories.
        seed: of the split and the batches.
        quiet: print neither progress nor errors before and after.

    Returns:
        a tuned copy; its attribute ``history`` is a `History`.

    Raises:
        ValueError: data or settings that do not fit, no solutions for a data loss, a folder that cannot be
            written or holds another model or run.

    Warns:
        RuntimeWarning: the data contradict the equation, and by how much.
    """
    settings = Settings(loss, steps, batch, learning_rate, clip, validation, seed)
    trajectories = _checked(model, data, loss)
    held, used = settings.split(len(trajectories.u0))
    folder, run = None, {}
    if output_dir is not None:
        run = {"model": _digest(model), "data": _digest(trajectories), "settings": dataclasses.asdict(settings)}
        folder = checkpoint.open_folder(Path(output_dir))
        if not (folder / CHECKPOINT).exists() and (folder / "config.json").exists():
            raise ValueError(f"{str(folder)!r} holds a model already; choose another output folder or delete it")
    distance = contradiction(model, trajectories, np.concatenate([held, used]))
    tuning = _Tuning(model, trajectories, settings, held, used, folder, run)
    tuning.history.contradiction = distance
    tuning.restore()
    tuned = tuning.advance(quiet)
    if folder is not None:
        tuned.save_pretrained(folder)
        tuned.history.save(folder)
    if not quiet:
        print(tuned.history.summary())
    return tuned


def _checked(model: Surrogate, data: Any, loss: str) -> Trajectories:
    """The trajectories, if this model can be tuned on them."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"expected a surrogate of pz.from_pretrained with the torch backend, got {type(model).__name__}"
        )
    if isinstance(data, Trajectories):
        check_solutions(data)
        trajectories = data
    else:
        trajectories = read_trajectories(data, model.problem)
    if loss != "physics" and trajectories.u is None:
        raise ValueError(f"loss {loss!r} needs solutions: add a key 'u' (batch, time, x), or choose loss='physics'")
    check_request(
        model.problem,
        model.parameter_inputs,
        trajectories.u0,
        x=trajectories.points,
        times=trajectories.t,
        parameters=trajectories.parameters,
        input_x=trajectories.points,
    )
    check_values(model.problem, trajectories.u0, on_failure="raise")
    check_solutions(trajectories)
    return trajectories


def _digest(part: Surrogate | Trajectories) -> str:
    """Of all numbers of a model or of data."""
    if isinstance(part, Trajectories):
        arrays = {"u0": part.u0, "t": part.t, **part.points, **part.parameters}
        arrays |= {} if part.u is None else {"u": part.u}
        text = ""
    else:
        arrays = {key: value.detach().cpu().numpy() for key, value in part.network.state_dict().items()}
        text = repr({key: value for key, value in part.config.items() if key != "weights_sha256"})
    digest = hashlib.sha256(text.encode())
    for key in sorted(arrays):
        digest.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
    return digest.hexdigest()


class _Tuning:
    """One run: its state, its reviews on the watched part, its checkpoints."""

    def __init__(self, model, data, settings, held, used, folder, run):
        self.given, self.data, self.settings, self.used = model, data, settings, used
        self.folder, self.run = folder, run
        self.watched = held if len(held) else used
        self.model = copy.deepcopy(model)
        self.network = self.model.network
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.done, self.best = 0, self._weights()
        criterion = "estimated_error" if settings.loss == "physics" else "error"
        part = "held-out" if len(held) else "training"
        before = self._measured()
        self.history = History(part, len(self.watched), criterion, before, before)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().clone() for key, value in self.network.state_dict().items()}

    def _measured(self) -> Measured:
        answers = answer(self.model, self.data, self.watched)
        return Measured.of(answers.error, answers.estimated_error)

    def restore(self) -> None:
        """Goes on from the folder's checkpoint, if there is one."""
        if self.folder is None or not (self.folder / CHECKPOINT).exists():
            return
        path = self.folder / CHECKPOINT
        self.done, self.best, notes = checkpoint.restore(path, self.network, self.optimiser, self.run, "fine-tuning")
        history = self.history
        history.steps, history.stopped = notes["steps"], notes["stopped"]
        history.is_improved, history.after = notes["is_improved"], Measured(**notes["after"])

    def save(self) -> None:
        """Writes the checkpoint."""
        if self.folder is not None:
            notes = dataclasses.asdict(self.history)
            checkpoint.save(
                self.folder / CHECKPOINT, self.network, self.optimiser, self.done, self.run, self.best, notes
            )

    def review(self) -> None:
        """Compares with the best weights so far, where that is due and was not done."""
        history, steps = self.history, self.settings.steps
        last = history.steps[-1]["step"] if history.steps else 0
        if self.done == last or (self.done % max(1, steps // REVIEWS) and self.done < steps):
            return
        now = self._measured()
        with uninterrupted():
            history.steps.append({"step": self.done, **dataclasses.asdict(now)})
            if now.is_better(history.after, history.criterion):
                history.after, history.is_improved, self.best = now, True, self._weights()

    def advance(self, quiet: bool) -> Surrogate:
        """Trains to the end; returns the model with the best weights."""
        settings, history = self.settings, self.history
        last_save = time.monotonic()
        remaining = range(self.done, 0 if history.stopped else settings.steps)
        bar = progress(remaining, "fine-tuning", start=self.done, total=settings.steps, quiet=quiet)
        first = percent(getattr(history.before, history.criterion), digits=3)
        try:
            self.review()
            for step in bar:
                rng = np.random.default_rng([settings.seed, step])
                rows = rng.choice(self.used, size=min(settings.batch, len(self.used)), replace=False)
                total = _loss(self.model, self.data, rows, settings.loss)
                rate = cosine_rate(settings.learning_rate, step, settings.steps)
                with uninterrupted():
                    take_step(total, self.optimiser, rate, settings.clip)
                    self.done = step + 1
                self.review()
                if history.steps and history.steps[-1]["step"] == self.done:
                    now = percent(history.steps[-1][history.criterion], digits=3)
                    bar.set_postfix_str(
                        f"{history.part} {history.criterion.replace('_', ' ')} {now} (at first {first})"
                    )
                if time.monotonic() - last_save > CHECKPOINT_SECONDS:
                    self.save()
                    last_save = time.monotonic()
        except FloatingPointError as error:
            history.stopped = f"stopped at step {self.done} of {settings.steps}: {error}"
        except KeyboardInterrupt as interrupt:
            self.save()
            kept = "its state is kept, the same call continues" if self.folder else "nothing is kept without output_dir"
            interrupt.add_note(f"fine-tuning was interrupted after {self.done} of {settings.steps} steps; {kept}")
            raise
        self.save()
        self.network.load_state_dict(self.best)
        self.model.history = history
        if history.is_improved:
            self.model.name = f"{self.given.name} (fine-tuned)" if self.given.name else ""
        return self.model


def _loss(model: Surrogate, data: Trajectories, rows: np.ndarray, kind: str) -> torch.Tensor:
    u0 = torch.as_tensor(data.u0[rows], device=model.device)
    c = model.tensors({key: value[rows] for key, value in data.parameters.items()})
    points = data.points
    times = np.asarray(data.t)
    gradient = "envelope" if kind == "physics" else "implicit"
    losses, fields = [], []
    last = None if kind == "physics" else model.rollout.count(times)
    for window in model.windows(model.at_nodes(u0, points), c, last, gradient=gradient):
        losses.append(residual_loss(window.field)[0])
        if kind != "physics":
            fields.append(model.read(window, times, points))
    physics = torch.stack(losses).mean()
    if data.u is None or kind == "physics":
        return physics
    truth = torch.as_tensor(data.u[rows][:, times > 0], device=model.device)
    error = relative_l2(torch.cat(fields, dim=1), truth).mean()
    error = error.clamp(min=torch.finfo(error.dtype).eps)  # exact data have no logarithm
    return error.log() if kind == "data" else error.log() + 0.1 * physics
