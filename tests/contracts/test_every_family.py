"""What every registered family of initial conditions promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pihc_zoo.families import (
    FAMILIES,
    BoundedFamily,
    Domain,
    PeriodicNoise,
    PeriodicSquareWaves,
    SquareWaves,
    WhiteNoise,
)

X = (np.arange(256) + 0.5) / 256
Y = (np.arange(96) + 0.25) / 96
POSITIONS = {1: [X], 2: [X, Y], 3: [X[::8], Y[::8], X[::16]]}
SPACES = [(False,), (True,), (False, False), (True, False), (True, True), (False, False, False), (True, True, True)]
NOISE = (WhiteNoise, PeriodicNoise)  # independent at every point

CASES = [
    (name, space)
    for name, cls in FAMILIES.items()
    for space in SPACES
    if len(space) in cls.num_axes and (all(space) or not cls.is_periodic)
]
BOUNDED = [(name, space) for name, space in CASES if issubclass(FAMILIES[name], BoundedFamily)]


def label(case):
    name, space = case
    return name + "-" + "".join("p" if closed else "b" for closed in space)


@pytest.fixture(params=CASES, ids=label)
def case(request):
    """A family, positions on axes of a kind that it serves, and the unit domain of that kind."""
    name, space = request.param
    return FAMILIES[name](), POSITIONS[len(space)], Domain.unit(*space)


def drawn(family, count, points, seed, domain=None):
    return family.sample(count, points, np.random.default_rng(seed), domain)


def test_samples_have_the_asked_shape_and_are_finite(case):
    family, points, domain = case
    for count in (1, 3):
        fields = drawn(family, count, points, 1, domain)
        assert fields.shape == (count, *map(len, points)) and fields.dtype == np.float64
        assert np.isfinite(fields).all()


def test_one_axis_may_come_alone(case):
    family, points, domain = case
    if len(points) == 1:
        assert_array_equal(drawn(family, 2, points[0], 1, domain), drawn(family, 2, points, 1, domain))


@pytest.mark.parametrize("family", FAMILIES.values())
def test_other_numbers_of_axes_are_refused(family):
    with pytest.raises(ValueError, match="positions on 4"):
        family().sample(1, [X[:4]] * 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="the domain has 2 axes, got positions on 1"):
        family().sample(1, X, np.random.default_rng(0), Domain.unit(True, True))


@pytest.mark.parametrize("case", BOUNDED, ids=label)
def test_values_lie_in_the_declared_range(case):
    """The range is met on a fine grid; between its points a smooth field exceeds it a little."""
    name, space = case
    for low, high in ((FAMILIES[name]().low, FAMILIES[name]().high), (-2.0, 3.0)):
        fields = drawn(
            FAMILIES[name](low=low, high=high),
            40 if len(space) < 3 else 8,
            POSITIONS[len(space)],
            2,
            Domain.unit(*space),
        )
        slack = 0.02 * (high - low)
        assert fields.min() >= (max(0.0, low - slack) if low >= 0 else low - slack)
        assert fields.max() <= high + slack


def test_stretching_the_domain_stretches_the_fields(case):
    """At x in (0, L) they are those of (0, 1) at x/L, bit for bit; a start moves them."""
    family, points, unit = case
    lengths, starts = (50.0, 2.0, 0.25)[: len(points)], (-1.0, 0.5, 3.0)[: len(points)]
    here = [own * length for own, length in zip(points, lengths, strict=True)]
    long = Domain((0.0,) * len(points), lengths, unit.is_periodic)
    there = drawn(family, 3, [own / length for own, length in zip(here, lengths, strict=True)], 3, unit)
    assert_array_equal(drawn(family, 3, here, 3, long), there)
    moved = Domain(starts, lengths, unit.is_periodic)
    positions = [start + own for start, own in zip(starts, here, strict=True)]
    if not isinstance(family, (SquareWaves, PeriodicSquareWaves)):  # rounding may cross a jump
        assert_allclose(drawn(family, 3, positions, 3, moved), there, rtol=0, atol=1e-11)


def test_fields_continue_along_periodic_axes(case):
    family, points, domain = case
    if isinstance(family, (*NOISE, SquareWaves, PeriodicSquareWaves)):
        pytest.skip("independent at every point, or jumps where rounding decides")
    for axis in np.flatnonzero(domain.is_periodic):
        moved = [own + 1.0 if j == axis else own for j, own in enumerate(points)]
        assert_allclose(drawn(family, 3, moved, 3, domain), drawn(family, 3, points, 3, domain), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_families_of_periodic_fields_have_their_mean(case, mean):
    family, points, domain = case
    if not family.is_periodic:
        pytest.skip("of values in a range")
    axes = [np.arange(64) / 64] * len(points)
    fields = drawn(dataclasses.replace(family, mean=mean), 3, axes, 3, domain)
    assert_allclose(fields.mean(axis=tuple(range(1, fields.ndim))), mean, atol=1e-12)


def test_the_same_seed_draws_the_same_fields_and_another_seed_others(case):
    family, points, domain = case
    first, again, other = (drawn(family, 2, points, seed, domain) for seed in (3, 3, 4))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fields_of_one_draw_differ(case):
    family, points, domain = case
    assert len(np.unique(drawn(family, 4, points, 5, domain).reshape(4, -1), axis=0)) == 4


def test_the_same_draw_on_two_grids_is_the_same_field(case):
    """Values at a point do not depend on which other points were asked (noise has no points)."""
    family, points, domain = case
    if isinstance(family, NOISE):
        pytest.skip("white noise is independent at every point")
    fine = drawn(family, 3, points, 6, domain)
    coarse = drawn(family, 3, [own[1::4] for own in points], 6, domain)
    assert_allclose(coarse, fine[(slice(None), *[slice(1, None, 4)] * len(points))], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, cls in FAMILIES.items() if issubclass(cls, BoundedFamily)])
def test_positions_slightly_outside_are_allowed(name):
    positions = np.concatenate([[-1 / 512], X, [1 + 1 / 512]])
    assert (drawn(FAMILIES[name](), 3, positions, 7) >= 0).all()
