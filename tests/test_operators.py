"""Laws of differentiation, wall elimination, windows and the linearised operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.decomposition import Disjoint, Overlapping
from pihc_zoo.discretisation import Discretisation, Field, linear_operator
from pihc_zoo.discretisation.diagonalised import DiagonalisedOperator, TimeBlocks
from pihc_zoo.discretisation.modal import ModalOperator
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis
from pihc_zoo.grid.stencils import fornberg_weights, stencil_matrix
from pihc_zoo.networks.transforms import cosine_modes, waves
from pihc_zoo.parameters import Parameters
from pihc_zoo.solvers import dense

WIDE = {"D": np.array([2e-4, 5e-4, 1e-3]), "phi": np.array([0.2, 0.29, 0.5]), "n_f": np.array([0.5, 0.874, 0.95])}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


@pytest.fixture
def random(operator, generator):
    """``random(*leading)``: random values on the grid."""

    def make(*leading, shape=operator.grid.shape):
        return torch.randn(*leading, *shape, dtype=torch.float64, generator=generator)

    return make


def one(c, i):
    return Parameters({key: value[i] if value.dim() else value for key, value in c.items()})


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_fornberg_weights_differentiate_their_polynomials(order, rng):
    nodes, point = np.sort(rng.uniform(-1, 1, 6)), 0.2
    weights = fornberg_weights(point, nodes, order)
    for degree in range(6):
        polynomial = np.polynomial.Polynomial.basis(degree)
        assert_allclose(weights @ polynomial(nodes), polynomial.deriv(order)(point), atol=1e-9)


def test_known_central_differences():
    nodes = np.array([-1.0, 0.0, 1.0])
    assert_allclose(fornberg_weights(0.0, nodes, 1), [-0.5, 0, 0.5], atol=1e-15)
    assert_allclose(fornberg_weights(0.0, nodes, 2), [1, -2, 1], atol=1e-15)


def test_stencils_take_the_nearest_nodes():
    nodes = np.linspace(0, 1, 11)
    matrix = stencil_matrix(nodes, np.array([0.0, 0.5, 1.0]), 1, 3)
    assert [list(np.flatnonzero(row)) for row in matrix[[0, 2]]] == [[0, 1, 2], [8, 9, 10]]
    assert set(np.flatnonzero(matrix[1])) <= {4, 5, 6}


@pytest.mark.parametrize("num_modes", [1, 4, 9, 16])
def test_cosine_analysis_inverts_synthesis(num_modes):
    coordinates = GradedAxis(16, 0.0, 1.0).coordinates
    synthesis, analysis = cosine_modes(coordinates, num_modes)
    assert_allclose(analysis @ synthesis, np.eye(num_modes), atol=1e-10)
    assert_allclose(synthesis[:, -1], np.cos(np.pi * (num_modes - 1) * coordinates), atol=1e-14)


def test_more_modes_than_points_are_refused():
    with pytest.raises(ValueError, match="17 modes asked of 16 points; choose at most 16"):
        cosine_modes(np.linspace(0, 1, 16), 17)


# ------------------------------------------------------------------ features


def test_features_are_affine_in_the_field(operator, problem, random):
    """F(a u + b v) with conditions = F(u) + homogeneous parts; linear for corrections."""
    c = problem.as_tensors({})
    closures = operator.walls(c)
    homogeneous = closures.homogeneous()
    lift, u, v = random(2, 1), random(2, 3), random(2, 3)
    initial = random(2, 1, shape=operator.grid.shape[1:])
    corrected = operator(Field(lift + 0.7 * u[:, :1] - 2.5 * v[:, :1], closures, initial))
    expected = operator(Field(lift, closures, initial)) + 0.7 * operator(Field(u, homogeneous))[:, :1]
    expected = expected - 2.5 * operator(Field(v, homogeneous))[:, :1]
    assert_close(corrected, expected, rtol=1e-12, atol=1e-9)
    both = operator(Field(0.7 * u - 2.5 * v, homogeneous))
    assert_close(
        both, 0.7 * operator(Field(u, homogeneous)) - 2.5 * operator(Field(v, homogeneous)), rtol=1e-12, atol=1e-9
    )
    assert not torch.allclose(operator(Field(u, closures, initial.expand(2, 3, -1))), operator(Field(u, homogeneous)))


def test_wall_conditions_hold_after_closing(operator, problem, random):
    """value·u(wall) + slope·u_x(at) = target, for each trajectory's own parameters."""
    c = problem.as_tensors(WIDE)
    closed = operator.space.axes["x"].close(random(3, 2), -1, operator.walls(c)["x"])
    axis = operator.grid.space["x"]
    for side, condition in zip((0, -1), problem.walls(c)["x"], strict=True):
        at = axis.closed_nodes[side] if condition.at is None else condition.at
        slope = closed @ torch.as_tensor(axis.differentiation(1, np.array([at]))[0])
        value, factor, target = (
            torch.as_tensor(v, dtype=torch.float64).reshape(-1, 1, 1)
            for v in (condition.value, condition.slope, condition.target)
        )
        assert_close(value * closed[..., side] + factor * slope, target.expand(3, 2, 6), rtol=0, atol=1e-10)


