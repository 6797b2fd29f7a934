"""Problems, networks and other parts of one's own: registered, they work wherever the package's own do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import pihc_zoo as pz
from pihc_zoo.config import overridden
from pihc_zoo.decomposition import DECOMPOSITIONS, Joint
from pihc_zoo.families import FAMILIES, Family
from pihc_zoo.grid import AXES, Grid, UniformAxis
from pihc_zoo.networks import NETWORKS
from pihc_zoo.problems import PROBLEMS, DiffusionSorption, Problem
from pihc_zoo.residual_map import RESIDUAL_MAPS, QuadratureWeights
from pihc_zoo.surrogate import Surrogate
from training import recipe as recipes

HERE = Path(__file__).parent
TABLES = (PROBLEMS, NETWORKS, FAMILIES, AXES, DECOMPOSITIONS, RESIDUAL_MAPS)


@pytest.fixture(autouse=True)
def tables():
    """Whatever a test registers is forgotten after it."""
    before = [dict(table) for table in TABLES]
    yield
    for table, own in zip(TABLES, before, strict=True):
        table.clear()
        table.update(own)


@pytest.fixture
def heat(monkeypatch):
    """The module of one's own, imported."""
    monkeypatch.syspath_prepend(HERE)
    sys.modules.pop("heat_equation", None)
    import heat_equation

    yield heat_equation
    sys.modules.pop("heat_equation", None)


@pytest.fixture
def model(heat):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Surrogate.from_config(heat.CONFIG).eval()


