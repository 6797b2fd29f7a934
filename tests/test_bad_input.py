"""Everything a user can do wrong: exit code 2, one line on stderr that says what to do, no output file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fake_models import DecayingVortices

from pihc_zoo import cli
from pihc_zoo.zoo.storage import save_folder

NATIVE = 1024


@pytest.fixture
def folder(tiny_model, tmp_path):
    return save_folder(tiny_model(problem={"name": "diffusion-sorption", "inputs": ["D"]}), tmp_path / "model")


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.npz"
    np.savez(path, u0=np.full((2, NATIVE), 0.1))
    return path


@pytest.fixture
def refuse(capsys, tmp_path):
    """``refuse(*arguments)``: runs, checks all but the text, and returns the one line."""

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code == 2, captured
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
        assert "Traceback" not in captured.err and captured.out == ""
        assert sorted(tmp_path.rglob("*")) == before
        return captured.err

    return call


# ---------------------------------------------------------------------- the input file


def _damaged(path, how):
    np.savez_compressed(path, u0=np.random.default_rng(0).uniform(0, 0.2, (2, NATIVE)))
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[4000:4064] = bytes(64)
    path.write_bytes(data[: len(data) // 2] if how == "truncated" else data)


FILES = {
    "text": (lambda path: path.write_text("hello"), "not an NPZ file"),
    "empty": (lambda path: path.touch(), "not an NPZ file"),
    "npy": (lambda path: np.save(path.open("wb"), np.ones((2, NATIVE))), "not an NPZ file"),
    "pickle": (lambda path: np.save(path.open("wb"), np.array([{}]), allow_pickle=True), "not an NPZ file"),
    "truncated": (lambda path: _damaged(path, "truncated"), "complete"),
    "flipped": (lambda path: _damaged(path, "flipped"), "complete"),
    "folder": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("kind", FILES)
def test_unreadable_files(refuse, folder, tmp_path, kind):
    make, message = FILES[kind]
    path = tmp_path / "in.npz"
    make(path) if kind != "folder" else path.mkdir()
    assert message in refuse("predict", folder, path, "--output", tmp_path / "out.npz")


def test_missing_file(refuse, folder, tmp_path):
    message = refuse("predict", folder, tmp_path / "none.npz", "--output", tmp_path / "out.npz")
    assert "no such file" in message and "none.npz" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_permissions(refuse, folder, good, tmp_path):
    good.chmod(0)
    assert "Permission denied" in refuse("predict", folder, good, "--output", tmp_path / "out.npz")


FIELD = np.full((2, NATIVE), 0.1)
ARRAYS = {
    "no u0": ({"u": FIELD}, "no array u0 (it has: u)"),
    "objects": ({"u0": np.array([{}, 1], dtype=object)}, "pickled objects"),
    "other objects": ({"u0": FIELD, "note": np.array([{}, 1], dtype=object)}, "pickled objects"),
    "text": ({"u0": np.array([["a"] * NATIVE])}, "real numbers"),
    "complex": ({"u0": FIELD + 1j}, "real numbers"),
    "complex x": ({"u0": FIELD, "x": np.ones(NATIVE) * 1j}, "x in"),
    "rank 3": ({"u0": FIELD[None]}, "(batch, 1024)"),
    "rank 0": ({"u0": 0.1}, "(batch, 1024)"),
    "length": ({"u0": FIELD[:, :100]}, "got (2, 100)"),
    "empty batch": ({"u0": FIELD[:0]}, "at least one"),
    "NaN": ({"u0": np.where(np.arange(NATIVE) == 5, np.nan, FIELD)}, "trajectory 0"),
    "infinite": ({"u0": np.where(np.arange(NATIVE) == 5, np.inf, FIELD)}, "not finite"),
    "negative": ({"u0": -FIELD}, "negative values"),
    "above the wall": ({"u0": 12 * FIELD}, "exceeds 1"),
    "x of another length": ({"u0": FIELD, "x": np.linspace(0, 1, 7)}, "(batch, 7)"),
    "x outside": ({"u0": FIELD, "x": np.linspace(0, 2, NATIVE)}, "[0, 1]"),
    "x decreasing": ({"u0": FIELD, "x": np.linspace(1, 0, NATIVE)}, "increasing"),
    "x with NaN": ({"u0": FIELD, "x": np.full(NATIVE, np.nan)}, "finite"),
    "late t": ({"u0": FIELD, "t": [0.0, 501.0]}, "[0, 500] s, got 501"),
    "negative t": ({"u0": FIELD, "t": [-1.0]}, "got -1"),
    "NaN t": ({"u0": FIELD, "t": [np.nan]}, "finite"),
    "no t": ({"u0": FIELD, "t": np.zeros(0)}, "times"),
    "large D": ({"u0": FIELD, "parameter_D": 1.0}, "D must lie in [0.0002, 0.001] m²/s, got 1"),
    "NaN D": ({"u0": FIELD, "parameter_D": np.nan}, "finite"),
    "three Ds": ({"u0": FIELD, "parameter_D": [5e-4] * 3}, "(2,)"),
    "fixed phi": ({"u0": FIELD, "parameter_phi": 0.4}, "fixed at 0.29"),
    "unknown parameter": ({"u0": FIELD, "parameter_d": 5e-4}, "no parameter 'd'"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_bad_arrays(refuse, folder, tmp_path, kind):
    arrays, message = ARRAYS[kind]
    np.savez(tmp_path / "in.npz", **arrays)
    assert message in refuse("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "out.npz")


def _plane(n=32, m=None):
    x, y = np.arange(n) / n, np.arange(m or n) / (m or n)
    return np.sin(2 * np.pi * x)[:, None] * np.sin(2 * np.pi * y)


PLANES = {
    "odd": ({"u0": _plane(33)}, "(33, 33); along x: expected an even number of at least 32 points, got 33; resample"),
    "small": ({"u0": _plane(16)[None]}, "even number of at least 32 points, got 16; resample"),
    "not square": ({"u0": _plane(32, 48)}, "non-square fields: u0 has 32 x 48 points"),
    "what to do": ({"u0": _plane(32, 48)}, "resample to 48 x 48"),
    "rank 1": ({"u0": np.zeros(32)}, "must have the shape (batch, n_x, n_y) or (n_x, n_y), got (32,)"),
    "rank 4": ({"u0": np.zeros((32,) * 4)}, "or (n_x, n_y), got (32, 32, 32, 32)"),
    "empty batch": ({"u0": np.zeros((0, 32, 32))}, "at least one"),
    "empty": ({"u0": np.zeros((0, 0))}, "at least 32 points, got 0"),
    "NaN": ({"u0": np.where(_plane() > 0.99, np.nan, _plane())}, "trajectory 0: initial condition has"),
    "all NaN": ({"u0": np.full((2, 32, 32), np.nan)}, "has 1024 values that are not finite"),
    "mean": ({"u0": _plane() + 0.1}, "mean 0.1; on a periodic square it is zero"),
    "mean, what to do": ({"u0": _plane() + 0.1}, "subtract the mean"),
    "large": ({"u0": 20 * _plane()}, "initial vorticity reaches 20; at most 6"),
    "x with the end": ({"u0": _plane(), "x": np.linspace(0, 1, 32)}, "equally spaced"),
    "y of another length": ({"u0": _plane(), "y": np.arange(48) / 48}, "(batch, n_x, 48)"),
    "complex y": ({"u0": _plane(), "y": np.ones(32) * 1j}, "y in"),
    "large nu": ({"u0": _plane(), "parameter_nu": 1.0}, "nu must lie in [0.0001, 0.01], got 1"),
    "negative t": ({"u0": _plane(), "t": [-1.0]}, "times must lie in [0, 50] (10 trained durations), got -1"),
    "late t": ({"u0": _plane(), "t": [0.0, 51.0]}, "got 51"),
}


@pytest.mark.parametrize("kind", PLANES)
def test_bad_planes(refuse, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("pihc_zoo.cli.predict.load_model", lambda options: DecayingVortices())
    arrays, message = PLANES[kind]
    np.savez(tmp_path / "in.npz", **arrays)
    assert message in refuse("predict", "MODEL", tmp_path / "in.npz", "--output", tmp_path / "out.npz")


def test_a_constant_vorticity_is_refused(refuse, tmp_path, monkeypatch):
    monkeypatch.setattr("pihc_zoo.cli.predict.load_model", lambda options: DecayingVortices())
    assert "subtract the mean" in refuse("predict", "MODEL", "--constant", 0.5, "--output", tmp_path / "out.npz")


# ---------------------------------------------------------------------- the command line


OPTIONS = {
    "times outside": (["--times", "0", "600"], "got 600"),
    "times not numbers": (["--times", "soon"], "expected a number, got 'soon'"),
    "set without value": (["--set", "D"], "NAME=NUMBER"),
    "set text": (["--set", "D=big"], "NAME=NUMBER"),
    "set out of range": (["--set", "D=1"], "[0.0002, 0.001]"),
    "set unknown": (["--set", "DD=5e-4"], "no parameter 'DD'"),
    "experts that do not divide": (["--experts", "5"], "choose a divisor of 16"),
    "no experts": (["--experts", "0"], "positive integer"),
    "overlap too wide": (["--experts", "8", "--decomposition", "overlapping"], "overlap"),
    "unknown decomposition": (["--decomposition", "random"], "known: disjoint, overlapping, joint"),
    "no steps": (["--max-steps", "-1"], "--max-steps"),
    "index": (["--plot", "PLOT.png", "--index", "2"], "2 trajectories"),
    "plot suffix": (["--plot", "PLOT.gif"], ".png"),
    "animation suffix": (["--animate", "PLOT.png"], ".gif"),
    "no diagnostics": (["--save-diagnostics", "velocity_x"], "this problem has none"),
    "plot folder": (["--plot", "/nowhere/plot.png"], "choose a writable folder"),
    "two sources": (["--constant", "0.1"], "got input and --constant"),
    "unknown option": (["--exprts", "4"], "unrecognized arguments: --exprts"),
    "abbreviated option": (["--max", "4"], "unrecognized arguments: --max"),
    "failure policy": (["--on-failure", "ignore"], "'fallback'"),
    "device": (["--device", "toaster"], "toaster"),
    "backend": (["--backend", "jax"], "'onnx'"),
    "seed of a file": (["--seed", "3"], "--seed chooses among random initial conditions and needs --sample"),
    "family of a file": (["--family", "constants"], "needs --sample; leave it out"),
    "no ONNX": (["--backend", "onnx"], "model.onnx"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_bad_options(refuse, folder, good, tmp_path, kind):
    options, message = OPTIONS[kind]
    options = [str(tmp_path / option) if option.startswith("PLOT") else option for option in options]
    assert message in refuse("predict", folder, good, "--output", tmp_path / "out.npz", *options)


OTHERS = {
    "unknown command": (["predicct"], "did you mean 'predict'"),
    "unknown global option": (["--fast", "list"], "--fast"),
    "no model": (["predict", "--output", "o.npz"], "required: model"),
    "no output": (["predict", "diffusion-sorption.general", "--constant", "0.1"], "required: --output"),
    "no input": (["predict", "diffusion-sorption.general", "--output", "OUT"], "got none"),
    "negative constant": (["predict", "MODEL", "--constant", "-0.1", "--output", "OUT"], "negative values"),
    "no samples": (["predict", "MODEL", "--sample", "0", "--output", "OUT"], "positive integer, got '0'"),
    "seed": (["predict", "MODEL", "--sample", "1", "--seed", "-3", "--output", "OUT"], "zero or a positive integer"),
    "family": (["predict", "MODEL", "--sample", "1", "--family", "sines", "--output", "OUT"], "'random_sines'"),
    "a thousand million samples": (["predict", "MODEL", "--sample", "1000000000", "--output", "OUT"], "at most"),
    "a thousand million counted": (["evaluate", "MODEL", "--count", "1000000000"], "--count: 1000000000 traj"),
    "seed of a constant": (["predict", "MODEL", "--constant", "0.1", "--seed", "0", "--output", "OUT"], "--seed"),
    "HDF5 output": (["predict", "MODEL", "--constant", "0.1", "--output", "TMP.h5"], "ends in .npz"),
    "misspelt model": (["info", "difusion-sorption.general"], "did you mean 'diffusion-sorption.general'"),
    "misspelt model, predict": (
        ["predict", "diffusion-sorption.generl", "--constant", "0.1", "--output", "OUT"],
        "did you mean 'diffusion-sorption.general'",
    ),
    "misspelt model, evaluate": (["evaluate", "difusion-sorption.general"], "did you mean"),
    "model folder without config": (["info", "TMP"], "no config.json"),
    "missing model folder": (["info", "./nowhere"], "./nowhere"),
    "pattern": (["list", "heat*"], "no model matches 'heat*'"),
    "family of evaluate": (["evaluate", "MODEL", "--family", "constant"], "'constants'"),
    "count": (["evaluate", "MODEL", "--count", "many"], "positive integer, got 'many'"),
    "json folder": (["evaluate", "MODEL", "--json", "/nowhere/m.json"], "choose a writable folder"),
    "demo folder": (["demo", "--output", "/proc/nothing"], "cannot create"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_commands(refuse, folder, tmp_path, kind):
    arguments, message = OTHERS[kind]
    places = {"MODEL": folder, "OUT": tmp_path / "out.npz", "TMP": tmp_path, "TMP.h5": tmp_path / "o.h5"}
    assert message in refuse(*(places.get(argument, argument) for argument in arguments))


def test_the_largest_number_that_is_named_is_accepted(refuse, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pihc_zoo.cli.arguments._memory", lambda: 8 * 4 * 3 * 2 * NATIVE + 1)
    command = ("predict", folder, "--output", tmp_path / "out.npz", "--times", 5, 9, "--sample")
    assert "at most 3 at once" in refuse(*command, 4)
    assert cli.main([str(word) for word in (*command, 3)]) == 0
    assert "3 trajectories" in capsys.readouterr().out
    np.savez(tmp_path / "in.npz", u0=np.full((4, NATIVE), 0.1), t=[5.0, 9.0])
    assert "at most 3 at once" in refuse("predict", folder, tmp_path / "in.npz", "--output", tmp_path / "o.npz")


# ---------------------------------------------------------------------- the output


def test_a_tuned_model_has_a_place_before_it_is_tuned(refuse, folder, good, monkeypatch):
    monkeypatch.setattr("pihc_zoo.learning.tuning.take_step", lambda *arguments: pytest.fail("tuned first"))
    command = ("finetune", folder, good, "--loss", "physics", "--steps", 1, "--quiet", "--output")
    assert "cannot write '/proc/nothing'" in refuse(*command, "/proc/nothing")


def test_output_is_checked_before_anything_is_computed(refuse, folder, good, tmp_path, monkeypatch):
    monkeypatch.setattr("pihc_zoo.cli.predict.load_model", lambda options: pytest.fail("loaded the model first"))
    for output in (tmp_path / "none" / "out.npz", tmp_path, "/proc/out.npz", good / "out.npz"):
        assert "cannot write" in refuse("predict", folder, good, "--output", output)
    assert "is the input file" in refuse("predict", folder, good, "--output", good)


def test_a_disk_that_fills_up_leaves_the_old_file(refuse, folder, good, tmp_path, monkeypatch):
    (tmp_path / "out.npz").write_bytes(b"before")

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert "No space left" in refuse("predict", folder, good, "--output", tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == b"before"


def test_plot_without_matplotlib_says_what_to_install(refuse, folder, good, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = refuse("predict", folder, good, "--output", tmp_path / "o.npz", "--plot", tmp_path / "o.png")
    assert 'pip install "pihc_zoo[plot]"' in message


# ---------------------------------------------------------------------- the model folder


def _config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


MODELS = {
    "tampered weights": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "damaged or was changed"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "truncated config": (lambda f: (f / "config.json").write_text('{"format": '), "not valid JSON"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not text"),
    "foreign config": (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "not a pihc_zoo"),
    "unknown key": (lambda f: _config(f, lambda c: c.update(netwrok={})), "did you mean 'network'"),
    "unknown setting": (lambda f: _config(f, lambda c: c["network"].update(widht=4)), "did you mean 'width'"),
    "unknown problem": (lambda f: _config(f, lambda c: c["problem"].update(name="burgers")), "burgers"),
    "newer version": (lambda f: _config(f, lambda c: c.update(config_version="2.0")), "newer than this package"),
    "no version": (lambda f: _config(f, lambda c: c.pop("config_version")), "config_version"),
    "other shapes": (lambda f: _config(f, lambda c: c["network"].update(width=8)), "of another shape"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_bad_model_folders(refuse, folder, good, tmp_path, kind):
    spoil, message = MODELS[kind]
    spoil(folder)
    assert message in refuse("predict", folder, good, "--output", tmp_path / "out.npz")


@pytest.mark.parametrize("part", ["grid", "solver", "trust"])
def test_info_of_a_malformed_configuration(refuse, folder, part):
    _config(folder, lambda c: c.update({part: []}))
    assert "malformed" in refuse("info", folder)


def test_info_of_malformed_metrics(refuse, folder):
    (folder / "metrics.json").write_text('{"results": 3}')
    assert "malformed" in refuse("info", folder)


# ---------------------------------------------------------------------- interrupts


def test_interrupt_is_130_and_leaves_nothing(capsys, folder, good, tmp_path, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pihc_zoo.cli.predict.load_model", interrupted)
    assert cli.main(["predict", str(folder), str(good), "--output", str(tmp_path / "out.npz")]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not (tmp_path / "out.npz").exists()


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -c 'from pihc_zoo.cli import main; import sys; sys.exit(main([\"list\"]))' | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_mistakes_of_our_own_are_not_hidden(monkeypatch, folder):
    def bug(options):
        raise TypeError("a bug")

    monkeypatch.setattr("pihc_zoo.cli.info.run", bug)
    with pytest.raises(TypeError):
        cli.main(["info", str(folder)])
