"""Interrupts, SIGTERM and a full disk lose no more than the step at hand."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import pihc_zoo as pz

ROOT = Path(__file__).parents[1]
SMALL = [
    "grid.time.elements=2", "grid.time.stages=3", "grid.space.x.num_nodes=16", "grid.space.x.grading=1.0",
    "network.width=4", "network.num_layers=1", "network.modes=[3, 4]", "network.num_basis=2",
    "training.steps=6", "training.batch=2",
]  # fmt: skip
TRAIN = ["diffusion-sorption.general", "--references", "0", "--device", "cpu", "--output", "run"]
TRAIN += [part for text in SMALL for part in ("--set", text)]

# After ``sys.argv[1]`` steps something happens; the rest of the arguments are the command's.
TRAINING = """
import os, resource, signal, sys
from training import __main__ as command, loop
take_step, count = loop.take_step, iter(range(int(sys.argv[1])))
def counted(*arguments):
    take_step(*arguments)
    if next(count, None) is None:
        {event}
loop.take_step = counted
sys.exit(command.main(sys.argv[2:]))
"""


def train(folder, event="pass", after=99):
    """The finished process of ``python -m training`` in ``folder``."""
    code = TRAINING.format(event=event)
    arguments = [sys.executable, "-c", code, str(after), *TRAIN]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "MPLBACKEND": "Agg"}
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)


def weights(folder):
    return safetensors.torch.load_file(folder / "run" / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A folder with the unbroken run."""
    folder = tmp_path_factory.mktemp("straight")
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_before_the_first_checkpoint_loses_nothing(straight, tmp_path, name, code):
    """The step at hand is finished and saved, and the same command ends as if nothing had happened."""
    stopped = train(tmp_path, f"os.kill(os.getpid(), signal.{name})", after=2)
    assert stopped.returncode == code and stopped.stderr.count("\n") == 1
    assert "run the same command again to continue" in stopped.stderr
    with safetensors.safe_open(tmp_path / "run" / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "3"
    if name == "SIGTERM":
        return  # the rest is the same
    assert train(tmp_path).returncode == 0
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(tmp_path)[key]), key
    logs = [[json.loads(line) for line in (f / "run" / "metrics.jsonl").open()] for f in (straight, tmp_path)]
    first, second = ([(r["step"], r["loss"], r["unsolved"]) for r in log] for log in logs)
    assert first == second


def test_a_full_disk_is_one_line_and_the_last_state_stays(tmp_path):
    assert train(tmp_path, "os.kill(os.getpid(), signal.SIGINT)", after=1).returncode == 130
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    full = train(tmp_path, "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))", after=1)
    assert full.returncode == 2 and full.stderr.count("\n") == 1 and "Traceback" not in full.stderr
    assert full.stderr.startswith("error: cannot write") and "free some space" in full.stderr
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")] == []


def test_validation_that_was_interrupted_is_made_up_for(tiny_config, tmp_path):
    from pihc_zoo.families import SmoothFields
    from training import loop
    from training.recipe import Recipe, Training

    class References:
        def errors(self, model):
            if self.is_interrupted:
                raise KeyboardInterrupt
            return np.array([0.1, 0.3])

    family, references = SmoothFields(shortest=0.3), References()
    recipe = Recipe("tiny", tiny_config(), Training(steps=4, batch=2, validate_every=2), family, {"same": family})
    references.is_interrupted = True
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            loop.train(recipe, tmp_path, references, quiet=True)
    references.is_interrupted = False
    loop.train(recipe, tmp_path, references, quiet=True)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(record["step"], record["error_mean"]) for record in records] == [(2, 0.2), (4, 0.2)]


# ------------------------------------------------------------------ fine-tuning


@pytest.fixture
def tuning(tiny_model, fields):
    """A tiny model, data that it can come closer to, and the settings of a run."""
    model = tiny_model(solver={"max_steps": 40})
    u0 = fields(4)
    data = {"u0": u0, "u": model.predict(u0).u * (1 + 1e-3 * np.sin(3 * np.arange(1024) / 1024))}
    return model, data, {"loss": "data", "steps": 6, "learning_rate": 1e-3, "validation": 0, "quiet": True}


module = importlib.import_module("pihc_zoo.learning.tuning")


def test_an_interrupted_fine_tuning_goes_on_where_it_was(tuning, tmp_path, interrupted_after):
    model, data, settings = tuning
    straight = pz.finetune(model, data, tmp_path / "straight", **settings)
    with interrupted_after(module, 4), pytest.raises(KeyboardInterrupt) as interrupt:
        pz.finetune(model, data, tmp_path / "broken", **settings)
    assert "after 4 of 6 steps" in interrupt.value.__notes__[0]
    assert not (tmp_path / "broken" / "config.json").exists()  # nothing that passes for a finished model
    with interrupted_after(module, 2):  # more would be repeated steps
        resumed = pz.finetune(model, data, tmp_path / "broken", **settings)
    assert straight.history.is_improved and resumed.history == straight.history
    for key, value in straight.model.network.state_dict().items():
        assert torch.equal(value, resumed.model.network.state_dict()[key]), key


def test_a_finished_fine_tuning_is_not_repeated_and_another_one_refused(tuning, tmp_path, monkeypatch):
    model, data, settings = tuning
    first = pz.finetune(model, data, tmp_path, **settings)
    weights = (tmp_path / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "take_step", lambda *arguments: pytest.fail("work was repeated"))
        again = pz.finetune(model, data, tmp_path, **settings)
    assert again.history == first.history
    with pytest.raises(ValueError, match="is of another fine-tuning; choose another --output or delete it"):
        pz.finetune(model, data, tmp_path, **{**settings, "steps": 7})
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(ValueError, match="holds a model already"):
        pz.finetune(model, data, tmp_path, **settings)
    assert (tmp_path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_continue(tuning, tmp_path, number, code):
    model, data, _ = tuning
    model.save_pretrained(tmp_path / "tiny")
    np.savez(tmp_path / "mine.npz", **data)
    program = f"""
import importlib, os, sys
from pihc_zoo.cli import main
module = importlib.import_module("pihc_zoo.learning.tuning")
step = module.take_step
def signalled(*arguments):
    step(*arguments)
    os.kill(os.getpid(), {int(number)})
module.take_step = signalled
sys.exit(main(["finetune", "tiny", "mine.npz", "--output", "out", "--quiet"]))
"""
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == code
    assert done.stderr.count("\n") == 1 and "run the same command again to continue" in done.stderr
    assert (tmp_path / "out" / "checkpoint.safetensors").is_file()
