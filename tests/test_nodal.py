"""Laws of Newton's method for all nodal values: block elimination, orders, batches, bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.discretisation import Discretisation, Field, Readout
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis, UniformAxis
from pihc_zoo.nodal import NodalSolver
from pihc_zoo.problems import Burgers, DiffusionSorption
from pihc_zoo.problems.base import Derivative, Parameter, Problem, Variable, WallCondition
from pihc_zoo.reference import MethodOfLines
from pihc_zoo.solvers.block_tridiagonal import solve_block_tridiagonal

NATIVE = DiffusionSorption.output_space["x"].nodes


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


# ------------------------------------------------------------------ block elimination


def blocks(random, batch, count, size):
    """Lower, diagonal and upper blocks of a well-conditioned system, and the dense matrix."""
    lower, upper = (random(batch, count, size, size) for _ in range(2))
    diagonal = random(batch, count, size, size) + 8 * size**0.5 * torch.eye(size, dtype=torch.float64)
    dense = torch.zeros(batch, count, size, count, size, dtype=torch.float64)
    for p in range(count):
        dense[:, p, :, p] = diagonal[:, p]
        if p:
            dense[:, p, :, p - 1], dense[:, p - 1, :, p] = lower[:, p], upper[:, p - 1]
    return lower, diagonal, upper, dense.reshape(batch, count * size, count * size)


@pytest.mark.parametrize("count, size", [(1, 3), (2, 1), (7, 4)])
def test_block_elimination_is_the_dense_solve(random, count, size):
    lower, diagonal, upper, dense = blocks(random, 3, count, size)
    right = random(3, count, size)
    lower[:, 0], upper[:, -1] = torch.nan, torch.nan  # outside of the matrix
    expected = torch.linalg.solve(dense, right.flatten(1)).view_as(right)
    assert_close(solve_block_tridiagonal(lower, diagonal, upper, right), expected, rtol=1e-11, atol=1e-12)


def test_a_singular_pivot_is_not_finite_and_leaves_the_others(random):
    lower, diagonal, upper, _ = blocks(random, 3, 4, 2)
    right = random(3, 4, 2)
    clean = solve_block_tridiagonal(lower, diagonal, upper, right)
    diagonal[1, 0] = 0
    found = solve_block_tridiagonal(lower, diagonal, upper, right)
    assert not torch.isfinite(found[1]).all()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


# ------------------------------------------------------------------ a linear problem with an exact solution

K = 4.0


class Heat(Problem):
    """u_t = D u_xx, u = e^(−D k² t) cos kx + x/2: a slope at the left wall, a mixed condition at the right one."""

    name, title, equation = "heat", "Heat", "u_t = D u_xx"
    fields = {"u": Variable(-5.0, 5.0)}
    units = {"x": "dimensionless", "t": "dimensionless"}
    features = {"u_t": Derivative("u", t=1), "u_xx": Derivative("u", x=2)}
    parameters = {"D": Parameter(0.1, 0.05, 0.2, "dimensionless", "diffusivity")}
    duration = 1.0
    output_space = {"x": UniformAxis(64, 0.0, 1.0)}
    output_times = np.linspace(0.0, 1.0, 11)

    def residual(self, f, c, at):
        return f["u_t"] - c["D"] * f["u_xx"]

    def walls(self, c):
        mixed = 1 / (K * np.tan(K))  # cos kx + mixed · (cos kx)_x = 0 at x = 1
        return {"x": (WallCondition(0.0, 1.0, 0.5), WallCondition(1.0, mixed, 0.5 * (1 + mixed)))}

    @staticmethod
    def exact(x, t, D):
        """(batch, time, x) for D (batch,)."""
        decay = torch.exp(-D[:, None, None] * K**2 * torch.as_tensor(t)[:, None])
        return decay * torch.cos(K * torch.as_tensor(x)) + 0.5 * torch.as_tensor(x)


def heat_error(time, num_nodes, stencil=5):
    """Largest error at the end, of two diffusivities."""
    operator = Discretisation(Heat(), Grid(time, {"x": GradedAxis(num_nodes, 0.0, 1.0, stencil=stencil)}))
    c = Heat().as_tensors({"D": torch.tensor([0.05, 0.2], dtype=torch.float64)})
    x, t = operator.grid.space["x"].nodes, operator.grid.time.nodes
    u, is_solved = NodalSolver(operator)(Heat.exact(x, [0.0], c["D"])[:, 0], operator.walls(c), c)
    assert is_solved.all()
    return float((u - Heat.exact(x, t, c["D"]))[:, -1].abs().max())


@pytest.mark.parametrize("stencil, order", [(3, 2), (5, 4)])
def test_it_converges_at_the_order_of_the_space_stencil(stencil, order):
    errors = [heat_error(RadauAxis(1.0, 3, 6), n, stencil) for n in (24, 48, 96)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > order - 0.5).all(), (errors, orders)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_it_converges_at_the_order_of_the_radau_method(stages):
    """2s − 1 at the ends of elements."""
    errors = [heat_error(RadauAxis(1.0, n, stages, grading=1.0, power=1.0), 160) for n in (2, 4, 8)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 2 * stages - 1 - 0.5).all(), (errors, orders)


def test_a_linear_problem_takes_one_step(random):
    """A second one only sees that the first changes nothing any more."""
    operator = Discretisation(Heat(), Grid(RadauAxis(1.0, 2, 3), {"x": GradedAxis(13, 0.0, 1.0)}))
    c, initial = Heat().as_tensors({}), 0.1 * random(2, 13)
    closures = operator.walls(c)
    first, is_found = NodalSolver(operator, max_steps=1)(initial, closures, c)
    second, is_solved = NodalSolver(operator, max_steps=2)(initial, closures, c)
    assert not is_found.any() and is_solved.all()
    assert_close(first, second, rtol=0, atol=1e-12)


# ------------------------------------------------------------------ diffusion–sorption


@pytest.fixture
def solver():
    """On a grid as that of the surrogates."""
    ends = DiffusionSorption.output_space["x"].closed_nodes[[0, -1]]
    grid = Grid(RadauAxis(500.0, 5, 5), {"x": GradedAxis(64, *ends)})
    return NodalSolver(Discretisation(DiffusionSorption(), grid))


@pytest.fixture
def starts(solver):
    """(5, x): a clean column, one almost so, a constant, a wave, a pulse in a clean column."""
    x = torch.as_tensor(solver.discretisation.grid.space["x"].nodes)
    wave, pulse = 0.15 + 0.1 * torch.sin(6 * x), 0.25 * torch.exp(-(((x - 0.5) / 0.08) ** 2))
    return torch.stack([0 * x, 0 * x + 1e-3, 0 * x + 0.1, wave, pulse])


def solve(solver, initial, **parameters):
    c = solver.problem.as_tensors(parameters)
    return solver(initial, solver.discretisation.walls(c), c)


def test_features_vanish_in_the_residual_at_every_node(solver, starts):
    """ρ = 0, in solution units, for solutions inside their range; others are at a bound somewhere."""
    n_f = torch.tensor([0.5, 0.874, 0.95], dtype=torch.float64)
    initial, c = starts[[2, 3, 3]], solver.problem.as_tensors({"n_f": n_f})
    operator, closures = solver.discretisation, solver.discretisation.walls(c)
    u, is_solved = solver(initial, closures, c)
    assert is_solved.all()
    features = operator(Field(u[:, None], closures, initial[:, None]))[:, 0]
    f = {name: features[:, i] for i, name in enumerate(solver.problem.features)}
    own = {key: value.reshape(-1, 1, 1) for key, value in c.items()}
    stored = solver.problem.storage(f, own) - solver.problem.storage({"u": initial[:, None]}, own)
    rate, flux = operator.storage_rate @ stored, c["D"] * f["u_xx"]
    times = torch.as_tensor(operator.grid.time.nodes)[:, None]
    assert ((rate - flux) * times).abs().max() < 1e-8 < (flux * times).abs().max()


def test_a_batch_equals_a_loop(solver, starts):
    """Each with parameters of its own and a number of steps of its own."""
    own = {"n_f": torch.linspace(0.5, 0.9, 5).double(), "D": torch.linspace(2e-4, 1e-3, 5).double()}
    batch, is_solved = solve(solver, starts, **own)
    assert is_solved.all()
    for i in range(5):
        one, _ = solve(solver, starts[i : i + 1], **{key: value[i] for key, value in own.items()})
        assert_close(one[0], batch[i], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["not finite", "out of steps"])
def test_unfinished_trajectories_leave_the_others_unchanged(solver, starts, kind):
    if kind == "not finite":
        bad = starts.clone()
        bad[1, 7] = torch.nan
        limited, clean = solver, solve(solver, starts)[0]
    else:  # a front takes more steps than a smooth solution
        bad, limited = starts, NodalSolver(solver.discretisation, max_steps=6)
        clean = solve(solver, starts)[0]
    u, is_solved = solve(limited, bad)
    assert is_solved[[2, 3]].all() and not is_solved.all()
    assert torch.equal(u[is_solved], clean[is_solved])


def test_values_stay_within_the_range_of_states(solver, starts):
    """Fronts do not undershoot."""
    for n_f in (0.5, 0.874):
        u, is_solved = solve(solver, starts, n_f=n_f)
        assert is_solved.all() and u.min() >= 0 and u.max() <= 1


@pytest.mark.parametrize("n_f", [0.5, 0.6, 0.874])
def test_a_front_into_a_clean_column_is_that_of_the_classical_solver(solver, starts, n_f):
    u, is_solved = solve(solver, starts[:1], n_f=n_f)
    assert is_solved.all()
    problem = solver.problem
    closures = solver.discretisation.walls(problem.as_tensors({}))
    readout = Readout(solver.discretisation, problem.output_times[1:], {"x": NATIVE})
    found = readout(Field(u, closures, starts[:1]))[0].numpy()
    truth = MethodOfLines(problem, rtol=1e-8, atol=1e-10)(np.zeros(1024), {"n_f": n_f})[1:]
    assert np.linalg.norm(found - truth) < 2e-3 * np.linalg.norm(truth)


def test_more_nodes_are_more_accurate(starts):
    """At n_f = .5 in a clean column: the error of a grid against one of twice the nodes falls."""
    ends = DiffusionSorption.output_space["x"].closed_nodes[[0, -1]]
    points, times, fields = {"x": np.linspace(0.05, 0.95, 19)}, np.array([50.0, 250.0, 500.0]), []
    for factor in (0.5, 1, 2, 4):
        grid = Grid(RadauAxis(500.0, round(4 * factor), 4), {"x": GradedAxis(round(48 * factor), *ends)})
        solver = NodalSolver(Discretisation(DiffusionSorption(), grid))
        initial = torch.zeros(1, grid.shape[1], dtype=torch.float64)
        u, is_solved = solve(solver, initial, n_f=0.5)
        assert is_solved.all()
        closures = solver.discretisation.walls(solver.problem.as_tensors({}))
        fields.append(Readout(solver.discretisation, times, points)(Field(u, closures, initial)))
    errors = [float((field - fields[-1]).norm() / fields[-1].norm()) for field in fields[:-1]]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 1e-3, errors


# ------------------------------------------------------------------ what it does not take


def test_other_grids_and_mixed_derivatives_are_refused():
    burgers = Discretisation(Burgers(), Grid(RadauAxis(0.1, 1, 3), {"x": FourierAxis(32)}))
    with pytest.raises(ValueError, match="one bounded axis, not on x"):
        NodalSolver(burgers)

    class Mixed(Heat):
        features = {**Heat.features, "u_tx": Derivative("u", t=1, x=1)}

    grid = Grid(RadauAxis(1.0, 1, 2), {"x": GradedAxis(12, 0.0, 1.0)})
    with pytest.raises(ValueError, match="'u_tx': the time derivative is of first order, of the field itself"):
        NodalSolver(Discretisation(Mixed(), grid))
