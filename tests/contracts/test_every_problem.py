"""What every registered problem promises, and the physics of each."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from test_any_equation import DISPERSIVE, MASS, PLANE, TWO
from test_series import spec_of
from text_problems import DARCY, GROWTH
from torch.testing import assert_close

from pihc_zoo.discretisation import Discretisation, Field, linear_operator
from pihc_zoo.discretisation.terms import linear_terms
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, InstantAxis, RadauAxis
from pihc_zoo.objective import pointwise_partials
from pihc_zoo.problems import PROBLEMS, DiffusionSorption, NavierStokes2D, problem_of
from pihc_zoo.solvers.dual import Dual

TEXTS = {own["name"]: own for own in (GROWTH, DISPERSIVE[0], TWO[0], MASS[0], PLANE[0], DARCY, spec_of())}


@pytest.fixture(params=[*PROBLEMS, *(f"text: {name}" for name in TEXTS)])
def problem(request):
    kind, _, name = request.param.rpartition("text: ")
    return problem_of(TEXTS[name])[0] if kind or request.param.startswith("text") else PROBLEMS[request.param]()


def residuals(problem, f, c):
    """(equation, *points) at the centre of the coordinates."""
    names = (*problem.coordinates, *problem.coefficients, *problem.coefficient_features)
    at = {name: 0.5 + 0 * next(iter(f.values())) for name in names}
    own = problem.by_equation(problem.residual(f, c, at))
    some = next(iter(f.values()))
    if isinstance(some, np.ndarray):
        return np.stack([np.broadcast_to(part, some.shape) for part in own])
    return torch.stack([torch.as_tensor(part).expand(some.shape) for part in own])


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(13)
    return lambda *shape: torch.rand(shape, dtype=torch.float64, generator=generator)


def is_unknown(feature):
    """Whether a feature is the unknown itself."""
    return not feature.orders and not feature.laplacian


def drawn(problem, random, *shape):
    """Feature values: the unknown inside its range, derivatives of either sign."""
    values = {}
    for name, feature in problem.features.items():
        own = problem.fields[feature.field]
        values[name] = own.low + (own.high - own.low) * random(*shape) if is_unknown(feature) else random(*shape) - 0.5
    return values


def is_periodic(problem):
    return all(axis.is_periodic for axis in problem.output_space.values())


def inner(problem, grid):
    """(time, [field], *space) of a grid."""
    times, *space = grid.shape
    return (times, *[len(problem.fields)] * problem.is_system, *space)


def own_grid(problem):
    """A small grid with the problem's axes: one window on periodic axes, the whole duration on bounded ones."""
    space = {
        name: FourierAxis(12, axis.length, axis.start)
        if axis.is_periodic
        else GradedAxis(12, axis.closed_nodes[0], axis.closed_nodes[-1], grading=1.0)
        for name, axis in problem.output_space.items()
    }
    if problem.duration is None:
        return Grid(InstantAxis(), space)
    if is_periodic(problem):
        return Grid(RadauAxis(problem.duration / 4, 1, 3, power=1.0), space)
    return Grid(RadauAxis(problem.duration, 2, 3), space)


def test_it_is_registered_under_its_name_and_documented(problem):
    assert problem.text or PROBLEMS[problem.name] is type(problem)
    assert type(problem).__doc__ and problem.title and problem.equation and problem.field
    assert set(problem.units) >= {"u", *problem.output_space}
    assert problem.duration is None or "t" in problem.units


def test_defaults_lie_in_their_ranges(problem):
    for key, parameter in problem.parameters.items():
        assert parameter.low <= parameter.default <= parameter.high, key
        assert parameter.unit and (parameter.description or problem.text)
        assert parameter.low > 0 or not parameter.is_logarithmic


