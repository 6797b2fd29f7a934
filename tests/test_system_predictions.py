"""Laws of predictions of systems, and of models from text: fields by name, files, labels, figures, the call."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import text_models
import torch
from numpy.testing import assert_allclose, assert_array_equal
from text_models import configuration, initial, model

import pihc_zoo as pz
from pihc_zoo.reference import truth_solver
from pihc_zoo.surrogate import Surrogate

SYSTEMS = ("gray-scott-small", "fitzhugh-nagumo-small")


@pytest.fixture(scope="module")
def answers():
    """A prediction of two trajectories by each of the models."""
    return {name: model(name).predict(initial(name)) for name in text_models.NAMES}


@pytest.mark.parametrize("name", ["gray-scott-small", "robin-small"])
def test_untrained_models_answer_as_the_classical_solver_does(name, answers):
    out, truth = answers[name], truth_solver(model(name).problem)(initial(name))
    assert out.u.shape == truth.shape
    errors = np.linalg.norm((out.u - truth).reshape(2, -1), axis=1) / np.linalg.norm(truth.reshape(2, -1), axis=1)
    assert (errors < 0.01).all() and (errors < 2 * out.estimated_error + 1e-6).all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_fields_are_read_by_name(name, answers):
    out = answers[name]
    assert out.fields == ("u", "v") and "u/v" in repr(out)
    for k, field in enumerate(out.fields):
        assert_array_equal(out[field], out.u[..., k])
        only = out.of_field(field)
        assert only.u.shape == only.estimated_error_field.shape == out.u.shape[:-1]
        assert_array_equal(only.estimated_error_field, out.estimated_error_field[..., k])
        assert_array_equal(only[1].u0, out.u0[1:, ..., k])
        assert only.symbol == field and only.units["u"] == model(name).problem.fields[field].unit
    with pytest.raises(ValueError, match="no field 'w'"):
        out["w"]


def test_the_only_field_of_a_scalar_problem_has_its_name(answers):
    out = answers["robin-small"]
    assert out.fields == ("u",) and out["u"] is out.u and out.of_field("u") is out


@pytest.mark.parametrize("name", text_models.NAMES)
def test_files_and_pickles_keep_fields(name, answers, tmp_path):
    out = answers[name]
    back = pz.Prediction.load(out.save(tmp_path / "out.npz"))
    assert (back.fields, back.signed_fields, back.units) == (out.fields, out.signed_fields, out.units)
    assert_array_equal(back.u, out.u)
    for field in out.fields:
        assert_array_equal(back[field], out[field])
    copied = pickle.loads(pickle.dumps(out))
    assert_array_equal(copied.of_field(out.fields[-1]).residual_field, out.of_field(out.fields[-1]).residual_field)


@pytest.mark.parametrize("name", SYSTEMS)
def test_datasets_have_a_variable_per_field(name, answers):
    pytest.importorskip("xarray")
    out = answers[name]
    data = out.to_xarray()
    space = list(out.points)
    for field in out.fields:
        assert data[field].dims == ("batch", "time", *space)
        assert data[f"{field}0"].dims == ("batch", *(f"{axis}_input" for axis in space))
        assert_array_equal(data[field], out[field])
        unit = model(name).problem.fields[field].unit
        assert data[field].attrs["units"] == ("1" if unit == "dimensionless" else unit)
    assert data.attrs["fields"] == ["u", "v"]


@pytest.mark.parametrize("name", text_models.NAMES)
def test_the_call_gives_what_predict_gives_and_gradients(name, answers):
    u0 = torch.as_tensor(initial(name)).requires_grad_()
    u = model(name)(u0)
    assert_allclose(u.detach(), model(name).predict(initial(name), polish=False).u, rtol=0, atol=1e-6)
    u[:, -1].square().sum().backward()
    rng = np.random.default_rng(0)
    direction = torch.as_tensor(rng.standard_normal(u0.shape))
    with torch.no_grad():
        higher, lower = (model(name)(u0 + sign * 1e-4 * direction)[:, -1].square().sum() for sign in (1, -1))
    assert_allclose((u0.grad * direction).sum(), (higher - lower) / 2e-4, rtol=2e-3)
    with pytest.raises(ValueError, match=r"add the batch axis"):
        model(name)(u0[0])


def test_times_and_points_of_ones_own_are_read_per_field():
    whole = model("gray-scott-small").predict(initial("gray-scott-small"))
    out = model("gray-scott-small").predict(initial("gray-scott-small"), x=[0.25, 0.5], times=[2.0, 0.0, 0.5])
    assert out.u.shape == out.residual_field.shape == (2, 3, 2, 2)
    assert_allclose(out.u, whole.u[:, [8, 0, 2]][:, :, [8, 16]], rtol=0, atol=1e-10)


def test_a_failed_solve_of_a_system_falls_back_to_the_classical_solver():
    coarse = configuration("gray-scott-small")
    coarse["ansatz"]["steps"] = 2
    coarse["solver"]["atol"] = 1e-15
    torch.manual_seed(0)
    own, u0 = Surrogate.from_config(coarse).eval(), initial("gray-scott-small")
    options = {"max_steps": 1, "rtol": 1e-12, "x": [0.25, 0.5], "times": [0.5, 2.0]}
    with pytest.warns(RuntimeWarning, match="failed"):
        assert np.isnan(own.predict(u0, **options).u).all()
    with pytest.warns(RuntimeWarning, match="replaced by the classical solver"):
        out = own.predict(u0, **options, on_failure="fallback")
    truth = truth_solver(own.problem)(u0)[:, [2, 8]][:, :, [8, 16]]
    assert_allclose(out.u, truth, rtol=0, atol=1e-4)


def test_one_bad_trajectory_of_a_system_is_named_and_leaves_the_others(answers):
    u0 = initial("gray-scott-small")
    u0[0, 3, 1] = np.nan
    with pytest.warns(RuntimeWarning, match="1 of 2 trajectories failed"):
        out = model("gray-scott-small").predict(u0)
    assert np.isnan(out.u[0]).all()
    assert_allclose(out.u[1], answers["gray-scott-small"].u[1], rtol=0, atol=1e-12)
    u0[0, 3, 1] = 1.2
    with pytest.warns(RuntimeWarning, match="v reaches 1.2 kg/m³"):
        model("gray-scott-small").predict(u0)


@pytest.mark.parametrize("shape", [(2, 32), (2, 32, 3), (32, 2, 2)])
def test_wrong_shapes_of_systems_are_refused(shape):
    with pytest.raises(ValueError, match=r"u0 must|u0 has the shape"):
        model("gray-scott-small").predict(np.zeros(shape) + 0.5)


@pytest.mark.parametrize("name", text_models.NAMES)
def test_figures_and_animations_show_all_fields_or_one(name, answers, tmp_path):
    pytest.importorskip("matplotlib")
    out = answers[name]
    figure = out.plot(path=tmp_path / "all.png", truth=1.01 * out.u)
    titles = " ".join(axes.get_title() for axes in figure.axes)
    titles += " ".join(axes.get_title(loc="left") for axes in figure.axes)
    assert all(f"{field}" in titles for field in out.fields) and "True error" in titles
    only = out.plot(path=tmp_path / "one.png", truth=1.01 * out.u, field=out.fields[-1])
    assert len(only.axes) > 3
    pytest.importorskip("PIL")
    assert out.animate(path=tmp_path / "all.gif").stat().st_size > out[0].animate(
        path=tmp_path / "one.gif", field=out.fields[-1]
    ).stat().st_size / 2  # fmt: skip
    with pytest.raises(ValueError, match="no field 'w'"):
        out.plot(field="w")


def test_what_was_seen_of_every_field_is_sampled_and_the_rest_flagged():
    """A system's trained ranges are by field: samples fill them, and initial values outside are named."""
    name, ranges = "gray-scott-small", {"u": [0.6, 0.9], "v": [0.1, 0.3]}
    config = configuration(name)
    seen = Surrogate.from_config({**config, "trust": {**config["trust"], "state_range": ranges}})
    assert seen.problem.trained_ranges(seen.config["trust"]) == {"u": (0.6, 0.9), "v": (0.1, 0.3)}
    u0, parameters = pz.sample(seen, 4)
    assert u0[..., 0].min() > 0.6 > u0[..., 1].max() and u0[..., 1].min() > 0.1
    u0[1, ..., 1] += 0.25
    with pytest.warns(RuntimeWarning, match="not reliable"):
        out = seen.predict(u0, parameters=parameters)
    assert "initial values of v from" in out.messages[1] and "trained range [0.1, 0.3]" in out.messages[1]
    assert not any("trained range" in out.messages[i] for i in (0, 2, 3))


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"u": [0, 1]}, "one range for each of u, v in this order, not u"),
        ({"v": [0, 1], "u": [0, 1]}, "in this order, not v, u"),
        ([0, 1], "in this order, not u"),
        ({"u": [0, 1], "v": 1}, "of a system one by field"),
    ],
    ids=str,
)
def test_ranges_of_other_fields_are_refused(ranges, message):
    config = configuration("gray-scott-small")
    with pytest.raises(ValueError, match=message):
        Surrogate.from_config({**config, "trust": {**config["trust"], "state_range": ranges}})
