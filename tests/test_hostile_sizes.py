"""Sizes that a config.json asks for are compared with what the folder holds before memory is taken."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
from conftest import TINY, TINY_ROLLOUT

from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.storage import save_folder

BOUNDED = {
    "width": lambda c: c["network"].update(width=10**6),
    "a width of the order of the weights": lambda c: c["network"].update(width=200),
    "layers": lambda c: c["network"].update(num_layers=10**9),
    "layers as a number with a point": lambda c: c["network"].update(num_layers=1e9),
    "basis": lambda c: c["network"].update(num_basis=10**9),
    "modes": lambda c: c["network"].update(modes=[10**9, 4]),
    "nodes": lambda c: c["grid"]["space"]["x"].update(num_nodes=10**9),
    "nodes of dense matrices": lambda c: c["grid"]["space"]["x"].update(num_nodes=10**5),
    "nodes as a number with a point": lambda c: c["grid"]["space"]["x"].update(num_nodes=1e9),
    "elements": lambda c: c["grid"]["time"].update(elements=10**9),
    "stages": lambda c: c["grid"]["time"].update(stages=4000),
    "refinement": lambda c: c["trust"].update(refinement=1e6),
    "krylov": lambda c: c["trust"].update(krylov=10**9),
    "corrections": lambda c: c["ansatz"].update(num_corrections=10**9),
    "experts": lambda c: c["decomposition"].update(counts={"x": 10**9}),
}
PERIODIC = {
    "periodic nodes": lambda c: c["grid"]["space"]["y"].update(num_nodes=10**9),
    "nodes in all": lambda c: [axis.update(num_nodes=4096) for axis in c["grid"]["space"].values()],
    "collocation points": lambda c: c["grid"]["space"]["x"].update(dealiasing=1e7),
    "basis of a roll-out": lambda c: c["network"].update(num_basis=10**9),
    "steps": lambda c: c["ansatz"].update(steps=10**9),
}
LOAD = """
import json, resource, sys
import pihc_zoo as pz
from pihc_zoo.zoo.storage import load_folder
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_folder(path, pz.Surrogate)
        message = "loaded"
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, message]))
"""


def _limited():
    resource.setrlimit(resource.RLIMIT_DATA, (4 * 2**30, 4 * 2**30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """By case: by how many kB memory grew, and what loading said; one process for all."""
    folders = {}
    for base, cases in ((TINY, BOUNDED), (TINY_ROLLOUT, PERIODIC)):
        for case, change in cases.items():
            folder = tmp_path_factory.mktemp("hostile")
            folders[case] = save_folder(Surrogate.from_config(base), folder)
            config = json.loads((folder / "config.json").read_text())
            change(config)
            (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-c", LOAD, *map(str, folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=_limited)
    return dict(zip(folders, map(json.loads, done.stdout.splitlines()), strict=False))


@pytest.mark.parametrize("case", [*BOUNDED, *PERIODIC])
def test_hostile_sizes_are_refused_before_they_are_allocated(answers, case):
    growth, message = answers[case]
    assert growth < 100e3, "kB; what a tiny model itself takes"
    assert message.startswith(("ValueError: ", "ConfigError: ")) and "\n" not in message
    assert any(word in message for word in ("got", "expected", "does not fit its config.json", "choose")), message
