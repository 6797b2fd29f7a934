"""Laws of a problem's storage: its rate is the residual's time term; what is stored is conserved over every step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.basis import DenseBasis
from pihc_zoo.decomposition import Disjoint
from pihc_zoo.discretisation import Discretisation, Field
from pihc_zoo.nodal import NodalSolver
from pihc_zoo.objective import CollocationObjective, ProblemResidual
from pihc_zoo.problems import PROBLEMS, DiffusionSorption
from pihc_zoo.problems.base import Problem
from pihc_zoo.reference.picard import PicardSolver
from pihc_zoo.residual_map import InverseLinearised, QuadratureWeights, RowMap
from pihc_zoo.solvers.dual import Dual
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.status import Status

CONSERVATIVE = [name for name, problem in PROBLEMS.items() if problem().is_conservative]
RADAU = {"name": "radau", "duration": 500.0, "elements": 5, "stages": 5}
EXPONENTS = torch.tensor([0.5, 0.7, 0.874, 0.95], dtype=torch.float64)[:, None]


class Plain(DiffusionSorption):
    """The same equation without its storage: the residual forms m′(u) u_t."""

    storage = Problem.storage


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(5)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


# ------------------------------------------------------------------ m(u)


@pytest.fixture(params=CONSERVATIVE)
def stored(request):
    """u (1 or parameter, point) ↦ m(u) and the residual's ∂ρ/∂u_t there, over ranges of the parameters."""
    problem = PROBLEMS[request.param]()
    c = problem.as_tensors({})
    if "n_f" in c:
        c["n_f"] = EXPONENTS
    (rate,) = (name for name, feature in problem.features.items() if "t" in feature.orders)

    def evaluate(u):
        fields = {name: torch.zeros_like(u) for name in problem.features} | {"u": u}
        slope = problem.residual({**fields, rate: torch.ones_like(u)}, c, {}) - problem.residual(fields, c, {})
        return problem.storage({"u": u}, c), slope

    return evaluate


def test_its_derivative_is_the_factor_of_the_rate(stored, random):
    """∂m/∂u = ∂ρ/∂u_t, also where solutions overshoot below zero, and close to it."""
    u = torch.cat([random(1, 200) * scale for scale in (0.3, 1e-3, 1e-6, 1e-9)], dim=1).requires_grad_()
    assert (u < 0).sum() > 200
    value, slope = stored(u)
    for own, expected in zip(value, slope.expand_as(value), strict=True):  # one parameter after the other
        (found,) = torch.autograd.grad(own.sum(), u, retain_graph=True)
        assert_close(found[0], expected.detach(), rtol=1e-12, atol=0)


def test_nothing_is_stored_at_zero_and_nothing_jumps(stored, random):
    """m(0) = 0, and m(b) − m(a) lies between b − a times the least and the largest factor of the rate: no jump."""
    assert not stored(torch.zeros(1, 1, dtype=torch.float64))[0].any()
    u = torch.cat([random(1, 500) * scale for scale in (1e-1, 1e-5, 1e-9)], dim=1).sort(dim=1).values
    value, slope = stored(u)
    rise, slope = value.diff(dim=1), slope.expand_as(value)
    step, rounding = u.diff(dim=1), 1e-15 * (1 + value[:, 1:].abs())
    low, high = (fold(slope[:, 1:], slope[:, :-1]) * step for fold in (torch.minimum, torch.maximum))
    assert (rise > 0).all() and (rise >= low - rounding).all() and (rise <= high + rounding).all()


@pytest.mark.parametrize("name", CONSERVATIVE)
def test_arrays_tensors_and_duals_agree(name, random):
    problem, u = PROBLEMS[name](), 0.2 * random(60)
    value = problem.storage({"u": u}, problem.as_tensors({}))
    arrays = problem.storage({"u": u.numpy()}, problem.defaults())
    np.testing.assert_allclose(arrays, value.numpy(), rtol=1e-13, atol=1e-16)
    dual = problem.storage({"u": Dual(u, {0: 1.0})}, {key: Dual(v) for key, v in problem.as_tensors({}).items()})
    tracked = u.clone().requires_grad_()
    (slope,) = torch.autograd.grad(problem.storage({"u": tracked}, problem.as_tensors({})).sum(), tracked)
    assert_close(dual.value, value, rtol=1e-13, atol=0)
    assert_close(dual.partials[0], slope, rtol=1e-12, atol=0)


# ------------------------------------------------------------------ rows of two parts


