"""``pihc predict``: solves for initial conditions, writes an NPZ, figures and animations, or a Zarr store."""

from __future__ import annotations

import argparse
import re
import time
import warnings
from pathlib import Path
from typing import Any

from ..files import check_writable, npz_path
from ..text import nearest, percent, unit_of
from . import bulk
from .arguments import (
    add_device,
    assignment,
    check_count,
    expert_counts,
    load_model,
    names,
    number,
    numbers,
    positive,
    seed,
)
from .printing import warn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc predict``."""
    parser.epilog = (
        "INPUT holds u0 (batch, *space) or (*space), of a system with one more, last axis of fields or an array "
        "<name>0 per field, and optionally positions of u0 by the name of the axis (x, …), t (output times) and "
        "parameter_<name>. The output holds u0, the positions, t, u (batch, time, *space[, field]), the parameters and "
        "the trust report. Into a Zarr store (.zarr) go any number of trajectories, read from NPZ, netCDF, Zarr or HDF5"
        " by slices; the processes that torchrun starts share them."
    )
    parser.add_argument("model", help="name, folder or Hub id")
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="NPZ or HDF5 file with u0")
    parser.add_argument("--input", type=Path, dest="input_option", metavar="FILE", help="the same as INPUT")
    source = parser.add_argument_group("instead of INPUT")
    source.add_argument(
        "--constant", type=numbers, metavar="U0", help="one constant initial condition; of a system U0,V0 in its order"
    )
    source.add_argument(
        "--sample", type=positive, metavar="N", help="N random initial conditions, and parameters that are inputs"
    )
    source.add_argument("--family", help="family of --sample (default the first that the model was tested on)")
    source.add_argument("--seed", type=seed, help="seed of --sample (default 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="NPZ|ZARR", help="file or store to write")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="figure to write (.png, .pdf or .svg)")
    parser.add_argument("--field", metavar="NAME", help="field of a system in figure and animation (default all)")
    parser.add_argument("--animate", type=Path, metavar="GIF", help="animation to write (.gif)")
    parser.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="CPU threads (default 1: small solves do not gain from more)",
    )
    parser.add_argument("--index", type=int, default=0, help="trajectory in figure and animation (default 0)")
    parser.add_argument(
        "--save-diagnostics",
        type=names,
        default=[],
        metavar="NAME,NAME",
        help="further fields for the NPZ, e.g. velocity_x,velocity_y",
    )
    parser.add_argument(
        "--no-polish", action="store_true", help="leave answers as the experts' few coefficients make them"
    )
    parser.add_argument("--compress", action="store_true", help="a smaller NPZ, at many times the time to write it")
    parser.add_argument("--times", type=number, nargs="+", metavar="T", help="output times")
    parser.add_argument("--x", nargs="+", metavar="X", help="output positions; with several axes x=0.25,0.5 y=0.5")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="physical parameter, e.g. D=3e-4"
    )
    parser.add_argument("--experts", type=expert_counts, metavar="K", help="number of experts, or by axis: x=2,y=2")
    parser.add_argument(
        "--decomposition", metavar="NAME", help="how experts share: joint, overlapping, disjoint or one of your own"
    )
    parser.add_argument("--max-steps", type=positive, metavar="N", help="steps of the solver at most")
    parser.add_argument(
        "--on-failure",
        choices=("raise", "warn", "fallback"),
        help="a failed trajectory stops all (default), is NaN (default of a Zarr store), or is solved classically",
    )
    parser.add_argument("--backend", choices=("torch", "onnx"), default="torch")
    bulk.add_arguments(parser)
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Predicts, writes the NPZ and prints a summary."""
    if options.input is not None and options.input_option is not None:
        raise ValueError(f"the input is given twice, {str(options.input)!r} and --input; leave one out")
    options.input = options.input or options.input_option
    if options.output.suffix == ".zarr":
        return bulk.run(options, lambda model: _settings(options, model))
    bulk.check_unused(options)
    check_writable(options.output)
    output = check_writable(npz_path(options.output))
    if options.plot is not None:
        from ..plotting.style import check_suffix, require_matplotlib

        check_writable(check_suffix(options.plot))
        require_matplotlib()
    if options.animate is not None:
        from ..animation import check_gif

        check_writable(check_gif(options.animate))
        if options.times is not None and len(options.times) < 2:
            raise ValueError(f"--animate needs at least two times, got --times {options.times[0]:g}")
    given = [name for name in ("input", "constant", "sample") if getattr(options, name) is not None]
    if len(given) != 1:
        came = " and ".join(name if name == "input" else f"--{name}" for name in given) or "none"
        raise ValueError(f"expected one of INPUT, --constant and --sample, got {came}; see: pihc predict --help")
    for name in ("family", "seed"):
        if options.sample is None and getattr(options, name) is not None:
            raise ValueError(f"--{name} chooses among random initial conditions and needs --sample; leave it out")
    if options.input is not None:
        if options.input.exists() and output.exists() and options.input.samefile(output):
            raise ValueError(f"the output {str(output)!r} is the input file; choose another name")
        from ..data import read_arrays

        arrays = read_arrays(options.input)
    overrides = dict(assignment(text) for text in options.set)
    model = load_model(options)
    if options.backend == "torch":
        import torch

        torch.set_num_threads(options.threads)
    if options.field is not None and options.field not in model.problem.fields:
        raise ValueError(f"--field: no field {options.field!r}; {nearest(options.field, model.problem.fields)}")
    if options.save_diagnostics:
        _check_diagnostics(options.save_diagnostics, model.problem)
    if options.input is None:
        u0, arguments = _made_input(options, model)
    else:
        u0, arguments = _arguments(options.input, arrays, model.problem)
    arguments["parameters"] |= overrides
    if options.times is not None:
        arguments["times"] = options.times
    if options.x is not None:
        arguments["x"] = bulk.positions(options.x)
    batch, shape = _extent(u0, arguments, model.problem)
    check_count(batch, shape, str(options.input))
    if (options.plot is not None or options.animate is not None) and not 0 <= options.index < batch:
        raise ValueError(f"--index {options.index}: there are {batch} trajectories, counted from 0")
    arguments |= _settings(options, model)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the summary says it
        prediction = model.predict(u0, on_failure=options.on_failure or "raise", **arguments)
    seconds = time.perf_counter() - begin
    if options.animate is not None:
        prediction.animate(options.index, options.animate, field=options.field)
    if options.plot is not None:
        prediction.plot(options.index, options.plot, field=options.field)
    prediction.save(output, options.save_diagnostics, compress=options.compress)
    print_prediction(prediction, seconds)
    print("written to " + " and ".join(str(path) for path in (output, options.plot, options.animate) if path))
    return 0


