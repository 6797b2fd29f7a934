"""`pz.sample` and `pz.evaluate`: a model on its test families, from Python as from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import pihc_zoo as pz
from pihc_zoo import evaluation
from pihc_zoo.cli import main
from pihc_zoo.families import Constants
from pihc_zoo.zoo.registry import shipped_folder

GENERAL, PARAMETRIC = "diffusion-sorption.general", "diffusion-sorption.parametric"


@pytest.fixture
def folder(tiny_model, tmp_path):
    return tiny_model(problem={"inputs": ["D"]}).save_pretrained(tmp_path / "tiny")


# ------------------------------------------------------------------ draws


def test_draws_are_those_of_the_measurement():
    model = pz.from_pretrained(GENERAL)
    family = evaluation.family_of("random_sines", model, pz.model_info(GENERAL)["metrics"]["families"]["random_sines"])
    references = evaluation.reference_set(model.problem, family, (), 2, seed=5, quiet=True)
    u0, parameters = pz.sample(GENERAL, 2, seed=5)
    assert_array_equal(u0, references.u0)
    assert parameters == {} and u0.shape == (2, 1024)


def test_a_name_a_folder_and_a_model_give_the_same_draws():
    for given in (PARAMETRIC, shipped_folder(PARAMETRIC), pz.from_pretrained(PARAMETRIC)):
        u0, parameters = pz.sample(given, 3)
        assert set(parameters) == {"D", "phi", "n_f"} and all(value.shape == (3,) for value in parameters.values())
        assert_array_equal(u0, pz.sample(PARAMETRIC, 3)[0])
        assert_array_equal(parameters["D"], pz.sample(PARAMETRIC, 3)[1]["D"])


@pytest.mark.parametrize("name", pz.list_models())
def test_every_model_answers_its_own_draws(name):
    model = pz.from_pretrained(name)
    u0, parameters = pz.sample(model, 1)
    times = None if model.problem.duration is None else [model.problem.duration / 10]
    assert np.isfinite(model.predict(u0, parameters=parameters, times=times).u).all()


def test_families_are_the_recorded_ones_or_chosen():
    low, high = (
        pz.model_info("diffusion-sorption.pdebench")["metrics"]["families"]["constants"][key] for key in ("low", "high")
    )
    u0, _ = pz.sample("diffusion-sorption.pdebench", 8)
    assert (np.ptp(u0, axis=1) == 0).all() and low <= u0.min() < u0.max() <= high
    assert np.ptp(pz.sample(GENERAL, 1, "gaussian_process")[0]) > 0
    assert_array_equal(pz.sample(GENERAL, 2, Constants(0.1, 0.1))[0], np.full((2, 1024), 0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GENERAL, 0), "count must be an integer of at least 1, got 0"),
        ((GENERAL, 2.5), "count must be an integer"),
        ((GENERAL, 2, "random_sine"), "did you mean 'random_sines'"),
        (("navier-stokes-2d.re1e4", 2, "random_sines"), "RandomSines draws fields on 1 axes, got positions on 2"),
        ((GENERAL, 2, None, -1), "seed must be an integer of at least 0"),
        (("diffusion-sorption.generl", 2), "did you mean"),
    ],
)
def test_wrong_draws_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pz.sample(*arguments)


def test_the_command_draws_the_same(folder, tmp_path):
    output = tmp_path / "out.npz"
    arguments = [
        "predict",
        str(folder),
        "--sample",
        "2",
        "--times",
        "100",
        "--on-failure",
        "warn",
        "--output",
        str(output),
    ]
    assert main([*arguments, "--seed", "3"]) == 0
    u0, parameters = pz.sample(folder, 2, seed=3)
    out = pz.Prediction.load(output)
    assert_array_equal(out.u0, u0)
    assert_array_equal(out.parameters["D"], parameters["D"])
    assert main([*arguments, "--set", "D=4e-4"]) == 0
    assert_array_equal(pz.Prediction.load(output).parameters["D"], [4e-4, 4e-4])


# ------------------------------------------------------------------ figures


def test_figures_are_a_plain_dict_and_those_of_the_command(folder, tmp_path, capsys):
    options = {"families": ["constants"], "count": 2, "seed": 1, "quick": True}
    report = pz.evaluate(folder, **options, cache=tmp_path / "cache", quiet=True)
    assert json.loads(json.dumps(report)) == report
    assert capsys.readouterr() == ("", "")
    assert list(report["results"]) == ["constants"] and report["results"]["constants"]["count"] == 2
    path = tmp_path / "report.json"
    command = ["evaluate", str(folder), "--family", "constants", "--count", "2", "--seed", "1", "--quick", "--quiet"]
    assert main([*command, "--json", str(path)]) == 0
    again = json.loads(path.read_text())
    for key in ("model", "problem", "families", "results", "trust", "threshold"):
        assert again[key] == report[key], key
    assert set(again) == set(report)


def test_progress_is_shown_unless_quiet(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pihc_zoo.progress.SECONDS_PER_LINE", 0.0)
    model = pz.from_pretrained(folder)
    pz.evaluate(model, ["constants"], 1, quick=True, cache=tmp_path)
    shown = capsys.readouterr().err
    assert "references: 1/1" in shown and "measuring: 7/7" in shown


def test_families_of_ones_own_and_recorded_ones_are_measured(folder, tmp_path):
    report = pz.evaluate(folder, {"mine": Constants(0.1, 0.2)}, 1, quick=True, quiet=True)
    assert report["families"]["mine"] == {"name": "constants", "low": 0.1, "high": 0.2, "clean": 0.0}
    assert list(report["results"]) == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"families": ["constant"]}, "did you mean 'constants'"),
        ({"count": 0}, "count must be an integer of at least 1"),
        ({"model": object()}, "a surrogate of .* with the torch backend, got object"),
    ],
)
def test_what_cannot_be_measured_is_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        pz.evaluate(**{"model": folder, "quiet": True, **arguments})
