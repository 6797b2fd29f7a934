"""Laws of the classical solvers and of the discretisation: published formulas, orders, agreement."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import odeint

from pihc_zoo.discretisation import Discretisation, Field, linear_operator
from pihc_zoo.grid import GradedAxis, Grid, RadauAxis
from pihc_zoo.problems import DiffusionSorption
from pihc_zoo.reference import MethodOfLines, fast_solver, reference_solver, truth_solver
from pihc_zoo.residual_map import InverseLinearised

TIMES = np.array([0.0, 5.0, 50.0, 250.0, 500.0])


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


@pytest.fixture(scope="module")
def u0():
    x = DiffusionSorption.output_space["x"].nodes
    return 0.15 + 0.1 * np.cos(3 * x) * np.exp(-x)


@pytest.fixture(scope="module")
def truth(u0):
    return truth_solver(DiffusionSorption())(u0)


# ------------------------------------------------------------------ method of lines


def pdebench_derivative(u, D=5e-4, phi=0.29, rho_s=2880.0, k_f=3.5e-4, n_f=0.874):
    """PDEBench's generator, written out: ghost values 1 and D (u[-2] − u[-1])/dx beside 1024 cells."""
    dx = 1 / 1024
    left, right = 1.0, D * (u[-2] - u[-1]) / dx
    closed = np.concatenate([[left], u, [right]])
    u_xx = (closed[2:] - 2 * closed[1:-1] + closed[:-2]) / dx**2
    retardation = 1 + ((1 - phi) / phi) * rho_s * k_f * n_f * (u + 1e-6) ** (n_f - 1)
    return D / retardation * u_xx


def published_solution(u0, **own):
    options = {"ml": 1, "mu": 1, "mxstep": 100_000, "rtol": 1e-11, "atol": 1e-11}
    return odeint(lambda u, _: pdebench_derivative(u, **own), u0, TIMES, **options)


def test_it_solves_pdebenchs_published_equations(u0):
    published = odeint(
        lambda u, _: pdebench_derivative(u), u0, TIMES, ml=1, mu=1, mxstep=100_000, rtol=1e-11, atol=1e-11
    )
    found = MethodOfLines(DiffusionSorption(), rtol=1e-11, atol=1e-11)(u0, times=TIMES)
    assert distance(found, published) < 1e-9


def test_other_parameters_are_those_of_the_formula(u0):
    own = {"D": 9e-4, "phi": 0.4, "n_f": 0.6}
    published = odeint(
        lambda u, _: pdebench_derivative(u, **own), u0, TIMES, ml=1, mu=1, mxstep=100_000, rtol=1e-11, atol=1e-11
    )
    found = MethodOfLines(DiffusionSorption(), rtol=1e-11, atol=1e-11)(u0, own, times=TIMES)
    assert distance(found, published) < 1e-9


def test_the_tolerance_of_the_truth_is_tight_enough(u0, truth):
    finest = MethodOfLines(DiffusionSorption(), rtol=1e-12, atol=1e-12)(u0)
    assert distance(truth, finest) < 1e-8
    assert distance(reference_solver(DiffusionSorption())(u0), finest) < 1e-6


def test_the_initial_condition_is_returned_exactly(u0, truth):
    assert np.array_equal(truth[0], u0)


def test_answers_do_not_depend_on_what_else_is_asked(u0, truth):
    solve = truth_solver(DiffusionSorption())
    assert_allclose(solve(u0, times=TIMES[1:]), truth[[1, 10, 50, 100]], atol=1e-8)
    x = DiffusionSorption.output_space["x"].nodes
    between = solve(u0, x=np.array([x[3], (x[500] + x[501]) / 2]), times=TIMES[2:3])[0]
    at_50 = truth[10]
    assert_allclose(between, [at_50[3], (at_50[500] + at_50[501]) / 2], atol=1e-6)


def test_initial_conditions_are_interpolated_from_their_own_points(u0, truth):
    x = DiffusionSorption.output_space["x"].nodes
    own = np.linspace(0, 1, 401)
    found = truth_solver(DiffusionSorption())(0.15 + 0.1 * np.cos(3 * own) * np.exp(-own), input_x=own)
    assert_allclose(found[0], 0.15 + 0.1 * np.cos(3 * x) * np.exp(-x), atol=1e-9)
    assert distance(found, truth) < 1e-7


def test_the_maximum_principle_holds(u0, truth):
    """Diffusion between a wall held at 1 and an initial state below it."""
    assert truth.min() > -1e-9 and truth.max() < 1


# ------------------------------------------------------------------ the space-time discretisation


