"""Calibration: sensitivities, optima, intervals, verdicts, posterior."""

from __future__ import annotations

import copy
import dataclasses
import json
import time

import numpy as np
import pytest

import pihc_zoo as pz
from pihc_zoo.calibration.emulator import emulate
from pihc_zoo.calibration.intervals import find_ends, open_directions
from pihc_zoo.calibration.least_squares import descend
from pihc_zoo.calibration.measurements import read_experiments
from pihc_zoo.calibration.readings import Readings
from pihc_zoo.calibration.unknowns import Unknown, check_unknowns
from pihc_zoo.calibration.verdict import residual_faults
from pihc_zoo.problems import DiffusionSorption, register_problem
from pihc_zoo.reference import MethodOfLines

X, T = (part.ravel() for part in np.meshgrid([0.2, 0.4, 0.6, 0.8], [100.0, 200.0, 300.0, 400.0, 500.0]))
TRUTH = {"D": 4e-4, "n_f": 0.8}
KNOWN = {"phi": 0.3}
INPUTS = {"name": "diffusion-sorption", "inputs": ["D", "phi", "n_f"]}


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.parametric")


@pytest.fixture(scope="module")
def tight(model):
    """The same, its solves as accurate as they get: what it says is smooth in the parameters."""
    own = copy.deepcopy(model)
    own.constraint.solver = dataclasses.replace(own.constraint.solver, rtol=1e-10, ftol=0.0, max_steps=60)
    return own


@pytest.fixture
def small(tiny_model):
    """An untrained surrogate on few nodes, fast, with D, phi and n_f as inputs."""
    own = tiny_model(problem=INPUTS)
    own.constraint.solver = dataclasses.replace(own.constraint.solver, rtol=1e-9, ftol=0.0, max_steps=40)
    return own


def readings_of(model, z=((0.0, 0.0),), u0=0.05, unknown=("D", "n_f"), x=X, t=T, known=KNOWN):
    """(rows, m) the model's own readings, and the object that makes them."""
    data = {"u0": u0, "x": x, "t": t, "u": np.zeros(len(x))}
    experiments = read_experiments(data, model.problem, True)
    readings = Readings(model, experiments, check_unknowns(model, list(unknown), known), known)
    return readings.values(np.array(z)), readings


def truth(model, u0=0.05, **changes):
    """(m,) the model's own readings at `TRUTH`."""
    unknowns = check_unknowns(model, list(TRUTH), {})
    z = [own.scaled({**TRUTH, **changes}[own.name]) for own in unknowns]
    return readings_of(model, [z], u0)[0][0]


def measured(u, sigma, seed=0, u0=0.05):
    noise = np.random.default_rng(seed).standard_normal(len(u))
    return {"u0": u0, "x": X, "t": T, "u": u + sigma * noise, "sigma": sigma}


# ---------------------------------------------------------------------- sensitivities and optima


def test_sensitivities_are_finite_differences(tight):
    z = np.array([[-0.1, 0.2], [0.3, -0.4]])
    _, readings = readings_of(tight, u0=0.02)
    values, jacobian = readings.sensitivities(z)
    np.testing.assert_allclose(values, readings.values(z), rtol=0, atol=1e-8)
    for k in range(2):
        h = 1e-3 * np.eye(2)[k]
        slopes = (readings.values(z + h) - readings.values(z - h)) / 2e-3
        np.testing.assert_allclose(jacobian[:, :, k], slopes, rtol=0, atol=1e-4 * np.abs(slopes).max())


