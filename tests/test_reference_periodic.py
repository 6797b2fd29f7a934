"""Laws of the pseudo-spectral solver: exact solutions, orders, balances, an independent integrator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from burgers_equation import Burgers
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp
from torch.testing import assert_close

from pihc_zoo.discretisation import SemiDiscrete
from pihc_zoo.discretisation.interleaved import InterleavedSemiDiscrete
from pihc_zoo.families import PeriodicGaussianProcess, RandomWaves
from pihc_zoo.grid import FourierAxis
from pihc_zoo.problems import DiffusionSorption, NavierStokes2D
from pihc_zoo.reference import baselines, fast_solver, reference_solver, truth_solver
from pihc_zoo.reference.pseudo_spectral import PseudoSpectral
from pihc_zoo.reference.semi_discrete import FourierSemiDiscrete

TIMES = np.linspace(0.0, 1.0, 5)


class Transport(Burgers):
    """u_t + u_x = ν u_xx: linear, with an odd derivative."""

    def residual(self, f, c, at):
        return f["u_t"] + f["u_x"] - c["nu"] * f["u_xx"]

    def linearised(self, c):
        return {"u_t": 1.0 + 0 * c["nu"], "u_x": 1.0 + 0 * c["nu"], "u_xx": -c["nu"]}


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


def vorticity(count, n, seed=0, length_scale=0.8):
    x = np.arange(n) / n
    return PeriodicGaussianProcess(length_scale).sample(count, [x, x], np.random.default_rng(seed))


def waves(count, n, seed=0):
    return RandomWaves(highest=3).sample(count, np.arange(n) / n, np.random.default_rng(seed))


# ------------------------------------------------------------------ exact solutions


@pytest.mark.parametrize("steps", [None, 500])
@pytest.mark.parametrize("nu", [1e-4, 1e-2])
def test_the_taylor_green_vortex_decays_exactly(nu, steps):
    """w = 2k cos(kx) cos(ky) exp(−2νk²t): u·∇w = 0, so that the integrating factor is exact."""
    k, x = 2 * np.pi * 2, np.arange(32) / 32
    w = 2 * k * np.cos(k * x)[:, None] * np.cos(k * x)
    times = np.array([0.0, 5 / 3, 5.0])
    found = PseudoSpectral(NavierStokes2D(), steps=steps)(w, {"nu": nu}, times=times)
    assert_allclose(found, w * np.exp(-2 * nu * k**2 * times)[:, None, None], rtol=0, atol=1e-11 * np.abs(w).max())


def test_a_linear_problem_is_solved_exactly_whatever_the_steps():
    x, nu = np.arange(64) / 64, 0.02
    k = 2 * np.pi * 3
    exact = [np.sin(k * (x - t)) * np.exp(-nu * k**2 * t) for t in TIMES]
    for steps in (None, 4):
        assert_allclose(PseudoSpectral(Transport(), steps=steps)(np.sin(k * x)), exact, rtol=0, atol=1e-12)


def test_burgers_equation_agrees_with_the_cole_hopf_solution():
    """u = −2ν θ_x/θ, θ a solution of the heat equation; here θ = 2 + cos(2πx) e^{−ν(2π)²t}."""
    x, k, nu = np.arange(128) / 128, 2 * np.pi, 0.05
    decay = [0.9 * np.exp(-nu * k**2 * t) for t in TIMES]
    exact = np.stack([2 * nu * k * a * np.sin(k * x) / (1 + a * np.cos(k * x)) for a in decay])
    assert_allclose(PseudoSpectral(Burgers())(exact[0], {"nu": nu}), exact, rtol=0, atol=1e-8)


# ------------------------------------------------------------------ the right-hand side


@pytest.mark.parametrize("problem", [Burgers(), NavierStokes2D()])
def test_fast_transforms_give_the_right_hand_side_of_real_matrices(problem):
    space = {name: FourierAxis(24) for name in problem.output_space}
    c = problem.as_tensors({"nu": np.array([1e-3, 1e-2])})
    real, fast = SemiDiscrete(problem, space), FourierSemiDiscrete(problem, space, torch.float64, "cpu")
    modes = torch.randn(
        2, *real.features.squares.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    expected = real.features.at_collocation(real.rate(modes, c))
    own = fast.features.project(real.features.at_collocation(modes))[:, None]
    found = -(fast.symbol(c) * own + fast.with_parameters(c)(own))
    assert_close(fast.features.to_values(found)[:, 0], expected, rtol=0, atol=1e-11 * float(expected.abs().max()))


class Faster(Burgers):
    """−3 u u_x in place of u u_x."""

    def residual(self, f, c, at):
        return f["u_t"] - 3.0 * (f["u"] * f["u_x"]) - c["nu"] * f["u_xx"]


@pytest.mark.parametrize(("problem", "dealiasing"), [(Burgers(), 1.5), (Burgers(), 1.0), (Faster(), 1.5)])
def test_the_truncated_problem_is_the_projected_one_also_where_it_takes_a_flux(problem, dealiasing):
    """u u_x = ½ (u²)_x where products fold nothing into the band."""
    space = {"x": FourierAxis(24, dealiasing=dealiasing)}
    c = problem.as_tensors({"nu": np.array([1e-3, 1e-2])})
    plain, short = SemiDiscrete(problem, space), InterleavedSemiDiscrete(problem, space)
    assert (short.out_of_square is None) == (dealiasing == 1.0)
    modes = torch.randn(2, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_close(short.rate(modes, c), plain.rate(modes, c), rtol=0, atol=1e-11 * float(modes.abs().max()) ** 2)


# ------------------------------------------------------------------ orders and independence


def test_steps_and_dense_output_converge_at_fourth_order():
    u0 = vorticity(1, 32)[0]

    def solve(steps, times):
        return PseudoSpectral(NavierStokes2D(), steps=steps)(u0, {"nu": 1e-3}, times=times)

    for times in (np.array([5.0]), np.array([0.31, 1.7, 3.9])):  # at steps, and between them
        truth = solve(1200, times)
        errors = [distance(solve(steps, times), truth) for steps in (60, 120, 240)]
        assert (np.log2(np.divide(errors[:-1], errors[1:])) > 3.7).all(), errors


def test_the_resolution_converges_faster_than_any_power():
    u0 = vorticity(1, 96, length_scale=0.6)[0]

    def solve(n):
        return PseudoSpectral(NavierStokes2D(), num_nodes=n)(u0, {"nu": 1e-3}, times=[5.0])

    truth, nodes = solve(96), np.array([16, 24, 32])
    errors = np.array([distance(solve(n), truth) for n in nodes])
    orders = np.log(errors[:-1] / errors[1:]) / np.log(nodes[1:] / nodes[:-1])
    assert orders[0] > 8 and orders[1] > orders[0] + 2, (errors, orders)


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
def test_the_error_in_time_is_the_asked_one(rtol):
    """A flow so viscous and a band so low that stability asks for little."""
    u0, c, times = vorticity(2, 32), {"nu": 1e-2}, np.array([0.0, 2.5, 5.0])
    truth = PseudoSpectral(NavierStokes2D(), num_nodes=12, steps=4000)(u0, c, times=times)
    assert distance(PseudoSpectral(NavierStokes2D(), num_nodes=12, rtol=rtol)(u0, c, times=times), truth) < rtol


def test_every_trajectory_is_solved_on_a_grid_that_resolves_it():
    """A grid that is too coarse for one viscosity is refined for it alone, and then the answer has converged."""
    u0, c = waves(3, 64), {"nu": np.array([1e-3, 1e-1, 5e-3])}
    solver = PseudoSpectral(Burgers(), least_nodes=64, tail=1e-6)
    found, truth = solver(u0, c), PseudoSpectral(Burgers(), num_nodes=2048)(u0, c)
    for i in range(3):
        assert distance(found[i], truth[i]) < 1e-6
    assert solver.resolution(u0[1:2], {"nu": 1e-1}) == (64,)
    assert solver.resolution(u0, c)[0] >= 512
    coarse = PseudoSpectral(Burgers(), num_nodes=64)(u0[1:2], {"nu": 1e-1})
    assert_allclose(found[1], coarse[0], rtol=0, atol=1e-9)


def test_refinement_ends_where_points_do():
    u0 = waves(1, 64)
    coarse = PseudoSpectral(Burgers(), num_nodes=128)(u0, {"nu": 1e-3})
    found = PseudoSpectral(Burgers(), least_nodes=64, tail=1e-6, most_points=128)(u0, {"nu": 1e-3})
    assert_allclose(found, coarse, rtol=0, atol=1e-12)


def test_progress_counts_what_is_solved_again():
    calls = []
    PseudoSpectral(Burgers(), least_nodes=32, tail=1e-6)(
        waves(2, 32), {"nu": 2e-2}, progress=lambda done, total: calls.append((done, total))
    )
    done, total = zip(*calls, strict=True)
    assert done[-1] == total[-1] and (np.diff(total) >= 0).all() and total[-1] > total[0]


def numpy_right_hand_side(n, nu):
    """Vorticity equation with numpy's transforms, quadratic products by the two-thirds rule."""
    k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    kx, ky = k[:, None], k[None]
    squares = kx**2 + ky**2
    inverse = np.where(squares > 0, -1 / np.where(squares > 0, squares, 1), 0)
    keep = (np.abs(kx) < 2 * np.pi * n / 3) & (np.abs(ky) < 2 * np.pi * n / 3)

    def rate(_, w):
        w_hat = np.fft.fft2(w.reshape(n, n)) * keep
        psi = inverse * w_hat
        u, v = (np.fft.ifft2(a).real for a in (-1j * ky * psi, 1j * kx * psi))
        w_x, w_y = (np.fft.ifft2(a).real for a in (1j * kx * w_hat, 1j * ky * w_hat))
        return np.fft.ifft2(-np.fft.fft2(u * w_x + v * w_y) * keep - nu * squares * w_hat).real.ravel()

    return rate


