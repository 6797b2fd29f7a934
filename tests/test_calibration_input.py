"""What calibration refuses, from Python and from the command line, and what the command writes."""

from __future__ import annotations

import importlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import pihc_zoo as pz
from pihc_zoo.cli import main

NAME = "diffusion-sorption.parametric"
X, T = (part.ravel() for part in np.meshgrid([0.2, 0.4, 0.6, 0.8], [100.0, 300.0, 500.0]))


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained(NAME)


@pytest.fixture(scope="module")
def good(model):
    parameters = {"D": 4e-4, "n_f": 0.8, "phi": 0.3}
    out = model.predict(np.full(1024, 0.02), x=np.unique(X), times=np.unique(T), parameters=parameters)
    u = out.u[0].ravel()
    rng = np.random.default_rng(0)
    return {"u0": 0.02, "x": X, "t": T, "u": u * (1 + 0.01 * rng.standard_normal(len(u))), "sigma": 0.01 * u}


def without(data, *keys):
    return {key: value for key, value in data.items() if key not in keys}


BAD = {
    "missing": (lambda d: without(d, "t"), {}, "no column 't' in the measurements; it has"),
    "misnamed": (lambda d: {**without(d, "t"), "time": T}, {}, "no column 't' .*; rename 'time' to 't'"),
    "extra": (lambda d: {**d, "sigmaa": 1.0}, {}, "unknown column 'sigmaa' in the measurements; did you mean 'sigma'"),
    "NaN": (lambda d: {**d, "u": np.where(X == 0.4, np.nan, d["u"])}, {}, "u of reading 1 .* is nan; leave that"),
    "late": (lambda d: {**d, "t": 10 * T}, {}, r"t must lie in \[0, 500\] s, got 1000 \(.* of 12 readings\)"),
    "outside": (lambda d: {**d, "x": 100 * X}, {}, r"x must lie in \[0, 1\] m, got 20 .*convert the unit"),
    "unit": (lambda d: {**d, "u": 1000 * d["u"]}, {}, r"range of states \[0, 1\], got .*another unit"),
    "few": (lambda d: {k: v if k == "u0" else v[:1] for k, v in d.items()}, {}, "1 readings for 2 unknowns"),
    "few without sigma": (
        lambda d: {k: v if k == "u0" else v[:2] for k, v in without(d, "sigma").items()}, {}, "one more because sigma"
    ),
    "lengths": (lambda d: {**d, "x": X[:5]}, {}, "rows of the same length"),
    "zero sigma": (lambda d: {**d, "sigma": 0.0}, {}, "sigma must be positive, got 0; leave it out"),
    "sigmas": (lambda d: {**d, "sigma": np.ones(3)}, {}, r"sigma must be a number or one per reading \(12\)"),
    "no u0": (lambda d: without(d, "u0"), {}, "no initial condition: give u0"),
    "negative u0": (lambda d: {**d, "u0": -0.1}, {}, "negative values"),
    "short u0": (lambda d: {**d, "u0": np.full(7, 0.1)}, {}, r"u0 must have the shape"),
    "not an input": (lambda d: d, {"unknown": ["k_f"]}, "k_f is fixed at 0.00035 m³/kg; no model of"),
    "misspelt": (lambda d: d, {"unknown": ["nf"]}, "no parameter 'nf'; did you mean 'n_f'"),
    "twice": (lambda d: d, {"unknown": ["D", "D"]}, "one of them is there twice"),
    "nothing": (lambda d: d, {"unknown": []}, "nothing is unknown"),
    "both": (lambda d: d, {"known": {"D": 3e-4}}, r"D is both known \(0.0003\) and unknown"),
    "range": (lambda d: d, {"known": {"phi": 3.0}}, r"parameter phi must lie in \[0.2, 0.5\], got 3"),
    "u0 twice": (lambda d: d, {"unknown": ["u0"]}, "u0 is both given and unknown"),
    "level": (lambda d: d, {"level": 90}, "level must lie between 0 and 1, got 90"),
    "method": (lambda d: d, {"intervals": "exact"}, "intervals must be one of"),
    "option": (lambda d: d, {"length_scale": 1.0}, "no option 'length_scale' where parameters are unknown"),
    "mixed": (lambda d: [d, without(d, "sigma")], {}, "some experiments have a sigma"),
    "none": (lambda d: [], {}, "no measurements"),
    "kind": (lambda d: 7, {}, "measurements must be a mapping or a path, got int"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused_in_one_line(model, good, case):
    change, options, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        pz.calibrate(model, change(good), **{"unknown": ["D", "n_f"], **options})
    assert "\n" not in str(error.value)


def test_a_model_that_takes_the_unknown_is_named(good):
    with pytest.raises(
        ValueError, match=r"D is fixed at 0.0005 m²/s in this model; diffusion-sorption.parametric takes"
    ):
        pz.calibrate(pz.from_pretrained("diffusion-sorption.general"), good, ["D"])
    with pytest.raises(ValueError, match=r"expected a surrogate of pz\.from_pretrained"):
        pz.calibrate("diffusion-sorption.parametric", good, ["D"])


# ---------------------------------------------------------------------- files and the command


def write(path, data):
    keys = [key for key in ("x", "t", "u", "sigma") if key in data]
    rows = np.stack([np.broadcast_to(data[key], (len(X),)) for key in keys], axis=1)
    lines = [
        "# a comment",
        ",".join(keys),
        *(",".join(map(repr, map(float, row))) for row in rows),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def run(*arguments):
    return main(["calibrate", *map(str, arguments)])


def test_command(tmp_path, good, capsys):
    pytest.importorskip("emcee")
    path = write(tmp_path / "data.csv", good)
    outputs = [tmp_path / name for name in ("fit.png", "fit.json", "posterior.png", "draws.npz")]
    options = ("--plot", outputs[0], "--output", outputs[1], "--plot-posterior", outputs[2], "--draws", outputs[3])
    code = run(
        NAME, path, "--u0", 0.02, "--unknown", "D", "n_f", "--known", "phi=0.3", "--sample", 40, "--quiet", *options
    )
    out = capsys.readouterr().out
    assert code == 0 and all(own.exists() for own in outputs)
    assert "D = 0.000" in out and "trustworthy" in out and "posterior: 40 draws" in out and str(outputs[0]) in out
    record = json.loads(outputs[1].read_text())
    assert record["parameters"]["D"] == pytest.approx(4e-4, rel=0.05) and record["is_trustworthy"]


def test_command_with_several_files_and_fields(tmp_path, good, capsys):
    paths = [write(tmp_path / f"{name}.csv", without(good, "sigma")) for name in "ab"]
    np.savez(tmp_path / "u0.npz", u0=np.full(1024, 0.02))
    given = ("--u0", 0.02, tmp_path / "u0.npz", "--sigma", 0.002, "--unknown", "D", "--known", "phi=0.3", "n_f=0.8")
    assert run(NAME, *paths, *given) == 0
    assert "24 readings of 2 experiments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("missing.csv", "--unknown", "D"), "no such file"),
        (("DATA", "--unknown", "nf", "--u0", "0.02"), "no parameter 'nf'"),
        (("DATA", "--unknown", "D", "--u0", "0.02", "--known", "phi"), "--known expects NAME=NUMBER"),
        (("DATA", "--unknown", "D", "--u0", "0.02", "0.03"), "--u0 has 2 values for 1 experiments"),
        (("DATA", "--unknown", "D", "--u0", "missing.npz"), "no such file"),
        (("DATA", "--unknown", "D", "--u0", "0.02", "--plot", "fit.gif"), "a plot must end in"),
        (("DATA", "--unknown", "D", "--u0", "0.02", "--sigma", "0.1"), "has a column sigma"),
        (("DATA", "--unknown", "D", "--u0", "0.02", "--draws", "a.npz"), "--draws needs --sample"),
        (("DATA", "--unknown", "D"), "no initial condition"),
        (("DATA", "--u0", "0.02"), "--unknown"),
    ],
)
def test_command_errors_are_one_line_and_code_2(tmp_path, good, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "data.csv", good)
    code = run(NAME, *(path if option == "DATA" else option for option in options), "--output", "out.json")
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1 and err.startswith("error: ")
    assert sorted(own.name for own in tmp_path.iterdir()) == ["data.csv"]  # nothing half-written


OTHER = {
    "two axes": (NAME, lambda d: {**d, "y": X}, "unknown column 'y' in the measurements; known: x, t, u"),
    "one axis": ("navier-stokes-2d.viscous", lambda d: d, "no column 'y' in the measurements"),
    "hours": (NAME, lambda d: {**d, "t": 3600 * T}, "t must lie in [0, 500] s, got 360000"),
    "centimetres": (NAME, lambda d: {**d, "x": 100 * X}, "x must lie in [0, 1] m, got 20"),
    "waves": (NAME, lambda d: {**d, "u": np.sin(2 * np.pi * X)}, "u must lie in the problem's range of states [0, 1]"),
}


@pytest.mark.parametrize("case", OTHER)
def test_measurements_of_another_problem_are_one_line_and_code_2(tmp_path, good, capsys, case):
    name, change, message = OTHER[case]
    data = change(good)
    keys = [key for key in ("x", "y", "t", "u", "sigma") if key in data]
    path = tmp_path / "other.csv"
    np.savetxt(path, np.stack([data[key] for key in keys], axis=1), delimiter=",", header=",".join(keys), comments="")
    unknown = "D" if name == NAME else "nu"
    assert run(name, path, "--u0", 0.02, "--unknown", unknown, "--output", tmp_path / "fit.json") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert [own.name for own in tmp_path.iterdir()] == ["other.csv"]


@pytest.mark.parametrize("where", ["fitting", "drawing", "writing"])
def test_an_interrupt_is_one_line_and_code_130_and_nothing_is_half_written(tmp_path, good, capsys, monkeypatch, where):
    pytest.importorskip("emcee")
    owner, function = {
        "fitting": (importlib.import_module("pihc_zoo.calibration.calibrate"), "descend"),
        "drawing": (importlib.import_module("pihc_zoo.calibration.posterior"), "sample_posterior"),
        "writing": (Path, "write_text"),
    }[where]
    path, real = write(tmp_path / "data.csv", good), getattr(owner, function)

    def interrupted(*arguments, **options):
        answer = real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGINT)
        return answer

    monkeypatch.setattr(owner, function, interrupted)
    given = ("--u0", 0.02, "--unknown", "D", "--known", "phi=0.3", "n_f=0.8", "--sample", 20, "--quiet")
    assert run(NAME, path, *given, "--output", tmp_path / "fit.json", "--draws", tmp_path / "draws.npz") == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [own.name for own in tmp_path.iterdir()] == ["data.csv"]