@pytest.mark.parametrize("space", [(5,), (4, 3)], ids=["one axis", "two axes"])
def test_disassemble_is_the_transpose_of_assemble(random, space):
    shape, lead = (6, *space), (2, 3)
    row_map = RowMap(torch.ones(shape), torch.ones(shape), rate=random(6, 6), num_space=len(space))
    still, kept, rows = (random(*lead, *shape) for _ in range(3))
    first, second = row_map.disassemble(rows)
    left = (row_map.assemble([still, kept]) * rows).sum()
    assert_close(left, (still * first).sum() + (kept * second).sum(), rtol=1e-12, atol=1e-12)


def test_without_a_storage_both_are_the_identity(random):
    row_map, rho = RowMap(torch.ones(4, 5), torch.ones(4, 5)), random(2, 4, 5)
    (pulled,) = row_map.disassemble(rho)
    assert row_map.assemble([rho]) is rho and pulled is rho


def test_the_time_axis_differentiates_what_is_stored(operator, problem, random):
    """A linear storage, s u: both forms of the residual are the same rows. A kink of m they see differently."""
    c, u = problem.as_tensors({"n_f": 1.0}), 0.2 + 0.01 * random(2, *operator.grid.shape)
    initial = 0.2 + 0.01 * random(2, *operator.grid.shape[1:])
    features = operator(Field(u[:, None], operator.walls(c), initial[:, None]))[:, 0]
    row_map = QuadratureWeights(operator)(c, 2)
    stored = ProblemResidual(problem, c, problem.storage({"u": initial[:, None]}, c))
    rate = row_map.assemble(stored.parts(features))
    assert_close(rate, ProblemResidual(problem, c)(features), rtol=1e-9, atol=1e-12)
    c = problem.as_tensors({"n_f": 0.5})
    stored = ProblemResidual(problem, c, problem.storage({"u": initial[:, None]}, c))
    assert (row_map.assemble(stored.parts(features)) - ProblemResidual(problem, c)(features)).abs().max() > 1e-5


@pytest.fixture(params=itertools.product([QuadratureWeights, InverseLinearised], [None, Disjoint({"x": 2})]))
def objective(request, operator, problem, random):
    """Objectives of two trajectories of different parameters, on the whole grid or on two windows each.

    Far from solvable, so that curvature counts.
    """
    map_class, decomposition = request.param
    windows = None if decomposition is None else decomposition.subdomains(operator.grid)
    c = problem.as_tensors({key: torch.tensor(v) for key, v in (("D", [4e-4, 9e-4]), ("n_f", [0.6, 0.874]))})
    u, initial = 0.2 + 0.02 * random(2, *operator.grid.shape), 0.2 + 0.02 * random(2, *operator.grid.shape[1:])
    closures = operator.walls(c)
    lift = operator(Field(u[:, None], closures, initial[:, None]))[:, 0]
    homogeneous = closures.homogeneous()
    functions = operator(Field(0.02 * random(2, 3, *operator.grid.shape), homogeneous))
    start = problem.storage({"u": initial[:, None]}, {key: v.reshape(-1, 1, 1) for key, v in c.items()})
    own = {key: value.reshape(-1, 1, 1) for key, value in c.items()}
    if windows is not None:
        lift, functions = windows.take(lift), windows.take(functions)
        start = windows.take(start.expand(-1, operator.grid.shape[0], -1))[:, :1]
        own = {key: v.repeat_interleave(windows.num_subdomains, 0) if len(v) > 1 else v for key, v in own.items()}
    row_map = map_class(operator)(c, 2, windows)
    return CollocationObjective(ProblemResidual(problem, own, start), lift, functions, row_map, ridge=0.1)


@pytest.fixture
def w(objective, random):
    return 0.3 * random(len(objective.lift), 3)


def test_evaluate_is_the_cost_and_its_gradient(objective, w):
    tracked = w.clone().requires_grad_()
    value = objective.cost(tracked)
    (expected,) = torch.autograd.grad(value.sum(), tracked)
    cost, gradient = objective.evaluate(w)
    for own, apart in zip(objective.expand(w), (cost, gradient, objective.normal_matrix(w)), strict=True):
        assert_close(own, apart, rtol=0, atol=0)
    assert_close(cost, value.detach(), rtol=1e-13, atol=0)
    assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    for i in range(3):  # and of differences
        h = 1e-5 * torch.eye(3, dtype=torch.float64)[i]
        difference = (objective.cost(w + h) - objective.cost(w - h)) / 2e-5
        assert_close(gradient[:, i], difference, rtol=1e-5, atol=1e-8 * float(cost.max()))


