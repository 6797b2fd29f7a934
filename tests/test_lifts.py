"""Laws of the integrated lift: the truncated problem, solved at fourth order; the rest diffuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.discretisation import Walls
from pihc_zoo.discretisation.lifts import IntegratedLift
from pihc_zoo.parameters import Parameters

NU = 1e-3


@pytest.fixture
def start(vorticity):
    """Initial values of two trajectories on 16 × 16 nodes."""
    return torch.as_tensor(vorticity(2, 16, length_scale=0.6))


@pytest.fixture
def evolved(tiny_rollout, start):
    """``evolved(u0, n, dealiasing, **ansatz)``: the conditions of one window, and the model."""

    def make(u0=start, dealiasing=1.0, **ansatz):
        model = tiny_rollout(
            dealiasing=dealiasing, ansatz=ansatz, problem={"inputs": ["nu"]}, grid=short(model_grid(tiny_rollout))
        )
        return model.constraint.conditions(u0, model.tensors({"nu": NU})), model

    return make


def model_grid(tiny_rollout):
    return tiny_rollout().config["grid"]


def short(grid):
    """Five windows instead of two."""
    return {**grid, "time": {**grid["time"], "duration": 1.0}}


def truncated_solution(u0, band, dealiasing, duration, steps=400):
    """RK4 of w_t = νΔw − u·∇w on the modes up to ``band``, by fast Fourier transforms; u0 (n, n)."""
    count = 2 * band + 2
    points = 2 * round(dealiasing * count / 2)
    k = np.r_[0 : band + 1, -band:0]
    kx, ky = 2 * np.pi * k[:, None], 2 * np.pi * k[None]
    square = kx**2 + ky**2
    inverse = np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
    modes = np.fft.fft2(u0, norm="forward")[np.ix_(k, k)]

    def on_points(modes):
        padded = np.zeros((points, points), complex)
        padded[np.ix_(k, k)] = modes
        return np.fft.ifft2(padded, norm="forward").real

    def rate(modes):
        psi = -inverse * modes
        product = on_points(1j * kx * psi) * on_points(1j * ky * modes)
        product -= on_points(1j * ky * psi) * on_points(1j * kx * modes)
        return -np.fft.fft2(product, norm="forward")[np.ix_(k, k)] - NU * square * modes

    h = duration / steps
    for _ in range(steps):
        a = rate(modes)
        b = rate(modes + h / 2 * a)
        c = rate(modes + h / 2 * b)
        modes = modes + h / 6 * (a + 2 * b + 2 * c + rate(modes + h * c))
    whole = np.zeros(u0.shape, complex)
    whole[np.ix_(k, k)] = modes
    return np.fft.ifft2(whole, norm="forward").real


def low_pass(u, band):
    modes = torch.fft.fft2(u)
    k = torch.fft.fftfreq(u.shape[-1], 1 / u.shape[-1]).abs()
    return torch.fft.ifft2(modes * ((k[:, None] <= band) & (k <= band))).real


@pytest.mark.parametrize("dealiasing", [1.0, 1.5])
def test_it_is_the_truncated_pseudo_spectral_solution(evolved, start, dealiasing):
    """``dealiasing`` belongs to the axes; the lift's own problem forms products at its own nodes."""
    low = low_pass(start, 4)
    conditions, _ = evolved(low, dealiasing, band=4, steps=40)
    for i in range(2):
        truth = truncated_solution(low[i].numpy(), 4, 1.0, 1.0)
        assert_allclose(conditions.lift.u[i, -1].numpy(), truth, rtol=0, atol=2e-6)


def test_its_own_products_can_be_dealiased(tiny_rollout, start):
    low = low_pass(start, 4)[0]
    model = tiny_rollout(grid=short(model_grid(tiny_rollout)), problem={"inputs": ["nu"]})
    operator = model.constraint.discretisation
    lift = IntegratedLift(operator, model.constraint.ansatz.lift.linearised, band=4, steps=40, dealiasing=1.5)
    c = model.tensors({"nu": NU})
    found = lift(low[None], c, Walls(), lift.inverse(c, 1)).u[0, -1]
    assert_allclose(found.numpy(), truncated_solution(low.numpy(), 4, 1.5, 1.0), rtol=0, atol=2e-6)
    assert np.abs(found.numpy() - truncated_solution(low.numpy(), 4, 1.0, 1.0)).max() > 1e-4


