"""The command ``pihc``: list, info, predict, evaluate, demo and more.

What a user can do wrong ends in one line on stderr, ``error: …``, and exit code 2; an interrupt in
130. Warnings are one line each, ``warning: …``. Modules that import torch load inside the commands.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# name: (help, adds the arguments, runs); "module:function" is imported when the command is chosen
COMMANDS: dict[str, tuple[str, str, str]] = {
    "list": ("names, equations and measured errors of the shipped models", "cli:list_arguments", "cli:run_list"),
    "info": ("everything about one model", "cli:info_arguments", "cli:run_info"),
    "predict": ("solve for initial conditions", "cli:predict_arguments", "cli:run_predict"),
    "evaluate": ("measure error, speed and trust of a model", "cli:evaluate_arguments", "cli:run_evaluate"),
    "demo": ("predict, compare with the truth and draw, offline", "cli:demo_arguments", "cli:run_demo"),
    "finetune": ("tune a model on your own data", "learning.command:add_arguments", "learning.command:run"),
    "export": (
        "write a complete model folder",
        "zoo.publish:add_export_arguments",
        "zoo.publish:run_export",
    ),
    "doctor": ("check the installation", "doctor:add_arguments", "doctor:run"),
    "push": ("publish a model on the Hub", "zoo.publish:add_push_arguments", "zoo.publish:run_push"),
}


class _Parser(argparse.ArgumentParser):
    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options, allow_abbrev=False)

    def error(self, message: str):
        raise ValueError(f"{message}; see: {self.prog} --help")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", RuntimeWarning)
            return _run(arguments)
    except BrokenPipeError:  # the reader of our output has left, as in: pihc list | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (nothing to flush at exit)
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        return _fail("not enough memory; predict fewer trajectories, times or points at once")
    except (ValueError, OSError) as error:
        return _fail(error)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return _fail("not enough memory on the device; predict fewer trajectories at once or use --device cpu")


def _run(arguments: list[str]) -> int:
    from . import __version__

    parser = _Parser(prog="pihc", description="Pretrained, physics-constrained PDE surrogates.")
    parser.add_argument("--version", action="version", version=f"pihc_zoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        from .zoo.config import nearest

        raise ValueError(f"no command {chosen!r}; {nearest(chosen, COMMANDS)}")
    for name, (summary, add_arguments, _) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            _function(add_arguments)(command)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    if options.command is None:
        parser.print_help()
        return 0
    return _function(COMMANDS[options.command][2])(options) or 0


def _function(path: str) -> Callable:
    module, name = path.split(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _fail(error: Any) -> int:
    print(f"error: {_one_line(error) or type(error).__name__}", file=sys.stderr)
    return 2


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    _warn(message)


def _warn(message: Any) -> None:
    print(f"warning: {_one_line(message)}", file=sys.stderr)


# ---------------------------------------------------------------------- shared


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected zero or a positive integer, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _check_writable(path: Path) -> Path:
    """``path`` if a file can be written there.

    Raises:
        ValueError: its folder does not exist or is not writable, or it is a folder itself.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {str(path)!r}: it is a folder; give the name of a file")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}."):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write {str(path)!r}: {error.strerror or error}; choose a writable folder that exists"
        ) from None
    return path


def _load(options: argparse.Namespace) -> Any:
    from .zoo.hub import from_pretrained

    return from_pretrained(options.model, device=options.device, backend=getattr(options, "backend", "torch"))


def _percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def _table(rows: list[list[str]]) -> str:
    """Left-aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


# ---------------------------------------------------------------------- list and info


def list_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc list``."""
    parser.add_argument("pattern", nargs="?", default="*", help="shell-style pattern on the name, e.g. 'diffusion*'")


def run_list(options: argparse.Namespace) -> int:
    """Prints a line per shipped model."""
    from .problems import PROBLEMS
    from .zoo.registry import list_models, model_info, shipped_folder

    names = list_models(options.pattern)
    if not names:
        raise ValueError(f"no model matches {options.pattern!r}; known: {', '.join(list_models())}")
    rows = [["model", "equation", "parameters as input", "mean error", "weights"]]
    for name in names:
        info = model_info(name)
        problem = info["config"]["problem"]
        cls = PROBLEMS.get(problem["name"])
        size = sum(path.stat().st_size for path in shipped_folder(name).glob("model*.safetensors"))
        rows.append(
            [
                name,
                cls.title if cls else problem["name"],
                ", ".join(problem.get("inputs", ())) or "none",
                _percent(_stated_error(info)),
                f"{size / 1e6:.2f} MB",
            ]
        )
    print(_table(rows))
    return 0


