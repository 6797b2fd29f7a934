"""An unknown initial field on periodic axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pihc_zoo as pz
from pihc_zoo.calibration.smooth_field import SmoothField, recover
from pihc_zoo.families import PeriodicGaussianProcess
from pihc_zoo.grid import FourierAxis

AXES = {"x": FourierAxis(32), "y": FourierAxis(32)}


def test_the_prior_is_the_familys():
    field = SmoothField(AXES, 0.8, 1.5, has_mean=False)
    ours = (field.waves**2).sum(dim=0)
    assert torch.allclose(ours, torch.full_like(ours, 1.5**2)) and abs(field.waves.mean(dim=(1, 2))).max() < 1e-12
    nodes = np.arange(32) / 32
    drawn = PeriodicGaussianProcess(length_scale=0.8, scale=1.5).sample(800, [nodes] * 2, np.random.default_rng(0))
    theirs = (drawn[:, 0, 0, None] * drawn[:, 0]).mean(axis=0)
    own = (field.waves[:, 0, 0, None] * field.waves[:, 0]).sum(dim=0).numpy()
    # the family removes the mean and keeps the other deviations: its correlation is compared
    np.testing.assert_allclose(theirs / theirs[0], own / own[0], atol=0.1)
    with pytest.raises(ValueError, match="waves free, at most 400"):
        SmoothField(AXES, 0.05, 1.0, has_mean=False)


def test_a_linear_solver_gives_the_gaussian_posterior():
    """Diffusion: decay of each wave. The most probable field and its error are known in closed form."""
    axes = {"x": FourierAxis(32)}
    field = SmoothField(axes, 0.6, 1.0, has_mean=True)
    rng = np.random.default_rng(1)
    matrix = torch.as_tensor(rng.standard_normal((25, 32))) / 6
    truth = field(torch.as_tensor(rng.standard_normal((1, len(field.waves)))))[0]
    sigma = np.full(25, 0.1)
    target = (matrix @ truth).numpy() + sigma * rng.standard_normal(25)
    found = recover(lambda u0: u0 @ matrix.T, field, target, sigma)
    a = (matrix @ field.waves.T).numpy() / sigma[:, None]
    covariance = np.linalg.inv(a.T @ a + np.eye(a.shape[1]))
    waves = field.waves.numpy()
    np.testing.assert_allclose(found.u0, covariance @ a.T @ (target / sigma) @ waves, atol=2e-2)
    np.testing.assert_allclose(found.standard_error**2, np.diag(waves.T @ covariance @ waves), rtol=1e-6)
    assert found.is_converged and 0 < found.num_free < 25


def test_vorticity_is_recovered_from_sensors(tiny_rollout, tmp_path):
    model, rng = tiny_rollout(), np.random.default_rng(3)
    axes = model.problem.output_space
    field = SmoothField(axes, 1.6, 0.3, has_mean=False)
    truth = field(torch.as_tensor(rng.standard_normal((1, len(field.waves)))))
    x, y = (np.tile(part, 2) for part in rng.uniform(0, 1, (2, 30)))
    t = np.repeat([0.0, 2.0], 30)
    (places_x, i), (places_y, j) = (np.unique(part, return_inverse=True) for part in (x, y))
    out = model.predict(truth.numpy(), times=[0.0, 2.0], x={"x": places_x, "y": places_y}, polish=False)
    sigma = 0.02 * float(truth.std())
    u = out.u[0][(t > 0).astype(int), i, j] + sigma * rng.standard_normal(60)
    data = {"x": x, "y": y, "t": t, "u": u, "sigma": sigma}
    fit = pz.calibrate(model, data, ["u0"], length_scale=1.6, deviation=0.3)
    error = np.linalg.norm(fit.u0 - truth[0].numpy()) / np.linalg.norm(truth[0].numpy())
    assert error < 0.05 and 0.5 < fit.reduced_chi2 < 1.8 and fit.u0.shape == (32, 32)
    assert np.sqrt(np.mean(((fit.u0 - truth[0].numpy()) / fit.standard_error) ** 2)) < 2
    fit.plot(tmp_path / "field.png", truth[0].numpy())
    assert (tmp_path / "field.png").exists() and "determine" in fit.summary()
    assert fit.prediction.u.shape[0] == 1
    with pytest.raises(ValueError, match="truth must have the shape"):
        fit.plot(truth=np.zeros(3))
    for options, match in (
        ({"unknown": ["u0"], "data": {**data, "sigma": None}}, "sigma"),
        ({"unknown": ["u0"], "data": [data, data]}, "one experiment"),
        ({"unknown": ["u0"], "data": {**data, "u0": 0.1}}, "both given and unknown|both"),
    ):
        own = {key: value for key, value in options["data"].items() if value is not None} if isinstance(
            options["data"], dict) else options["data"]  # fmt: skip
        with pytest.raises(ValueError, match=match):
            pz.calibrate(model, own, options["unknown"])
