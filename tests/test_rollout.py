"""Laws of roll-outs over time windows: windows join, batches are loops, gradients are exact, failures stay alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close
from training_cases import residual_loss

from pihc_zoo.decomposition import Disjoint, Joint, Overlapping
from pihc_zoo.reference import truth_solver
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.status import Status

TIGHT = {"max_steps": 40, "rtol": 1e-11, "atol": 0.0}
EXPERTS = [
    Joint(),
    Joint({"x": 2, "y": 2}),
    Joint({"t": 2}),
    Disjoint({"x": 2, "y": 2}),
    Overlapping({"x": 2}, overlap=3),
]


@pytest.fixture
def model(tiny_rollout):
    return tiny_rollout(solver={"max_steps": 40})


@pytest.fixture
def parametric(tiny_rollout):
    """Takes ν, in float64, solved to the end."""
    return tiny_rollout(problem={"inputs": ["nu"]}, solver=TIGHT).with_network_dtype(torch.float64)


def central_difference(function, h):
    """Fourth order."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize("experts", EXPERTS, ids=repr)
def test_a_window_starts_where_the_last_one_ended(model, vorticity, experts):
    u0 = torch.as_tensor(vorticity(2, 16))
    with torch.no_grad():
        windows = list(model.windows(u0, model.tensors({}), 3, decomposition=experts))
    assert [window.index for window in windows] == [0, 1, 2] and model.num_windows == 2
    assert torch.equal(windows[0].initial, u0)
    for before, after in itertools.pairwise(windows):
        assert torch.equal(after.initial, before.u[:, -1]) and torch.equal(after.conditions.u0, before.u[:, -1])


def resolved(model, u):
    """What trigonometric polynomials carry of a field at the nodes: a network's output may have Nyquist waves."""
    features = model.constraint.discretisation.space
    return features.to_nodes(features.to_coefficients(u))


def test_reading_a_window_at_its_nodes_gives_its_resolved_values(model, vorticity):
    u0 = torch.as_tensor(vorticity(1, 16))
    grid = model.constraint.grid
    points = {name: axis.nodes for name, axis in grid.space.items()}
    with torch.no_grad():
        for window in model.windows(u0, model.tensors({})):
            times = grid.time.nodes + window.index * grid.time.stop
            assert_close(model.read(window, times, points), resolved(model, window.u), rtol=0, atol=1e-12)
            assert model.read(window, times + 10 * grid.time.stop, points).shape == (1, 0, 16, 16)


