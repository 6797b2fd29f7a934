"""python -m training.honesty MODEL [--to FOLDER]: looks for answers called reliable that are not what they say.

It draws initial conditions of at least eight kinds, amplitudes over three decades, offsets, parameters from the whole
range with its ends over-weighted, output times from the first instants on, single times, and coarse grids of the input,
and compares every answer with the classical truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pihc_zoo as pz
from pihc_zoo.cli.arguments import Parser
from pihc_zoo.evaluation import relative_error
from pihc_zoo.families import Domain
from pihc_zoo.files import write_text
from pihc_zoo.progress import progress
from pihc_zoo.reference import in_passes, truth_solver
from pihc_zoo.text import percent
from pihc_zoo.zoo.folder import METRICS_FILE, read_metrics, record
from pihc_zoo.zoo.registry import WEIGHTS

from .console import guarded, integer
from .kinds import BOUNDED, PERIODIC, kinds_of
from .recipe import SHIPPED

BATCH = 16
SMALL, RIGHT = 2e-4, 1e-3  # errors below the first are never a fault; answers right to the second should be reliable
FAR, OFF = 5.0, 2.5  # error over estimate
EARLIEST = 2e-5  # of the duration
CELLS, LINES = {"rtol": 1e-8, "atol": 1e-9}, {"rtol": 1e-6}  # of the truth between walls
TAIL, RTOL, LEAST_NODES = 5e-4, 1e-3, 64  # of the truth on periodic axes: within 1e-4 of one at 1e-5, 1e-7, 128


@dataclass
class Case:
    """One answer: what was asked, its error and estimate."""

    kind: str
    request: str
    parameters: dict[str, float]
    low: float
    high: float
    error: float
    estimate: float
    is_reliable: bool
    is_polished: bool

    @property
    def ratio(self) -> float:
        """Error over estimate."""
        return self.error / self.estimate if self.estimate > 0 else np.inf


@dataclass
class Tally:
    """What a search found."""

    cases: list[Case] = field(default_factory=list)

    @property
    def reliable(self) -> list[Case]:
        """Answers called reliable."""
        return [case for case in self.cases if case.is_reliable]

    def figures(self, num_worst: int = 5) -> dict[str, Any]:
        """For people and cards; errors are fractions."""
        reliable = self.reliable
        counted = [case for case in reliable if case.error > SMALL]
        right = [case for case in self.cases if case.error <= RIGHT]
        errors = np.array([case.error for case in self.cases])
        finite = errors[np.isfinite(errors)]
        worst = sorted(counted, key=lambda case: -case.ratio)[:num_worst]
        return {
            "answers": len(self.cases),
            "reliable": len(reliable),
            "unanswered": int(len(errors) - len(finite)),
            "polished": int(sum(case.is_polished for case in self.cases)),
            "far": int(sum(case.ratio > FAR for case in counted)),
            "off": int(sum(case.ratio > OFF for case in counted)),
            "right": len(right),
            "right_and_reliable": int(sum(case.is_reliable for case in right)),
            "error_mean": float(finite.mean()) if len(finite) else None,
            "error_max_reliable": max((case.error for case in reliable), default=None),
            "worst": [
                {
                    "kind": case.kind,
                    "request": case.request,
                    "parameters": case.parameters,
                    "range": [case.low, case.high],
                    "error": case.error,
                    "estimate": case.estimate,
                }
                for case in worst
            ],
        }


def search(model: Any, wanted: int, seed: int = 0, most: int | None = None, quiet: bool = False) -> Tally:
    """Draws and judges answers until ``wanted`` are called reliable, or ``most`` are drawn (default 3 × wanted)."""
    tally, most = Tally(), most or 3 * wanted
    groups = _groups(model, np.random.default_rng([seed, 2**30]))
    batches = progress(range(-(-most // BATCH)), "batches", total=-(-most // BATCH), quiet=quiet)
    for _ in batches:
        tally.cases += _judged(model, *next(groups))
        batches.set_postfix_str(f"{len(tally.reliable)} reliable")
        if len(tally.reliable) >= wanted:
            break
    return tally


def _groups(model: Any, rng: np.random.Generator) -> Iterator[tuple[list, dict[str, Any], str, dict[str, np.ndarray]]]:
    """Batches of (kind, field) with one request and parameters for each, without end."""
    problem = model.problem
    space = problem.output_space
    kinds = kinds_of(space)
    names, place = list(kinds), 0
    while True:
        members = []
        for _ in range(BATCH):
            name = names[place % len(names)]
            place += 1
            own = kinds[name](rng, len(space))
            members.append((name, _scaled(own, model, rng)))
        request, label = _request(problem, rng)
        yield members, request, label, _parameters(model, rng)


def _scaled(own: Any, model: Any, rng: np.random.Generator) -> Any:
    """A field inside the model's range of states: amplitudes over three decades, an offset where the mean is free.

    A function of physical positions, broadcasting.
    """
    domain = Domain.of(model.problem.output_space)

    def shape(*axes: np.ndarray) -> np.ndarray:
        return own(*domain.points(axes))

    low, high = model.trust.state_range or model.problem.state_range
    if kinds_of(model.problem.output_space) is BOUNDED:
        return lambda x: low + (high - low) * shape(x)
    size = float(np.exp(rng.uniform(np.log(0.03), 0))) if rng.uniform() < 0.4 else rng.uniform(0.1, 1.0)
    offset = rng.uniform(-0.5, 0.5) if model.problem.has_moving_frame and rng.uniform() < 0.6 else 0.0
    return lambda *axes: high * (offset + (0.9 - abs(offset)) * size * shape(*axes))


def _request(problem: Any, rng: np.random.Generator) -> tuple[dict[str, Any], str]:
    """Arguments of ``predict``, and what they are."""
    choice = rng.uniform()
    if choice < 0.5:
        return {}, "default output"
    has_walls = kinds_of(problem.output_space) is BOUNDED
    first = (EARLIEST if has_walls else 0.05) * problem.span
    if choice < 0.7:
        times = np.exp(rng.uniform(np.log(first), np.log(problem.span), int(rng.integers(1, 5))))
        return {"times": np.sort(times)}, "times " + ", ".join(f"{t:.3g}" for t in np.sort(times))
    if choice < 0.8:
        t = float(problem.span * rng.uniform(0.01, 1.0))
        return {"times": [t]}, f"time {t:.3g}"
    if not has_walls:
        return {}, "default output"
    if choice < 0.9:
        ((_, axis),) = problem.output_space.items()
        points = np.linspace(axis.start, axis.stop, int(rng.integers(6, 200)))
        return {"input_x": points}, f"u0 on {len(points)} points"
    ((_, axis),) = problem.output_space.items()
    points = axis.start + (axis.stop - axis.start) * np.sort(rng.uniform(0, 1, int(rng.integers(1, 20))))
    return {"x": points}, f"{len(points)} output points"


def _parameters(model: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """(BATCH,) values from the whole range of every input, its ends over-weighted."""
    values = {}
    for key in model.parameter_inputs:
        declared = model.problem.parameters[key]
        place = rng.uniform(0, 1, BATCH)
        which = rng.uniform(0, 1, BATCH)
        place = np.where(which < 0.12, 0.0, np.where(which < 0.24, 1.0, np.where(which < 0.4, 0.2 * place, place)))
        low, high = declared.low, declared.high
        own = low * (high / low) ** place if declared.is_logarithmic else low + (high - low) * place
        values[key] = np.clip(own, low, high)
    return values


def _judged(model: Any, members: list, request: dict[str, Any], label: str, parameters: dict) -> list[Case]:
    """The cases of one batch."""
    problem = model.problem
    axes = list(problem.output_space.values())
    native = np.meshgrid(*(axis.nodes for axis in axes), indexing="ij", sparse=True)
    u0 = np.stack([np.broadcast_to(own(*native), [len(axis.nodes) for axis in axes]) for _, own in members])
    given = u0
    if "input_x" in request:
        given = np.stack([own(request["input_x"]) for _, own in members])
    if problem.zero_mean_fields:
        u0 = given = u0 - u0.mean(axis=tuple(range(1, u0.ndim)), keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        out = model.predict(given, parameters=parameters, **request)
    truth = _truth(problem, u0, parameters, request)
    errors = relative_error(out.u, truth)
    return [
        Case(
            members[i][0],
            label,
            {key: float(value[i]) for key, value in parameters.items()},
            float(u0[i].min()),
            float(u0[i].max()),
            float(errors[i]),
            float(out.estimated_error[i]),
            bool(out.is_reliable[i] and np.isfinite(truth[i]).all()),
            bool(out.is_polished[i]),
        )
        for i in range(len(members))
    ]


def _truth(problem: Any, u0: np.ndarray, parameters: dict[str, np.ndarray], request: dict[str, Any]) -> np.ndarray:
    """(batch, time, *points) the classical solution; NaN where the solver gives up."""
    times = np.asarray(request.get("times", problem.output_times), dtype=np.float64)
    if kinds_of(problem.output_space) is PERIODIC:
        solve = truth_solver(problem, tail=TAIL, rtol=RTOL, least_nodes=LEAST_NODES)
        return np.concatenate(list(in_passes(solve, u0, parameters, times=times)))
    solve: Any = truth_solver(problem, **(CELLS if problem.is_defined_on_cells else LINES))
    x = request.get("x")
    shape = (len(times), len(solve.axis.nodes) if x is None else len(x))
    result = np.full((len(u0), *shape), np.nan)
    for i, row in enumerate(u0):
        own = {key: float(value[i]) for key, value in parameters.items()}
        try:
            result[i] = solve(row, own, times=times, x=x)
        except RuntimeError:
            continue
    return result


def report(name: str, figures: dict[str, Any]) -> str:
    """Some lines for people."""
    share = figures["right_and_reliable"] / max(1, figures["right"])
    lines = [
        f"{name}: {figures['answers']} answers, {figures['reliable']} called reliable, "
        f"{figures['polished']} polished, {figures['unanswered']} without an answer",
        f"  of the reliable ones with an error above {percent(SMALL)}: {figures['far']} are more than {FAR:g} times "
        f"their estimate, {figures['off']} more than {OFF:g} times",
        f"  of {figures['right']} answers right to {percent(RIGHT)}, {percent(share)} are called reliable",
        f"  error: mean {percent(figures['error_mean'], digits=3)}, largest called reliable "
        f"{percent(figures['error_max_reliable'], digits=3)}",
    ]
    for case in figures["worst"]:
        own = ", ".join(f"{key} = {value:.4g}" for key, value in case["parameters"].items())
        lines.append(
            f"  {case['error'] / case['estimate']:.2f} times: {case['kind']}, {case['request']}"
            f"{', ' + own if own else ''}, values {case['range'][0]:.3g} to {case['range'][1]:.3g}: error "
            f"{percent(case['error'], digits=3)}, estimate {percent(case['estimate'], digits=3)}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "run the same command again")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training.honesty", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name, folder or Hub id")
    parser.add_argument(
        "--reliable", type=integer(1), default=1000, help="how many answers called reliable (default 1000)"
    )
    parser.add_argument("--seed", type=integer(0), default=0)
    parser.add_argument("--to", help="model folder whose metrics.json takes the figures; 'shipped': the package's own")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    model = pz.from_pretrained(options.model)
    target = WEIGHTS / options.model if options.to == SHIPPED else options.to and Path(options.to)
    metrics = target and read_metrics(target)
    if target and metrics is None:
        raise ValueError(f"{str(target)!r} has no {METRICS_FILE}; measure the model first")
    figures = search(model, options.reliable, options.seed, quiet=options.quiet).figures()
    figures["seed"] = options.seed
    print(report(options.model, figures))
    if target:
        text = json.dumps({**metrics, "honesty": figures}, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(target / METRICS_FILE, text + "\n")
        record(target, METRICS_FILE)


if __name__ == "__main__":
    sys.exit(main())
