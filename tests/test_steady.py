"""Laws of steady problems: manufactured solutions, gradients through fields and walls, batches, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import pihc_zoo as pz
from pihc_zoo import sampling
from pihc_zoo.grid import CellAxis
from pihc_zoo.problems import PROBLEMS, Derivative, Parameter, Problem, Variable, WallCondition
from pihc_zoo.reference import truth_solver
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.exporting import export
from pihc_zoo.zoo.folder import self_test
from training import recipe

PI = np.pi


class Plate(Problem):
    """u³ − ∇·(a ∇u) + v u_x = s on (0, 1) × (0, 2), held at the value g at its walls; u = g + sin πx sin(πy/2)."""

    name, title, equation = "plate-2d", "A plate that reacts", r"u^3 - \nabla\cdot(a\nabla u) + v u_x = s"
    fields = {"u": Variable(0.0, 3.0, "K")}
    units = {"x": "m", "y": "m"}
    features = {
        "u": Derivative("u"),
        "u_x": Derivative("u", x=1),
        "u_y": Derivative("u", y=1),
        "u_xx": Derivative("u", x=2),
        "u_yy": Derivative("u", y=2),
    }
    parameters = {
        "g": Parameter(1.0, 0.5, 1.5, "K", "value at the walls"),
        "v": Parameter(0.5, 0.0, 1.0, "m/s", "velocity"),
    }
    coefficients = {
        "a": Parameter(1.0, 0.2, 5.0, "m²/s", "conductivity", is_logarithmic=True),
        "s": Parameter(50.0, 1.0, 200.0, "K/s", "source, plus 50", is_logarithmic=True),
    }
    coefficient_features = {"a_x": Derivative("a", x=1), "a_y": Derivative("a", y=1)}
    duration = None
    output_space = {"x": CellAxis(48, 0.0, 1.0), "y": CellAxis(48, 0.0, 2.0)}
    output_times = np.ones(1)

    def residual(self, f, c, at):
        flow = f["u_xx"] + f["u_yy"] + (at["a_x"] * f["u_x"] + at["a_y"] * f["u_y"]) / at["a"]
        return -flow + (f["u"] ** 3 + c["v"] * f["u_x"] - at["s"] + 50.0) / at["a"]

    def walls(self, c):
        held = WallCondition(1.0, 0.0, c["g"])
        return {"x": (held, held), "y": (held, held)}

    def linearised(self, c):
        return {"u_xx": -1.0, "u_yy": -1.0, "u": 3 / c["a"]}

    def layer_width(self, t, c):
        return 0.1 + 0 * t


class Bar(Plate):
    """The same on (0, 1): −(a u_x)_x + u³ + v u_x = s."""

    name = "bar-1d"
    units = {"x": "m"}
    features = {key: own for key, own in Plate.features.items() if "y" not in own.orders}
    coefficient_features = {"a_x": Derivative("a", x=1)}
    output_space = {"x": CellAxis(48, 0.0, 1.0)}

    def residual(self, f, c, at):
        return super().residual({**f, "u_y": 0.0, "u_yy": 0.0}, c, {**at, "a_y": 0.0})

    def walls(self, c):
        return {"x": super().walls(c)["x"]}

    def linearised(self, c):
        return {"u_xx": -1.0, "u": 3 / c["a"]}


def model_of(problem, nodes=16, corrections=16, sweeps=1):
    torch.manual_seed(0)
    stops = {name: axis.stop for name, axis in problem.output_space.items()}
    space = {
        k: {"name": "graded", "num_nodes": nodes, "start": 0.0, "stop": v, "grading": 0.7} for k, v in stops.items()
    }
    config = {
        "format": "pihc_zoo",
        "config_version": "1.1",
        "problem": {"name": problem.name, "inputs": ["g", "v"]},
        "grid": {"time": {"name": "instant"}, "space": space},
        "network": {
            "name": "cosine_operator",
            "num_basis": 1,
            "width": 4,
            "num_layers": 1,
            "modes": [1, *[4] * len(space)],
        },
        "ansatz": {"name": "linearised", "sweeps": sweeps, "num_corrections": corrections},
        "residual_map": {"name": "inverse_linearised"},
        "decomposition": {"name": "joint", "counts": {}},
        "solver": {"name": "levenberg_marquardt", "max_steps": 12, "rtol": 1e-8, "ridge": 1e-16},
        "trust": {"refinement": 1.5, "krylov": 5, "state_range": [0.0, 3.0], "threshold": 1.0},
    }
    return Surrogate.from_config(config)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for problem in (Plate, Bar):
        monkeypatch.setitem(PROBLEMS, problem.name, problem)


def case(problem, count=1):
    """Parameters, and the exact solution (count, 1, *space)."""
    g, v = np.linspace(1.0, 1.2, count), np.linspace(0.5, 0.9, count)
    tilt = np.linspace(0.5, 1.0, count)
    if problem is Bar:
        (x,) = (axis.nodes for axis in problem.output_space.values())
        g_, v_, tilt_ = (own[:, None] for own in (g, v, tilt))
        a, bump, bump_x, laplacian = np.exp(tilt_ * x), np.sin(PI * x), PI * np.cos(PI * x), -(PI**2) * np.sin(PI * x)
        u = g_ + bump
        s = 50 + u**3 - a * laplacian - tilt_ * a * bump_x + v_ * bump_x
    else:
        x, y = np.meshgrid(*(axis.nodes for axis in problem.output_space.values()), indexing="ij")
        g_, v_, tilt_ = (own[:, None, None] for own in (g, v, tilt))
        a = np.exp(tilt_ * x - y / 2)
        bump = np.sin(PI * x) * np.sin(PI * y / 2)
        bump_x = PI * np.cos(PI * x) * np.sin(PI * y / 2)
        bump_y = PI / 2 * np.sin(PI * x) * np.cos(PI * y / 2)
        u = g_ + bump
        s = 50 + u**3 + 1.25 * PI**2 * a * bump - a * (tilt_ * bump_x - bump_y / 2) + v_ * bump_x
    return {"a": a, "s": s, "g": g, "v": v}, u[:, None]


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("problem", [Plate, Bar])
def test_a_manufactured_solution_converges_at_the_stencils_order(problem):
    given, exact = case(problem)
    errors = [distance(model_of(problem, n, sweeps=12).predict(parameters=given).u, exact) for n in (6, 12, 24)]
    assert (np.log2(np.array(errors[:-1]) / errors[1:]) > 2.7).all() and errors[-1] < 1e-4, errors
    assert distance(truth_solver(problem(), rtol=1e-5)(None, given), exact) < 1e-4


def test_the_estimate_is_the_error():
    given, exact = case(Plate, 3)
    for corrections, nodes in ((2, 16), (16, 8)):  # what directions leave, and what the grid does
        out = model_of(Plate, nodes, corrections).predict(parameters=given)
        errors = np.array([distance(own, truth) for own, truth in zip(out.u, exact, strict=True)])
        ratios = errors / out.estimated_error
        assert (ratios < 1.5).all() and (ratios > 0.3).all(), ratios


def tuned_on(problem, model, **change):
    given, exact = case(problem, 6)
    data = {**{f"parameter_{key}": value for key, value in given.items()}, "u": exact, **change}
    data = {key: value for key, value in data.items() if value is not None}
    return pz.finetune(model, data, loss="both", steps=6, learning_rate=1e-2, quiet=True)


def test_it_is_tuned_on_fields_alone_on_solutions_and_at_scattered_points():
    model, (given, exact) = model_of(Bar, corrections=2), case(Bar, 6)
    with_time, without = tuned_on(Bar, model), tuned_on(Bar, model, u=exact[:, 0])
    assert with_time.history == without.history and with_time.after.error < with_time.before.error
    out = model.predict(parameters=given, polish=False)
    errors = [distance(own, truth) for own, truth in zip(out.u, exact, strict=True)]
    held = np.random.default_rng(0).permutation(6)[: with_time.history.count]
    assert_allclose(with_time.history.errors_before, np.array(errors)[held], rtol=1e-6)
    assert np.isnan(tuned_on(Bar, model, u=None).before.error)
    nodes, (rows, places) = Bar.output_space["x"].nodes, np.divmod(np.arange(0, 6 * 48, 5), 48)
    points = tuned_on(Bar, model, trajectory=rows, x=nodes[places], u=exact[rows, 0, places])
    assert points.after.error < points.before.error == pytest.approx(with_time.before.error, rel=0.3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameter_a": None}, "the coefficient field 'a' is missing; give its values over space"),
        ({"u": np.ones((5, 48))}, r"u must have the shape \(6, 1, 48\) of \(u0, t, x\), got \(5, 1, 48\)"),
        ({"parameter_a": np.ones((4, 48))}, r"parameter_a must be a number or have the shape \(48,\) or \(6, 48\)"),
        ({"t": np.array([0.5])}, "a steady problem has no times; leave them out"),
    ],
)
def test_data_of_a_steady_problem_that_do_not_fit_are_refused_in_one_line(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        tuned_on(Bar, model_of(Bar), **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("problem", [Plate, Bar])
def test_a_batch_is_a_loop(problem):
    model = model_of(problem, 12)
    given, _ = case(problem, 3)
    whole = model.predict(parameters=given, batch_size=2)
    alone = [model.predict(parameters={key: value[i : i + 1] for key, value in given.items()}).u for i in range(3)]
    assert_allclose(whole.u, np.concatenate(alone), rtol=1e-8)
    assert whole.u.shape == (3, 1, *whole.u0.shape[1:]) and whole.t.tolist() == [1.0] and not whole.u0.any()
    single = model.predict(
        parameters={key: value[0] for key, value in given.items()}, x={k: [0.3, 0.5] for k in "xy"[: whole.u0.ndim - 1]}
    )
    assert len(single) == 1 and single.u.shape[1:] == (1, *[2] * (whole.u0.ndim - 1))


def test_figures_datasets_and_files_hold_the_fields(tmp_path):
    given, exact = case(Plate)
    out = model_of(Plate, 8).predict(parameters=given)
    panels = [axes.get_title(loc="left") or axes.get_title() for axes in out.plot(truth=exact).axes]
    assert [title for title in panels if title] == ["a", "s", "u", "u, truth", "u − u_true", "Estimated error"]
    assert out.to_xarray().parameter_a.shape == (1, 48, 48)
    out.save(tmp_path / "out.npz")
    assert_allclose(pz.Prediction.load(tmp_path / "out.npz").parameters["a"], given["a"])


def test_a_folder_holds_an_example_with_its_fields_that_is_reproduced(tmp_path):
    model = model_of(Bar, 8)
    assert self_test(model, export(model, tmp_path / "model")) < 1e-12
    with pytest.raises(ValueError, match="does not reproduce its example"):
        self_test(model_of(Bar, 12), tmp_path / "model")


@pytest.mark.parametrize("name", ["a", "g"])
def test_gradients_pass_through_fields_and_walls(name):
    model = model_of(Plate, 10, 4, sweeps=2).double()
    given = {key: torch.as_tensor(value) for key, value in case(Plate)[0].items()}
    own = given[name].clone().requires_grad_()
    direction = 0.1 * torch.as_tensor(np.random.default_rng(0).standard_normal(own.shape))

    def value(values):
        return model(parameters={**given, name: values}).square().mean()

    (gradient,) = torch.autograd.grad(value(own), own)
    h = 1e-4
    with torch.no_grad():
        difference = (value(own + h * direction) - value(own - h * direction)) / (2 * h)
    assert_allclose(float((gradient * direction).sum()), float(difference), rtol=1e-5)


def test_draws_need_no_family_of_initial_fields():
    model = model_of(Plate)
    u0, parameters = pz.sample(model, 2)
    assert not u0.any() and parameters["a"].shape == (2, 48, 48) and parameters["g"].shape == (2,)
    u0, _ = sampling.draw(Plate(), sampling.training_family(Plate()), (), 2, 0)
    assert not u0.any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"times": [0.5]}, "a steady problem has no times; leave them out"),
        ({"u0": np.zeros((1, 3))}, r"u0 must have the shape \(batch, 48\)"),
        ({"parameters": {"a": np.ones(48)}}, "the coefficient field 's' is missing"),
        ({"parameters": {"a": np.ones((2, 48)), "s": np.full((3, 48), 60.0)}}, r"or \(3, 48\), got \(2, 48\)"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, words):
    own = {"parameters": {key: value[0] for key, value in case(Bar)[0].items()}, **call}
    with pytest.raises(ValueError, match=words) as caught:
        model_of(Bar).predict(**own)
    assert "\n" not in str(caught.value)


def test_darcys_solution_is_that_of_a_uniform_medium_over_its_permeability():
    """And with the untrained network it is right to what its estimate says; unit permeability: Fourier's series."""
    x = PROBLEMS["darcy-2d"].output_space["x"].nodes
    odd = np.arange(1, 400, 2)
    waves = np.sin(PI * np.outer(x, odd)) / odd
    weights = 16 / PI**4 / (odd[:, None] ** 2 + odd**2)
    exact = waves @ weights @ waves.T
    model = Surrogate.from_config(recipe.load("darcy-2d.lognormal").config)
    for a in (1.0, 0.25):
        out = model.predict(parameters={"a": a})
        assert distance(out.u[0, 0], exact / a) < 1e-4
