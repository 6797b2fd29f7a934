"""Fine-tuning lowers what it is asked to lower, keeps the given model, and refuses data that does not fit."""

import copy
import dataclasses
import importlib
import json
import warnings

import numpy as np
import pytest
import torch

import pihc_zoo as pz
from pihc_zoo.cli import main
from pihc_zoo.problems import DiffusionSorption
from pihc_zoo.reference import MethodOfLines

module = importlib.import_module("pihc_zoo.learning.tuning")
X = (np.arange(1024) + 0.5) / 1024


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.general")


@pytest.fixture(scope="module")
def data(model):
    u0 = 0.15 + 0.1 * np.sin(np.pi * np.outer(np.arange(1, 7), X))
    u = model.predict(u0).u
    return {"u0": u0, "u": u * (1 + 1e-3 * np.sin(3 * X))}  # solutions that the physics alone does not give


def test_data_loss_falls_and_the_given_model_stays(model, data, tmp_path):
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    tuned = pz.finetune(
        model, data, tmp_path / "tuned", loss="data", steps=20, learning_rate=1e-3, validation=0.0, quiet=True
    )
    errors = [np.linalg.norm(m.predict(data["u0"]).u - data["u"]) for m in (model, tuned.model)]
    assert errors[1] < errors[0]
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, before[key])
    again = pz.from_pretrained(str(tmp_path / "tuned"))
    np.testing.assert_array_equal(again.predict(data["u0"]).u, tuned.model.predict(data["u0"]).u)


def test_never_worse_on_the_held_out_part(model, data):
    tuned = pz.finetune(model, data, loss="data", steps=3, learning_rate=0.5, validation=0.5, quiet=True)
    held = np.random.default_rng(0).permutation(6)[:3]
    errors = [np.linalg.norm(m.predict(data["u0"][held]).u - data["u"][held]) for m in (model, tuned.model)]
    assert errors[1] <= errors[0] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"u": None}, "needs solutions"),
        ({"u0": None, "u": None}, "must have the key 'u0'"),
        ({"u": np.zeros((2, 3, 4))}, "u must have the shape"),
        ({"u0": -np.ones((6, 1024))}, "negative"),
        ({"parameter_D": np.full(6, 1.0)}, "parameter D"),
    ],
)
def test_data_that_does_not_fit(model, data, change, text):
    wrong = {key: value for key, value in {**data, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=text):
        pz.finetune(model, wrong, loss="data", steps=1, quiet=True)


# ------------------------------------------------------------------ what is said about the data


@pytest.fixture(scope="module")
def other_physics(data):
    """Solutions of the same initial conditions with D = 6e-4, by the classical solver."""
    solve = MethodOfLines(DiffusionSorption(), rtol=1e-8, atol=1e-8)
    return {"u0": data["u0"], "u": np.stack([solve(u0, {"D": 6e-4}) for u0 in data["u0"]])}


def test_data_of_another_equation_are_named_in_percent(model, other_physics, tmp_path, capsys):
    with pytest.warns(RuntimeWarning, match="contradict the equation") as caught:
        tuned = pz.finetune(model, other_physics, tmp_path / "tuned", steps=2)
    warning = str(caught[0].message)
    assert caught[0].filename == __file__
    assert "6 of 6 trajectories" in warning and "D = 0.0005 m²/s" in warning and "the axes (t, x)" in warning
    u = model.predict(other_physics["u0"]).u
    away = np.linalg.norm((u - other_physics["u"]).reshape(6, -1), axis=1)
    away = np.mean(away / np.linalg.norm(other_physics["u"].reshape(6, -1), axis=1))
    history = tuned.history
    assert f"{100 * history.contradiction:.3g} % away from its solutions" in warning
    assert history.contradiction == pytest.approx(away, rel=0.02) and history.contradiction > 0.03
    assert history.before.error > 0.03 > 100 * history.before.estimated_error
    said = capsys.readouterr().out
    assert f"held-out error of 1 trajectory: {100 * history.before.error:.3g} % before, " in said
    written = json.loads((tmp_path / "tuned" / "history.json").read_text(encoding="utf-8"))
    assert written["before"]["error"] == history.before.error and written["contradiction"] == history.contradiction


def test_data_of_the_equation_raise_no_doubt(model, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned = pz.finetune(model, data, steps=1, quiet=True)
    assert tuned.history.contradiction is None


def test_a_model_that_is_wrong_beyond_its_estimate_is_not_held_against_the_data(model, data, monkeypatch):
    """The classical solver decides."""
    wrong = copy.deepcopy(model)
    predict = type(model).predict

    def off(self, *arguments, **options):
        out = predict(self, *arguments, **options)
        return dataclasses.replace(out, u=out.u * 1.02)

    monkeypatch.setattr(type(wrong), "predict", off)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned = pz.finetune(wrong, data, steps=1, quiet=True)
    assert tuned.history.contradiction is None and tuned.history.before.error > 0.01


def test_errors_are_said_unless_quiet_and_without_solutions_they_are_estimates(model, data, capsys):
    tuned = pz.finetune(model, {"u0": data["u0"]}, loss="physics", steps=2)
    before = tuned.history.before.estimated_error
    assert f"held-out estimated error of 1 trajectory: {100 * before:.3g} % before" in capsys.readouterr().out
    asked = {"times": model.problem.output_times[1:], "polish": False}
    assert before == pytest.approx(model.predict(data["u0"][_held(6)], **asked).estimated_error.mean(), rel=0.01)
    pz.finetune(model, data, steps=1, quiet=True)
    out, err = capsys.readouterr()
    assert out == err == ""


def _held(count, fraction=0.2):
    return np.random.default_rng(0).permutation(count)[: round(fraction * count)]


@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_where_no_step_is_better_the_given_weights_return(model, data, capsys, tmp_path, rate):
    tuned = pz.finetune(model, data, tmp_path / "tuned", loss="data", steps=10, learning_rate=rate)
    assert "the model returned is the one given, unchanged" in capsys.readouterr().out
    assert tuned.history.after == tuned.history.before and not tuned.history.is_improved
    assert tuned.model.name == model.name
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, tuned.model.network.state_dict()[key])


def test_divergence_keeps_the_best_state_so_far(model, data, monkeypatch):
    """From the fifth step on the loss is not finite."""
    step, count = module.take_step, iter(range(4))

    def failing(loss, *arguments):
        step(loss if next(count, None) is not None else loss * torch.nan, *arguments)

    monkeypatch.setattr(module, "take_step", failing)
    tuned = pz.finetune(model, data, loss="data", steps=20, learning_rate=1e-3, validation=0, quiet=True)
    history = tuned.history
    assert history.is_improved and history.after.error < history.before.error
    assert history.stopped.startswith("stopped at step 4 of 20") and "lower the learning rate" in history.stopped


# ------------------------------------------------------------------ refusals


def test_solutions_in_another_order_are_refused(model, data):
    with pytest.raises(ValueError, match=r"u does not start at u0.*another order"):
        pz.finetune(model, {"u0": data["u0"], "u": data["u"][::-1]}, steps=1, quiet=True)
    late = {
        "u0": data["u0"],
        "u": data["u"][::-1, 20:40],
        "t": model.problem.output_times[20:40],
    }  # no start to compare
    with pytest.raises(ValueError, match="u is in another order than u0"):
        pz.finetune(model, late, steps=1, quiet=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: {"u": d["u"][:, :1], "t": [0.0]}, r"t = 0 only"),
        (lambda d: {"u": 1.1 * d["u"]}, "u does not start at u0"),
        (lambda d: {"u": np.where(np.arange(6)[:, None, None] == 4, np.nan, d["u"])}, "not finite in 1 of 6 .* is 4"),
        (lambda d: {"u0": np.where(np.arange(1024) == 7, np.nan, d["u0"])}, "not finite"),
        (lambda d: {"u": 0 * d["u"], "t": np.arange(1.0, 102.0)}, "zero at all times"),
        (lambda d: {"t": np.linspace(500, 0, 101)}, "strictly increasing times"),
        (lambda d: {"t": np.zeros((101, 1))}, "times must be a non-empty list"),
        (lambda d: {"u": d["u"] + 0j}, "u must be real numbers, got the type complex128"),
        (lambda d: {"u0": "abc"}, "u0 must be real numbers"),
        (lambda d: {"time": model_times}, "unknown key 'time'"),
        (lambda d: {"parameter_D": np.ones(4)}, r"parameter_D must be a number or have the shape \(6,\)"),
        (lambda d: {"u0": d["u0"][:0], "u": d["u"][:0]}, "no trajectories"),
        (lambda d: {"u0": d["u0"][:1], "u": d["u"][:1]}, "cannot be split"),
    ],
)
def test_data_that_teach_nothing_are_refused(model, data, change, text):
    with pytest.raises(ValueError, match=text):
        pz.finetune(model, {**data, **change(data)}, steps=1, quiet=True)


