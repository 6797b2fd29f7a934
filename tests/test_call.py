"""The differentiable call at any times and points: the values of predict, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

TIMES = [250.0, 0.0, 10.0, 400.0, 10.0]  # not sorted, with the start, one twice
X = np.array([0.0, 0.013, 0.5, 0.9])


def tensor(values):
    return torch.as_tensor(values, dtype=torch.float64)


@pytest.fixture
def model(tiny_model):
    return tiny_model(problem={"inputs": ["D"]}).double()


@pytest.mark.parametrize("kind", [np.asarray, tensor, list])
def test_the_call_has_the_values_of_predict(model, fields, kind):
    u0 = fields(2)
    u = model(tensor(u0), {"D": 4e-4}, times=kind(TIMES), x=kind(X))
    out = model.predict(u0, times=TIMES, x=X, parameters={"D": 4e-4}, polish=False)
    assert u.shape == (2, 5, 4) and u.dtype == torch.float64
    assert_close(u.detach(), tensor(out.u), rtol=1e-10, atol=1e-13)


def test_by_default_it_is_the_native_grid(model, fields, native_x):
    u0 = tensor(fields(1))
    everywhere = model(u0)
    assert_close(model(u0, times=model.problem.output_times, x={"x": native_x}), everywhere, rtol=0, atol=0)
    assert_close(model(u0, times=model.problem.output_times[[100, 5]]), everywhere[:, [100, 5]], rtol=1e-12, atol=0)


def test_the_start_is_the_initial_condition_and_needs_no_solve(model, fields, monkeypatch):
    u0 = tensor(fields(1)).requires_grad_()
    monkeypatch.setattr(type(model), "windows", None)
    assert_close(model(u0, times=0.0), u0[:, None], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(model(u0, times=[0.0], x=X)[..., 2].sum(), u0)
    assert gradient.abs().max() > 0  # of the interpolation


def test_gradients_are_differences_of_the_call(tiny_model, fields):
    """In the initial condition and in a parameter, at times out of order and points of one's own."""
    model = tiny_model(problem={"inputs": ["D"]}, solver={"max_steps": 60, "rtol": 1e-10}).double()
    base, direction = tensor(fields(1)), tensor(fields(1, seed=8)) - 0.1
    weights = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(s):
        u0, c = base + s * direction, {"D": 4e-4 * (1 + s)}
        return (model(u0, c, times=TIMES, x=X)[0] * weights).sum()

    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(s), s)
    with torch.no_grad():
        one, two = (value(tensor(h)) - value(tensor(-h)) for h in (1e-3, 2e-3))
    assert_close(gradient, (8 * one - two) / 12e-3, rtol=1e-6, atol=0)


def test_roll_outs_answer_at_points_of_every_axis_and_beyond_the_duration(tiny_rollout, vorticity):
    model, w0 = tiny_rollout().double(), vorticity(1)
    points = {"y": tensor([0.1, 0.2, 0.7])}
    times = [6.0, 0.0, 3.0]
    u = model(tensor(w0), times=times, x=points)
    with pytest.warns(RuntimeWarning, match="beyond the trained duration"):
        out = model.predict(w0, times=times, x=points)
    assert u.shape == (1, 3, 32, 3)
    assert_close(u.detach(), tensor(out.u), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": [-1.0]}, r"times must lie in \[0, 500\] s, got -1"),
        ({"times": [501.0]}, r"times must lie in \[0, 500\] s, got 501"),
        ({"times": []}, "non-empty"),
        ({"x": [0.5, 0.2]}, "strictly increasing"),
        ({"x": [2.0]}, r"positions in \[0, 1\]"),
        ({"x": {"y": [0.5]}}, "no axis 'y'"),
        ({"times": torch.ones(1, requires_grad=True)}, r"no gradient in times; pass times.detach\(\)"),
        ({"x": torch.ones(1, requires_grad=True)}, "no gradient in x"),
    ],
)
def test_times_and_points_are_checked_as_those_of_predict(model, fields, options, message):
    with pytest.raises(ValueError, match=message):
        model(tensor(fields(1)), **options)