def test_it_agrees_with_an_independent_integrator():
    """scipy's DOP853 on a right-hand side written with numpy."""
    n, nu, times = 48, 1e-3, np.array([0.0, 1.0, 2.5])  # two thirds of 48 points carry what 32 do
    u0 = vorticity(1, n, seed=3)[0]
    theirs = solve_ivp(
        numpy_right_hand_side(n, nu), (0, 2.5), u0.ravel(), "DOP853", t_eval=times, rtol=1e-10, atol=1e-10
    )
    found = truth_solver(NavierStokes2D(), num_nodes=32, dealiasing=1.5)(u0, {"nu": nu}, times=times)
    assert distance(found, theirs.y.T.reshape(3, n, n)) < 1e-7


def test_the_truth_is_converged_in_space_and_time():
    """ν = 1e-4, T = 5: twice the resolution and half the step change less than 1e-6."""
    u0, times, problem = vorticity(1, 64, seed=1), np.array([0.0, 2.5, 5.0]), NavierStokes2D()
    truth = truth_solver(problem)(u0, times=times)
    assert (
        distance(truth, truth_solver(problem, num_nodes=256)(u0, times=times)) < 1e-6
    )  # stable steps are half as long


def test_the_truth_of_coarse_initial_conditions_is_that_of_fine_ones():
    u0 = vorticity(1, 256, seed=4)
    fine = truth_solver(NavierStokes2D())(u0, times=[0.5])
    coarse = truth_solver(NavierStokes2D())(u0[:, ::4, ::4], times=[0.5])
    assert_allclose(fine[..., ::4, ::4], coarse, rtol=0, atol=1e-10)


