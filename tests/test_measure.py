"""Measuring: what is calibrated depends on weights and recipe alone, and ablations are what the recipe says."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from pihc_zoo.config import overridden
from pihc_zoo.evaluation.calibration import calibrated
from pihc_zoo.families import Constants, PeriodicGaussianProcess
from pihc_zoo.reference import truth_solver
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.folder import self_test
from pihc_zoo.zoo.storage import save_folder
from training import ablation, calibration, honesty, inverse, measure
from training.recipe import Recipe, Training, load


@pytest.fixture(autouse=True)
def families_alone(monkeypatch):
    """Calibration on the families alone: other kinds of fields take minutes of classical solutions."""
    monkeypatch.setattr(measure, "KINDS_COUNT", 0)


@pytest.fixture(autouse=True)
def cheap_truth(monkeypatch):
    """On periodic axes the same solver on a coarse grid, to 1e-4 in time."""

    def solver(problem):
        is_periodic = all(axis.is_periodic for axis in problem.output_space.values())
        return truth_solver(problem, **({"num_nodes": 32, "rtol": 1e-4} if is_periodic else {}))

    monkeypatch.setattr("pihc_zoo.evaluation.references.truth_solver", solver)


def recipe_of(model, family, **trust):
    config = {**model.config, "trust": {**model.config["trust"], **trust}}
    return Recipe("tiny", config, Training(), family, {"same": family})


def test_thresholds_follow_the_recipe_not_the_trust_settings_beside_the_weights(tiny_model, tmp_path):
    found = []
    for refinement in (1.2, 1.6):
        model = tiny_model(trust={"refinement": refinement, "threshold": 1e-9})
        recipe = recipe_of(tiny_model(), Constants(0.1, 0.2), refinement=1.4)
        found.append(measure.calibrate(model, recipe, 2, tmp_path))
    assert found[0].trust == found[1].trust and found[0].trust.refinement == 1.4
    assert 0 < found[0].trust.threshold < 1


def test_growth_brings_the_median_ratio_of_a_roll_out_to_one(tiny_rollout, tmp_path):
    model = tiny_rollout(solver={"max_steps": 20})
    recipe = recipe_of(model, PeriodicGaussianProcess(length_scale=1.2))
    calibrated = measure.calibrate(model, recipe, 3, tmp_path)
    assert calibrated.trust.growth != 1
    rows = measure.evaluation.reference_set(
        model.problem, recipe.family, (), 3, measure.CALIBRATION_SEED, tmp_path / "calibrate-same.npz"
    )
    assert np.median(measure.evaluation.ratios_of(calibrated, rows)) == pytest.approx(1, rel=0.02)


class Answered:
    """Trajectories whose answers have these estimated errors; their solutions are not known."""

    def __init__(self, *estimates):
        self.prediction = SimpleNamespace(estimated_error=np.array(estimates), unresolved=np.zeros(len(estimates)))

    def predict(self, model):
        return self.prediction

    def errors_of(self, prediction):
        return np.full(len(prediction.estimated_error), np.nan)


def test_no_model_calls_answers_reliable_that_err_by_a_tenth(tiny_model):
    """A threshold follows a model's own answers, up to where nobody would call them reliable."""
    model = tiny_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = calibrated(model, [Answered(0.01, 0.02)], model.config["trust"])
    assert 0.02 < good.trust.threshold < 0.03
    for estimates in ((0.05, 0.4), (np.inf, 0.1)):
        with pytest.warns(RuntimeWarning, match="above 10 % none is called reliable: take a finer grid"):
            bad = calibrated(model, [Answered(*estimates)], model.config["trust"])
        assert bad.trust.threshold == 0.1


def test_expert_table_says_why_a_combination_has_no_answer(tiny_rollout, vorticity, monkeypatch):
    model = tiny_rollout(n=18, solver={"max_steps": 2, "rtol": 0.5})
    u0 = vorticity(1, 32)
    references = measure.evaluation.ReferenceSet(
        u0, {}, np.repeat(u0[:, None], len(model.problem.output_times), axis=1)
    )
    monkeypatch.setattr("pihc_zoo.evaluation.default_batch", lambda model: 1)
    rows = {(r["decomposition"], str(r["experts"]), r["max_steps"]): r for r in measure.expert_table(model, references)}
    assert rows["joint", "1", 0]["ms"] > 0
    assert rows["overlapping", "{'x': 2, 'y': 2}", 2]["ms"] > 0  # by as many nodes as half a subdomain has
    refused = rows["joint", "{'x': 4, 'y': 4}", 2]
    assert "has 18 points, not divisible into 4" in refused["note"] and refused["ms"] is None


def test_examples_of_fields_on_several_axes_are_small_and_reproduced(tiny_rollout, vorticity, tmp_path):
    model = tiny_rollout(solver={"max_steps": 20})
    save_folder(model, tmp_path)
    u0 = vorticity(2, 64)
    measure.write_example(model, measure.evaluation.ReferenceSet(u0, {}, u0), tmp_path)
    assert (tmp_path / "example.npz").stat().st_size < 300_000
    with np.load(tmp_path / "example.npz") as example:
        assert example["u"].shape[0] == 1 and {"x", "y", "t", "u0"} <= set(example.files)
    assert self_test(model, tmp_path) < 1e-6


