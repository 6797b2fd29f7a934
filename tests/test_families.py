"""Laws of families of initial conditions beyond the contract that all of them keep."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pihc_zoo.learning.families import FAMILIES, Constants, SmoothFields, sample_parameters
from pihc_zoo.problems import DiffusionSorption

X = np.linspace(0, 1, 101)


def test_constants_are_constant_and_fill_their_range():
    fields = Constants(0.1, 0.2).sample(400, X, np.random.default_rng(0))
    assert (fields == fields[:, :1]).all()
    assert fields.min() < 0.102 and fields.max() > 0.198


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_smooth_fields_mix_in_constants_with_their_probability(fraction):
    fields = SmoothFields(constants=fraction).sample(50, X, np.random.default_rng(0))
    assert ((np.ptp(fields, axis=1) == 0) == bool(fraction)).all()


def test_smooth_fields_are_smooth():
    """A field of length scale ≥ 0.1 changes little over 0.01; a square wave does not."""
    rng = np.random.default_rng(0)
    step = np.abs(np.diff(SmoothFields().sample(50, X, rng), axis=1)).max()
    jump = np.abs(np.diff(FAMILIES["square_waves"]().sample(50, X, rng), axis=1)).max()
    assert step < 0.1 < jump


def test_high_plateaus_leave_the_trained_range():
    fields = FAMILIES["high_plateaus"]().sample(20, X, np.random.default_rng(0))
    assert fields.min() > SmoothFields().high


def test_parameters_are_drawn_over_their_declared_range():
    problem = DiffusionSorption()
    values = sample_parameters(problem, ("D", "phi", "n_f"), 4000, np.random.default_rng(0))
    for key, drawn in values.items():
        declared = problem.parameters[key]
        assert declared.low <= drawn.min() and drawn.max() <= declared.high
        normalised = np.log(drawn / declared.low) / np.log(declared.high / declared.low)
        if not declared.is_logarithmic:
            normalised = (drawn - declared.low) / (declared.high - declared.low)
        assert_allclose(np.quantile(normalised, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)


def test_no_parameters_are_drawn_for_a_model_without_inputs():
    assert sample_parameters(DiffusionSorption(), (), 3, np.random.default_rng(0)) == {}