def test_the_truth_takes_the_inputs_grid_where_it_needs_one():
    """A wave that 128 points do not carry decays as it should, and is not lost."""
    x = np.arange(160) / 160
    k = 2 * np.pi * 70
    w = np.cos(k * x)[:, None] * np.ones(160)
    found = truth_solver(NavierStokes2D())(w, times=[0.01])
    assert_allclose(found[0], w * np.exp(-1e-4 * k**2 * 0.01), rtol=0, atol=1e-10)


# ------------------------------------------------------------------ balances


def test_mean_vorticity_is_conserved_and_enstrophy_falls_at_the_rate_of_palinstrophy():
    """d/dt ½⟨w²⟩ = −ν⟨|∇w|²⟩, and energy: d/dt ½⟨|u|²⟩ = −ν⟨w²⟩; derivatives by differences of order 8."""
    nu, step, n = 1e-3, 0.02, 64
    times = 1.0 + step * np.arange(-4, 5)
    w = truth_solver(NavierStokes2D())(vorticity(1, n)[0], {"nu": nu}, times=times)
    assert np.abs(w.mean(axis=(1, 2))).max() < 1e-12
    k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    squares = k[:, None] ** 2 + k**2
    power = np.abs(np.fft.fft2(w) / n**2) ** 2
    energy = 0.5 * (power / np.where(squares > 0, squares, np.inf)).sum(axis=(1, 2))
    enstrophy, palinstrophy = 0.5 * power.sum(axis=(1, 2)), 0.5 * (power * squares).sum(axis=(1, 2))
    centred = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280]) / step
    assert_allclose(centred @ enstrophy, -2 * nu * palinstrophy[4], rtol=1e-6)
    assert_allclose(centred @ energy, -2 * nu * enstrophy[4], rtol=1e-6)


