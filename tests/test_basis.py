"""Laws of separable bases: whatever least squares asks of them is what it gets from the dense form."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.basis import SeparableBasis
from pihc_zoo.decomposition import Disjoint, Joint
from pihc_zoo.discretisation import Walls
from pihc_zoo.objective import CollocationObjective
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt

BATCH = 2
EXACT = LevenbergMarquardt(max_steps=60, rtol=1e-12, atol=1e-15)


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(11)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.fixture(params=[1.0, 1.5], ids=["nodes", "dealiased"])
def setting(request, tiny_rollout, vorticity):
    """A roll-out model in float64, the conditions of two trajectories and their separable basis."""
    model = tiny_rollout(dealiasing=request.param).with_network_dtype(torch.float64)
    with torch.no_grad():
        conditions = model.constraint.conditions(torch.as_tensor(vorticity(BATCH, 16)), model.tensors({}))
        return model, conditions, model.basis(conditions)


@pytest.fixture
def features(setting):
    """The same features, separable and dense."""
    model, _, basis = setting
    operator = model.constraint.discretisation
    return tuple(own.features(operator, Walls()) for own in (basis, basis.dense()))


def close(a, b):
    assert_close(a, b, rtol=0, atol=1e-12 * float(b.detach().abs().max()))


def test_the_ansatz_of_a_roll_out_is_separable(setting):
    model, _, basis = setting
    count, times = model.network.num_basis, len(model.constraint.grid.time.nodes)
    assert isinstance(basis, SeparableBasis)
    assert basis.tensor.shape == (BATCH, count, 16, 16) and basis.time.shape == basis.rate.shape == (count, times)
    assert basis.tensor.flatten(2).mean(dim=2).abs().max() < 1e-15


def test_combinations_are_those_of_the_dense_basis(setting, random):
    _, _, basis = setting
    w = random(BATCH, basis.tensor.shape[1])
    close(basis.combined(w), basis.dense().combined(w))
    close(basis.combined(w), (w[..., None, None, None] * basis.dense().tensor).sum(dim=1))


def test_features_are_those_of_the_dense_basis(features):
    separable, dense = features
    assert separable.num_basis == dense.num_basis
    for j in range(dense.tensor.shape[2]):
        close(separable.dense()[:, :, j], dense.dense()[:, :, j])


def test_combined_features_are_those_of_the_dense_features(features, random):
    separable, dense = features
    close(separable.combine(w := random(*dense.tensor.shape[:2])), dense.combine(w))


def test_some_subproblems_are_those_of_all(features, random):
    rows = torch.tensor([1])
    for own in features:
        w = random(BATCH, own.num_basis)
        close(own.take(rows).combine(w[rows]), own.combine(w)[rows])
        assert_close(own.take(rows).dense(), own.dense()[rows], rtol=0, atol=0)


@pytest.fixture(params=[1e-3, [1e-4, 1e-2]], ids=["one-nu", "own-nu"])
def objectives(request, setting, features):
    """The least-squares objective on separable and on dense features; some partials are numbers, some are fields."""
    model, conditions, _ = setting
    constraint, c = model.constraint, model.tensors({"nu": torch.tensor(request.param)})
    row_map = constraint.residual_map(c, BATCH)
    return [
        CollocationObjective(constraint.residual(c), conditions.lift_features, own, row_map, 1e-3) for own in features
    ]


def test_costs_gradients_and_matrices_are_those_of_the_dense_objective(objectives, random):
    w, direction = 0.3 * random(2, BATCH, objectives[0].basis.num_basis)
    for a, b in zip(*(objective.evaluate(w) for objective in objectives), strict=True):
        close(a, b)
    for name in ("rows", "cost", "normal_matrix", "hessian"):
        close(*(getattr(objective, name)(w) for objective in objectives))
    close(*(objective.directional(w, direction) for objective in objectives))


def test_gradients_are_those_of_the_cost_and_normal_matrices_those_of_the_rows(objectives, random):
    """Tangents and pulls of either form against automatic differentiation."""
    w = 0.3 * random(BATCH, objectives[0].basis.num_basis)
    for objective in objectives:
        tracked = w.clone().requires_grad_()
        (expected,) = torch.autograd.grad(objective.cost(tracked).sum(), tracked)
        close(objective.evaluate(w)[1], expected)
        jacobian = torch.autograd.functional.jacobian(lambda w, own=objective: own.rows(w).flatten(1), w)
        expected = torch.stack([jacobian[i, :, i].T @ jacobian[i, :, i] for i in range(BATCH)])
        close(objective.normal_matrix(w), expected + 1e-3 * torch.eye(w.shape[1], dtype=w.dtype))


def test_objectives_of_some_subproblems_are_those_of_all(objectives, random):
    w, rows = 0.3 * random(BATCH, objectives[0].basis.num_basis), torch.tensor([1])
    for objective in objectives:
        own = objective.take(rows)
        for part, whole in zip(own.evaluate(w[rows]), objective.evaluate(w), strict=True):
            close(part, whole[rows])
        close(own.normal_matrix(w[rows]), objective.normal_matrix(w)[rows])


@pytest.mark.parametrize("experts", [Joint(), Joint({"x": 2, "y": 2})], ids=repr)
def test_solutions_and_their_gradients_are_those_of_the_dense_basis(setting, experts):
    model, conditions, basis = setting
    target = torch.linspace(-1, 1, 16, dtype=torch.float64)
    results = []
    for is_dense in (False, True):
        space = basis.tensor.clone().requires_grad_()
        own = SeparableBasis(space, basis.time, basis.rate)
        field = model.constraint(own.dense() if is_dense else own, conditions, experts, EXACT)
        loss = (field.u - target).square().mean() + field.cost.sum()
        (gradient,) = torch.autograd.grad(loss, space)
        results.append((field.u.detach(), field.coefficients.detach(), field.cost.detach(), gradient))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-10 * float(theirs.abs().max()))


def test_the_envelope_gradient_is_that_of_the_dense_basis(setting):
    model, conditions, basis = setting
    gradients = []
    for is_dense in (False, True):
        space = basis.tensor.clone().requires_grad_()
        own = SeparableBasis(space, basis.time, basis.rate)
        field = model.constraint(own.dense() if is_dense else own, conditions, gradient="envelope")
        gradients.append(torch.autograd.grad(field.cost.log().sum(), space)[0])
    assert_close(*gradients, rtol=0, atol=1e-9 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("split", [Joint({"x": 2, "y": 2}), Disjoint({"y": 4})], ids=repr)
def test_windowed_functions_sum_to_the_whole_and_are_the_windowed_dense_ones(setting, random, split):
    model, _, basis = setting
    psi = model.constraint.partition(split)
    windowed = basis.windowed(psi)
    assert isinstance(windowed, SeparableBasis)
    close(windowed.dense().tensor, (basis.dense().tensor[:, None] * psi[:, None]).flatten(1, 2))
    w = random(BATCH, basis.tensor.shape[1])
    close(windowed.combined(w.repeat(1, split.num_experts)), basis.combined(w))


def test_detaching_stops_gradients(setting):
    _, _, basis = setting
    tracked = SeparableBasis(basis.tensor.clone().requires_grad_(), basis.time, basis.rate)
    assert tracked.tensor.requires_grad and not tracked.detach().tensor.requires_grad
