"""Calibration of several fields: each reading is of one of them, and all of them weigh."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from text_models import initial, model

import pihc_zoo as pz
from pihc_zoo.calibration.measurements import read_experiments
from pihc_zoo.calibration.readings import Readings
from pihc_zoo.calibration.unknowns import check_unknowns
from pihc_zoo.cli import main

NAME, TRUE = "gray-scott-small", {"D": 1.4e-3}
T, X = (part.ravel() for part in np.meshgrid([0.5, 1.0, 2.0], np.arange(8) / 8, indexing="ij"))


@pytest.fixture(scope="module")
def exact():
    """Readings of both fields without noise, and sigma."""
    u0 = initial(NAME, 1)[0]
    u = model(NAME).predict(u0[None], x=np.unique(X), times=np.unique(T), parameters=TRUE).u[0].reshape(-1, 2)
    return {"u0": u0, "x": X, "t": T, "u": u[:, 0], "v": u[:, 1], "sigma_u": 2e-4, "sigma_v": np.full(len(X), 1e-4)}


def without(data, *keys):
    return {key: value for key, value in data.items() if key not in keys}


def test_readings_without_noise_return_the_truth(exact):
    fit = pz.calibrate(model(NAME), exact, "D", starts=2)
    assert fit.is_trustworthy and abs(fit.parameters["D"] / TRUE["D"] - 1) < 1e-4
    assert len(fit.residual) == 48 and set(fit.sigma) == {1e-4, 2e-4}


def test_each_field_tells_something_and_both_tell_as_much_as_their_information(exact):
    """1/σ² of D by both fields is the sum of those by each alone."""
    both, one, other = (
        pz.calibrate(model(NAME), data, "D", starts=1).standard_error["D"] ** -2
        for data in (exact, without(exact, "v", "sigma_v"), without(exact, "u", "sigma_u"))
    )
    assert both == pytest.approx(one + other, rel=1e-3) and min(one, other) > 0.01 * both


def test_sensitivities_of_every_field_are_differences(exact):
    own = model(NAME)
    unknowns = check_unknowns(own, ["D"], {})
    readings = Readings(own, read_experiments(exact, own.problem, True), unknowns, {})
    values, jacobian = readings.sensitivities(np.array([[0.1]]))
    above, below = readings.values(np.array([[0.1 + 1e-3], [0.1 - 1e-3]]))
    assert_allclose(jacobian[0, :, 0], (above - below) / 2e-3, rtol=1e-3, atol=1e-3 * abs(jacobian).max())
    assert list(readings.field) == [0] * 24 + [1] * 24 and not np.allclose(values[0, :24], values[0, 24:])


def test_noisy_fields_are_fitted_polished_and_drawn(exact, tmp_path):
    rng = np.random.default_rng(0)
    noisy = {**exact, **{key: exact[key] + exact[f"sigma_{key}"] * rng.standard_normal(24) for key in ("u", "v")}}
    fit = pz.calibrate(model(NAME), noisy, "D", starts=1, polish=True)
    assert fit.is_trustworthy and fit.is_polished and fit.interval["D"][0] < TRUE["D"] < fit.interval["D"][1]
    assert abs(fit.parameters["D"] - fit.surrogate_parameters["D"]) < 0.1 * fit.standard_error["D"]
    figure = fit.plot(tmp_path / "fit.png")
    titles = [axes.get_title("left") for part in figure.subfigs for axes in part.axes]
    assert "Readings of u ± σ on the fit" in titles and "Readings of v ± σ on the fit" in titles


@pytest.mark.parametrize(
    ("change", "unknown", "text"),
    [
        (lambda d: without(d, "u", "v"), "D", "no column of a field in the measurements: expected one or more of u, v"),
        (lambda d: without(d, "sigma_u"), "D", "sigma is needed where several fields were measured"),
        (lambda d: {**d, "w": 1.0}, "D", "unknown column 'w'"),
        (lambda d: {**d, "v": d["v"] * 100}, "D", r"v must lie in the problem's range of states \[-1, 1\] kg/m³"),
        (lambda d: {**d, "u0": d["u0"][:, 0]}, "D", "u0 must be 2 numbers, one per field"),
        (lambda d: without(d, "u0"), "u0", "u0 cannot be unknown where there are several fields"),
    ],
)
def test_what_is_refused_of_systems(exact, change, unknown, text):
    with pytest.raises(ValueError, match=text):
        pz.calibrate(model(NAME), change(exact), unknown)


def test_the_command_reads_a_column_per_field(exact, tmp_path, capsys):
    table = np.stack([X, T, exact["u"], exact["v"]], axis=1)
    np.savetxt(tmp_path / "both.csv", table, delimiter=",", header="x,t,u,v", comments="")
    np.savez(tmp_path / "start.npz", u0=exact["u0"])
    model(NAME).save_pretrained(tmp_path / "model")
    arguments = ["calibrate", str(tmp_path / "model"), str(tmp_path / "both.csv"), "--u0", str(tmp_path / "start.npz")]
    assert main([*arguments, "--unknown", "D", "--sigma", "1e-4", "--starts", "1"]) == 0
    assert "48 readings of 1 experiment" in capsys.readouterr().out


def test_steady_problems_are_refused():
    with pytest.raises(ValueError, match="calibration reads trajectories, and darcy-2d is steady"):
        pz.calibrate(pz.from_pretrained("darcy-2d.lognormal"), {"x": X, "u": X}, "a")