def test_waves_that_the_nodes_do_not_carry_change_nothing(model, vorticity):
    """A Nyquist wave in a window's start is invisible to its equation, and not read."""
    u0 = torch.as_tensor(vorticity(1, 16))
    with_wave = u0 + 0.1 * (-1.0) ** torch.arange(16)
    points = {name: axis.nodes for name, axis in model.constraint.grid.space.items()}
    with torch.no_grad():
        first, second = (model.solution(u, model.tensors({}), np.array([1.0, 5.0]), points) for u in (u0, with_wave))
    assert_close(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("experts", [None, Joint({"x": 2, "y": 2}), Disjoint({"x": 2})], ids=repr)
def test_the_mean_is_conserved(tiny_rollout, vorticity, experts, precision):
    out = tiny_rollout(solver={"max_steps": 40, "precision": precision}).predict(vorticity(2), experts=experts)
    assert np.abs(out.u.mean(axis=(2, 3))).max() < 1e-12


def test_the_velocity_has_no_divergence(model, vorticity):
    out = model.predict(vorticity(1))
    k = 2j * np.pi * np.fft.fftfreq(32, 1 / 32)
    k[16] = 0
    u, v = (np.fft.fft2(out.diagnostic(f"velocity_{name}"), norm="forward") for name in "xy")
    divergence = np.fft.ifft2(k[:, None] * u + k * v, norm="forward")
    assert np.abs(divergence).max() <= 1e-10
    vorticity_of_it = np.fft.ifft2(k[:, None] * v - k * u, norm="forward").real
    assert_allclose(vorticity_of_it, out.u, rtol=0, atol=1e-10)


def test_a_steady_flow_only_decays(model):
    """Taylor–Green vortices, known at all times."""
    s = np.sin(2 * np.pi * np.arange(32) / 32)
    out = model.predict(np.outer(s, s))
    exact = np.exp(-8 * np.pi**2 * 1e-4 * out.t)[:, None, None] * np.outer(s, s)
    assert_allclose(out.u[0], exact, rtol=0, atol=1e-6)


def test_durations_that_are_no_whole_number_of_windows_are_refused(tiny_rollout, rollout_config):
    time = {**rollout_config()["grid"]["time"], "duration": 2.0}
    with pytest.raises(ValueError, match="length 2 must divide the duration 5 into equal windows"):
        tiny_rollout(grid={"time": time})


# ------------------------------------------------------------------ batches, points and times


@pytest.mark.parametrize("experts", EXPERTS, ids=repr)
def test_a_batch_equals_a_loop(model, vorticity, experts):
    """To rounding: the product of a batch sums in another order than that of one. Networks are in float32."""
    model, u0 = model.with_network_dtype(torch.float64), vorticity(3)
    together = model.predict(u0, experts=experts, max_steps=60, rtol=1e-8)
    for i in range(3):
        alone = model.predict(u0[i], experts=experts, max_steps=60, rtol=1e-8)
        assert_allclose(together.u[i], alone.u[0], rtol=0, atol=1e-9)
        assert_allclose(together.estimated_error[i], alone.estimated_error[0], rtol=1e-6)
        assert_allclose(together.residual[i], alone.residual[0], rtol=1e-6)


def test_in_float32_a_batch_equals_a_loop_to_single_precision(tiny_rollout, vorticity):
    model, u0 = tiny_rollout(solver={"max_steps": 40, "rtol": 1e-3, "precision": "float32"}), vorticity(3)
    together = model.predict(u0)
    for i in range(3):
        assert_allclose(together.u[i], model.predict(u0[i]).u[0], rtol=0, atol=1e-4 * np.abs(u0).max())


def test_each_trajectory_has_its_own_viscosity(parametric, vorticity):
    u0, nu = vorticity(2), np.array([1e-4, 1e-2])
    together = parametric.predict(u0, parameters={"nu": nu})
    for i in range(2):
        alone = parametric.predict(u0[i], parameters={"nu": nu[i]})
        assert_allclose(together.u[i], alone.u[0], rtol=0, atol=1e-8)
    assert np.abs(together.u[1, -1]).max() < 0.8 * np.abs(together.u[1, 0]).max()


def test_the_call_and_predict_agree(model, vorticity):
    u0 = vorticity(2)
    with torch.no_grad():
        called = model(torch.as_tensor(u0)).numpy()
    assert_allclose(called, model.predict(u0).u, rtol=0, atol=1e-12)


def test_times_may_lie_anywhere_in_any_order(model, vorticity):
    """At t = 0 the given values; at a window's end, in its middle, beyond the duration; each as when asked alone."""
    u0 = vorticity(1)
    times = np.array([3.1, 0.0, 2.5, 5.0, 1e-3, 2.5, 2.4999, 6.2, 7.5])
    out = model.predict(u0, times=times)
    assert_array_equal(out.t, times)
    assert_array_equal(out.u[:, 1], u0)
    assert_array_equal(out.u[:, 2], out.u[:, 5])
    order = np.argsort(times, kind="stable")
    assert_allclose(out.u[:, order], model.predict(u0, times=times[order]).u, rtol=0, atol=1e-12)
    for i, time in enumerate(times):
        assert_allclose(out.u[:, i], model.predict(u0, times=[time]).u[:, 0], rtol=0, atol=1e-12)
    assert_allclose(out.u[:, 4], u0, rtol=0, atol=0.02)
    assert not out.is_reliable.any() and "beyond the trained duration (5): t = 7.5" in out.messages[0]
    assert out.status.shape == (1, 3)


def test_report_fields_are_read_at_the_same_times(model, vorticity):
    u0 = vorticity(1)
    for name in ("residual_field", "estimated_error_field"):
        whole = getattr(model.predict(u0, times=[0.0, 1.3, 2.5, 2.6, 5.0]), name)
        mixed = getattr(model.predict(u0, times=[2.6, 0.0, 5.0]), name)
        assert whole.shape == (1, 5, 32, 32)
        assert_allclose(mixed, whole[:, [3, 0, 4]], rtol=0, atol=1e-12)


def test_the_input_grid_does_not_count_for_what_both_carry(model, vorticity):
    """Band-limited fields: the output at 64² is every second value of that at 128²."""
    coarse = vorticity(1, 64, length_scale=1.5)
    fine = vorticity(1, 128, length_scale=1.5)
    assert_allclose(fine[:, ::2, ::2], coarse, rtol=0, atol=1e-14)
    first, second = model.predict(coarse), model.predict(fine)
    assert_allclose(second.u[:, :, ::2, ::2], first.u, rtol=0, atol=1e-12)
    assert_allclose(second.estimated_error, first.estimated_error, rtol=1e-9)
    assert_allclose(model.predict(coarse, x={"x": fine_points(), "y": fine_points()}).u, second.u, rtol=0, atol=1e-12)


def fine_points():
    return np.arange(128) / 128


def test_modes_beyond_the_grid_are_reported_as_unresolved(model, vorticity):
    x = np.arange(32) / 32
    u0 = vorticity(1, length_scale=1.5)
    high = 0.1 * np.abs(u0).max() * np.sin(2 * np.pi * 10 * x)[:, None] * np.ones(32)
    clean, other = model.predict(u0), model.predict(u0 + high)
    expected = np.linalg.norm(high) / np.linalg.norm(u0 + high)
    assert clean.unresolved[0] < 1e-6
    assert_allclose(other.unresolved[0], expected, rtol=1e-4)
    assert_allclose(other.u[:, 1:], clean.u[:, 1:], rtol=0, atol=1e-9)


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("experts", [Joint(), Joint({"x": 2}), Disjoint({"y": 2})], ids=repr)
def test_the_gradient_in_u0_equals_finite_differences(tiny_rollout, vorticity, experts):
    """Through both windows: the second starts from the first one's end."""
    settings = {"name": type(experts).__name__.lower(), **vars(experts)}
    model = tiny_rollout(solver=TIGHT, decomposition=settings).with_network_dtype(torch.float64)
    u0, direction = torch.as_tensor(0.7 * vorticity(2)), torch.as_tensor(vorticity(2, seed=8))
    weight = torch.linspace(-1, 2, 64, dtype=torch.float64)[:, None, None]

    def loss(u0):
        return (model(u0) * weight).square().mean()

    tracked = u0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(tracked), tracked)
    with torch.no_grad():
        expected = central_difference(lambda h: loss(u0 + h * direction), 1e-4)
    assert_allclose((gradient * direction).sum(), expected, rtol=1e-5)


