"""The training loop: data-free, resumable, logged."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pihc_zoo.evaluation import ReferenceSet
from pihc_zoo.families import sample_parameters
from pihc_zoo.files import atomic_path
from pihc_zoo.learning import checkpoint
from pihc_zoo.learning.interruption import uninterrupted
from pihc_zoo.learning.objective import residual_loss
from pihc_zoo.learning.replay import Draw, ReplayPool
from pihc_zoo.learning.step import cosine_rate, take_step
from pihc_zoo.progress import progress
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.folder import CONFIG_FILE

from .recipe import Recipe

CHECKPOINT, LOG = "checkpoint.safetensors", "metrics.jsonl"
CHECKPOINT_SECONDS = 60.0


@dataclasses.dataclass
class Run:
    """A run that may begin, or go on from its checkpoint; see `prepare`.

    Attributes:
        draw: count, rng ↦ initial values at the nodes and input parameters.
        identity: everything that determines the run; a checkpoint of another is refused.
        start: steps done before.
        losses, unsolved, seconds: of the steps since the last line of the log, and all seconds before.
    """

    recipe: Recipe
    output: Path
    model: Surrogate
    optimiser: torch.optim.Optimizer
    draw: Draw
    pool: ReplayPool | None
    identity: dict[str, Any]
    start: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    unsolved: int = 0
    seconds: float = 0.0

    def save(self, step: int, seconds: float) -> None:
        """Writes the checkpoint."""
        extra = None if self.pool is None else self.pool.tensors()
        notes = {"losses": self.losses, "unsolved": self.unsolved, "seconds": seconds}
        path = self.output / CHECKPOINT
        checkpoint.save(path, self.model.network, self.optimiser, step, self.identity, extra, notes)


def prepare(recipe: Recipe, output: Path, device: str = "cpu") -> Run:
    """Everything that can be refused before any work: the recipe's parts, the device, the folder.

    Raises:
        ValueError: parts that do not fit together, no such device, a folder that cannot be written, holds
            another run, or a damaged checkpoint.
    """
    settings = recipe.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            model = Surrogate.from_config(recipe.config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"recipe {recipe.name!r} is incomplete or malformed: {error!r}") from None
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"cannot use device {device!r}: {str(error).splitlines()[0]}; use --device cpu") from None
    for name, values in recipe.test_parameters.items():
        for key in values:
            if key not in model.parameter_inputs:
                known = ", ".join(model.parameter_inputs) or "none"
                raise ValueError(f"test_parameters.{name}: {key!r} is no input of this model; its inputs: {known}")
    points = [axis.nodes for axis in model.constraint.grid.space.values()]

    def draw(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        u0 = torch.as_tensor(recipe.family.sample(count, points, rng), device=device)
        return u0, sample_parameters(model.problem, model.parameter_inputs, count, rng)

    pool = None
    if model.num_windows > 1:
        if settings.pool < settings.batch:
            raise ValueError(f"training: the pool ({settings.pool}) must hold a batch ({settings.batch}) at least")
        bound = max(abs(value) for value in model.problem.state_range)
        rng = np.random.default_rng([settings.seed, 2**30])
        pool = ReplayPool(draw, settings.pool, model.num_windows, bound, settings.restart, rng)
    else:
        draw(1, np.random.default_rng(0))  # a family that does not serve these axes says so
    optimiser = torch.optim.Adam(model.network.parameters(), lr=settings.learning_rate)
    identity = {"config": recipe.config, "training": dataclasses.asdict(settings), "family": repr(recipe.family)}
    run = Run(recipe, checkpoint.open_folder(output), model, optimiser, draw, pool, identity)
    if (output / CHECKPOINT).exists():
        run.start, extra, notes = checkpoint.restore(output / CHECKPOINT, model.network, optimiser, identity)
        if pool is not None:
            pool.restore(extra)
        last = _truncate_log(output / LOG, run.start)
        run.seconds = notes.get("seconds", last.get("seconds", 0.0))
        if last.get("step") != run.start:
            run.losses, run.unsolved = notes.get("losses", []), notes.get("unsolved", 0)
    else:
        held = [name for name in (LOG, "model", CONFIG_FILE) if (output / name).exists()]
        if held:
            raise ValueError(
                f"{str(output)!r} holds another run, or a model ({held[0]}), and no checkpoint to continue with; "
                "choose another --output or delete it"
            )
    return run


def train(
    recipe: Recipe, output: Path, references: ReferenceSet | None, device: str = "cpu", quiet: bool = False
) -> Surrogate:
    """Trains ``recipe`` into ``output``, continuing from a checkpoint there if there is one; see `advance`."""
    return advance(prepare(recipe, output, device), references, quiet)


def advance(run: Run, references: ReferenceSet | None, quiet: bool = False) -> Surrogate:
    """Trains to the end.

    Step k draws its batch from the seed pair (seed, k), so that a resumed run equals an unbroken one. An
    interrupt saves a checkpoint before it passes. Writes metrics.jsonl, a line per validation: step, loss,
    unsolved subproblems, seconds and, with references, the mean and maximal relative error.
    """
    settings, model, pool = run.recipe.training, run.model, run.pool
    begin = last_save = time.monotonic()
    done = run.start

    def seconds() -> float:
        return run.seconds + time.monotonic() - begin

    def validate() -> None:
        """Adds a line to the log where one is due; the state is saved before, for it may take long."""
        nonlocal last_save
        is_due = done % settings.validate_every == 0 or done == settings.steps
        if not (is_due and run.losses):
            return
        run.save(done, seconds())
        last_save = time.monotonic()
        record = {"step": done, "loss": float(np.mean(run.losses)), "unsolved": run.unsolved, "seconds": seconds()}
        error_text = "–"
        if references is not None:
            errors = references.errors(model)
            record |= {"error_mean": float(errors.mean()), "error_max": float(errors.max())}
            error_text = f"{100 * errors.mean():.4f} % (max {100 * errors.max():.4f})"
        with uninterrupted():
            with open(run.output / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            run.losses, run.unsolved = [], 0
        bar.set_postfix_str(f"loss {record['loss']:.4g}, error {error_text}")

    steps = range(run.start, settings.steps)
    bar = progress(steps, run.recipe.name, start=run.start, total=settings.steps, quiet=quiet)
    if run.start == 0:
        _calibrate(model, run.draw, settings)
    try:
        validate()  # where the run was interrupted in the middle of it
        for step in bar:
            rng = np.random.default_rng([settings.seed, step])
            if pool is None:
                u0, parameters = run.draw(settings.batch, rng)
            else:
                places, u0, parameters = pool.take(settings.batch, rng)
            field = model.constrained(u0, model.tensors(parameters), gradient="envelope", stride=1)
            loss, left_out = residual_loss(field, settings.loss)
            rate = cosine_rate(settings.learning_rate, step, settings.steps, settings.warmup)
            with uninterrupted():
                take_step(loss, run.optimiser, rate, settings.clip)
                if pool is not None:
                    pool.put(places, field.u[:, -1].double(), rng)
                run.losses.append(float(loss.detach()))
                run.unsolved += int(left_out)
                done = step + 1
            validate()
            if time.monotonic() - last_save > CHECKPOINT_SECONDS:
                run.save(done, seconds())
                last_save = time.monotonic()
    except KeyboardInterrupt:
        run.save(done, seconds())
        raise
    return model.eval()


@torch.no_grad()
def _calibrate(model: Surrogate, draw, settings) -> None:
    """Lets a network that normalises its inputs see some, from all windows of the untrained roll-out."""
    if not hasattr(model.network, "calibrate"):
        return
    u0, parameters = draw(settings.batch, np.random.default_rng([settings.seed, 2**30 + 1]))
    inputs = []
    for window in model.windows(u0, model.tensors(parameters)):
        inputs.append(model.constraint.inputs(window.conditions))
    model.network.calibrate(torch.cat(inputs).to(model.dtype))


def _truncate_log(path: Path, step: int) -> dict[str, Any]:
    """Drops log lines after ``step``, and one that was not written to its end; returns the last one kept, or {}.

    Raises:
        ValueError: it is not a training log.
    """
    if not path.exists():
        return {}
    try:
        *whole, rest = path.read_text(encoding="utf-8").split("\n")
        lines = [json.loads(line) for line in whole if line.strip()]
        kept = [line for line in lines if line["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a training log ({error}); delete it") from None
    if rest or len(kept) < len(lines):
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return kept[-1] if kept else {}
