"""What fine-tuning returns and writes: new constants and settings, a trust report of the new family, a whole folder."""

import importlib
import json
import math
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.cli import main
from pihc_zoo.data import Trajectories
from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.finetune import finetune
from pihc_zoo.learning.history import History, Measured
from pihc_zoo.learning.loss import residual_sum
from pihc_zoo.learning.mesh import Mesh, Place
from pihc_zoo.learning.tuning_loss import Physics
from pihc_zoo.reference import truth_solver
from pihc_zoo.zoo.folder import read_config, read_metrics

tuning_module = importlib.import_module("pihc_zoo.learning.tuning")
QUICK = {"steps": 12, "learning_rate": 5e-3, "quiet": True}


# ------------------------------------------------------------------ the result


def test_a_result_has_model_history_errors_and_plot_and_says_where_the_rest_is(tiny_model, solved, tmp_path):
    tuned = finetune(tiny_model(), solved, **QUICK)
    assert tuned.after.error < tuned.before.error and tuned.history.factor > 1
    tuned.plot(tmp_path / "tuned.png")
    assert (tmp_path / "tuned.png").stat().st_size > 10_000
    with pytest.raises(AttributeError, match=r"use tuned.model.predict"):
        tuned.predict(solved["u0"])
    with pytest.raises(AttributeError, match=r"it has model, history"):
        tuned.nothing  # noqa: B018
    with pytest.raises(TypeError, match=r"call tuned.model"):
        tuned(solved["u0"])
    assert "held-out error" in repr(tuned)


def test_errors_are_those_of_predictions_on_the_held_out_part(tiny_model, solved):
    model = tiny_model()
    tuned = finetune(model, solved, **QUICK)
    held = np.random.default_rng(0).permutation(8)[:2]
    for judged, measured, errors in (
        (model, tuned.before, tuned.history.errors_before),
        (tuned.model, tuned.after, tuned.history.errors_after),
    ):
        out = judged.predict(
            solved["u0"][held], x=solved["x"], times=solved["t"][1:], input_x=solved["x"], polish=False
        )
        truth = solved["u"][held][:, 1:]
        own = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(out.u, truth, strict=True)]
        assert_allclose(errors, own, rtol=1e-5)
        assert measured.error == pytest.approx(np.mean(own), rel=1e-5)
        assert measured.error_max == pytest.approx(np.max(own), rel=1e-5)


def test_a_history_survives_json():
    history = History("held-out", 1, "error", Measured(0.1, math.nan, 1), Measured(0.05, 0.04, 0, 0.06))
    history.steps.append({"step": 3, "fraction": 0.5, "error": math.nan, "error_max": 0.1, "estimated_error": 0.1,
                          "failed": 0})  # fmt: skip
    history.errors_before = [math.nan]
    again = History.from_dict(json.loads(json.dumps(history.to_dict(), allow_nan=False)))
    assert again.before == history.before and again.to_dict() == history.to_dict()


# ------------------------------------------------------------------ which weights, which constants, which settings


def test_the_head_alone_changes_where_it_is_asked_for(tiny_model, solved):
    model = tiny_model()
    tuned = finetune(model, solved, weights="head", **QUICK)
    assert tuned.history.is_improved
    for (key, new), old in zip(
        tuned.model.network.state_dict().items(), model.network.state_dict().values(), strict=True
    ):
        assert torch.equal(new, old) is not key.startswith("projection"), key
    assert all(parameter.requires_grad for parameter in tuned.model.network.parameters())


def test_new_constants_are_the_tuned_models_own(tiny_model, solved, tmp_path):
    model = tiny_model()
    fields = {key: solved[key] for key in ("u0", "x")}
    tuned = finetune(model, fields, tmp_path / "out", parameters={"k_f": 5e-4}, **QUICK)
    assert model.problem.defaults()["k_f"] == 3.5e-4 and tuned.model.problem.defaults()["k_f"] == 5e-4
    assert read_config(tmp_path / "out")["problem"]["parameters"] == {"k_f": {"default": 5e-4}}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "`k_f`: default 0.0005 m³/kg" in card and "| 0.0005 | fixed at the default |" in card
    loaded = pz.from_pretrained(tmp_path / "out", verify=True)
    u0 = 0.1 + 0 * loaded.problem.output_space["x"].nodes
    assert_array_equal(loaded.predict(u0).u, tuned.model.predict(u0).u)
    assert not np.allclose(loaded.predict(u0).u, model.predict(u0).u, rtol=1e-3)


