"""python -m training.finetuning_benchmark: what fine-tuning gains on families that the shipped models have not seen.

Each row is a model and a family: the error before; after tuning without data on 16 initial conditions; after tuning
with their 16 solutions; of the same network trained from random weights on these, with as many steps. Errors are means
over 16 further trajectories of the family (8 on periodic axes), relative L2 against converged classical solutions,
without a polish. Beside them: the lift alone; what all nodal values solved by Newton's method reach on the same grid,
where that is to be had, about the error of the grid itself; and, in rows with changed settings, these without tuning.
Gains are over the given model or, where that leaves trajectories without an answer, over these settings.

Finished rows are kept in ``--to`` (JSON) and not repeated; ``--readme`` prints them into README's table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pihc_zoo as pz
from pihc_zoo import evaluation
from pihc_zoo.cli.arguments import Parser
from pihc_zoo.families import BoundedFamily, Domain, Family, PeriodicGaussianProcess, RandomWaves, SmoothFields
from pihc_zoo.families import sample_parameters as draw_parameters
from pihc_zoo.files import save_npz, write_text
from pihc_zoo.learning.start import with_constants, with_settings
from pihc_zoo.problems.constants import constants_of
from pihc_zoo.reference import in_passes, is_periodic, truth_solver
from pihc_zoo.text import percent

from .console import guarded, integer

TRAINED_ON, TESTED_ON, TESTED_ON_PERIODIC, SEED = 16, 16, 8, 11
STEPS, STEPS_ROLL_OUT = 300, 100  # of each tuning: the same whatever else the machine does
RECORD, README = Path(__file__).with_name("finetuning.json"), Path(__file__).parents[1] / "README.md"
_BEGIN, _END = "<!-- fine-tuning: python -m training.finetuning_benchmark --readme -->", "<!-- end of fine-tuning -->"


@dataclasses.dataclass(frozen=True)
class FrontsAndPulses(BoundedFamily):
    """Fronts and pulses of width .03 to .3, of either direction, from a base of at most .15 to at most ``high``."""

    high: float = 0.6

    def draw(self, count, axes, rng):
        (x,) = axes
        fields = []
        for _ in range(count):
            base, top = 0.15 * rng.uniform() * (rng.uniform() > 0.4), self.high * rng.uniform(0.2, 1.0)
            centre, width = rng.uniform(0.2, 0.8), np.exp(rng.uniform(np.log(0.03), np.log(0.3)))
            if rng.uniform() < 0.5:
                shape = 0.5 * (1 + np.tanh(rng.choice((-1, 1)) * (x - centre) / width))
            else:
                shape = np.exp(-0.5 * ((x - centre) / width) ** 2)
            fields.append(base + max(top - base, 0.0) * shape)
        return np.stack(fields)


@dataclasses.dataclass(frozen=True)
class Row:
    """A model and a family that it has not seen.

    Attributes:
        title: of the family.
        parameters, overrides: of `finetune`.
    """

    model: str
    title: str
    family: Family
    parameters: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """Under which it is recorded."""
        return f"{self.model} | {self.title}" + "".join(f" | {k} = {v}" for k, v in self.overrides.items())


_FRONTS = ("diffusion-sorption.general", "fronts and pulses up to 0.6", FrontsAndPulses())
_SMALL = ("diffusion-sorption.parametric", "n_f 0.35 to 0.5 (below 0.5)", SmoothFields(), {"n_f": (0.35, 0.5)})
_EDDIES = (
    "navier-stokes-2d.re1e4",
    "length scale 0.5 (of 0.8), twice the amplitude",
    PeriodicGaussianProcess(length_scale=0.5, scale=2.0),
)
_THIN = ("burgers-1d.viscous", "viscosity 7e-4 to 1e-3 (below 1e-3)", RandomWaves(), {"nu": (7e-4, 1e-3)})
_FINE = {"grid.space.x.num_nodes": 64, "grid.space.y.num_nodes": 64, "ansatz.band": 25, "ansatz.steps": 48}
_STRONG = ("diffusion-sorption.parametric", "D 1e-3 to 1.3e-3, phi 0.5 to 0.65 (above)", SmoothFields())
ROWS = (
    Row(*_FRONTS),
    Row(*_FRONTS, overrides={"network.num_basis": 8}),
    Row(*_FRONTS, overrides={"network.num_basis": 16, "grid.space.x.num_nodes": 96, "grid.time.elements": 7}),
    Row(*_SMALL),
    Row(*_SMALL, overrides={"network.num_basis": 12}),
    Row(*_SMALL, overrides={"network.num_basis": 12, "ansatz.num_corrections": 6}),
    Row(*_STRONG, {"D": (1e-3, 1.3e-3), "phi": (0.5, 0.65)}),
    Row(*_THIN),
    Row(*_THIN, overrides={"grid.space.x.num_nodes": 512, "ansatz.band": 170, "ansatz.steps": 48}),
    Row(*_EDDIES, overrides={"ansatz.steps": 24}),
    Row(*_EDDIES, overrides=_FINE),
)


def drawn(row: Row, given: Any) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """u0 (count, *space) inside the problem's range of states, parameters (count,), and converged solutions.

    Solutions are kept in runs/finetuning; on periodic axes they are good to 1e-5.
    """
    problem, rng = given.problem, np.random.default_rng(SEED)
    count = TRAINED_ON + (TESTED_ON_PERIODIC if is_periodic(problem) else TESTED_ON)
    points = [axis.nodes for axis in problem.output_space.values()]
    low, high = problem.state_range
    fields: list[np.ndarray] = []
    while len(fields) < count:
        (field,) = row.family.sample(1, points, rng, Domain.of(problem.output_space))
        if low <= field.min() and field.max() <= high:
            fields.append(field)
    u0, parameters = np.stack(fields), draw_parameters(problem, given.parameter_inputs, count, rng)
    cache = Path("runs") / "finetuning" / (re.sub(r"[^\w.-]+", "-", f"{row.model}-{row.title}") + ".npz")
    if cache.is_file():
        stored = dict(np.load(cache, allow_pickle=False))
        if np.array_equal(stored["u0"], u0):
            return u0, parameters, stored["u"]
    solve = truth_solver(problem, **({"rtol": 1e-5} if is_periodic(problem) else {}))
    u = np.concatenate(list(in_passes(solve, u0, parameters)))
    cache.parent.mkdir(parents=True, exist_ok=True)
    save_npz(cache, {"u0": u0, "u": u}, compress=False)
    return u0, parameters, u


def error(model: Any, test: evaluation.ReferenceSet) -> dict[str, float]:
    """Mean and largest error without a polish, trajectories called reliable, and ms per trajectory."""
    begin = time.perf_counter()
    out = test.predict(model, polish=False)
    seconds = time.perf_counter() - begin
    errors = test.errors_of(out)
    return {
        "mean": float(np.nanmean(errors)),
        "max": float(np.nanmax(errors)),
        "failed": int(np.isnan(errors).sum()),
        "reliable": int(test.predict(model).is_reliable.sum()),
        "ms": 1e3 * seconds / len(test),
    }


def measured(row: Row, quiet: bool) -> dict[str, Any]:
    """One row of the table."""
    model = pz.from_pretrained(row.model)
    constants = constants_of(row.parameters, model.problem.parameters, model.parameter_inputs)
    given = with_constants(model, constants)
    u0, parameters, u = drawn(row, given)
    own, rest = slice(None, TRAINED_ON), slice(TRAINED_ON, None)
    test = evaluation.ReferenceSet(u0[rest], {key: value[rest] for key, value in parameters.items()}, u[rest])
    fields = {"u0": u0[own], **{f"parameter_{key}": value[own] for key, value in parameters.items()}}
    found: dict[str, Any] = {"before": error(given, test), "count": len(test)}
    lift = evaluation.relative_error(evaluation.unsolved(given, test), test.u)
    found["lift"] = {"mean": float(np.nanmean(lift))}
    start = with_settings(given, row.overrides)
    if row.overrides:
        found["settings"] = error(start, test)
    if start.polish is not None:
        all_nodes = evaluation.with_trust(start, {**start.config["trust"], "threshold": 1e-12})
        found["grid"] = {"mean": float(np.nanmean(test.errors(all_nodes)))}
    options: dict[str, Any] = {
        "parameters": row.parameters,
        "overrides": row.overrides,
        "steps": STEPS if given.num_windows == 1 else STEPS_ROLL_OUT,
        "quiet": quiet,
    }
    runs = {
        "data-free": (model, fields, {"loss": "physics"}),
        "solutions": (model, {**fields, "u": u[own]}, {"loss": "both"}),
    }
    seen = evaluation.ReferenceSet(u0[own], {key: value[own] for key, value in parameters.items()}, u[own])
    untrained = evaluation.untrained(given, seen)
    runs["scratch"] = (untrained, {**fields, "u": u[own]}, {"loss": "both", "patience": 10, "learning_rate": 2e-3})
    for name, (begun, data, more) in runs.items():
        begin = time.process_time()
        result = pz.finetune(begun, data, **options, **more)
        found[name] = error(result.model, test) | {
            "processor_minutes": (time.process_time() - begin) / 60,
            "steps": result.history.steps[-1]["step"] if result.history.steps else 0,
            "is_improved": result.history.is_improved,
            "stopped": result.history.stopped,
            "held_out": [getattr(m, result.history.criterion) for m in (result.before, result.after)],
        }
        print(
            f"  {name}: {percent(found[name]['mean'], digits=3)} (before {percent(found['before']['mean'], digits=3)})"
        )
    return found


_HEADINGS = (
    *("model", "family; changed settings", "lift", "before", "data-free", "16 solutions", "from scratch", "all nodes"),
    *("reliable", "minutes"),
)


def table(record: dict[str, Any]) -> str:
    """README's table of the recorded rows."""
    lines = [_line(_HEADINGS), "|---" * len(_HEADINGS) + "|"]
    lines += [_line(_cells(row, record["rows"][row.key])) for row in ROWS if row.key in record["rows"]]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, found: dict[str, Any]) -> list[str]:
    def mean(name: str) -> str:
        if name not in found:
            return "–"
        failed = found[name].get("failed", 0)
        answered = f" of {found['count'] - failed} answered" if failed else ""
        return f"{percent(found[name]['mean'], digits=2)}{answered}"

    def gained(name: str) -> str:
        is_partial = found["before"]["failed"] and "settings" in found
        given = found["settings" if is_partial else "before"]  # one that answers the same trajectories
        factor = given["mean"] / found[name]["mean"]
        return f"{mean(name)} ({f'{factor:.1f}×' if found[name]['is_improved'] else 'as given'})"

    family = row.title
    if row.overrides:
        changed = ", ".join(f"{key.split('.', 1)[1]} {value}" for key, value in row.overrides.items())
        family += f"; {changed}: {mean('settings')} untuned"
    reliable = f"{found['before']['reliable']} → {found['solutions']['reliable']} of {found['count']}"
    minutes = ", ".join(f"{found[name]['processor_minutes']:.1f}" for name in ("data-free", "solutions"))
    return [
        *(f"`{row.model}`", family, mean("lift"), mean("before"), gained("data-free"), gained("solutions")),
        *(mean("scratch"), mean("grid"), reliable, minutes),
    ]


