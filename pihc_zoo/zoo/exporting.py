"""A complete model folder: configuration, weights, card, figures, example, plot, licence, ONNX."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import copy_file, save_npz, write_text
from .card import PLOT_FILE, TUNING_PLOT, write_card
from .folder import EXAMPLE_FILE, METRICS_FILE, ONNX_FILE, check_file, read_config, record, self_test

if TYPE_CHECKING:
    from ..surrogate import Surrogate

LICENSE_FILE = "LICENSE"


def save_pretrained(model: Surrogate, folder: str | os.PathLike, max_shard_size: int | None = None) -> Path:
    """Writes configuration, weights and a card; a card that somebody wrote by hand stays.

    Raises:
        ValueError: the folder cannot be written.
    """
    from .storage import MAX_SHARD_SIZE, save_folder

    folder = Path(folder)
    before = _digest(folder)
    save_folder(model, folder, MAX_SHARD_SIZE if max_shard_size is None else max_shard_size)
    if before is not None and before != model.config["weights_sha256"]:
        for name in (METRICS_FILE, EXAMPLE_FILE, PLOT_FILE, TUNING_PLOT, ONNX_FILE):  # they describe the model before
            (folder / name).unlink(missing_ok=True)
    write_card(folder, folder.resolve().name)
    return folder


def export(
    model: Surrogate,
    to: str | os.PathLike,
    *,
    onnx: bool = False,
    load_name: str | None = None,
    max_shard_size: int | None = None,
) -> Path:
    """Writes the complete folder: weights, card, metrics, example, plot, licence, ONNX if asked for.

    Args:
        model: its figures and example are copied from the folder that it was loaded from, if any.
        to: the folder; files of the same model in it are kept where they are still right.
        onnx: also write model.onnx.
        load_name: what the card's example loads; the model's name by default.
        max_shard_size: bytes of one weights file.

    Raises:
        ValueError: the folder cannot be written.
    """
    to = Path(to)
    source, name = model.folder, model.name or to.resolve().name
    save_pretrained(model, to, max_shard_size)
    if source is not None and _digest(source) != model.config["weights_sha256"]:
        source = None  # fine-tuned since: figures and example are not its own
    written = {ONNX_FILE} if onnx else set()
    if source is not None and source.resolve() != to.resolve():
        for file in (METRICS_FILE, ONNX_FILE):
            if (source / file).is_file() and file not in written:
                copy_file(check_file(source, file), to / file)
                written.add(file)
        if (source / TUNING_PLOT).is_file():
            copy_file(source / TUNING_PLOT, to / TUNING_PLOT)
    tuned = {} if model.history is None else model.history.metrics()
    if tuned and METRICS_FILE not in written:
        write_text(to / METRICS_FILE, json.dumps(tuned, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        written.add(METRICS_FILE)
    for file in {METRICS_FILE, ONNX_FILE} - written:
        check_file(to, file)
    _example(model, to, source)
    if onnx:
        from .onnx_graph import export_onnx

        export_onnx(model, to / ONNX_FILE)
    record(to, METRICS_FILE, EXAMPLE_FILE, ONNX_FILE)
    write_text(to / LICENSE_FILE, _license())
    write_card(to, name, load_name)
    return to


def _digest(folder: Path) -> Any:
    try:
        return read_config(Path(folder)).get("weights_sha256")
    except (ValueError, OSError):
        return None


def _license() -> str:
    try:
        text = importlib.metadata.distribution("pihc_zoo").read_text("licenses/LICENSE")
    except importlib.metadata.PackageNotFoundError:
        text = None
    if text is None:
        path = Path(__file__).parents[2] / "LICENSE"
        text = path.read_text(encoding="utf-8") if path.is_file() else "MIT\n"
    return text


def _example(model: Surrogate, to: Path, source: Path | None) -> None:
    """Keeps or copies an example that the model reproduces; makes one otherwise."""
    for folder in (to, source):
        if folder is None or not (folder / EXAMPLE_FILE).is_file():
            continue
        try:
            self_test(model, folder)
        except ValueError:
            continue
        if folder != to:
            copy_file(folder / EXAMPLE_FILE, to / EXAMPLE_FILE)
            if (folder / PLOT_FILE).is_file():
                copy_file(folder / PLOT_FILE, to / PLOT_FILE)
        break
    else:
        (to / PLOT_FILE).unlink(missing_ok=True)
        write_example(model, to / EXAMPLE_FILE)
    can_plot = all(importlib.util.find_spec(name) for name in ("matplotlib", "pihc_zoo.plotting"))
    if can_plot and not (to / PLOT_FILE).is_file():
        import numpy as np

        with np.load(to / EXAMPLE_FILE, allow_pickle=False) as file:
            u0 = file["u0"][-1:]
            names = (*model.parameter_inputs, *model.problem.coefficients)
            parameters = {key: file[f"parameter_{key}"][-1:] for key in names}
        model.predict(u0, parameters=parameters).plot(0, to / PLOT_FILE)


def example_fields(problem: Any, trust: dict[str, Any]) -> Any:
    """(2, *space[, field]) a constant and a smooth field, on periodic axes two of waves, inside the range.

    Args:
        trust: a model's settings, see `Problem.trained_ranges`.
    """
    import numpy as np

    axes = list(problem.output_space.values())
    is_periodic = all(axis.is_periodic for axis in axes)
    if is_periodic:
        grids = np.meshgrid(*((axis.nodes - axis.start) / (axis.stop - axis.start) for axis in axes), indexing="ij")
    else:
        grids = np.meshgrid(*(np.linspace(0, 1, len(axis.nodes)) for axis in axes), indexing="ij")
    fields = []
    for place, (low, high) in enumerate(problem.trained_ranges(trust).values()):
        centre = 0.0 if is_periodic and low < 0 < high else low + 0.5 * (high - low)
        if is_periodic:
            waves = [np.prod([np.sin(2 * np.pi * k * grid + k + place) for grid in grids], axis=0) for k in (1, 2)]
            shapes = [0.1 * waves[0] + 0.05 * waves[1], 0.05 * waves[0] - 0.1 * waves[1]]
        else:
            wave = np.prod([np.sin(2 * np.pi * grid + 0.5 + place) for grid in grids], axis=0)
            shapes = [np.zeros(wave.shape), 0.3 * wave]
        fields.append(centre + (high - low) * np.stack(shapes))
    return np.stack(fields, axis=-1) if problem.is_system else fields[0]


def write_example(model: Surrogate, path: Path) -> Path:
    """Writes initial conditions, `example_fields`, and the model's solution at a few points; `self_test` repeats it.

    Raises:
        ValueError: no solve of the example converges.
    """
    import numpy as np

    from ..arrays import to_numpy

    problem = model.problem
    axes = list(problem.output_space.values())
    declared = {key: problem.parameters[key] for key in model.parameter_inputs} | problem.coefficients
    parameters = {key: np.array([p.default, 0.5 * (p.default + p.high)]) for key, p in declared.items()}
    uniform = {key: np.ones(problem.coefficient_shape(key)) for key in problem.coefficients}
    parameters |= {key: np.multiply.outer(parameters[key], own) for key, own in uniform.items()}
    u0 = None if problem.duration is None else example_fields(problem, model.config["trust"])
    count = 11 if len(axes) == 1 else 3  # fields on several axes are large
    times = None if problem.duration is None else np.linspace(0.0, problem.duration, count)
    points: dict[str, Any] = {"x": axes[0].nodes[:: max(1, len(axes[0].nodes) // 64)]} if len(axes) == 1 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what did not converge is left out below
        out = model.predict(u0, times=times, parameters=parameters, **points)
    good = to_numpy(out.converged).reshape(len(out), -1).all(axis=1)
    if not good.any():
        raise ValueError("no solve of the example converges; train the model first, or raise max_steps")
    arrays = {"u0": to_numpy(out.u0)[good], **{name: to_numpy(points) for name, points in out.points.items()}}
    arrays |= {"t": to_numpy(out.t), "u": to_numpy(out.u)[good]}
    arrays |= {f"parameter_{key}": to_numpy(value)[good] for key, value in out.parameters.items()}
    return save_npz(path, arrays)
