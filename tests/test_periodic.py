"""Laws of periodic axes, spectral features, the spectral inverse and the integrating-factor step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from burgers_equation import Burgers
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.discretisation import Discretisation, Field, SemiDiscrete, SpaceFeatures, linear_operator
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis
from pihc_zoo.parameters import column
from pihc_zoo.problems import NavierStokes2D
from pihc_zoo.solvers.runge_kutta import integrating_factor_step


def space(problem, n=16, dealiasing=1.5):
    return {name: FourierAxis(n, dealiasing=dealiasing) for name in problem.output_space}


def grid(problem, n=16, dealiasing=1.5):
    return Grid(RadauAxis(0.5, elements=1, stages=5, power=1.0), space(problem, n, dealiasing))


@pytest.fixture(params=[Burgers, NavierStokes2D])
def problem(request):
    return request.param()


def random_modes(features, *batch, mean=True):
    generator = torch.Generator().manual_seed(0)
    modes = torch.randn(*batch, *features.squares.shape, generator=generator, dtype=torch.float64)
    return modes if mean else torch.where(features.squares > 0, modes, 0.0)


# ------------------------------------------------------------------ the axis


@pytest.mark.parametrize("axis", [FourierAxis(16), FourierAxis(20, length=3.0, start=-1.0)], ids=str)
def test_derivatives_and_values_are_exact_for_trigonometric_polynomials(axis):
    points = axis.start + axis.length * np.random.default_rng(0).uniform(-1, 2, 30)
    highest = axis.wave_numbers.max()  # what rounding is multiplied by
    for k in range(axis.band + 1):
        w, phase = 2 * np.pi * k / axis.length, 0.3 + k
        u = np.cos(w * axis.nodes + phase)
        assert_allclose(axis.interpolation(points) @ u, np.cos(w * points + phase), rtol=0, atol=1e-12)
        for order in (1, 2, 3):
            exact = w**order * np.cos(w * points + phase + order * np.pi / 2)
            assert_allclose(axis.differentiation(order, points) @ u, exact, rtol=0, atol=1e-13 * highest**order)
            assert_allclose(
                axis.differentiation(order) @ u,
                w**order * np.cos(w * axis.nodes + phase + order * np.pi / 2),
                rtol=0,
                atol=1e-13 * highest**order,
            )


def test_modes_are_orthonormal_and_analysis_inverts_them():
    axis = FourierAxis(16, length=2.0, start=0.5)
    count = len(axis.wave_numbers)
    assert count == 2 * axis.band + 1 == 15
    for points in (None, 24, 40):
        nodes = axis.nodes if points is None else axis._points(points)
        assert_allclose(axis.analysis(points) @ axis.modes(nodes), np.eye(count), rtol=0, atol=1e-13)
    assert_allclose(
        axis.modes(axis.nodes).T @ np.diag(axis.weights / 2.0) @ axis.modes(axis.nodes), np.eye(count), atol=1e-13
    )


def test_quadrature_is_exact_for_what_the_nodes_carry():
    axis = FourierAxis(16, length=2.0)
    assert_allclose(axis.weights @ axis.modes(axis.nodes), [2.0, *[0.0] * 14], rtol=0, atol=1e-13)


def test_projection_dealiases_quadratic_products_exactly():
    """On 3/2 n points the product of two fields has the resolved modes of the true product; on n it has not."""
    rng, n = np.random.default_rng(0), 16
    fine = FourierAxis(64)
    for dealiasing, is_exact in ((1.5, True), (1.0, False)):
        axis = FourierAxis(n, dealiasing=dealiasing)
        a, b = rng.standard_normal((2, 2 * axis.band + 1))
        exact = (axis.modes(fine.nodes) @ a) * (axis.modes(fine.nodes) @ b)
        resolved = axis.modes(axis.nodes) @ (axis.modes(fine.nodes).T @ exact / 64)
        product = (axis.modes(axis.collocation_points) @ a) * (axis.modes(axis.collocation_points) @ b)
        found = product if axis.projection is None else axis.projection @ product
        error = np.abs(found - resolved).max()
        assert error < 1e-12 if is_exact else error > 0.1


def test_the_nyquist_wave_is_dropped():
    axis = FourierAxis(16)
    assert_allclose(axis.analysis() @ np.cos(np.pi * np.arange(16)), 0, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FourierAxis(15), "even number"),
        (lambda: FourierAxis(2), "at least 4"),
        (lambda: FourierAxis(16, dealiasing=0.5), r"must lie in \[1, 4\]"),
        (lambda: FourierAxis(64).sized(30), "at least 32"),
        (lambda: FourierAxis(64).sized(33), "even number"),
    ],
)
def test_impossible_axes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sizes_of_a_callers_array():
    axis = FourierAxis(64)
    assert axis.sized(128) == FourierAxis(128) and axis.refined(1.5) == FourierAxis(96)
    assert axis.is_periodic and not GradedAxis(8, 0.0, 1.0).is_periodic


# ------------------------------------------------------------------ features


def test_features_of_plane_waves_are_exact():
    """sin(k·x + φ): every feature of Navier–Stokes in closed form, at collocation points."""
    features = SpaceFeatures(NavierStokes2D(), space(NavierStokes2D()))
    n = np.arange(16) / 16
    fine = np.arange(24) / 24
    for kx, ky in ((0, 3), (2, -5), (7, 7)):
        a, b = 2 * np.pi * kx, 2 * np.pi * ky

        def wave(points, shift, a=a, b=b):
            return np.sin(a * points[:, None] + b * points + 0.4 + shift)

        found = features(features.to_coefficients(torch.as_tensor(wave(n, 0))))
        slope, square = wave(fine, np.pi / 2), a**2 + b**2
        exact = {
            "w_x": a * slope,
            "w_y": b * slope,
            "psi_x": -a / square * slope,
            "psi_y": -b / square * slope,
            "laplacian": -square * wave(fine, 0),
        }
        assert set(found) == set(exact)
        for name, values in exact.items():
            assert_allclose(found[name].numpy(), values, rtol=0, atol=1e-11 * max(1, square), err_msg=name)


def test_transforms_between_nodes_and_modes_are_inverse(problem):
    features = SpaceFeatures(problem, space(problem))
    modes = random_modes(features, 3)
    assert_close(features.to_coefficients(features.to_nodes(modes)), modes, rtol=0, atol=1e-12)
    assert_close(features.project(features.at_collocation(modes)), modes, rtol=0, atol=1e-12)


def test_the_inverse_laplacian_inverts_on_fields_of_zero_mean(problem):
    features = SpaceFeatures(problem, space(problem))
    modes = random_modes(features, 2, mean=False)
    assert_close(features.power(-1) * features.power(1) * modes, modes, rtol=1e-13, atol=0)
    assert (features.power(-1) * (features.squares == 0) == 0).all()
    assert_close(features.power(2), features.power(1) ** 2, rtol=1e-14, atol=0)


def test_symbols_are_the_features_of_single_modes(problem):
    features = SpaceFeatures(problem, space(problem))
    modes = random_modes(features)
    for name, feature in problem.features.items():
        if "t" not in feature.orders and not any(order % 2 for order in feature.orders.values()):
            expected = features.at_collocation(features.symbol(name) * modes)
            assert_close(features(modes)[name], expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    with pytest.raises(ValueError, match="even derivatives"):
        features.symbol(next(name for name, own in problem.features.items() if own.orders.get("x") == 1))


def test_the_velocity_of_navier_stokes_has_no_divergence():
    features = SpaceFeatures(NavierStokes2D(), space(NavierStokes2D(), dealiasing=1.0))
    found = features(random_modes(features, mean=False))
    u, v = (features.project(f) for f in (-found["psi_y"], found["psi_x"]))
    axis = features.space["x"]
    d = torch.as_tensor(axis.differentiation(1))
    divergence = d @ features.to_nodes(u) + features.to_nodes(v) @ d.T
    assert float(divergence.abs().max()) < 1e-11


def test_powers_of_the_laplacian_beside_walls_and_unknown_axes_are_refused():
    with pytest.raises(ValueError, match="'psi_x' takes a power of the Laplacian, which needs periodic axes"):
        SpaceFeatures(NavierStokes2D(), {"x": GradedAxis(8, 0.0, 1.0), "y": FourierAxis(16)})
    with pytest.raises(ValueError, match="axis 'y'"):
        SpaceFeatures(NavierStokes2D(), {"x": FourierAxis(16)})


# ------------------------------------------------------------------ the space-time operator


def test_space_time_features_are_exact_for_polynomials_in_time(problem):
    """u = (1 + 2t − t³) g(x): rates by the time axis, space features by the modes."""
    own = grid(problem)
    operator = Discretisation(problem, own)
    field = operator.space.to_nodes(random_modes(operator.space))
    t = torch.as_tensor(own.time.nodes).reshape(-1, *[1] * field.dim())
    factor, rate = 1 + 2 * t - t**3, 2 - 3 * t**2
    u = (factor * field)[None, None]
    f = operator(Field(u, initial=field[None, None]))[0, 0]
    assert f.shape == (len(problem.features), *own.collocation_shape)
    expected = operator.space(operator.space.to_coefficients(field))
    expected |= {"u_t": None, "w_t": None}
    fine = operator.space.at_collocation(operator.space.to_coefficients(field))
    for name, found in zip(problem.features, f, strict=True):
        exact = rate * fine if expected[name] is None else factor * expected[name]
        assert_close(found, exact, rtol=0, atol=1e-10 * float(exact.abs().max()))
    given = operator(Field(u, rate=(rate * field)[None, None]))[0, 0]
    assert_close(given, f, rtol=0, atol=1e-10 * float(f.abs().max()))


def test_the_linearised_inverse_inverts_and_its_transpose_is_the_adjoint(problem):
    own = grid(problem)
    operator = Discretisation(problem, own)
    c = problem.as_tensors({"nu": np.array([1e-3, 1e-2])})
    inverse = linear_operator(problem, operator).inverse(c, batch=2)
    modes = random_modes(operator.space, 2, 1, len(own.time.nodes))
    u = operator.space.to_nodes(modes)
    f = operator(Field(u))
    coefficients = problem.linearised(c)
    rows = sum(
        column(coefficients[name], u.dim() - 1, u) * f[:, :, i]
        for i, name in enumerate(problem.features)
        if name in coefficients
    )
    scale = torch.as_tensor(own.time.row_scale).reshape(-1, *[1] * len(own.space))
    rows = operator.project(rows) * scale
    assert_close(inverse.apply(rows), u, rtol=0, atol=1e-10)
    v = operator.space.to_nodes(random_modes(operator.space, 2, 1, len(own.time.nodes)).flip(0))
    forward = (inverse.apply(rows) * v).flatten(1).sum(1)
    assert_close((rows * inverse.transpose(v)).flatten(1).sum(1), forward, rtol=1e-11, atol=1e-11)


# ------------------------------------------------------------------ in time


def test_the_semi_discrete_rate_is_minus_the_residual_at_rest(problem):
    """With a nonlinear term whose product the collocation points resolve exactly."""
    semi = SemiDiscrete(problem, space(problem))
    c = problem.as_tensors({"nu": np.array([1e-3, 1e-2])})
    modes = random_modes(semi.features, 2)
    fields = semi.features(modes)
    rest = dict.fromkeys(semi.rates, torch.zeros((), dtype=torch.float64))
    own = {key: value.reshape(-1, *[1] * len(semi.features.names)) for key, value in c.items()}
    residual = semi.features.project(problem.residual({**fields, **rest}, own, {}))
    assert_close(semi.rate(modes, c), -residual, rtol=1e-11, atol=1e-9)
    assert semi.skip == {"laplacian" if "laplacian" in problem.features else "u_xx"}


def test_integrating_factor_steps_are_exact_without_a_nonlinear_term():
    u, symbol = torch.randn(5, dtype=torch.float64), torch.tensor([0.0, 1.0, 10.0, 1e3, -0.5], dtype=torch.float64)
    found = integrating_factor_step(u, torch.zeros_like, torch.exp(-symbol * 0.35), 0.7)
    assert_close(found, torch.exp(-symbol * 0.7) * u, rtol=1e-14, atol=0)


def test_integrating_factor_steps_converge_at_fourth_order():
    """Bernoulli's equation u_t = −σu − u² with the stiff σ: u = σ/((σ/u₀ + 1)e^{σt} − 1)."""
    symbol, u0 = torch.tensor([0.1, 1.0, 8.0], dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    exact = symbol / ((symbol / u0 + 1) * torch.exp(symbol) - 1)
    errors = []
    for count in (20, 40, 80):
        u, half = u0 + 0 * symbol, torch.exp(-symbol / (2 * count))
        for _ in range(count):
            u = integrating_factor_step(u, torch.square, half, 1 / count)
        errors.append((u / exact - 1).abs().numpy())
    assert (np.log2(np.divide(errors[:-1], errors[1:])) > 3.7).all(), errors


def test_semi_discrete_burgers_converges_at_fourth_order_in_time():
    problem = Burgers()
    semi, c = SemiDiscrete(problem, space(problem, 32)), Burgers().as_tensors({"nu": 0.02})
    x = torch.as_tensor(FourierAxis(32).nodes)
    start = semi.features.to_coefficients(torch.sin(2 * torch.pi * x))[None]

    def solve(count):
        u, half = start, torch.exp(-semi.symbol(c) * 0.25 / count)
        for _ in range(count):
            u = integrating_factor_step(u, lambda v: semi.nonlinear(v, c), half, 0.5 / count)
        return u

    truth = solve(1600)
    errors = [float((solve(count) - truth).norm()) for count in (50, 100, 200)]
    assert (np.log2(np.divide(errors[:-1], errors[1:])) > 3.7).all(), errors
