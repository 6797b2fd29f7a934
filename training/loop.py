"""The training loop: data-free, resumable, logged."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pihc_zoo.families import sample_parameters
from pihc_zoo.learning.objective import residual_loss
from pihc_zoo.learning.replay import ReplayPool
from pihc_zoo.learning.step import cosine_rate, take_step
from pihc_zoo.surrogate import Surrogate

from . import checkpoint
from .recipe import Recipe
from .references import ReferenceSet

CHECKPOINT_SECONDS = 60.0


def train(
    recipe: Recipe, output: Path, references: ReferenceSet | None, device: str = "cpu", quiet: bool = False
) -> Surrogate:
    """Trains ``recipe`` into ``output``, continuing from a checkpoint there if there is one.

    Step k draws its batch from the seed pair (seed, k), so that a resumed run equals an unbroken one.
    Writes metrics.jsonl, a line per validation: step, loss, unsolved subproblems, seconds and, with
    references, the mean and maximal relative error.
    """
    settings = recipe.training
    output.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Surrogate.from_config(recipe.config)
    model.to(device)
    network = model.network
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    identity = {"config": recipe.config, "training": dataclasses.asdict(settings), "family": repr(recipe.family)}
    path, log_path = output / "checkpoint.safetensors", output / "metrics.jsonl"
    points = [axis.nodes for axis in model.constraint.grid.space.values()]

    def draw(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        u0 = torch.as_tensor(recipe.family.sample(count, points, rng), device=device)
        return u0, sample_parameters(model.problem, model.parameter_inputs, count, rng)

    pool = None
    if model.num_windows > 1:
        bound = max(abs(value) for value in model.problem.state_range)
        rng = np.random.default_rng([settings.seed, 2**30])
        pool = ReplayPool(draw, settings.pool, model.num_windows, bound, settings.restart, rng)
    start, seconds_before = 0, 0.0
    if path.exists():
        start, extra = checkpoint.restore(path, network, optimiser, identity)
        if pool is not None:
            pool.restore(extra)
        seconds_before = _truncate_log(log_path, start)
    elif log_path.exists():
        log_path.unlink()
    if start == 0:
        _calibrate(model, draw, settings)
    begin = last_save = time.monotonic()
    losses, unsolved = [], 0
    bar = tqdm(range(start, settings.steps), initial=start, total=settings.steps, desc=recipe.name, disable=quiet)
    error_text = ""
    for step in bar:
        rng = np.random.default_rng([settings.seed, step])
        if pool is None:
            u0, parameters = draw(settings.batch, rng)
        else:
            places, u0, parameters = pool.take(settings.batch, rng)
        field = model.constrained(u0, model.tensors(parameters), gradient="envelope", stride=1)
        loss, left_out = residual_loss(field, settings.loss)
        rate = cosine_rate(settings.learning_rate, step, settings.steps, settings.warmup)
        take_step(loss, optimiser, rate, settings.clip)
        if pool is not None:
            pool.put(places, field.u[:, -1].double(), rng)
        losses.append(float(loss.detach()))
        unsolved += int(left_out)
        is_last = step + 1 == settings.steps
        if (step + 1) % settings.validate_every == 0 or is_last:
            record = {
                "step": step + 1,
                "loss": float(np.mean(losses)),
                "unsolved": unsolved,
                "seconds": seconds_before + time.monotonic() - begin,
            }
            if references is not None:
                errors = references.errors(model)
                record |= {"error_mean": float(errors.mean()), "error_max": float(errors.max())}
                error_text = f"{100 * errors.mean():.4f} % (max {100 * errors.max():.4f})"
            with open(log_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            losses, unsolved = [], 0
            bar.set_postfix_str(f"loss {record['loss']:.4g}, error {error_text or '–'}")
        if is_last or time.monotonic() - last_save > CHECKPOINT_SECONDS or (step + 1) % settings.validate_every == 0:
            checkpoint.save(path, network, optimiser, step + 1, identity, pool and pool.tensors())
            last_save = time.monotonic()
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


def _truncate_log(path: Path, step: int) -> float:
    """Drops log lines after ``step``; returns the seconds already spent."""
    if not path.exists():
        return 0.0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [line for line in lines if line["step"] <= step]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return kept[-1]["seconds"] if kept else 0.0