def _stated_error(info: dict[str, Any]) -> float | None:
    """The largest mean error over the families that the model was tested on."""
    results = info.get("metrics", {}).get("results", {})
    means = [row["mean"] for row in results.values() if row.get("mean") is not None]
    return max(means, default=None)


def info_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc info``."""
    parser.add_argument("model", help="name, folder or Hub id")


def run_info(options: argparse.Namespace) -> int:
    """Prints equation, domain, conditions, parameters, numerics and measured figures."""
    from .zoo.registry import model_info

    info = model_info(options.model)
    try:
        text = "\n".join([*_description(info), *_size(options.model), *_figures(info.get("metrics", {}))])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"config.json or metrics.json of {options.model!r} is incomplete or malformed "
            f"({type(error).__name__}: {error}); download or export it again"
        ) from None
    print(text)
    return 0


def _description(info: dict[str, Any]) -> list[str]:
    from .problems import PROBLEMS
    from .zoo.config import build, lookup

    config = info["config"]
    cls, settings = lookup("problem", config["problem"], PROBLEMS)
    inputs = settings.pop("inputs", ())
    problem = build("problem", cls, settings)
    lines = [f"{info['name']}: {problem.title}", "", f"equation    {_plain(problem.equation)}"]
    units = {key: "" if unit == "dimensionless" else f" {unit}" for key, unit in problem.units.items()}
    spans = []
    for name, axis in problem.output_space.items():
        closed = " (periodic)" if axis.is_periodic else ""
        spans.append(f"{name} from {axis.start:g} to {axis.stop:g}{units.get(name, '')}{closed}")
    lines.append(f"domain      {', '.join(spans)}, t from 0 to {problem.duration:g}{units.get('t', '')}")
    if problem.can_continue:
        lines.append("            later times by continuing from the end state, marked unreliable")
    for name, walls in problem.walls(problem.defaults()).items():
        for side, wall in zip(("left", "right"), walls, strict=True):
            lines.append(f"            {side} wall: {_condition(wall, name)}")
    axes = problem.output_space.values()
    is_own = all(axis.is_periodic for axis in axes)
    points = "the input's own grid" if is_own else f"{' × '.join(str(len(axis.nodes)) for axis in axes)} points"
    lines.append(f"output      {points} × {len(problem.output_times)} times, unless others are asked for")
    low, high = config["trust"].get("state_range", problem.state_range)
    lines.append(
        f"input       u0 with values from {low:g} to {high:g}{units.get('u', '')}; others are marked unreliable"
    )
    rows = [["parameter", "default", "range", "unit", "meaning"]]
    for key, p in problem.parameters.items():
        span = f"{p.low:g} … {p.high:g}" if key in inputs else "fixed"
        rows.append([key, f"{p.default:g}", span, p.unit, p.description])
    lines += ["", _table(rows), ""]
    grid = config["grid"]
    parts = {"time grid": grid["time"], **{f"{name} grid": axis for name, axis in grid["space"].items()}}
    parts |= {"experts": config["decomposition"]}
    parts |= {key.replace("_", " "): config[key] for key in ("network", "ansatz", "residual_map", "solver")}
    threshold = config["trust"].get("threshold")
    return [
        *lines,
        *(f"{label:14}{_settings(part)}" for label, part in parts.items()),
        f"{'reliable':14}" + (f"estimated error at most {_percent(threshold)}" if threshold else "not calibrated"),
    ]


def _size(model: str) -> list[str]:
    """The number of trained weights, read from the headers of the files that are here."""
    from .zoo.hub import find_folder

    count = 0
    for path in find_folder(model, backend="info")[0].glob("model*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
    return [f"{'weights':14}{count} numbers"] if count else []


def _figures(metrics: dict[str, Any]) -> list[str]:
    if not metrics.get("results"):
        return ["", "not measured yet; run: pihc evaluate MODEL"]
    rows = [["initial conditions", "mean", "median", "max", "count"]]
    for family, row in metrics["results"].items():
        rows.append(
            [family, *(_percent(row.get(key)) for key in ("mean", "median", "max")), str(row.get("count", "–"))]
        )
    lines = ["", "relative L2 error against converged solutions", _table(rows)]
    if metrics.get("compare"):
        rows = [["solver", "mean error", "ms per trajectory"]]
        rows += [[row["name"], _percent(row["error_mean"]), f"{row['ms']:.2f}"] for row in metrics["compare"]]
        lines += ["", f"time at equal error, {metrics.get('hardware', 'one CPU thread')}", _table(rows)]
    return lines


def _settings(part: dict[str, Any]) -> str:
    parts = []
    for key, value in part.items():
        if isinstance(value, dict):
            parts.append(f"{key}: {_settings(value)}" if value else f"{key}: none")
        else:
            parts.append(str(value) if key == "name" else f"{key} = {value}")
    return ("; " if any(isinstance(value, dict) for value in part.values()) else ", ").join(parts)


def _condition(wall: Any, axis: str) -> str:
    terms = []
    for factor, symbol in ((wall.value, "u"), (wall.slope, f"u_{axis}")):
        if factor:
            terms.append(symbol if factor == 1 else f"{factor:g} {symbol}")
    return f"{' + '.join(terms)} = {wall.target:g}"


def _plain(latex: str) -> str:
    """An equation of the simple LaTeX that problems use, as plain text."""

    def fraction(match: re.Match) -> str:
        return "/".join(part if re.fullmatch(r"\\?\w+", part) else f"({part})" for part in match.groups()) + " "

    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", fraction, latex)
    text = re.sub(r"\\mathbf\{(\w+)\}", r"\1", text)
    text = text.replace(r"\quad", "  ").replace(r"\,", " ").replace("\\ ", " ")
    greek = {"phi": "φ", "psi": "ψ", "rho": "ρ", "nu": "ν", "Delta": "Δ", "nabla": "∇", "cdot": "·"}
    for name, symbol in greek.items():
        text = text.replace(f"\\{name}", symbol)
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
    return re.sub(r"_\{([^{}]*)\}", r"_\1", text)


# ---------------------------------------------------------------------- predict


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc predict``."""
    parser.epilog = (
        "INPUT holds u0 (batch, *space) or (*space), and optionally positions of u0 by the name of the axis (x, …), "
        "t (output times) and parameter_<name>. The output holds u0, the positions, t, u (batch, time, *space), the "
        "parameters and the trust report."
    )
    parser.add_argument("model", help="name, folder or Hub id")
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="NPZ or HDF5 file with u0")
    source = parser.add_argument_group("instead of INPUT")
    source.add_argument("--constant", type=_number, metavar="U0", help="one constant initial condition")
    source.add_argument("--sample", type=_count, metavar="N", help="N random initial conditions")
    source.add_argument("--family", help="family of --sample (default random_sines)")
    source.add_argument("--seed", type=_seed, default=0, help="seed of --sample")
    parser.add_argument("--output", type=Path, required=True, metavar="NPZ", help="file to write")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="figure to write (.png, .pdf or .svg)")
    parser.add_argument("--animate", type=Path, metavar="GIF", help="animation to write (.gif)")
    parser.add_argument(
        "--threads",
        type=_count,
        default=1,
        metavar="N",
        help="CPU threads (default 1: small solves do not gain from more)",
    )
    parser.add_argument("--index", type=int, default=0, help="trajectory in figure and animation (default 0)")
    parser.add_argument(
        "--save-diagnostics",
        type=_names,
        default=[],
        metavar="NAME,NAME",
        help="further fields for the NPZ, e.g. velocity_x,velocity_y",
    )
    parser.add_argument("--compress", action="store_true", help="a smaller NPZ, at many times the time to write it")
    parser.add_argument("--times", type=_number, nargs="+", metavar="T", help="output times")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="physical parameter, e.g. D=3e-4"
    )
    parser.add_argument("--experts", type=_expert_counts, metavar="K", help="number of experts, or by axis: x=2,y=2")
    parser.add_argument("--decomposition", choices=("joint", "overlapping", "disjoint"), help="how experts share")
    parser.add_argument("--max-steps", type=_count, metavar="N", help="steps of the solver at most")
    parser.add_argument(
        "--on-failure",
        choices=("raise", "warn", "fallback"),
        default="raise",
        help="a failed trajectory stops all (default), is NaN, or is solved classically",
    )
    parser.add_argument("--backend", choices=("torch", "onnx"), default="torch")
    _add_device(parser)


