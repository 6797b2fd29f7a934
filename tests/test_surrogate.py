"""Laws of the surrogate: gradients, batches, output points, kinds, and failures that are never silent."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from pihc_zoo.decomposition import Disjoint, Joint, Overlapping
from pihc_zoo.reference import reference_solver
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.status import Status

TIGHT = {"max_steps": 20, "rtol": 1e-12, "atol": 0.0}


@pytest.fixture
def model(tiny_model):
    return tiny_model()


@pytest.fixture
def parametric(tiny_model):
    return tiny_model(problem={"inputs": ["D", "phi", "n_f"]})


# ------------------------------------------------------------------ gradients of the call


def central_difference(function, h):
    """Fourth order."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


@pytest.mark.parametrize("experts", [Joint({"x": 2}), Disjoint({"x": 2}), Overlapping({"x": 2}, overlap=2)], ids=repr)
def test_the_gradient_in_u0_equals_finite_differences(tiny_model, fields, experts):
    settings = {"name": type(experts).__name__.lower(), **vars(experts)}
    model = tiny_model(solver=TIGHT, decomposition=settings).with_network_dtype(torch.float64)
    u0 = torch.as_tensor(fields(2))
    direction = torch.as_tensor(fields(2, seed=8)) - 0.1
    weight = torch.linspace(-1, 2, 101, dtype=torch.float64)[:, None]

    def loss(u0):
        return (model(u0) * weight).square().mean()

    tracked = u0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(tracked), tracked)
    with torch.no_grad():
        expected = central_difference(lambda h: loss(u0 + h * direction), 1e-3)
    assert_allclose((gradient * direction).sum(), expected, rtol=2e-6)


@pytest.mark.parametrize("key", ["D", "phi", "n_f"])
def test_the_gradient_in_a_parameter_equals_finite_differences(tiny_model, fields, key):
    model = tiny_model(problem={"inputs": ["D", "phi", "n_f"]}, solver=TIGHT).with_network_dtype(torch.float64)
    u0 = torch.as_tensor(fields(2))
    default = model.problem.parameters[key].default

    def loss(value):
        return model(u0, {key: value})[:, 1:].square().mean()

    value = torch.full((2,), default, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(value), value)
    with torch.no_grad():
        expected = central_difference(lambda h: loss(value.detach() * (1 + h)), 1e-3)
    assert_allclose((gradient * value.detach()).sum(), expected, rtol=1e-5)


def test_gradients_reach_every_weight(model, fields):
    (model(torch.as_tensor(fields(2)))[:, 1:] ** 2).mean().backward()
    for name, parameter in model.network.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


def test_the_call_and_predict_agree(model, fields):
    u0 = fields(2)
    with torch.no_grad():
        assert_allclose(model(torch.as_tensor(u0)).numpy(), model.predict(u0).u, rtol=0, atol=1e-12)


# ------------------------------------------------------------------ prediction


@pytest.mark.parametrize("experts", [None, 4, Disjoint({"x": 2}), Overlapping({"x": 2}, overlap=2)], ids=repr)
def test_a_batch_equals_a_loop(model, fields, experts):
    """More trajectories than one pass takes, so that passes are joined too."""
    u0 = fields(11)
    options = {"experts": experts, "max_steps": 30, "rtol": 1e-7, "times": [0.0, 20.0, 500.0]}
    together = model.predict(u0, **options)
    assert together.converged.all()
    for i in (0, 7, 8, 10):
        alone = model.predict(u0[i], **options)
        assert_allclose(alone.u[0], together.u[i], rtol=0, atol=1e-8)
        assert_allclose(alone.estimated_error[0], together.estimated_error[i], rtol=1e-5)


def test_a_batch_equals_a_loop_to_rounding_at_tight_tolerance(tiny_model, fields):
    model = tiny_model(solver=TIGHT).with_network_dtype(torch.float64)
    u0, together = fields(3), model.predict(fields(3)).u
    for i in range(3):
        assert_allclose(model.predict(u0[i]).u[0], together[i], rtol=0, atol=1e-10)


def test_batched_parameters_equal_a_loop(parametric, fields):
    u0 = fields(3)
    values = {"D": np.array([2e-4, 5e-4, 1e-3]), "phi": np.array([0.2, 0.3, 0.5])}
    options = {"max_steps": 40, "rtol": 1e-8}
    together = parametric.predict(u0, parameters=values, **options)
    for i in range(3):
        own = {key: float(value[i]) for key, value in values.items()}
        alone = parametric.predict(u0[i], parameters=own, **options)
        assert_allclose(alone.u[0], together.u[i], rtol=0, atol=1e-8)
        assert alone.parameters["D"][0] == together.parameters["D"][i]


