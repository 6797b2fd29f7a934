"""A model on its test families: draws from them, and everything that is measured on them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..families import Family
from ..problems import problem_of
from ..sampling import Described, Model, default_families, draw, family_of
from .folder import ONNX_FILE, read_config, read_metrics
from .hub import find_folder
from .loading import check_surrogate, from_pretrained

if TYPE_CHECKING:
    from ..surrogate import Surrogate
    from .onnx_backend import OnnxSurrogate

_BACKEND_COUNT = 16  # trajectories that backends are compared on


def sample(
    model: str | os.PathLike | Surrogate | OnnxSurrogate,
    count: int,
    family: str | Family | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Initial conditions, and parameters, such as a model is tested on.

    >>> u0, parameters = pz.sample("diffusion-sorption.parametric", 4)
    >>> out = model.predict(u0, parameters=parameters)

    Args:
        model: a model, or its name, folder or Hub id; it is not loaded then.
        count: how many.
        family: a family, or the name of one; default the first that the model was tested on.
        seed: which ones. They are those of `evaluate`, and none of training's.

    Returns:
        u0 (count, *space) on the problem's native grid, and (count,) values of each parameter that the
        model takes as input, by symbol; {} if there is none.

    Raises:
        ValueError: no such model or family, or a family of fields on other axes.
    """
    _check_integer(count, "count", 1)
    _check_integer(seed, "seed", 0)
    described = _described(model) if isinstance(model, str | os.PathLike) else model
    if not isinstance(family, Family):
        family = next(iter(families_of(described, None if family is None else [family]).values()))
    return draw(described.problem, family, described.parameter_inputs, count, seed)


def evaluate(
    model: str | os.PathLike | Surrogate,
    families: Iterable[str] | dict[str, Family] | None = None,
    count: int = 32,
    seed: int = 0,
    *,
    quick: bool = False,
    cache: str | os.PathLike | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measures a model against converged and classical solutions: the figures of ``pihc evaluate``.

    It takes minutes; with ``quick`` and a small ``count``, one or so.

    Args:
        model: a model, measured where it is, or its name, folder or Hub id.
        families: names of test families, or families by name; default those that the model was tested on.
        count: initial conditions per family.
        seed: which ones.
        quick: fewer trajectories, batches and repeats.
        cache: folder for the converged solutions.
        quiet: show no progress.

    Returns:
        figures of JSON types, see `pihc_zoo.evaluation.evaluate`: errors are fractions, times milliseconds per
        trajectory. ``results`` has the errors per family. Where the model's folder holds a graph, ``backends``
        compares both.

    Raises:
        ValueError: no such model or family, or a model of another backend than torch.
    """
    from .. import evaluation

    _check_integer(count, "count", 1)
    _check_integer(seed, "seed", 0)
    loaded = from_pretrained(model) if isinstance(model, str | os.PathLike) else model
    check_surrogate(loaded)
    if not isinstance(families, dict):
        families = families_of(loaded, families)
    path = None if cache is None else Path(cache)
    report = evaluation.evaluate(loaded, families, count, seed, quick, path, quiet=quiet)
    folder = loaded.folder
    if folder is not None and (folder / ONNX_FILE).is_file():
        first = next(iter(families.values()))
        draws = (loaded.problem, first, loaded.parameter_inputs, _BACKEND_COUNT, seed)
        models = {"torch": loaded, "onnxruntime": from_pretrained(folder, backend="onnx")}
        report["backends"] = evaluation.compare_backends(models, evaluation.reference_set(*draws, quiet=quiet))
    return report


def families_of(model: Model, names: Iterable[str] | None = None) -> dict[str, Family]:
    """Families by name, with the settings that the model's metrics.json records.

    Args:
        model: whose folder, if it has one, holds the records.
        names: default those that are recorded, else `default_families`.

    Raises:
        ValueError: no such family.
    """
    folder = getattr(model, "folder", None)
    recorded = ((folder and read_metrics(folder)) or {}).get("families", {})
    names = [names] if isinstance(names, str) else list(recorded if names is None else names)
    if not names:
        return default_families(model)
    return {name: family_of(name, model, recorded.get(name)) for name in names}


def _described(name: str | os.PathLike) -> Described:
    folder, _ = find_folder(name, backend="info")
    config = read_config(folder)
    return Described(*problem_of(config["problem"]), config, folder)


def _check_integer(value: Any, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