def run_predict(options: argparse.Namespace) -> int:
    """Predicts, writes the NPZ and prints a summary."""
    _check_writable(options.output)
    output = (
        options.output if options.output.suffix == ".npz" else options.output.with_name(options.output.name + ".npz")
    )
    _check_writable(output)
    if options.plot is not None:
        from .plotting import check_suffix, require_matplotlib

        _check_writable(check_suffix(options.plot))
        require_matplotlib()
    if options.animate is not None:
        from .animation import check_gif

        _check_writable(check_gif(options.animate))
        if options.times is not None and len(options.times) < 2:
            raise ValueError(f"--animate needs at least two times, got --times {options.times[0]:g}")
    given = [name for name in ("input", "constant", "sample") if getattr(options, name) is not None]
    if len(given) != 1:
        came = " and ".join(name if name == "input" else f"--{name}" for name in given) or "none"
        raise ValueError(f"expected one of INPUT, --constant and --sample, got {came}; see: pihc predict --help")
    if options.input is not None:
        if options.input.exists() and output.exists() and options.input.samefile(output):
            raise ValueError(f"the output {str(output)!r} is the input file; choose another name")
        arrays = _read_input(options.input)
    overrides = dict(_assignment(text) for text in options.set)
    model = _load(options)
    if options.backend == "torch":
        import torch

        torch.set_num_threads(options.threads)
    if options.save_diagnostics:
        _check_diagnostics(options.save_diagnostics, model.problem)
    if options.input is None:
        u0, arguments = _made_input(options, model), {"parameters": {}}
    else:
        u0, arguments = _arguments(options.input, arrays, model.problem)
    arguments["parameters"] |= overrides
    if options.times is not None:
        arguments["times"] = options.times
    batch = len(u0) if u0.ndim == 1 + len(model.problem.output_space) else 1
    if (options.plot is not None or options.animate is not None) and not 0 <= options.index < batch:
        raise ValueError(f"--index {options.index}: there are {batch} trajectories, counted from 0")
    if options.experts is not None or options.decomposition is not None:
        arguments["experts"] = _experts(options, model)
    if options.max_steps is not None:
        arguments["max_steps"] = options.max_steps
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the summary says it
        prediction = model.predict(u0, on_failure=options.on_failure, **arguments)
    seconds = time.perf_counter() - begin
    if options.animate is not None:
        prediction.animate(options.index, options.animate)
    if options.plot is not None:
        prediction.plot(options.index, options.plot)
    prediction.save(output, options.save_diagnostics, compress=options.compress)
    _print_prediction(prediction, seconds)
    print("written to " + " and ".join(str(path) for path in (output, options.plot, options.animate) if path))
    return 0