@pytest.mark.parametrize(("steps", "dealiasing"), [(None, 1.5), (100, 1.0)])
def test_translated_and_turned_fields_have_translated_and_turned_solutions(steps, dealiasing):
    solve = PseudoSpectral(NavierStokes2D(), steps=steps, dealiasing=dealiasing)
    w = vorticity(1, 32)[0]
    u = solve(w, times=[1.0])[0]
    assert_allclose(solve(np.roll(w, (5, -3), (0, 1)), times=[1.0])[0], np.roll(u, (5, -3), (0, 1)), rtol=0, atol=1e-8)
    assert_allclose(solve(np.rot90(w), times=[1.0])[0], np.rot90(u), rtol=0, atol=1e-8)


# ------------------------------------------------------------------ the call


def test_batches_equal_a_loop_with_parameters():
    nu, fields = np.array([1e-4, 1e-3, 1e-2]), vorticity(3, 32)
    solve = PseudoSpectral(NavierStokes2D(), steps=100)
    together = solve(fields, {"nu": nu}, times=TIMES)
    for i in range(3):
        assert_allclose(solve(fields[i], {"nu": nu[i]}, times=TIMES), together[i], rtol=0, atol=1e-12)


def test_the_first_slice_is_the_input_and_times_come_in_the_asked_order():
    rng = np.random.default_rng(0)
    u0 = rng.standard_normal(64)  # also what the band does not carry
    solve = PseudoSpectral(Burgers(), num_nodes=32, steps=400)
    u = solve(u0)
    assert u.shape == (5, 64) and u.dtype == np.float64
    assert_array_equal(u[0], u0)
    assert_allclose(solve(u0, times=[1.0, 0.0, 0.5, 1.0]), u[[4, 0, 2, 4]], rtol=0, atol=1e-8)


def test_initial_conditions_are_truncated_and_padded():
    """A band-limited field on a coarser, the same and a finer grid has one solution."""
    answers = [PseudoSpectral(Burgers(), num_nodes=64)(waves(1, n)[0], {"nu": 0.1}) for n in (32, 64, 128)]
    assert_allclose(answers[0], answers[1][:, ::2], rtol=0, atol=1e-12)
    assert_allclose(answers[1], answers[2][:, ::2], rtol=0, atol=1e-12)


