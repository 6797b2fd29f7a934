"""How fast every model predicts on a device, what the time goes to, and how far that is from the device's own limits.

    python -m training.bench [--device cpu|cuda] [--models NAME …] [--batches 1 16 64] [--classical] [--docs]

Prints three tables, in Markdown: time and throughput by batch beside the floor, on a GPU also the time without CUDA
graphs; time by stage; and with ``--classical`` the classical solvers at equal error, batched on the same device. On a
CPU times are processor time of one thread, which other work on the machine disturbs less. The floor of a pass is the
larger of two times: its floating-point operations in matrix products at the rate at which the device multiplies large
float32 matrices, and writing its answer at the rate at which the device copies memory. ``--docs`` puts the tables into
docs/runtime.md.
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
from pihc_zoo.cli.arguments import Parser, positive
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
HEADER = ("model", "batch", "ms a trajectory", "trajectories/s", "floor, ms", "floor / time")
CPU_BATCHES, GPU_BATCHES = (1, 16, 64), (1, 16, 128, 1024, 8192)
STAGES = ("lift", "features", "network", "solves", "estimate", "readout", "other")


def clock(device: str) -> Callable[[], float]:
    """What is measured on a device: its time, or on a CPU the processor's."""
    return time.process_time if device == "cpu" else time.perf_counter


def floors(device: str) -> tuple[float, float]:
    """Operations a second of large float32 matrix products, and bytes a second of a copy (read and written)."""
    a = torch.randn(1024, 1024, device=device)
    rate = 2 * 1024**3 / timing(lambda: a @ a, 9, device, clock(device))["lowest"]
    b = torch.empty(2**26, dtype=torch.uint8, device=device)
    return rate, 2 * b.numel() / timing(b.clone, 9, device, clock(device))["lowest"]


def floor(model: Any, u0: Any, parameters: dict[str, Any], limits: tuple[float, float]) -> float:
    """Seconds below which a pass cannot come on a device of such `floors`, see above."""
    with eager(model), FlopCounterMode(display=False) as counter:
        out = model.predict(u0, parameters=parameters)
    rate, bandwidth = limits
    return max(counter.get_total_flops() / rate, out.u.nbytes / bandwidth)


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Within, nothing is recorded as a CUDA graph."""
    before, model.graphs.is_on = model.graphs.is_on, False
    try:
        yield
    finally:
        model.graphs.is_on = before


@contextmanager
def staged(model: Any) -> Iterator[Counter]:
    """Within, the seconds that each stage of the model takes, those within it left out, are added up."""
    seconds, inner, undo = Counter(), [], []
    synchronise = torch.cuda.synchronize if model.device.type == "cuda" else lambda: None
    now = clock(model.device.type)

    def timed(real: Callable, stage: str) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            synchronise()
            begin = now()
            inner.append(0.0)
            try:
                return real(*arguments, **options)
            finally:
                synchronise()
                span = now() - begin
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


def throughput(
    model: Any, batches: list[int], repeat: int, device: str, limits: tuple[float, float], most: float = 60.0
) -> list[list[str]]:
    """Rows of the first table; those are left out that would take more than ``most`` seconds.

    Of ``repeat`` passes the lower quartile counts: what other work on the machine takes away is left out.
    """
    rows, seconds = [], 0.0
    for batch in batches:
        if seconds * batch * (repeat + 1) > most:
            break
        u0, parameters = pz.sample(model, batch)

        def call(u0: Any = u0, parameters: Any = parameters) -> None:
            model.predict(u0, parameters=parameters)

        found = timing(call, repeat, device, clock(device))["quartile"]
        seconds = found / batch
        least = floor(model, u0, parameters, limits)
        cells = [f"{1e3 * found / batch:.2f}", f"{batch / found:.0f}", f"{1e3 * least / batch:.2f}"]
        cells.append(percent(least / found))
        if device != "cpu":
            with eager(model):
                cells.append(f"{timing(call, repeat, device, clock(device))['quartile'] / found:.1f}")
        rows.append([f"`{model.name}`", str(batch), *cells])
    return rows


def by_stage(model: Any, batch: int, repeat: int) -> list[str]:
    """A row of the second table, ms a trajectory: the pass of ``repeat`` that took least."""
    u0, parameters = pz.sample(model, batch)
    model.predict(u0, parameters=parameters)
    least: Counter = Counter()
    for _ in range(repeat):
        with eager(model), staged(model) as seconds:
            model.predict(u0, parameters=parameters)
        least = seconds if not least or seconds.total() < least.total() else least
    cells = [f"{1e3 * least[stage] / batch:.2f}" for stage in STAGES]
    return [f"`{model.name}`", str(batch), *cells, f"{1e3 * least.total() / batch:.2f}"]


def classical(model: Any, count: int, repeat: int) -> list[list[str]]:
    """Rows of the third table."""
    (family, *_) = default_families(model).values()
    references = reference_set(model.problem, family, model.parameter_inputs, count, 0, None, quiet=True)
    rows = []
    for r in compare(model, references, repeats=repeat, clock=clock(model.device.type)):
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
    parser.add_argument("--batches", nargs="+", type=integer(1), metavar="N")
    parser.add_argument("--repeat", type=integer(1), default=7, help="timed passes (default 7)")
    parser.add_argument("--most", type=positive, default=60, metavar="SECONDS", help="a batch may take (default 60)")
    parser.add_argument("--classical", action="store_true", help="also the classical solvers; takes minutes")
    parser.add_argument("--count", type=integer(4), default=8, help="their trajectories (default 8)")
    parser.add_argument("--docs", action="store_true", help=f"put the tables into docs/{DOCS.name}")
    return guarded(lambda: _run(parser.parse_args(arguments)), "nothing was written; run the same command again")


def _run(options: argparse.Namespace) -> None:
    page = DOCS.read_text(encoding="utf-8") if options.docs else ""
    if options.docs:
        rewritten(page, "")
    torch.set_num_threads(1)
    batches = options.batches or (CPU_BATCHES if options.device == "cpu" else GPU_BATCHES)
    first, second, third, limits = [], [], [], floors(options.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name in options.models:
            model = pz.from_pretrained(name, device=options.device)
            first += throughput(model, batches, options.repeat, options.device, limits, options.most)
            second.append(by_stage(model, min(16, max(batches)) if options.device == "cpu" else 1024, options.repeat))
            print(" ".join(first[-1]), "|", " ".join(second[-1]), file=sys.stderr, flush=True)
            third += classical(model, options.count, options.repeat) if options.classical else []
    place = environment(options.device)
    where = place["device"] if place["is_cuda"] else f"one CPU core ({place['device']}, one thread)"
    tables = [
        f"On {where}, torch {place['torch']}: {'time' if place['is_cuda'] else 'processor time'}, the lower quartile "
        f"of {options.repeat} passes. The machine is shared with other work. It multiplies large float32 matrices at "
        f"{limits[0] / 1e9:.0f} GFLOP/s and copies {limits[1] / 1e9:.1f} GB/s.",
        markdown([*HEADER, *(["eager / time"] if options.device != "cpu" else [])], first),
        "Milliseconds a trajectory by stage in the fastest pass, what a stage calls in turn left out:",
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
