"""Evaluation: what is measured is what is said, on tiny counts."""

import json

import numpy as np
import pytest
import torch

from pihc_zoo import evaluation
from pihc_zoo.config import ConfigError
from pihc_zoo.families import FAMILIES, OUT_OF_FAMILY, RandomSines
from pihc_zoo.reference import baselines


@pytest.fixture(scope="module")
def references():
    from pihc_zoo.problems import DiffusionSorption

    return evaluation.reference_set(DiffusionSorption(), RandomSines(), (), 3, seed=5)


@pytest.fixture
def model(tiny_model):
    model = tiny_model()
    model.name = "tiny"
    return model


def test_cache_returns_the_same_references_without_solving(tmp_path, problem, monkeypatch):
    cache = tmp_path / "folder" / "cache.npz"
    first = evaluation.reference_set(problem, RandomSines(), ("D",), 2, 1, cache)
    monkeypatch.setattr("pihc_zoo.evaluation.references.truth_solver", lambda problem: pytest.fail("solved again"))
    again = evaluation.reference_set(problem, RandomSines(), ("D",), 2, 1, cache)
    for a, b in ((first.u0, again.u0), (first.u, again.u), (first.parameters["D"], again.parameters["D"])):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", ["seed", "damage"])
def test_cache_of_other_draws_or_damaged_is_made_again(tmp_path, problem, change):
    cache = tmp_path / "cache.npz"
    evaluation.reference_set(problem, RandomSines(), (), 1, 1, cache)
    if change == "damage":
        cache.write_bytes(cache.read_bytes()[:100])
    seed = 2 if change == "seed" else 1
    found = evaluation.reference_set(problem, RandomSines(), (), 1, seed, cache)
    expected = evaluation.reference_set(problem, RandomSines(), (), 1, seed)
    np.testing.assert_array_equal(found.u, expected.u)


def test_relative_error_is_zero_for_truth_one_for_zero_and_scales(references):
    np.testing.assert_array_equal(evaluation.relative_error(references.u, references.u), 0)
    np.testing.assert_allclose(evaluation.relative_error(0 * references.u, references.u), 1)
    np.testing.assert_allclose(evaluation.relative_error(1.25 * references.u, references.u), 0.25)


def test_take_repeats_whole_trajectories(references):
    rows = references.take(np.array([2, 0, 2]))
    np.testing.assert_array_equal(rows.u[0], references.u[2])
    np.testing.assert_array_equal(rows.u0[2], references.u0[2])


def test_accuracy_counts_failures_apart(model, references):
    broken = references.take(slice(0, 2))
    broken.u0 = broken.u0.copy()
    broken.u0[1, 3] = np.nan
    whole, part = evaluation.accuracy(model, references.take(slice(0, 1))), evaluation.accuracy(model, broken)
    assert (whole["failed"], part["failed"], part["count"]) == (0, 1, 2)
    assert part["max"] == pytest.approx(whole["max"], rel=1e-9)


def test_ladder_errors_fall_from_the_lift_to_two_picard_steps(problem, references):
    rows = evaluation.ladder(problem, references, batch=3, repeats=1)
    errors = [row["error_mean"] for row in rows]
    assert errors[0] > errors[1] > errors[2]
    assert [row["name"] for row in rows] == [
        "lift alone",
        "lift + 1 Picard step",
        "lift + 2 Picard steps",
        "lift + 3 Picard steps",
    ]


def test_ladder_ends_with_the_untrained_and_the_trained_network(problem, model, references):
    rows = evaluation.ladder(problem, references.take(slice(0, 1)), model, batch=1, repeats=1)
    assert [row["name"] for row in rows[-2:]] == ["untrained network", "trained network"]
    assert rows[-1]["error_mean"] == evaluation.accuracy(model, references.take(slice(0, 1)))["mean"]


def test_cheapest_is_as_accurate_as_asked_or_says_that_it_is_not(problem, references):
    family = baselines(problem)["picard"]
    _, loose = evaluation.cheapest(family, references, 1e-3, batch=3)
    assert loose["is_equal"] and loose["error_mean"] <= 1e-3
    _, impossible = evaluation.cheapest(family[:2], references, 1e-12, batch=3)
    assert not impossible["is_equal"] and impossible["error_mean"] > 1e-12