def test_ablations_of_roll_outs_split_every_axis_and_those_of_a_recipe_come_first(tiny_rollout, tiny_model):
    flow, other = tiny_rollout(), tiny_model()
    recipe = recipe_of(flow, PeriodicGaussianProcess())
    found = ablation.settings(recipe, flow)
    assert found["PI-HC-MoE"]["decomposition"]["counts"] == {"x": 2, "y": 2}
    assert found["PI-SC"]["solver.max_steps"] == 0 and found["PI-HC"]["decomposition"]["counts"] == {}
    found = ablation.settings(recipe, other)
    assert found.keys() == ablation.ABLATIONS.keys() and found["PI-HC"] == ablation.ABLATIONS["PI-HC"]
    overlapping = found["PI-HC-MoE, overlapping, quadrature-weighted rows"]
    assert overlapping["decomposition.overlap"] == min(6, other.constraint.grid.space["x"].num_nodes // 4 // 2)
    config = overridden(other.config, {key: own for key, own in overlapping.items() if "decomposition" in key})
    Surrogate.from_config(config)  # whose subdomains carry it
    recipe.ablations["mine"] = {"solver": {"max_steps": 1}, "decomposition": {"name": "joint"}, "network.width": 4}
    assert ablation.settings(recipe, other) == recipe.ablations


def test_recipes_may_name_test_parameters_and_ablations(tmp_path):
    text = (measure.recipes.FOLDER / "diffusion-sorption.parametric.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text + '\n[test_parameters]\nthin = { D = 1e-4 }\n\n[ablations."PI-HC"]\nsolver.max_steps = 3\n')
    recipe = load(str(path))
    assert recipe.test_parameters == {"thin": {"D": 1e-4}}
    assert recipe.ablations == {"PI-HC": {"solver": {"max_steps": 3}}}
    assert json.dumps(recipe.config)


@pytest.fixture
def cheap_measurement(monkeypatch, tmp_path, tiny_model):
    """Measuring without its work: what remains is where it writes; the shipped weights are a folder of ours."""
    model = tiny_model(solver={"max_steps": 40})
    save_folder(model, tmp_path / "runs" / "tiny" / "model")
    row = {"mean": 0.01, "max": 0.02, "count": 2}
    results = {"results": {"same": row}, "experts": [], "environment": {"device": "cpu"}}
    x = model.problem.output_space["x"].nodes
    u0 = np.full((2, len(x)), 0.1)
    references = measure.evaluation.ReferenceSet(u0, {}, np.repeat(u0[:, None], 101, axis=1))
    monkeypatch.setattr(measure, "calibrate", lambda model, *arguments: model)
    monkeypatch.setattr(measure, "expert_table", lambda *arguments: [])
    monkeypatch.setattr(measure.evaluation, "evaluate", lambda *arguments, **options: results)
    monkeypatch.setattr(measure.evaluation, "reference_set", lambda *arguments, **options: references)
    monkeypatch.setattr(measure, "WEIGHTS", tmp_path / "weights", raising=False)
    monkeypatch.setattr(measure, "__file__", str(tmp_path / "checkout" / "training" / "measure.py"))
    monkeypatch.chdir(tmp_path)
    return ["diffusion-sorption.general", str(tmp_path / "runs" / "tiny" / "model"), "--ablation-seconds", "0"]


def written(folder):
    return {path.relative_to(folder).parts[0] for path in folder.rglob("config.json")}


def test_measuring_writes_only_where_it_is_told_to(cheap_measurement, tmp_path, capsys):
    assert measure.main(cheap_measurement) == 0
    said = capsys.readouterr().out
    assert "same: mean 1.0000 %, max 2.0000 % of 2" in said and "--to FOLDER" in said
    assert written(tmp_path) == {"runs"}  # the model that was measured
    assert measure.main([*cheap_measurement, "--to", "finished"]) == 0
    assert written(tmp_path) == {"runs", "finished"}
    assert {"metrics.json", "example.npz"} <= {path.name for path in (tmp_path / "finished").iterdir()}
    assert measure.main([*cheap_measurement, "--to", "shipped"]) == 0
    assert (tmp_path / "weights" / "diffusion-sorption.general" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--to", "/proc/x"], "cannot write '/proc/x'"),
        (["--count", "0"], "expected an integer of at least 1"),
        (["--bogus"], "unrecognized arguments"),
    ],
)
def test_measurements_that_cannot_be_kept_are_one_line(cheap_measurement, change, text, capsys):
    assert measure.main([*cheap_measurement, *change]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error


def test_a_model_of_another_problem_is_not_measured(cheap_measurement, capsys):
    assert measure.main(["burgers-1d.viscous", *cheap_measurement[1:]]) == 2
    assert "is a model of diffusion-sorption" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "arguments", "text"),
    [
        (honesty, ["nothing.of-the-kind"], "no shipped model 'nothing.of-the-kind'"),
        (honesty, ["diffusion-sorption.general", "--reliable", "0"], "expected an integer of at least 1, got '0'"),
        (honesty, ["diffusion-sorption.general", "--to", "nowhere"], "'nowhere' has no metrics.json"),
        (calibration, ["--draws", "many"], "expected an integer of at least 1, got 'many'"),
        (inverse, ["--model", "nothing.of-the-kind"], "no shipped model 'nothing.of-the-kind'"),
        (inverse, ["--mod", "navier-stokes-2d.re1e4"], "unrecognized arguments: --mod"),
    ],
)
def test_what_scripts_refuse_is_one_line(script, arguments, text, capsys):
    assert script.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error
