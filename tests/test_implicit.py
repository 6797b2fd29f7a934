"""Laws of derivatives: the collocation objective, the implicit adjoint, the envelope theorem."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.basis import DenseBasis
from pihc_zoo.decomposition import Disjoint
from pihc_zoo.discretisation.diagonalised import Inverse, TimeBlocks
from pihc_zoo.objective import CollocationObjective, curvatures, pointwise_partials
from pihc_zoo.residual_map import RowMap
from pihc_zoo.solvers.implicit import implicit_coefficients
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.status import Status

SUBPROBLEMS, BASIS, TIMES, POINTS = 2, 3, 4, 5
EXACT = LevenbergMarquardt(max_steps=60, rtol=1e-13, atol=1e-14)


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.fixture(params=["pointwise", "inverse"])
def row_map(request, random):
    scale, weights = 1 + 0.3 * random(TIMES, POINTS).abs(), 1 + 0.3 * random(TIMES, POINTS).abs()
    if request.param == "pointwise":
        return RowMap(scale, weights)
    half = TIMES // 2
    blocks = torch.eye(half, dtype=torch.float64) + 0.2 * random(SUBPROBLEMS, POINTS, 2, half, half)
    inflow = 0.5 * random(SUBPROBLEMS, POINTS, 2, half)
    time = TimeBlocks(blocks.movedim(1, -1), inflow.movedim(1, -1))
    vectors = torch.eye(POINTS, dtype=torch.float64) + 0.2 * random(POINTS, POINTS)
    return RowMap(scale, weights, Inverse(time, vectors[None], torch.linalg.inv(vectors)[None]))


@pytest.fixture
def tensors(random):
    """Lift features, basis features and a parameter; far from solvable, so that curvature counts."""
    lift = 0.4 * random(SUBPROBLEMS, 3, TIMES, POINTS)
    basis = random(SUBPROBLEMS, BASIS, 3, TIMES, POINTS)
    return lift, basis, torch.tensor(0.7, dtype=torch.float64)


@pytest.fixture
def build(row_map):
    def make(lift, basis, parameter):
        def residual(f):
            return (1 + 0.3 * f[:, 0] ** 2) * f[:, 1] - parameter * f[:, 2] + 0.2 * torch.sin(f[:, 0])

        residual.take = lambda rows: residual  # the same for every subproblem
        return CollocationObjective(residual, lift, basis, row_map, ridge=0.1)

    return make


def test_pointwise_partials_are_those_of_the_residual(random):
    f = random(2, 2, 3)
    value, first = pointwise_partials(lambda f: f[:, 0] ** 3 * f[:, 1], f)
    weights = random(2, 3)
    second = curvatures(lambda f: [f[:, 0] ** 3 * f[:, 1]], f, [weights])
    a, b = f[:, 0], f[:, 1]
    assert_close(value, a**3 * b)
    assert_close(first, torch.stack([3 * a**2 * b, a**3], dim=1))
    mixed = 3 * a**2
    rows = [torch.stack([6 * a * b, mixed], 1), torch.stack([mixed, torch.zeros_like(a)], 1)]
    assert_close(second, torch.stack(rows, dim=1) * weights[:, None, None])


def test_a_linear_residual_has_no_curvature(random):
    f = random(2, 2, 3)
    _, first = pointwise_partials(lambda f: 2 * f[:, 0] - f[:, 1], f)
    second = curvatures(lambda f: [2 * f[:, 0] - f[:, 1]], f, [random(2, 3)])
    assert_close(first[:, 0], torch.full((2, 3), 2.0, dtype=torch.float64))
    assert not second.any()


def test_evaluate_is_the_cost_and_its_gradient(build, tensors, random):
    objective, w = build(*tensors), random(SUBPROBLEMS, BASIS).requires_grad_()
    cost, gradient = objective.evaluate(w.detach())
    assert_close(cost, objective.cost(w).detach(), rtol=1e-13, atol=0)
    (expected,) = torch.autograd.grad(objective.cost(w).sum(), w)
    assert_close(gradient, expected, rtol=1e-11, atol=1e-12)


def test_the_normal_matrix_is_that_of_the_rows_jacobian(build, tensors, random):
    objective, w = build(*tensors), random(SUBPROBLEMS, BASIS)
    jacobian = torch.autograd.functional.jacobian(lambda w: objective.rows(w).flatten(1), w)
    expected = torch.stack([jacobian[i, :, i].T @ jacobian[i, :, i] for i in range(SUBPROBLEMS)])
    expected = expected + 0.1 * torch.eye(BASIS, dtype=torch.float64)
    assert_close(objective.normal_matrix(w), expected, rtol=1e-11, atol=1e-12)


def test_the_hessian_is_that_of_the_cost(build, tensors, random):
    objective, w = build(*tensors), random(SUBPROBLEMS, BASIS)
    full = torch.autograd.functional.hessian(lambda w: objective.cost(w).sum(), w)
    expected = torch.stack([full[i, :, i] for i in range(SUBPROBLEMS)])
    assert_close(objective.hessian(w), expected, rtol=1e-10, atol=1e-11)
    assert (objective.hessian(w) - objective.normal_matrix(w)).abs().max() > 0.1  # Gauss–Newton it is not


def test_the_directional_derivative_and_its_gradients(build, tensors, random):
    """directionᵀ∇Φ, and its derivative in every tensor, equal those of nested autograd."""
    w, direction = random(SUBPROBLEMS, BASIS), random(SUBPROBLEMS, BASIS)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    objective = build(*leaves)
    found = objective.directional(w, direction)
    tracked = w.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.cost(tracked).sum(), tracked, create_graph=True)
    expected = (gradient * direction).sum(dim=1)
    assert_close(found, expected, rtol=1e-11, atol=1e-12)
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-11)


def solved(build, tensors):
    solution = EXACT.solve(build(*tensors), torch.zeros(SUBPROBLEMS, BASIS, dtype=torch.float64))
    assert (solution.status == Status.CONVERGED).all()
    return solution.coefficients


def loss_of(w):
    return (torch.sin(w) * torch.arange(1.0, BASIS + 1, dtype=torch.float64)).sum()


def implicit_gradients(build, tensors, loss=loss_of, is_solved=None):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    w = solved(build, tensors)
    is_solved = torch.ones(SUBPROBLEMS, dtype=torch.bool) if is_solved is None else is_solved
    return torch.autograd.grad(loss(implicit_coefficients(build, w, tuple(leaves), is_solved)), leaves)


def test_the_implicit_gradient_equals_finite_differences(build, tensors, random):
    """Along a random direction of every upstream tensor."""
    gradients = implicit_gradients(build, tensors)
    for i, gradient in enumerate(gradients):
        direction, h = random(*tensors[i].shape), 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(tensors)
            moved[i] = tensors[i] + sign * h * direction
            ends.append(loss_of(solved(build, moved)))
        assert_close((gradient * direction).sum(), (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-8)


def test_the_implicit_gradient_equals_that_of_unrolled_gauss_newton_steps(build, tensors):
    """w ← w − (JᵀJ + λI)⁻¹ ∇Φ, fifty times, differentiated through."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    objective = build(*leaves)
    w = solved(build, tensors)
    for _ in range(50):
        rows = objective.rows(w).flatten(1)
        full = torch.autograd.functional.jacobian(lambda w: objective.rows(w).flatten(1), w, create_graph=True)
        jacobian = torch.stack([full[i, :, i] for i in range(SUBPROBLEMS)])
        normal = jacobian.transpose(1, 2) @ jacobian + 0.1 * torch.eye(BASIS, dtype=torch.float64)
        gradient = (jacobian.transpose(1, 2) @ rows[..., None])[..., 0] + 0.1 * w
        w = w - torch.linalg.solve(normal, gradient)
    unrolled = torch.autograd.grad(loss_of(w), leaves)
    for found, expected in zip(implicit_gradients(build, tensors), unrolled, strict=True):
        assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_no_gradient_passes_an_unsolved_subproblem(build, tensors):
    partial = implicit_gradients(build, tensors, is_solved=torch.tensor([True, False]))
    whole = implicit_gradients(build, tensors)
    assert not partial[1][1].any()
    assert_close(partial[1][0], whole[1][0], rtol=1e-12, atol=0)


