"""What processes of the tests of fine-tuning do: small models, tuned in float64 or by the command, with an event."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
import torch._dynamo

import pihc_zoo as pz
from pihc_zoo.cli import main
from pihc_zoo.families import PeriodicGaussianProcess
from pihc_zoo.learning import tuning
from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.mesh import Mesh, Place
from pihc_zoo.reference import reference_solver

sys.path.insert(0, str(Path(__file__).parent))
from conftest import TINY, TINY_ROLLOUT, _changed, _surrogate

X = (np.arange(64) + 0.5) / 64
COMMAND = ["finetune", "given", "mine.npz", "--output", "out", "--steps", "8", "--batch", "3", "--patience", "9"]


def _bounded():
    model = _surrogate(_changed(TINY, {}), 0).with_network_dtype(torch.float64)
    u0 = 0.15 + 0.1 * np.sin(np.pi * np.outer(np.arange(1, 8), X))
    u = 1.01 * model.predict(u0, input_x=X, x=X).u
    data = {"u0": u0, "x": X, "u": u, "t": model.problem.output_times}
    return model, data, {"loss": "both", "batch": 5, "steps": 6, "learning_rate": 1e-2}


def _roll_out():
    model = _surrogate(_changed(TINY_ROLLOUT, {"solver": {"max_steps": 6}}), 0).with_network_dtype(torch.float64)
    family = PeriodicGaussianProcess(length_scale=1.0, scale=0.5)
    u0 = family.sample(4, [np.arange(32) / 32] * 2, np.random.default_rng(0))
    times = np.array([0.0, 1.0, 2.5, 5.0])
    u = reference_solver(model.problem)(u0, {}, times=times)
    return model, {"u0": u0, "u": u, "t": times}, {"loss": "both", "batch": 3, "steps": 5, "learning_rate": 1e-2}


CASES = {"one held-out trajectory": _bounded, "roll-out, pool": _roll_out}


def recorded(case: str, processes: Processes | None = None) -> dict[str, np.ndarray]:
    """Weights, reviews and trust of one tuning."""
    model, data, options = CASES[case]()
    tuned = pz.finetune(model, data, **options, patience=9, quiet=True, processes=processes)
    weights = torch.cat([value.flatten() for value in tuned.model.network.state_dict().values()])
    rows = [[row["step"], row["error"], row["estimated_error"]] for row in tuned.history.steps]
    return {
        "weights": weights.detach().numpy(),
        "reviews": np.nan_to_num(np.array(rows)),
        "threshold": np.array(tuned.model.trust.threshold),
        "is_improved": np.array(tuned.history.is_improved),
    }


def tune(folder: Path) -> int:
    """Every case, each process' record in ``folder``."""
    place = Place.of_environment()
    processes = Processes(place, Mesh(place.world), timeout=60)
    processes.connect()
    for number, case in enumerate(CASES):
        np.savez(folder / f"{number}-{place.rank}.npz", **recorded(case, processes))
    processes.close()
    return 0


def write_input(folder: Path) -> None:
    """``given``, a small model, and mine.npz."""
    model, data, _ = _bounded()
    model.float().save_pretrained(folder / "given")
    np.savez(folder / "mine.npz", **data)


def command(options: list[str], steps: int = 99, rank: int = 0) -> int:
    """``pihc finetune``; SIGTERM comes to the process ``rank`` after ``steps``."""
    count, take_step = iter(range(steps)), tuning.take_step

    def counted(*arguments):
        take_step(*arguments)
        if next(count, None) is None and os.environ.get("RANK", "0") == str(rank):
            os.kill(os.getpid(), signal.SIGTERM)

    tuning.take_step = counted
    try:
        return main([*COMMAND, *options])
    finally:
        tuning.take_step = take_step