def test_the_normal_matrix_is_that_of_the_rows_jacobian(objective, w):
    full = torch.autograd.functional.jacobian(lambda w: objective.rows(w).flatten(1), w)
    jacobian = torch.stack([full[i, :, i] for i in range(len(w))])
    expected = jacobian.transpose(1, 2) @ jacobian + 0.1 * torch.eye(3, dtype=torch.float64)
    assert_close(objective.normal_matrix(w), expected, rtol=1e-10, atol=1e-12)


def test_the_hessian_is_the_difference_of_gradients(objective, w):
    hessian = objective.hessian(w)
    size = float(hessian.abs().max())
    for i in range(3):
        h = 1e-5 * torch.eye(3, dtype=torch.float64)[i]
        difference = (objective.evaluate(w + h)[1] - objective.evaluate(w - h)[1]) / 2e-5
        assert_close(hessian[:, i], difference, rtol=1e-5, atol=1e-6 * size)
    assert (hessian - objective.normal_matrix(w)).abs().max() > 1e-4 * size  # Gauss–Newton it is not


def test_the_directional_derivative_is_differentiable(objective, w, random):
    direction, tracked = random(*w.shape), w.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.cost(tracked).sum(), tracked, create_graph=True)
    expected, found = (gradient * direction).sum(dim=1), objective.directional(tracked, direction)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(v.sum(), tracked) for v in (found, expected)), strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_some_subproblems_are_those_of_the_batch(objective, w):
    rows = torch.tensor([1])
    one = objective.take(rows)
    for whole, own in zip(objective.evaluate(w), one.evaluate(w[rows]), strict=True):
        assert_close(own, whole[rows], rtol=1e-12, atol=1e-14)
    for name in ("normal_matrix", "hessian"):
        assert_close(getattr(one, name)(w[rows]), getattr(objective, name)(w)[rows], rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------ through a surrogate


@pytest.fixture
def conservative(tiny_model):
    """``conservative(decomposition)``: takes D and n_f, solves to rounding."""

    def make(**decomposition):
        return tiny_model(
            problem={"name": "diffusion-sorption", "inputs": ["D", "n_f"]},
            solver={"max_steps": 80, "rtol": 1e-11, "atol": 0.0},
            decomposition=decomposition,
            residual_map={"name": "quadrature_weights" if "t" in decomposition["counts"] else "inverse_linearised"},
        ).with_network_dtype(torch.float64)

    return make


@pytest.mark.parametrize("decomposition", ["joint", "disjoint", "disjoint in time"])
def test_implicit_gradients_are_differences(conservative, fields, random, decomposition):
    """In u₀, whose m is in the residual, and in the parameters of m; also where windows in time take the plain form."""
    name, counts = decomposition.split()[0], {"t": 2} if "time" in decomposition else {"x": 2}
    model = conservative(name=name, counts=counts)
    u0 = torch.as_tensor(fields(1))
    shape = 0.1 * torch.sin(torch.linspace(0, 3, 1024, dtype=torch.float64))
    target = random(101, 1024)
    point = torch.tensor([0.0, np.log(4e-4), 0.8], dtype=torch.float64)

    def loss(p):
        u = model(u0 + p[0] * shape, {"D": torch.exp(p[1]), "n_f": p[2]})
        return (u * target).mean() + u[:, 50].square().mean()

    tracked = point.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(tracked), tracked)
    for i, h in enumerate((1e-3, 1e-3, 1e-4)):
        step = h * torch.eye(3, dtype=torch.float64)[i]
        with torch.no_grad():
            one, two = (loss(point + k * step) - loss(point - k * step) for k in (1, 2))
        assert_close(found[i], (8 * one - two) / (12 * h), rtol=2e-5, atol=0)


def test_windows_split_in_time_take_the_plain_form(conservative):
    """They know no state at their start to count from."""
    constraint = conservative(name="disjoint", counts={"t": 2}).constraint
    u0, c = torch.full((1, 16), 0.1, dtype=torch.float64), constraint.problem.as_tensors({})
    in_time, in_space = (Disjoint({axis: 2}).subdomains(constraint.grid) for axis in ("t", "x"))
    assert constraint.residual(c, u0).initial is not None
    assert constraint.residual(c, u0, in_space).initial.shape == (2, 1, 8)
    assert constraint.residual(c, u0, in_time).initial is None
    assert constraint.residual_map(c, 1, in_time).rate is None


# ------------------------------------------------------------------ what is stored is conserved


def solved(problem_class, grid, initial, parameters):
    """The nodal solution and the operator."""
    problem = problem_class()
    operator = Discretisation(problem, grid)
    c = problem.as_tensors(parameters)
    u, is_solved = NodalSolver(operator, tolerance=1e-9)(initial, operator.walls(c), c)
    assert is_solved.all()
    return u, operator, c


