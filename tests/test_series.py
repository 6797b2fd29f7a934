"""Laws of series over time: manufactured solutions, classical solutions, gradients, batches, files and bad input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import pihc_zoo as pz
from pihc_zoo.config import ConfigError
from pihc_zoo.problems import TextProblem
from pihc_zoo.reference import truth_solver
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.exporting import write_example
from pihc_zoo.zoo.folder import EXAMPLE_FILE

D = 0.2


def spec_of(axes=("x",)):
    """u = c(t) cos(πx/2), where c is linear in t, at a wall and in the equation; a plane repeats it along y."""
    source = f"cos(pi*x/2)*(2 + {D}*pi**2/4*c)"
    flux = " + ".join(f"{D}*u_{axis}{axis}" for axis in axes)
    walls = {"x": {"left": "2*u - 0.1*u_x = 2*c", "right": "u = 0"}, "y": {"left": "u_y = 0", "right": "u_y = 0"}}
    return {
        "name": f"series-{len(axes)}d",
        "equations": [f"u_t = {flux} + {source}"],
        "duration": 1.0,
        "fields": {"u": {"range": [0.0, 4.0]}},
        "parameters": {"c": {"kind": "series", "default": 2.0, "low": 0.5, "high": 4.0, "unit": "1"}},
        "space": {axis: {"kind": "bounded", "points": 32, **walls[axis]} for axis in axes},
        "times": 41,
    }


def config_of(axes=("x",), nodes=16, elements=2):
    return {
        "format": "pihc_zoo",
        "config_version": "1.1",
        "problem": spec_of(axes),
        "grid": {
            "time": {"name": "radau", "duration": 1.0, "elements": elements, "stages": 3, "power": 1.0},
            "space": {axis: {"name": "graded", "num_nodes": nodes, "start": 0.0, "stop": 1.0} for axis in axes},
        },
        "network": {
            "name": "cosine_operator",
            "num_basis": 1,
            "width": 4,
            "num_layers": 1,
            "modes": [2, 3, 3][: 1 + len(axes)],
        },
        "ansatz": {"name": "linearised", "num_corrections": 2, "basis_scale": 1e-3},
        "residual_map": {"name": "inverse_linearised"},
        "decomposition": {"name": "joint"},
        "solver": {"name": "levenberg_marquardt", "max_steps": 6, "rtol": 1e-6, "ridge": 1e-14},
        "trust": {"refinement": 1.5, "threshold": 0.01},
    }


def model_of(*given, **settings):
    torch.manual_seed(0)
    return Surrogate.from_config(config_of(*given, **settings))


def case(problem, rate=2.0):
    """u0, c and the exact solution: u = c(t) cos(πx/2), c = 1 + rate·t."""
    x = problem.output_space["x"].nodes
    shape = np.cos(np.pi * x / 2).reshape(-1, *[1] * (len(problem.output_space) - 1))
    shape = np.broadcast_to(shape, [len(axis.nodes) for axis in problem.output_space.values()])
    c = 1 + rate * problem.output_times
    return shape.copy(), c, c.reshape(-1, *[1] * shape.ndim) * shape


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("axes", ["x", "xy"])
def test_a_manufactured_solution_is_found_and_its_error_estimated(axes):
    model = model_of(tuple(axes))
    u0, c, exact = case(model.problem)
    out = model.predict(u0[None], parameters={"c": c})
    error = distance(out.u[0], exact)
    assert error < 2e-5 and out.converged.all()
    assert 0.5 * error <= out.estimated_error[0] <= 5 * error + 1e-7


def test_it_converges_at_the_stencils_order():
    errors = []
    for nodes in (10, 20):
        model = model_of(nodes=nodes)
        u0, c, exact = case(model.problem)
        errors.append(distance(model.predict(u0[None], parameters={"c": c}).u[0], exact))
    assert np.log2(errors[0] / errors[1]) > 2.8


def test_it_is_what_the_classical_solver_finds_also_where_the_series_bends():
    model = model_of(nodes=32, elements=10)
    t = model.problem.output_times
    c = np.stack([np.interp(t, [0, 0.3, 1], [1, 3, 2]), 1 + 0.5 * np.sin(6 * t)])  # bends at an element's end
    u0 = np.stack([case(model.problem)[0]] * 2)
    truth = truth_solver(model.problem)(u0, {"c": c})
    out = model.predict(u0, parameters={"c": c})
    for own, expected, estimate in zip(out.u, truth, out.estimated_error, strict=True):
        assert distance(own, expected) < 1e-3
        assert distance(own, expected) < 3 * estimate + 1e-6
    assert_allclose(
        truth_solver(model.problem)(u0[:1], {"c": case(model.problem)[1]})[0], case(model.problem)[2], atol=1e-6
    )


def test_a_batch_is_a_loop_and_a_number_is_a_constant_series():
    model = model_of()
    u0, c, _ = case(model.problem)
    many = np.stack([c, c[::-1] + 0.1, np.full_like(c, 1.5)])
    out = model.predict(np.stack([u0] * 3), parameters={"c": many})
    for i, own in enumerate(many):
        assert_allclose(model.predict(u0, parameters={"c": own}).u[0], out.u[i], atol=1e-9)
    assert_allclose(model.predict(u0, parameters={"c": 1.5}).u[0], out.u[2], atol=1e-12)


def test_gradients_pass_to_the_series():
    model = model_of(nodes=10).double()
    u0, c, _ = case(model.problem)
    u0, c = torch.as_tensor(u0[None]), torch.as_tensor(c[None]).requires_grad_()
    direction = torch.as_tensor(np.random.default_rng(0).standard_normal(c.shape)) * 0.1

    def value(series):
        return model(u0, {"c": series}, times=[0.7]).square().sum()

    (gradient,) = torch.autograd.grad(value(c), c)
    with torch.no_grad():
        difference = (value(c + 1e-4 * direction) - value(c - 1e-4 * direction)) / 2e-4
    assert_allclose(float((gradient * direction).sum()), float(difference), rtol=2e-5)


def test_series_are_drawn_saved_and_labelled(tmp_path):
    model = model_of()
    u0, parameters = pz.sample(model, 3)
    assert parameters["c"].shape == (3, 41) and parameters["c"].std(axis=1).min() > 0.02
    assert parameters["c"].min() >= 0.5 and parameters["c"].max() <= 4.0
    with pytest.warns(RuntimeWarning):
        out = model.predict(np.clip(u0, 0, 4), parameters=parameters)
    out.save(tmp_path / "out.npz")
    loaded = pz.Prediction.load(tmp_path / "out.npz")
    assert_allclose(loaded.parameters["c"], parameters["c"])
    for own in (out, loaded):
        assert own.to_xarray()["parameter_c"].dims == ("batch", "time_native")


def test_models_with_series_are_verified_and_tuned(tmp_path):
    model = model_of()
    folder = model.save_pretrained(tmp_path / "model")
    write_example(model, folder / EXAMPLE_FILE)
    assert pz.from_pretrained(folder, verify=True).parameter_inputs == ()
    u0, c, exact = case(model.problem)
    data = {"u0": np.stack([u0] * 4), "u": np.stack([exact] * 4), "t": model.problem.output_times}
    data["parameter_c"] = np.stack([c] * 4)
    tuned = pz.finetune(model, data, steps=2, loss="both", quiet=True)
    assert tuned.after.error <= tuned.before.error < 1e-4
    with pytest.warns(RuntimeWarning, match="the data contradict the equation: 4 of 4"):  # as its classical solver says
        pz.finetune(model, {**data, "parameter_c": 1.2 * data["parameter_c"]}, steps=1, loss="both", quiet=True)
    with pytest.raises(ValueError, match=r"parameter_c must be a number or have the shape \(41,\) or \(4, 41\), got"):
        pz.finetune(model, {**data, "parameter_c": c[:5]}, steps=2, quiet=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the series 'c' is missing; give its values at the output times"),
        (np.ones(5), r"series c has the shape \(5,\); it needs 41 values, at the output times"),
        (np.ones((3, 41)), r"series c must be a number or have the shape \(41\) or \(1, 41\), got \(3, 41\)"),
        (np.full(41, 5.0), r"series c must lie in \[0.5, 4\] 1, got 5"),
        (np.full(41, np.nan), "series c must be finite"),
        ("x", "series c must be"),
    ],
)
def test_bad_series_are_refused_in_one_line(value, words):
    model = model_of()
    with pytest.raises(ValueError, match=words) as caught:
        model.predict(case(model.problem)[0], parameters={} if value is None else {"c": value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"equations": ["u_t = c_x*u_xx"]}, "unknown name 'c_x'"),
        ({"duration": None, "times": None, "equations": ["u_xx = c"]}, "c is a series over time; a steady problem"),
        ({"parameters": {"c": {"kind": "series", "default": 1.0}}}, "is a series: give its range"),
        ({"parameters": {"c": {"kind": "history", "default": 1.0}}}, "'number', 'field' or 'series'"),
        ({"left": "c*u - 0.1*u_x = 2"}, "axis x, left: c is a series: a term of its own"),
        ({"left": "u = c**2"}, "axis x, left: c is a series: a term of its own"),
    ],
)
def test_texts_that_misuse_a_series_are_refused_in_one_line(change, words):
    spec = copy.deepcopy(spec_of())
    for key, value in change.items():
        own = spec["space"]["x"] if key == "left" else spec
        own.pop(key, None)
        if value is not None:
            own[key] = value
    with pytest.raises(ConfigError) as caught:
        TextProblem(spec)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_series_needs_the_whole_duration_in_one_window():
    config = config_of()
    config["grid"]["time"]["duration"] = 0.5
    with pytest.raises(ValueError, match="the series c need one window"):
        Surrogate.from_config(config)
