"""Laws of the classical solvers for any declared problem: exact and manufactured solutions, orders, independence."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from pihc_zoo.evaluation import cheapest
from pihc_zoo.evaluation.references import ReferenceSet, reference_set
from pihc_zoo.families import RandomWaves
from pihc_zoo.grid import FourierAxis, GradedAxis
from pihc_zoo.problems.base import Derivative, Parameter, Problem, Variable, WallCondition
from pihc_zoo.reference import (
    ConvergedLines,
    MethodOfLines,
    SteadySolver,
    baselines,
    fast_solver,
    reference_solver,
    truth_solver,
)
from pihc_zoo.reference.pseudo_spectral import PseudoSpectral
from pihc_zoo.reference.tensor import TensorSpectral

ANY = Parameter(1.0, -np.inf, np.inf, "dimensionless", "a field")


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


def orders(errors):
    return np.log2(np.array(errors[:-1]) / errors[1:])


# ------------------------------------------------------------------ periodic axes


class KortewegDeVries(Problem):
    """u_t + u u_x + δ² u_xxx = 0."""

    fields = {"u": Variable(-3.0, 3.0)}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xxx": Derivative("u", x=3),
    }
    parameters = {"delta": Parameter(0.05, 0.02, 0.1, "dimensionless", "dispersion")}
    duration = 1.0
    output_space = {"x": FourierAxis(96, 2.0)}
    output_times = np.linspace(0.0, 1.0, 5)

    def residual(self, f, c, at):
        return f["u_t"] + f["u"] * f["u_x"] + c["delta"] ** 2 * f["u_xxx"]

    def linearised(self, c):
        return None


def soliton(x, t, height=1.2, delta=0.05):
    """height · sech²(√(height/12δ²) (x − 1 − height t/3)), repeated with period 2."""
    width = np.sqrt(height / (12 * delta**2))
    return sum(height / np.cosh(width * (x - 1 - height / 3 * t + 2 * m)) ** 2 for m in range(-3, 4))


@pytest.mark.parametrize(("method", "error"), [("etdrk4", 3e-6), ("ifrk4", 3e-5)])
def test_a_soliton_is_carried_at_fourth_order(method, error):
    """Odd derivatives are in the exact linear part, without any linearisation of the problem's."""
    problem, x = KortewegDeVries(), KortewegDeVries.output_space["x"].nodes
    exact = np.stack([soliton(x, t) for t in problem.output_times])
    steps = (100, 200, 400)
    errors = [distance(PseudoSpectral(problem, steps=n, method=method)(exact[0]), exact) for n in steps]
    assert (orders(errors) > 3.7).all() and errors[-1] < error, errors


def test_the_truth_of_a_soliton_is_exact():
    problem, x = KortewegDeVries(), KortewegDeVries.output_space["x"].nodes
    exact = np.stack([soliton(x, t) for t in problem.output_times])
    assert distance(truth_solver(problem)(exact[0]), exact) < 1e-8


class GinzburgLandau(Problem):
    """z_t = z + D z_xx − (1 + iβ) |z|² z, z = u + i v; waves R e^{i(kx − Ωt)} with R² = 1 − D k², Ω = β R²."""

    fields = {"u": Variable(-1.0, 1.0), "v": Variable(-1.0, 1.0)}
    features = {
        "u": Derivative("u"),
        "v": Derivative("v"),
        "u_t": Derivative("u", t=1),
        "v_t": Derivative("v", t=1),
        "u_xx": Derivative("u", laplacian=1),
        "v_xx": Derivative("v", x=2),
    }
    parameters = {
        "D": Parameter(5e-3, 1e-3, 1e-2, "dimensionless", "diffusion"),
        "beta": Parameter(2.0, 0.0, 3.0, "dimensionless", "rotation"),
    }
    duration = 2.0
    output_space = {"x": FourierAxis(32)}
    output_times = np.linspace(0.0, 2.0, 5)

    def residual(self, f, c, at):
        u, v = f["u"], f["v"]
        size = u * u + v * v
        return (
            f["u_t"] - u - c["D"] * f["u_xx"] + size * (u - c["beta"] * v),
            f["v_t"] - v - c["D"] * f["v_xx"] + size * (v + c["beta"] * u),
        )

    def linearised(self, c):
        return None


