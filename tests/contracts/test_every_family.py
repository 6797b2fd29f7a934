"""What every registered family of initial conditions promises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pihc_zoo.learning.families import FAMILIES, OUT_OF_FAMILY, WhiteNoise

X = (np.arange(256) + 0.5) / 256


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]()


def test_samples_have_the_asked_shape_and_are_finite(family):
    for count in (1, 5):
        fields = family.sample(count, X, np.random.default_rng(1))
        assert fields.shape == (count, len(X)) and fields.dtype == np.float64
        assert np.isfinite(fields).all()


def test_values_lie_in_the_declared_range(family):
    """The range is met on a fine grid; between its points a smooth field exceeds it a little."""
    fields = family.sample(100, X, np.random.default_rng(2))
    slack = 0.02 * (family.high - family.low)
    assert fields.min() >= max(0.0, family.low - slack)
    assert fields.max() <= family.high + slack


def test_the_same_seed_draws_the_same_fields_and_another_seed_others(family):
    first, again, other = (family.sample(3, X, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fields_of_one_draw_differ(family):
    fields = family.sample(4, X, np.random.default_rng(5))
    assert len(np.unique(fields.mean(axis=1))) == 4


def test_the_same_draw_on_two_grids_is_the_same_field(family):
    """Values at a point do not depend on which other points were asked (noise has no points)."""
    if isinstance(family, WhiteNoise):
        pytest.skip("white noise is independent at every point")
    coarse, fine = (family.sample(6, x, np.random.default_rng(6)) for x in (X[::4], X))
    assert_allclose(coarse, fine[:, ::4], rtol=0, atol=1e-12)


def test_positions_slightly_outside_are_allowed(family):
    positions = np.concatenate([[-1 / 512], X, [1 + 1 / 512]])
    assert (family.sample(3, positions, np.random.default_rng(7)) >= 0).all()


def test_families_out_of_the_trained_set_are_registered():
    assert set(OUT_OF_FAMILY) <= set(FAMILIES)
