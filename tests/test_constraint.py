"""Laws of the ansatz and of the hard constraint as a whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.basis import DenseBasis
from pihc_zoo.decomposition import Disjoint, Joint, Overlapping
from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.status import Status

EXPERTS = [
    Joint({"x": 1}),
    Joint({"x": 4}),
    Joint({"t": 2, "x": 2}),
    Disjoint({"x": 4}),
    Overlapping({"x": 2}, overlap=2),
]


@pytest.fixture
def setting(tiny_model, fields):
    """A tiny model, conditions of three trajectories and their basis functions, in float64."""

    def make(parameters=None, **changes):
        model = tiny_model(**changes).with_network_dtype(torch.float64)
        u0 = model.at_nodes(torch.as_tensor(fields(3)), {"x": model.problem.output_space["x"].nodes})
        conditions = model.constraint.conditions(u0, model.tensors(parameters))
        with torch.no_grad():
            return model, conditions, model.basis(conditions)

    return make


def test_the_lift_solves_the_linearised_problem_with_all_conditions(setting):
    model, conditions, _ = setting({"D": torch.tensor([2e-4, 5e-4, 1e-3])})
    names = list(model.problem.features)
    residual = sum(
        a.reshape(-1, 1, 1) * conditions.lift_features[:, names.index(name)]
        for name, a in model.problem.linearised(conditions.c).items()
    )
    scale = conditions.lift_features[:, names.index("u_t")].abs().max()
    # A keeps the wall operator of the default D, the second one here: exact there only
    assert residual[1].abs().max() < 1e-9 * scale < residual[0].abs().max()


def test_basis_functions_vanish_where_conditions_hold(setting):
    """The mollifier lies in [0, 1), grows with time from zero, and falls towards the walls."""
    model, conditions, basis = setting()
    m = model.constraint.ansatz.mollifier(conditions.c)[0]
    assert m.min() >= 0 and m.max() < 1
    middle = m.shape[1] // 2
    assert (m[:, 0] < m[:, middle]).all() and (m[:, -1] < m[:, middle]).all()
    assert basis.tensor.dtype == torch.float64 and basis.tensor.shape[1] == model.network.num_basis


def test_network_inputs_are_of_order_one_and_as_many_as_declared(setting):
    model, conditions, _ = setting(problem={"inputs": ["D", "phi", "n_f"]})
    inputs = model.constraint.inputs(conditions)
    assert inputs.shape == (3, model.constraint.ansatz.num_inputs, *model.constraint.grid.shape)
    assert torch.isfinite(inputs).all() and inputs.abs().max() < 20


@pytest.mark.parametrize("experts", EXPERTS, ids=repr)
def test_a_batch_equals_a_loop(setting, experts):
    model, conditions, basis = setting()
    constraint, solver = model.constraint, LevenbergMarquardt(max_steps=30, rtol=1e-8)
    together = constraint(basis, conditions, experts, solver)
    for i in range(3):
        own = model.constraint.conditions(conditions.u0[i : i + 1], conditions.c)
        alone = constraint(DenseBasis(basis.tensor[i : i + 1]), own, experts, solver)
        assert_close(alone.u[0], together.u[i], rtol=0, atol=1e-10)
        assert_close(alone.cost[0], together.cost[i], rtol=1e-8, atol=1e-16)


@pytest.mark.parametrize("experts", EXPERTS, ids=repr)
def test_shapes_and_statuses_are_per_subproblem(setting, experts):
    model, conditions, basis = setting()
    field = model.constraint(basis, conditions, experts, LevenbergMarquardt(max_steps=40))
    subproblems = 1 if experts.is_joint else experts.num_experts
    coefficients = 2 * experts.num_experts // subproblems
    assert field.u.shape == (3, *model.constraint.grid.shape)
    assert field.coefficients.shape == (3, subproblems, coefficients)
    assert field.cost.shape == (3, subproblems)
    assert field.solution.status.shape == (3 * subproblems,)
    assert (field.solution.status == Status.CONVERGED).all()


def test_more_joint_experts_fit_no_worse(setting):
    """Windows of K = 4 sum to those of K = 1: a larger space, a smaller least-squares objective."""
    model, conditions, basis = setting()
    solver = LevenbergMarquardt(max_steps=60, rtol=1e-8)
    one, four = (model.constraint(basis, conditions, Joint({"x": k}), solver).cost for k in (1, 4))
    assert (four <= one * (1 + 1e-9)).all() and (four < 0.9 * one).any()


def test_disjoint_experts_minimise_their_own_rows(setting):
    """With a pointwise map each expert's solve is that of the domain cut to its nodes."""
    model, conditions, basis = setting(residual_map={"name": "quadrature_weights"})
    experts, solver = Disjoint({"x": 4}), LevenbergMarquardt(max_steps=60, rtol=1e-9)
    best = model.constraint(basis, conditions, experts, solver)
    joint = model.constraint(basis, conditions, Disjoint({"x": 1}), solver)
    w_joint = joint.coefficients.expand(-1, 4, -1)
    windows = experts.subdomains(model.constraint.grid)
    rows = windows.take(model.constraint.rows(joint.u, conditions)).unflatten(0, (3, 4))
    ridge = model.constraint.ridge
    shared = 0.5 * rows.flatten(2).square().sum(dim=2) + 0.5 * ridge * w_joint.square().sum(dim=2)
    assert (best.cost <= shared * (1 + 1e-9)).all()
    assert_close(shared.sum(dim=1), joint.cost[:, 0], rtol=1e-6, atol=1e-18)