class Mixed(GinzburgLandau):
    """The same equations, added and subtracted: a mass matrix that is not diagonal."""

    def residual(self, f, c, at):
        first, second = super().residual(f, c, at)
        return first + 2 * second, first - second


class Heavy(GinzburgLandau):
    """The same equations times 1 + u²: time derivatives whose coefficients vary."""

    def residual(self, f, c, at):
        weight = 1 + f["u"] * f["u"]
        return tuple(weight * own for own in super().residual(f, c, at))


def wave(x, t, D=5e-3, beta=2.0):
    k = 2 * np.pi
    size = 1 - D * k**2
    phase = k * x - beta * size * np.asarray(t)[:, None]
    return np.sqrt(size) * np.stack([np.cos(phase), np.sin(phase)], axis=-1)


@pytest.mark.parametrize("problem", [GinzburgLandau(), Mixed(), Heavy()], ids=lambda own: type(own).__name__)
def test_a_rotating_wave_of_two_fields_is_exact(problem):
    exact = wave(problem.output_space["x"].nodes, problem.output_times)
    found = truth_solver(problem)(exact[:1], {"D": np.array([5e-3])})
    assert found.shape == (1, 5, 32, 2)
    assert distance(found[0], exact) < 1e-6
    errors = [distance(PseudoSpectral(problem, steps=n)(exact[0]), exact) for n in (40, 80, 160)]
    assert (orders(errors) > 3.6).all(), errors


