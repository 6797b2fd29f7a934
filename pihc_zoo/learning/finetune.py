"""Fine-tuning a surrogate on your own data, on physics alone, or on both."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from ..data import Trajectories, read_trajectories
from ..files import make_folder
from ..inputs import check_request, check_values
from .objective import relative_l2, residual_loss
from .step import cosine_rate, take_step

if TYPE_CHECKING:
    from ..surrogate import Surrogate


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
    The best weights on the held-out part are kept; the given model is left as it is.

    Args:
        model: the surrogate to start from.
        data: an NPZ or HDF5 file, or a mapping, with keys u0 (batch, n), and optionally x, t, u
            (batch, time, n) and parameter_<name>.
        output_dir: where the tuned model folder is written, if given.
        loss: "data", "physics" or "both" (data + 0.1 · physics).
        steps, batch, learning_rate, clip: of Adam on a cosine schedule.
        validation: held-out fraction of trajectories.
        seed: of the split and the batches.

    Returns:
        a tuned copy.

    Raises:
        ValueError: data that does not fit, no solutions for a data loss, or a folder that cannot be written.
    """
    if loss not in ("data", "physics", "both"):
        raise ValueError(f"loss must be 'data', 'physics' or 'both', not {loss!r}")
    if steps < 1 or batch < 1 or not 0 <= validation < 1:
        raise ValueError("steps and batch must be positive and validation in [0, 1)")
    trajectories = data if isinstance(data, Trajectories) else read_trajectories(data, model.problem)
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
    if output_dir is not None:
        make_folder(output_dir)  # before hours of training, not after
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(trajectories.u0))
    num_held = round(validation * len(order))
    if num_held == len(order):
        num_held = len(order) - 1
    held, used = order[:num_held], order[num_held:]
    tuned = copy.deepcopy(model)
    optimiser = torch.optim.Adam(tuned.network.parameters(), lr=learning_rate)
    watched = held if num_held else used
    best, best_state = _error(tuned, trajectories, watched, loss), copy.deepcopy(tuned.network.state_dict())
    first = best
    bar = tqdm(range(steps), desc="fine-tuning", disable=quiet)
    for step in bar:
        rows = np.random.default_rng([seed, step]).choice(used, size=min(batch, len(used)), replace=False)
        total = _loss(tuned, trajectories, rows, loss)
        take_step(total, optimiser, cosine_rate(learning_rate, step, steps), clip)
        if (step + 1) % max(1, steps // 10) == 0 or step + 1 == steps:
            error = _error(tuned, trajectories, watched, loss)
            bar.set_postfix_str(f"{'held-out' if num_held else 'training'} loss {error:.4g} (at first {first:.4g})")
            if error < best:
                best, best_state = error, copy.deepcopy(tuned.network.state_dict())
    tuned.network.load_state_dict(best_state)
    tuned.name = f"{model.name} (fine-tuned)" if model.name else ""
    if output_dir is not None:
        tuned.save_pretrained(output_dir)
    return tuned


def _loss(model: Surrogate, data: Trajectories, rows: np.ndarray, kind: str) -> torch.Tensor:
    u0 = torch.as_tensor(data.u0[rows], device=model.device)
    c = model.tensors({key: value[rows] for key, value in data.parameters.items()})
    points = data.points
    times = np.asarray(data.t)
    gradient = "envelope" if kind == "physics" else "implicit"
    losses, fields = [], []
    last = None if kind == "physics" else int(model.window_of(times).max()) + 1
    for window in model.windows(model.at_nodes(u0, points), c, last, gradient=gradient):
        losses.append(residual_loss(window.field)[0])
        if kind != "physics":
            fields.append(model.read(window, times, points))
    physics = torch.stack(losses).mean()
    if kind == "physics":
        return physics
    is_later = times > 0
    truth = torch.as_tensor(data.u[rows][:, is_later], device=model.device)
    error = relative_l2(torch.cat(fields, dim=1), truth).mean()
    return error.log() if kind == "data" else error.log() + 0.1 * physics


@torch.no_grad()
def _error(model: Surrogate, data: Trajectories, rows: np.ndarray, kind: str) -> float:
    return float(torch.stack([_loss(model, data, rows[i : i + 16], kind) for i in range(0, len(rows), 16)]).mean())