def test_solvers_of_single_trajectories_take_the_loosest_sufficient_tolerance(problem, references):
    few, family = references.take(slice(0, 1)), baselines(problem)["lsoda"]
    loose, tight = (evaluation.cheapest(family, few, error)[1] for error in (1e-2, 1e-5))
    assert loose["is_equal"] and tight["is_equal"]
    assert loose["settings"]["rtol"] > tight["settings"]["rtol"]


def test_compare_gives_ratios_of_medians_and_only_at_equal_error(model, references):
    own, *others = evaluation.compare(model, references.take(slice(0, 2)), batch=2, repeats=1)
    for row in others:
        assert row["is_equal"] == (row["error_mean"] <= own["error_mean"])
        assert row["ratio"] == (pytest.approx(row["ms"] / own["ms"]) if row["is_equal"] else None)


def test_benchmark_rejects_rows_beyond_the_stated_error(model, references):
    few = references.take(slice(0, 2))
    accepted = evaluation.benchmark(model, few, batches=(1, 3), experts=(None, 1), repeats=1, stated_error=1.0)
    assert [(row["batch"], row["experts"]) for row in accepted] == [(1, 2), (1, 1), (3, 2), (3, 1)]
    assert all(row["is_accepted"] for row in accepted)
    rejected = evaluation.benchmark(model, few, batches=(1,), experts=(None,), repeats=1, stated_error=1e-9)
    assert [(row["is_accepted"], row["ratio"]) for row in rejected] == [(False, None)]


def test_timing_is_on_one_thread_and_restores_the_number():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []
        result = evaluation.timing(lambda: seen.append(torch.get_num_threads()), repeats=4)
        assert seen == [1] * 5 and result["repeats"] == 4  # one call warms up
        assert result["lowest"] <= result["median"] <= result["highest"]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_peak_memory_sees_a_large_array():
    peak = evaluation.peak_memory(lambda: np.ones(20_000_000).sum())
    assert peak is None or 120 < peak < 400  # 160 MB


def test_spearman_of_known_data():
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert evaluation.spearman(a, np.exp(a)) == pytest.approx(1)
    assert evaluation.spearman(a, -(a**3)) == pytest.approx(-1)
    assert evaluation.spearman(a, np.array([2.0, 1.0, 4.0, 3.0, 5.0])) == pytest.approx(0.8)
    assert evaluation.spearman(np.array([1.0, 1, 2, 3]), np.array([1.0, 1, 2, 3])) == pytest.approx(1)
    assert evaluation.spearman(a, np.ones(5)) is None
    assert evaluation.spearman(a[:2], a[:2]) is None


def test_trust_counts_what_predict_flags(model, references):
    report = evaluation.trust(model, references)
    flagged = ~references.predict(model).is_reliable
    assert report["false_alarms"] == pytest.approx(flagged.mean())
    assert report["ratio_low"] <= report["ratio_median"] <= report["ratio_high"]


def test_out_of_family_covers_every_such_family_and_flags_values_out_of_range(model):
    flagged = evaluation.out_of_family(model, count=2)
    assert set(flagged) == set(OUT_OF_FAMILY)
    assert flagged["high_plateaus"] == 1


def test_default_families_stay_inside_the_trained_range(model, native_x):
    low, high = model.config["trust"]["state_range"]
    for family in evaluation.default_families(model).values():
        values = family.sample(20, np.linspace(0, 1, 100), np.random.default_rng(0))
        assert low <= values.min() and values.max() <= high


def test_family_of_takes_recorded_settings(model):
    assert evaluation.family_of("constants", model, {"low": 0.1, "high": 0.12}) == FAMILIES["constants"](0.1, 0.12)
    with pytest.raises(ConfigError, match="random_sines"):
        evaluation.family_of("random_sine", model)


def test_report_is_json_and_has_what_cards_read(model):
    families = {"random_sines": RandomSines()}
    report = evaluation.evaluate(model, families, count=2, quick=True)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert set(report["results"]["random_sines"]) >= {"mean", "median", "max", "count"}
    for key in ("ladder", "classical", "experts"):
        assert all({"error_mean", "error_max", "ms"} <= set(row) for row in report[key])
    recorded = report["families"]["random_sines"]
    assert evaluation.family_of("random_sines", model, recorded) == families["random_sines"]
