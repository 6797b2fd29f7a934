"""The command line where everything is right, through ``main([...])``."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import pihc_zoo as pz
from pihc_zoo import cli, model_info
from pihc_zoo.cli.console import COMMANDS
from pihc_zoo.cli.evaluate import print_comparison
from pihc_zoo.zoo.registry import list_models
from pihc_zoo.zoo.storage import load_folder, save_folder

PNG = b"\x89PNG\r\n"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A folder with a tiny model."""
    return save_folder(tiny_model(), tmp_path / "tiny")


@pytest.fixture
def parametric(tiny_model, tmp_path):
    """A folder with a tiny model that takes D."""
    return save_folder(tiny_model(problem={"name": "diffusion-sorption", "inputs": ["D"]}), tmp_path / "parametric")


@pytest.fixture
def run(capsys):
    """``run(*arguments)``: exit code 0 is checked, stdout and stderr are returned."""

    def call(*arguments):
        assert cli.main([str(a) for a in arguments]) == 0, capsys.readouterr().err
        return SimpleNamespace(**dict(zip(("out", "err"), capsys.readouterr(), strict=True)))

    return call


def test_list_and_info_name_every_shipped_model(run):
    listed = run("list").out
    for name in list_models():
        assert name in listed
        info, known = run("info", name).out, model_info(name)["config"]
        assert "\\" not in info and known["network"]["name"] in info and "levenberg_marquardt" in info


def test_info_shows_equation_walls_units_and_times(run):
    info = run("info", "diffusion-sorption.general").out
    for text in ("u_xx", "left wall: u = 1", "m²/s", "0.0005", "0 to 500 s"):
        assert text in info


def test_list_filters_by_pattern(run):
    assert "diffusion-sorption.general" in run("list", "*.general").out
    assert "pdebench" not in run("list", "*.general").out


def test_info_counts_the_weights(run, folder):
    count = sum(parameter.numel() for parameter in load_folder(folder, pz.Surrogate).network.state_dict().values())
    assert f"{count} numbers" in run("info", folder).out


def test_info_says_which_parameters_are_inputs(run, parametric):
    line = next(line for line in run("info", parametric).out.splitlines() if line.startswith("D "))
    assert "0.0002 … 0.001" in line


