"""A run: everything that its steps change, and its checkpoints."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pihc_zoo.learning import checkpoint, draws
from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.draws import Source
from pihc_zoo.learning.mesh import Mesh, Place
from pihc_zoo.learning.replay import ReplayPool
from pihc_zoo.learning.step import FlatGradient
from pihc_zoo.solvers.share import Rows, Whole
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.folder import CONFIG_FILE

from .log import LOG, truncate
from .recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"
WRITTEN = (CHECKPOINT, LOG, "model", "training.png", "tensorboard", "profile.txt", "profile.json")
# Behind the gradient: sums over processes of a step.
TOTAL, USED, LEFT_OUT, INTERRUPTS, TERMINATIONS, SAVES = range(6)
NUM_SUMS = 6


@dataclasses.dataclass
class Run:
    """A run that may begin, or go on from its checkpoint; see `prepare`.

    Attributes:
        places: (count,) places in the global batch that are computed here.
        parts: slices of them, computed one after the other.
        identity: everything that determines the run; a checkpoint of another is refused.
        done: steps done.
        sums: of the steps since the last line of the log: losses, steps, unsolved subproblems, gradient norms;
            (4,) float64 on the device.
        seconds: all before this process began.
        average: exponential moving average of the weights, by name; empty without.
    """

    recipe: Recipe
    output: Path
    processes: Processes
    model: Surrogate
    optimiser: torch.optim.Optimizer
    gradient: FlatGradient
    source: Source
    places: Tensor
    parts: list[slice]
    pool: ReplayPool | None
    identity: dict[str, Any]
    sums: Tensor
    average: dict[str, Tensor]
    done: int = 0
    seconds: float = 0.0

    def save(self, seconds: float) -> None:
        """Writes the checkpoint, on all processes together."""
        batch = self.recipe.training.batch
        extra = {} if self.pool is None else self.pool.tensors()
        extra = {key: self.processes.gather_places(value, batch) for key, value in extra.items()}
        extra |= {f"ema.{key}": value for key, value in self.average.items()}
        notes = {"draws": draws.METHOD, "sums": self.sums.tolist(), "seconds": seconds}
        network, path = self.model.network, self.output / CHECKPOINT
        self.processes.first(
            lambda: checkpoint.save(path, network, self.optimiser, self.done, self.identity, extra, notes)
        )

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, processes that share a batch solve its experts together."""
        constraint, team = self.model.constraint, self.processes.team
        constraint.share = Whole() if team is None else Rows(team)
        try:
            yield
        finally:
            constraint.share = Whole()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are their moving averages, if there are any."""
        weights = dict(self.model.network.named_parameters())
        own = {key: weights[key].detach().clone() for key in self.average}
        _set(weights, self.average)
        try:
            yield
        finally:
            _set(weights, own)


@torch.no_grad()
def _set(weights: dict[str, torch.nn.Parameter], values: dict[str, Tensor]) -> None:
    for key, value in values.items():
        weights[key].copy_(value)


def prepare(
    recipe: Recipe,
    output: Path,
    device: str = "cpu",
    processes: Processes | None = None,
    parts: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> Run:
    """Everything that can be refused before any work: the recipe's parts, the device, the mesh, the folder.

    Args:
        device: where there is one process alone.
        processes: that train together.
        parts: in which each computes its share of a batch, one after the other.
        resume: go on from the folder's checkpoint even if its recipe was trained otherwise; there must be one.
        overwrite: delete what a run left in the folder and begin anew.

    Raises:
        ValueError: parts that do not fit together, no such device, a folder that cannot be written, holds
            another run, or a damaged checkpoint.
    """
    settings = recipe.training
    processes = processes or Processes(Place(), Mesh(), device)
    model = _model(recipe, processes.device)
    processes.mesh.check(model, settings.batch, parts)
    identity = {
        "config": recipe.config,
        "training": dataclasses.asdict(settings),
        "family": repr(recipe.family),
        "draws": draws.METHOD,
    }
    processes.agree("a recipe", identity)
    axes = [axis.nodes for axis in model.constraint.grid.space.values()]
    source = Source(recipe.family, axes, model.problem, model.parameter_inputs, settings.seed)
    own = processes.mesh.share(settings.batch, processes.data_index)
    places = torch.arange(own.start, own.stop, device=model.device)
    pool = None
    if model.num_windows > 1:
        if settings.pool < settings.batch:
            raise ValueError(f"training: the pool ({settings.pool}) must hold a batch ({settings.batch}) at least")
        bound = max(abs(value) for value in model.problem.state_range)
        pool = ReplayPool(source, places, settings.batch, settings.pool, model.num_windows, bound, settings.restart)
    else:
        source(0, places[:1])  # a family that does not serve these axes says so
    weights = list(model.network.parameters())
    gradient = FlatGradient(weights, NUM_SUMS)
    optimiser = torch.optim.Adam(weights, lr=settings.learning_rate)
    average = {}
    if settings.ema:
        average = {key: value.detach().clone() for key, value in model.network.named_parameters()}
    sums = torch.zeros(4, dtype=torch.float64, device=model.device)
    slices = [slice(len(own) * i // parts, len(own) * (i + 1) // parts) for i in range(parts)]
    run = Run(
        recipe, output, processes, model, optimiser, gradient, source, places, slices, pool, identity, sums, average
    )
    _open(run, resume, overwrite and not processes.place.restarts)
    return run


def _model(recipe: Recipe, device: str) -> Surrogate:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
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
    return model.with_network_dtype(getattr(torch, recipe.training.dtype))


def _open(run: Run, resume: bool, overwrite: bool) -> None:
    """Opens the folder and takes up its checkpoint, read by the first process and told to the others."""
    restored: dict[str, Tensor] = {}

    def begin() -> dict[str, Any]:
        output = checkpoint.open_folder(run.output)
        if overwrite:
            for name in WRITTEN:
                path = output / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not (output / CHECKPOINT).exists():
            if resume:
                raise ValueError(f"{str(output)!r} has no {CHECKPOINT} to resume; leave out --resume to begin a run")
            held = [name for name in (LOG, "model", CONFIG_FILE) if (output / name).exists()]
            if held:
                raise ValueError(
                    f"{str(output)!r} holds another run, or a model ({held[0]}), and no checkpoint to continue with; "
                    "choose another --output or delete it"
                )
            return {}
        _, notes, own = checkpoint.header(output / CHECKPOINT)
        if notes.get("draws") != draws.METHOD:
            raise ValueError(
                f"checkpoint {output / CHECKPOINT} is of an earlier version, whose random draws were others, "
                "and cannot be continued; choose another --output, or --overwrite"
            )
        if not resume and own != checkpoint.fingerprint(run.identity):
            raise ValueError(
                f"checkpoint {output / CHECKPOINT} is of another recipe; choose another --output or delete it "
                "(--overwrite), or go on from it under these settings (--resume)"
            )
        done, extra, notes = checkpoint.restore(output / CHECKPOINT, run.model.network, run.optimiser, None)
        restored.update(extra)
        last = truncate(output / LOG, done)
        is_logged = last.get("step") == done
        return {"done": done, "seconds": notes["seconds"], "sums": [0.0] * 4 if is_logged else notes["sums"]}

    found = run.processes.first(begin)
    if found:
        run.done, run.seconds = found["done"], found["seconds"]
        run.sums.copy_(torch.tensor(found["sums"], dtype=torch.float64))
        _share(run, restored)
    run.processes.broadcast(list(run.model.network.state_dict().values()))


def _share(run: Run, restored: dict[str, Tensor]) -> None:
    """Tells all processes the restored optimiser and averages, and each its part of the pool."""
    processes = run.processes
    for parameter in run.model.network.parameters():
        state = run.optimiser.state[parameter]
        if not state:
            blank = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)}
            state.update(blank | {"exp_avg_sq": torch.zeros_like(parameter)})
        processes.broadcast([state[key] for key in ("step", "exp_avg", "exp_avg_sq")])

    def check() -> None:
        expected = {f"ema.{key}": tuple(value.shape) for key, value in run.average.items()}
        if run.pool is not None:
            batch = run.recipe.training.batch
            expected |= {key: (batch, *value.shape[1:]) for key, value in run.pool.tensors().items()}
        for key, shape in expected.items():
            if key not in restored or tuple(restored[key].shape) != shape:
                raise ValueError(
                    f"checkpoint {run.output / CHECKPOINT} holds another pool or average ({key}): --resume can change "
                    "steps, rates and the loss, not batch, pool or ema"
                )

    processes.first(check)
    for key, value in run.average.items():
        value.copy_(restored.get(f"ema.{key}", value))
    processes.broadcast(list(run.average.values()))
    if run.pool is not None:
        for key, value in run.pool.tensors().items():
            processes.scatter_places(restored.get(key), value, run.recipe.training.batch)
