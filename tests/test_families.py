"""Laws of families of initial conditions beyond the contract that all of them keep."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pihc_zoo.families import (
    FAMILIES,
    Constants,
    PeriodicGaussianProcess,
    PeriodicShortWaves,
    RandomWaves,
    SmoothFields,
    sample_parameters,
)
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


# ------------------------------------------------------------------ periodic families


@pytest.mark.parametrize("length_scale", [0.4, 0.8])
def test_the_periodic_process_has_its_kernel(length_scale):
    """Covariance between points of 4000 fields; the constant mode, which is removed, lowers it by a constant."""
    x, y = np.array([0.0, 0.1, 0.35]), np.array([0.0, 0.2])
    family = PeriodicGaussianProcess(length_scale, scale=2.0)
    fields = family.sample(4000, [x, y], np.random.default_rng(0)).reshape(4000, -1)
    covariance = fields.T @ fields / len(fields)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    distance = points[:, None] - points

    def kernel(d):
        return 4 * np.exp(-2 * (np.sin(np.pi * d) / 2) ** 2 / length_scale**2)

    mean = kernel(np.arange(256) / 256).mean() ** 2 / 4
    assert_allclose(covariance, kernel(distance).prod(axis=-1) / 4 - mean, rtol=0, atol=0.15)


def test_the_cut_off_of_the_periodic_process_does_not_matter():
    assert PeriodicGaussianProcess(0.8).band <= 16 < PeriodicGaussianProcess(0.1).band
    x = np.arange(64) / 64
    hat = np.abs(np.fft.fft2(PeriodicGaussianProcess(0.8).sample(3, [x, x], np.random.default_rng(0))))
    assert hat[:, 16:49].max() < 1e-10 * hat.max()


def test_length_scales_are_drawn_between_their_bounds():
    """Short length scales have steep fields."""
    x = np.arange(64) / 64

    def steepness(family):
        fields = family.sample(60, x, np.random.default_rng(0))
        return np.abs(np.diff(fields, axis=1)).mean(axis=1) / np.abs(fields).mean(axis=1)

    short, long = steepness(PeriodicGaussianProcess(0.1)), steepness(PeriodicGaussianProcess(0.8))
    drawn = steepness(PeriodicGaussianProcess(shortest=0.1, longest=0.8))
    assert short.mean() > 2 * long.mean()
    assert drawn.std() > max(short.std(), long.std()) and long.mean() < drawn.mean() < short.mean()
    same = PeriodicGaussianProcess(shortest=0.3, longest=0.3).sample(60, x, np.random.default_rng(0))
    assert np.isfinite(same).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shortest": 0.1}, "come together"),
        ({"length_scale": 0.0}, "must be positive"),
        ({"shortest": 0.5, "longest": 0.2}, "increasing"),
    ],
)
def test_impossible_length_scales_are_explained(settings, message):
    with pytest.raises(ValueError, match=message):
        PeriodicGaussianProcess(**settings)


def test_random_waves_have_only_their_wave_numbers():
    x = np.arange(64) / 64
    fields = RandomWaves(num_waves=2, highest=8).sample(200, x, np.random.default_rng(0))
    hat = np.abs(np.fft.rfft(fields)) / 32
    assert (np.count_nonzero(hat > 1e-12, axis=1) <= 2).all() and np.abs(fields).max() <= 2
    assert hat[:, 9:].max() < 1e-12 and hat[:, 0].max() < 1e-12
    assert (hat[:, 1:9] > 0.1).any(axis=0).all()


def test_short_waves_lie_beyond_a_band_of_23():
    x = np.arange(64) / 64
    hat = np.abs(np.fft.fft2(PeriodicShortWaves().sample(20, [x, x], np.random.default_rng(0))))
    assert hat[:, :24].max() < 1e-9 * hat.max() and hat[:, :, :24].max() < 1e-9 * hat.max()
