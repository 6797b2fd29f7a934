"""Fine-tuning a surrogate on your own data, on physics alone, or on both."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Trajectories, check_solutions, read_trajectories
from ..evaluation.calibration import with_trust
from ..prediction.initial_values import check_values
from ..prediction.request import check_request
from ..problems.constants import constants_of
from ..zoo.loading import check_surrogate
from ..zoo.storage import load_folder
from . import checkpoint
from .consistency import answer, contradiction
from .distributed import Processes
from .finishing import write_finished
from .history import History, Measured
from .mesh import Mesh, Place
from .recalibration import recalibrated
from .result import Finetuned
from .settings import Settings
from .start import head_of, with_constants, with_settings
from .tuning import CHECKPOINT, Tuning

if TYPE_CHECKING:
    from ..surrogate import Surrogate

TUNED = " (fine-tuned)"  # added to a model's name
_NONE = Measured(float("nan"), float("nan"), 0)
_CLEAN = 0.1  # noise of the data over their distance from answers, up to which they judge an estimate


def finetune(
    model: Surrogate,
    data: Any,
    output_dir: str | os.PathLike | None = None,
    *,
    loss: str = "both",
    weights: str = "all",
    parameters: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    u0: Any = None,
    count: int | None = None,
    steps: int = 300,
    batch: int = 8,
    learning_rate: float = 1e-3,
    clip: float = 1.0,
    validation: float = 0.2,
    patience: int = 5,
    minutes: float | None = None,
    seed: int = 0,
    quiet: bool = False,
    processes: Processes | None = None,
) -> Finetuned:
    """Continues training on given initial conditions, under constants of your own if you like.

    >>> tuned = pz.finetune(model, "mine.npz", "tuned")
    >>> tuned.before.error, tuned.after.error, tuned.model.predict(u0)

    The data loss is the mean relative L2 error against given solutions, with exact gradients through the solves
    (implicit function theorem); the physics loss needs initial conditions only, and sees mixtures of two of them
    as well. Errors are measured on held-out trajectories, without a polish: the error against the solutions or,
    with the physics loss alone, the estimated error. Tuning ends early where that is not lowered any more; the best
    weights are returned, and where nothing was better the given ones, which the history says. A model that is
    better, or has new constants, gets a trust report calibrated on your family. The given model is left as it is.

    With ``output_dir`` the state is saved there every minute and on an interrupt (Ctrl-C); the same call
    continues from it. A finished run is not repeated.

    Args:
        model: the surrogate to start from.
        data: a file (NPZ, HDF5 with our keys or PDEBench's, netCDF, Zarr, or CSV of scattered points), a mapping or
            an xarray Dataset. Keys: u0 (batch, *space) and, optionally, u (batch, time, *space), t, positions by
            axis name and parameter_<name>; without u0 it is u at t = 0. Scattered points: u, t and positions (m,),
            with trajectory (m,) where there are several.
        output_dir: where the tuned model folder is written, if given: weights, card, figures, example, plot.
        loss: "data", "physics" or "both" (data + 0.1 · physics); "both" is "physics" where there are no solutions.
        weights: "all", or "head": the network's last layers alone.
        parameters: new constants: symbol → the tuned model's default or, of a model's input, its range (low, high)
            or (low, default, high). A default outside an input's range extends it.
        overrides: changed settings of the tuned model, as in `create_model`, such as
            ``{"network.num_basis": 8}`` or a finer grid; weights are carried over, new basis functions are fresh.
        u0: initial conditions of data that hold none: a number, an array, or an NPZ file.
        count: trajectories to read, the first ones.
        steps, batch, learning_rate, clip: of Adam on a cosine schedule.
        validation: held-out fraction of trajectories.
        patience: reviews without a gain, of ten in a run, after which it ends.
        minutes: after which it ends; the schedule follows.
        seed: of the split and the batches.
        quiet: print neither progress nor errors before and after.
        processes: that have met and tune together, all with the same arguments: they share every batch and review,
            the first one writes and prints, and each returns the same. ``torchrun … pihc finetune`` does all that.

    Returns:
        the tuned model, its history, and how to draw it.

    Raises:
        ValueError: data or settings that do not fit, no solutions for a data loss, a folder that cannot be
            written or holds another model or run.

    Warns:
        RuntimeWarning: the data contradict the equation, and by how much.
    """
    settings = Settings(loss, weights, steps, batch, learning_rate, clip, validation, patience, minutes, seed)
    check_surrogate(model)
    constants = constants_of(parameters or {}, model.problem.parameters, model.parameter_inputs)
    given = with_constants(model, constants)
    trajectories = _checked(given, data, loss, u0, count)
    if settings.loss == "both" and not trajectories.has_solutions:
        settings = dataclasses.replace(settings, loss="physics")
    start = with_settings(given, overrides or {})
    if settings.weights == "head":
        head_of(start.network)
    held, used = settings.split(len(trajectories))
    processes = processes or Processes(Place(), Mesh(), str(model.device))
    if processes.world > settings.batch:
        raise ValueError(f"{processes.world} processes share a batch of {settings.batch}: start fewer, or enlarge it")
    run = {"model": _digest(model), "data": _digest(trajectories), "settings": dataclasses.asdict(settings)}
    run |= {"constants": constants, "overrides": dict(overrides or {})}
    processes.agree("a model, data or settings", run)
    folder = None if output_dir is None else Path(output_dir)
    watched = held if len(held) else used
    order = np.concatenate([held, used])

    def begin() -> dict[str, Any]:
        if folder is not None:
            checkpoint.open_folder(folder)
            if not (folder / CHECKPOINT).exists() and (folder / "config.json").exists():
                raise ValueError(f"{str(folder)!r} holds a model already; choose another output folder or delete it")
        history = History("held-out" if len(held) else "training", 0, "error", _NONE, _NONE)
        history.contradiction, history.noise = contradiction(given, trajectories, order)
        _begin(history, model, given, start, trajectories, settings, watched)
        history.constants, history.settings = constants, dict(overrides or {})
        return history.to_dict()

    history = History.from_dict(processes.first(begin))
    tuning = Tuning(start, trajectories, settings, used, watched, history, processes, folder, run)
    tuning.restore()
    results: list[Finetuned] = []

    def end() -> dict[str, Any]:
        if is_complete:
            results.append(Finetuned(load_folder(folder, type(model), model.device, model.dtype), tuning.history))
            results[0].model.name, results[0].model.history = _name(model, tuning.history), tuning.history
            results[0].model.folder = folder
            return tuning.history.to_dict()
        tuned = tuning.model if tuning.history.is_improved else given
        results.append(_completed(tuned, model, trajectories, tuning.history, order, watched))
        if folder is not None:
            write_finished(results[0], folder)
            tuning.is_finished = True
            tuning.save()
        return tuning.history.to_dict()

    is_complete = processes.first(
        lambda: tuning.is_finished and folder is not None and (folder / "config.json").exists()
    )
    if is_complete:
        tuning.restore_best()
    else:
        tuning.advance(quiet)
    history = History.from_dict(processes.first(end))
    if not results:  # not the first process
        tuned = with_trust(tuning.model if history.is_improved else given, history.trust_after)
        tuned.name, tuned.history = _name(model, history), history
        return Finetuned(tuned.eval(), history)
    if not quiet:
        print(results[0].history.summary())
    return results[0]


def _checked(model: Surrogate, data: Any, loss: str, u0: Any, count: int | None) -> Trajectories:
    """The trajectories, if this model can be tuned on them."""
    if isinstance(data, Trajectories):
        trajectories = data
        check_solutions(data)
    else:
        trajectories = read_trajectories(data, model.problem, u0=u0, count=count)
    if loss == "data" and not trajectories.has_solutions:
        raise ValueError("loss 'data' needs solutions: add a key 'u' (batch, time, *space), or choose loss='physics'")
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
        arrays, text = part.arrays(), ""
    else:
        arrays = {key: value.detach().cpu().numpy() for key, value in part.network.state_dict().items()}
        text = repr({key: value for key, value in part.config.items() if key not in ("weights_sha256", "digests")})
    digest = hashlib.sha256(text.encode())
    for key in sorted(arrays):
        digest.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
    return digest.hexdigest()


def _begin(
    history: History,
    model: Surrogate,
    given: Surrogate,
    start: Surrogate,
    data: Trajectories,
    settings: Settings,
    watched: np.ndarray,
) -> None:
    """Fills in what is known before tuning."""
    history.criterion = "estimated_error" if settings.loss == "physics" else "error"
    history.count, history.data, history.options = len(watched), data.describe(), dataclasses.asdict(settings)
    history.base_model = model.name.removesuffix(TUNED)
    history.trust_before = dict(model.config["trust"])
    answers = answer(given, data, watched)
    history.before = Measured.of(answers.error, answers.estimated_error)
    history.errors_before = [float(value) for value in getattr(answers, history.criterion)]
    history.reliable_before = int(answer(given, data, watched, polish=None).is_reliable.sum())
    history.start = history.after = history.before
    if start.config != given.config:
        answers = answer(start, data, watched)
        history.start = Measured.of(answers.error, answers.estimated_error)
        if history.start.is_better(history.before, history.criterion):
            history.after, history.is_improved = history.start, True


def _name(model: Surrogate, history: History) -> str:
    is_changed = history.is_improved or history.constants
    return f"{model.name.removesuffix(TUNED)}{TUNED}" if model.name and is_changed else model.name


def _completed(
    tuned: Surrogate, model: Surrogate, data: Trajectories, history: History, order: np.ndarray, watched: np.ndarray
) -> Finetuned:
    """The result, with a trust report of the user's family where the model is another one than that given."""
    if history.is_improved or history.constants:
        is_clean = history.contradiction is None and history.noise <= _CLEAN * history.after.error
        tuned = recalibrated(tuned, data, order, is_clean)
    answers = answer(tuned, data, watched)
    history.errors_after = [float(value) for value in getattr(answers, history.criterion)]
    history.reliable_after = int(answer(tuned, data, watched, polish=None).is_reliable.sum())
    history.trust_after = dict(tuned.config["trust"])
    tuned.name, tuned.history = _name(model, history), history
    return Finetuned(tuned.eval(), history)