def _read_input(path: Path) -> dict[str, Any]:
    """The arrays of a file, u0 among them."""
    from .data import read_arrays

    arrays = read_arrays(path)
    if "u0" not in arrays:
        raise ValueError(
            f"{str(path)!r} has no array u0 (it has: {', '.join(sorted(arrays)) or 'none'}); "
            "expected u0 with the shape (batch, *space)"
        )
    return arrays


def _arguments(path: Path, arrays: dict[str, Any], problem: Any) -> tuple[Any, dict[str, Any]]:
    """u0 and the arguments of ``predict`` that the arrays of a file hold."""
    from .data import check_names

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


def _made_input(options: argparse.Namespace, model: Any) -> Any:
    """u0 of --constant or --sample on the native grid."""
    import numpy as np

    positions = {name: axis.nodes for name, axis in model.problem.output_space.items()}
    if options.constant is not None:
        return np.full((1, *map(len, positions.values())), options.constant)
    from .evaluation import default_families, family_of

    family = family_of(options.family, model) if options.family else next(iter(default_families(model).values()))
    return family.sample(options.sample, list(positions.values()), np.random.default_rng(options.seed))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _check_diagnostics(names: list[str], problem: Any) -> None:
    """Raises ValueError where the problem has no such further field."""
    from .zoo.config import nearest

    for name in names:
        if name not in problem.diagnostics:
            remedy = nearest(name, problem.diagnostics) if problem.diagnostics else "this problem has none"
            raise ValueError(f"--save-diagnostics: no field {name!r}; {remedy}")


