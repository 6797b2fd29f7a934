"""What every registered problem promises, and the physics of each."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.grid import GradedAxis, Grid, RadauAxis
from pihc_zoo.objective import pointwise_partials
from pihc_zoo.operators.derivatives import FeatureOperator
from pihc_zoo.operators.dual import Dual
from pihc_zoo.problems import PROBLEMS, DiffusionSorption


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]()


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(13)
    return lambda *shape: torch.rand(shape, dtype=torch.float64, generator=generator)


def drawn(problem, random, *shape):
    """Feature values: the unknown inside its range, derivatives of either sign."""
    low, high = problem.state_range
    return {
        name: low + (high - low) * random(*shape) if not feature.orders else random(*shape) - 0.5
        for name, feature in problem.features.items()
    }


def own_grid(problem):
    """A small grid with the problem's axes."""
    space = {
        name: GradedAxis(12, axis.closed_nodes[0], axis.closed_nodes[-1], grading=1.0)
        for name, axis in problem.output_space.items()
    }
    return Grid(RadauAxis(problem.duration, 2, 3), space)


def test_it_is_registered_under_its_name_and_documented(problem):
    assert PROBLEMS[problem.name] is type(problem)
    assert type(problem).__doc__ and problem.title and problem.equation
    assert set(problem.units) >= {problem.field, "t", *problem.output_space}


def test_defaults_lie_in_their_ranges(problem):
    for key, parameter in problem.parameters.items():
        assert parameter.low <= parameter.default <= parameter.high, key
        assert parameter.unit and parameter.description
        assert parameter.low > 0 or not parameter.is_logarithmic


def test_parameters_normalise_to_minus_one_and_one(problem):
    for parameter in problem.parameters.values():
        if parameter.low < parameter.high:
            ends = parameter.normalised(torch.tensor([parameter.low, parameter.high], dtype=torch.float64))
            assert_close(ends, torch.tensor([-1.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_output_times_increase_from_zero_to_the_duration(problem):
    times = problem.output_times
    assert times[0] == 0 and times[-1] == problem.duration and (np.diff(times) > 0).all()


def test_features_name_axes_of_the_problem_and_the_unknown_comes_first(problem):
    assert next(iter(problem.features.values())).orders == {}
    for feature in problem.features.values():
        assert set(feature.orders) <= {"t", *problem.output_space}


def test_the_residual_is_finite_over_the_state_range(problem, random):
    f = drawn(problem, random, 200)
    for name, feature in problem.features.items():
        if not feature.orders:
            f[name][:2] = torch.tensor(problem.state_range, dtype=torch.float64)
    assert torch.isfinite(problem.residual(f, problem.as_tensors({}))).all()


def test_the_residual_is_pointwise(problem, random):
    """Permuting the points permutes the residual, and no point sees another."""
    c = problem.as_tensors({})
    f = drawn(problem, random, 50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    permuted = problem.residual({name: value[order] for name, value in f.items()}, c)
    assert_close(permuted, problem.residual(f, c)[order], rtol=0, atol=0)
    alone = problem.residual({name: value[7:8] for name, value in f.items()}, c)
    assert_close(alone, problem.residual(f, c)[7:8], rtol=1e-14, atol=0)


def test_numpy_and_torch_give_the_same_residual(problem, random):
    f = drawn(problem, random, 50)
    theirs = problem.residual({name: value.numpy() for name, value in f.items()}, problem.defaults())
    assert_allclose(theirs, problem.residual(f, problem.as_tensors({})).numpy(), rtol=1e-13, atol=1e-16)


def test_the_residual_depends_on_every_feature_and_free_parameter(problem, random):
    f = {name: value.requires_grad_() for name, value in drawn(problem, random, 20).items()}
    free = [key for key, parameter in problem.parameters.items() if parameter.low < parameter.high]
    c = problem.as_tensors({})
    c |= {key: c[key].clone().requires_grad_() for key in free}
    gradients = torch.autograd.grad(problem.residual(f, c).square().sum(), [*f.values(), *(c[key] for key in free)])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_dual_numbers_give_the_partials_of_automatic_differentiation(problem, random):
    """The residual uses only operators that arrays, tensors and duals share; also below the state range."""
    f = drawn(problem, random, 1, 50)
    names, c = list(f), problem.as_tensors({})
    f[names[0]][0, :10] *= -1
    features = torch.stack([f[name] for name in names], dim=1)
    value, partials = pointwise_partials(
        lambda stacked: problem.residual({name: stacked[:, i] for i, name in enumerate(names)}, c), features
    )
    dual = problem.residual({name: Dual(f[name], {i: 1.0}) for i, name in enumerate(names)}, c)
    assert_close(dual.value, value, rtol=1e-13, atol=1e-15)
    for i in range(len(names)):
        assert_close(dual.partials.get(i, 0.0) * torch.ones_like(value), partials[:, i], rtol=1e-12, atol=1e-14)


def test_features_are_linear_on_a_grid_of_its_axes(problem, random):
    grid = own_grid(problem)
    operator = FeatureOperator(problem, grid)
    closures = operator.closures(problem.as_tensors({}))
    homogeneous = {name: closure.homogeneous() for name, closure in closures.items()}
    u, v = random(2, 3, *grid.shape), random(2, 3, *grid.shape)
    features = operator(u, homogeneous)
    assert features.shape == (2, 3, len(problem.features), *grid.shape)
    expected = 2 * features - 3 * operator(v, homogeneous)
    scale = expected.abs().amax(dim=(0, 1, 3, 4), keepdim=True)
    assert_close(operator(2 * u - 3 * v, homogeneous) / scale, expected / scale, rtol=0, atol=1e-11)


def test_the_linearisation_names_its_features_and_is_finite(problem):
    for values in ({}, {key: np.array([p.low, p.high]) for key, p in problem.parameters.items()}):
        coefficients = problem.linearised(problem.as_tensors(values))
        assert set(coefficients) <= set(problem.features)
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in coefficients.values())


def test_layers_grow_with_time(problem):
    c = problem.as_tensors({})
    widths = problem.layer_width(torch.as_tensor(problem.output_times), c)
    assert widths[0] == 0 and (widths.diff() > 0).all()


def test_admissible_states_are_accepted(problem):
    (axis,) = problem.output_space.values()
    low, high = problem.state_range
    fields = np.linspace(low, high, 3)[:, None] * np.ones(len(axis.nodes))
    assert problem.check_initial_condition(fields) == [None] * 3


def test_methods_leave_their_arguments_alone(problem, random):
    f, c = drawn(problem, random, 5), problem.as_tensors({})
    before = copy.deepcopy((f, c))
    problem.residual(f, c), problem.linearised(c), problem.walls(c)
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