def test_the_gradient_in_the_viscosity_equals_finite_differences(parametric, vorticity):
    u0 = torch.as_tensor(0.7 * vorticity(2))
    nu = torch.tensor([3e-3, 1e-3], dtype=torch.float64, requires_grad=True)

    def loss(nu):
        return parametric(u0, {"nu": nu})[:, 1:].square().mean()

    (gradient,) = torch.autograd.grad(loss(nu), nu)
    with torch.no_grad():
        for i in range(2):
            step = nu.detach() * (torch.arange(2) == i)
            expected = central_difference(lambda h, step=step: loss(nu.detach() + h * step), 1e-2)
            assert_allclose(gradient[i] * nu.detach()[i], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["log", "mean"])
@pytest.mark.parametrize("dealiasing", [1.0, 1.5])
def test_the_training_gradient_in_a_weight_equals_finite_differences(tiny_rollout, vorticity, kind, dealiasing):
    """The envelope gradient: coefficients are detached, the loss is a function of the minimum alone."""
    model = tiny_rollout(solver=TIGHT, dealiasing=dealiasing).with_network_dtype(torch.float64)
    u0, c = torch.as_tensor(vorticity(2, 16)), model.tensors({})

    def loss():
        return residual_loss(model.constrained(u0, c, gradient="envelope"), kind)[0]

    loss().backward()
    for weight in (model.network.lifting.weight, model.network.blocks[0].kernel, model.network.projection[2].weight):
        index = torch.unravel_index(weight.grad.abs().argmax(), weight.shape)
        start = weight.detach()[index].clone()

        def moved(h, weight=weight, index=index, start=start):
            with torch.no_grad():
                weight[index] = start + h
                value = loss()
                weight[index] = start
            return value

        expected = central_difference(moved, 1e-3)
        assert_allclose(weight.grad[index], expected, rtol=1e-6, atol=1e-12)


