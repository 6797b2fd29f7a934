"""Laws of coefficient fields: manufactured solutions, gradients, batches, draws and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import text_problems as texts
import torch
from numpy.testing import assert_allclose

import pihc_zoo as pz
from pihc_zoo import sampling
from pihc_zoo.grid import CellAxis, FourierAxis
from pihc_zoo.learning.draws import Source
from pihc_zoo.problems import PROBLEMS, Derivative, Parameter, Problem, Variable, WallCondition
from pihc_zoo.reference import reference_solver, truth_solver
from pihc_zoo.solvers import functions
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.onnx_graph import export_onnx

K = np.pi


class Rod(Problem):
    """u_t = (a u_x)_x + e^(−t) s(x) between walls held at 0; u = e^(−t) sin πx is a solution."""

    name, title, equation = "rod-1d", "A rod of several materials", r"u_t = (a\,u_x)_x + e^{-t} s"
    fields = {"u": Variable(-2.0, 2.0)}
    units = {"x": "m", "t": "s"}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {"r": Parameter(0.0, 0.0, 1.0, "1/s", "loss")}
    coefficients = {
        "a": Parameter(0.1, 0.02, 0.5, "m²/s", "diffusivity", is_logarithmic=True),
        "s": Parameter(10.0, 1.0, 30.0, "1/s", "source, plus 10", is_logarithmic=True),
    }
    coefficient_features = {"a_x": Derivative("a", x=1)}
    coordinates = ("t",)
    duration = 1.0
    output_space = {"x": CellAxis(64, 0.0, 1.0)}
    output_times = np.linspace(0.0, 1.0, 5)

    def residual(self, f, c, at):
        flow = at["a"] * f["u_xx"] + at["a_x"] * f["u_x"]
        return f["u_t"] - flow + c["r"] * f["u"] - functions.exp(-at["t"]) * (at["s"] - 10.0)

    def walls(self, c):
        return {"x": (WallCondition(1.0, 0.0, 0.0),) * 2}

    def linearised(self, c):
        return {"u_t": 1.0, "u_xx": -c["a"]}

    def layer_width(self, t, c):
        return (c["a"] * t) ** 0.5


class Ring(Rod):
    """The same around a ring, sin 2πx."""

    name = "ring-1d"
    output_space = {"x": FourierAxis(48)}

    def walls(self, c):
        return {}


def config_of(problem, nodes=24, counts=None, elements=2):
    is_ring = problem is Ring
    x = {"name": "fourier", "num_nodes": nodes, "dealiasing": 1.5} if is_ring else None
    x = x or {"name": "graded", "num_nodes": nodes, "start": 0.0, "stop": 1.0, "grading": 0.7}
    network = {"name": "fourier_operator", "num_basis": 2, "width": 4, "num_layers": 1, "modes": [3]}
    return {
        "format": "pihc_zoo",
        "config_version": "1.1",
        "problem": {"name": problem.name, "inputs": ["r"]},
        "grid": {"time": {"name": "radau", "duration": 1.0, "elements": elements, "stages": 4}, "space": {"x": x}},
        "network": network
        if is_ring
        else {"name": "cosine_operator", "num_basis": 1, "width": 4, "num_layers": 1, "modes": [3, 4]},
        "ansatz": {"name": "stepped", "steps": 60} if is_ring else {"name": "linearised", "num_corrections": 12},
        "residual_map": {"name": "inverse_linearised"},
        "decomposition": {"name": "joint", "counts": counts or {}},
        "solver": {"name": "levenberg_marquardt", "max_steps": 8, "rtol": 1e-6, "ridge": 1e-16},
        "trust": {"refinement": 1.5, "state_range": [-2.0, 2.0], "threshold": 1.0},
    }


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for problem in (Rod, Ring):
        monkeypatch.setitem(PROBLEMS, problem.name, problem)


def model_of(problem, **settings):
    torch.manual_seed(0)
    return Surrogate.from_config(config_of(problem, **settings))


def case(problem, count=1):
    """u0, coefficient fields and the exact solution (count, time, x)."""
    x = problem.output_space["x"].nodes
    k = 2 * K if problem is Ring else K
    phase = np.arange(count)[:, None]
    a = 0.1 * np.exp(0.4 * np.cos(2 * K * x + phase))
    a_x = -0.8 * K * np.sin(2 * K * x + phase) * a
    u = np.broadcast_to(np.sin(k * x), a.shape)
    s = 10 - u + k * k * a * u - k * a_x * np.cos(k * x)
    return u, {"a": a, "s": s}, np.exp(-problem.output_times)[:, None] * u[:, None]


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("problem", [Rod, Ring])
def test_a_manufactured_solution_is_found_and_its_error_estimated(problem):
    u0, given, exact = case(problem, 2)
    out = model_of(problem).predict(u0, parameters=given)
    errors = [distance(own, truth) for own, truth in zip(out.u, exact, strict=True)]
    assert max(errors) < 3e-4, errors
    assert (out.estimated_error < 20 * max(errors) + 1e-6).all() and (out.estimated_error > 0.1 * min(errors)).all()
    assert distance(truth_solver(problem())(u0, given), exact) < 1e-5


@pytest.mark.parametrize("problem", [Rod, Ring])
@pytest.mark.parametrize("solver_of", [truth_solver, reference_solver])
def test_classical_solvers_take_fields_on_the_output_grid_wherever_the_initial_values_lie(problem, solver_of):
    _, given, exact = case(problem)
    own = (np.arange(40) + 0.0 if problem is Ring else np.arange(1, 40)) / 40
    solve, x = solver_of(problem()), problem.output_space["x"].nodes
    u = solve(np.sin((2 * K if problem is Ring else K) * own)[None], given, input_x=own, x=x)
    assert distance(u, exact) < 1e-4


def test_it_converges_at_the_stencils_order():
    u0, given, exact = case(Rod)
    errors = [distance(model_of(Rod, nodes=n, elements=4).predict(u0, parameters=given).u, exact) for n in (6, 12, 24)]
    assert (np.log2(np.array(errors[:-1]) / errors[1:]) > 2.8).all(), errors


@pytest.mark.parametrize("problem", [Rod, Ring])
def test_a_batch_is_a_loop_and_a_shared_field_is_one_for_all(problem):
    model = model_of(problem)
    u0, given, _ = case(problem, 3)
    whole = model.predict(u0, parameters=given, batch_size=2).u
    alone = np.concatenate(
        [model.predict(u0[i : i + 1], parameters={k: v[i : i + 1] for k, v in given.items()}).u for i in range(3)]
    )
    assert_allclose(whole, alone, rtol=1e-7, atol=1e-9)
    shared = model.predict(u0, parameters={key: value[1] for key, value in given.items()})
    assert_allclose(shared.u[1:2], alone[1:2], rtol=1e-7, atol=1e-9)
    assert shared.parameters["a"].shape == u0.shape
    uniform = model.predict(u0, parameters={**given, "a": 0.1}).u
    assert_allclose(uniform, model.predict(u0, parameters={**given, "a": np.full(u0.shape, 0.1)}).u, rtol=1e-12)


def test_independent_experts_see_the_fields_of_their_subdomains():
    config = config_of(Rod)
    config["decomposition"] = {"name": "overlapping", "counts": {"x": 2}, "overlap": 4}
    config["residual_map"] = {"name": "quadrature_weights"}
    u0, given, exact = case(Rod, 2)
    out = Surrogate.from_config(config).predict(u0, parameters=given)
    assert max(distance(own, truth) for own, truth in zip(out.u, exact, strict=True)) < 0.02


@pytest.mark.parametrize("problem", [Rod, Ring])
def test_gradients_pass_to_the_fields(problem):
    model = model_of(problem, nodes=12).double()
    u0, given, _ = case(problem)
    u0, s = torch.as_tensor(u0.copy()), torch.as_tensor(given["s"])
    a = torch.as_tensor(given["a"]).requires_grad_()
    direction = torch.as_tensor(np.random.default_rng(0).standard_normal(a.shape)) * 0.01

    def value(field):
        return model(u0, {"a": field, "s": s}, times=[0.7]).square().sum()

    (gradient,) = torch.autograd.grad(value(a), a)
    with torch.no_grad():
        h = 1e-4
        difference = (value(a + h * direction) - value(a - h * direction)) / (2 * h)
    assert_allclose(float((gradient * direction).sum()), float(difference), rtol=2e-5)


def test_draws_fill_the_range_and_do_not_depend_on_the_share():
    problem = Rod()
    _, parameters = sampling.draw(problem, pz.families.Constants(), ["r"], 5, 0)
    assert parameters["a"].shape == (5, 64) and parameters["r"].shape == (5,)
    assert parameters["a"].min() >= 0.02 and parameters["a"].max() <= 0.5 and parameters["a"].std() > 0.02
    source = Source(pz.families.Constants(), [problem.output_space["x"].nodes], problem, ("r",), 0)
    _, whole = source(3, torch.arange(4))
    _, part = source(3, torch.tensor([2]))
    assert torch.equal(whole["a"][2:3], part["a"])


def test_a_prediction_is_saved_with_its_fields(tmp_path):
    u0, given, _ = case(Ring)
    out = model_of(Ring).predict(u0, parameters=given)
    out.save(tmp_path / "out.npz")
    assert_allclose(pz.Prediction.load(tmp_path / "out.npz").parameters["a"], given["a"])
    assert out.units["a"] == "m²/s"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": None}, "coefficient field 'a' is missing"),
        ({"a": np.ones(5)}, r"coefficient field a has the shape \(5,\); along x: expected 64 points"),
        ({"a": np.ones((3, 64))}, r"must be a number or have the shape \(64\) or \(1, 64\), got \(3, 64\)"),
        ({"a": np.full(64, -1.0)}, r"must lie in \[0.02, 0.5\] m²/s and so be positive, got -1"),
        ({"a": np.full(64, 0.6)}, r"must lie in \[0.02, 0.5\] m²/s, got 0.6"),
        ({"a": np.full(64, np.nan)}, "coefficient field a must be finite"),
        ({"a": "x"}, "coefficient field a must be"),
        ({"b": 1.0}, "no parameter 'b'"),
    ],
)
def test_bad_fields_are_refused_in_one_line(change, words):
    u0, given, _ = case(Rod)
    own = {key: value for key, value in {**given, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=words) as caught:
        model_of(Rod).predict(u0, parameters=own)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ as text, and without torch


SEEPAGE = {
    "format": "pihc_zoo",
    "config_version": "1.1",
    "problem": {**texts.DARCY, "inputs": ["s"]},
    "grid": {
        "time": {"name": "instant"},
        "space": {axis: {"name": "graded", "num_nodes": 8, "start": 0.0, "stop": 1.0} for axis in ("x", "y")},
    },
    "network": {"name": "cosine_operator", "num_basis": 1, "width": 4, "num_layers": 1, "modes": [1, 3, 3]},
    "ansatz": {"name": "linearised", "num_corrections": 0, "basis_scale": 0.01},
    "residual_map": {"name": "inverse_linearised"},
    "decomposition": {"name": "joint"},
    "solver": {"name": "levenberg_marquardt", "max_steps": 2},
    "trust": {"threshold": 0.05, "krylov": 1, "refinement": 1.0},
}
SEEPAGE["problem"] |= {
    "equations": ["-laplacian(u) - (a_x*u_x + a_y*u_y)/a = s/a"],
    "parameters": {**texts.DARCY["parameters"], "s": {"default": 1.0, "low": 0.5, "high": 2.0}},
}


def test_a_text_with_a_coefficient_field_is_exported_and_predicts_without_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "seepage"
    Surrogate.from_config(SEEPAGE).double().save_pretrained(folder)
    model = pz.from_pretrained(folder)
    export_onnx(model, folder)
    other = pz.from_pretrained(folder, backend="onnx")
    _, parameters = pz.sample(model, 3)
    assert set(parameters) == {"a", "s"} and parameters["a"].shape == (3, 64, 64)
    for points in (None, {"x": np.linspace(0.0, 1.0, 7), "y": np.linspace(0.2, 0.8, 5)}):
        expected = model.predict(None, points, parameters=parameters)
        found = other.predict(None, points, parameters=parameters)
        assert_allclose(found.u, expected.u, rtol=0, atol=1e-5 * np.abs(expected.u).max())
        if points is None:
            assert_allclose(found.estimated_error, expected.estimated_error, rtol=1e-4)
        assert (found.status == expected.status).all()
    words = []
    for bad in ({"s": 1.0}, {**parameters, "a": parameters["a"][:, :5]}, {**parameters, "a": -parameters["a"]}):
        for own in (model, other):
            with pytest.raises(ValueError) as caught:
                own.predict(parameters=bad)
            words.append(str(caught.value))
    assert words[::2] == words[1::2]
    for text, part in zip(words[::2], ("is missing", "expected 64 points, got 5", "so be positive"), strict=True):
        assert "coefficient field" in text and part in text
