"""Laws of the estimate: it is that of the times and points asked for, and the error there is within it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.reference import MethodOfLines, truth_solver

pytestmark = pytest.mark.filterwarnings("ignore:.*not reliable:RuntimeWarning")

X = (np.arange(1024) + 0.5) / 1024
STARTS = {
    "wave": 0.15 + 0.1 * np.sin(2 * np.pi * X),
    "pulse": 0.25 * np.exp(-(((X - 0.5) / 0.08) ** 2)),
    "clean": np.zeros(1024),
}
TIMES = [[5.0], [10.0, 20.0], [50.0], [100.0, 300.0], [500.0], [5.0, 500.0]]
POINTS = [X[:200], X[500:520], [0.01, 0.5], X[[300]]]


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.general")


def relative(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


# ------------------------------------------------------------------ bounded axes


@pytest.mark.parametrize("polish", [None, False], ids=["polished", "plain"])
@pytest.mark.parametrize("kind", STARTS)
def test_the_error_at_some_times_is_within_their_estimate(model, kind, polish):
    u0, solve = STARTS[kind], MethodOfLines(model.problem, rtol=1e-8, atol=1e-9)
    every = np.unique(np.concatenate(TIMES))
    truth = dict(zip(every, solve(u0, times=every), strict=True))
    for times in TIMES:
        out = model.predict(u0, times=times, polish=polish)
        assert out.converged.all() or polish is False
        if out.converged.all():
            error = relative(out.u[0], np.stack([truth[t] for t in times]))
            assert error <= 2.5 * out.estimated_error[0], (times, error, out.estimated_error)


@pytest.mark.parametrize("kind", ["wave", "pulse"])
def test_the_error_at_some_points_is_within_their_estimate(model, kind):
    """Also far from where most of the solution is."""
    u0, solve = STARTS[kind], MethodOfLines(model.problem, rtol=1e-8, atol=1e-9)
    for x in POINTS:
        for times in (model.problem.output_times, [50.0]):
            out = model.predict(u0, x=x, times=times)
            error = relative(out.u[0], solve(u0, x=np.asarray(x), times=times))
            assert error <= 2.5 * out.estimated_error[0], (x, error, out.estimated_error)


def test_the_estimate_of_points_is_no_smaller_than_that_of_all(model):
    """Relative to u there: the larger one of the error at the points and of that on average."""
    u0, times = STARTS["wave"], [50.0, 500.0]
    whole = model.predict(u0, times=times, polish=False)
    size = np.sqrt((whole.u**2).mean(axis=2).sum())
    for x in POINTS:
        out = model.predict(u0, x=x, times=times, polish=False)
        own = np.sqrt((out.u**2).mean(axis=2).sum())
        assert out.estimated_error[0] * own >= 0.99 * whole.estimated_error[0] * size
        assert out.residual == pytest.approx(whole.residual)  # of the solve, wherever it is read


def test_defaults_written_out_are_the_defaults(model):
    u0 = STARTS["wave"]
    default = model.predict(u0)
    for options in ({"x": X}, {"times": model.problem.output_times}, {"x": list(X), "times": np.linspace(0, 500, 101)}):
        out = model.predict(u0, **options)
        assert_array_equal(out.u, default.u)
        assert_array_equal(out.estimated_error, default.estimated_error)


def test_the_estimate_of_many_times_is_that_of_each_put_together(model):
    """Squares of errors add up, relative to those of u."""
    u0, times = STARTS["wave"], model.problem.output_times[1:]
    parts = [model.predict(u0, times=[t], polish=False) for t in times[::5]]
    sizes = np.array([(part.u**2).mean() for part in parts])
    squares = np.array([part.estimated_error[0] ** 2 for part in parts]) * sizes
    together = model.predict(u0, times=times[::5], polish=False).estimated_error[0]
    assert_allclose(together, np.sqrt(squares.sum() / sizes.sum()), rtol=1e-2)


def test_at_the_start_alone_there_is_no_error(model):
    out = model.predict(STARTS["wave"], times=[0.0])
    assert out.estimated_error.tolist() == [0.0] and out.is_reliable.all()
    assert_array_equal(out.u[:, 0], out.u0)


def test_neither_the_start_nor_repetition_nor_order_changes_the_estimate(model):
    u0 = STARTS["wave"]
    expected = model.predict(u0, times=[50.0, 500.0]).estimated_error
    for times in ([0.0, 50.0, 500.0], [500.0, 50.0], [500.0, 0.0, 50.0, 50.0, 500.0]):
        assert_allclose(model.predict(u0, times=times).estimated_error, expected, rtol=1e-12)


# ------------------------------------------------------------------ periodic axes, time windows


@pytest.fixture
def flow(tiny_rollout, vorticity):
    """A tiny roll-out of Navier–Stokes in two windows, a flow that turns little, and its truth at some times."""
    u0, times = 0.2 * vorticity(1, length_scale=0.8), [1.0, 2.5, 4.0]
    model = tiny_rollout(solver={"max_steps": 40})
    return model, u0, times, truth_solver(model.problem, num_nodes=32)(u0, times=times)[0]


def test_the_estimate_of_a_roll_out_follows_the_times(flow):
    model, u0, times, truth = flow
    for picked in ([0], [1], [2], [0, 2]):
        out = model.predict(u0, times=[times[i] for i in picked])
        error = relative(out.u[0], truth[picked])
        assert error <= 2.5 * out.estimated_error[0] and error >= out.estimated_error[0] / 10


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_points_of_a_plane_have_an_estimate(tiny_rollout, vorticity, precision):
    """Also where fields are in single precision, as in the shipped models."""
    model, u0 = tiny_rollout(solver={"precision": precision, "max_steps": 40}), 0.2 * vorticity(2)
    nodes = np.arange(32) / 32
    whole = model.predict(u0, times=[2.0, 5.0])
    some = model.predict(u0, times=[2.0, 5.0], x={"x": nodes[3:6], "y": nodes[[7]]})
    assert_allclose(some.u, whole.u[:, :, 3:6, 7:8], rtol=0, atol=1e-5)
    assert np.isfinite(some.estimated_error).all() and (some.estimated_error > 0).all()
    sizes = [np.sqrt((out.u**2).mean(axis=(2, 3)).sum(axis=1)) for out in (whole, some)]
    assert (some.estimated_error * sizes[1] >= 0.99 * whole.estimated_error * sizes[0]).all()


@pytest.mark.parametrize("n", [32, 48])
def test_on_periodic_axes_the_default_points_are_those_of_the_input(tiny_rollout, vorticity, n):
    model, u0, nodes = tiny_rollout(), vorticity(1, n), np.arange(n) / n
    default = model.predict(u0)
    for x in ({"x": nodes}, {"x": nodes, "y": nodes}):
        out = model.predict(u0, x=x)
        assert_array_equal(out.u, default.u)
        assert_array_equal(out.estimated_error, default.estimated_error)


def test_readouts_of_the_shipped_roll_outs(vorticity):
    """Every model answers on points of one's own."""
    x = np.array([0.1, 0.5, 0.7])
    burgers = pz.from_pretrained("burgers-1d.viscous")
    out = burgers.predict(0.4 + 0.5 * np.sin(2 * np.pi * np.arange(64) / 64), x=x, times=[0.05, 0.1])
    assert out.u.shape == (1, 2, 3) and out.is_reliable.all() and np.isfinite(out.estimated_error_field).all()
    flow = pz.from_pretrained("navier-stokes-2d.re1e4")
    out = flow.predict(torch.as_tensor(vorticity(1)), x={"x": x, "y": x[:1]}, times=[0.5])
    assert out.u.shape == (1, 1, 3, 1) and out.is_reliable.all() and torch.isfinite(out.residual_field).all()
