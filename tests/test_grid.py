"""Laws of axes and grids: exactness on polynomials, convergence orders, quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pihc_zoo.grid import GradedAxis, Grid, RadauAxis, UniformAxis

BOUNDED = [
    GradedAxis(20, -0.5, 2.0, stencil=5),
    GradedAxis(13, 0.0, 1.0, grading=1.0, stencil=3),
    UniformAxis(20, 0.0, 1.0, stencil=5),
    UniformAxis(32, -1.0, 1.0, stencil=3),
]
RADAU = [RadauAxis(3.0, elements=e, stages=s, power=p) for e, s, p in [(1, 2, 1.0), (3, 3, 2.0), (4, 5, 2.0)]]
RADAU.append(RadauAxis(3.0, elements=6, stages=3, grading=2.0, power=1.0, repeat=3))


def powers(axis, degree, order=0, at=None):
    """d^order/dx^order of ((x − start)/(stop − start))^degree."""
    width = axis.stop - axis.start
    x = ((axis.nodes if at is None else at) - axis.start) / width
    factor = np.prod([degree - k for k in range(order)]) if order else 1.0
    return factor * x ** max(degree - order, 0) / width**order


@pytest.mark.parametrize("axis", BOUNDED, ids=repr)
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_exact_for_polynomials_below_the_stencil_width(axis, order):
    for degree in range(axis.stencil):
        found = axis.differentiation(order) @ powers(axis, degree, at=axis.closed_nodes)
        expected = powers(axis, degree, order)
        assert_allclose(found, expected, atol=1e-9 * max(1, abs(expected).max()))


@pytest.mark.parametrize("axis", BOUNDED, ids=repr)
def test_derivatives_are_not_exact_beyond_their_degree(axis):
    degree = axis.stencil + 1
    found = axis.differentiation(1) @ powers(axis, degree, at=axis.closed_nodes)
    assert abs(found - powers(axis, degree, 1)).max() > 1e-6


@pytest.mark.parametrize("axis", BOUNDED, ids=repr)
def test_interpolation_is_exact_for_polynomials_and_at_nodes(axis, rng):
    points = np.sort(rng.uniform(axis.closed_nodes[0], axis.closed_nodes[-1], 11))
    for degree in range(axis.interpolation_stencil):
        found = axis.interpolation(points) @ powers(axis, degree, at=axis.closed_nodes)
        assert_allclose(found, powers(axis, degree, at=points), atol=1e-10)
    assert_allclose(axis.interpolation(axis.closed_nodes), np.eye(len(axis.closed_nodes)), atol=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("make", [GradedAxis, UniformAxis])
def test_derivatives_converge_at_the_stated_order(make, order):
    """Order stencil − d; the error falls by at least 2^(stencil − d) − a little at each doubling."""
    errors = []
    for num_nodes in (40, 80, 160):
        axis = make(num_nodes, 0.0, 1.0, stencil=5)
        u = np.exp(np.sin(4 * axis.closed_nodes))
        x = axis.nodes
        first = 4 * np.cos(4 * x) * np.exp(np.sin(4 * x))
        second = (16 * np.cos(4 * x) ** 2 - 16 * np.sin(4 * x)) * np.exp(np.sin(4 * x))
        errors.append(abs(axis.differentiation(order) @ u - (first if order == 1 else second)).max())
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (rates > 5 - order - 0.35).all(), rates


@pytest.mark.parametrize("axis", [*BOUNDED, *RADAU], ids=repr)
def test_weights_are_positive_and_sum_to_the_length(axis):
    assert (axis.weights > 0).all()
    assert_allclose(axis.weights.sum(), axis.stop - axis.start, rtol=1e-12)


@pytest.mark.parametrize("make", [GradedAxis, UniformAxis])
def test_quadrature_in_space_converges_at_second_order(make):
    errors = []
    for num_nodes in (32, 64, 128):
        axis = make(num_nodes, 0.0, 1.0)
        errors.append(abs(axis.weights @ np.exp(axis.nodes) - (np.e - 1)))
    assert (np.log2(np.array(errors[:-1]) / errors[1:]) > 1.8).all()


@pytest.mark.parametrize("axis", RADAU, ids=repr)
def test_radau_derivative_and_interpolation_are_exact_to_the_number_of_stages(axis, rng):
    """The closed element has stages + 1 nodes: polynomials in s of degree ≤ stages."""
    s, closed = axis.coordinates, axis.closed_coordinates
    points = np.sort(rng.uniform(0, axis.duration, 9))
    for degree in range(axis.stages + 1):
        ds = degree * s ** max(degree - 1, 0)
        dt_ds = axis.duration * axis.power * s ** (axis.power - 1)
        assert_allclose(axis.differentiation(1) @ closed**degree, ds / dt_ds, atol=1e-10)
        at = (points / axis.duration) ** (1 / axis.power)
        assert_allclose(axis.interpolation(points) @ closed**degree, at**degree, atol=1e-11)


@pytest.mark.parametrize("axis", RADAU, ids=repr)
def test_radau_quadrature_is_exact_to_degree_2_stages_minus_2_in_s(axis):
    """∫ s^k ds over [0, 1]: weights divided by dt/ds."""
    weights = axis.weights / axis.row_scale
    for degree in range(2 * axis.stages - 1):
        assert_allclose(weights @ axis.coordinates**degree, 1 / (degree + 1), rtol=1e-12)
    beyond = 2 * axis.stages - 1
    assert abs(weights @ axis.coordinates**beyond - 1 / (beyond + 1)) > 1e-10


@pytest.mark.parametrize("axis", RADAU, ids=repr)
def test_an_element_ends_at_its_last_node(axis):
    last = axis.coordinates[axis.stages - 1 :: axis.stages]
    assert_allclose(last, axis.edges[1:], rtol=1e-13)
    matrix = axis.interpolation(axis.closed_nodes)
    assert_allclose(matrix, np.eye(len(axis.closed_nodes)), atol=1e-11)
    # the derivative at an edge is that of the element it ends, so it sees no later node
    columns = np.abs(axis.differentiation(1)[axis.stages - 1]) > 0
    assert not columns[axis.stages + 1 :].any()


def test_radau_collocation_converges_at_order_2_stages_minus_1():
    """u′ = −u by collocation: the end value has the order of Radau IIA, 2·stages − 1."""
    errors = []
    for elements in (2, 4, 8):
        axis = RadauAxis(2.0, elements=elements, stages=2, grading=1.0, power=1.0)
        matrix = axis.differentiation(1)
        u = np.linalg.solve(matrix[:, 1:] + np.eye(len(axis.nodes)), -matrix[:, 0])
        errors.append(abs(u[-1] - np.exp(-2)))
    assert (np.log2(np.array(errors[:-1]) / errors[1:]) > 2.7).all()


def test_groups_of_equal_elements():
    """Their edges are those of as many elements, cut into equal parts; finer grids cut into more."""
    axis = RadauAxis(20.0, elements=6, stages=5, grading=2.3, power=1.0, repeat=3)
    groups = RadauAxis(20.0, elements=2, stages=5, grading=2.3, power=1.0)
    assert_allclose(axis.edges[::3], groups.edges, rtol=1e-15)
    assert_allclose(np.diff(axis.edges).reshape(2, 3), np.diff(groups.edges)[:, None] / 3 * np.ones(3), rtol=1e-14)
    alone = RadauAxis(20.0, elements=6, stages=5, grading=2.3, power=1.0)
    assert_allclose(alone.edges, (np.arange(7) / 6) ** 2.3, rtol=1e-15)
    finer = axis.refined(1.34)
    assert (finer.elements, finer.repeat) == (8, 4) and axis.zoomed(4.0).elements % axis.zoomed(4.0).repeat == 0
    assert_allclose(finer.edges[::4], groups.edges, rtol=1e-15)
    for bad in (0, 4):
        with pytest.raises(ValueError, match=f"repeat must divide the number of elements, 6, got {bad}"):
            RadauAxis(1.0, elements=6, repeat=bad)


def test_radau_gives_the_first_derivative_only():
    with pytest.raises(ValueError, match="first derivative only, not order 2"):
        RADAU[0].differentiation(2)


@pytest.mark.parametrize("axis", [*BOUNDED, *RADAU], ids=repr)
def test_nodes_increase_inside_the_axis_and_refine(axis):
    assert (np.diff(axis.closed_nodes) > 0).all()
    assert len(axis.closed_nodes) == len(axis.nodes) + axis.num_before + axis.num_after
    assert len(axis.coordinates) == len(axis.weights) == len(axis.nodes)
    assert ((axis.coordinates > 0) & (axis.coordinates <= 1)).all()
    assert len(axis.refined(2).nodes) == 2 * len(axis.nodes)
    assert (axis.refined(2).start, axis.refined(2).stop) == (axis.start, axis.stop)


def test_cells_are_centred_and_ghosts_lie_half_a_cell_outside():
    axis = UniformAxis(1024, 0.0, 1.0)
    assert_allclose(axis.nodes, (np.arange(1024) + 0.5) / 1024, rtol=0, atol=1e-15)
    assert_allclose(axis.closed_nodes[[0, -1]], [-0.5 / 1024, 1 + 0.5 / 1024], rtol=0, atol=1e-15)


def test_grid_weights_are_the_normalised_tensor_product():
    grid = Grid(RADAU[1], {"x": BOUNDED[0], "y": BOUNDED[2]})
    assert grid.weights.shape == grid.shape == (9, 20, 20)
    assert_allclose(grid.weights.sum(), 1.0, rtol=1e-12)
    product = np.einsum("t,x,y->txy", *(axis.weights for axis in grid.axes.values()))
    assert_allclose(grid.weights, product / product.sum(), rtol=1e-12)
    assert list(grid.axes) == ["t", "x", "y"]