@pytest.mark.parametrize("command", [["list"], ["--help"], ["--version"], ["info", "diffusion-sorption.general"]])
def test_light_commands_do_not_import_torch(command):
    code = (
        "import sys; from pihc_zoo.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules and 'torch was imported') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_terminal_is_written_to(encoding):
    code = (
        "from pihc_zoo.cli import main; "
        "print(main(['list']), main(['info', 'navier-stokes-2d.re1e4']), main(['info', 'ü–ν']))"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert out.splitlines()[-1] == "0 0 2" and "?" not in out
    assert err.startswith("error: no shipped model '") and ("ü–ν" in err) == (encoding == "utf-8")


def test_every_command_has_help(run):
    for name in COMMANDS:
        assert "usage: pihc" in run(name, "--help").out
    assert all(name in run().out for name in COMMANDS)


def test_predict_equals_the_library(run, folder, fields, tmp_path):
    u0 = fields(2)
    np.savez(tmp_path / "in.npz", u0=u0, t=[0.0, 10.0, 500.0])
    out = run("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--on-failure", "warn")
    expected = load_folder(folder, pz.Surrogate).predict(u0, times=[0.0, 10.0, 500.0])
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_array_equal(saved["u"], expected.u)
        np.testing.assert_array_equal(saved["u0"], u0)
        np.testing.assert_array_equal(saved["t"], [0, 10, 500])
        assert saved["is_reliable"].shape == (2,) and float(saved["parameter_D"][0]) == 5e-4
    assert "2 trajectories" in out.out and "estimated error: mean" in out.out and "2 of 2" in out.out


def test_predict_takes_one_dimension_and_own_positions(run, folder, tmp_path):
    x = np.linspace(0, 1, 60)
    np.savez(tmp_path / "in.npz", u0=0.1 + 0.05 * x, x=x)
    run("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--times", 100)
    expected = load_folder(folder, pz.Surrogate).predict(0.1 + 0.05 * x, input_x=x, times=[100])
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_array_equal(saved["u"], expected.u)


def test_predict_parameters_of_the_file_and_of_the_command_line(run, parametric, fields, tmp_path):
    np.savez(tmp_path / "in.npz", u0=fields(2), parameter_D=[3e-4, 4e-4])
    run("predict", parametric, tmp_path / "in.npz", "--output", tmp_path / "a.npz")
    run("predict", parametric, tmp_path / "in.npz", "--output", tmp_path / "b.npz", "--set", "D=6e-4")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        np.testing.assert_array_equal(a["parameter_D"], [3e-4, 4e-4])
        np.testing.assert_array_equal(b["parameter_D"], [6e-4, 6e-4])


def test_predict_experts_and_decomposition_are_passed_on(run, folder, fields, tmp_path):
    from pihc_zoo import Disjoint

    np.savez(tmp_path / "in.npz", u0=fields(1))
    command = ("predict", folder, tmp_path / "in.npz", "--on-failure", "warn")
    options = ("--experts", 4, "--decomposition", "disjoint", "--max-steps", 40)
    run(*command, "--output", tmp_path / "out.npz", *options)
    expected = load_folder(folder, pz.Surrogate).predict(fields(1), experts=Disjoint({"x": 4}), max_steps=40)
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["status"].shape == (1, 4)
        np.testing.assert_array_equal(saved["u"], expected.u)


def test_predict_without_a_file_and_without_the_suffix(run, folder, tmp_path):
    run("predict", folder, "--constant", 0.1, "--output", tmp_path / "constant")
    run("predict", folder, "--sample", 3, "--seed", 1, "--output", tmp_path / "sample.npz", "--times", 0, 50)
    with np.load(tmp_path / "constant.npz") as constant, np.load(tmp_path / "sample.npz") as sample:
        assert constant["u0"].shape == (1, 1024) and (constant["u0"] == 0.1).all()
        assert sample["u"].shape == (3, 2, 1024)


def test_saved_prediction_is_an_input_again(run, folder, fields, tmp_path):
    np.savez(tmp_path / "in.npz", u0=fields(1))
    run("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as a:
        np.savez(tmp_path / "again.npz", **{k: a[k] for k in a.files})
    run("predict", folder, tmp_path / "again.npz", "--output", tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        np.testing.assert_array_equal(a["u"], b["u"])


@pytest.mark.parametrize("policy", ["warn", "fallback"])
def test_predict_reports_failed_trajectories(run, folder, fields, tmp_path, policy):
    u0 = fields(2)
    u0[1, 7] = np.nan
    np.savez(tmp_path / "in.npz", u0=u0)
    out = run("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--on-failure", policy)
    assert "failed: 1" in out.out and "1 NaN" in out.out
    assert out.err.startswith("warning: trajectory 1:") and out.err.count("\n") == 1
    with np.load(tmp_path / "out.npz") as saved:
        assert np.isfinite(saved["u"][0]).all() and np.isnan(saved["u"][1]).all()


def test_predict_falls_back_where_the_solve_fails(run, folder, fields, tmp_path):
    np.savez(tmp_path / "in.npz", u0=fields(1), t=[0, 100.0])
    config = json.loads((folder / "config.json").read_text())
    config["solver"] |= {"max_steps": 1, "rtol": 1e-14}
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ("--on-failure", "fallback", "--no-polish")
    out = run("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "o.npz", *arguments)
    assert "1 replaced by the classical solver" in out.out
    with np.load(tmp_path / "o.npz") as saved:
        assert np.isfinite(saved["u"]).all()


def test_predict_warns_of_values_beyond_training(run, folder, tmp_path):
    out = run("predict", folder, "--constant", 0.6, "--output", tmp_path / "out.npz")
    assert "reliable: 0 of 1" in out.out
    assert out.err.startswith("warning: not reliable") and out.err.count("\n") == 1


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_predict_plots(run, folder, fields, tmp_path, suffix):
    np.savez(tmp_path / "in.npz", u0=fields(2))
    plot = tmp_path / f"figure{suffix}"
    run("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "o.npz", "--plot", plot, "--index", 1)
    assert plot.read_bytes()[:6] == PNG if suffix == ".png" else b"<svg" in plot.read_bytes()[:2000]


@pytest.mark.parametrize(
    "options", [{"times": [5.0]}, {"x": [0.3]}, {"x": [0.3], "times": [5.0]}, {"times": [9.0, 3.0]}]
)
def test_plots_of_few_points_or_times_and_of_failures(tiny_model, fields, tmp_path, options):
    u0 = fields(2)
    u0[1, 0] = np.nan
    with pytest.warns(RuntimeWarning):
        prediction = tiny_model().predict(u0, **options)
    for index in (0, 1):
        prediction.plot(index, tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").read_bytes()[:6] == PNG


def test_plots_take_torch_predictions(tiny_model, fields):
    import torch

    figure = tiny_model().predict(torch.as_tensor(fields(1))).plot()
    assert len(figure.axes) == 7  # three maps, their colour bars, the profiles


def test_lines_show_the_truth_the_parameters_and_what_the_residual_is(tiny_model, fields):
    prediction = tiny_model().predict(fields(2))
    truth = prediction.u + 1e-3
    figure = prediction.plot(1, truth=truth)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert {"Prediction u", "Truth u_true", "True error, u − u_true", "Profiles of u"} < set(titles)
    assert {"Residual ρ(u) in solution units", "Estimated error, u − u_true"} < set(titles)
    assert "D = 0.0005 m²/s" in figure.get_suptitle() and "phi = 0.29" in figure.get_suptitle()
    by_title = {axes.get_title("left"): axes.collections[0] for axes in figure.axes if axes.collections}
    np.testing.assert_allclose(by_title["True error, u − u_true"].get_array(), -1e-3)
    assert by_title["Prediction u"].get_clim() == by_title["Truth u_true"].get_clim()
    assert by_title["Prediction u"].get_cmap().name == "viridis"
    assert "truth" in [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().texts]
    for few in ({"times": [5.0]}, {"x": [0.3]}):
        one = tiny_model().predict(fields(1), **few)
        assert one.plot(0, truth=one.u).axes


def test_lines_of_both_signs_are_centred_at_zero():
    import pihc_zoo as pz

    x = np.arange(256) / 256
    out = pz.from_pretrained("burgers-1d.viscous").predict(0.2 + np.sin(2 * np.pi * x)[None], times=[0.0, 0.5])
    colours = next(axes.collections[0] for axes in out.plot().axes if axes.get_title("left") == "Prediction u")
    low, high = colours.get_clim()
    assert colours.get_cmap().name == "RdBu_r" and low == -high and high >= 1.1


def test_training_log_is_plotted(tmp_path):
    from pihc_zoo.plotting.training import plot_training

    log = tmp_path / "metrics.jsonl"
    records = [
        {"step": i, "loss": -float(i), "seconds": 2.0 * i, "error_mean": 1 / i, "error_max": 2 / i} for i in (1, 2)
    ]
    log.write_text("\n".join(map(json.dumps, records)))
    plot_training(log, tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes()[:6] == PNG


def test_evaluate_prints_and_writes_its_figures(run, folder, tmp_path):
    target = tmp_path / "metrics.json"
    out = run("evaluate", folder, "--count", 1, "--quick", "--family", "constants", "--json", target).out
    report = json.loads(target.read_text())
    assert list(report["results"]) == ["constants"]
    for text in ("one CPU thread", "lift alone", "Picard", "LSODA", "Time at equal error"):
        assert text in out


def test_evaluate_uses_the_families_that_metrics_record(run, folder, monkeypatch):
    from pihc_zoo import evaluation

    spec = {"name": "constants", "low": 0.1, "high": 0.2}
    (folder / "metrics.json").write_text(json.dumps({"families": {"constants": spec}}))
    seen = []
    monkeypatch.setattr(evaluation, "evaluate", lambda model, families, *rest, **own: seen.append(families) or {})
    monkeypatch.setattr("pihc_zoo.cli.evaluate.print_report", lambda report: None)
    run("evaluate", folder)
    assert seen == [{"constants": evaluation.FAMILIES["constants"](0.1, 0.2)}]


def test_demo_shows_error_and_both_classical_times(run, tmp_path, monkeypatch):
    from pihc_zoo import plotting

    drawn, draw = [], plotting.plot_prediction
    monkeypatch.setattr(
        plotting, "plot_prediction", lambda p, i, path, truth, *own: (drawn.append((p, truth)), draw(p, i, path, truth))
    )
    out = run("demo", "--output", tmp_path / "new" / "demo").out
    for text in ("true error", "Picard", "LSODA", "ms per trajectory"):
        assert text in out
    assert (tmp_path / "new" / "demo" / "demo.png").read_bytes()[:6] == PNG
    ((prediction, truth),) = drawn
    assert truth.shape == prediction.u.shape and 0 < np.abs(truth - prediction.u).max() < 0.01
    with np.load(tmp_path / "new" / "demo" / "demo.npz") as saved:
        assert saved["u"].shape == (8, 101, 1024)


def test_times_and_ratios_are_said_in_words(capsys):
    rows = [
        {"name": n, "error_mean": 1e-3, "ms": ms, "ms_lowest": ms, "ms_highest": ms}
        for n, ms in zip("abcd", (2, 1, 8, 5), strict=True)
    ]
    for row, ratio in zip(rows, (None, 0.5, 4.0, None), strict=True):
        row |= {"ratio": ratio, "batch": 64}
    print_comparison(rows)
    out = capsys.readouterr().out
    assert "2.0 times more time than b" in out and "4.0 times less time than c" in out
    assert "d is less accurate than the surrogate: no ratio" in out