def test_differentiating_eliminated_walls_equals_closing_first(operator, problem, random):
    closures = operator.walls(problem.as_tensors(WIDE))
    u, initial = random(3, 2), random(3, 2, shape=operator.grid.shape[1:])
    features = operator(Field(u, closures, initial))
    closed = operator.space.axes["x"].close(u, -1, closures["x"])
    assert_close(features[:, :, 0], u, rtol=0, atol=0)
    assert_close(features[:, :, 2], closed @ operator.space.axes["x"].derivative_2.T, rtol=1e-10, atol=1e-7)
    assert_close(features[:, :, 1], operator.rate_matrix @ operator.started(u, initial), rtol=1e-12, atol=1e-12)


def test_batched_parameters_equal_a_loop_over_them(operator, problem, random):
    c, u = problem.as_tensors(WIDE), random(3, 2)
    batched = operator(Field(u, operator.walls(c)))
    for i in range(3):
        single = operator(Field(u[i : i + 1], operator.walls(one(c, i))))
        assert_close(batched[i : i + 1], single, rtol=1e-12, atol=1e-8)


def test_features_on_a_missing_axis_are_refused(problem):
    with pytest.raises(ValueError, match="feature needs axis 'x'"):
        Discretisation(problem, Grid(RadauAxis(500.0, 2, 3), {"y": GradedAxis(16, 0.0, 1.0)}))


# ------------------------------------------------------------------ the linearised operator


@pytest.fixture
def linearised(problem, operator):
    return linear_operator(problem, operator)


def matrix_of(function, shape):
    """Dense matrix of a linear function of (1, column, *shape)."""
    size = int(np.prod(shape))
    basis = torch.eye(size, dtype=torch.float64).reshape(1, size, *shape)
    return function(basis).reshape(size, size).T


@pytest.mark.parametrize("phi", [0.2, 0.29, 0.5])
def test_the_inverse_undoes_the_linearised_features(problem, operator, linearised, phi):
    """A = Σ a_j F_j from the homogeneous features; the inverse expects rows times dt/ds."""
    c = problem.as_tensors({"phi": phi})
    shape = operator.grid.shape
    homogeneous = operator.walls(c).homogeneous()
    names = list(problem.features)
    scale = torch.as_tensor(operator.grid.time.row_scale)[:, None]

    def apply(u):
        features = operator(Field(u, homogeneous))
        return sum(a * features[:, :, names.index(name)] for name, a in problem.linearised(c).items()) * scale

    inverse = linearised.inverse(c)
    composed = matrix_of(lambda u: inverse.apply(apply(u)), shape)
    assert_close(composed, torch.eye(len(composed), dtype=torch.float64), rtol=0, atol=1e-8)