def _settings(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Arguments of ``predict`` that say how to solve."""
    settings: dict[str, Any] = {}
    if options.experts is not None or options.decomposition is not None:
        settings["experts"] = _experts(options, model)
    if options.max_steps is not None:
        settings["max_steps"] = options.max_steps
    if options.no_polish:
        settings["polish"] = False
    return settings


def _arguments(path: Path, arrays: dict[str, Any], problem: Any) -> tuple[Any, dict[str, Any]]:
    """u0 and the arguments of ``predict`` that the arrays of a file hold."""
    from ..data import check_names, joined

    arrays = joined(arrays, problem)
    if "u0" not in arrays:
        last = ", field" if problem.is_system else ""
        raise ValueError(
            f"{str(path)!r} has no array u0 (it has: {', '.join(sorted(arrays)) or 'none'}); "
            f"expected u0 with the shape (batch, *space{last})"
        )
    check_names(arrays, problem)
    axes = problem.output_space
    known = [key for key in arrays if key in ("u0", "t", *axes) or key.startswith("parameter_")]
    for key in known:
        if arrays[key].dtype.kind not in "fiub":
            raise ValueError(f"{key} in {str(path)!r} must be real numbers, got the type {arrays[key].dtype}")
    arguments: dict[str, Any] = {"parameters": {}}
    positions = {key: arrays[key] for key in axes if key in arrays}
    if positions:
        arguments["input_x"] = positions
    if "t" in arrays:
        arguments["times"] = arrays["t"]
    for key in known:
        if key.startswith("parameter_"):
            arguments["parameters"][key.removeprefix("parameter_")] = arrays[key]
    return arrays["u0"], arguments


def _extent(u0: Any, arguments: dict[str, Any], problem: Any) -> tuple[int, tuple[int, ...]]:
    """The number of trajectories and (time, *space) of the answer to each."""
    axes = list(problem.output_space.values())
    fields = [len(problem.fields)] if problem.is_system else []
    batch, own = (len(u0), u0.shape[1:]) if u0.ndim == 1 + len(axes) + len(fields) else (1, u0.shape)
    sizes = [own[i] if axis.is_periodic and i < len(own) else len(axis.nodes) for i, axis in enumerate(axes)]
    given = arguments.get("x", {})
    given = given if isinstance(given, dict) else {problem.default_axis: given}
    sizes = [len(given.get(key, range(size))) for key, size in zip(problem.output_space, sizes, strict=True)]
    return batch, (len(arguments.get("times", problem.output_times)), *sizes, *fields)


def _made_input(options: argparse.Namespace, model: Any) -> tuple[Any, dict[str, Any]]:
    """u0 of --constant or --sample on the native grid, and the arguments of ``predict`` drawn with it."""
    import numpy as np

    problem = model.problem
    shape = problem.native_shape
    num_times = len(problem.output_times if options.times is None else options.times)
    check_count(options.sample or 1, (num_times, *shape), "--sample")
    if options.constant is not None:
        if len(options.constant) not in {1, len(problem.fields)}:
            names, count = ", ".join(problem.fields), len(options.constant)
            raise ValueError(f"--constant takes a number, or one for each of {names}, got {count} numbers")
        return np.broadcast_to(options.constant, (1, *shape)).copy(), {"parameters": {}}
    from ..zoo.testing import sample

    u0, parameters = sample(model, options.sample, options.family, options.seed or 0)
    return u0, {"parameters": parameters}


def _check_diagnostics(names: list[str], problem: Any) -> None:
    """Raises ValueError where the problem has no such further field."""
    for name in names:
        if name not in problem.diagnostics:
            remedy = nearest(name, problem.diagnostics) if problem.diagnostics else "this problem has none"
            raise ValueError(f"--save-diagnostics: no field {name!r}; {remedy}")


def _experts(options: argparse.Namespace, model: Any) -> Any:
    if options.backend == "onnx":
        raise ValueError("an ONNX model has its decomposition built in; leave --experts out or use --backend torch")
    from ..config import build, lookup
    from ..decomposition import DECOMPOSITIONS

    default = model.constraint.decomposition
    counts = dict(default.counts) if options.experts is None else options.experts
    counts = counts if isinstance(counts, dict) else {model.problem.default_axis: counts}
    if options.decomposition is None:
        return type(default)(counts)
    cls, settings = lookup("decomposition", {"name": options.decomposition, "counts": counts}, DECOMPOSITIONS)
    return build("decomposition", cls, settings)


def print_prediction(prediction: Any, seconds: float) -> None:
    import numpy as np

    from ..arrays import to_numpy

    count = len(prediction.u)
    converged = to_numpy(prediction.converged).reshape(count, -1).all(axis=1)
    reliable, estimates = to_numpy(prediction.is_reliable), to_numpy(prediction.estimated_error)
    known = estimates[np.isfinite(estimates)]
    noun = "trajectory" if count == 1 else "trajectories"
    print(f"{prediction.model}: {count} {noun} in {seconds:.3f} s ({1e3 * seconds / count:.1f} ms each)")
    if len(known):
        print(f"estimated error: mean {percent(known.mean())}, max {percent(known.max())}")
    print(f"converged: {int(converged.sum())} of {count}; reliable: {int(reliable.sum())} of {count}")
    stopped = to_numpy(prediction.failure_time)
    is_failed = ~converged | np.isfinite(stopped)
    failed = np.flatnonzero(is_failed)
    if len(failed):
        is_missing = ~np.isfinite(to_numpy(prediction.u)).reshape(count, -1).all(axis=1)
        replaced = np.array(["replaced by the classical solver" in message for message in prediction.messages])
        print(
            f"failed: {len(failed)}, of which {replaced.sum()} replaced by the classical solver, {is_missing.sum()} NaN"
        )
        unit = unit_of(prediction.units.get("t", ""))
        for i in np.flatnonzero(np.isfinite(stopped) & ~replaced)[:8]:
            print(f"trajectory {i} failed at t = {stopped[i]:.3g}{unit}: its values are NaN from then on")
        warn(f"trajectory {failed[0]}: {prediction.messages[failed[0]]}")
    doubtful = np.flatnonzero(~is_failed & ~reliable)
    kinds: dict[str, list[int]] = {}  # the same reasons, whatever their figures
    for i in doubtful:
        kinds.setdefault(re.sub(r"[\d.e+-]+", "0", prediction.messages[i]), []).append(i)
    for rows in kinds.values():
        numbers = ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")
        is_one = len({prediction.messages[i] for i in rows}) == 1
        warn(f"not reliable: {numbers}; {'' if is_one else f'trajectory {rows[0]}: '}{prediction.messages[rows[0]]}")