@pytest.fixture
def grid(tiny_model):
    """Fine enough for solutions to stay within their range; one that touches a bound is not solved there."""
    space = {"name": "graded", "num_nodes": 64, "start": -0.00048828125, "stop": 1.00048828125, "grading": 2.0}
    return tiny_model(grid={"time": RADAU, "space": {"x": space}}).constraint.grid


def balance(u, operator, c, initial):
    """By node: what is stored at the end less what was at the start, and what flowed in over the time axis."""
    problem, grid = DiffusionSorption(), operator.grid
    stored = problem.storage({"u": u[:, -1]}, c) - problem.storage({"u": initial}, c)
    features = operator(Field(u[:, None], operator.walls(c), initial[:, None]))[:, 0]
    inflow = c["D"] * features[:, list(problem.features).index("u_xx")]
    return stored, torch.as_tensor(grid.time.weights) @ inflow


@pytest.mark.parametrize("n_f", [0.5, 0.874])
def test_what_is_stored_is_what_flowed_in(grid, n_f):
    """Radau quadrature of D_t m is m at the end less m at the start, exactly; so at every node of the solution."""
    initial = torch.stack([torch.full((64,), 0.1), torch.linspace(0.3, 0.05, 64)]).double()
    stored, inflow = balance(*solved(DiffusionSorption, grid, initial, {"n_f": n_f}), initial)
    size = float(stored.abs().max())
    assert_close(stored, inflow, rtol=0, atol=1e-10 * size)
    plain, inflow = balance(*solved(Plain, grid, initial, {"n_f": n_f}), initial)  # which the plain form does not keep
    assert (plain - inflow).abs().max() > 1e-5 * size


@pytest.mark.parametrize("start", [0.0, 0.1])
def test_mass_enters_through_the_walls_alone(grid, start):
    """∫ m dx grows by what the walls' slopes let in, to the accuracy of the grid; also of a front in a clean column."""
    initial = torch.full((1, 64), start, dtype=torch.float64)
    u, operator, c = solved(DiffusionSorption, grid, initial, {"n_f": 0.5})
    axis, (stored, _) = grid.space["x"], balance(u, operator, c, initial)
    walls = torch.as_tensor(axis.differentiation(1, np.array([axis.start, axis.stop])))
    slopes = operator.space.axes["x"].close(u, -1, operator.walls(c)["x"]) @ walls.T  # (batch, time, wall)
    flowed = c["D"] * (torch.as_tensor(grid.time.weights) @ (slopes[..., 1] - slopes[..., 0])[..., None])
    total = (stored * torch.as_tensor(axis.weights)).sum(dim=1)
    assert_close(total, flowed[:, 0], rtol=2e-3, atol=0)


def test_picard_converges_to_the_same(fields):
    """The fixed point of the baseline's iteration is the nodal solution on its grid."""
    picard = PicardSolver(DiffusionSorption(), steps=80, num_nodes=64, elements=3, stages=3)
    u0 = fields(2)
    c = picard.problem.as_tensors({})
    initial = torch.as_tensor(u0) @ picard.input.T
    closures = picard.discretisation.walls(c)
    u, is_solved = NodalSolver(picard.discretisation, tolerance=1e-10)(initial, closures, c)
    assert is_solved.all()
    expected = picard.readout(Field(u, closures, initial)).numpy()
    np.testing.assert_allclose(picard(u0)[:, 1:], expected[:, 1:], rtol=0, atol=1e-8)
    assert picard.discretisation.storage_rate is not None


def test_a_solved_objective_is_the_nodal_solution(conservative, fields):
    """One basis function per node: least squares of the rows finds what Newton's method finds."""
    constraint = conservative(name="joint", counts={}).constraint
    model_grid, problem = constraint.grid, constraint.problem
    x = problem.output_space["x"].nodes
    initial = torch.as_tensor(fields(1)) @ torch.as_tensor(model_grid.space["x"].gathering(x)).T
    c = problem.as_tensors({})
    conditions = constraint.conditions(initial, c)
    basis = torch.eye(96, dtype=torch.float64).reshape(1, 96, *model_grid.shape)
    solver = LevenbergMarquardt(max_steps=40, rtol=1e-10, atol=0.0)
    field = constraint(DenseBasis(basis), conditions, solver=solver)
    u, is_solved = NodalSolver(constraint.discretisation, tolerance=1e-10)(initial, conditions.walls, c)
    assert is_solved.all() and (field.solution.status == Status.CONVERGED).all()
    assert_close(field.u, u, rtol=0, atol=1e-6)
