"""The differentiable call and `Prediction` say what they do not do: derivatives, reasons, keys, kinds, files."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from fake_models import DecayingVortices, taylor_green
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo import cli
from pihc_zoo.data import read_trajectories
from pihc_zoo.prediction.prediction import Prediction
from pihc_zoo.prediction.trust import Trust
from pihc_zoo.problems import DiffusionSorption
from pihc_zoo.status import Status
from pihc_zoo.zoo.storage import save_folder

INPUTS = {"name": "diffusion-sorption", "inputs": ["D", "phi"]}
REPORT = ("residual", "estimated_error", "unresolved", "status", "converged", "iterations", "is_reliable")


@pytest.fixture
def model(tiny_model):
    """Takes D and φ; solves to a tolerance at which gradients are exact."""
    solver = {"max_steps": 60, "rtol": 1e-11, "atol": 0.0}
    return tiny_model(problem=INPUTS, solver=solver).with_network_dtype(torch.float64)


@pytest.fixture
def u0(fields):
    return torch.as_tensor(fields(2))


@pytest.fixture
def out(model, u0):
    """A prediction of four trajectories, the second one bad."""
    values = np.concatenate([u0.numpy()] * 2)
    values[1, 7] = np.nan
    with pytest.warns(RuntimeWarning):
        return model.predict(values, times=[0.0, 10.0, 500.0], x=[0.1, 0.5, 0.9], parameters={"D": [3e-4] * 4})


# ------------------------------------------------------------------ derivatives of any order


@pytest.fixture(params=["tiny", "shipped"])
def final_mean(request, model, u0, monkeypatch):
    """(ln D, φ) ↦ the mean of u at the end."""
    if request.param == "shipped":
        model = pz.from_pretrained("diffusion-sorption.parametric").with_network_dtype(torch.float64)
        solver = dataclasses.replace(model.constraint.solver, max_steps=40, rtol=1e-10, atol=0.0)
        monkeypatch.setattr(model.constraint, "solver", solver)

    def call(p):
        return model(u0[:1], {"D": torch.exp(p[0]), "phi": p[1]})[:, -1].mean()

    return call


POINT = torch.tensor([np.log(4e-4), 0.3], dtype=torch.float64)


def gradient(f, p):
    p = p.clone().requires_grad_()
    return torch.autograd.grad(f(p), p)[0]


def test_the_hessian_is_the_difference_of_gradients(final_mean):
    hessian, h = torch.autograd.functional.hessian(final_mean, POINT), 1e-4
    steps = h * torch.eye(2, dtype=torch.float64)
    expected = torch.stack(
        [(gradient(final_mean, POINT + s) - gradient(final_mean, POINT - s)) / (2 * h) for s in steps]
    )
    assert_allclose(hessian, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_third_derivatives_are_differences_of_hessians(final_mean):
    v, h = torch.tensor([0.6, 0.3], dtype=torch.float64), 1e-4

    def curvature(p, **options):
        return v @ torch.autograd.functional.hessian(final_mean, p, **options) @ v

    p = POINT.clone().requires_grad_()
    (third,) = torch.autograd.grad(curvature(p, create_graph=True), p)
    expected = (curvature(POINT + h * v) - curvature(POINT - h * v)) / (2 * h)
    assert_allclose(third @ v, expected, rtol=2e-3)


def test_the_functional_jvp_is_a_difference(model, u0):
    with torch.no_grad():
        ends = [model(u0, {"D": torch.tensor(4e-4 + h, dtype=torch.float64)}) for h in (1e-8, -1e-8)]
    D, one = torch.tensor(4e-4, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    _, found = torch.autograd.functional.jvp(lambda D: model(u0, {"D": D}), D, one)
    expected = (ends[0] - ends[1]) / 2e-8
    assert_allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("transform", ["jvp", "jacfwd", "grad", "hessian", "dual"])
@pytest.mark.parametrize("of", ["parameter", "field"])
def test_forward_mode_and_transforms_are_refused_and_leave_nothing_behind(model, u0, transform, of):
    def f(value):
        return (model(u0, {"D": value}) if of == "parameter" else model(value)).mean()

    value = torch.tensor(4e-4, dtype=torch.float64) if of == "parameter" else u0
    with pytest.raises(ValueError, match=r"reverse mode.* torch\.autograd\.functional"):
        if transform == "jvp":
            torch.func.jvp(f, (value,), (torch.ones_like(value),))
        elif transform == "dual":
            with torch.autograd.forward_ad.dual_level():
                f(torch.autograd.forward_ad.make_dual(value, torch.ones_like(value)))
        else:
            getattr(torch.func, transform)(f)(value)
    assert torch.isfinite(gradient(f, value)).all()


# ------------------------------------------------------------------ inference mode


@pytest.mark.parametrize("experts", [None, {"x": 1}])
@pytest.mark.parametrize("way", ["predict", "call", "parameters"])
def test_gradients_after_inference_mode_are_those_of_a_fresh_model(tiny_model, u0, way, experts):
    used, fresh = (tiny_model(problem=INPUTS) for _ in range(2))
    with torch.inference_mode():
        if way == "predict":
            used.predict(u0, experts=experts)
        elif way == "parameters":
            used.predict(u0, parameters={"D": [3e-4, 4e-4]})
            used(u0, {"D": torch.tensor([3e-4, 4e-4])})
        else:
            used(u0)
    for values in ({}, {"D": torch.tensor([3e-4, 4e-4], dtype=torch.float64)}):
        gradients = []
        for model in (used, fresh):
            model(u0, values)[:, 1:].square().mean().backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        for one, two in zip(*gradients, strict=True):
            assert_array_equal(one, two)


def test_predictions_in_inference_mode_are_the_same(tiny_model, fields):
    model = tiny_model()
    expected = model.predict(fields(2))
    with torch.inference_mode():
        found = tiny_model().predict(torch.as_tensor(fields(2)))
        assert_array_equal(found.u, expected.u)
        assert_array_equal(found.residual_field, expected.residual_field)


# ------------------------------------------------------------------ reasons


def test_nothing_is_reliable_without_a_calibrated_threshold(tiny_model, fields):
    with pytest.warns(
        RuntimeWarning, match="2 of 2 answers are not reliable; trajectory 0: the model has no calibrated"
    ):
        out = tiny_model(trust={"threshold": None}).predict(fields(2))
    assert not out.is_reliable.any() and out.converged.all() and np.isfinite(out.u).all()


CASES = {
    "range": (
        {"state_range": [0.0, 0.01]},
        {},
        r"values from 0\.\d+ to 0\.\d+ are outside the trained range \[0, 0.01\]",
    ),
    "error": ({"threshold": 1e-9}, {}, r"estimated error [\d.]+ % is above the model's threshold of 1e-0?7 %"),
    "unresolved": ({"unresolved": 0.0}, {}, r"[\d.e-]+ % of the initial condition is finer .* its bound of 0 %"),
    "solve": ({}, {"max_steps": 1, "rtol": 1e-14}, r"^solve: not converged within max_steps"),
    "no solve": ({}, {"max_steps": 0}, r"^no solve was asked for \(max_steps = 0\)"),
    "two": ({"state_range": [0.0, 0.01], "threshold": 1e-9}, {}, r"trained range .*; estimated error"),
    "solve and range": (
        {"state_range": [0.0, 0.01]},
        {"max_steps": 1, "rtol": 1e-14},
        r"^solve: .*; initial values from",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_answer_that_is_not_reliable_says_why(tiny_model, fields, case):
    trust, options, message = CASES[case]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = tiny_model(trust=trust).predict(fields(3), **options)
    assert not out.is_reliable.any()
    assert all(re.search(message, text) for text in out.messages)
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert "3 of 3" in str(caught[0].message) and out.messages[0] in str(caught[0].message)


def test_reliable_answers_have_no_reason_and_no_warning(tiny_model, fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = tiny_model().predict(fields(3))
    assert out.is_reliable.all() and out.messages == [""] * 3


def test_one_warning_tells_failures_from_doubt(tiny_model, fields):
    values = fields(8)
    values[2, 5], values[6] = np.nan, 0.6
    with pytest.warns(RuntimeWarning) as caught:
        out = tiny_model().predict(values, max_steps=40)
    text = str(caught[0].message)
    assert len(caught) == 1
    assert "1 of 8 trajectories failed; trajectory 2: initial condition has" in text
    assert "1 of 8 answers are not reliable; trajectory 6: initial values from 0.6 to 0.6" in text
    assert_array_equal(out.is_reliable, [message == "" for message in out.messages])


def test_an_estimate_that_is_not_finite_is_a_reason():
    assert Trust(threshold=1.0).reasons(np.zeros(4), np.nan, 0.0) == ["its error could not be estimated"]
    assert Trust(threshold=1.0).reasons(np.zeros(4), 0.5, 0.0) == []


def test_the_command_line_prints_each_kind_of_reason_once(tiny_model, fields, tmp_path, capsys):
    folder = save_folder(tiny_model(trust={"threshold": 1e-9}), tmp_path / "model")
    values = fields(5)
    values[3] = 0.6
    np.savez(tmp_path / "in.npz", u0=values)
    assert cli.main(["predict", str(folder), str(tmp_path / "in.npz"), "--output", str(tmp_path / "out.npz")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("warning: not reliable: ") for line in lines)
    assert re.search(r"0, 1, 2, 4; trajectory 0: estimated error .* threshold", lines[0])
    assert re.search(r"3; initial values from 0.6 to 0.6 .*; estimated error", lines[1])


# ------------------------------------------------------------------ what the call refuses


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"d": 2e-4}, "no parameter 'd'; did you mean 'D'"),
        ({"D": 2e-3}, "parameter D must lie in [0.0002, 0.001] m²/s, got 0.002"),
        ({"D": torch.tensor([3e-4, 1e-5])}, "got 1e-05"),
        ({"n_f": 0.8}, "parameter n_f is fixed at 0.874 in this model"),
        ({"D": torch.full((3,), 3e-4)}, "must be a number or have the shape (2,), got (3,)"),
        ({"D": torch.full((2, 1), 3e-4)}, "got (2, 1)"),
        ({"D": float("nan")}, "must be finite"),
        ({"D": 3e-4 + 1j}, "parameter D must be real numbers"),
        ({"D": "small"}, "parameter D must be real numbers"),
        (3e-4, "parameters must be a dict such as {'D': 0.0005}, got float"),
    ],
    ids=str,
)
def test_parameters_of_the_call_are_checked_as_those_of_predict(model, u0, parameters, message):
    for call in (model, lambda u0, parameters: model.predict(u0, parameters=parameters)):
        with pytest.raises(ValueError) as caught:
            call(u0, parameters)
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u: u[0], "shape (batch, 1024), got (1024,); add the batch axis: model(u0[None])"),
        (lambda u: u[None], "shape (batch, 1024), got (1, 2, 1024)"),
        (lambda u: u[:, :100], "(batch, 1024)"),
        (lambda u: u[:0], "got (0, 1024)"),
        (lambda u: u + 0j, "u0 must be real numbers, got the type torch.complex128"),
        (lambda u: u.numpy(), "takes a torch tensor, got ndarray"),
    ],
)
def test_fields_of_the_call_are_checked(model, u0, change, message):
    with pytest.raises(ValueError) as caught:
        model(change(u0))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_fields_on_planes_are_checked(tiny_rollout, vorticity):
    model = tiny_rollout()
    for change, message in ((lambda u: u[0], "(batch, n_x, n_y)"), (lambda u: u[:, :, ::2], "non-square")):
        with pytest.raises(ValueError) as caught:
            model(torch.as_tensor(change(vorticity(1, 64))))
        assert message in str(caught.value)


@pytest.mark.parametrize("bound", [2e-4, 1e-3])
def test_bounds_in_single_precision_are_the_bounds(model, u0, bound):
    D = torch.tensor(bound, requires_grad=True)  # float32, on the wrong side of one of the bounds
    found, exact = model(u0, {"D": D}), model(u0, {"D": torch.tensor(bound, dtype=torch.float64)})
    assert_allclose(found.detach(), exact.detach(), rtol=0, atol=1e-12)
    found[:, -1].mean().backward()
    own = torch.tensor(bound, dtype=torch.float64, requires_grad=True)
    model(u0, {"D": own})[:, -1].mean().backward()
    assert D.grad != 0 and np.isclose(D.grad, own.grad)
    for value in (D, np.float32(bound)):
        out = model.predict(u0, parameters={"D": value})
        assert_array_equal(out.u, model.predict(u0, parameters={"D": bound}).u)
        assert_array_equal(out.parameters["D"], [bound] * 2)


def test_values_beyond_rounding_are_refused(model, u0):
    for value in (2e-4 * (1 - 1e-5), 1e-3 * (1 + 1e-5)):
        with pytest.raises(ValueError, match="parameter D must lie in"):
            model(u0, {"D": torch.tensor(value, dtype=torch.float64, requires_grad=True)})


def test_the_call_warns_of_solves_that_did_not_converge(tiny_model, u0):
    with pytest.warns(
        RuntimeWarning, match=r"2 of 2 solves did not converge \(not converged within max_steps.*predict"
    ) as w:
        tiny_model(solver={"max_steps": 1, "rtol": 1e-14})(u0)
    assert len(w) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_model(solver={"max_steps": 30})(u0)
        tiny_model(solver={"max_steps": 0})(u0)  # none was asked for


# ------------------------------------------------------------------ complex values


def test_complex_values_are_refused_wherever_fields_enter(model, u0, tmp_path):
    values = u0.numpy() + 1e-3j
    calls = [
        lambda: model.predict(values),
        lambda: model.predict(torch.as_tensor(values)),
        lambda: DecayingVortices().predict(taylor_green(32) + 0j),
        lambda: read_trajectories({"u0": values}, DiffusionSorption()),
        lambda: read_trajectories({"u0": u0.numpy(), "t": [0.0], "u": values[:, None]}, DiffusionSorption()),
        lambda: model.predict(u0, times=[1.0 + 0j]),
        lambda: model.predict(u0, x=[0.5 + 0j]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must be real numbers, got the type (torch\.)?complex128"):
            call()


# ------------------------------------------------------------------ unknown keys in data


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("times", "'t'"),
        ("D", "'parameter_D'"),
        ("parameter_d", "'D'"),
        ("U", "'u"),
        ("y", ""),
        ("phi", "'parameter_phi'"),
    ],
)
def test_unknown_keys_in_data_name_the_right_one(model, u0, tmp_path, capsys, key, meant):
    arrays = {"u0": u0.numpy(), key: np.array([4e-4, 4e-4])}
    with pytest.raises(ValueError, match=f"{key}.*{meant}"):
        read_trajectories(arrays, model.problem)
    with pytest.raises(ValueError, match=f"{key}.*{meant}"):
        pz.finetune(model, arrays, loss="physics", steps=1, quiet=True)
    np.savez(tmp_path / "in.npz", **arrays)
    folder = save_folder(model, tmp_path / "model")
    assert cli.main(["predict", str(folder), str(tmp_path / "in.npz"), "--output", str(tmp_path / "out.npz")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and key in err and meant in err
    assert not (tmp_path / "out.npz").exists()


def test_what_a_prediction_saves_is_data(model, u0, tmp_path):
    path = model.predict(u0).save(tmp_path / "out.npz")
    assert cli_predict(model, path, tmp_path) == 0
    assert_array_equal(read_trajectories(path, model.problem).u, model.predict(u0).u)


def cli_predict(model, path, tmp_path, *options):
    folder = save_folder(model, tmp_path / "model")
    return cli.main(["predict", str(folder), str(path), "--output", str(tmp_path / "again.npz"), *options])


# ------------------------------------------------------------------ predictions as objects


def same(one, two):
    for key in ("u", "t", "u0", "coefficients", "residual_per_expert", "failure_time", *REPORT):
        assert type(getattr(one, key)) is type(getattr(two, key))
        assert_array_equal(getattr(one, key), getattr(two, key))
    for key in ("points", "parameters"):
        assert getattr(one, key).keys() == getattr(two, key).keys()
        for name, value in getattr(one, key).items():
            assert_array_equal(value, getattr(two, key)[name])
    assert (one.messages, one.model, one.units, one.symbol, one.periods) == (
        two.messages, two.model, two.units, two.symbol, two.periods,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_predictions_are_pickled_whole(model, u0, kind):
    out = model.predict(kind(u0.numpy()), times=[0.0, 10.0])
    for again in (pickle.loads(pickle.dumps(out)), copy.deepcopy(out)):
        same(out, again)
        assert_array_equal(again.residual_field, out.residual_field)
        assert_array_equal(again.estimated_error_field, out.estimated_error_field)
        assert type(again.residual_field) is type(out.u)


def test_pickled_planes_keep_their_diagnostics():
    out = DecayingVortices().predict(taylor_green(), times=[0.0, 1.0])
    again = pickle.loads(pickle.dumps(out))
    assert_array_equal(again.diagnostic("velocity_x"), out.diagnostic("velocity_x"))


def test_pickles_hold_no_model(model, u0):
    one = model.predict(u0, times=[0.0], x=[0.5])
    assert len(pickle.dumps(one)) < 100_000


def test_saved_predictions_are_read_back(out, tmp_path):
    again = Prediction.load(out.save(tmp_path / "out"))
    same(out, again)
    same(out, Prediction.load(tmp_path / "out"))
    for name in ("residual_field", "estimated_error_field"):
        with pytest.raises(ValueError, match=f"{name} is not kept in files; predict again"):
            getattr(again, name)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        assert {"u0", "x", "t", "u", "parameter_D", *REPORT, "failure_time", "model", "units", "messages"} <= set(
            saved.files
        )
        assert saved["messages"].dtype.kind == saved["model"].dtype.kind == saved["units"].dtype.kind == "U"
        assert list(saved["messages"]) == out.messages


def test_saved_planes_keep_periods_and_further_fields(tmp_path):
    out = DecayingVortices().predict(taylor_green(), times=[0.0, 1.0])
    again = Prediction.load(out.save(tmp_path / "out", diagnostics=["velocity_y"]))
    same(out, again)
    assert list(again.points) == ["x", "y"]
    assert_array_equal(again.diagnostic("velocity_y"), out.diagnostic("velocity_y"))
    with pytest.raises(ValueError, match="no diagnostic 'velocity_x'"):
        again.diagnostic("velocity_x")
    assert_array_equal(again[0].diagnostic("velocity_y"), out.diagnostic("velocity_y"))
    assert_array_equal(
        Prediction.load(again.save(tmp_path / "b")).diagnostic("velocity_y"), out.diagnostic("velocity_y")
    )


def test_other_files_are_no_predictions(tmp_path):
    np.savez(tmp_path / "other.npz", u0=np.zeros((1, 1024)))
    with pytest.raises(ValueError, match=r"other\.npz' is not a saved prediction: it lacks t, u,"):
        Prediction.load(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="no such file"):
        Prediction.load(tmp_path / "none.npz")


def test_a_prediction_is_shown_in_one_short_line(out):
    text = repr(out)
    assert len(text) < 160 and "\n" not in text
    assert "(4, 3, 3)" in text and "(batch, t, x)" in text and "3 of 4 reliable" in text


def test_an_index_picks_trajectories(out):
    for index, rows in (
        (2, [2]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        (np.array([True, False, True, False]), [0, 2]),
    ):
        part = out[index]
        assert isinstance(part, Prediction) and len(part) == len(rows)
        for key in ("u", "u0", "coefficients", *REPORT, "residual_field", "estimated_error_field"):
            assert_array_equal(getattr(part, key), getattr(out, key)[rows])
        assert part.messages == [out.messages[i] for i in rows]
        assert_array_equal(part.parameters["D"], out.parameters["D"][rows])
        assert_array_equal(part.t, out.t)
    assert [len(part) for part in out] == [1] * 4
    for index in (4, (0, 1)):
        with pytest.raises(IndexError):
            out[index]


def test_a_trajectory_reads_only_its_own_fields(tiny_model, fields, monkeypatch):
    out, read = tiny_model().predict(fields(40), batch_size=16), []
    from pihc_zoo.discretisation import Readout

    forward = Readout.forward
    monkeypatch.setattr(
        Readout, "forward", lambda self, own, *rest: read.append(len(own.u)) or forward(self, own, *rest)
    )
    part = out[33].residual_field
    assert sum(read) < 40
    assert_array_equal(part, out.residual_field[33:34])


# ------------------------------------------------------------------ files


def test_files_are_compressed_on_request(out, model, u0, tmp_path):
    plain, small = out.save(tmp_path / "a"), out.save(tmp_path / "b", compress=True)
    assert small.stat().st_size < plain.stat().st_size
    same(Prediction.load(plain), Prediction.load(small))
    np.savez(tmp_path / "in.npz", u0=u0.numpy())
    sizes = []
    for options in ((), ("--compress",)):
        assert cli_predict(model, tmp_path / "in.npz", tmp_path, *options) == 0
        sizes.append((tmp_path / "again.npz").stat().st_size)
    assert sizes[1] < sizes[0]


# ------------------------------------------------------------------ precision


def test_precisions_are_those_of_the_network(tiny_model, fields):
    expected = tiny_model().predict(fields(1)).u
    changes = {
        "float": torch.float32, "double": torch.float64,
        "to": torch.float64, "to by device": torch.float64, "to by name": torch.float32, "type": torch.float64,
    }  # fmt: skip
    calls = {
        "float": lambda m: m.float(), "double": lambda m: m.double(), "to": lambda m: m.to(torch.float64),
        "to by device": lambda m: m.to("cpu", torch.float64), "to by name": lambda m: m.to(dtype=torch.float32),
        "type": lambda m: m.type(torch.float64),
    }  # fmt: skip
    for name, dtype in changes.items():
        model = tiny_model()
        assert calls[name](model) is model and model.dtype == dtype
        assert_allclose(model.predict(fields(1)).u, expected, rtol=0, atol=1e-4)
        u0 = torch.as_tensor(fields(1)).requires_grad_()
        model(u0).mean().backward()
        assert u0.grad.dtype == torch.float64 and torch.isfinite(u0.grad).all()


def test_precisions_that_solves_do_not_have_are_refused(model):
    for change in (
        lambda: model.half(),
        lambda: model.bfloat16(),
        lambda: model.to(torch.float16),
        lambda: model.to("cpu", dtype=torch.bfloat16),
        lambda: model.to(torch.zeros(1, dtype=torch.float16)),
    ):
        with pytest.raises(ValueError, match=r"torch\.float32 or torch\.float64, not .*; solves are in float64"):
            change()
    assert model.to("cpu") is model and model.dtype == torch.float64


# ------------------------------------------------------------------ statuses


def test_no_message_says_solve_twice(tiny_model, fields):
    with pytest.warns(RuntimeWarning) as caught:
        out = tiny_model().predict(fields(1), max_steps=0)
    assert out.messages == [Status.NOT_SOLVED.message] and "solve no solve" not in str(caught[0].message)