def test_trials_in_a_batch_are_trials_alone_and_chunks_of_points_change_nothing(small, monkeypatch):
    from pihc_zoo.calibration import readings as module

    rng = np.random.default_rng(0)
    x, t = rng.uniform(0, 1, 60), np.append(rng.uniform(1, 500, 59), 0.0)
    z = rng.uniform(-0.5, 0.5, (3, 2))
    together, readings = readings_of(small, z, x=x, t=t)
    alone = np.concatenate([readings_of(small, z[i : i + 1], x=x, t=t)[0] for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-9)
    assert len(readings.chunks) == 2 and np.allclose(together[:, -1], 0.05)
    monkeypatch.setattr(module, "_POINTS", 200)
    np.testing.assert_allclose(readings_of(small, z, x=x, t=t)[0], together, rtol=0, atol=1e-12)
    out = small.predict(
        np.full(1024, 0.05), x=np.unique(x), times=np.unique(t), polish=False,
        parameters={own.name: float(own.value(z[0, k])) for k, own in enumerate(readings.unknowns)} | KNOWN,
    )  # fmt: skip
    picked = out.u[0][np.searchsorted(np.unique(t), t), np.searchsorted(np.unique(x), x)]
    np.testing.assert_allclose(together[0], picked, rtol=0, atol=1e-9)


def test_noiseless_data_return_the_truth(tight):
    fit = pz.calibrate(tight, {**measured(truth(tight), 1e-5), "u": truth(tight)}, list(TRUTH), KNOWN, polish=False)
    for key, value in TRUTH.items():
        assert fit.parameters[key] == pytest.approx(value, rel=1e-5)
        assert fit.interval[key][0] < value < fit.interval[key][1]
    assert fit.reduced_chi2 < 1e-3 and fit.num_classical == 0


def test_twenty_readings_with_one_percent_noise_find_both_parameters(model):
    solver = MethodOfLines(model.problem, 1e-8, 1e-8)
    u = solver(np.full(1024, 0.02), {**TRUTH, **KNOWN}, times=np.unique(T), x=np.unique(X)).reshape(-1)
    begin = time.process_time()
    fits = [pz.calibrate(model, measured(u, 0.01 * u, seed, 0.02), list(TRUTH), KNOWN) for seed in range(5)]
    seconds = (time.process_time() - begin) / len(fits)
    for key, value in TRUTH.items():
        errors = [abs(fit.parameters[key] / value - 1) for fit in fits]
        assert np.median(errors) < 0.03
    assert all(fit.is_trustworthy for fit in fits)
    assert seconds < 3  # of one thread; half a second where nothing else runs


def test_several_experiments_share_their_unknowns_and_may_differ_in_what_is_known(small):
    unknowns = check_unknowns(small, list(TRUTH), {})
    z = np.array([[own.scaled(TRUTH[own.name]) for own in unknowns]])
    parts = []
    for u0, phi in ((0.05, 0.3), (0.2, 0.4)):
        u, _ = readings_of(small, z, u0, known={"phi": phi})
        parts.append({"u0": u0, "x": X, "t": T, "u": u[0], "sigma": 1e-5})
    fit = pz.calibrate(small, parts, list(TRUTH), {"phi": [0.3, 0.4]}, polish=False)
    alone = pz.calibrate(small, parts[0], list(TRUTH), {"phi": 0.3}, polish=False)
    for key, value in TRUTH.items():
        assert fit.parameters[key] == pytest.approx(value, rel=1e-4)
        assert fit.standard_error[key] < alone.standard_error[key]
    assert fit.prediction.u.shape == (2, 101, 1024) and len(fit.residual) == 40


def test_a_constant_initial_value_is_found_with_the_parameters(small):
    data = measured(truth(small, 0.05), 1e-5)
    del data["u0"]
    fit = pz.calibrate(small, {**data, "u": truth(small, 0.05)}, ["D", "u0"], {"n_f": 0.8, **KNOWN}, polish=False)
    assert fit.parameters["u0"] == pytest.approx(0.05, rel=1e-4)
    assert fit.parameters["D"] == pytest.approx(4e-4, rel=1e-4)


def test_covariance_shrinks_with_the_number_of_readings(small):
    once = measured(truth(small), 0.003)
    four = {key: np.tile(once[key], 4) for key in ("x", "t", "u")} | {"u0": 0.05, "sigma": 0.003}
    a, b = (pz.calibrate(small, own, list(TRUTH), KNOWN, intervals="covariance", polish=False) for own in (once, four))
    np.testing.assert_allclose(b.covariance, a.covariance / 4, rtol=1e-2)


def test_intervals_cover_the_truth_as_often_as_they_say(tiny_model):
    small = tiny_model(problem=INPUTS)
    u, inside, estimated = truth(small, 0.02), [], []
    for seed in range(100):
        data = measured(u, 0.01 * u, seed, 0.02)
        options = {"starts": 1, "intervals": "covariance", "polish": False}
        fit = pz.calibrate(small, data, list(TRUTH), KNOWN, **options)
        inside.append([fit.interval[key][0] <= value <= fit.interval[key][1] for key, value in TRUTH.items()])
        if seed < 12:
            data = {key: value for key, value in measured(u, 0.002, seed, 0.02).items() if key != "sigma"}
            estimated.append(float(pz.calibrate(small, data, list(TRUTH), KNOWN, **options).sigma[0]))
    assert all(0.84 <= share <= 0.97 for share in np.mean(inside, axis=0))  # two standard deviations of the count
    assert np.mean(estimated) == pytest.approx(0.002, rel=0.15)


def test_a_bound_that_is_hit_is_said(small):
    data = measured(truth(small, D=1e-3), 0.001)
    data["u"] = truth(small, D=1e-3) + 0.02  # more transport than the range allows
    fit = pz.calibrate(small, data, ["D"], {"n_f": 0.8, **KNOWN}, polish=False)
    assert fit.parameters["D"] == pytest.approx(1e-3) and not fit.is_trustworthy
    assert any("upper end of the model's range" in message for message in fit.messages)


def test_descents_from_everywhere_meet_and_keep_to_the_bounds():
    t = np.linspace(0.1, 3, 15)

    def curves(z):
        y = np.exp(-np.outer(2 + z[:, 0], t)) * (1 + z[:, 1:2])
        return y, np.stack([-t * y, np.exp(-np.outer(2 + z[:, 0], t))], axis=2)

    target = curves(np.array([[0.3, -0.4]]))[0][0]
    starts = np.array([[0.9, 0.9], [-0.9, -0.9], [0.9, -0.9]])
    best, *others = descend(curves, starts, target, np.full(15, 1e4), True)
    np.testing.assert_allclose(best.end, [0.3, -0.4], atol=1e-4)
    assert all(own.is_merged or own.is_converged for own in others)
    target = curves(np.array([[0.3, 1.6]]))[0][0]  # beyond the bound
    best = descend(curves, starts, target, np.full(15, 1e2), True)[0]
    assert best.end[1] == 1 and best.is_converged


# ---------------------------------------------------------------------- intervals


def curved(z):
    """Two unknowns whose likelihood is a banana."""
    return np.stack([z[:, 0], 3 * (z[:, 1] - 2 * z[:, 0] ** 2)], axis=1)


def test_profile_likelihood_is_that_of_a_fine_grid():
    weights, quantile, z = np.array([5.0, 5.0]), 1.645, np.zeros(2)
    jacobian = weights[:, None] * np.array([[1.0, 0.0], [0.0, 3.0]])
    covariance = np.linalg.inv(jacobian.T @ jacobian)
    ends = find_ends(curved, z, 0.0, covariance, covariance, np.zeros(2), weights, quantile)
    assert ends.method == "profile" and ends.nonlinearity > 1.25 and ends.mismatch < 1.05
    first, second = np.meshgrid(np.linspace(-1, 1, 801), np.linspace(-1, 1, 801), indexing="ij")
    chi2 = ((curved(np.stack([first.ravel(), second.ravel()], 1)) * weights) ** 2).sum(axis=1).reshape(801, 801)
    for k in range(2):
        inside = np.linspace(-1, 1, 801)[chi2.min(axis=1 - k) <= quantile**2]
        np.testing.assert_allclose(ends.z[k], [inside[0], inside[-1]], atol=5e-3)
    by_covariance = find_ends(curved, z, 0.0, covariance, covariance, np.zeros(2), weights, quantile, "covariance")
    assert np.abs(by_covariance.z[1] - ends.z[1]).max() > 0.05


def test_a_linear_problem_keeps_its_covariance():
    matrix = np.array([[3.0, 1.0], [0.5, 2.0], [1.0, -1.0]])
    covariance = np.linalg.inv(matrix.T @ matrix) / 100
    weights = np.full(3, 10.0)
    ends = find_ends(lambda z: z @ matrix.T, np.zeros(2), 0.0, covariance, covariance, np.zeros(3), weights, 1.645)
    assert ends.method == "covariance" and ends.nonlinearity == pytest.approx(1)
    np.testing.assert_allclose(ends.z[:, 1], 1.645 * np.sqrt(np.diag(covariance)))


def test_an_emulator_is_exact_for_polynomials_and_says_its_error_elsewhere():
    target, weights, covariance = np.zeros(2), np.full(2, 5.0), np.diag([0.04, 0.005])
    exact = emulate(curved, np.zeros(2), covariance, target, weights, 3.0, 9.0)
    assert exact.error < 1e-10
    z = np.random.default_rng(0).uniform(exact.low, exact.high, (50, 2))
    np.testing.assert_allclose(exact.values(z), curved(z), atol=1e-10)
    h = 1e-6
    slopes = [(curved(z[:1] + h * e) - curved(z[:1] - h * e))[0] / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(exact.jacobian(z[0]), np.stack(slopes, 1), atol=1e-6)

    def rough(z):
        return curved(z) + 0.02 * np.sign(z[:, :1])

    assert emulate(rough, np.zeros(2), covariance, target, weights, 3.0, 9.0).error > 0.03


def test_fits_that_are_not_linear_enough_get_profile_intervals(model):
    data = measured(truth(model, 0.1), 0.01, 0, 0.1)
    fit = pz.calibrate(model, data, list(TRUTH), KNOWN)
    assert fit.interval_method == "profile" and fit.nonlinearity > 1.25
    low, high = fit.interval["D"]
    assert low < fit.parameters["D"] < high
    z = fit.z.copy()  # at the end of D's interval the best n_f leaves χ² risen by q²
    unknown = fit.readings.unknowns[0]
    z[0] = unknown.scaled(high)
    trials = np.stack([np.full(41, z[0]), np.linspace(-1, 1, 41)], axis=1)
    chi2 = (((fit.readings.values(trials) - data["u"]) / 0.01) ** 2).sum(axis=1)
    assert chi2.min() - float(fit.residual @ fit.residual) == pytest.approx(1.645**2, rel=0.1)


# ---------------------------------------------------------------------- what cannot be known


def free_sorption():
    class FreeSorption(DiffusionSorption):
        name = "free-sorption"
        parameters = {
            **DiffusionSorption.parameters,
            "k_f": dataclasses.replace(
                DiffusionSorption.parameters["k_f"], low=2e-4, high=5e-4, is_logarithmic=True
            ),
            "rho_s": dataclasses.replace(
                DiffusionSorption.parameters["rho_s"], low=1500.0, high=4500.0, is_logarithmic=True
            ),
        }  # fmt: skip

    return FreeSorption


def test_the_product_that_data_determine_is_named(tiny_model):
    register_problem(free_sorption())
    own = tiny_model(problem={"name": "free-sorption", "inputs": ["D", "k_f", "rho_s"]})
    own.constraint.solver = dataclasses.replace(own.constraint.solver, rtol=1e-9, ftol=0.0, max_steps=40)
    u, _ = readings_of(own, [[0.0, 0.1, 0.1]], unknown=("D", "k_f", "rho_s"), known={})
    data = {
        "u0": 0.05,
        "x": X,
        "t": T,
        "u": u[0] + 0.002 * np.random.default_rng(1).standard_normal(20),
        "sigma": 0.002,
    }
    fit = pz.calibrate(own, data, ["D", "k_f", "rho_s"], polish=False)
    assert not fit.is_trustworthy
    assert any("rho_s·k_f" in m or "k_f·rho_s" in m for m in fit.messages), fit.messages
    assert not (fit.is_determined["k_f"] and fit.is_determined["rho_s"])
    assert np.isfinite(list(fit.interval.values())).all() and "not determined" in fit.summary()


def test_open_directions_in_words():
    a, b = (Unknown(name, 1.0, np.e**2, True, "dimensionless") for name in "ab")
    z = np.zeros(2)
    product = open_directions([a, b], z, np.array([[50.0, 50.0]]), 1.0)
    assert product == ["the data do not tell a and b apart: only a·b is determined, to ± 1.4 %; fix one of them"] or (
        "b·a is determined" in product[0]
    )
    (ratio,) = open_directions([a, b], z, np.array([[50.0, -50.0]]), 1.0)
    assert "a/b" in ratio or "b/a" in ratio
    (single,) = open_directions([a, b], z, np.array([[50.0, 0.0]]), 1.0)
    assert "do not determine b" in single
    assert open_directions([a, b], z, 50 * np.eye(2), 1.0) == []


# ---------------------------------------------------------------------- verdicts


def test_noise_is_noise_and_what_is_not_is_flagged():
    rng, owner = np.random.default_rng(0), np.zeros(20, dtype=int)
    coordinates = {"t": T, "x": X}
    alarms = sum(bool(residual_faults(rng.standard_normal(20), coordinates, owner, 2, True)[0]) for _ in range(600))
    assert alarms <= 8  # some 2 are expected
    drift = rng.standard_normal(20) + 2 * (T - 300) / 200
    assert residual_faults(drift, coordinates, owner, 2, True)[0]
    wave = np.sign(np.sin(2 * np.pi * np.arange(60) / 30)) + 0.3 * rng.standard_normal(60)
    faults, _ = residual_faults(wave, {"t": np.arange(60.0)}, np.zeros(60, dtype=int), 2, False)
    assert any("runs" in fault for fault in faults)
    faults, _ = residual_faults(2 * rng.standard_normal(20), coordinates, owner, 2, True)
    assert any("larger than sigma" in fault for fault in faults)
    faults, remarks = residual_faults(0.2 * rng.standard_normal(20), coordinates, owner, 2, True)
    assert not faults and "too large" in remarks[0]


def test_data_of_another_physics_are_flagged(model):
    class Langmuir(DiffusionSorption):
        def retardation_factor(self, u, c):
            return 1 + (1 - c["phi"]) / c["phi"] * c["rho_s"] * 2.2e-3 / (1 + 5 * u.clip(min=0)) ** 2

    solver = MethodOfLines(Langmuir(), 1e-7, 1e-7)
    u = solver(np.full(1024, 0.02), {"D": 4e-4, **KNOWN}, times=np.unique(T), x=np.unique(X)).reshape(-1)
    fit = pz.calibrate(model, measured(u, 0.01 * u, 1, 0.02), list(TRUTH), KNOWN, intervals="covariance", polish=False)
    assert not fit.is_trustworthy and "residuals are larger than sigma" in fit.messages[0]


def test_initial_values_outside_the_trained_range_are_flagged(small):
    fit = pz.calibrate(small, measured(truth(small, 0.5), 0.01, 0, 0.5), ["D"], {"n_f": 0.8, **KNOWN}, polish=False)
    assert not fit.is_trustworthy and any("outside the trained range" in message for message in fit.messages)


def test_the_surrogates_error_is_seen_and_polished_away(small):
    """Sixteen nodes and an untrained network: the error is many of these sigmas."""
    solver = MethodOfLines(small.problem, 1e-8, 1e-8)
    u = solver(np.full(1024, 0.05), {**TRUTH, **KNOWN}, times=np.unique(T), x=np.unique(X)).reshape(-1)
    data = measured(u, 3e-4)
    raw = pz.calibrate(small, data, list(TRUTH), KNOWN, polish=False)
    fit = pz.calibrate(small, data, list(TRUTH), KNOWN)
    assert not raw.is_trustworthy and any("use polish=True" in message for message in raw.messages)
    assert fit.is_polished and fit.num_classical <= 8 and "surrogate alone" in fit.summary()
    assert fit.surrogate_parameters == raw.parameters
    for key, value in TRUTH.items():
        assert abs(fit.parameters[key] - value) < 3 * fit.standard_error[key]
    assert fit.reduced_chi2 < 2 < raw.reduced_chi2 + 2
    assert sum(abs(fit.parameters[k] / v - 1) for k, v in TRUTH.items()) < sum(
        abs(raw.parameters[k] / v - 1) for k, v in TRUTH.items()
    )


# ---------------------------------------------------------------------- posterior, figures, files


@pytest.fixture(scope="module")
def fit(model):
    return pz.calibrate(model, measured(truth(model, 0.02), 0.01 * truth(model, 0.02), 0, 0.02), list(TRUTH), KNOWN)


def test_the_posterior_of_a_nearly_linear_problem_is_the_covariances(fit):
    pytest.importorskip("emcee")
    posterior = fit.sample(1500)
    assert posterior.log_probability.shape == (1500, 32) and posterior.emulator_error < 0.03
    for key, (low, high) in posterior.interval().items():
        width = fit.interval[key][1] - fit.interval[key][0]
        assert abs(low - fit.interval[key][0]) < 0.1 * width and abs(high - fit.interval[key][1]) < 0.1 * width
    assert posterior.messages == [] and "polynomial of degree" in posterior.summary()
    again = fit.sample(20, burn_in=0, seed=3)
    np.testing.assert_array_equal(fit.sample(20, burn_in=0, seed=3).chain["D"], again.chain["D"])


def test_the_emulated_chain_is_the_surrogates(fit):
    pytest.importorskip("emcee")
    options = {"draws": 3, "walkers": 8, "burn_in": 0, "seed": 1}
    emulated, direct = fit.sample(**options), fit.sample(**options, emulate_readings=False)
    np.testing.assert_allclose(emulated.log_probability, direct.log_probability, atol=0.05)
    assert direct.emulator_error == 0 and direct.num_solves >= 24 and "every likelihood a solve" in direct.likelihood
    assert "the chain is short" in emulated.messages[0]
    with pytest.raises(ValueError, match="walkers must be even and at least 4, got 3"):
        fit.sample(10, 3)


def test_figures_and_files(fit, tmp_path):
    fit.plot(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes()[:6] == b"\x89PNG\r\n"
    with pytest.raises(ValueError, match="there is no experiment 1"):
        fit.plot(experiment=1)
    record = json.loads(fit.save(tmp_path / "fit.json").read_text())
    assert record["parameters"] == fit.parameters and record["known"] == {"phi": [0.3]}
    assert repr(fit).startswith("Fit(D = ") and "trustworthy" in fit.summary()
    assert fit.prediction.u.shape == (1, 101, 1024)
    posterior = pytest.importorskip("emcee") and fit.sample(50)
    posterior.plot(tmp_path / "posterior.png")
    with np.load(posterior.save(tmp_path / "draws.npz")) as arrays:
        assert arrays["D"].shape == (50, 32)
