"""Evaluation of roll-outs: what is measured is what is said, with a cheap solver as truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pihc_zoo import evaluation
from pihc_zoo.evaluation import rollouts
from pihc_zoo.families import FAMILIES, PERIODIC_OUT_OF_FAMILY, PeriodicGaussianProcess
from pihc_zoo.reference import baselines, truth_solver
from pihc_zoo.zoo import card

FAMILY = PeriodicGaussianProcess(length_scale=1.2)


@pytest.fixture(autouse=True)
def cheap_truth(monkeypatch):
    """The same solver on a coarse grid, to 1e-4 in time."""
    cheap = {"num_nodes": 32, "rtol": 1e-4}
    monkeypatch.setattr("pihc_zoo.evaluation.references.truth_solver", lambda problem: truth_solver(problem, **cheap))


@pytest.fixture
def model(tiny_rollout):
    model = tiny_rollout(problem={"inputs": ["nu"]}, solver={"max_steps": 20})
    model.name = "tiny"
    return model


@pytest.fixture
def references(model):
    """Two trajectories on 32² points."""
    return evaluation.reference_set(model.problem, FAMILY, model.parameter_inputs, 2, 5, num_points=32)


@pytest.mark.parametrize("target", [64, 48, 32, 256])
def test_resampled_fields_are_those_of_the_family_on_that_grid(target):
    rows = []
    for n in (128, target):
        points = [np.arange(n) / n] * 2
        rows.append(FAMILY.sample(2, points, np.random.default_rng(3)))
    found = evaluation.ReferenceSet(rows[0], {}, rows[0][:, None]).resampled(target)
    assert_allclose(found.u0, rows[1], rtol=0, atol=1e-9)
    assert_allclose(found.u[:, 0], rows[1], rtol=0, atol=1e-9)


def test_a_fine_set_has_the_truths_points_and_a_cache(model, tmp_path, monkeypatch):
    draw = (model.problem, FAMILY, ("nu",), 1, 3)
    first = evaluation.fine_reference_set(*draw, cache=tmp_path / "a.npz")
    assert first.u.shape[2:] == (128, 128)
    monkeypatch.setattr("pihc_zoo.evaluation.references.truth_solver", lambda problem: pytest.fail("solved again"))
    again = evaluation.fine_reference_set(*draw, cache=tmp_path / "a.npz")
    np.testing.assert_array_equal(first.u, again.u)


def test_errors_of_what_has_decayed_are_relative_to_what_it_was():
    """Noise of 1e-9 on a field that has decayed to nothing is no error; elsewhere nothing changes."""
    truth = np.exp(-np.array([0.0, 1.0, 60.0]))[None, :, None] * np.ones((1, 3, 8))
    error = 1e-9 * np.ones_like(truth)
    squares = [np.square(field).mean(axis=2) for field in (error, truth)]
    found = evaluation.relative_at(*squares)
    assert_allclose(found[:, :2], 1e-9 / truth[:, :2, 0], rtol=1e-12)
    assert found[0, 2] < 1e-6
    assert_allclose(evaluation.end_error(truth + error, truth), found[:, 2], rtol=1e-5)


def test_fixed_parameters_change_neither_the_initial_conditions_nor_the_others(model):
    draw = (model.problem, FAMILY, ("nu",), 2, 3)
    drawn, fixed = (evaluation.reference_set(*draw, num_points=32, fixed=f) for f in (None, {"nu": 1e-3}))
    np.testing.assert_array_equal(drawn.u0, fixed.u0)
    np.testing.assert_array_equal(fixed.parameters["nu"], 1e-3)
    assert not np.array_equal(drawn.u, fixed.u)


def test_streamed_squares_give_the_error_of_the_whole(model, references, monkeypatch):
    whole = references.errors(model)
    monkeypatch.setattr(rollouts, "_VALUES_A_PIECE", 1)  # one trajectory at a time
    error, scale = rollouts.mean_squares(model, references)
    assert_allclose(np.sqrt(error.sum(1) / scale.sum(1)), whole, rtol=1e-6)


def test_sections_agree_on_the_error_at_the_end(model, references):
    (row,), squares = rollouts.resolutions(model, references, (32,), batch=2, repeats=1)
    over_time = rollouts.error_over_time(model, *squares[32])
    windows = rollouts.windows(model, *squares[32], references.predict(model).iterations)
    assert len(over_time["mean"]) == len(model.problem.output_times) and over_time["mean"][0] == 0
    assert row["end_mean"] == over_time["mean"][-1] == windows[-1]["error_mean"]
    assert [w["window"] for w in windows] == [1, 2] and windows[-1]["t"] == model.problem.duration


def test_final_state_obeys_parseval_and_conservation(model, references):
    spectra, drift = rollouts.final_state(model, references)
    u = references.predict(model).u[:, -1]
    assert_allclose(sum(spectra["enstrophy"]["surrogate"]), 0.5 * np.square(u).mean(), rtol=1e-6)
    wave = 2 * np.pi * np.array(spectra["energy"]["k"])
    low = np.sum(spectra["enstrophy"]["truth"] / wave**2)
    assert_allclose(sum(spectra["energy"]["truth"]), low, rtol=0.05)  # shells have a width
    assert drift["divergence"] < 1e-10 and drift["mean_of_field"] < 1e-12
    assert 0 <= drift["energy"]["mean"] <= drift["energy"]["max"]


def test_the_lift_alone_does_not_know_the_weights(tiny_rollout, references):
    answers = []
    for seed in (0, 1):
        bare = evaluation.ingredients.without_network(tiny_rollout(seed=seed))
        answers.append(evaluation.unsolved(bare, references.take(slice(0, 1))))
    np.testing.assert_array_equal(*answers)


def test_ladder_of_a_roll_out(model, references):
    rows = evaluation.ladder(model.problem, references, model, batch=1, repeats=1)
    assert [row["name"] for row in rows] == ["lift alone", "untrained network", "trained network"]
    assert rows[-1]["error_mean"] == evaluation.accuracy(model, references)["mean"]


def test_cheapest_passes_over_unstable_and_inaccurate_settings(model, references):
    family = baselines(model.problem)["pseudo-spectral"]
    _, found = evaluation.cheapest(family, references, 1e-2, batch=2)
    assert found["is_equal"] and found["error_mean"] <= 1e-2 and found["failed"] == 0


def test_batches_shrink_with_the_unknowns(model, tiny_model):
    assert evaluation.default_batch(tiny_model()) == 64
    model.num_windows = 1000
    assert evaluation.default_batch(model) == 16


def test_bins_of_a_parameter_hold_every_trajectory_once(model, references):
    rows = evaluation.by_parameter(model, references, FAMILY, {"low": {"nu": 1e-4}})
    assert sum(row["count"] for row in rows if "low" in row) == len(references)
    for row in rows[:-1]:
        inside = (references.parameters["nu"] >= row["low"]) & (references.parameters["nu"] <= row["high"])
        assert row["count"] == inside.sum()
    assert rows[-1]["name"] == "low" and rows[-1]["values"] == {"nu": 1e-4}


@pytest.mark.slow
def test_report_is_json_and_its_card_renders(model, tmp_path, monkeypatch):
    for place in ("report", "classical", "rollouts", "ingredients"):
        monkeypatch.setattr(f"pihc_zoo.evaluation.{place}.default_batch", lambda model: 2)
    report = evaluation.evaluate(model, {"vortices": FAMILY}, count=2, sizes=(32, 64), cache=tmp_path)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert set(report["out_of_family"]) == set(PERIODIC_OUT_OF_FAMILY)
    assert evaluation.family_of("periodic_gaussian_process", model, report["families"]["vortices"]) == FAMILY
    text = card.render(model.config, report, "n", load_name="n", files=[], image_base="")
    card.check_card(text)
    for heading in ("By parameter", "Resolutions", "Over time", "Spectra", "Conserved quantities"):
        assert f"## {heading}" in text
    assert "u0: (batch, n, n), n even and at least 32" in text and "built-in" not in text and "nan" not in text.split()


def test_default_families_are_periodic(model):
    assert all(family.is_periodic for family in evaluation.default_families(model).values())
    assert evaluation.family_of("periodic_strong_fields", model) == FAMILIES["periodic_strong_fields"]()
