"""Laws of Galilean invariance: a mean velocity carries fields along, exactly, on any points, and in gradients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import pihc_zoo as pz
from pihc_zoo.discretisation import Field, Readout
from pihc_zoo.grid import FourierAxis
from pihc_zoo.problems import PROBLEMS, Burgers
from pihc_zoo.rollout import Frame

N = 256
X = np.arange(N) / N
WAVE = 0.5 * np.sin(2 * np.pi * X) + 0.2 * np.cos(4 * np.pi * X + 1)
TIMES = np.array([0.0, 0.05, 0.25, 0.5])
LATE = np.array([0.0, 0.4, 1.0, 1.7])  # in two windows
NU = {"nu": 2e-3}


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("burgers-1d.viscous")


@pytest.fixture
def tiny(tiny_rollout):
    """Burgers on 32 points in two windows, solved to rounding: of weights that nobody trained."""

    def make(windows=2):
        return tiny_rollout(
            n=32,
            problem={"name": "burgers-1d", "inputs": ["nu"]},
            grid={
                "time": {"name": "radau", "duration": 2.0 / windows, "elements": 1, "stages": 5, "power": 1.0},
                "space": {"x": {"name": "fourier"}},
            },
            network={"modes": [6]},
            ansatz={"band": 10, "steps": 12},
            solver={"max_steps": 60, "rtol": 1e-9, "atol": 0.0},
            trust={"state_range": [-2.0, 2.0]},
        ).with_network_dtype(torch.float64)

    return make


def moved(u, distance):
    """(time, x) fields on equally spaced points, each translated by its own distance."""
    axis = FourierAxis(u.shape[-1])
    shifted = [axis.modes(axis.nodes - s) @ axis.analysis() @ own for own, s in zip(u, distance, strict=True)]
    return np.stack(shifted)


def difference(u, expected):
    return np.linalg.norm(u - expected) / np.linalg.norm(expected)


# ------------------------------------------------------------------ problems


def test_only_problems_that_are_the_same_in_it_have_one():
    u0 = torch.rand(3, 8, dtype=torch.float64)
    velocity, offset = Burgers().moving_frame(u0)
    assert torch.equal(velocity["x"], u0.mean(dim=1)) and torch.equal(offset, u0.mean(dim=1))
    assert [name for name, problem in PROBLEMS.items() if problem().moving_frame(u0)] == [
        "burgers-1d",
        "korteweg-de-vries-1d",
    ]


def test_the_equation_is_the_same_in_the_moving_frame():
    """ρ of c + v(x − ct, t) is ρ of v there: u_t loses c v_x, which u u_x gains."""
    f = dict(zip(Burgers.features, torch.randn(4, 50, dtype=torch.float64), strict=True))
    seen = {**f, "u": f["u"] + 0.7, "u_t": f["u_t"] - 0.7 * f["u_x"]}
    c = Burgers().as_tensors({})
    torch.testing.assert_close(Burgers().residual(seen, c, {}), Burgers().residual(f, c, {}), rtol=1e-12, atol=1e-12)


def test_a_frame_moves_each_trajectory_at_its_own_speed():
    frame = Frame({"x": torch.tensor([0.5, -1.0]).double()}, torch.tensor([0.1, 0.2]).double())
    assert_allclose(frame.shift(torch.tensor([0.0, 2.0]))["x"], [[0.0, 1.0], [0.0, -2.0]])
    assert frame.like(torch.zeros(2, 3, 4, dtype=torch.float32)).shape == (2, 1, 1)


def test_a_shifted_readout_is_the_translated_field(tiny):
    """Through the modes: exact for what the nodes carry, between nodes as well."""
    operator = tiny().constraint.discretisation
    nodes, points = operator.grid.space["x"].nodes, np.array([0.02, 0.4, 0.77])
    times = operator.grid.time.nodes[[1, 4]]
    u = torch.as_tensor(np.sin(2 * np.pi * nodes) + 0.3 * np.cos(6 * np.pi * nodes)).expand(2, 5, -1)
    shift = torch.tensor([[0.3, -0.1], [0.0, 2.6]]).double()
    found = Readout(operator, times, {"x": points})(Field(u, initial=u[:, 0]), {"x": shift})
    at = points - shift.numpy()[..., None]
    assert_allclose(found, np.sin(2 * np.pi * at) + 0.3 * np.cos(6 * np.pi * at), rtol=0, atol=1e-12)


# ------------------------------------------------------------------ predictions


@pytest.mark.parametrize("c", [0.3, -1.1])
def test_a_mean_velocity_translates_the_prediction(model, c):
    """u(u₀ + c) = u(u₀) translated by c t, plus c: on the points of u₀."""
    rest, moving = (model.predict(WAVE + own, times=TIMES, parameters=NU) for own in (0.0, c))
    expected = moved(rest.u[0], c * TIMES) + c
    assert difference(moving.u[0], expected) < 1e-6
    assert_allclose(moving.u.mean(axis=2), c, rtol=0, atol=1e-12)


def test_also_on_points_of_ones_own(model):
    """Read at x + c t of each time, nothing has moved."""
    c, x = 0.45, np.array([0.111, 0.35, 0.42])
    moving = model.predict(WAVE + c, x=x, times=TIMES, parameters=NU)
    for i, t in enumerate(TIMES):
        at = np.sort((x - c * t) % 1)
        order = np.argsort((x - c * t) % 1)
        rest = model.predict(WAVE, x=at, times=[t], parameters=NU)
        assert_allclose(moving.u[0, i, order], rest.u[0, 0] + c, rtol=0, atol=1e-6)


def test_error_and_residual_fields_move_along(tiny):
    """And the estimates are the same, relative to what u is then; on the whole grid and on points of one's own."""
    model, c = tiny(), 0.6
    for x in (None, X[::4]):
        rest, moving = (model.predict(0.3 * WAVE + own, x, LATE, {"nu": 0.05}) for own in (0.0, c))
        for name in ("residual_field", "estimated_error_field"):
            expected, found = moved(getattr(rest, name)[0], c * LATE), getattr(moving, name)[0]
            assert np.abs(expected[1:]).max() > 1e-5 and not expected[0].any()
            assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        sizes = [np.linalg.norm(out.u[0, 1:]) for out in (rest, moving)]
        assert_allclose(moving.estimated_error * sizes[1], rest.estimated_error * sizes[0], rtol=1e-3)


