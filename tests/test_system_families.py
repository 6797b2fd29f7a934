"""Families of systems, of any problem's range, and of coefficients: reading, defaults, laws of their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ks_2samp

from pihc_zoo.families import (
    Constants,
    Domain,
    FieldFamilies,
    GaussianProcess,
    LognormalProcess,
    PeriodicGaussianProcess,
    RandomSines,
    SmoothFields,
)
from pihc_zoo.grid import FourierAxis, UniformAxis
from pihc_zoo.learning.draws import Source
from pihc_zoo.problems import Derivative, NavierStokes2D, Problem, Variable, WallCondition, problem_of
from pihc_zoo.sampling import (
    default_families,
    describe_family,
    draw,
    family_of,
    out_of_family,
    read_family,
    training_family,
)
from training import recipe as recipes

WALLED, CLOSED = UniformAxis(40, -1.0, 1.0), FourierAxis(32, length=50.0)


class Boxed(Problem):
    """Fields and axes of choice."""

    name = "boxed"
    features: dict[str, Derivative] = {}
    parameters: dict = {}
    duration = 1.0

    def __init__(self, fields, target=0.0, **space):
        self.fields, self.output_space, self.target = fields, space, target

    def walls(self, c):
        pair = (WallCondition(1.0, 0.0, self.target), WallCondition(0.0, 1.0, 0.0))
        walled = [name for name, axis in self.output_space.items() if not axis.is_periodic]
        return {name: dict.fromkeys(self.fields, pair) if self.is_system else pair for name in walled}


@dataclass
class Described:
    problem: Any
    config: dict = field(default_factory=lambda: {"trust": {}})
    parameter_inputs: tuple = ()


ONE, TWO = {"u": Variable(0.0, 2.0)}, {"u": Variable(-1.0, 1.0), "v": Variable(5.0, 6.0)}
SPACES = [
    {"x": WALLED},
    {"x": CLOSED},
    {"x": WALLED, "y": WALLED},
    {"x": CLOSED, "y": WALLED},
    {"x": CLOSED, "y": CLOSED},
    {"x": UniformAxis(12, 0.0, 3.0), "y": FourierAxis(12), "z": UniformAxis(10, -1.0, 0.0)},
]


def kinds(space):
    return "".join("p" if axis.is_periodic else "b" for axis in space.values())


def sampled(problem, family, count=60):
    return draw(problem, family, (), count, 0)[0]


def keyed(problem, family, count=60):
    axes = [axis.nodes for axis in problem.output_space.values()]
    return Source(family, axes, problem, (), 1)(0, torch.arange(count))[0].movedim(1, -1).numpy()


# ------------------------------------------------------------------ systems


def test_a_systems_fields_come_last_and_are_drawn_by_themselves():
    problem = Boxed(TWO, x=WALLED, y=CLOSED)
    family = FieldFamilies({"u": GaussianProcess(-1.0, 1.0), "v": GaussianProcess(-1.0, 1.0)})
    for fields in (sampled(problem, family, 200), keyed(problem, family, 200)):
        assert fields.shape == (200, 40, 32, 2)
        flat = fields.reshape(200, -1, 2)[:, 100]
        assert abs(np.corrcoef(flat.T)[0, 1]) < 0.25 and not np.array_equal(flat[:, 0], flat[:, 1])
        assert ks_2samp(flat[:, 0], flat[:, 1]).pvalue > 1e-3


def test_few_fields_of_a_system_are_the_first_of_many():
    problem, family = Boxed(TWO, x=CLOSED), FieldFamilies({"u": GaussianProcess(), "v": PeriodicGaussianProcess()})
    assert_array_equal(sampled(problem, family, 2), sampled(problem, family, 5)[:2])


def test_a_share_of_a_batch_of_systems_is_that_share_of_it():
    problem = Boxed(TWO, x=WALLED, y=WALLED)
    source = Source(training_family(problem), [WALLED.nodes] * 2, problem, (), 3)
    whole, _ = source(5, torch.arange(5))
    assert source.family.is_vectorised and torch.allclose(source(5, torch.tensor([4, 1]))[0], whole[[4, 1]], atol=1e-12)


def test_a_system_is_refused_on_axes_that_one_of_its_families_does_not_serve():
    family = FieldFamilies({"u": GaussianProcess(), "v": RandomSines()})
    assert family.num_axes == (1,)
    with pytest.raises(ValueError, match="family of v, RandomSines, draws fields on 1 axes, got positions on 2"):
        sampled(Boxed(TWO, x=WALLED, y=WALLED), family)


# ------------------------------------------------------------------ reading


def test_a_family_by_field_comes_in_the_problems_order_and_is_read_back():
    problem = Boxed(TWO, x=WALLED)
    spec = {"v": {"name": "constants", "low": 5.1, "high": 5.2}, "u": {"name": "gaussian_process", "shortest": 0.3}}
    family = read_family(spec, problem)
    assert list(family.families) == ["u", "v"] and family.families["v"] == Constants(5.1, 5.2)
    assert family.families["u"] == GaussianProcess(-0.98, 0.98, shortest=0.3)
    assert read_family(describe_family(family), problem) == family
    assert family_of("recorded", Described(problem), describe_family(family)) == family


def test_one_table_serves_every_field_each_in_its_own_range():
    family = read_family({"name": "smooth_fields"}, Boxed(TWO, x=WALLED))
    assert family.families["u"] == SmoothFields(-0.98, 0.98) and family.families["v"] == SmoothFields(5.01, 5.99)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"u": {"name": "constants"}}, r"the field 'v' of boxed has none; add a table \[family.v\]"),
        ({"u": {"name": "constants"}, "w": {"name": "constants"}}, "boxed has no field 'w'"),
        ({"u": {"name": "constants"}, "low": 0.1}, "or one by field, got low = 0.1"),
        ({"u": {"name": "constant"}, "v": {"name": "constants"}}, "did you mean 'constants'"),
        ({"u": {"name": "constants", "hihg": 1}, "v": {"name": "constants"}}, "unknown setting 'hihg'"),
        ({}, "no family named None"),
        ("constants", "must be a table with its name"),
    ],
)
def test_what_is_no_family_of_the_fields_is_named(spec, message):
    with pytest.raises(ValueError, match=message):
        read_family(spec, Boxed(TWO, x=WALLED))


def test_a_range_that_is_given_is_kept_and_one_that_is_not_is_the_models():
    problem = Boxed(ONE, x=CLOSED)
    assert read_family({"name": "gaussian_process", "low": 0.5}, problem).low == 0.5
    assert read_family({"name": "gaussian_process"}, problem, {"state_range": [0.0, 1.0]}).high == 0.99
    assert read_family({"name": "periodic_gaussian_process"}, problem) == PeriodicGaussianProcess(scale=0.25, mean=1.0)
    assert read_family({"name": "periodic_gaussian_process", "scale": 2.0}, problem) == PeriodicGaussianProcess(
        scale=2.0
    )


def test_shipped_recipes_say_what_they_draw():
    """Whatever the range of their problems: the same family is read for a field of another range."""
    for path in recipes.FOLDER.glob("*.toml"):
        recipe = recipes.load(path.stem)
        names = recipe.family.families if isinstance(recipe.family, FieldFamilies) else ["u"]
        other = Boxed({name: Variable(-9.0, 9.0) for name in names}, x=WALLED)
        for family in (recipe.family, *recipe.test_families.values()):
            assert read_family(describe_family(family), other) == family


# ------------------------------------------------------------------ defaults


@pytest.mark.parametrize("space", SPACES, ids=kinds)
@pytest.mark.parametrize("fields", [ONE, TWO], ids=["one", "two"])
def test_defaults_fill_the_range_of_every_field_on_any_axes(space, fields):
    problem = Boxed(fields, **space)
    model = Described(problem)
    families = default_families(model)
    assert list(families)[-2:] == ["gaussian_process", "constants"]
    for family in (*families.values(), training_family(problem)):
        values = sampled(problem, family, 40 if len(space) < 3 else 15)
        values = values if problem.is_system else values[..., None]
        assert values.shape[1:] == (*(len(axis.nodes) for axis in space.values()), len(fields))
        for i, own in enumerate(fields.values()):
            width, least = own.high - own.low, 0.8 if len(space) < 3 else 0.6
            assert own.low <= values[..., i].min() and values[..., i].max() <= own.high
            assert np.ptp(values[..., i]) > least * width
    for family in out_of_family(model).values():
        assert np.isfinite(sampled(problem, family, 2)).all()


def test_fields_whose_inverse_laplacian_counts_have_no_mean():
    problem = NavierStokes2D()
    assert problem.zero_mean_fields == {"w"} and not Boxed(TWO, x=CLOSED).zero_mean_fields
    families = default_families(Described(problem))
    assert families == {"periodic_gaussian_process": PeriodicGaussianProcess()}
    assert training_family(problem) == PeriodicGaussianProcess()
    assert problem.check_initial_condition(sampled(problem, families["periodic_gaussian_process"], 3)) == [None] * 3


@pytest.mark.parametrize("space", [{"x": WALLED}, {"x": WALLED, "y": WALLED}])
def test_clean_fields_are_drawn_where_something_enters_a_clean_domain(space):
    is_clean = {}
    for fields, target in ((ONE, 1.0), (ONE, 0.0), ({"u": Variable(-1.0, 2.0)}, 1.0)):
        problem = Boxed(fields, target, **space)
        sets = (training_family(problem), default_families(Described(problem))["constants"])
        for draws in (sampled, keyed):
            is_clean[fields["u"].low, target, draws] = [
                (draws(problem, own, 80).reshape(80, -1) == 0).all(axis=1).mean() for own in sets
            ]
    for (low, target, _), (training, constants) in is_clean.items():
        if low == 0 and target:
            assert 0.02 < training < 0.25 and 0.1 < constants < 0.45
        else:
            assert training == constants == 0


def test_probabilities_of_a_mixture_that_exceed_one_are_refused():
    with pytest.raises(ValueError, match=r"got 0.6 and 0.5"):
        SmoothFields(constants=0.6, clean=0.5)


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("space", SPACES[:4], ids=kinds)
@pytest.mark.parametrize("family", [GaussianProcess(-1.0, 1.0), LognormalProcess(), SmoothFields(0.0, 1.0, clean=0.1)])
def test_keyed_fields_on_any_axes_are_distributed_as_the_family_is(family, space):
    problem = Boxed(ONE, **space)
    first, second = (draws(problem, family, 300).reshape(300, -1) for draws in (sampled, keyed))
    for statistic in (lambda u: u[:, 7], lambda u: u[:, 9] - u[:, 7], lambda u: u.max(axis=1)):
        assert ks_2samp(statistic(first).round(12), statistic(second).round(12)).pvalue > 1e-3


@pytest.mark.parametrize("is_periodic", [(False,), (True,), (False, False), (True, False)])
def test_the_lognormal_process_has_its_mean_deviation_and_length(is_periodic):
    """log a is normal with the covariance of a squared exponential along bounded axes; frequencies are rounded else."""
    family = LognormalProcess(mean=0.3, deviation=0.5, low=1e-9, high=1e9, shortest=0.2, longest=0.2)
    points = [np.array([0.1, 0.3, 0.4])] * len(is_periodic)
    fields = family.sample(4000, points, np.random.default_rng(0), Domain.unit(*is_periodic))
    log = np.log(fields[:, :, 0] if len(is_periodic) == 2 else fields)
    assert_allclose(log.mean(axis=0), 0.3, atol=0.04)
    assert_allclose(log.std(axis=0), 0.5, atol=0.03)
    if not is_periodic[0]:
        distance = np.subtract.outer(points[0], points[0])
        assert_allclose(np.cov(log.T), 0.25 * np.exp(-0.5 * (distance / 0.2) ** 2), atol=0.03)


def test_the_lognormal_process_is_cut_to_its_range():
    fields = LognormalProcess(deviation=3.0).sample(50, [np.linspace(0, 1, 20)] * 2, np.random.default_rng(0))
    assert fields.min() == 0.05 and fields.max() == 10.0
    with pytest.raises(ValueError, match=r"increase from above 0, got 0\.0 to 1\.0"):
        LognormalProcess(low=0.0, high=1.0)


@pytest.mark.parametrize("space", [(True, False), (False, False), (True, True, False)])
def test_features_on_a_grid_are_their_sum_at_each_point(space):
    """The products of matrices are Σ cos(ω·x + φ)."""
    from pihc_zoo.families.base import NumpyDraws
    from pihc_zoo.families.features import RandomFeatures

    features = RandomFeatures.drawn(16, 0.1, 0.5, space, NumpyDraws(np.random.default_rng(0), 3))
    axes = [np.linspace(0, 1, 5 + j) for j in range(len(space))]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    angle = np.einsum("...j,bfj->b...f", grid, features.frequencies)
    expected = np.cos(angle + features.phases.reshape(3, *[1] * len(space), -1)).sum(axis=-1)
    assert_allclose(features(axes), expected, rtol=0, atol=1e-12)


def test_by_mean_and_scale_a_gaussian_process_is_the_periodic_one():
    problem = problem_of({"name": "allen-cahn-1d"})[0]
    family = read_family({"name": "gaussian_process", "mean": 0.2, "scale": 0.1}, problem)
    assert family == PeriodicGaussianProcess(mean=0.2, scale=0.1)
    assert read_family({"name": "gaussian_process", "low": 0.0, "high": 0.5}, problem) == GaussianProcess(0.0, 0.5)
