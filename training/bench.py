"""How fast every model predicts on a device, what the time goes to, and how far that is from the device's own limits.

    python -m training.bench [--device cpu|cuda] [--models NAME …] [--batches 1 16 64] [--classical] [--docs]

Prints three tables, in Markdown: time and throughput by batch beside the floor, time by stage, and with ``--classical``
the classical solvers at equal error, batched on the same device. The floor of a pass is the larger of two times: its
floating-point operations in matrix products at the rate at which the device multiplies large float32 matrices, and
writing its answer at the rate at which the device copies memory. ``--docs`` puts the tables into docs/runtime.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import pihc_zoo as pz
from pihc_zoo.cli.arguments import Parser
from pihc_zoo.evaluation.classical import compare
from pihc_zoo.evaluation.clocks import environment, timing
from pihc_zoo.evaluation.references import reference_set
from pihc_zoo.files import write_text
from pihc_zoo.sampling import default_families
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.text import percent

from .console import guarded, integer

DOCS = Path(__file__).parent.parent / "docs" / "runtime.md"
BEGIN, END = "<!-- tables: python -m training.bench --docs -->", "<!-- end of tables -->"
STAGES = ("lift", "features", "network", "solves", "estimate", "readout", "other")


def floors(device: str) -> tuple[float, float]:
    """Operations a second of large float32 matrix products, and bytes a second of a copy (read and written)."""
    a = torch.randn(1024, 1024, device=device)
    rate = 2 * 1024**3 / timing(lambda: a @ a, 5, device)["lowest"]
    b = torch.empty(2**26, dtype=torch.uint8, device=device)
    return rate, 2 * b.numel() / timing(b.clone, 5, device)["lowest"]


def floor(model: Any, u0: Any, parameters: dict[str, Any], device: str) -> float:
    """Seconds below which a pass cannot come on the device, see above."""
    rate, bandwidth = floors(device)
    with FlopCounterMode(display=False) as counter:
        out = model.predict(u0, parameters=parameters)
    size = out.u.nbytes
    return max(counter.get_total_flops() / rate, size / bandwidth)


@contextmanager
def staged(model: Any) -> Iterator[Counter]:
    """Within, the seconds that each stage of the model takes, those within it left out, are added up."""
    seconds, inner, undo = Counter(), [], []
    synchronise = torch.cuda.synchronize if model.device.type == "cuda" else lambda: None

    def timed(real: Callable, stage: str) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            synchronise()
            begin = time.perf_counter()
            inner.append(0.0)
            try:
                return real(*arguments, **options)
            finally:
                synchronise()
                span = time.perf_counter() - begin
                seconds[stage] += span - inner.pop()
                if inner:
                    inner[-1] += span

        return call

    constraint = model.constraint
    places = [
        (constraint.ansatz.lift, "forward", "lift"),
        (constraint.discretisation, "forward", "features"),
        (model.network, "forward", "network"),
        (LevenbergMarquardt, "solve", "solves"),
        (model.estimator, "forward", "estimate"),
        (model.rollout, "read", "readout"),
        (model, "predict", "other"),
    ]
    for owner, name, stage in places:
        is_own = name in vars(owner)
        undo.append((owner, name, vars(owner)[name] if is_own else None))
        setattr(owner, name, timed(getattr(owner, name), stage))
    try:
        yield seconds
    finally:
        for owner, name, before in undo:
            delattr(owner, name) if before is None else setattr(owner, name, before)


def throughput(model: Any, batches: list[int], repeat: int, device: str) -> list[list[str]]:
    """Rows of the first table."""
    rows = []
    for batch in batches:
        u0, parameters = pz.sample(model, batch)
        found = timing(lambda u0=u0, own=parameters: model.predict(u0, parameters=own), repeat, device)["median"]
        least = floor(model, u0, parameters, device)
        cells = [f"{1e3 * found / batch:.2f}", f"{batch / found:.0f}", f"{1e3 * least / batch:.2f}"]
        rows.append([f"`{model.name}`", str(batch), *cells, percent(least / found)])
    return rows


def by_stage(model: Any, batch: int, repeat: int) -> list[str]:
    """A row of the second table, ms a trajectory."""
    u0, parameters = pz.sample(model, batch)
    model.predict(u0, parameters=parameters)
    with staged(model) as seconds:
        for _ in range(repeat):
            model.predict(u0, parameters=parameters)
    cells = [f"{1e3 * seconds[stage] / repeat / batch:.2f}" for stage in STAGES]
    return [f"`{model.name}`", str(batch), *cells, f"{1e3 * seconds.total() / repeat / batch:.2f}"]


def classical(model: Any, count: int, repeat: int) -> list[list[str]]:
    """Rows of the third table."""
    (family, *_) = default_families(model).values()
    references = reference_set(model.problem, family, model.parameter_inputs, count, 0, None, quiet=True)
    rows = []
    for r in compare(model, references, repeats=repeat):
        ratio = "–" if r["ratio"] is None else f"{r['ratio']:.2f}"
        rows.append([f"`{model.name}`", r["name"], str(r["batch"]), percent(r["error_mean"]), f"{r['ms']:.2f}", ratio])
    return rows


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rewritten(text: str, tables: str) -> str:
    """The page with new tables.

    Raises:
        ValueError: the marks are not there.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"{DOCS.name} lacks the marks {BEGIN!r} and {END!r}; add them where the tables belong")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}"


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    parser = Parser(prog="python -m training.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--models", nargs="+", default=pz.list_models(), metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=integer(1), default=[1, 16], metavar="N")
    parser.add_argument("--repeat", type=integer(1), default=3, help="timed passes (default 3)")
    parser.add_argument("--classical", action="store_true", help="also the classical solvers; takes minutes")
    parser.add_argument("--count", type=integer(4), default=8, help="their trajectories (default 8)")
    parser.add_argument("--docs", action="store_true", help=f"put the tables into docs/{DOCS.name}")
    return guarded(lambda: _run(parser.parse_args(arguments)), "nothing was written; run the same command again")


def _run(options: argparse.Namespace) -> None:
    page = DOCS.read_text(encoding="utf-8") if options.docs else ""
    if options.docs:
        rewritten(page, "")
    torch.set_num_threads(1)
    first, second, third = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name in options.models:
            model = pz.from_pretrained(name, device=options.device)
            first += throughput(model, options.batches, options.repeat, options.device)
            second.append(by_stage(model, max(options.batches), options.repeat))
            third += classical(model, options.count, options.repeat) if options.classical else []
    place = environment(options.device)
    where = place["device"] if place["is_cuda"] else f"one CPU core ({place['device']}, one thread)"
    tables = [
        f"On {where}, torch {place['torch']}; median of {options.repeat} passes, other work on the machine included.",
        markdown(["model", "batch", "ms a trajectory", "trajectories/s", "floor, ms", "floor / time"], first),
        "Milliseconds a trajectory by stage, what a stage calls in turn left out:",
        markdown(["model", "batch", *STAGES, "all"], second),
    ]
    if third:
        tables.append("Classical solvers at equal error, in the same batches on the same device:")
        tables.append(markdown(["model", "solver", "batch", "mean error", "ms a trajectory", "time / ours"], third))
    text = "\n\n".join(tables)
    print(text)
    if options.docs:
        write_text(DOCS, rewritten(page, text))


if __name__ == "__main__":
    sys.exit(main())
