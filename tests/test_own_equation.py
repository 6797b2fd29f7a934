"""README's section on an equation of one's own, as a new user follows it: from text to a pushed model."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hub_server import HubServer

from pihc_zoo.grid import FourierAxis
from training import defaults

ROOT = Path(__file__).parents[1]
TOKEN = "hf_dummy"
QUICK = ["--references", "2", "--quiet", "--set", "training.steps=2", "--set", "training.validate_every=2"]


def section():
    """The recipe and the commands."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    own = text[text.index("## An equation of your own") : text.index("## Calibrate")]
    recipe, commands = re.findall(r"^```(?:toml)?\n(.*?)^```$", own, re.MULTILINE | re.DOTALL)
    return recipe, commands.splitlines()


@pytest.fixture
def hub():
    with HubServer(TOKEN) as server:
        yield server


def test_from_text_to_a_model_that_others_load(hub, tmp_path):
    recipe, commands = section()
    (tmp_path / "growth-1d.toml").write_text(recipe, encoding="utf-8")
    own = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | own

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "pihc":
            quick = ["--count", "2", "--quick"] if arguments[0] == "evaluate" else []
            out = run("-m", "pihc_zoo.cli", *arguments, *quick)
        else:
            out = run(*arguments, *QUICK)
        if arguments[0] == "info":
            assert "u_t = D*u_xx + r*u*(1 - u/K)" in out
    config = tmp_path / "growth" / "model" / "config.json"
    written = config.read_text(encoding="utf-8")
    config.write_text(written.replace("u_t = D*u_xx", "u_t = 2*D*u_xx"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pihc_zoo.cli", "info", "growth/model"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "its text was changed" in done.stderr and done.stderr.count("\n") == 1
    config.write_text(written, encoding="utf-8")
    out = run(
        "-c",
        "import pihc_zoo as pz, numpy as np\n"
        "model = pz.from_pretrained('me/growth-1d.demo')\n"
        "x = next(iter(model.problem.output_space.values())).nodes\n"
        "out = model.predict(1 - 0.5 * x**2, parameters={'D': 2e-3}, times=[0.0, 2.0])\n"
        "print(model.problem.text[0]); print(*out.u[0, -1, ::50]); print(out.estimated_error[0])",
    )
    equation, values, estimate = out.splitlines()
    assert equation == "u_t = D*u_xx + r*u*(1 - u/K)"
    assert np.isfinite([float(value) for value in values.split()]).all() and float(estimate) < 5e-3


@pytest.mark.parametrize(("highest", "expected"), [(5, 32), (30, 64), (64, 256)])
def test_a_periodic_grid_carries_the_solutions_or_it_is_said_that_the_outputs_points_do_not(highest, expected):
    rng, k = np.random.default_rng(0), np.arange(1, highest + 1)[:, None]
    truth = (rng.standard_normal((8, 3, highest)) / highest) @ np.cos(2 * np.pi * k * np.arange(128) / 128)
    trials = SimpleNamespace(space={"x": FourierAxis(128)}, truth=truth)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert defaults._Trials._resolution(trials) == {"x": expected}
    said = [str(own.message) for own in caught]
    assert len(said) == (expected > 128) and all("128 points of axis x" in own for own in said)