def test_the_transpose_is_the_adjoint(problem, linearised, random):
    c = problem.as_tensors(WIDE)
    inverse = linearised.inverse(c, 3)
    x, y = random(3, 4), random(3, 4)
    left = (inverse.apply(x) * y).sum(dim=(2, 3))
    right = (x * inverse.transpose(y)).sum(dim=(2, 3))
    assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_batched_parameters_of_the_inverse_equal_a_loop(problem, linearised, random):
    c, x = problem.as_tensors(WIDE), random(3, 2)
    batched = linearised.inverse(c, 3)
    for i in range(3):
        single = linearised.inverse(one(c, i))
        assert_close(batched.apply(x)[i : i + 1], single.apply(x[i : i + 1]), rtol=1e-10, atol=1e-12)
        assert_close(batched.transpose(x)[i : i + 1], single.transpose(x[i : i + 1]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decomposition", [Disjoint({"x": 2}), Overlapping({"x": 2}, overlap=2)], ids=repr)
@pytest.mark.parametrize("values", [{}, WIDE], ids=["fixed", "batched"])
def test_on_windows_the_inverse_is_that_of_the_operators_blocks(
    problem, operator, linearised, generator, decomposition, values
):
    """A_k = A restricted to window k's nodes, one by one, for each trajectory."""
    c = problem.as_tensors(values)
    windows = decomposition.subdomains(operator.grid)
    times, size = windows.local_shape
    x = torch.randn(3 * windows.num_subdomains, 2, times, size, dtype=torch.float64, generator=generator)
    inverse = linearised.inverse(c, 3, windows)
    together, adjoint = inverse.apply(x), inverse.transpose(x)
    space = linearised.space_matrix
    scale = torch.as_tensor(operator.grid.time.row_scale)
    for i in range(3):
        a = problem.linearised(one(c, i))
        for k, nodes in enumerate(windows.indices["x"]):
            block = space[nodes][:, nodes]
            dense = a["u_t"] * torch.kron(operator.rate_matrix[:, 1:], torch.eye(size, dtype=torch.float64))
            dense = dense + a["u_xx"] * torch.kron(torch.eye(times, dtype=torch.float64), block)
            dense = dense * scale.repeat_interleave(size)[:, None]
            row = i * windows.num_subdomains + k
            for matrix, result in ((dense, together), (dense.T, adjoint)):
                expected = torch.linalg.solve(matrix, x[row].flatten(1).T).T.reshape(2, times, size)
                assert_close(result[row], expected, rtol=1e-8, atol=1e-10)


def test_the_inverse_is_differentiable_in_the_parameters(problem, linearised, random):
    x = random(1, 1)

    def value(D):
        return linearised.inverse(problem.as_tensors({"D": D})).apply(x)[0, 0, -1, ::5]

    D = torch.tensor([5e-4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, D, eps=1e-9, atol=1e-4, rtol=1e-5)


def test_a_grid_with_oscillating_modes_takes_them_in_pairs(problem):
    grid = Grid(RadauAxis(500.0, 2, 3), {"x": GradedAxis(24, 0.0, 1.0, grading=2.0, stencil=5)})
    own = linear_operator(problem, Discretisation(problem, grid))
    assert isinstance(own, ModalOperator) and own.is_paired == [True]
    with pytest.raises(ValueError, match="complex eigenvalues on this grid; choose"):
        DiagonalisedOperator(problem, Discretisation(problem, grid))


# ------------------------------------------------------------------ small dense systems


@pytest.fixture(params=["eager", "exported"])
def mode(request, monkeypatch):
    """Both forms of each function; the second is what an exported graph holds."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: request.param == "exported")


def test_dense_solves_are_those_of_lapack(mode, generator):
    matrix = torch.randn(3, 5, 5, dtype=torch.float64, generator=generator) + 6 * torch.eye(5, dtype=torch.float64)
    right = torch.randn(3, 5, 2, dtype=torch.float64, generator=generator)
    assert_close(dense.solve(matrix, right), torch.linalg.solve(matrix, right), rtol=1e-12, atol=1e-13)


def test_positive_definite_solves_know_when_they_are_not(mode, generator):
    root = torch.randn(3, 5, 5, dtype=torch.float64, generator=generator)
    matrix = root @ root.transpose(1, 2) + 0.1 * torch.eye(5, dtype=torch.float64)
    matrix[1] -= 3 * torch.eye(5, dtype=torch.float64)
    right = torch.randn(3, 5, 1, dtype=torch.float64, generator=generator)
    solution, is_definite = dense.solve_positive_definite(matrix, right)
    assert is_definite.tolist() == [True, False, True]
    good = [0, 2]
    assert_close(solution[good], torch.linalg.solve(matrix[good], right[good]), rtol=1e-9, atol=1e-11)


def test_time_blocks_apply_as_their_dense_form(generator):
    blocks = torch.randn(2, 4, 5, 5, 3, dtype=torch.float64, generator=generator)
    inflow = torch.randn(2, 4, 5, 3, dtype=torch.float64, generator=generator)
    time = TimeBlocks(blocks, inflow)
    columns = torch.randn(2, 6, 20, 3, dtype=torch.float64, generator=generator)
    dense_form = time.dense()
    forward = torch.einsum("pmij,pcjm->pcim", dense_form, columns)
    assert_close(time.apply(columns), forward, rtol=1e-12, atol=1e-10)
    backward = torch.einsum("pmij,pcim->pcjm", dense_form, columns)
    assert_close(time.apply_transpose(columns), backward, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("count", [1, 4, 7, 15])
def test_waves_are_analysed_into_themselves(count):
    axis = FourierAxis(16, length=3.0, start=-1.0)
    synthesis, analysis = waves(axis, count)
    assert_allclose(analysis @ synthesis, np.eye(count), atol=1e-12)
    assert_allclose(synthesis[:, 0], 1.0)
    if count == 4:  # 1, cos, sin, cos 2
        angle = 2 * np.pi * (axis.nodes + 1.0) / 3.0
        assert_allclose(
            synthesis[:, 1:], np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle)], axis=1)
        )
    with pytest.raises(ValueError, match="carries up to 15 modes, not 16"):
        waves(axis, 16)