def test_parameters_normalise_to_minus_one_and_one(problem):
    for parameter in problem.parameters.values():
        if parameter.low < parameter.high:
            ends = parameter.normalised(torch.tensor([parameter.low, parameter.high], dtype=torch.float64))
            assert_close(ends, torch.tensor([-1.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_output_times_increase_from_zero_to_the_duration(problem):
    times = problem.output_times
    if problem.duration is None:
        assert len(times) == 1
        return
    assert times[0] == 0 and times[-1] == problem.duration and (np.diff(times) > 0).all()


def test_features_name_fields_and_axes_of_the_problem(problem):
    for feature in problem.features.values():
        assert set(feature.orders) <= {"t", *problem.output_space} and feature.field in problem.fields
        assert feature.laplacian == 0 or is_periodic(problem)
    for _, feature in problem.diagnostics.values():
        assert set(feature.orders) <= set(problem.output_space)


def test_the_residual_is_finite_over_the_state_range(problem, random):
    f = drawn(problem, random, 200)
    for name, feature in problem.features.items():
        if is_unknown(feature):
            own = problem.fields[feature.field]
            f[name][:2] = torch.tensor([own.low, own.high], dtype=torch.float64)
    assert torch.isfinite(residuals(problem, f, problem.as_tensors({}))).all()


def test_the_residual_is_pointwise(problem, random):
    """Permuting the points permutes the residual, and no point sees another."""
    c = problem.as_tensors({})
    f = drawn(problem, random, 50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    permuted = residuals(problem, {name: value[order] for name, value in f.items()}, c)
    assert_close(permuted, residuals(problem, f, c)[:, order], rtol=0, atol=0)
    alone = residuals(problem, {name: value[7:8] for name, value in f.items()}, c)
    assert_close(alone, residuals(problem, f, c)[:, 7:8], rtol=1e-14, atol=0)


def test_numpy_and_torch_give_the_same_residual(problem, random):
    f = drawn(problem, random, 50)
    theirs = residuals(problem, {name: value.numpy() for name, value in f.items()}, problem.defaults())
    assert_allclose(theirs, residuals(problem, f, problem.as_tensors({})).numpy(), rtol=1e-13, atol=1e-15)


def test_equations_and_walls_depend_on_every_feature_and_free_parameter(problem, random):
    f = {name: value.requires_grad_() for name, value in drawn(problem, random, 20).items()}
    free = [key for key, parameter in problem.parameters.items() if parameter.low < parameter.high]
    c = problem.as_tensors({})
    c |= {key: c[key].clone().requires_grad_() for key in free}
    total = residuals(problem, f, c).square().sum()
    for walls in problem.walls(c).values():
        for pair in walls.values() if isinstance(walls, dict) else [walls]:
            for wall in pair:
                total = total + sum(torch.as_tensor(own).sum() for own in (wall.value, wall.slope, wall.target))
    gradients = torch.autograd.grad(total, [*f.values(), *(c[key] for key in free)])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_dual_numbers_give_the_partials_of_automatic_differentiation(problem, random):
    """The residual uses only operators that arrays, tensors and duals share; also below the state range."""
    f = drawn(problem, random, 1, 50)
    names, c = list(f), problem.as_tensors({})
    f[names[0]][0, :10] *= -1
    features = torch.stack([f[name] for name in names], dim=1)
    names_at = (*problem.coordinates, *problem.coefficients, *problem.coefficient_features)
    at = {name: Dual(torch.full((1, 50), 0.5, dtype=torch.float64)) for name in names_at}
    own = {key: Dual(value) for key, value in c.items()}
    duals = problem.by_equation(
        problem.residual({name: Dual(f[name], {i: 1.0}) for i, name in enumerate(names)}, own, at)
    )
    for k, dual in enumerate(duals):
        value, partials = pointwise_partials(
            lambda stacked, k=k: residuals(problem, {name: stacked[:, i] for i, name in enumerate(names)}, c)[k],
            features,
        )
        assert_close(dual.value * torch.ones_like(value), value, rtol=1e-13, atol=1e-13)
        for i in range(len(names)):
            assert_close(dual.partials.get(i, 0.0) * torch.ones_like(value), partials[:, i], rtol=1e-11, atol=1e-13)


def test_features_are_linear_on_a_grid_of_its_axes(problem, random):
    grid = own_grid(problem)
    operator = Discretisation(problem, grid)
    closures = operator.walls(problem.as_tensors({}))
    homogeneous = closures.homogeneous()
    u, v = random(2, 3, *inner(problem, grid)), random(2, 3, *inner(problem, grid))
    features = operator(Field(u, homogeneous))
    times, *space = grid.collocation_shape
    assert features.shape == (2, 3, len(problem.features), times, *[1] * problem.is_system, *space)
    expected = 2 * features - 3 * operator(Field(v, homogeneous))
    scale = expected.movedim(2, 0).flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (features.dim() - 3))
    assert_close(operator(Field(2 * u - 3 * v, homogeneous)) / scale, expected / scale, rtol=0, atol=1e-11)


def test_the_linearised_operator_is_inverted_on_a_grid_of_its_axes(problem, random):
    """A⁻¹ A u = u for what the grid carries, where A has the parameters' defaults."""
    grid, c = own_grid(problem), problem.as_tensors({})
    operator = Discretisation(problem, grid)
    linearised = linear_operator(problem, operator)
    u = random(1, 1, *inner(problem, grid))
    u = operator.space.to_nodes(operator.space.to_coefficients(u))
    homogeneous = operator.walls(c).homogeneous()
    features, names = operator(Field(u, homogeneous)), list(problem.features)
    own = [
        sum(a * features[:, :, names.index(name)] for name, a in terms.items()) for terms in linear_terms(problem, c)
    ]
    rows = operator.project(operator.joined(own))
    scale = torch.as_tensor(grid.time.row_scale).reshape(-1, *[1] * operator.num_inner)
    assert_close(linearised.inverse(c).apply(rows * scale), u, rtol=1e-7, atol=1e-9)


def test_the_linearisation_names_its_features_and_is_finite(problem):
    for values in ({}, {key: np.array([p.low, p.high]) for key, p in problem.parameters.items()}):
        for coefficients in linear_terms(problem, problem.as_tensors(values)):
            assert set(coefficients) <= set(problem.features)
            assert all(torch.isfinite(torch.as_tensor(value)).all() for value in coefficients.values())


def test_walls_are_those_of_bounded_axes_and_layers_grow_from_them(problem):
    c = problem.as_tensors({})
    assert set(problem.walls(c)) == {name for name, axis in problem.output_space.items() if not axis.is_periodic}
    if (
        problem.walls(c) and not problem.text and problem.duration is not None
    ):  # in text there may be no second derivative to tell
        widths = problem.layer_width(torch.as_tensor(problem.output_times), c)
        assert widths[0] == 0 and (widths.diff() > 0).all()


def test_admissible_states_are_accepted(problem, random):
    """All of the state range; where the mean must be zero, random fields without one."""
    shape, fields = [len(axis.nodes) for axis in problem.output_space.values()], []
    for name, own in problem.fields.items():
        if name in problem.zero_mean_fields:
            values = random(3, *shape).numpy() - 0.5
            values -= values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
            fields.append(values * 0.99 * own.high / np.abs(values).max())
        else:
            fields.append(np.linspace(own.low, own.high, 3).reshape(-1, *[1] * len(shape)) * np.ones(shape))
    fields = np.stack(fields, axis=-1) if problem.is_system else fields[0]
    assert problem.check_initial_condition(fields) == [None] * 3


def test_states_beyond_the_range_are_named(problem, random):
    high, shape = problem.state_range[1], [len(axis.nodes) for axis in problem.output_space.values()]
    beyond = random(1, *shape, *[len(problem.fields)] * problem.is_system).numpy() - 0.5
    beyond -= beyond.mean()
    (message,) = problem.check_initial_condition(beyond * (1.5 * high / beyond.max()))
    assert isinstance(message, str) and "\n" not in message


def test_problems_that_continue_start_anew_at_any_time(problem):
    """Their equation and walls do not name the time, and they take roll-outs of several durations."""
    if problem.can_continue:
        assert is_periodic(problem) and not problem.walls(problem.as_tensors({}))


def test_methods_leave_their_arguments_alone(problem, random):
    f, c = drawn(problem, random, 5), problem.as_tensors({})
    before = copy.deepcopy((f, c))
    residuals(problem, f, c), problem.linearised(c), problem.walls(c)
    assert_close((f, c), before, rtol=0, atol=0)


# ------------------------------------------------------------------ diffusion–sorption


def test_retardation_has_no_slope_below_zero(random):
    problem = DiffusionSorption()
    u = torch.cat([-random(20) - 1e-9, random(20) + 1e-3]).requires_grad_()
    (slope,) = torch.autograd.grad(problem.retardation_factor(u, problem.as_tensors({})).sum(), u)
    assert (slope[:20] == 0).all() and (slope[20:] < 0).all()


def test_retardation_is_the_published_formula():
    """PDEBench: R = 1 + (1 − φ)/φ ρ_s k_f n_f (u + 1e-6)^(n_f − 1) with φ = .29, ρ_s = 2880, …"""
    u = np.array([0.0, 0.05, 0.2, 1.0])
    published = 1 + ((1 - 0.29) / 0.29) * 2880 * 3.5e-4 * 0.874 * (u + 1e-6) ** (0.874 - 1)
    problem = DiffusionSorption()
    assert_allclose(problem.retardation_factor(u, problem.defaults()), published, rtol=1e-14)
    assert (problem.retardation_factor(np.array([-1.0, -1e-3]), problem.defaults()) == published[0]).all()


@pytest.mark.parametrize(
    ("value", "message"), [(-0.01, "negative values (minimum -0.01)"), (1.5, "exceeds 1 (maximum 1.5)")]
)
def test_inadmissible_concentrations_are_named(value, message):
    fields = np.full((2, 8), 0.1)
    fields[1, 3] = value
    first, second = DiffusionSorption().check_initial_condition(fields)
    assert first is None and message in second


# ------------------------------------------------------------------ Navier–Stokes


def test_a_mean_of_the_vorticity_is_named_and_a_rounded_one_is_not(random):
    fields = random(3, 32, 32).numpy() - 0.5
    fields -= fields.mean(axis=(1, 2), keepdims=True)
    fields[1] += 0.1
    fields[2] += 1e-8
    first, second, third = NavierStokes2D().check_initial_condition(fields)
    assert first is None and third is None
    assert "has the mean 0.1" in second and "subtract the mean" in second