# ------------------------------------------------------------------ through the hard constraint


@pytest.fixture(params=["joint", "disjoint", "overlapping"])
def constrained(request, tiny_model, fields):
    """The tiny constraint as a function of the basis functions alone, solved to rounding."""
    settings = {"name": request.param, "counts": {"x": 2}}
    if request.param == "overlapping":
        settings["overlap"] = 2
    solver = {"max_steps": 40, "rtol": 1e-11, "atol": 0.0}
    model = tiny_model(decomposition=settings, solver=solver).with_network_dtype(torch.float64)
    constraint = model.constraint
    u0 = model.at_nodes(torch.as_tensor(fields(2)), {"x": model.problem.output_space["x"].nodes})
    conditions = constraint.conditions(u0, model.tensors({}))
    start = model.basis(conditions).tensor.detach()

    def solve(basis, gradient="implicit"):
        field = constraint(DenseBasis(basis), conditions, gradient=gradient)
        assert (field.solution.status == Status.CONVERGED).all()
        return field

    return solve, start


def gradient_along(solve, start, loss, direction, kind):
    basis = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(solve(basis, kind)), basis)
    return (gradient * direction).sum()


def difference_along(solve, start, loss, direction, h=1e-3):
    """Fourth-order central difference."""
    with torch.no_grad():
        one, two = ((loss(solve(start + k * h * direction)) - loss(solve(start - k * h * direction))) for k in (1, 2))
    return (8 * one - two) / (12 * h)


def test_for_the_objective_itself_detached_coefficients_suffice(constrained, random):
    """Envelope theorem: envelope = implicit = finite difference."""
    solve, start = constrained
    direction = start.abs().mean() * random(*start.shape)

    def loss(field):
        return torch.log(2 * field.cost).sum()

    envelope = gradient_along(solve, start, loss, direction, "envelope")
    implicit = gradient_along(solve, start, loss, direction, "implicit")
    assert_close(envelope, implicit, rtol=1e-6, atol=0)
    assert_close(envelope, difference_along(solve, start, loss, direction), rtol=1e-5, atol=0)