def test_a_shifted_range_is_kept_even_where_no_weights_are_better(tiny_model, solved):
    model = tiny_model(problem={"name": "diffusion-sorption", "inputs": ["D"]})
    fields = {key: solved[key] for key in ("u0", "x")} | {"parameter_D": np.linspace(1e-3, 1.3e-3, 8)}
    with pytest.raises(ValueError, match=r"D must lie in \[0.0002, 0.001\]"):
        finetune(model, fields, **QUICK)
    bad = {**QUICK, "learning_rate": 1e30}
    tuned = finetune(model, fields, parameters={"D": (1e-3, 1.3e-3)}, **bad)
    assert not tuned.history.is_improved and "the one given, with the new constants" in tuned.history.summary()
    assert tuned.model.predict(solved["u0"], input_x=solved["x"], parameters={"D": 1.2e-3}).u.shape[0] == 8
    assert tuned.model.trust.threshold != model.trust.threshold


def test_changed_settings_are_compared_untuned_as_well(tiny_model, solved):
    tuned = finetune(tiny_model(), solved, overrides={"network.num_basis": 5}, **QUICK)
    history = tuned.history
    assert tuned.model.network.num_basis == 5 and tuned.model.config["network"]["num_basis"] == 5
    assert history.start != history.before and history.settings == {"network.num_basis": 5}
    assert "of the changed settings without tuning" in history.summary()
    kept = finetune(tiny_model(), solved, overrides={"network.num_basis": 5}, **{**QUICK, "learning_rate": 1e30})
    better = kept.history.start.is_better(kept.history.before, "error")
    assert kept.model.network.num_basis == (5 if better else 2) and kept.after.error <= kept.before.error


# ------------------------------------------------------------------ ends, seeds, mixtures


def test_it_ends_where_nothing_is_gained_and_when_the_time_is_up(tiny_model, solved, monkeypatch):
    monkeypatch.setattr(tuning_module, "take_step", lambda *arguments: None)
    tuned = finetune(tiny_model(), solved, steps=40, patience=2, quiet=True)
    assert len(tuned.history.steps) == 2 and "nothing was gained in 2 reviews" in tuned.history.stopped
    tuned = finetune(tiny_model(), solved, steps=10_000, minutes=1e-3, quiet=True)
    assert "the 0.001 minutes are over" in tuned.history.stopped


def test_physics_sees_mixtures_of_two_trajectories_and_their_parameters(tiny_model, solved):
    model = tiny_model(problem={"name": "diffusion-sorption", "inputs": ["D", "phi"]})
    own = {"D": np.geomspace(2e-4, 1e-3, 8), "phi": np.linspace(0.2, 0.5, 8)}
    data = Trajectories(solved["u0"], {"x": solved["x"]}, solved["t"], None, own)
    rows = np.array([1, 6])
    state, parameters = Physics(model, data, rows, 0, 8, Processes(Place(), Mesh())).draw(200, np.random.default_rng(0))
    ends = model.at_nodes(torch.as_tensor(data.u0[rows]), data.points)
    along = (state - ends[0]) @ (ends[1] - ends[0]) / (ends[1] - ends[0]).square().sum()
    assert_allclose(ends[0] + along[:, None] * (ends[1] - ends[0]), state, atol=1e-9)
    assert_allclose(np.log(parameters["D"] / own["D"][1]) / np.log(own["D"][6] / own["D"][1]), along, atol=1e-9)
    assert_allclose((parameters["phi"] - own["phi"][1]) / (own["phi"][6] - own["phi"][1]), along, atol=1e-9)
    inside = (along > 1e-9) & (along < 1 - 1e-9)
    assert 0.2 < inside.double().mean() < 0.5  # .7 of the pairs that differ


# ------------------------------------------------------------------ the trust report