def _expert_counts(text: str) -> int | dict[str, int]:
    if "=" not in text:
        return _count(text)
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not axis.strip() for axis, _, _ in pairs):
        raise argparse.ArgumentTypeError(f"expected counts by axis such as x=2,y=2, got {text!r}")
    return {axis.strip(): _count(count.strip()) for axis, _, count in pairs}


def _assignment(text: str) -> tuple[str, float]:
    key, separator, value = text.partition("=")
    with contextlib.suppress(ValueError):
        if key and separator:
            return key.strip(), float(value)
    raise ValueError(f"--set expects NAME=NUMBER, for example D=3e-4; got {text!r}")


def _experts(options: argparse.Namespace, model: Any) -> Any:
    if options.backend == "onnx":
        raise ValueError("an ONNX model has its decomposition built in; leave --experts out or use --backend torch")
    from .decomposition import DECOMPOSITIONS

    default = model.constraint.decomposition
    counts = dict(default.counts) if options.experts is None else options.experts
    counts = counts if isinstance(counts, dict) else {model.problem.default_axis: counts}
    return type(default)(counts) if options.decomposition is None else DECOMPOSITIONS[options.decomposition](counts)


def _print_prediction(prediction: Any, seconds: float) -> None:
    import numpy as np

    from .prediction import to_numpy

    count = len(prediction.u)
    converged = to_numpy(prediction.converged).reshape(count, -1).all(axis=1)
    reliable, estimates = to_numpy(prediction.is_reliable), to_numpy(prediction.estimated_error)
    known = estimates[np.isfinite(estimates)]
    noun = "trajectory" if count == 1 else "trajectories"
    print(f"{prediction.model}: {count} {noun} in {seconds:.3f} s ({1e3 * seconds / count:.1f} ms each)")
    if len(known):
        print(f"estimated error: mean {_percent(known.mean())}, max {_percent(known.max())}")
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
        unit = "" if prediction.units.get("t", "dimensionless") == "dimensionless" else f" {prediction.units['t']}"
        for i in np.flatnonzero(np.isfinite(stopped) & ~replaced)[:8]:
            print(f"trajectory {i} failed at t = {stopped[i]:.3g}{unit}: its values are NaN from then on")
        _warn(f"trajectory {failed[0]}: {prediction.messages[failed[0]]}")
    doubtful = np.flatnonzero(~is_failed & ~reliable)
    kinds: dict[str, list[int]] = {}  # the same reasons, whatever their figures
    for i in doubtful:
        kinds.setdefault(re.sub(r"[\d.e+-]+", "0", prediction.messages[i]), []).append(i)
    for rows in kinds.values():
        numbers = ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")
        is_one = len({prediction.messages[i] for i in rows}) == 1
        _warn(f"not reliable: {numbers}; {'' if is_one else f'trajectory {rows[0]}: '}{prediction.messages[rows[0]]}")