def test_for_another_loss_only_the_implicit_gradient_is_right(constrained, random):
    solve, start = constrained
    direction = start.abs().mean() * random(*start.shape)
    target = random(1)

    def loss(field):
        return (field.u - 0.1 * target).square().sum() + field.coefficients.square().sum()

    expected = difference_along(solve, start, loss, direction)
    assert_close(gradient_along(solve, start, loss, direction, "implicit"), expected, rtol=1e-5, atol=0)
    detached = gradient_along(solve, start, loss, direction, "envelope")
    assert (detached - expected).abs() > 0.1 * expected.abs()


def test_unknown_gradients_are_refused(constrained):
    solve, start = constrained
    with pytest.raises(ValueError, match="'implicit' or 'envelope', not 'unrolled'"):
        solve(start, "unrolled")


# ------------------------------------------------------------------ higher derivatives


def test_higher_implicit_derivatives_are_those_of_unrolled_steps(build, tensors, random):
    """Gradient, Hessian and third derivative along a direction of all tensors, against twelve unrolled Newton steps."""
    directions = [random(*tensor.shape) for tensor in tensors]
    w = solved(build, tensors)

    def moved(s):
        return tuple(tensor + s * direction for tensor, direction in zip(tensors, directions, strict=True))

    def implicit(s):
        return loss_of(implicit_coefficients(build, w, moved(s), torch.ones(SUBPROBLEMS, dtype=torch.bool)))

    def unrolled(s):
        objective, found = build(*moved(s)), w
        hessian = build(*tensors).hessian(w)
        for _ in range(12):  # each chord step makes one more derivative exact
            rows = objective.rows(found).flatten(1)
            full = torch.autograd.functional.jacobian(lambda w: objective.rows(w).flatten(1), found, create_graph=True)
            jacobian = torch.stack([full[i, :, i] for i in range(SUBPROBLEMS)])
            gradient = (jacobian.transpose(1, 2) @ rows[..., None])[..., 0] + 0.1 * found
            found = found - torch.linalg.solve(hessian, gradient)
        return loss_of(found)

    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    values = [implicit(s), unrolled(s)]
    for order in (1, 2, 3):
        values = [torch.autograd.grad(value, s, create_graph=True)[0] for value in values]
        assert_close(*values, rtol=1e-6, atol=1e-8, msg=lambda text, order=order: f"order {order}: {text}")


def test_second_derivatives_through_the_constraint_are_differences_of_gradients(constrained, random):
    solve, start = constrained
    direction, target = start.abs().mean() * random(*start.shape), random(1)

    def loss(basis):
        field = solve(basis)
        return (field.u - 0.1 * target).square().sum() + field.coefficients.square().sum() + field.cost.sum()

    def slope(s, **options):
        basis = start + s * direction
        basis = basis if basis.requires_grad else basis.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(basis), basis, **options)
        return (gradient * direction).sum()

    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (second,) = torch.autograd.grad(slope(s, create_graph=True), s)
    h = 1e-3
    one, two = (float(slope(k * h) - slope(-k * h)) for k in (1, 2))
    assert_close(second.item(), (8 * one - two) / (12 * h), rtol=1e-5, atol=0)


def test_envelope_gradients_refuse_to_be_differentiated(constrained):
    solve, start = constrained
    basis = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(solve(basis, "envelope").cost.sum(), basis)
    assert torch.isfinite(gradient).all()
    with pytest.raises(ValueError, match='choose gradient="implicit"'):
        torch.autograd.grad(solve(basis, "envelope").cost.sum(), basis, create_graph=True)


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_derivatives_pass_all_sweeps_of_independent_experts(tiny_rollout, vorticity, random, sweeps):
    model = tiny_rollout(solver={"max_steps": 60, "rtol": 1e-11, "atol": 0.0}).with_network_dtype(torch.float64)
    u0, direction = torch.as_tensor(vorticity(1, 16)), random(1, 16, 16)
    direction, c, experts = direction - direction.mean(), model.tensors({}), Disjoint({"x": 2}, sweeps=sweeps)

    def loss(s):
        field = model.constrained(u0 + s * direction, c, decomposition=experts)
        assert (field.solution.status == Status.CONVERGED).all()
        return field.u.square().mean()

    def slope(value):
        s = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(loss(s), s)[0].item()

    s, h = torch.zeros((), dtype=torch.float64, requires_grad=True), 1e-5
    (first,) = torch.autograd.grad(loss(s), s, create_graph=True)
    (second,) = torch.autograd.grad(first, s)
    assert_close(first.item(), (loss(h) - loss(-h)).item() / (2 * h), rtol=1e-6, atol=0)
    assert_close(second.item(), (slope(h) - slope(-h)) / (2 * h), rtol=1e-5, atol=0)