def test_the_trust_report_is_of_the_new_family(tiny_model, solved):
    """Values beyond the old range are inside the new one, and the threshold follows the new estimates."""
    model = tiny_model()
    tuned = finetune(model, solved, **QUICK)
    old, new = model.trust, tuned.model.trust
    assert old.state_range[1] == 0.3 < solved["u0"].max() < new.state_range[1] <= 1
    out = tuned.model.predict(solved["u0"], input_x=solved["x"], polish=False)
    estimates = np.quantile(out.estimated_error, 0.99)
    assert new.threshold == pytest.approx(max(1.3 * estimates, 1.2e-3), rel=0.05)
    assert tuned.history.trust_before["threshold"] == 1.0 and tuned.history.trust_after["threshold"] == new.threshold
    assert tuned.history.reliable_before == 0 and tuned.history.reliable_after == 2


@pytest.fixture
def cheap_truth(monkeypatch):
    def solver(problem):
        return truth_solver(problem, num_nodes=32, rtol=1e-4)

    monkeypatch.setattr("pihc_zoo.learning.recalibration.reference_solver", solver)
    monkeypatch.setattr("pihc_zoo.learning.consistency.reference_solver", solver)


@pytest.mark.parametrize("loss", ["physics", "both"])
def test_a_roll_out_is_tuned_window_by_window_and_its_growth_measured(tiny_rollout, vorticity, cheap_truth, loss):
    model = tiny_rollout()
    u0, t = vorticity(5, 32), np.linspace(0, 5, 9)
    data = {"u0": u0, "t": t}
    if loss == "both":
        data["u"] = truth_solver(model.problem, num_nodes=32, rtol=1e-4)(u0, {}, times=t)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        tuned = finetune(model, data, loss=loss, steps=6, learning_rate=1e-2, quiet=True)
    assert tuned.history.is_improved
    assert model.trust.growth == 1 != tuned.model.trust.growth
    truth = truth_solver(model.problem, num_nodes=32, rtol=1e-4)(u0, {})
    out = tuned.model.predict(u0)
    errors = np.linalg.norm((out.u - truth).reshape(5, -1), axis=1) / np.linalg.norm(truth.reshape(5, -1), axis=1)
    assert 0.5 < np.median(out.estimated_error / errors) < 2.1