def test_parameters_change_the_answer_and_defaults_do_not(parametric, fields):
    u0 = fields(2)
    default = parametric.predict(u0, max_steps=40).u
    named = parametric.predict(u0, parameters={"D": 5e-4, "phi": 0.29}, max_steps=40).u
    assert_allclose(named, default, rtol=0, atol=1e-12)
    assert np.abs(parametric.predict(u0, parameters={"D": 9e-4}, max_steps=40).u - default).max() > 0.01


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_answers_are_of_the_inputs_kind_in_float64(model, fields, kind):
    out = model.predict(kind(fields(2).astype(np.float32)))
    expected = type(kind(fields(1)))
    for value in (out.u, out.t, out.x, out.u0, out.residual, out.residual_field, out.parameters["D"], out.converged):
        assert isinstance(value, expected)
    assert str(out.u.dtype).endswith("float64") and str(out.estimated_error.dtype).endswith("float64")


def test_numpy_and_torch_give_the_same_answer(model, fields):
    u0 = fields(2)
    assert_array_equal(model.predict(u0).u, model.predict(torch.as_tensor(u0)).u.numpy())


def test_the_first_slice_is_the_given_initial_condition(model, fields):
    u0 = fields(2)
    assert_array_equal(model.predict(u0).u[:, 0], u0)
    with torch.no_grad():
        assert_array_equal(model(torch.as_tensor(u0))[:, 0].numpy(), u0)


def test_the_default_output_is_the_native_grid(model, fields):
    out = model.predict(fields(1))
    assert_array_equal(out.t, np.linspace(0, 500, 101))
    assert_allclose(out.x, (np.arange(1024) + 0.5) / 1024, atol=1e-15)
    assert out.u.shape == out.residual_field.shape == out.estimated_error_field.shape == (1, 101, 1024)


def test_asked_points_are_a_subset_of_the_whole(model, fields):
    u0 = fields(2)
    whole = model.predict(u0)
    rows, columns = [0, 3, 40, 100], [0, 10, 512, 1023]
    part = model.predict(u0, x=whole.x[columns], times=whole.t[rows])
    assert_allclose(part.u, whole.u[:, rows][:, :, columns], rtol=0, atol=1e-13)
    assert_allclose(part.estimated_error_field, whole.estimated_error_field[:, rows][:, :, columns], rtol=0, atol=1e-13)


def test_times_may_come_in_any_order_and_repeat(model, fields):
    sorted_times = model.predict(fields(1), times=[0.0, 10.0, 400.0]).u
    assert_allclose(
        model.predict(fields(1), times=[400.0, 0.0, 10.0, 10.0]).u, sorted_times[:, [2, 0, 1, 1]], atol=1e-14
    )


def test_initial_conditions_may_live_on_their_own_points(model, native_x):
    own = np.linspace(0, 1, 301)
    field = lambda x: 0.1 + 0.05 * np.cos(4 * x)  # noqa: E731
    native, other = model.predict(field(native_x)), model.predict(field(own), input_x=own)
    assert_allclose(other.u, native.u, rtol=0, atol=1e-7)
    assert_allclose(model.predict(field(own), input_x=own, x=own).u[0, 0], field(own), rtol=0, atol=0)


def test_experts_override_the_default(model, fields):
    u0, steps = fields(2), {"max_steps": 40}
    assert model.predict(u0, **steps).coefficients.shape == (2, 1, 4)
    assert model.predict(u0, experts=4, **steps).coefficients.shape == (2, 1, 8)
    assert model.predict(u0, experts={"x": 2, "t": 2}, **steps).coefficients.shape == (2, 1, 8)
    disjoint = model.predict(u0, experts=Disjoint({"x": 4}), **steps)
    assert disjoint.coefficients.shape == (2, 4, 2)
    assert disjoint.status.shape == disjoint.converged.shape == disjoint.residual_per_expert.shape == (2, 4)
    with pytest.raises(ValueError, match="not divisible into 5 subdomains; choose a divisor of 16"):
        model.predict(u0, experts=5)
    with pytest.raises(ValueError, match="no axis 'y'"):
        model.predict(u0, experts={"y": 2})


def test_residuals_per_expert_add_up_to_the_residual(model, fields):
    out = model.predict(fields(3), experts=4, max_steps=30)
    assert_allclose(np.square(out.residual_per_expert).sum(axis=1), out.residual**2, rtol=1e-10)