def rewritten(text: str, record: dict[str, Any]) -> str:
    """README's text with the table between its marks.

    Raises:
        ValueError: the marks are not there.
    """
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"README lacks the marks {_BEGIN!r} and {_END!r}; add them where the table belongs")
    head, rest = text.split(_BEGIN)
    return f"{head}{_BEGIN}\n{table(record)}\n{_END}{rest.split(_END)[1]}"


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    parser = Parser(prog="python -m training.finetuning_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=integer(1), default=1)
    parser.add_argument("--only", help="rows whose name contains this")
    parser.add_argument("--again", action="store_true", help="repeat rows that are recorded")
    parser.add_argument("--to", type=Path, default=RECORD, help=f"record of finished rows (default {RECORD.name})")
    parser.add_argument("--readme", action="store_true", help="only put the recorded rows into README.md")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return guarded(lambda: _run(parser.parse_args(arguments)), "finished rows are kept; run the same command again")


def _run(options: argparse.Namespace) -> None:
    record = json.loads(options.to.read_text(encoding="utf-8")) if options.to.is_file() else {"rows": {}}
    if options.readme:
        return write_text(README, rewritten(README.read_text(encoding="utf-8"), record))
    torch.set_num_threads(options.threads)
    for row in ROWS:
        if (options.only or "") not in row.key or (row.key in record["rows"] and not options.again):
            continue
        print(row.key, flush=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            record["rows"][row.key] = measured(row, options.quiet)
        record |= {"environment": evaluation.environment("cpu")}
        write_text(options.to, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(table(record))


if __name__ == "__main__":
    sys.exit(main())