def test_trajectories_whose_lift_diverges_have_no_part_in_the_gradients(tiny_rollout, vorticity):
    model = tiny_rollout().with_network_dtype(torch.float64)
    fields = torch.as_tensor(vorticity(3, 16))

    def gradients(u0):
        field = model.constrained(u0, model.tensors({}), gradient="envelope", stride=1)
        total, used, left_out = residual_sum(field)
        return used, left_out, torch.autograd.grad(total, list(model.network.parameters()))

    used, left_out, expected = gradients(fields)
    assert (used, left_out) == (3, 0)
    used, left_out, found = gradients(torch.cat([fields, 1e5 * fields[:1]]))
    assert (used, left_out) == (3, 1)
    for own, other in zip(expected, found, strict=True):
        assert_allclose(other, own, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("loss", ["physics", "data"])
def test_tuning_goes_on_without_the_trajectories_that_have_no_answer(tiny_rollout, vorticity, cheap_truth, loss):
    model, t, u0 = tiny_rollout(ansatz={"steps": 4}), np.linspace(0, 5, 3), vorticity(6, 32)
    u0 *= (np.array([1.0] * 3 + [6.0] * 3) / np.abs(u0).max(axis=(1, 2)))[:, None, None]
    data = {"u0": u0, "t": t, "u": truth_solver(model.problem, num_nodes=32, rtol=1e-3)(u0, {}, times=t)}
    with pytest.warns(RuntimeWarning, match="3 of 6"):
        assert np.isnan(model.predict(u0).u).any(axis=(1, 2, 3)).tolist() == [False] * 3 + [True] * 3
    tuned = finetune(model, data, loss=loss, steps=4, batch=6, learning_rate=1e-2, quiet=True)
    assert tuned.history.stopped == "" and tuned.history.steps[-1]["step"] == 4
    only = {key: value if key == "t" else value[3:] for key, value in data.items()}
    assert "no trajectory of the batch has an answer" in finetune(model, only, loss=loss, quiet=True).history.stopped


def test_an_interrupted_roll_out_goes_on_where_it_was(
    tiny_rollout, vorticity, cheap_truth, tmp_path, interrupted_after
):
    """Its replay pool is part of the state."""
    model, data = tiny_rollout(), {"u0": vorticity(4, 32)}
    settings = {"loss": "physics", "steps": 4, "learning_rate": 1e-2, "quiet": True}
    straight = finetune(model, data, tmp_path / "straight", **settings)
    with interrupted_after(tuning_module, 2), pytest.raises(KeyboardInterrupt):
        finetune(model, data, tmp_path / "broken", **settings)
    resumed = finetune(model, data, tmp_path / "broken", **settings)
    assert resumed.history == straight.history
    for key, value in straight.model.network.state_dict().items():
        assert torch.equal(value, resumed.model.network.state_dict()[key]), key


# ------------------------------------------------------------------ the folder and the command


def test_the_folder_is_complete_and_names_its_base_model(tiny_model, solved, tmp_path):
    model = tiny_model()
    model.name = "me/base"
    tuned = finetune(model, solved, tmp_path / "out", **QUICK)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {"config.json", "model.safetensors", "README.md", "metrics.json", "example.npz", "example.png"}
    assert written >= {"history.json", "finetuning.png", "LICENSE"}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "\nbase_model: me/base\n" in card and "Tuned from `me/base` on 8 trajectories" in card
    for what, before, after in tuned.history.table():
        assert f"| {what} | {before} | {after} |" in card
    assert read_metrics(tmp_path / "out")["finetuning"]["base_model"] == "me/base"
    loaded = pz.from_pretrained(tmp_path / "out", verify=True)
    assert loaded.trust == tuned.model.trust
    out = [m.predict(solved["u0"], input_x=solved["x"]) for m in (tuned.model, loaded)]
    assert_array_equal(out[0].u, out[1].u)
    again = finetune(model, solved, tmp_path / "out", **QUICK)  # not repeated
    assert again.history == tuned.history and again.model.trust == tuned.model.trust


def test_the_command_takes_points_constants_and_settings(tiny_model, points, tmp_path, capsys):
    tiny_model().save_pretrained(tmp_path / "tiny")
    np.savez(tmp_path / "u0.npz", u0=points["u0"], x=points["input_x"])
    columns = ("trajectory", "x", "t", "u")
    lines = [",".join(columns)] + [
        ",".join(f"{value:.9g}" for value in row) for row in zip(*(points[key] for key in columns), strict=True)
    ]
    (tmp_path / "wells.csv").write_text("\n".join(lines))
    command = ["finetune", str(tmp_path / "tiny"), str(tmp_path / "wells.csv"), "--u0", str(tmp_path / "u0.npz")]
    command += ["--output", str(tmp_path / "out"), "--steps", "12", "--learning-rate", "5e-3", "--quiet"]
    more = ["--set", "network.num_basis=3", "--plot", str(tmp_path / "plot.png")]
    assert main([*command, *more]) == 0
    assert (tmp_path / "plot.png").is_file()
    config = read_config(tmp_path / "out")
    assert config["network"]["num_basis"] == 3
    assert f"tuned model written to {tmp_path / 'out'}" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--parameter", "D"], "--parameter expects NAME=VALUE"),
        (["--parameter", "D=1:2:3:4"], "--parameter expects NAME=VALUE"),
        (["--parameter", "kf=1"], "no parameter 'kf'"),
        (["--parameter", "phi=1.5"], "phi must lie between 0 and 1"),
        (["--set", "network"], "--set expects KEY=VALUE"),
        (["--set", "network.width=9"], "cannot be carried over"),
        (["--minutes", "-1"], "minutes must be a positive number"),
        (["--u0", "0.1"], "u0 is given twice"),
        (["--loss", "data"], "needs solutions"),
        (["--plot", "plot.doc"], "a plot must end in"),
    ],
)
def test_what_the_command_refuses_is_one_line_and_nothing_is_written(tiny_model, solved, tmp_path, capsys, more, text):
    tiny_model().save_pretrained(tmp_path / "tiny")
    np.savez(tmp_path / "u0.npz", u0=solved["u0"], x=solved["x"])
    command = ["finetune", str(tmp_path / "tiny"), str(tmp_path / "u0.npz"), "--output", str(tmp_path / "out")]
    capsys.readouterr()
    assert main([*command, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error
    assert not (tmp_path / "out").exists()