def test_the_constraint_lowers_the_residual_of_the_lift(setting):
    model, conditions, basis = setting()
    solved = model.constraint(basis, conditions, solver=LevenbergMarquardt(max_steps=30))
    lift = model.constraint.rows(conditions.lift.u, conditions).flatten(1).norm(dim=1)
    rows = model.constraint.rows(solved.u, conditions).flatten(1).norm(dim=1)
    assert (rows < lift).all()
    assert_close(0.5 * rows.square(), solved.cost[:, 0], rtol=1e-3, atol=1e-12)


def test_the_first_correction_as_only_basis_is_one_picard_step(setting):
    """w = 1 gives u_L − A⁻¹ρ(u_L), whose rows are smaller than the lift's."""
    model, conditions, basis = setting(
        ansatz={"num_corrections": 1},
        network={"num_basis": 1},
        solver={"max_steps": 0, "initial_coefficient": 1.0},
        decomposition={"counts": {"x": 1}},
    )
    assert basis.tensor.shape[1] == 2
    field = model.constraint(DenseBasis(basis.tensor * torch.tensor([1.0, 0.0])[:, None, None]), conditions)
    assert_close(field.u, conditions.lift.u + conditions.corrections[:, 0], rtol=0, atol=1e-14)
    rows, lift = (model.constraint.rows(u, conditions).flatten(1).norm(dim=1) for u in (field.u, conditions.lift.u))
    assert_close(lift, (conditions.corrections[:, 0] * model.constraint.residual_map.weights).flatten(1).norm(dim=1))
    assert (rows < 0.5 * lift).all()
    assert (field.solution.status == Status.NOT_SOLVED).all()


def test_further_corrections_are_krylov_directions(setting):
    """z₂ = A⁻¹ J z₁ − z₁, with J the derivative of the residual at the lift, by central differences."""
    model, conditions, basis = setting(ansatz={"num_corrections": 2})
    constraint = model.constraint
    assert basis.tensor.shape[1] == 2 + model.network.num_basis
    first, second = conditions.corrections.unbind(dim=1)
    h = 1e-3
    ends = [constraint.rows(conditions.lift.u + sign * h * first, conditions) for sign in (1, -1)]
    image = (ends[0] - ends[1]) / (2 * h) / constraint.residual_map.weights  # A⁻¹ J z₁
    assert_close(second, image - first, rtol=1e-4, atol=1e-6 * float(first.abs().max()))
    assert second.abs().max() < first.abs().max()


def test_without_steps_the_coefficients_are_the_initial_ones(setting):
    model, conditions, basis = setting(solver={"max_steps": 0, "initial_coefficient": 1.0})
    field = model.constraint(basis, conditions)
    assert (field.coefficients == 1).all()
    assert_close(field.u, conditions.lift.u + basis.tensor.sum(dim=1), rtol=0, atol=1e-14)