class Manufactured:
    """u = ℓ(x) + g(t) h(x), which meets the walls; forced so that it solves the equation."""

    def __init__(self, problem, grid):
        self.problem, self.grid = problem, grid
        (axis,) = grid.space.values()
        _, right = problem.walls(problem.defaults())["x"]
        start, stop = axis.closed_nodes[0], axis.closed_nodes[-1]
        length = stop - start
        # h = sin(5ξ) + αξ² with h + D h_x = 0 at the right wall; ℓ = 1 − βξ likewise
        at = (right.at - start) / length
        self.alpha = -(np.sin(5) + right.slope * 5 * np.cos(5 * at) / length) / (1 + right.slope * 2 * at / length)
        self.beta = 1 / (1 + right.slope / length)
        self.xi, self.length = (axis.nodes - start) / length, length
        self.t = grid.time.nodes[:, None] / problem.duration

    def features(self):
        h = 0.1 * (np.sin(5 * self.xi) + self.alpha * self.xi**2)
        h_xx = 0.1 * (-25 * np.sin(5 * self.xi) + 2 * self.alpha) / self.length**2
        root = np.sqrt(self.t)
        g = np.exp(-self.t) * np.cos(2 * root)
        g_t = (-g - np.exp(-self.t) * np.sin(2 * root) / root) / self.problem.duration
        line = 1 - self.beta * self.xi
        return {"u": line + g * h, "u_t": g_t * h, "u_xx": g * h_xx, "initial": line + h}


def manufactured_error(grid):
    problem = DiffusionSorption()
    c = problem.as_tensors({})
    exact = {name: torch.as_tensor(value) for name, value in Manufactured(problem, grid).features().items()}
    source = problem.residual(exact, c, {})
    operator = Discretisation(problem, grid)
    inverse = linear_operator(problem, operator).inverse(c)
    scale = torch.as_tensor(grid.time.row_scale)[:, None]
    closures, initial = operator.walls(c), exact["initial"][None, None]
    u = exact["u"] * 0 + 0.2
    for _ in range(200):
        f = operator(Field(u[None, None], closures, initial))[0, 0]
        step = inverse.apply(
            ((problem.residual(dict(zip(problem.features, f, strict=True)), c, {}) - source) * scale)[None, None]
        )[0, 0]
        u = u - step
        if step.abs().max() < 1e-13:
            break
    assert step.abs().max() < 1e-12
    return float((u - exact["u"]).abs().max())


def rates(errors):
    return np.log2(np.array(errors[:-1]) / errors[1:])


def test_a_manufactured_solution_converges_at_third_order_in_space():
    """Five-point stencils: second derivatives are accurate to order 5 − 2."""
    errors = [
        manufactured_error(Grid(RadauAxis(500.0, 4, 6), {"x": GradedAxis(n, -1 / 2048, 1 + 1 / 2048, grading=1.0)}))
        for n in (24, 48, 96)
    ]
    assert (rates(errors) > 2.8).all() and errors[-1] < 1e-5, errors


def test_a_manufactured_solution_converges_at_the_order_of_radau_in_time():
    """Two stages: order 3 = 2·2 − 1 at the edges and 2 + 1 inside; the function is smooth in √t."""
    space = {"x": GradedAxis(160, -1 / 2048, 1 + 1 / 2048, grading=1.0)}
    errors = [manufactured_error(Grid(RadauAxis(500.0, e, 2, grading=1.0), space)) for e in (2, 4, 8)]
    assert (rates(errors) > 2.5).all(), errors


def test_the_residual_of_the_true_solution_falls_with_the_grid(u0):
    """A⁻¹ρ(u_true) is the discretisation's own error, in solution units."""
    problem, solve, norms = DiffusionSorption(), truth_solver(DiffusionSorption()), []
    c = problem.as_tensors({})
    for n, elements in ((48, 3), (96, 6), (192, 12)):
        grid = Grid(RadauAxis(500.0, elements, 4), {"x": GradedAxis(n, -1 / 2048, 1 + 1 / 2048)})
        operator = Discretisation(problem, grid)
        x, t = grid.space["x"].nodes, grid.time.nodes
        u = torch.as_tensor(solve(u0, x=x, times=t))
        initial = torch.as_tensor(0.15 + 0.1 * np.cos(3 * x) * np.exp(-x))
        f = operator(Field(u[None, None], operator.walls(c), initial[None, None]))[:, 0]
        rows = InverseLinearised(operator)(c, 1)
        residual = problem.residual({name: f[:, i] for i, name in enumerate(problem.features)}, c, {})
        norms.append(float(rows.apply(residual[:, None]).norm()))
    assert norms[0] > 4 * norms[1] > 16 * norms[2], norms


# ------------------------------------------------------------------ Picard iteration


def test_picard_on_refined_grids_converges_to_the_truth(u0, truth):
    sizes = ((48, 3), (96, 6), (192, 12))
    errors = [
        distance(fast_solver(DiffusionSorption(), steps=12, num_nodes=n, elements=e)(u0[None])[0], truth)
        for n, e in sizes
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[-1] < 2e-5, errors


def test_picard_steps_contract(u0):
    """Each step shrinks the distance to the fixed point of its grid."""
    problem = DiffusionSorption()
    fixed = fast_solver(problem, steps=25)(u0[None])
    errors = [distance(fast_solver(problem, steps=k)(u0[None]), fixed) for k in range(5)]
    assert all(after < 0.4 * before for before, after in itertools.pairwise(errors)), errors


def test_picard_batches_equal_a_loop_with_parameters(u0):
    solve, D = fast_solver(DiffusionSorption()), np.array([2e-4, 5e-4, 1e-3])
    fields = np.stack([u0, 0.5 * u0, 0 * u0 + 0.1])
    together = solve(fields, {"D": D})
    for i in range(3):
        assert_allclose(solve(fields[i : i + 1], {"D": D[i : i + 1]})[0], together[i], rtol=0, atol=1e-11)
