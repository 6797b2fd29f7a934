"""What every registered family of initial conditions promises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pihc_zoo.families import (
    FAMILIES,
    OUT_OF_FAMILY,
    PERIODIC_OUT_OF_FAMILY,
    BoundedFamily,
    PeriodicNoise,
    WhiteNoise,
    out_of_family,
)
from pihc_zoo.grid import FourierAxis, GradedAxis

X = (np.arange(256) + 0.5) / 256
Y = (np.arange(96) + 0.25) / 96

CASES = [(name, number) for name, family in FAMILIES.items() for number in (1, 2, 3) if number in family.num_axes]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    """A family, and positions on as many axes as it serves; one array where it is one axis."""
    name, number = request.param
    return FAMILIES[name](), {1: X, 2: [X, Y], 3: [X[::8], Y[::8], X[::16]]}[number]


def shape_of(points):
    return (len(points),) if isinstance(points, np.ndarray) else tuple(len(own) for own in points)


def test_samples_have_the_asked_shape_and_are_finite(case):
    family, points = case
    for count in (1, 5):
        fields = family.sample(count, points, np.random.default_rng(1))
        assert fields.shape == (count, *shape_of(points)) and fields.dtype == np.float64
        assert np.isfinite(fields).all()


def test_one_axis_may_come_as_a_sequence(case):
    family, points = case
    if isinstance(points, np.ndarray):
        alone, listed = (family.sample(2, own, np.random.default_rng(1)) for own in (points, [points]))
        assert_array_equal(alone, listed)


@pytest.mark.parametrize("family", FAMILIES.values())
def test_other_numbers_of_axes_are_refused(family):
    with pytest.raises(ValueError, match="positions on 4"):
        family().sample(1, [X[:4]] * 4, np.random.default_rng(0))


@pytest.mark.parametrize("name", [name for name, cls in FAMILIES.items() if issubclass(cls, BoundedFamily)])
def test_values_lie_in_the_declared_range(name):
    """The range is met on a fine grid; between its points a smooth field exceeds it a little."""
    family = FAMILIES[name]()
    fields = family.sample(100, X, np.random.default_rng(2))
    slack = 0.02 * (family.high - family.low)
    assert fields.min() >= max(0.0, family.low - slack)
    assert fields.max() <= family.high + slack


def test_periodic_fields_continue_with_period_one_and_have_zero_mean(case):
    family, points = case
    if not family.is_periodic:
        pytest.skip("bounded axes")
    axes = [np.arange(64) / 64] * (1 if isinstance(points, np.ndarray) else len(points))
    fields = family.sample(3, axes, np.random.default_rng(3))
    mean = fields.mean(axis=tuple(range(1, fields.ndim)))
    assert_allclose(mean, 0, atol=1e-12)
    if not isinstance(family, PeriodicNoise):
        moved = family.sample(3, [own + 1.0 for own in axes], np.random.default_rng(3))
        assert_allclose(moved, fields, rtol=0, atol=1e-10)


def test_the_same_seed_draws_the_same_fields_and_another_seed_others(case):
    family, points = case
    first, again, other = (family.sample(3, points, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fields_of_one_draw_differ(case):
    family, points = case
    fields = family.sample(4, points, np.random.default_rng(5)).reshape(4, -1)
    assert len(np.unique(fields, axis=0)) == 4


def test_the_same_draw_on_two_grids_is_the_same_field(case):
    """Values at a point do not depend on which other points were asked (noise has no points)."""
    family, points = case
    if isinstance(family, (WhiteNoise, PeriodicNoise)):
        pytest.skip("white noise is independent at every point")
    fine = family.sample(6, points, np.random.default_rng(6))
    if isinstance(points, np.ndarray):
        coarse, part = family.sample(6, points[::4], np.random.default_rng(6)), fine[:, ::4]
    else:
        coarse = family.sample(6, [own[1::4] for own in points], np.random.default_rng(6))
        part = fine[(slice(None), *[slice(1, None, 4)] * len(points))]
    assert_allclose(coarse, part, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, cls in FAMILIES.items() if issubclass(cls, BoundedFamily)])
def test_positions_slightly_outside_are_allowed(name):
    positions = np.concatenate([[-1 / 512], X, [1 + 1 / 512]])
    assert (FAMILIES[name]().sample(3, positions, np.random.default_rng(7)) >= 0).all()


def test_families_out_of_the_trained_set_are_registered_and_serve_their_axes():
    assert {*OUT_OF_FAMILY, *PERIODIC_OUT_OF_FAMILY} <= set(FAMILIES)
    bounded, periodic = GradedAxis(8, 0.0, 1.0), FourierAxis(32)
    assert out_of_family({"x": bounded}) == OUT_OF_FAMILY
    for space in ({"x": periodic}, {"x": periodic, "y": periodic}):
        names = out_of_family(space)
        assert names and all(FAMILIES[name].is_periodic for name in names)
        for name in names:
            assert FAMILIES[name]().sample(1, [axis.nodes for axis in space.values()], np.random.default_rng(0)).size