def test_the_solver_passed_overrides_the_default_only_for_the_call(setting):
    model, conditions, basis = setting()
    before = model.constraint.solver
    model.constraint(basis, conditions, solver=dataclasses.replace(before, max_steps=0))
    assert model.constraint.solver == before
    assert (model.constraint(basis, conditions).solution.iterations > 0).all()


# ------------------------------------------------------------------ on periodic axes


PERIODIC_EXPERTS = [Joint(), Joint({"x": 2, "y": 2}), Joint({"t": 2}), Disjoint({"x": 4}), Overlapping({"y": 2}, 2)]


@pytest.fixture
def window(tiny_rollout, vorticity):
    """A tiny roll-out, the conditions of a window of three trajectories and their basis functions, in float64."""

    def make(**changes):
        model = tiny_rollout(**changes).with_network_dtype(torch.float64)
        with torch.no_grad():
            conditions = model.constraint.conditions(torch.as_tensor(vorticity(3, 16)), model.tensors({}))
            return model, conditions, model.basis(conditions)

    return make


@pytest.mark.parametrize("experts", PERIODIC_EXPERTS, ids=repr)
def test_windows_of_a_roll_out_have_the_shapes_and_statuses_of_their_experts(window, experts):
    model, conditions, basis = window()
    field = model.constraint(basis, conditions, experts, LevenbergMarquardt(max_steps=40))
    subproblems = 1 if experts.is_joint else experts.num_experts
    assert field.u.shape == (3, *model.constraint.grid.shape)
    assert field.coefficients.shape == (3, subproblems, 3 * experts.num_experts // subproblems)
    assert field.cost.shape == (3, subproblems) and (field.solution.status == Status.CONVERGED).all()
    assert (field.rows is None) == (not experts.is_joint)


@pytest.mark.parametrize("experts", PERIODIC_EXPERTS[:3], ids=repr)
@pytest.mark.parametrize("dealiasing", [1.0, 1.5])
def test_rows_reported_are_those_of_the_field(window, experts, dealiasing):
    model, conditions, basis = window(dealiasing=dealiasing)
    field = model.constraint(basis, conditions, experts, LevenbergMarquardt(max_steps=40))
    rows = model.constraint.rows(field.u, conditions)
    assert_close(field.rows, rows, rtol=0, atol=1e-10 * float(rows.abs().max()))


@pytest.mark.parametrize("experts", PERIODIC_EXPERTS, ids=repr)
def test_on_periodic_axes_no_place_is_special(window, experts):
    """Initial values shifted by a whole subdomain give the shifted solution."""
    model, conditions, _ = window()
    solver = LevenbergMarquardt(max_steps=60, rtol=1e-9)
    ends = []
    for shift in (0, 8):
        u0 = conditions.u0.roll((shift, shift), (-2, -1))
        with torch.no_grad():
            own = model.constraint.conditions(u0, model.tensors({}))
            ends.append(model.constraint(model.basis(own), own, experts, solver).u)
    assert_close(ends[1], ends[0].roll((8, 8), (-2, -1)), rtol=0, atol=2e-6 * float(ends[0].abs().max()))


@pytest.mark.parametrize("experts", [Disjoint({"x": 2}), Overlapping({"y": 2}, 2)], ids=repr)
def test_the_envelope_gradient_of_independent_experts_is_the_implicit_one(tiny_rollout, vorticity, experts):
    solver = LevenbergMarquardt(max_steps=60, rtol=1e-11, atol=0.0)
    model = tiny_rollout().with_network_dtype(torch.float64)
    u0, gradients = torch.as_tensor(vorticity(1, 16)), []
    for kind in ("envelope", "implicit"):
        model.zero_grad()
        field = model.constrained(u0, model.tensors({}), decomposition=experts, solver=solver, gradient=kind)
        field.cost.log().sum().backward()
        gradients.append(model.network.blocks[0].kernel.grad.clone())
    assert_close(*gradients, rtol=0, atol=1e-8 * float(gradients[1].abs().max()))