def run(*arguments, cwd=HERE, code=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_problem_of_ones_own_is_solved(model):
    """Against the slowest mode between the walls, which are half a cell outside."""
    assert pz.list_problems("heat*") == {"heat-1d": "Heat, 1-D"}
    axis, t = model.problem.output_space["x"], model.problem.output_times
    low, high = axis.closed_nodes[[0, -1]]
    k = np.pi / (high - low)
    wave = 0.5 * np.sin(k * (axis.nodes - low))
    out = model.predict(wave, parameters={"kappa": 0.04})
    assert out.is_reliable.all()
    assert_allclose(out.u[0], wave * np.exp(-0.04 * k**2 * t[:, None]), rtol=0, atol=1e-4)


def test_a_folder_that_uses_ones_own_parts_is_loaded(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "mine")
    u0 = np.sin(np.pi * model.problem.output_space["x"].nodes)[None]
    assert_allclose(pz.from_pretrained(folder).predict(u0).u, model.predict(u0).u, rtol=0, atol=0)


def test_without_the_import_it_says_to_import(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "mine")
    text = run("pihc_zoo.cli", "evaluate", folder, code=2)
    assert text.count("\n") == 1
    assert "no problem named 'heat-1d' is registered" in text and "import the package that registers it" in text


def test_commands_import_what_they_are_told_to(model, tmp_path):
    folder, output = model.save_pretrained(tmp_path / "mine"), tmp_path / "out.npz"
    own = ("--import", "heat_equation")
    run("pihc_zoo.cli", "predict", folder, "--sample", 2, "--family", "lone_sines", "--output", output, *own)
    assert pz.Prediction.load(output).u.shape == (2, 11, 64)
    assert "Heat, 1-D" in run("pihc_zoo.cli", "info", folder, *own)
    text = run("pihc_zoo.cli", "info", folder, "--import", "heat_equatoin", code=2)
    there_is_none = "there is no module 'heat_equatoin' in the working folder or installed"
    assert text == f"error: cannot import 'heat_equatoin': {there_is_none}\n"


def test_recipes_may_use_ones_own_parts(heat, tmp_path):
    lines = [
        'name = "heat-1d.small"',
        'family = { name = "lone_sines" }',
        "[test_families]",
        'own = { name = "lone_sines" }',
    ]
    for part in ("problem", "network", "ansatz", "residual_map", "decomposition", "solver", "trust"):
        lines += [f"[{part}]", *(f"{key} = {toml(value)}" for key, value in heat.CONFIG[part].items())]
    lines += ["[grid.time]", *(f"{key} = {toml(value)}" for key, value in heat.CONFIG["grid"]["time"].items())]
    lines += ["[grid.space.x]", *(f"{key} = {toml(value)}" for key, value in heat.CONFIG["grid"]["space"]["x"].items())]
    path = tmp_path / "heat.toml"
    path.write_text("\n".join([*lines, "[training]", "steps = 2", "batch = 2"]))
    assert recipes.load(str(path)).family == heat.LoneSines()
    output = tmp_path / "run"
    run(
        "training",
        path,
        "--output",
        output,
        "--references",
        1,
        "--device",
        "cpu",
        "--quiet",
        "--import",
        "heat_equation",
    )
    assert pz.from_pretrained(output / "model").problem.name == "heat-1d"


def toml(value):
    return (
        json.dumps(value)
        if not isinstance(value, dict)
        else "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    )


# ------------------------------------------------------------------ every table


def test_axes_decompositions_and_residual_maps_are_registered_likewise(tiny_model, fields):
    @pz.register_axis("halved")
    @dataclass(frozen=True)
    class Halved(UniformAxis):
        """Cells of half the size."""

    @pz.register_decomposition("own")
    @dataclass(frozen=True)
    class Own(Joint):
        """Joint by another name."""

    @pz.register_residual_map("plain")
    class Plain(QuadratureWeights):
        """Quadrature weights by another name."""

    spec = {
        "time": {"name": "radau", "duration": 1.0},
        "space": {"x": {"name": "halved", "num_nodes": 8, "start": 0.0, "stop": 1.0}},
    }
    assert Grid.from_spec(spec).space["x"] == Halved(8, 0.0, 1.0)
    own = tiny_model(decomposition={"name": "own", "counts": {"x": 2}}, residual_map={"name": "plain"})
    assert type(own.constraint.decomposition) is Own and type(own.constraint.residual_map) is Plain
    there = tiny_model(residual_map={"name": "quadrature_weights"}).predict(fields(1))
    assert_allclose(own.predict(fields(1)).u, there.u, rtol=0, atol=0)


def test_registering_a_class_again_is_no_clash(heat):
    assert pz.register_problem(heat.Heat) is heat.Heat
    again = type("Heat", (heat.Heat,), {"__module__": heat.Heat.__module__})  # as from a reloaded module
    pz.register_problem(again)
    assert PROBLEMS["heat-1d"] is again


@dataclass(frozen=True)
class Other(Family):
    pass


def kind(title, /, *bases, **declared):
    return type(title, bases, declared)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: pz.register_family("constants")(Other), "belongs to the family .*bounded.Constants; register Other"),
        (
            lambda: pz.register_problem(kind("Mine", DiffusionSorption, name="burgers-1d")),
            "'burgers-1d' belongs to the problem",
        ),
        (lambda: pz.register_family("My family")(Other), "lower-case letters, digits, - and _, got 'My family'"),
        (lambda: pz.register_family(Other), r"as in @register\(\"my-family\"\), got <class"),
        (lambda: pz.register_family("own")(dict), "must be a subclass of pihc_zoo.families.base.Family"),
        (lambda: pz.register_family("own")(kind("Bare", Family)), "Bare must be a dataclass"),
        (
            lambda: pz.register_network("own")(torch.nn.Linear),
            "Linear must take the arguments grid, num_inputs, num_basis; it lacks grid",
        ),
        (lambda: pz.register_problem(int), "subclass of pihc_zoo.problems.Problem"),
        (lambda: pz.register_problem(kind("Bare", Problem, name="bare")), "Bare lacks title, equation, fields, units"),
        (lambda: pz.register_problem(kind("Mine", DiffusionSorption, name="own", units={"u": "m"})), "no unit of t, x"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_not_entered(register, message):
    before = [dict(table) for table in TABLES]
    with pytest.raises(ValueError, match=message):
        register()
    assert [dict(table) for table in TABLES] == before


# ------------------------------------------------------------------ overrides of a configuration


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        ({"solver.max_steps": 3}, "solver", {"name": "levenberg_marquardt", "max_steps": 3, "rtol": 1e-3}),
        ({"solver": {"max_steps": 3}}, "solver", {"name": "levenberg_marquardt", "max_steps": 3, "rtol": 1e-3}),
        ({"solver": {"name": "other"}}, "solver", {"name": "other"}),
        ({"decomposition": {"counts": {"t": 2}}}, "decomposition", {"name": "joint", "counts": {"t": 2}}),
        ({"decomposition.counts": {"t": 2}}, "decomposition", {"name": "joint", "counts": {"t": 2}}),
        ({"decomposition.counts.t": 2}, "decomposition", {"name": "joint", "counts": {"x": 2, "t": 2}}),
        ({"problem": {"inputs": ["D"]}}, "problem", {"name": "diffusion-sorption", "inputs": ["D"]}),
    ],
)
def test_overrides_change_what_they_name(tiny_config, overrides, path, expected):
    config = tiny_config()
    assert overridden(config, overrides)[path] == expected
    assert config == tiny_config()  # a copy


def test_overrides_reach_one_axis(tiny_config):
    config = tiny_config()
    for overrides in ({"grid.space.x.num_nodes": 8}, {"grid": {"space": {"x": {"num_nodes": 8}}}}):
        grid = overridden(config, overrides)["grid"]
        assert (
            grid["space"]["x"] == {**config["grid"]["space"]["x"], "num_nodes": 8}
            and grid["time"] == config["grid"]["time"]
        )


def test_overrides_that_lead_nowhere_are_refused(tiny_config):
    with pytest.raises(ValueError, match=r"cannot set 'solver.rtol.x': 'rtol' is not a table of settings"):
        overridden(tiny_config(), {"solver.rtol.x": 1})
    with pytest.raises(ValueError, match="grid: unknown setting 'spaces'; did you mean 'space'"):
        Surrogate.from_config(overridden(tiny_config(), {"grid.spaces.x.num_nodes": 8}))