# ---------------------------------------------------------------------- evaluate


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc evaluate``."""
    parser.add_argument("model", help="name, folder or Hub id")
    parser.add_argument("--count", type=_count, default=32, help="initial conditions per family (default 32)")
    parser.add_argument("--seed", type=_seed, default=0, help="which initial conditions")
    parser.add_argument("--family", action="append", metavar="NAME", help="only this test family; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures as JSON")
    parser.add_argument("--quick", action="store_true", help="fewer trajectories and repeats")
    _add_device(parser)


def run_evaluate(options: argparse.Namespace) -> int:
    """Measures a model and prints the tables."""
    if options.json is not None:
        _check_writable(options.json)
    model = _load(options)
    from .evaluation import evaluate, family_of
    from .prediction import atomic_path
    from .zoo.registry import model_info

    recorded = model_info(options.model).get("metrics", {}).get("families", {})
    families = {n: family_of(n, model, recorded.get(n)) for n in options.family or recorded} or None
    report = evaluate(model, families, options.count, options.seed, options.quick)
    print_report(report)
    backends = _measure_backends(options.model, model, families, options)
    if backends:
        report["backends"] = backends
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nwritten to {options.json}")
    return 0


def _measure_backends(name: str, model: Any, families: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both backends side by side, where the model's folder holds a graph."""
    from . import evaluation
    from .zoo.folder import ONNX_FILE
    from .zoo.hub import find_folder, from_pretrained

    folder, _ = find_folder(name)
    if not (folder / ONNX_FILE).is_file():
        print("\nNo model.onnx beside the weights: pihc export MODEL --to DIR --onnx makes one, evaluate DIR then")
        return []
    family = next(iter((families or evaluation.default_families(model)).values()))
    references = evaluation.reference_set(model.problem, family, model.parameter_inputs, 16, options.seed)
    models = {"torch": model, "onnxruntime": from_pretrained(str(folder), backend="onnx")}
    table = evaluation.compare_backends(models, references)
    print("\nBackends")
    rows = [["backend", "batch", "ms per trajectory", "difference", "time / torch's"]]
    for r in table:
        ratio = "rejected: answers differ" if r["ratio"] is None else f"{r['ratio']:.2f}"
        rows.append([r["backend"], str(r["batch"]), _spread(r), f"{r['difference']:.0e}", ratio])
    print(_table(rows))
    return table


def print_report(report: dict[str, Any]) -> None:
    """Prints what `evaluation.evaluate` returns."""
    print(f"{report['model']} on {report['hardware']}; torch {report['environment']['torch']}")
    print("\nRelative L2 error against converged solutions, unseen initial conditions")
    rows = [["family", "mean", "median", "max", "count", "failed", "estimate/true", "rank corr.", "flagged"]]
    for name, row in report["results"].items():
        trust = report["trust"][name]
        correlation = trust["rank_correlation"]
        rows.append(
            [
                name,
                *(_percent(row[key]) for key in ("mean", "median", "max")),
                str(row["count"]),
                str(row["failed"]),
                f"{trust['ratio_median']:.2f}",
                "–" if correlation is None else f"{correlation:.2f}",
                _percent(trust["false_alarms"]),
            ]
        )
    print(_table(rows))
    print(f"\nWhat each ingredient brings ({next(iter(report['results']))}, batch {report['ladder'][0]['batch']})")
    rows = [["method", "mean error", "max error", "ms per trajectory"]]
    rows += [[r["name"], _percent(r["error_mean"]), _percent(r["error_max"]), _spread(r)] for r in report["ladder"]]
    print(_table(rows))
    print()
    print_comparison(report["compare"])
    print(f"\nExperts (joint), beside {report['experts'][0]['classical']}, in the same batch")
    rows = [["batch", "experts", "mean error", "max error", "ms per trajectory", "classical ms", "its time / ours"]]
    for r in report["experts"]:
        ratio = "–" if r["ratio"] is None else f"{r['ratio']:.2f}"
        rows.append(
            [
                str(r["batch"]),
                str(r["experts"]),
                _percent(r["error_mean"]),
                _percent(r["error_max"]),
                _spread(r),
                f"{r['classical_ms']:.2f}",
                ratio if r["is_accepted"] else f"rejected: error above {_percent(r['stated_error'])}",
            ]
        )
    print(_table(rows))
    _print_roll_out(report)
    print("\nFlagged as not reliable, of inputs unlike the training family")
    print(", ".join(f"{name} {_percent(value)}" for name, value in report["out_of_family"].items()))
    memory = report["peak_memory_mb"]
    if memory["value"] is not None:
        print(f"\nPeak memory of a batch of {memory['batch']}: {memory['value']:.0f} MB beyond the loaded model")