@pytest.mark.parametrize("steps", [12, 24, 48])
def test_single_precision_costs_no_more_with_many_steps(tiny_rollout, start, steps):
    double, single = (
        tiny_rollout(ansatz={"steps": steps}, solver={"precision": name}, grid=short(model_grid(tiny_rollout)))
        for name in ("float64", "float32")
    )
    ours, theirs = (model.constraint.conditions(start, model.tensors({})) for model in (single, double))
    for name in ("u", "rate"):
        exact = getattr(theirs.lift, name)
        assert_close(getattr(ours.lift, name).double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_it_converges_at_fourth_order_in_its_steps(evolved):
    ends = [evolved(steps=steps)[0].lift.u[:, -1] for steps in (6, 12, 24, 48)]
    errors = [float((end - ends[-1]).norm()) for end in ends[:-1]]
    assert (np.log2(np.divide(errors[:-1], errors[1:])) > 3.7).all(), errors


def resolved_residual(conditions, model):
    """Largest residual among the modes that the nodes carry: with dealiasing 1 it also has a Nyquist part."""
    features = model.constraint.discretisation.space
    return float(features.to_nodes(features.to_coefficients(conditions.residual)).abs().max())


def test_with_all_modes_and_fine_steps_the_residual_is_that_of_interpolation_in_time(evolved):
    """Polynomials through more steps: the resolved residual at the nodes falls until rounding."""
    sizes = [resolved_residual(*evolved(band=7, steps=steps)) for steps in (4, 8, 16)]
    scale = float(evolved(band=7, steps=8)[0].lift.rate.abs().max())
    assert sizes[1] < 0.1 * sizes[0] and sizes[2] < 0.1 * sizes[1] and sizes[2] < 1e-6 * scale, sizes


def test_fewer_modes_leave_a_residual(evolved):
    few, all_modes = (resolved_residual(*evolved(band=band, steps=16)) for band in (3, 7))
    assert all_modes < 1e-3 * few


def test_modes_beyond_the_band_only_diffuse(evolved, start):
    nodes = torch.arange(16, dtype=torch.float64) / 16
    high = torch.sin(2 * torch.pi * (6 * nodes[:, None] + 2 * nodes)) + torch.cos(2 * torch.pi * 7 * nodes)
    low = low_pass(start, 5)
    with_high, model = evolved(low + high)
    without, _ = evolved(low)
    t = torch.as_tensor(model.constraint.grid.time.nodes)[:, None, None]
    k2 = 4 * torch.pi**2
    decays = [(torch.exp(-NU * k2 * s * t), -NU * k2 * s) for s in (40, 49)]
    parts = [
        torch.sin(2 * torch.pi * (6 * nodes[:, None] + 2 * nodes)),
        torch.cos(2 * torch.pi * 7 * nodes).expand(16, 16),
    ]
    value = sum(decay * part for (decay, _), part in zip(decays, parts, strict=True))
    rate = sum(speed * decay * part for (decay, speed), part in zip(decays, parts, strict=True))
    for i in range(2):
        assert_close((with_high.lift.u - without.lift.u)[i], value, rtol=0, atol=1e-12)
        assert_close((with_high.lift.rate - without.lift.rate)[i], rate, rtol=0, atol=1e-11)


def test_its_rate_is_the_derivative_of_its_values(evolved, start):
    """To the interpolation through twelve steps, for slow fields."""
    conditions, model = evolved(0.2 * low_pass(start, 2))
    u = torch.cat([conditions.u0[:, None], conditions.lift.u], dim=1)
    d = torch.as_tensor(model.constraint.grid.time.differentiation(1))
    rate = torch.einsum("ts,bsxy->btxy", d, u)
    assert_close(rate, conditions.lift.rate, rtol=0, atol=1e-3 * float(conditions.lift.rate.abs().max()))


def test_a_steady_flow_only_decays(evolved):
    """Taylor–Green vortices: no advection, w = w₀ exp(−8π²νt), without any residual."""
    s = torch.sin(2 * torch.pi * torch.arange(16, dtype=torch.float64) / 16)
    start = torch.outer(s, s)
    conditions, model = evolved(start[None])
    t = torch.as_tensor(model.constraint.grid.time.nodes)[:, None, None]
    decay = torch.exp(-8 * torch.pi**2 * NU * t)
    assert_close(conditions.lift.u[0], decay * start, rtol=0, atol=1e-9)
    assert conditions.residual.abs().max() < 1e-8


def test_each_trajectory_has_its_own_viscosity(tiny_rollout, start):
    model = tiny_rollout(problem={"inputs": ["nu"]})
    nu = torch.tensor([1e-4, 1e-2], dtype=torch.float64)
    together = model.constraint.conditions(start, Parameters({"nu": nu}))
    for i in range(2):
        alone = model.constraint.conditions(start[i : i + 1], Parameters({"nu": nu[i]}))
        assert_close(together.lift.u[i], alone.lift.u[0], rtol=0, atol=1e-13)
        assert_close(together.lift.rate[i], alone.lift.rate[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("ansatz", "message"),
    [
        ({"band": 8}, r"band must lie in \[1, 7\], the band of axis 'x', got 8"),
        ({"band": 0}, r"band must lie in \[1, 7\]"),
        ({"steps": 1}, "at least 2 steps and at most 10000, got 1"),
    ],
)
def test_impossible_lifts_are_refused(tiny_rollout, ansatz, message):
    with pytest.raises(ValueError, match=message):
        tiny_rollout(ansatz=ansatz)


def test_bounded_axes_are_refused(tiny_model):
    with pytest.raises(ValueError, match="needs periodic axes; 'x' is bounded"):
        tiny_model(ansatz={"name": "integrated"})


@pytest.mark.parametrize("lift", ["linearised", "constant"])
def test_lifts_of_bounded_axes_are_refused_on_periodic_ones(tiny_rollout, lift):
    with pytest.raises(ValueError, match="needs bounded axes; 'x' is periodic: choose the ansatz 'integrated'"):
        tiny_rollout(ansatz={"name": lift})
