"""Models of equations from text: folders that any machine loads, and commands that say what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import text_problems as texts

import pihc_zoo as pz
from pihc_zoo import cli
from pihc_zoo.problems import PROBLEMS, TextProblem, problem_of
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.card import card_text
from pihc_zoo.zoo.folder import problem_digest
from pihc_zoo.zoo.storage import load_folder, save_folder


@pytest.fixture
def model(tiny_model):
    grid = {"x": {"name": "graded", "num_nodes": 16, "start": 0.0, "stop": 1.0, "grading": 1.0}}
    time = {"name": "radau", "duration": 500.0, "elements": 2, "stages": 3}
    return tiny_model(problem=texts.DIFFUSION_SORPTION, grid={"time": time, "space": grid})


@pytest.fixture
def folder(model, tmp_path):
    return save_folder(model, tmp_path / "model")


@pytest.fixture
def command(capsys):
    """``command(code, *arguments)``: runs ``pihc``; its output, or its error line."""

    def call(code, *arguments):
        assert cli.main([str(word) for word in arguments]) == code
        found = capsys.readouterr()
        if code:
            assert found.err.startswith("error: ") and found.err.count("\n") == 1 and not found.out
        return found.err if code else found.out

    return call


def test_a_folder_holds_the_text_and_loads_where_nothing_else_is(model, folder):
    """In a process that has only the package; what it answers is the same to the last bit."""
    stored = json.loads((folder / "config.json").read_text())["problem"]
    assert stored == texts.DIFFUSION_SORPTION
    u0 = np.linspace(0.1, 0.2, 1024)[None]
    expected = model.predict(u0, x=[0.25, 0.5], times=[100.0, 500.0], parameters={"D": 3e-4}).u
    np.save(folder.parent / "u0.npy", u0)
    code = (
        "import sys, numpy as np, pihc_zoo as pz; model = pz.from_pretrained(sys.argv[1] + '/model'); "
        "u0 = np.load(sys.argv[1] + '/u0.npy'); "
        "u = model.predict(u0, x=[0.25, 0.5], times=[100.0, 500.0], parameters={'D': 3e-4}).u; "
        "np.save(sys.argv[1] + '/u.npy', u)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(folder.parent / "u.npy"), expected)


def test_a_model_has_the_problem_of_its_own_text(model, folder):
    loaded = load_folder(folder, Surrogate)
    assert isinstance(loaded.problem, TextProblem) and loaded.problem.name not in PROBLEMS
    assert loaded.parameter_inputs == ("D", "phi", "n_f")
    assert pz.model_info(folder)["config"]["problem"] == texts.DIFFUSION_SORPTION
    with pytest.warns(RuntimeWarning, match="u reaches 2; it must lie from 0 to 1"):
        assert np.isnan(loaded.predict(np.full((1, 1024), 2.0), times=[1.0]).u).all()


def test_info_prints_the_text(command, folder):
    out = command(0, "info", folder)
    for words in (
        "R*u_t = D*u_xx",
        "R = 1 + (1 - phi)",
        "left wall of x: u = 1",
        "right wall of x: u = -D*u_x",
        "0.0002 … 0.001",
    ):
        assert words in out
    assert "\\" not in out


def test_the_card_has_the_equation_and_the_walls(folder):
    card = card_text(folder, "sorption-text.tiny")
    assert r"R\,u_t &= D\,u_{xx}" in card and r"\frac{1 - \phi}{\phi}\,\rho_s\,k_f\,n_f" in card
    assert "`u = -D*u_x` (right wall of x)" in card


TAMPERED = {
    "code": (
        lambda p: p.update(equations=["R*u_t = D*u_xx + __import__('os').getpid()"]),
        "a call of something that is no",
    ),
    "unknown key": (lambda p: p.update(residual="u"), "unknown key 'residual'"),
    "more than it may hold": (lambda p: p.update(equations=["u_t = " + "u*" * 5000 + "u"]), "too long"),
    "deep": (lambda p: p.update(equations=["u_t = " + "-" * 4000 + "u"]), "nested too deeply"),
    "huge power": (lambda p: p.update(definitions={"R": "9**9**9"}), "definition R, column 1: the exponent"),
    "kind": (lambda p: p.update(fields=["u"]), "fields must be a table"),
    "not finite": (lambda p: p["parameters"]["D"].update(high=float("inf")), "high must be a finite number"),
    "name of another": (lambda p: p.update(name="burgers-1d"), "belongs to a problem of the package"),
    "inputs": (lambda p: p.update(inputs=["k"]), "inputs name no parameter 'k'"),
    "axis": (lambda p: p["space"]["x"].update(points=10**7), "points must be an integer from 8 to 4096"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_configuration_that_was_tampered_with_is_refused_in_one_line(command, folder, what):
    change, words = TAMPERED[what]
    config = json.loads((folder / "config.json").read_text())
    change(config["problem"])
    (folder / "config.json").write_text(json.dumps(config))
    assert "its text was changed; download or export the model again" in command(2, "info", folder)
    config["problem_sha256"] = problem_digest(config["problem"])  # whoever changes one can change the other
    (folder / "config.json").write_text(json.dumps(config))
    assert words in command(2, "info", folder)
    output = folder.parent / "out.npz"
    assert words in command(2, "predict", folder, "--sample", 1, "--output", output)
    assert not output.exists()


def test_a_new_recipe_is_complete_and_commented(command, tmp_path):
    path = tmp_path / "mine.toml"
    assert f"pihc info {path}" in command(0, "new", "growth-1d.demo", "--output", path)
    recipe = tomllib.loads(path.read_text())
    problem, inputs = problem_of(recipe["problem"])
    assert (recipe["name"], problem.name, inputs) == ("growth-1d.demo", "growth-1d", ("D",))
    assert path.read_text().count("#") > 15
    out = command(0, "info", path)
    for words in ("u_t = D*u_xx + r*u*(1 - u/K)", "left wall of x: u_x = 0", "0.0003 … 0.003", "t from 0 to 2 s"):
        assert words in out


def test_a_new_recipe_replaces_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command(0, "new", "mine")
    (tmp_path / "mine.toml").write_text("# mine")
    assert "exists; choose another --output" in command(2, "new", "mine")
    assert (tmp_path / "mine.toml").read_text() == "# mine"
    command(0, "new", "mine", "--overwrite")
    assert 'name = "mine.demo"' in (tmp_path / "mine.toml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "Mine!"], "a name has lower-case letters"),
        (["new", "../mine"], "a name has lower-case letters"),
        (["new", "burgers-1d.own"], "belongs to a problem of the package"),
        (["new", "mine", "--output", "mine.txt"], "ends in .toml"),
        (["new", "mine", "--output", "/nowhere/mine.toml"], "choose a writable folder"),
        (["info", "nowhere.toml"], "cannot read 'nowhere.toml'"),
        (["info", "broken.toml"], "is not valid TOML"),
        (["info", "empty.toml"], "has no table [problem]"),
        (["info", "wrong.toml"], "equation 1, column 9: unknown name 'u_xz'; did you mean"),
    ],
)
def test_what_commands_cannot_use_is_said_in_one_line(command, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "empty.toml").write_text("name = 'a.b'")
    command(0, "new", "mine", "--output", "wrong.toml")
    (tmp_path / "wrong.toml").write_text(
        (tmp_path / "wrong.toml").read_text().replace('"u_t = D*u_xx', '"u_t = D*u_xz')
    )
    before = {path.name for path in tmp_path.iterdir()}
    assert words in command(2, *arguments)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_info_on_systems_and_steady_problems(command, tmp_path):
    for spec, words in (
        (texts.FITZHUGH_NAGUMO, ("u from -1.2 to 1.2", "v from -1.2 to 1.2", "right wall of x: 0 = v_x, u_x = 0")),
        (texts.POISSON, ("steady", "-u_xx - u_yy = sin(pi*x)*sin(pi*y)")),
        (texts.KORTEWEG_DE_VRIES, ("delta**2*u_xxx", "(periodic)")),
    ):
        path = tmp_path / f"{spec['name']}.toml"
        path.write_text("\n".join(["[problem]", *_toml(spec, "problem")]))
        out = command(0, "info", path)
        assert all(word in out for word in words), out


def _toml(table, name):
    """The lines of a table; JSON's numbers, texts and lists are TOML's, too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += [f"[{name}.{key}]", *_toml(value, f"{name}.{key}")]
    return lines
