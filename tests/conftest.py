"""Tiny surrogates and problems that every test can afford."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pihc_zoo.discretisation import Discretisation
from pihc_zoo.families import PeriodicGaussianProcess, SmoothFields
from pihc_zoo.problems import DiffusionSorption
from pihc_zoo.reference import MethodOfLines
from pihc_zoo.surrogate import Surrogate

TINY = {
    "format": "pihc_zoo",
    "config_version": "1.1",
    "problem": {"name": "diffusion-sorption", "inputs": []},
    "grid": {
        "time": {"name": "radau", "duration": 500.0, "elements": 2, "stages": 3},
        "space": {
            "x": {"name": "graded", "num_nodes": 16, "start": -0.00048828125, "stop": 1.00048828125, "grading": 1.0}
        },
    },
    "network": {"name": "cosine_operator", "num_basis": 2, "width": 4, "num_layers": 1, "modes": [3, 4]},
    "ansatz": {"name": "linearised"},
    "residual_map": {"name": "inverse_linearised"},
    "decomposition": {"name": "joint", "counts": {"x": 2}},
    "solver": {"name": "levenberg_marquardt", "max_steps": 12, "rtol": 1e-3},
    "trust": {"refinement": 1.5, "state_range": [0.0, 0.3], "threshold": 1.0},
}

TINY_ROLLOUT = {  # two windows
    "format": "pihc_zoo",
    "config_version": "1.1",
    "problem": {"name": "navier-stokes-2d", "inputs": []},
    "grid": {
        "time": {"name": "radau", "duration": 2.5, "elements": 1, "stages": 4, "grading": 1.0, "power": 1.0},
        "space": {name: {"name": "fourier", "num_nodes": 16, "dealiasing": 1.0} for name in ("x", "y")},
    },
    "network": {
        "name": "fourier_operator", "num_basis": 3, "width": 4, "num_layers": 1, "modes": [3, 3], "degree": 3
    },
    "ansatz": {"name": "integrated", "band": 5, "steps": 12},
    "residual_map": {"name": "quadrature_weights"},
    "decomposition": {"name": "joint", "counts": {}},
    "solver": {"name": "levenberg_marquardt", "max_steps": 12, "rtol": 1e-3},
    "trust": {"refinement": 1.5, "state_range": [-6.0, 6.0], "threshold": 1.0},
}  # fmt: skip


def pytest_configure(config):
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _changed(base, changes):
    config = copy.deepcopy(base)
    for part, settings in changes.items():
        config[part] = settings if "name" in settings else {**config[part], **settings}
    return config


def _surrogate(config, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Surrogate.from_config(config).eval()


@pytest.fixture
def tiny_config():
    """``tiny_config(section={...})``: the tiny configuration with some settings changed."""
    return lambda **changes: _changed(TINY, changes)


@pytest.fixture
def tiny_model(tiny_config):
    """``tiny_model(section={...})``: an untrained surrogate of a tiny configuration, seeded."""
    return lambda seed=0, **changes: _surrogate(tiny_config(**changes), seed)


@pytest.fixture
def rollout_config():
    """``rollout_config(section={...})``: a tiny roll-out on periodic axes; ``n`` and ``dealiasing`` of its axes."""

    def make(n=16, dealiasing=1.0, **changes):
        config = _changed(TINY_ROLLOUT, changes)
        for axis in config["grid"]["space"].values():
            axis.update(num_nodes=n, dealiasing=dealiasing)
        return config

    return make


@pytest.fixture
def tiny_rollout(rollout_config):
    """``tiny_rollout(section={...})``: an untrained surrogate over two time windows, seeded."""
    return lambda seed=0, **changes: _surrogate(rollout_config(**changes), seed)


@pytest.fixture
def vorticity():
    """``vorticity(count, n)``: smooth fields of zero mean on n × n points of the unit square."""

    def make(count, n=32, seed=3, **settings):
        points = np.arange(n) / n
        return PeriodicGaussianProcess(**settings).sample(count, [points] * 2, np.random.default_rng(seed))

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture
def problem():
    return DiffusionSorption()


@pytest.fixture
def operator(tiny_model):
    """Features of diffusion–sorption on the tiny grid."""
    return Discretisation(DiffusionSorption(), tiny_model().constraint.grid)


@pytest.fixture(scope="session")
def native_x():
    """(1024,) cell centres of the diffusion–sorption problem."""
    return DiffusionSorption.output_space["x"].nodes


@pytest.fixture
def fields(native_x):
    """``fields(count)``: smooth initial conditions on the native grid."""
    return lambda count, seed=3: SmoothFields(constants=0.0, shortest=0.3).sample(
        count, native_x, np.random.default_rng(seed)
    )


@pytest.fixture
def interrupted_after(monkeypatch):
    """``with interrupted_after(module, steps)``: the module's ``take_step`` is interrupted after so many steps."""

    @contextmanager
    def interrupted(module, steps):
        take_step, left = module.take_step, iter(range(steps))

        def counted(*arguments):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return take_step(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, "take_step", counted)
            yield

    return interrupted


@pytest.fixture(scope="session")
def solved():
    """8 fields of values up to .5, on 64 points, and their solutions at 4 times."""
    x, times = (np.arange(64) + 0.5) / 64, [0.0, 50.0, 250.0, 500.0]
    rng = np.random.default_rng(5)
    u0 = 0.25 + 0.2 * np.sin(np.pi * np.outer(rng.uniform(0.5, 2, 8), x) + rng.uniform(0, 6, (8, 1)))
    solve = MethodOfLines(DiffusionSorption())
    u = np.stack([solve(own, {}, input_x=x, x=x, times=times) for own in u0])
    return {"u0": u0, "x": x, "t": np.array(times), "u": u}


@pytest.fixture(scope="session")
def points(solved):
    """240 of these values, at their points."""
    rng = np.random.default_rng(6)
    row, place, time = rng.integers(0, 8, 240), rng.integers(0, 64, 240), rng.integers(1, 4, 240)
    columns = {"trajectory": row, "x": solved["x"][place], "t": solved["t"][time], "u": solved["u"][row, time, place]}
    return {"u0": solved["u0"], "input_x": solved["x"], **columns}