def _print_roll_out(report: dict[str, Any]) -> None:
    """Prints the sections that only models with inputs, or on periodic axes, have."""
    if report.get("by_parameter"):
        print("\nBy parameter")
        rows = [["parameter", "values", "mean error", "max error", "count"]]
        for r in report["by_parameter"]:
            values = r["name"] if "name" in r else f"{r['low']:.3g} … {r['high']:.3g}"
            errors = (_percent(r[key]) for key in ("error_mean", "error_max"))
            rows.append([r["parameter"], values, *errors, str(r["count"])])
        print(_table(rows))
    if report.get("resolutions"):
        print("\nResolutions")
        rows = [["points per axis", "mean error", "max error", "mean at the end", "ms per trajectory"]]
        for r in report["resolutions"]:
            errors = (_percent(r[key]) for key in ("error_mean", "error_max", "end_mean"))
            rows.append([str(r["points"]), *errors, _spread(r)])
        print(_table(rows))
    if report.get("windows"):
        print("\nTime windows: error at their ends")
        rows = [["window", "t", "mean error", "max error", "solver steps"]]
        for r in report["windows"]:
            errors = (_percent(r[key]) for key in ("error_mean", "error_max"))
            rows.append([str(r["window"]), f"{r['t']:.3g}", *errors, f"{r['steps']:.1f}"])
        print(_table(rows))
    for name, spectrum in (report.get("spectra") or {}).items():
        deviation = _percent(spectrum["deviation"])
        print(f"{name} spectrum at the end: within {deviation} of the truth up to wave number {spectrum['band']}")


def print_comparison(rows: list[dict[str, Any]]) -> None:
    """Prints what `evaluation.compare` returns, and what it means."""
    batch = rows[0]["batch"]
    single = [row["name"].split(",")[0] for row in rows if row["batch"] == 1 < batch]
    apart = f"; {', '.join(single)} one trajectory at a time" if single else ""
    print(f"Time at equal error: batch {batch}, one thread, median (lowest – highest){apart}")
    table = [["solver", "mean error", "ms per trajectory", "time / surrogate's"]]
    for row in rows:
        ratio = "1" if row is rows[0] else "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.append([row["name"], _percent(row["error_mean"]), _spread(row), ratio])
    print(_table(table))
    for row in rows[1:]:
        if row["ratio"] is None:
            print(f"{row['name']} is less accurate than the surrogate: no ratio.")
        else:
            ratio, word = (row["ratio"], "less") if row["ratio"] >= 1 else (1 / row["ratio"], "more")
            print(f"The surrogate takes {ratio:.1f} times {word} time than {row['name']}.")


def _spread(row: dict[str, Any]) -> str:
    return f"{row['ms']:.2f} ({row['ms_lowest']:.2f} – {row['ms_highest']:.2f})"


# ---------------------------------------------------------------------- demo

DEMO_MODEL, DEMO_COUNT, DEMO_SEED = "diffusion-sorption.general", 8, 2024


def demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc demo``."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for demo.npz and demo.png")


def run_demo(options: argparse.Namespace) -> int:
    """Predicts unseen initial conditions with a shipped model, compares with the truth, draws."""
    folder = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create {str(folder)!r}: {error.strerror}; choose a writable folder") from None
    array_path, plot_path = _check_writable(folder / "demo.npz"), folder / "demo.png"
    from .plotting import require_matplotlib

    require_matplotlib()
    from .evaluation import one_thread

    with one_thread():  # the classical solvers have one as well
        _demonstrate(array_path, plot_path)
    print(f"\nwritten to {array_path} and {plot_path}")
    return 0


def _demonstrate(array_path: Path, plot_path: Path) -> None:
    from .evaluation import compare, family_of, reference_set, relative_error
    from .zoo.hub import from_pretrained

    model = from_pretrained(DEMO_MODEL)
    problem = model.problem
    print(f"{DEMO_MODEL}: {problem.title}\n  {_plain(problem.equation)}")
    print(f"solving {DEMO_COUNT} unseen random initial conditions to convergence for comparison …", flush=True)
    family = family_of("random_sines", model)
    references = reference_set(problem, family, model.parameter_inputs, DEMO_COUNT, DEMO_SEED)
    references.predict(model)  # builds what is cached from then on
    begin = time.perf_counter()
    prediction = references.predict(model)
    seconds = time.perf_counter() - begin
    errors = relative_error(prediction.u, references.u)
    _print_prediction(prediction, seconds)
    print(f"true error:      mean {_percent(errors.mean())}, max {_percent(errors.max())}\n")
    print_comparison(compare(model, references, DEMO_COUNT, repeats=5))
    prediction.save(array_path)
    prediction.plot(0, plot_path)


if __name__ == "__main__":
    sys.exit(main())
