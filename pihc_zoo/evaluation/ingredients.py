"""Accuracy, and what each ingredient brings: the lift, the solve, the training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import to_numpy
from ..decomposition import Decomposition
from ..reference.baselines import steps_from_the_lift
from ..surrogate import Surrogate
from .clocks import per_trajectory, timings
from .references import ReferenceSet, relative_error

_PASS = 16  # trajectories a pass outside `predict`
_MOST_UNKNOWNS = 5000  # per trajectory and roll-out, up to which a batch of 64 is measured


def summary(errors: np.ndarray) -> dict[str, Any]:
    """Mean, median, maximum over the finite errors, and how many are not finite."""
    finite = errors[np.isfinite(errors)]
    names = {"mean": np.mean, "median": np.median, "max": np.max}
    values = {name: float(function(finite)) if len(finite) else None for name, function in names.items()}
    return {"count": len(errors), "failed": len(errors) - len(finite), **values}


def row_of(errors: np.ndarray) -> dict[str, Any]:
    """The part of `summary` that rows of tables hold."""
    own = summary(errors)
    return {"error_mean": own["mean"], "error_max": own["max"], "failed": own["failed"]}


def accuracy(model, references: ReferenceSet, **options: Any) -> dict[str, Any]:
    """Errors of a model: count, failed, mean, median, max.

    Args:
        model: anything with ``predict``.
        references: converged solutions.
        options: of ``predict``.
    """
    return summary(references.errors(model, **options))


def default_batch(model) -> int:
    """Trajectories a batch to measure: 64, or 16 where a trajectory has many unknowns."""
    unknowns = int(np.prod(model.constraint.grid.shape)) * model.num_windows
    return 64 if unknowns <= _MOST_UNKNOWNS else 16


def untrained(model, references: ReferenceSet | None = None, seed: int = 0):
    """The model's configuration with fresh random weights.

    Args:
        references: whose initial conditions a network that normalises its inputs sees once, as at the
            start of training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Surrogate.from_config(model.config)
    fresh.name = "untrained"
    fresh = fresh.to(model.device).with_network_dtype(model.dtype).eval()
    if references is not None and hasattr(fresh.network, "calibrate"):
        part = references.take(slice(0, 8))
        with torch.no_grad():
            initial = fresh.at_nodes(
                fresh.inward(torch.as_tensor(part.u0, device=fresh.device)), _points(fresh, part.u0)
            )
            windows = fresh.windows(initial, fresh.tensors(part.parameters))
            inputs = [fresh.constraint.inputs(window.conditions) for window in windows]
            fresh.network.calibrate(torch.cat(inputs).to(fresh.dtype))
    return fresh


def _points(model, u0: np.ndarray) -> dict[str, np.ndarray]:
    axes = model.problem.output_space
    return {
        name: axis.sized(n).nodes if axis.is_periodic else axis.nodes
        for (name, axis), n in zip(axes.items(), u0.shape[1 : 1 + len(axes)], strict=True)
    }


@torch.no_grad()
def unsolved(model, references: ReferenceSet, decomposition: Decomposition | None = None) -> np.ndarray:
    """(batch, time, *space[, field]) a model's answers without a step of its solver.

    Not through ``predict``: what no solver has seen is never converged.
    """
    options = {"solver": dataclasses.replace(model.constraint.solver, max_steps=0), "decomposition": decomposition}
    times, fields = np.asarray(model.problem.output_times), []
    for part in references.pieces(_PASS):
        points, u0 = _points(model, part.u0), model.inward(torch.as_tensor(part.u0, device=model.device))
        later = times[times > 0]
        u = model.solution(model.at_nodes(u0, points), model.tensors(part.parameters), later, points, **options)
        u = u if len(later) == len(times) else torch.cat([u0.double()[:, None], u], dim=1)
        fields.append(to_numpy(model.outward(u)))
    return np.concatenate(fields)


class _NoBasis(nn.Module):
    """In place of a network: basis functions that vanish."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.num_basis = 1
        for name in ("time", "rate"):
            if hasattr(network, name):
                self.register_buffer(name, getattr(network, name)[:1], persistent=False)
        self.precision = nn.Parameter(next(network.parameters()).detach().new_zeros(()), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.new_zeros(inputs.shape[0], self.num_basis, *inputs.shape[2:])


def without_network(model):
    """The model with a basis that vanishes: its lift alone, rolled out."""
    bare = copy.copy(model)
    bare._modules = {**model._modules, "network": _NoBasis(model.network)}
    return bare


def ladder(
    problem, references: ReferenceSet, model=None, batch: int | None = None, repeats: int = 3
) -> list[dict[str, Any]]:
    """What each ingredient brings: the lift alone, with its corrections; untrained and trained network and their solve.

    Where classical steps from the lift exist, 1, 2 and 3 of them stand between.

    Returns:
        Rows of name, error_mean, error_max, failed, ms per trajectory in a batch, batch.
    """
    device = "cpu" if model is None else model.device
    batch = batch or (64 if model is None else default_batch(model))
    rows = references.cycled(batch)
    answers: dict[str, Callable[[ReferenceSet], np.ndarray]] = {}
    for name, solver in steps_from_the_lift(problem, device).items():
        answers[name] = lambda r, solver=solver: solver(r.u0, r.parameters)
    if model is not None:
        bare = without_network(model)
        if not answers:
            answers["lift alone"] = lambda r: unsolved(bare, r)
        if model.constraint.ansatz.num_corrections:
            answers["lift and corrections"] = lambda r: to_numpy(r.predict(bare, polish=False).u)
        fresh = untrained(model, references)
        answers["untrained network"] = lambda r: to_numpy(r.predict(fresh, polish=False).u)
        answers["trained network"] = lambda r: to_numpy(r.predict(model, polish=False).u)
    times = timings({name: lambda a=answer: a(rows) for name, answer in answers.items()}, repeats, device)
    return [
        {
            "name": name,
            **row_of(relative_error(answer(references), references.u)),
            **per_trajectory(times[name], batch),
            "batch": batch,
        }
        for name, answer in answers.items()
    ]
