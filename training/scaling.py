"""python -m training.scaling RECIPE …: time and bytes of a training step on several processes of this machine.

Every row is a run of its own under torchrun. ``wall`` is the best median of several runs; ``CPU`` is what the busiest
process computed, which a busy machine disturbs less; ``waiting`` is a process' share of the wall time in collectives;
``kB`` is what each hands to collectives in a step; ``operations`` are those dispatched in a step, views left out: on
a GPU each is a launch at least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pihc_zoo.cli.arguments import Parser, setting
from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.mesh import Mesh, Place

from . import loop
from . import recipe as recipes
from .console import guarded, integer
from .run import prepare

SKIPPED = 3  # first steps, which warm up
COLUMNS = (
    "recipe",
    "mesh",
    "batch",
    "wall [ms]",
    "CPU [ms]",
    "waiting [ms]",
    "kB",
    "operations",
    "speed-up (CPU)",
)


class Operations(TorchDispatchMode):
    """Counts operations that are not views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += not getattr(function, "is_view", False)
        return function(*arguments, **(options or {}))


def measured(recipe: recipes.Recipe, mesh_text: str, device: str) -> dict[str, Any]:
    """What every process does: trains a few steps; seconds and bytes of one."""
    place = Place.of_environment()
    processes = Processes(place, Mesh.parse(mesh_text, place.world), device, timeout=120)
    processes.connect()
    walls, busy, waits, payload = [], [], [], 0
    real, operations, steps = loop.take_step, Operations(), recipe.training.steps

    def timed(*arguments):
        nonlocal payload
        seen = real(*arguments)
        if torch.cuda.is_available() and processes.device != "cpu":
            torch.cuda.synchronize()
        walls.append(time.perf_counter())
        busy.append(time.process_time())
        waits.append(processes.waited)
        payload = sum(processes.payload.values())
        processes.payload.clear()
        if len(walls) == steps - 1:  # the last step is counted, not timed
            operations.__enter__()
        return seen

    loop.take_step = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = prepare(recipe, Path(folder) / str(place.rank), processes=processes)
            loop.advance(run, quiet=True, save_every=1e9)
    finally:
        loop.take_step = real
        operations.__exit__(None, None, None)
    walls, busy, waits = walls[:-1], busy[:-1], waits[:-1]
    spans = [b - a for a, b in zip(walls[SKIPPED:], walls[SKIPPED + 1 :], strict=False)]
    busiest = torch.zeros(place.world, dtype=torch.float64, device=processes.device)
    busiest[place.rank] = (busy[-1] - busy[SKIPPED]) / len(spans)
    processes.reduce(busiest)
    waited = (waits[-1] - waits[SKIPPED]) / len(spans)
    processes.close()
    return {
        "wall": statistics.median(spans),
        "cpu": float(busiest.max()),
        "waited": waited,
        "bytes": payload,
        "operations": operations.count,
    }


def row(name: str, overrides: dict[str, Any], count: int, mesh: str, device: str, repeat: int) -> dict[str, Any]:
    """The best of ``repeat`` runs of ``count`` processes."""
    given = json.dumps({"recipe": name, "overrides": overrides, "mesh": mesh, "device": device})
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "training.scaling"]
    found = []
    for _ in range(repeat):
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        command = [sys.executable, "-m", *torchrun, "--measure", given]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            raise ValueError(said[0].removeprefix("error: ") if said else f"torchrun failed: {done.stderr[-500:]}")
        found.append(json.loads(lines[0]))
    best = {key: min(one[key] for one in found) for key in ("wall", "cpu", "waited")}
    return {**best, "bytes": found[0]["bytes"], "operations": found[0]["operations"]}


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "run the same command again")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training.scaling", description="Time and bytes of a training step by processes.")
    parser.add_argument("recipes", nargs="*", default=["diffusion-sorption.general"])
    parser.add_argument("--meshes", nargs="+", default=["data=1", "data=2"], metavar="data=N[,expert=M]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of the recipes")
    parser.add_argument("--weak", action="store_true", help="the recipe's batch for every data share, not for all")
    parser.add_argument("--steps", type=integer(5), default=20)
    parser.add_argument("--repeat", type=integer(1), default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.measure:
        given = json.loads(options.measure)
        recipe = recipes.load(given["recipe"], given["overrides"])
        answer = measured(recipe, given["mesh"], given["device"])
        if Place.of_environment().rank == 0:
            print(json.dumps(answer), flush=True)
        return
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name in options.recipes:
        overrides = {**dict(setting(text) for text in options.set), "training.steps": options.steps + SKIPPED + 2}
        overrides["training.validate_every"] = overrides["training.steps"]
        batch, first = recipes.load(name, overrides).training.batch, None
        for text in options.meshes:
            sizes = _sizes(text)
            total = batch * sizes.data if options.weak else batch
            own = {**overrides, "training.batch": total}
            found = row(name, own, sizes.data * sizes.expert, text, options.device, options.repeat)
            first = first or found["cpu"]
            speed = first / found["cpu"] * (sizes.data if options.weak else 1)
            cells = [f"`{name}`", text, total, *(f"{1e3 * found[key]:.1f}" for key in ("wall", "cpu", "waited"))]
            cells += [f"{found['bytes'] / 1e3:.1f}", found["operations"], f"{speed:.2f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def _sizes(text: str) -> Mesh:
    """A mesh by itself: its processes are as many as it needs."""
    product = 1
    for part in text.split(","):
        value = part.partition("=")[2]
        product *= int(value) if value.isdecimal() and int(value) else 1
    return Mesh.parse(text, product)


if __name__ == "__main__":
    sys.exit(main())