def test_gradients_reach_every_weight(model, vorticity):
    model(torch.as_tensor(vorticity(1))).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.network.parameters())


# ------------------------------------------------------------------ precision and variants


def test_single_precision_gives_the_same_field_with_coefficients_in_double(tiny_rollout, vorticity):
    u0, settings = torch.as_tensor(vorticity(2, 16)), {"max_steps": 40, "rtol": 1e-4, "atol": 1e-6}
    double, single = (tiny_rollout(solver={**settings, "precision": name}) for name in ("float64", "float32"))
    with torch.no_grad():
        fields = [model.constrained(u0, model.tensors({})) for model in (double, single)]
    assert fields[0].u.dtype == torch.float64 and fields[1].u.dtype == torch.float32
    for field in fields:
        assert field.coefficients.dtype == field.cost.dtype == torch.float64
        assert (field.solution.status == Status.CONVERGED).all()
    assert_close(fields[1].u.double(), fields[0].u, rtol=0, atol=1e-5 * float(fields[0].u.abs().max()))


def test_more_joint_experts_fit_no_worse(model, vorticity):
    """In a window: the functions of K = 4 sum to those of K = 1."""
    u0, solver = torch.as_tensor(vorticity(2, 16)), LevenbergMarquardt(max_steps=60, rtol=1e-8)
    with torch.no_grad():
        one, four = (
            model.constrained(u0, model.tensors({}), decomposition=experts, solver=solver).cost
            for experts in (Joint(), Joint({"x": 2, "y": 2}))
        )
    assert (four < one).all() and (four < 0.99 * one).any()


def test_the_constraint_lowers_the_residual_of_the_lift(model, vorticity):
    u0 = torch.as_tensor(vorticity(2, 16))
    with torch.no_grad():
        for window in model.windows(u0, model.tensors({})):
            rows, own = (
                model.constraint.rows(u, window.conditions) for u in (window.conditions.lift.u, window.field.u)
            )
            assert (own.flatten(1).norm(dim=1) < rows.flatten(1).norm(dim=1)).all()
            assert_close(0.5 * own.flatten(1).square().sum(1), window.field.cost[:, 0], rtol=1e-6, atol=1e-10)


def test_a_soft_constraint_is_the_same_pipeline_without_a_solve(tiny_rollout, vorticity):
    """PI-SC: coefficient one, no steps: in each window u = lift + Σ basis."""
    model = tiny_rollout(network={"num_basis": 1}, solver={"max_steps": 0, "initial_coefficient": 1.0})
    initial, c = torch.as_tensor(vorticity(2, 16)), model.tensors({})
    points = {name: axis.nodes for name, axis in model.constraint.grid.space.items()}
    initial = model.at_nodes(initial, points)
    with torch.no_grad():
        u = model.solution(initial, c, np.array([2.5, 5.0]), points)
        state = initial
        for k in range(2):
            conditions = model.constraint.conditions(state, c)
            state = resolved(model, conditions.lift.u + model.basis(conditions).dense().tensor.sum(dim=1))[:, -1]
            assert_close(u[:, k], state, rtol=0, atol=1e-12)
    model.solution(initial, c, np.array([5.0]), points).square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in model.network.parameters())


def test_the_solved_roll_out_is_near_the_truth(tiny_rollout, vorticity):
    """Even untrained: the lift carries most of it, the solve does not spoil it."""
    model, u0 = tiny_rollout(solver={"max_steps": 40}), vorticity(2, length_scale=1.5)
    out = model.predict(u0)
    truth = truth_solver(model.problem, num_nodes=32)(u0, times=out.t)
    error = np.linalg.norm((out.u - truth).reshape(2, -1), axis=1) / np.linalg.norm(truth.reshape(2, -1), axis=1)
    assert (error < 0.03).all(), error


# ------------------------------------------------------------------ failures


