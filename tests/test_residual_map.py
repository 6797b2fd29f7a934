"""Laws of residual maps: linear, transposable, in solution units; which experts may take which."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.decomposition import Disjoint, Joint, Overlapping
from pihc_zoo.discretisation import Field
from pihc_zoo.residual_map import InverseLinearised, QuadratureWeights


@pytest.fixture
def random(operator):
    generator = torch.Generator().manual_seed(9)
    return lambda *lead, shape=operator.grid.shape: torch.randn(*lead, *shape, dtype=torch.float64, generator=generator)


@pytest.fixture(params=[QuadratureWeights, InverseLinearised])
def residual_map(request, operator):
    return request.param(operator)


DECOMPOSITIONS = [None, Disjoint({"x": 2}), Overlapping({"x": 2}, overlap=3)]


@pytest.mark.parametrize("decomposition", DECOMPOSITIONS, ids=repr)
def test_transpose_is_the_adjoint(residual_map, problem, operator, random, decomposition):
    windows = None if decomposition is None else decomposition.subdomains(operator.grid)
    count, shape = (2, operator.grid.shape) if windows is None else (2 * windows.num_subdomains, windows.local_shape)
    rows = residual_map(problem.as_tensors({}), 2, windows)
    x, y = random(count, 3, shape=shape), random(count, 3, shape=shape)
    left, right = (rows.apply(x) * y).flatten(2).sum(2), (x * rows.transpose(y)).flatten(2).sum(2)
    assert_close(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["quadrature_weights", "inverse_linearised"])
@pytest.mark.parametrize("dealiasing", [1.0, 1.5])
def test_transpose_is_the_adjoint_on_periodic_axes(tiny_rollout, name, dealiasing):
    """Also where rows begin with the Galerkin projection from more collocation points than nodes."""
    model = tiny_rollout(dealiasing=dealiasing, residual_map={"name": name})
    grid, c = model.constraint.grid, model.tensors({"nu": torch.tensor([1e-4, 1e-2])})
    rows = model.constraint.residual_map(c, 2)
    assert (rows.projection is None) == (dealiasing == 1) == (grid.shape == grid.collocation_shape)
    generator = torch.Generator().manual_seed(9)
    x, y = (
        torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator)
        for shape in (grid.collocation_shape, grid.shape)
    )
    left, right = (rows.apply(x) * y).flatten(2).sum(2), (x * rows.transpose(y)).flatten(2).sum(2)
    assert rows.apply(x).shape == y.shape and rows.transpose(y).shape == x.shape
    assert_close(left, right, rtol=1e-10, atol=1e-12)
    one = rows.take(torch.tensor([1]))
    assert_close(one.apply(x[1:]), rows.apply(x)[1:], rtol=0, atol=1e-14)


def test_the_galerkin_projection_keeps_what_the_nodes_carry(tiny_rollout):
    """Fields of the grid, read at collocation points, come back; the projection is orthogonal."""
    operator = tiny_rollout(dealiasing=1.5).constraint.discretisation
    features, projection = operator.space, operator.projection
    modes = torch.randn(2, *features.squares.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert_close(projection.apply(features.at_collocation(modes)), features.to_nodes(modes), rtol=0, atol=1e-12)
    noise = torch.randn(24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    removed = noise - features.at_collocation(features.project(noise))
    assert abs((removed * features.at_collocation(modes[0])).mean()) < 1e-13


def test_maps_are_linear(residual_map, problem, random):
    rows = residual_map(problem.as_tensors({}), 2)
    x, y = random(2, 3), random(2, 3)
    combined = 0.3 * rows.apply(x) - 2 * rows.apply(y)
    assert_close(rows.apply(0.3 * x - 2 * y), combined, rtol=1e-9, atol=1e-12)


def test_weights_make_the_rows_norm_a_root_mean_square(operator, problem):
    """With the time factor taken out, a residual of constant size has rows of that norm."""
    rows = QuadratureWeights(operator)(problem.as_tensors({}), 1)
    constant = torch.full((1, 1, *operator.grid.shape), 3.0, dtype=torch.float64) / rows.scale
    assert_close(rows.apply(constant).norm(), torch.tensor(3.0, dtype=torch.float64), rtol=1e-12, atol=0)


def test_inverse_rows_are_in_solution_units(operator, problem, random):
    """A⁻¹ of the linearised residual of a correction is the correction: rows = W u."""
    c = problem.as_tensors({})
    u = random(1, 2)
    homogeneous = operator.walls(c).homogeneous()
    features, names = operator(Field(u, homogeneous)), list(problem.features)
    residual = sum(a * features[:, :, names.index(name)] for name, a in problem.linearised(c).items())
    rows = InverseLinearised(operator)(c, 1)
    assert_close(rows.apply(residual), u * rows.weights, rtol=1e-7, atol=1e-9)


def test_pointwise_maps_do_not_mix_points(operator, problem):
    rows = QuadratureWeights(operator)(problem.as_tensors({}), 1)
    impulse = torch.zeros(1, 1, *operator.grid.shape, dtype=torch.float64)
    impulse[0, 0, 3, 5] = 1
    assert rows.apply(impulse).nonzero().tolist() == [[0, 0, 3, 5]]


def test_on_windows_pointwise_maps_are_the_windows_of_the_map(operator, problem, random):
    c, windows = problem.as_tensors({}), Overlapping({"x": 2}, overlap=3).subdomains(operator.grid)
    field = random(3, 1)
    whole = QuadratureWeights(operator)(c, 3).apply(field)
    local = QuadratureWeights(operator)(c, 3, windows).apply(windows.take(field))
    assert_close(local, windows.take(whole), rtol=1e-14, atol=0)


def test_experts_split_in_time_need_a_pointwise_map(operator, problem):
    """A⁻¹ in time would need the inflow of each window."""
    c, windows = problem.as_tensors({}), Disjoint({"t": 2}).subdomains(operator.grid)
    with pytest.raises(ValueError, match="take a pointwise residual map: quadrature_weights"):
        InverseLinearised(operator)(c, 1, windows)
    QuadratureWeights(operator)(c, 1, windows)  # is fine


def test_joint_experts_take_any_map(tiny_model, fields):
    model = tiny_model(decomposition={"name": "joint", "counts": {"t": 2, "x": 2}})
    assert isinstance(model.constraint.decomposition, Joint)
    assert model.predict(fields(1), max_steps=30).converged.all()


@pytest.mark.parametrize("name", ["disjoint", "overlapping"])
def test_independent_experts_on_periodic_axes_take_pointwise_rows_at_the_nodes(tiny_rollout, name, vorticity):
    """A⁻¹ would need each window's flow from outside; dealiased rows see all points."""
    split = {"name": name, "counts": {"x": 2}} | ({"overlap": 2} if name == "overlapping" else {})
    for settings, message in (
        ({"residual_map": {"name": "inverse_linearised"}}, "take a pointwise residual map: quadrature_weights"),
        ({"dealiasing": 1.5}, "set the axes' dealiasing to 1, or use joint experts"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_rollout(decomposition=split, **settings).predict(vorticity(1))