model_times = np.linspace(0, 500, 101)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"steps": 2.5}, "steps must be an integer of at least 1"),
        ({"steps": "3"}, "steps must be an integer of at least 1"),
        ({"batch": 0}, "batch must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number"),
        ({"clip": -1.0}, "clip must be a positive number"),
        ({"validation": 1.0}, r"validation must be in \[0, 1\)"),
        ({"validation": float("nan")}, r"validation must be in \[0, 1\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(model, data, settings, text):
    with pytest.raises(ValueError, match=text):
        pz.finetune(model, data, **{"steps": 1, "quiet": True, **settings})


def test_a_held_out_part_is_never_empty(model, data):
    few = {key: value[:3] for key, value in data.items()}
    for fraction in (0.01, 0.99):
        history = pz.finetune(model, few, steps=1, validation=fraction, quiet=True).history
        assert history.part == "held-out" and history.count == (1 if fraction < 0.5 else 2)


def test_what_predictions_save_can_be_tuned_on(model, data, tmp_path):
    model.predict(data["u0"]).save(tmp_path / "run.npz")
    assert pz.finetune(model, tmp_path / "run.npz", steps=1, quiet=True).history.before.error < 1e-8


def test_a_folder_that_cannot_be_written_is_one_line_before_any_work(data, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", **data)
    arguments = ["finetune", "diffusion-sorption.general", str(tmp_path / "mine.npz"), "--output"]
    for output in ("/proc/x", str(tmp_path / "mine.npz")):
        assert main([*arguments, output]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: cannot write") and error.count("\n") == 1


def test_command_line(data, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", **data)
    arguments = [
        "finetune",
        "diffusion-sorption.general",
        str(tmp_path / "mine.npz"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--steps", "2", "--quiet"]) == 0
    assert (tmp_path / "out" / "config.json").is_file()
    assert main([*arguments[:2], str(tmp_path / "absent.npz"), "--output", str(tmp_path / "no")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