@pytest.fixture
def poisoned(model, monkeypatch):
    """A model whose second window meets values that are not finite in trajectory 1."""
    conditions, calls = model.constraint.conditions, []

    def damaged(u0, c, *rest):
        calls.append(0)
        if len(calls) % 2 == 0:
            u0 = u0.clone()
            u0[1] = torch.nan
        return conditions(u0, c)

    monkeypatch.setattr(model.constraint, "conditions", damaged)
    return model


def test_a_failed_window_is_flagged_with_its_time_and_earlier_times_are_kept(poisoned, vorticity):
    u0 = vorticity(3)
    times = np.array([0.0, 1.0, 2.4, 2.5, 2.6, 5.0])
    with pytest.warns(RuntimeWarning, match=r"1 of 3 trajectories failed; trajectory 1: solve at t = 2.5"):
        out = poisoned.predict(u0, times=times)
    assert_array_equal(np.isfinite(out.failure_time), [False, True, False])
    assert out.failure_time[1] == 2.5 and out.status[1].tolist() == [Status.CONVERGED, Status.NOT_FINITE]
    assert_array_equal(np.isfinite(out.u[1]).all(axis=(1, 2)), times < 2.5)
    assert_array_equal(np.isnan(out.u[1]).all(axis=(1, 2)), times >= 2.5)
    assert_array_equal(np.isnan(out.residual_field[1]).all(axis=(1, 2)), times >= 2.5)
    assert_array_equal(out.is_reliable, [True, False, True])


def test_the_others_are_as_if_it_had_not_failed(poisoned, tiny_rollout, vorticity):
    u0 = vorticity(3)
    with pytest.warns(RuntimeWarning):
        out = poisoned.predict(u0)
    healthy = tiny_rollout(solver={"max_steps": 40}).predict(u0)
    is_before = out.t < 2.5
    assert_allclose(out.u[:, is_before], healthy.u[:, is_before], rtol=0, atol=0)
    assert_allclose(out.u[[0, 2]], healthy.u[[0, 2]], rtol=0, atol=1e-12)
    assert_allclose(out.estimated_error[[0, 2]], healthy.estimated_error[[0, 2]], rtol=1e-9)


def test_a_flow_too_strong_for_the_lift_is_flagged(tiny_rollout, vorticity):
    """Large values that are admissible: the steps of the lift are too long for them."""
    u0 = 0.2 * vorticity(3)
    u0[1] *= 5.9 / np.abs(u0[1]).max()
    model = tiny_rollout(ansatz={"steps": 4})
    with pytest.warns(RuntimeWarning, match="trajectory 1: solve at t ="):
        out = model.predict(u0)
    assert np.isfinite(out.failure_time[1]) and not out.is_reliable[1] and out.messages[1]
    assert np.isnan(out.u[1][out.t >= out.failure_time[1]]).all()
    assert np.isfinite(out.u[1][out.t < out.failure_time[1]]).all()


def test_a_failed_roll_out_can_fall_back_to_the_classical_solver(poisoned, vorticity):
    u0, times = vorticity(2), np.array([0.0, 2.0, 4.0])
    out = poisoned.predict(u0, times=times, on_failure="fallback")
    truth = truth_solver(poisoned.problem)(u0[1:], times=times)
    assert_allclose(out.u[1], truth[0], rtol=0, atol=1e-6)
    assert "replaced by the classical solver" in out.messages[1] and not out.messages[0]


@pytest.mark.parametrize("kind", [Overlapping, Disjoint])
def test_sweeps_of_independent_experts_approach_a_velocity_of_their_own_blend(tiny_rollout, vorticity, kind):
    """Each sweep takes the velocity of the blend before: what it changes shrinks."""
    model, u0 = tiny_rollout(), vorticity(2)
    options = {"overlap": 2} if kind is Overlapping else {}
    fields = []
    for sweeps in (1, 2, 3):
        experts = kind({"x": 2, "y": 2}, sweeps=sweeps, **options)
        fields.append(model.predict(u0, experts=experts, max_steps=40).u)
    changes = [np.linalg.norm(after - before) for before, after in itertools.pairwise(fields)]
    assert 0 < changes[1] < 0.5 * changes[0]


def test_sweeps_are_positive(tiny_rollout, vorticity):
    with pytest.raises(ValueError, match="sweeps must be a positive integer"):
        tiny_rollout().predict(vorticity(1), experts=Disjoint({"x": 2}, sweeps=0))
