"""``pihc info``: equation, domain, conditions, parameters, numerics and measured figures of a model."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import read_toml
from ..text import NONE, percent, unit_of
from .printing import plain_equation, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc info``."""
    parser.add_argument("model", help="name, folder or Hub id; or a recipe FILE.toml")


def run(options: argparse.Namespace) -> int:
    """Prints equation, domain, conditions, parameters, numerics and measured figures."""
    from ..zoo.loading import model_info

    if options.model.endswith(".toml"):
        print("\n".join(_of_recipe(Path(options.model))))
        return 0
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


def _of_recipe(path: Path) -> list[str]:
    """The problem of a recipe."""
    from ..problems import problem_of

    recipe = read_toml(path)
    if not isinstance(recipe.get("problem"), dict):
        raise ValueError(f"{path} has no table [problem]; compare: pihc new NAME")
    problem, inputs = problem_of(recipe["problem"])
    return _problem(str(recipe.get("name", path.stem)), problem, inputs, problem.trained_ranges({}))


def _description(info: dict[str, Any]) -> list[str]:
    from ..problems import problem_of

    config = info["config"]
    problem, inputs = problem_of(config["problem"])
    lines = _problem(info["name"], problem, inputs, problem.trained_ranges(config["trust"]))
    grid = config["grid"]
    parts = {"time grid": grid["time"], **{f"{name} grid": axis for name, axis in grid["space"].items()}}
    parts |= {"experts": config["decomposition"]}
    parts |= {key.replace("_", " "): config[key] for key in ("network", "ansatz", "residual_map", "solver")}
    threshold = config["trust"].get("threshold")
    return [
        *lines,
        "",
        *(f"{label:14}{_settings(part)}" for label, part in parts.items()),
        f"{'reliable':14}" + (f"estimated error at most {percent(threshold)}" if threshold else "not calibrated"),
    ]


def _problem(name: str, problem: Any, inputs: Sequence[str], ranges: dict[str, tuple[float, float]]) -> list[str]:
    """Equation, domain, conditions, output, input and parameters."""
    lines = [f"{name}: {problem.title}", ""]
    equations = problem.text or (plain_equation(problem.equation),)
    lines += [f"{'' if i else 'equation':12}{text}" for i, text in enumerate(equations)]
    units = {key: unit_of(unit) for key, unit in problem.units.items()}
    spans = []
    for axis_name, axis in problem.output_space.items():
        closed = " (periodic)" if axis.is_periodic else ""
        spans.append(f"{axis_name} from {axis.start:g} to {axis.stop:g}{units.get(axis_name, '')}{closed}")
    span = "steady" if problem.duration is None else f"t from 0 to {problem.duration:g}{units.get('t', '')}"
    lines.append(f"domain      {', '.join([*spans, span])}")
    if problem.can_continue:
        lines.append("            later times by continuing from the end state, marked unreliable")
    lines += [f"            {text}" for text in problem.wall_text or _walls(problem)]
    axes = problem.output_space.values()
    is_own = all(axis.is_periodic for axis in axes)
    points = "the input's own grid" if is_own else f"{' × '.join(str(len(axis.nodes)) for axis in axes)} points"
    times = "" if problem.duration is None else f" × {len(problem.output_times)} times"
    lines.append(f"output      {points}{times}, unless others are asked for")
    if problem.is_system:
        for i, (field, own) in enumerate(problem.fields.items()):
            words = f", {own.description}" if own.description else ""
            low, high = ranges[field]
            start = "" if (low, high) == (own.low, own.high) else f", at the start from {low:g} to {high:g}"
            lines.append(
                f"{'' if i else 'fields':12}{field} from {own.low:g} to {own.high:g}{unit_of(own.unit)}{start}{words}"
            )
    elif problem.duration is not None:
        low, high = ranges[problem.field]
        lines.append(
            f"input       u0 with values from {low:g} to {high:g}{units.get('u', '')}; others are marked unreliable"
        )
    rows = [["parameter", "default", "range", "unit", "meaning"]]
    for key, p in problem.parameters.items():
        rows.append(
            [key, f"{p.default:g}", f"{p.low:g} … {p.high:g}" if key in inputs else "fixed", p.unit, p.description]
        )
    for key, p in problem.coefficients.items():
        meaning = f"{p.description}, {p.extent}" if p.description else p.extent
        rows.append([key, "-", f"{p.low:g} … {p.high:g}", p.unit, meaning])
    return [*lines, "", table(rows)] if len(rows) > 1 else lines


def _walls(problem: Any) -> list[str]:
    lines = []
    for axis, walls in problem.walls(problem.typical()).items():
        for field, pair in (walls if problem.is_system else {problem.field: walls}).items():
            for side, wall in zip(("left", "right"), pair, strict=True):
                lines.append(
                    f"{side} wall{f' of {axis}' if problem.is_system else ''}: {_condition(wall, field, axis)}"
                )
    return lines


def _size(model: str) -> list[str]:
    """The number of trained weights, read from the headers of the files that are here."""
    from ..zoo.folder import tensor_shapes
    from ..zoo.hub import find_folder

    count = 0
    for path in find_folder(model, backend="info")[0].glob("model*.safetensors"):
        count += sum(map(math.prod, tensor_shapes(path).values()))
    return [f"{'weights':14}{count} numbers"] if count else []


def _figures(metrics: dict[str, Any]) -> list[str]:
    if not metrics.get("results"):
        return ["", "not measured yet; run: pihc evaluate MODEL"]
    rows = [["initial conditions", "mean", "median", "max", "count"]]
    for family, row in metrics["results"].items():
        rows.append(
            [family, *(percent(row.get(key)) for key in ("mean", "median", "max")), str(row.get("count", NONE))]
        )
    lines = ["", "relative L2 error against converged solutions", table(rows)]
    if metrics.get("compare"):
        rows = [["solver", "mean error", "ms per trajectory"]]
        rows += [[row["name"], percent(row["error_mean"]), f"{row['ms']:.2f}"] for row in metrics["compare"]]
        lines += ["", f"time at equal error, {metrics.get('hardware', 'one CPU thread')}", table(rows)]
    return lines


def _settings(part: dict[str, Any]) -> str:
    parts = []
    for key, value in part.items():
        if isinstance(value, dict):
            parts.append(f"{key}: {_settings(value)}" if value else f"{key}: none")
        else:
            parts.append(str(value) if key == "name" else f"{key} = {value}")
    return ("; " if any(isinstance(value, dict) for value in part.values()) else ", ").join(parts)


def _condition(wall: Any, field: str, axis: str) -> str:
    terms = []
    for factor, symbol in ((wall.value, field), (wall.slope, f"{field}_{axis}")):
        if factor:
            terms.append(symbol if factor == 1 else f"{factor:g} {symbol}")
    return f"{' + '.join(terms)} = {wall.target:g}"
