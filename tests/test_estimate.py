"""Laws of the defect estimator of roll-outs: what a field lacks is found, an exact solution lacks nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.estimate import Candidate, DefectEstimator, ErrorEstimator
from pihc_zoo.reference import truth_solver

NU = 1e-3
NODES = torch.arange(16, dtype=torch.float64) / 16


@pytest.fixture
def model(tiny_rollout):
    return tiny_rollout(problem={"inputs": ["nu"]}).with_network_dtype(torch.float64)


def waves(kx, ky, nodes=NODES):
    return torch.outer(torch.sin(2 * torch.pi * kx * nodes), torch.sin(2 * torch.pi * ky * nodes))


def steady(model, amplitude=1.0):
    """Taylor–Green vortices at the nodes, an exact solution: (1, time, *space) and its initial values."""
    start = amplitude * waves(1, 1)[None]
    t = torch.as_tensor(model.constraint.grid.time.nodes)[:, None, None]
    return torch.exp(-8 * torch.pi**2 * NU * t) * start[:, None], start


def estimated(model, u, start, fine_start=None, carried=None):
    """The estimator's error field and relative size for a field of the first window, or of a later one."""
    grid = model.estimator.grid
    conditions = model.constraint.conditions(start, model.tensors({"nu": NU}))
    if fine_start is None:
        fine_start = model.at_nodes(start, {name: NODES.numpy() for name in grid.space}, grid)
    with torch.no_grad():
        found = model.estimator(Candidate(u, conditions, fine_start, carried))
        size, scale = found.squares()
    return found.error, (size / scale).sqrt()


def on_fine(model, u):
    return model.estimator._refined(u)


def test_kinds_of_axes_have_their_estimator(model, tiny_model):
    assert isinstance(model.estimator, DefectEstimator) and isinstance(tiny_model().estimator, ErrorEstimator)
    assert model.estimator.grid.shape == (4, 24, 24)


def test_an_exact_solution_has_no_error_but_that_of_the_time_nodes(model):
    u, start = steady(model)
    error, relative = estimated(model, u, start)
    assert error.shape == (1, *model.estimator.grid.shape)
    assert relative < 1e-7


@pytest.mark.parametrize("power", [1, 2])
def test_a_small_error_that_grows_in_the_window_is_found(model, power):
    """u = exact + ε (t/τ)^p e(x) in a weak flow, which hardly moves the error."""
    exact, start = steady(model, amplitude=0.1)
    s = torch.as_tensor(model.constraint.grid.time.nodes)[:, None, None] / 2.5
    added = 1e-3 * s**power * (waves(2, 1) + waves(1, 3))
    error, relative = estimated(model, exact + added, start)
    expected = on_fine(model, added[None])
    assert_close(error, expected, rtol=0, atol=0.5 * float(expected.abs().max()))
    sizes = [(u * model.constraint.residual_map.weights).norm() for u in (added[None], exact + added)]
    assert 0.5 < relative / (sizes[0] / sizes[1]) < 2


def test_the_estimate_is_to_first_order_linear_in_the_error(model):
    exact, start = steady(model, amplitude=0.1)
    s = torch.as_tensor(model.constraint.grid.time.nodes)[:, None, None] / 2.5
    added = 1e-4 * s * waves(2, 1)
    base, one, two = (estimated(model, exact + factor * added, start)[0] for factor in (0, 1, 2))
    assert_close(two - base, 2 * (one - base), rtol=0, atol=1e-2 * float((one - base).abs().max()))


def test_what_the_grid_does_not_carry_of_the_start_is_counted(model):
    """A wave beyond the nodes' band that the finer grid carries is the first window's error."""
    u, start = steady(model)
    points = np.arange(64) / 64
    fine = torch.as_tensor(points)
    u0 = waves(1, 1, fine)[None] + 0.05 * waves(9, 2, fine)
    where = {"x": points, "y": points}
    start = model.at_nodes(u0, where)
    error, relative = estimated(model, u, start, model.at_nodes(u0, where, model.estimator.grid))
    missing = -0.05 * waves(9, 2, torch.arange(24, dtype=torch.float64) / 24)
    assert_close(error[0], missing.expand(4, 24, 24), rtol=0, atol=1e-6)
    assert_allclose(relative.item(), 0.05 / np.exp(-8 * np.pi**2 * NU * 1.25), rtol=0.05)


def test_an_error_carried_into_a_window_is_carried_on(model):
    u, start = steady(model)
    carried = 0.01 * torch.randn(1, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    base, _ = estimated(model, u, start, carried=torch.zeros_like(carried))
    error, _ = estimated(model, u, start, carried=carried)
    assert_close(error - base, carried[:, None].expand_as(error), rtol=0, atol=1e-14)


def test_growth_is_a_factor_on_the_defect(tiny_rollout, vorticity):
    u0 = vorticity(2)
    one, two = (tiny_rollout(trust={"growth": growth}).predict(u0, max_steps=40) for growth in (1.0, 2.0))
    ratio = two.estimated_error / one.estimated_error  # what the time nodes miss has no such factor
    assert (ratio > 1.5).all() and (ratio < 2.01).all()


def test_the_estimate_of_a_prediction_is_within_a_factor_of_two_of_its_error(tiny_rollout, vorticity):
    """Over both windows, of flows that turn little in five time units."""
    model, u0 = tiny_rollout(), 0.2 * vorticity(4, length_scale=0.8)
    out = model.predict(u0, max_steps=40)
    truth = truth_solver(model.problem, num_nodes=32)(u0, times=out.t)
    error = out.u - truth
    relative = np.linalg.norm(error.reshape(4, -1), axis=1) / np.linalg.norm(truth.reshape(4, -1), axis=1)
    ratio = out.estimated_error / relative
    assert ((ratio > 0.5) & (ratio < 2)).all(), ratio
    for own, estimate in zip(error, out.estimated_error_field, strict=True):
        assert np.vdot(own, estimate) > 0.5 * np.linalg.norm(own) * np.linalg.norm(estimate)


def test_single_precision_estimates_the_same(tiny_rollout, vorticity):
    u0 = vorticity(2)
    first, second = (
        tiny_rollout(solver={"precision": name, "max_steps": 40}).predict(u0).estimated_error
        for name in ("float64", "float32")
    )
    assert_allclose(second, first, rtol=0.02)