def test_the_error_estimate_is_close_to_the_error(tiny_model, fields):
    """The estimate, from a finer grid, is within a factor of two of the truth for smooth fields."""
    space = {"x": {"name": "graded", "num_nodes": 48, "start": -1 / 2048, "stop": 1 + 1 / 2048}}
    model = tiny_model(grid={"space": space, "time": {"name": "radau", "duration": 500.0}})
    u0 = fields(2)
    out = model.predict(u0, max_steps=20)
    truth = np.stack([reference_solver(model.problem)(row) for row in u0])
    error = np.linalg.norm((out.u - truth).reshape(2, -1), axis=1) / np.linalg.norm(truth.reshape(2, -1), axis=1)
    assert (out.estimated_error < 2 * error).all() and (out.estimated_error > 0.5 * error).all()


def test_predictions_are_deterministic(model, fields):
    assert_array_equal(model.predict(fields(2)).u, model.predict(fields(2)).u)


def test_predicting_leaves_no_graph_and_no_gradient(model, fields):
    u0 = torch.as_tensor(fields(1)).requires_grad_()
    assert not model.predict(u0).u.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


# ------------------------------------------------------------------ refused input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"u0": np.zeros((2, 7))}, "shape (batch, 1024)"),
        ({"u0": np.zeros((0, 1024))}, "no trajectories"),
        ({"u0": np.zeros((1, 1, 1024))}, "shape (batch, 1024)"),
        ({"times": [-1.0]}, "times must lie in [0, 500] s, got -1"),
        ({"times": [501.0]}, "times must lie in [0, 500] s, got 501"),
        ({"times": []}, "non-empty"),
        ({"times": [np.nan]}, "finite"),
        ({"x": [0.5, 2.0]}, "x must be finite positions in [0, 1]"),
        ({"x": [0.5, 0.2]}, "x must be strictly increasing"),
        ({"parameters": {"d": 1e-3}}, "no parameter 'd'; did you mean"),
        ({"parameters": {"D": 1e-3}}, "parameter D is fixed at 0.0005 m²/s in this model, got 0.001"),
        ({"parameters": {"D": np.nan}}, "parameter D must be finite"),
        ({"parameters": {"D": [5e-4, 5e-4, 5e-4]}}, "must be a number or have the shape (2,)"),
        ({"on_failure": "ignore"}, "'warn', 'raise' or 'fallback'"),
        ({"max_steps": -1}, "max_steps must not be negative"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(model, fields, options, message):
    with pytest.raises(ValueError) as caught:
        model.predict(options.pop("u0", fields(2)), **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_parameters_out_of_the_trained_range_are_refused(parametric, fields):
    with pytest.raises(ValueError, match=r"parameter D must lie in \[0.0002, 0.001\] m²/s, got 0.002"):
        parametric.predict(fields(1), parameters={"D": 2e-3})


def test_networks_are_single_or_double_precision(model):
    with pytest.raises(ValueError, match=r"must be torch\.float32 or torch\.float64"):
        model.with_network_dtype(torch.float16)


# ------------------------------------------------------------------ failures


@pytest.fixture
def damaged(fields):
    """Trajectories 1, 3 and 4 are bad: NaN, negative, above the wall's value."""
    u0 = fields(6)
    u0[1, 100], u0[3, 5], u0[4] = np.nan, -0.2, 1.4
    return u0


GOOD, BAD = [0, 2, 5], [1, 3, 4]


def test_bad_trajectories_come_back_as_nan_with_their_reason(model, damaged):
    with pytest.warns(RuntimeWarning, match=r"3 of 6 trajectories failed; trajectory 1: .* not finite"):
        out = model.predict(damaged)
    assert np.isnan(out.u[BAD]).all() and np.isfinite(out.u[GOOD]).all()
    assert (out.status[BAD] == Status.BAD_INPUT).all() and out.converged[GOOD].all()
    assert not out.converged[BAD].any() and not out.is_reliable[BAD].any()
    assert np.isnan(out.estimated_error[BAD]).all() and np.isnan(out.residual_field[BAD]).all()
    for i, words in {1: "1 values that are not finite", 3: "negative values", 4: "exceeds 1"}.items():
        assert words in out.messages[i]
    assert [out.messages[i] for i in GOOD] == ["", "", ""]


def test_the_others_are_bit_identical_to_a_batch_without_them(model, damaged):
    with pytest.warns(RuntimeWarning):
        out = model.predict(damaged)
    clean = model.predict(damaged[GOOD])
    for name in ("u", "coefficients", "residual", "estimated_error", "status", "iterations", "residual_field"):
        assert_array_equal(getattr(out, name)[GOOD], getattr(clean, name))


def test_a_batch_of_only_bad_trajectories_is_answered(model):
    with pytest.warns(RuntimeWarning, match="2 of 2"):
        out = model.predict(np.full((2, 1024), np.nan))
    assert np.isnan(out.u).all() and out.u.shape == (2, 101, 1024)
    assert np.isnan(out.estimated_error_field).all()


def test_raise_names_the_first_bad_trajectory(model, damaged):
    with pytest.raises(ValueError, match="trajectory 1: initial condition has 1 values that are not finite"):
        model.predict(damaged, on_failure="raise")


@pytest.mark.parametrize("experts", [Joint({"x": 2}), Disjoint({"x": 4})], ids=repr)
def test_failed_solves_are_flagged_per_expert_and_never_returned(model, fields, experts):
    u0 = fields(3)
    with pytest.warns(RuntimeWarning, match=r"3 of 3 trajectories failed; .* raise max_steps"):
        out = model.predict(u0, experts=experts, max_steps=1, rtol=1e-14)
    assert (out.status == Status.MAX_STEPS).any(axis=1).all()
    assert_array_equal(out.converged, out.status == Status.CONVERGED)
    assert np.isnan(out.u).all() and not out.is_reliable.any()
    assert all("raise max_steps" in message for message in out.messages)
    with pytest.raises(ValueError, match="not converged within max_steps"):
        model.predict(u0, experts=experts, max_steps=1, rtol=1e-14, on_failure="raise")


def test_no_solve_is_no_answer_either(model, fields):
    with pytest.warns(RuntimeWarning, match="no solve was asked for"):
        out = model.predict(fields(1), max_steps=0)
    assert (out.status == Status.NOT_SOLVED).all() and np.isnan(out.u).all()


def test_fallback_is_the_classical_solver_and_says_so(model, fields):
    u0, options = fields(2), {"x": [0.1, 0.5], "times": [0.0, 30.0, 500.0]}
    out = model.predict(u0, max_steps=1, rtol=1e-14, on_failure="fallback", **options)
    solve = reference_solver(model.problem)
    expected = np.stack([solve(row, **{key: np.array(v) for key, v in options.items()}) for row in u0])
    assert_array_equal(out.u, expected)
    assert all("replaced by the classical solver" in message for message in out.messages)
    assert not out.converged.any() and not out.is_reliable.any()


def test_fallback_leaves_good_trajectories_alone(model, fields):
    u0 = fields(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = model.predict(u0, on_failure="fallback")
    assert_array_equal(out.u, model.predict(u0).u)
    assert out.messages == ["", ""]


def test_fallback_cannot_repair_bad_input(model, damaged):
    with pytest.warns(RuntimeWarning, match="3 of 6"):
        out = model.predict(damaged, on_failure="fallback")
    assert np.isnan(out.u[BAD]).all() and (out.status[BAD] == Status.BAD_INPUT).all()
    assert not any("classical" in message for message in out.messages)


def test_values_outside_the_trained_range_are_answered_but_not_trusted(model, native_x):
    out = model.predict(np.full((1, len(native_x)), 0.6), max_steps=40)
    assert np.isfinite(out.u).all() and not out.is_reliable.any()


def test_a_threshold_on_the_estimate_bounds_trust(tiny_model, fields):
    models = (tiny_model(trust={"threshold": value}) for value in (1.0, 1e-9))
    loose, strict = (model.predict(fields(2), polish=False) for model in models)
    assert loose.is_reliable.all() and not strict.is_reliable.any()
    assert_array_equal(loose.u, strict.u)


# ------------------------------------------------------------------ devices


@pytest.mark.gpu
def test_cuda_gives_the_same_prediction(tiny_model, fields):
    u0, options = fields(4), {"max_steps": 20, "rtol": 1e-8}
    cpu = tiny_model().predict(u0, **options)
    cuda = tiny_model().to("cuda").predict(u0, **options)
    assert_allclose(cuda.u, cpu.u, rtol=0, atol=1e-6)
    assert_array_equal(cuda.converged, cpu.converged)


class Watched(LevenbergMarquardt):
    """Refuses every synchronisation while it solves."""

    def solve(self, objective, w):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return super().solve(objective, w)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("experts", [Joint({"x": 2}), Disjoint({"x": 2})], ids=repr)
def test_on_cuda_the_solves_need_no_synchronisation(tiny_model, fields, experts):
    model = tiny_model().to("cuda")
    nodes = model.at_nodes(torch.as_tensor(fields(2), device="cuda"), {"x": model.problem.output_space["x"].nodes})
    c, options = model.tensors({}), {"decomposition": experts}
    with torch.no_grad():
        model.constrained(nodes, c, **options)  # handles and workspaces are created once
        field = model.constrained(nodes, c, solver=Watched(max_steps=6, refresh_every=2), **options)
    assert torch.isfinite(field.u).all()
