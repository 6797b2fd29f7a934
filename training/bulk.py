"""python -m training.bulk [MODEL]: rate and memory of ``pihc predict`` into Zarr, against the number of trajectories.

Every row is a run of the command on random fields of the model's first family. ``MB`` is the largest resident memory of
a process; ``CPU`` is processor time per trajectory, which a busy machine disturbs less than ``wall``. The largest
transient of ever more chunks grows more slowly than their number: the last line fits its growth per doubling.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pihc_zoo import from_pretrained, sample
from pihc_zoo.cli.arguments import Parser, positive
from pihc_zoo.cli.printing import table

from .console import guarded

_MANY = 100_000
_MEASURE = "import resource, sys; from pihc_zoo.cli import main; code = main(sys.argv[1:]); "
_MEASURE += "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"


def measured(model: str, folder: Path, count: int, processes: int, batch_size: int | None) -> dict[str, float]:
    """Seconds, processor seconds and largest resident megabytes of a process, of one run."""
    shutil.rmtree(folder / "out.zarr", ignore_errors=True)
    command = ["predict", model, "--input", str(folder / f"{count}.npz"), "--output", str(folder / "out.zarr")]
    command += [] if batch_size is None else ["--batch-size", str(batch_size)]
    (folder / "measure.py").write_text(_MEASURE)
    program = [sys.executable, str(folder / "measure.py")]
    if processes > 1:
        program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        program += [str(folder / "measure.py")]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        [*program, *command], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise ValueError(ended.stderr.strip().splitlines()[-1])
    peaks = [int(line.split()[1]) for line in ended.stdout.splitlines() if line.startswith("peak ")]
    own = float(ended.stdout.split(" trajectories in ")[1].split(" s ")[0])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": own, "start": seconds - own, "cpu": cpu, "megabytes": max(peaks) / 1024}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return guarded(lambda: _command(arguments), "nothing is kept")


def _command(arguments: list[str] | None) -> None:
    parser = Parser(prog="python -m training.bulk", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="diffusion-sorption.general")
    parser.add_argument("--counts", type=positive, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--processes", type=positive, nargs="+", default=[1, 2])
    parser.add_argument("--batch-size", type=positive)
    options = parser.parse_args(arguments)
    model = from_pretrained(options.model)
    rows = [["trajectories", "processes", "wall [s]", "per second", "CPU [ms]", "MB", "store [MB]"]]
    memory: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in options.counts:
            u0, parameters = sample(model, count)
            np.savez(folder / f"{count}.npz", u0=u0, **{f"parameter_{key}": v for key, v in parameters.items()})
        for processes in options.processes:
            for count in options.counts:
                found = measured(options.model, folder, count, processes, options.batch_size)
                size = sum(path.stat().st_size for path in (folder / "out.zarr").rglob("*") if path.is_file())
                memory |= {count: found["megabytes"]} if processes == options.processes[0] else {}
                rate, cpu = count / found["seconds"], 1e3 * found["cpu"] / count
                row = [str(count), str(processes), f"{found['seconds']:.1f}", f"{rate:.0f}", f"{cpu:.2f}"]
                rows.append([*row, f"{found['megabytes']:.0f}", f"{size / 2**20:.0f}"])
                print(f"{' '.join(rows[-1])}", file=sys.stderr, flush=True)
    print(table(rows))
    if len(memory) > 1:
        slope, start = np.polyfit(np.log2(list(memory)), list(memory.values()), 1)
        print(f"{slope:.0f} MB per doubling: {start + slope * np.log2(_MANY):.0f} MB for {_MANY}")


if __name__ == "__main__":
    sys.exit(main())