def test_a_batch_of_different_means_equals_a_loop(tiny):
    means = np.array([[0.0], [0.4], [-0.9]])
    model, u0 = tiny(), 0.3 * WAVE + means
    batch = model.predict(u0, times=LATE, parameters={"nu": 0.05})
    for i in range(3):
        one = model.predict(u0[i], times=LATE, parameters={"nu": 0.05})
        assert_allclose(batch.u[i], one.u[0], rtol=0, atol=1e-10)
        assert_allclose(batch.estimated_error[i], one.estimated_error[0], rtol=1e-6)
    for i in (1, 2):
        c = means[i, 0]
        assert difference(batch.u[i], moved(batch.u[0], c * batch.t) + c) < 1e-9


def test_windows_go_on_in_the_same_frame(tiny):
    """The mean is constant, and so is the frame: from window to window too."""
    model, c = tiny(windows=4), 0.7
    rest, moving = (model.predict(0.3 * WAVE + own, times=LATE, parameters={"nu": 0.05}) for own in (0.0, c))
    assert difference(moving.u[0], moved(rest.u[0], c * rest.t) + c) < 1e-9


# ------------------------------------------------------------------ the differentiable call


def test_gradients_pass_the_frame(tiny):
    """Of u₀, its mean included, and of ν: gradient = finite difference."""
    model = tiny()
    x = torch.arange(N, dtype=torch.float64) / N
    shape = torch.cos(2 * torch.pi * x + 0.5)
    target = torch.randn(101, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u0 = torch.as_tensor(0.3 * WAVE)

    def loss(p):
        u = model((u0 + p[0] + p[1] * shape)[None], {"nu": torch.exp(p[2])})
        return (u * target).mean() + u[:, -1].square().mean()

    point = torch.tensor([0.2, 0.05, np.log(0.05)], dtype=torch.float64)
    tracked = point.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all solves converge
        (found,) = torch.autograd.grad(loss(tracked), tracked)
        for i in range(3):
            step = 1e-3 * torch.eye(3, dtype=torch.float64)[i]
            with torch.no_grad():
                one, two = (loss(point + k * step) - loss(point - k * step) for k in (1, 2))
            assert_allclose(found[i], (8 * one - two) / 12e-3, rtol=1e-6)


def test_the_call_is_the_prediction(tiny):
    model, u0 = tiny(), 0.3 * WAVE + 0.5
    u = model(torch.as_tensor(u0)[None], {"nu": 0.05}).detach()
    assert_allclose(u, model.predict(u0, parameters={"nu": 0.05}).u, rtol=0, atol=1e-12)
