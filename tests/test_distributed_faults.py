"""Several processes that are started again, interrupted, killed or refused: one line, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import training_faults as faults
from numpy.testing import assert_allclose
from processes import Job, free_port

from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.mesh import Mesh, Place
from training import __main__ as command
from training import loop

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "training_faults.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def job(folder, event="nothing", rank=1, steps=99, options=(), **places):
    """Two processes of the training command in ``folder``, with an event in one of them after some steps."""
    return Job(folder, 2, faults.main, event, rank, steps, [*faults.TRAIN, *options], **places)


def lines(folder):
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return safetensors.torch.load_file(folder / "run" / "model" / "model.safetensors")


def state(folder):
    return safetensors.torch.load_file(folder / "run" / "checkpoint.safetensors")


def alone(folder, *options):
    """One process, here."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return command.main([*faults.TRAIN, *options])
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A folder with the unbroken run of one process."""
    folder = tmp_path_factory.mktemp("straight")
    assert alone(folder) == 0
    return folder


def assert_same(first, second):
    """The same log line by line, the same state and the same model, up to the order of sums."""
    ours, theirs = lines(first), lines(second)
    assert [(r["step"], r["unsolved"]) for r in ours] == [(r["step"], r["unsolved"]) for r in theirs]
    assert_allclose([r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=1e-6)
    for key, value in state(first).items():
        assert_allclose(value.numpy(), state(second)[key].numpy(), rtol=1e-6, atol=1e-9, err_msg=key)
    assert set(weights(first)) == set(weights(second))


def test_sigterm_to_one_saves_ends_all_with_143_and_another_number_goes_on(straight, tmp_path):
    codes, said = job(tmp_path, "terminate", rank=1, steps=2).end()
    assert codes == [143, 143] and said == ["terminated; run the same command again to continue"]
    with safetensors.safe_open(tmp_path / "run" / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "4"  # the step after the one at hand: all stop at the same
    assert alone(tmp_path) == 0
    assert_same(straight, tmp_path)


def test_what_one_began_two_end(straight, tmp_path, interrupted_after):
    with interrupted_after(loop, 3):
        assert alone(tmp_path) == 130
    codes, said = job(tmp_path).end()
    assert codes == [0, 0] and not said
    assert_same(straight, tmp_path)


@pytest.mark.parametrize(
    ("event", "rank", "text"),
    [
        ("nan", 1, "error: loss nan with gradient norm nan at step 4; the state saved before stays"),
        ("full_disk", 0, "error: cannot write the checkpoint"),
        ("kill", 1, "error: lost contact with another process ("),
        ("kill", 0, "error: lost contact with another process ("),
        ("stop", 1, "error: lost contact with another process ("),
    ],
)
def test_what_stops_one_stops_all_with_the_reason_and_the_last_state_stays(straight, tmp_path, event, rank, text):
    pair = job(tmp_path, event, rank, 2, ["--timeout", "4"])
    if event == "stop":
        pair.processes[0].join(90)  # by itself: the other does not move any more
        assert pair.processes[0].exitcode == 2
        pair.processes[1].kill()
    codes, said = pair.end()
    expected = [2, 2]
    if event in ("kill", "stop"):
        expected[rank] = -signal.SIGKILL
    assert codes == expected, said
    assert len(said) == 1 and said[0].startswith(text), said
    with safetensors.safe_open(tmp_path / "run" / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "2"
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")] == []
    if event == "kill":
        assert alone(tmp_path) == 0
        assert_same(straight, tmp_path)


def test_torchrun_starts_a_killed_process_again_from_the_last_checkpoint(straight, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--max-restarts", "1", PROGRAM, "kill", "1", "3", *faults.TRAIN, "--overwrite"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lost contact" in done.stderr
    assert_same(straight, tmp_path)


def test_a_peer_that_never_comes_is_one_line_within_the_timeout(tmp_path):
    codes, said = job(tmp_path, options=["--timeout", "2"], ranks=[0]).end(timeout=60)
    assert codes == [2] and len(said) == 1 and said[0].startswith("error: could not meet the other processes (")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--set", "training.batch=1"], "a batch of 1 cannot be shared by 2 (2 data shares)"),
        (["--mesh", "expert=2"], "--mesh expert=2: joint experts are coupled in one solve"),
    ],
)
def test_what_cannot_be_shared_ends_all_with_one_line(tmp_path, options, text):
    codes, said = job(tmp_path, options=options).end()
    assert codes == [2, 2] and len(said) == 1 and text in said[0]
    assert not (tmp_path / "run").exists()


def test_processes_with_different_recipes_are_refused(tmp_path):
    port = free_port()
    first = job(tmp_path, ranks=[0], port=port)
    second = job(tmp_path, options=["--set", "training.dtype=float32"], ranks=[1], port=port)
    ends = [second.end(), first.end()]
    assert [codes for codes, _ in ends] == [[2], [2]]
    said = [line for _, lines in ends for line in lines]
    assert len(said) == 1 and "process 1 has a recipe other than process 0" in said[0]


# ------------------------------------------------------------------ refused before any process meets another


@pytest.mark.parametrize(
    ("options", "environment", "text"),
    [
        (["--mesh", "data=2,expert=2"], {}, "--mesh data=2,expert=2 does not divide 1 process: start 4 with torchrun"),
        (["--mesh", "data=3"], {"WORLD_SIZE": "4"}, "--mesh data=3 does not divide 4 processes"),
        (["--mesh", "data=2,expert=1"], {"WORLD_SIZE": "4"}, "--mesh data=2,expert=1 does not divide 4 processes"),
        (["--mesh", "rows=2"], {}, "--mesh expects data=N,expert=M with positive integers, got 'rows=2'"),
        (["--mesh", "data=0"], {}, "--mesh expects data=N,expert=M"),
        (["--mesh", "data=1,data=1"], {}, "--mesh expects data=N,expert=M"),
        (["--backend", "nccl"], {}, "NCCL connects GPUs, and --device is cpu"),
        (["--backend", "mpi"], {}, "invalid choice: 'mpi'"),
        (["--timeout", "0"], {}, "expected a positive number of seconds"),
        (["--accumulate", "4"], {}, "a batch of 3 cannot be shared by 4 (1 data shares in 4 parts each)"),
        (["--set", "training.dtype=float16"], {}, "training: dtype must be 'float32' or 'float64', not 'float16'"),
        (["--set", "training.ema=1.0"], {}, "training: ema must be in [0, 1), got 1.0"),
        (["--resume"], {}, "has no checkpoint.safetensors to resume"),
        (["--resume", "--overwrite"], {}, "not allowed with argument"),
        ([], {"WORLD_SIZE": "2", "RANK": None}, "WORLD_SIZE=2 without RANK"),
        ([], {"WORLD_SIZE": "two"}, "expected integers of torchrun"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, options, environment, text):
    given = {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", **environment} if environment else {}
    for name, value in given.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    assert alone(tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error


def test_no_cuda_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert alone(tmp_path, "--device", "cuda") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot use device 'cuda': there is no CUDA device; use --device cpu" in error


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    processes = Processes(Place(0, 2, 0, 2), Mesh(2, 1), "cuda")
    assert processes.backend == "nccl" and processes.device == "cuda:0"
    with pytest.raises(ValueError, match="2 processes on this machine and 1 GPU: start torchrun with --nproc-per-n"):
        processes._check_device()


@pytest.mark.parametrize(
    ("decomposition", "expert", "message"),
    [
        ({"name": "disjoint", "counts": {"x": 4}}, 3, "--mesh expert=3 does not divide 4 experts (disjoint): choose a"),
        ({"name": "joint", "counts": {"x": 2}}, 2, "joint experts are coupled in one solve; choose independent ones"),
    ],
)
def test_experts_that_cannot_be_shared_are_refused(tiny_model, decomposition, expert, message):
    model = tiny_model(decomposition=decomposition, residual_map={"name": "quadrature_weights"})
    with pytest.raises(ValueError, match=re.escape(message)):
        Mesh(1, expert).check(model, 8, 1)


def test_the_shares_of_a_batch_are_all_of_it_and_nearly_equal():
    for batch in (7, 8, 9):
        for data in (1, 2, 3, 7):
            shares = [Mesh(data).share(batch, i) for i in range(data)]
            assert [place for share in shares for place in share] == list(range(batch))
            assert np.ptp([len(share) for share in shares]) <= 1


# ------------------------------------------------------------------ folders


def test_the_folder_of_another_run_is_refused_resumed_or_overwritten(straight, tmp_path, capsys):
    longer = ["--set", "training.steps=8"]
    assert alone(tmp_path) == 0
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    assert alone(tmp_path, *longer) == 2
    assert "--resume" in (error := capsys.readouterr().err) and "--overwrite" in error and error.count("\n") == 1
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    assert alone(tmp_path, *longer, "--resume") == 0
    assert [r["step"] for r in lines(tmp_path)] == [2, 4, 6, 8] and lines(tmp_path)[2]["loss"] == lines(straight)[2][
        "loss"
    ]
    assert alone(tmp_path, *longer, "--set", "network.width=5", "--resume") == 2
    assert "is of another network: " in capsys.readouterr().err
    assert alone(tmp_path, *longer, "--set", "training.dtype=float32", "--resume") == 2
    assert "float64 there and" in capsys.readouterr().err
    (tmp_path / "run" / "mine.txt").write_text("stays")
    assert alone(tmp_path, "--overwrite") == 0
    assert_same(straight, tmp_path)
    assert (tmp_path / "run" / "mine.txt").read_text() == "stays"


def test_a_checkpoint_of_an_earlier_version_is_refused(straight, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    safetensors.torch.save_file(
        state(straight),
        tmp_path / "run" / "checkpoint.safetensors",
        metadata={"step": "3", "recipe": "x", "notes": "{}"},
    )
    for options in ([], ["--resume"]):
        assert alone(tmp_path, *options) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "is of an earlier version" in error and "--overwrite" in error