def test_positions_of_input_and_output_are_free():
    """The fallback's convention: one array on one axis, dicts by axis on several."""
    solve = reference_solver(Burgers())
    own, asked = 0.013 + np.arange(64) / 64, np.array([0.1, 0.37, 0.995])
    k = 2 * np.pi
    u = solve(np.sin(k * own), input_x=own, x=asked, times=[0.0, 0.5], parameters={"nu": 0.05})
    native = solve(np.sin(k * np.arange(64) / 64), times=[0.0, 0.5], parameters={"nu": 0.05})
    assert_allclose(u, native @ FourierAxis(64).interpolation(asked).T, rtol=0, atol=1e-9)
    w, x = vorticity(1, 32)[0], np.arange(32) / 32
    solve = reference_solver(NavierStokes2D())
    grid = solve(w, times=[0.3])
    points = {"x": np.array([0.25, 0.5]), "y": np.array([0.125])}
    some = solve(w, input_x={"x": x, "y": x}, x=points, times=[0.3], parameters={"nu": 1e-4})
    assert_allclose(some, grid[:, [8, 16]][:, :, [4]], rtol=0, atol=1e-10)
    half = solve(w, x={"x": x[::2], "y": x}, times=[0.3])
    assert_allclose(half, grid[:, ::2], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s(np.zeros((2, 2, 64))), "u0 must have the shape"),
        (lambda s: s(np.zeros(64), input_x=np.linspace(0, 1, 64)), "equally spaced over one period"),
        (lambda s: s(np.zeros(30)), "at least 32 points"),
        (lambda s: s(np.zeros(64), x={"y": np.zeros(3)}), "must have the axes"),
    ],
)
def test_wrong_calls_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call(PseudoSpectral(Burgers()))


def test_bounded_axes_are_refused():
    with pytest.raises(ValueError, match="bounded"):
        PseudoSpectral(DiffusionSorption())


@pytest.mark.parametrize("steps", [None, 4])
def test_failed_trajectories_are_nan_and_the_others_answer(steps):
    fields = vorticity(3, 32)
    fields[1, 4, 4] = np.nan
    solve = PseudoSpectral(NavierStokes2D(), num_nodes=16, steps=steps)
    found = solve(fields, times=[1.0])
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()
    assert_allclose(found[[0, 2]], solve(fields[[0, 2]], times=[1.0]), rtol=0, atol=1e-12)
    with pytest.raises(RuntimeError, match="not finite"):
        solve(fields[1])


def test_unstable_steps_are_not_hidden():
    u = PseudoSpectral(NavierStokes2D(), steps=8)(8 * vorticity(2, 64))
    assert np.isnan(u).all()


def test_progress_ends_at_its_total():
    seen = []
    PseudoSpectral(Burgers())(waves(3, 64), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12) and [done for done, _ in seen] == sorted(done for done, _ in seen)


# ------------------------------------------------------------------ baselines


def refined(baseline, times=6):
    """The baseline with steps halved as often as that can be done, at most six times."""
    for _ in range(times):
        baseline = baseline.refined(2.0) or baseline
    return baseline


@pytest.mark.parametrize(
    ("problem", "u0", "names"),
    [
        (NavierStokes2D(), vorticity(2, 64), {"pseudo-spectral"}),
        (Burgers(), waves(2, 64), {"pseudo-spectral"}),
        (DiffusionSorption(), np.full((2, 1024), 0.1), {"picard", "lsoda"}),
    ],
)
def test_baselines_are_batched_solvers_and_become_accurate(problem, u0, names):
    families, solve = baselines(problem), truth_solver(problem)
    truth = np.stack([solve(row) for row in u0])
    assert set(families) == names
    for rows in families.values():
        assert len({row.name for row in rows}) == len(rows) and all(row.batches for row in rows)
        baseline = refined(next(row for row in reversed(rows) if row.settings.get("dealiasing", 1.0) == 1.0))
        u = baseline.build("cpu")(u0, {})
        assert u.shape == truth.shape and u.dtype == np.float64
        assert distance(u, truth) < 3e-4


def test_baselines_pass_parameters_on():
    D, u0 = np.array([2e-4, 1e-3]), np.full((2, 1024), 0.1)
    picard, lsoda = (refined(rows[-1]).build("cpu")(u0, {"D": D}) for rows in baselines(DiffusionSorption()).values())
    assert distance(picard, lsoda) < 1e-3 < distance(lsoda[:1], lsoda[1:])


def test_the_fast_solver_computes_in_single_precision():
    u0 = waves(1, 64)
    fast, exact = (fast_solver(Burgers(), steps=200, **kind)(u0) for kind in ({}, {"dtype": torch.float64}))
    assert 1e-9 < distance(fast, exact) < 1e-5