class Forced(Problem):
    """u_t + a(x) u_x = D u_xx + s(x, t) with u = cos(2πx) / (1 + t) and a = 1 + sin(2πx) / 2."""

    fields = {"u": Variable(-1.0, 1.0)}
    features = {
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {"D": Parameter(0.02, 0.01, 0.1, "dimensionless", "diffusion")}
    coefficients = dict.fromkeys(("a", "cosine", "sine"), ANY)
    coordinates = ("t",)
    duration = 1.0
    output_space = {"x": FourierAxis(32)}
    output_times = np.linspace(0.0, 1.0, 4)

    def residual(self, f, c, at):
        k = 2 * np.pi
        decay = 1 / (1 + at["t"])
        source = at["cosine"] * (c["D"] * k**2 * decay - decay * decay) - at["a"] * at["sine"] * (k * decay)
        return f["u_t"] + at["a"] * f["u_x"] - c["D"] * f["u_xx"] - source

    def linearised(self, c):
        return {"u_t": 1.0, "u_x": 1.0, "u_xx": -c["D"]}


def test_sources_coefficient_fields_and_time_enter_the_residual():
    problem = Forced()
    x = problem.output_space["x"].nodes
    sine, cosine = np.sin(2 * np.pi * x), np.cos(2 * np.pi * x)
    given = {"a": 1 + sine / 2, "cosine": cosine, "sine": sine}
    exact = cosine / (1 + problem.output_times[:, None])
    assert distance(truth_solver(problem)(cosine, given), exact) < 1e-8
    errors = [distance(PseudoSpectral(problem, steps=n)(cosine, given), exact) for n in (15, 30, 60)]
    assert (orders(errors) > 3.6).all(), errors
    with pytest.raises(ValueError, match="'a' is missing"):
        truth_solver(problem)(cosine)


class Regularised(KortewegDeVries):
    """u_t + u_x − δ² u_xxt = 0: a time derivative that is mixed with space, each wave at its own speed."""

    features = {
        "u_t": Derivative("u", t=1),
        "u_xxt": Derivative("u", x=2, t=1),
        "u_x": Derivative("u", x=1),
    }

    def residual(self, f, c, at):
        return f["u_t"] + f["u_x"] - c["delta"] ** 2 * f["u_xxt"]


def test_mixed_time_derivatives_are_inverted_mode_by_mode():
    problem, k = Regularised(), 3 * np.pi
    x, t = problem.output_space["x"].nodes, problem.output_times[:, None]
    exact = np.sin(k * (x - t / (1 + (0.05 * k) ** 2)))
    assert_allclose(truth_solver(problem)(exact[0]), exact, rtol=0, atol=1e-11)


# ------------------------------------------------------------------ one bounded axis


class Inlet(Problem):
    """u_t + v u_x = D u_xx + s(x, t), inlet v u − D u_x = v/2, outlet u_x = 0, u = 1/2 + h(x)/(1 + t)."""

    fields = {"u": Variable(0.0, 2.0)}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {
        "D": Parameter(0.05, 0.01, 0.1, "dimensionless", "diffusion"),
        "v": Parameter(0.3, 0.1, 1.0, "dimensionless", "velocity"),
    }
    coordinates = ("x", "t")
    duration = 1.0
    output_space = {"x": GradedAxis(48, 0.0, 1.0)}
    output_times = np.linspace(0.0, 1.0, 5)

    def shape(self, x, c):
        """h, h_x and h_xx: (v h − D h_x)(0) = 0 and h_x(1) = 0."""
        slope = c["v"] / c["D"]
        bump = x * x * x * (1 - x) * (1 - x) * (1 - x)
        bump_x = 3 * x * x - 12 * x**3 + 15 * x**4 - 6 * x**5
        bump_xx = 6 * x - 36 * x**2 + 60 * x**3 - 30 * x**4
        return (
            0.1 * (1 + slope * (x - x * x / 2)) + 9 * bump,
            0.1 * slope * (1 - x) + 9 * bump_x,
            -0.1 * slope + 9 * bump_xx,
        )

    def residual(self, f, c, at):
        h, h_x, h_xx = self.shape(at["x"], c)
        decay = 1 / (1 + at["t"])
        source = decay * (c["v"] * h_x - c["D"] * h_xx) - decay * decay * h
        return f["u_t"] + c["v"] * f["u_x"] - c["D"] * f["u_xx"] - source

    def walls(self, c):
        inlet = WallCondition(value=c["v"], slope=-c["D"], target=c["v"] / 2)
        return {"x": (inlet, WallCondition(0.0, 1.0, 0.0))}

    def linearised(self, c):
        return {"u_t": 1.0, "u_x": c["v"], "u_xx": -c["D"]}

    def exact(self, x, **own):
        c = {**self.defaults(), **own}
        return 0.5 + self.shape(x, c)[0] / (1 + self.output_times[:, None])


def test_a_robin_wall_and_a_source_converge_at_the_stencils_order():
    """Five-point differences of second derivatives: 5 − 2, one more where symmetric."""
    problem = Inlet()
    exact = problem.exact(problem.output_space["x"].nodes)
    errors = [distance(MethodOfLines(problem, num_nodes=n)(exact[0]), exact) for n in (12, 24, 48)]
    assert (orders(errors) > 2.8).all() and errors[-1] < 1e-4, errors


def test_truth_refines_until_grids_agree_with_walls_at_the_actual_parameters():
    problem = Inlet()
    x = problem.output_space["x"].nodes
    rows = [{"D": 0.02, "v": 0.2}, {"D": 0.05, "v": 0.3}]
    exact = np.stack([problem.exact(x, **own) for own in rows])
    given = {key: np.array([own[key] for own in rows]) for key in ("D", "v")}
    assert distance(ConvergedLines(problem, rtol=1e-6, first=32)(exact[:, 0], given), exact) < 1e-6
    assert distance(fast_solver(problem)(exact[:, 0], given), exact) < 1e-3


class Exchange(Problem):
    """Dissolved u and sorbed s: (1 + u) u_t + s_t = D u_xx − v u_x, s_t = r (K u − s); s has no walls."""

    fields = {"u": Variable(0.0, 1.0), "s": Variable(0.0, 1.0)}
    features = {
        "u": Derivative("u"),
        "s": Derivative("s"),
        "u_t": Derivative("u", t=1),
        "s_t": Derivative("s", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {"D": Parameter(0.02, 0.01, 0.1, "dimensionless", "diffusion")}
    duration = 1.0
    output_space = {"x": GradedAxis(40, 0.0, 1.0)}
    output_times = np.linspace(0.0, 1.0, 3)

    def residual(self, f, c, at):
        exchange = 0.5 * f["u"] - f["s"]
        transport = 0.4 * f["u_x"] - c["D"] * f["u_xx"]
        return (1 + f["u"]) * f["u_t"] + f["s_t"] + transport, f["s_t"] - exchange

    def walls(self, c):
        return {"x": {"u": (WallCondition(0.4, -c["D"], 0.4), WallCondition(0.0, 1.0, 0.0))}}

    def linearised(self, c):
        return None


def test_a_system_with_a_mass_matrix_agrees_with_an_independent_integrator():
    """scipy's Radau without a band, on equations solved for u_t and s_t by hand."""
    problem = Exchange()
    solver = MethodOfLines(problem, rtol=1e-9, atol=1e-9)
    axis, n = solver.axis, 40
    d1, d2 = axis.differentiation(1), axis.differentiation(2)
    left, right = axis.differentiation(1, axis.closed_nodes[[0, -1]])

    def rate(t, y):
        u, s = y[:n], y[n:]
        system = [[0.4 - 0.02 * left[0], -0.02 * left[-1]], [right[0], right[-1]]]
        walls = np.linalg.solve(system, [0.4 + 0.02 * left[1:-1] @ u, -right[1:-1] @ u])
        closed = np.concatenate([walls[:1], u, walls[1:]])
        s_t = 0.5 * u - s
        return np.concatenate([(0.02 * d2 @ closed - 0.4 * d1 @ closed - s_t) / (1 + u), s_t])

    x = axis.nodes
    start = np.stack([0.2 + 0.1 * np.cos(3 * x), 0.1 + 0 * x], axis=-1)
    theirs = solve_ivp(rate, (0, 1), start.T.ravel(), "Radau", t_eval=problem.output_times, rtol=1e-9, atol=1e-10)
    found = solver(start)
    assert found.shape == (3, n, 2)
    assert distance(found, theirs.y.T.reshape(3, 2, n).swapaxes(1, 2)) < 1e-7
    assert distance(fast_solver(problem)(start[None])[0], found) < 1e-3  # Picard does not serve systems
    assert distance(reference_solver(problem)(start), found) < 1e-3
    assert set(baselines(problem)) == {"lsoda"}


# ------------------------------------------------------------------ several axes, some bounded

NO_FLUX = (WallCondition(0.0, 1.0, 0.0),) * 2


class Plane(GinzburgLandau):
    """The two fields on a periodic square of side 2."""

    features = {
        **{name: own for name, own in GinzburgLandau.features.items() if name[-1] in "uvt"},
        "u_xx": Derivative("u", laplacian=1),
        "v_xx": Derivative("v", laplacian=1),
    }
    output_space = {"x": FourierAxis(48, 2.0), "y": FourierAxis(48, 2.0)}


class Quarter(Plane):
    """The same between no-flux walls of a square of side 1."""

    output_space = {"x": GradedAxis(12, 0.0, 1.0), "y": GradedAxis(14, 0.0, 1.0)}

    def walls(self, c):
        return {axis: {"u": NO_FLUX, "v": NO_FLUX} for axis in "xy"}


def test_no_flux_walls_are_those_of_the_even_continuation():
    """An independent solver on the doubled, periodic square has the same solution."""

    def field(x, y):
        cosines = np.cos(np.pi * x)[:, None], np.cos(2 * np.pi * y)
        return np.stack([0.5 * cosines[0] * cosines[1] + 0.2, 0.4 * cosines[0] - 0.3 * cosines[1]], axis=-1)

    doubled, x = PseudoSpectral(Plane(), rtol=1e-8), np.arange(48) / 24
    theirs = doubled(field(x, x), times=[0.5, 2.0])
    cells = {"x": (np.arange(20) + 0.5) / 20, "y": (np.arange(24) + 0.5) / 24}
    inside = x[(x > 0) & (x < 1)]
    solve = TensorSpectral(Quarter(), rtol=1e-6)
    own = solve(field(cells["x"], cells["y"]), input_x=cells, x={"x": inside, "y": inside}, times=[0.5, 2.0])
    assert distance(own, theirs[:, 1:24, 1:24]) < 1e-6
    native = field(*(axis.nodes for axis in Quarter.output_space.values()))
    assert fast_solver(Quarter())(native[None]).shape == (1, 5, 12, 14, 2)
    assert distance(fast_solver(Quarter())(native), truth_solver(Quarter(), rtol=1e-4)(native)) < 1e-3
    assert set(baselines(Quarter())) == {"spectral"}


class Channel(Inlet):
    """u_t + v u_x = D Δu + s between an inlet and an outlet, periodic across: u = 1/2 + h(x) w(y)/(1 + t)."""

    features = {
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "diffusion": Derivative("u", laplacian=1),
    }
    coefficients = {"across": ANY}
    output_space = {"x": GradedAxis(12, 0.0, 1.0), "y": FourierAxis(32)}
    output_times = np.linspace(0.0, 1.0, 3)

    def residual(self, f, c, at):
        h, h_x, h_xx = self.shape(at["x"], c)
        decay, k = 1 / (1 + at["t"]), 2 * np.pi
        source = decay * (c["v"] * h_x - c["D"] * (h_xx - k**2 * h)) - decay * decay * h
        return f["u_t"] + c["v"] * f["u_x"] - c["D"] * f["diffusion"] - source * at["across"]

    def linearised(self, c):
        return None


def test_a_channel_with_a_source_and_a_coefficient_field_is_exact():
    problem = Channel()
    x, y = (axis.nodes for axis in problem.output_space.values())
    across = np.cos(2 * np.pi * y) + 0 * x[:, None]
    h = problem.shape(x, problem.defaults())[0][:, None]
    exact = 0.5 + h * across / (1 + problem.output_times[:, None, None])
    solve = TensorSpectral(problem, num_nodes=32, rtol=1e-6)
    assert distance(solve(exact[0], {"across": across}), exact) < 1e-5


# ------------------------------------------------------------------ steady problems


class Pressure(Problem):
    """−∇·(a ∇u) + u³ = s on a rectangle, u = 1 on the walls; u = 1 + sin(πx) sin(πy/2)."""

    fields = {"u": Variable(0.0, 2.0)}
    features = {
        "u": Derivative("u"),
        "u_x": Derivative("u", x=1),
        "u_y": Derivative("u", y=1),
        "laplacian": Derivative("u", laplacian=1),
    }
    parameters = {"c": Parameter(1.0, 0.0, 2.0, "dimensionless", "strength of the cube")}
    coefficients = dict.fromkeys(("a", "a_x", "a_y", "source"), ANY)
    duration = None
    output_space = {"x": GradedAxis(40, 0.0, 1.0), "y": GradedAxis(40, 0.0, 2.0)}
    output_times = np.ones(1)

    def residual(self, f, c, at):
        flow = at["a"] * f["laplacian"] + at["a_x"] * f["u_x"] + at["a_y"] * f["u_y"]
        return c["c"] * f["u"] ** 3 - flow - at["source"]

    def walls(self, c):
        return {axis: (WallCondition(1.0, 0.0, 1.0),) * 2 for axis in "xy"}

    def linearised(self, c):
        return None


def test_a_steady_nonlinear_problem_converges_at_the_stencils_order():
    problem, k = Pressure(), np.pi
    x, y = np.meshgrid(*(axis.nodes for axis in problem.output_space.values()), indexing="ij")
    u, a = 1 + np.sin(k * x) * np.sin(k * y / 2), np.exp(x - y / 2)
    slopes = a * k * (np.cos(k * x) * np.sin(k * y / 2) - np.sin(k * x) * np.cos(k * y / 2) / 4)
    given = {"a": a, "a_x": a, "a_y": -a / 2, "source": u**3 + 1.25 * k**2 * a * (u - 1) - slopes}
    errors = [distance(SteadySolver(problem, n)(None, given), u[None]) for n in (10, 20, 40)]
    assert (orders(errors) > 2.8).all() and errors[-1] < 1e-4, errors
    many = truth_solver(problem, rtol=1e-5)(None, {**given, "c": np.array([1.0, 0.5])})
    assert many.shape == (2, 1, 40, 40) and distance(many[0], u[None]) < 1e-4 < distance(many[1], u[None])


# ------------------------------------------------------------------ what is refused, and solvers of one's own


class Wave(KortewegDeVries):
    """u_tt = u_xx."""

    features = {"u_tt": Derivative("u", t=2), "u_xx": Derivative("u", x=2)}


class Static(GinzburgLandau):
    """The second field has no time derivative."""

    features = {name: own for name, own in GinzburgLandau.features.items() if name != "v_t"}


class Flux(Pressure):
    """−∇·(a ∇u) = s as a system of first order: its flux has no walls."""

    fields = {"u": Variable(0.0, 2.0), "q": Variable(-1.0, 1.0)}
    features = {"u_x": Derivative("u", x=1), "q": Derivative("q"), "q_x": Derivative("q", x=1)}

    def walls(self, c):
        return {"x": {"u": (WallCondition(1.0, 0.0, 1.0),) * 2}}


def test_a_steady_system_of_first_order_is_refused():
    with pytest.raises(ValueError, match="needs walls for 'q' on axis 'x'"):
        truth_solver(Flux())


@pytest.mark.parametrize(
    ("problem", "message"),
    [(Wave(), "write the equation as a system"), (Static(), "nothing says how it evolves")],
)
def test_what_cannot_be_advanced_is_named(problem, message):
    with pytest.raises(ValueError, match=message):
        truth_solver(problem)(np.zeros((96,) if not problem.is_system else (32, 2)))


def test_fields_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="2 fields u, v"):
        truth_solver(GinzburgLandau())(np.zeros((1, 32, 3)))
    with pytest.raises(ValueError, match="no parameter 'alpha'"):
        truth_solver(GinzburgLandau())(np.zeros((1, 32, 2)), {"alpha": 1.0})


def test_solvers_of_ones_own_are_baselines():
    class Own(KortewegDeVries):
        def reference_solvers(self):
            return {"soliton": lambda u0, parameters: np.stack([soliton(np.arange(96) / 48, t) for t in (0, 1)])[None]}

    (baseline,) = baselines(Own())["soliton"]
    assert baseline.build("cpu")(np.zeros((1, 96)), {}).shape == (1, 2, 96) and baseline.refined(2.0) is None


def test_a_truth_of_ones_own_takes_the_place_of_the_packages():
    class Own(Flux):
        def reference_solvers(self):
            return {"truth": lambda u0, parameters: u0[:, None]}

    assert_allclose(truth_solver(Own())(np.ones((2, 4, 4, 2))), np.ones((2, 1, 4, 4, 2)))
    assert "truth" not in baselines(Own())
    with pytest.raises(ValueError, match="answers at its output times"):
        truth_solver(Own())(np.ones((2, 4, 4, 2)), times=[0.0])


# ------------------------------------------------------------------ references and the search for baselines


def test_references_of_a_system_are_resampled_field_by_field():
    t = np.array([0.0, 1.0])
    fine, coarse = (wave(np.arange(n) / n, t)[None] for n in (48, 32))
    own = ReferenceSet(fine[:, 0], {}, fine, is_system=True).resampled(32)
    assert_allclose(own.u, coarse, rtol=0, atol=1e-12)
    assert_allclose(own.u0, coarse[:, 0], rtol=0, atol=1e-12)


def test_a_baseline_takes_no_more_steps_than_its_error_asks_for():
    """Of order 4: an error a hundred times smaller takes about three times the steps, whatever a table holds."""
    problem, x = KortewegDeVries(), KortewegDeVries.output_space["x"].nodes
    exact = np.stack([soliton(x, t) for t in problem.output_times])[None]
    references = ReferenceSet(exact[:, 0], {}, exact)
    family = [own for own in baselines(problem)["pseudo-spectral"] if own.settings["num_nodes"] == 96]
    steps = []
    for error in (1e-2, 1e-4):
        _, row = cheapest(family, references, error, batch=1)
        assert row["is_equal"] and row["error_mean"] <= error
        steps.append(row["settings"]["steps"])
        fewer = {**row["settings"], "steps": steps[-1] // 2}
        assert not distance(fast_solver(problem, **fewer)(exact[:, 0]), exact) <= error
    assert 1.4 < steps[1] / steps[0] < 6


@pytest.mark.parametrize("size", [1, 4])
def test_a_reference_that_fails_is_named_and_left_out(monkeypatch, tmp_path, size):
    class Fails:
        pass_size = size

        def __call__(self, u0, parameters):
            if size == 1 and parameters["delta"][0] == deltas[2]:
                raise RuntimeError("stopped early")
            u = np.repeat(u0[:, None], 5, axis=1)
            u[parameters["delta"] == deltas[2]] = np.nan
            return u

    monkeypatch.setattr("pihc_zoo.evaluation.references.truth_solver", lambda problem: Fails())
    problem, path = KortewegDeVries(), tmp_path / "cache.npz"
    deltas = np.full(5, np.nan)
    everything = reference_set(problem, RandomWaves(), ("delta",), 5, 0)
    deltas = everything.parameters["delta"]
    for _ in range(2):  # solved, and from the cache
        with pytest.warns(RuntimeWarning, match=f"1 of 5 references .* draw 2, delta = {deltas[2]:.4g}: "):
            found = reference_set(problem, RandomWaves(), ("delta",), 5, 0, path)
        assert len(found) == 4 and len(found.left_out) == 1 and np.isfinite(found.u).all()
        np.testing.assert_array_equal(found.parameters["delta"], np.delete(deltas, 2))
