"""Laws of stored models of problems from text and of systems: folders, cards, the command line, the Hub; their data."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import text_models
from numpy.testing import assert_allclose, assert_array_equal
from test_hub import client, hub  # noqa: F401 (fixtures)
from text_models import initial, model

import pihc_zoo as pz
from pihc_zoo import cli, doctor
from pihc_zoo.data import read_trajectories
from pihc_zoo.zoo.exporting import export, save_pretrained, write_example
from pihc_zoo.zoo.folder import EXAMPLE_FILE, problem_digest, record

SYSTEMS = ("gray-scott-small", "fitzhugh-nagumo-small")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A complete folder of one model, folders with an example of the others."""
    where = tmp_path_factory.mktemp("models")
    export(model("gray-scott-small"), where / "gray-scott-small")
    for name in text_models.NAMES[1:]:
        save_pretrained(model(name), where / name)
        write_example(model(name), where / name / EXAMPLE_FILE)
        record(where / name, EXAMPLE_FILE)
    return {name: where / name for name in text_models.NAMES}


@pytest.mark.parametrize("name", text_models.NAMES)
def test_a_folder_is_the_same_model_and_reproduces_its_example(name, folders):
    again = pz.from_pretrained(folders[name], verify=True)
    assert again.problem.text == model(name).problem.text
    assert again.problem.walls(again.problem.defaults()) == model(name).problem.walls(model(name).problem.defaults())
    assert_allclose(again.predict(initial(name)).u, model(name).predict(initial(name)).u, rtol=0, atol=1e-12)
    with np.load(folders[name] / "example.npz") as file:
        assert file["u0"].shape[1:] == initial(name).shape[1:]


@pytest.mark.parametrize("name", text_models.NAMES)
def test_cards_and_info_say_equations_walls_fields_and_parameters(name, folders, capsys):
    problem, card = model(name).problem, (folders[name] / "README.md").read_text()
    assert cli.main(["info", str(folders[name])]) == 0
    info = capsys.readouterr().out
    for text in (*problem.text, *(own.partition(": ")[2] for own in problem.wall_text)):
        assert text in info and text in card
    assert problem.equation in card
    for field, own in problem.fields.items() if problem.is_system else ():
        assert f"| `{field}` | {own.description} | {own.unit} | {own.low:g} … {own.high:g} |" in card
        assert f"{field} from {own.low:g} to {own.high:g}" in info
    for key, own in problem.parameters.items():
        assert f"| `{key}` | {own.description} | {own.unit} | {own.default:g} |" in card
    assert "\n\n\n" not in card


def test_a_changed_equation_is_refused_by_place_and_nothing_of_it_is_run(folders, tmp_path, capsys):
    marker = tmp_path / "marker"
    attacks = {
        f"u_t = __import__('pathlib').Path({str(marker)!r}).touch()": "column",
        "u_t = D*u_xx + open('x')": "column",
        "u_t = (lambda: u)()": "column",
        "u_t = D*u_xx + 9**9**9**9": "problem",
    }
    for equation, word in attacks.items():
        folder = tmp_path / "changed"
        shutil.copytree(folders["robin-small"], folder)
        config = json.loads((folder / "config.json").read_text())
        config["problem"]["equations"] = [equation]
        config["problem_sha256"] = problem_digest(config["problem"])  # whoever changes one can change the other
        (folder / "config.json").write_text(json.dumps(config))
        assert cli.main(["predict", str(folder), "--constant", "0.5", "--output", str(tmp_path / "out.npz")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and word in error, error
        assert not marker.exists() and not (tmp_path / "out.npz").exists()
        shutil.rmtree(folder)


def test_systems_on_the_command_line(folders, tmp_path, capsys):
    folder, out = str(folders["gray-scott-small"]), str(tmp_path / "out.npz")
    u0 = initial("gray-scott-small")
    np.savez(tmp_path / "one.npz", u0=u0, parameter_D=np.array([6e-4, 1e-3]))
    np.savez(tmp_path / "apart.npz", u0=u0[..., 0], v0=u0[..., 1], parameter_D=np.array([6e-4, 1e-3]))
    answers = []
    for source in ("one", "apart"):
        figures = ["--plot", str(tmp_path / "a.png"), "--animate", str(tmp_path / "a.gif"), "--field", "v"]
        assert cli.main(["predict", folder, str(tmp_path / f"{source}.npz"), "--output", out, *figures]) == 0
        answers.append(pz.Prediction.load(out))
    assert_array_equal(answers[0].u, answers[1].u)
    expected = model("gray-scott-small").predict(u0, parameters={"D": np.array([6e-4, 1e-3])})
    assert_allclose(answers[0]["v"], expected["v"], rtol=0, atol=1e-12)
    assert cli.main(["predict", folder, "--constant", "0.5,0.2", "--output", out]) == 0
    assert_allclose(pz.Prediction.load(out).u0[0, 0], [0.5, 0.2], rtol=0, atol=0)
    assert cli.main(["predict", folder, "--sample", "2", "--output", out]) == 0
    assert cli.main(["predict", folder, out, "--output", str(tmp_path / "again.npz")]) == 0  # what it wrote is data
    capsys.readouterr()
    for arguments, message in (
        (["--constant", "1,2,3"], "one for each of u, v, got 3 numbers"),
        (["--constant", "0.1", "--field", "w"], "no field 'w'"),
    ):
        assert cli.main(["predict", folder, *arguments, "--output", str(tmp_path / "no.npz")]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "no.npz").exists()


def test_the_doctor_and_the_list_know_registered_models_of_text(folders, capsys):
    from pihc_zoo.zoo import registry

    registry.register_model("gray-scott-small.test", folders["gray-scott-small"])
    try:
        assert any(own.topic == "gray-scott-small.test" and own.state == "ok" for own in doctor.examine())
        assert cli.main(["list", "gray-scott*"]) == 0
        assert "Gray–Scott, 1-D" in capsys.readouterr().out
    finally:
        registry._REGISTERED.pop("gray-scott-small.test")


def test_a_system_from_text_is_pushed_and_loaded_elsewhere(hub, client, folders, tmp_path):  # noqa: F811
    np.savez(tmp_path / "u0.npz", u0=initial("gray-scott-small"))
    answer = client(
        f"""
        import numpy as np
        pz.from_pretrained({str(folders["gray-scott-small"])!r}).push_to_hub("me/gray", tag="v1.0")
        model = pz.from_pretrained("me/gray", revision="v1.0", verify=True)
        out = model.predict(np.load("u0.npz")["u0"])
        np.savez("v.npz", v=out["v"])
        answer["fields"], answer["text"] = out.fields, model.problem.text
        """
    )
    assert answer == {"fields": ["u", "v"], "text": list(model("gray-scott-small").problem.text)}
    expected = model("gray-scott-small").predict(initial("gray-scott-small"))["v"]
    assert_allclose(np.load(tmp_path / "v.npz")["v"], expected, rtol=0, atol=1e-10)


# ------------------------------------------------------------------ data of several fields


@pytest.fixture(scope="module")
def solutions():
    """u0, t and u of the periodic system."""
    out = model("gray-scott-small").predict(initial("gray-scott-small"))
    return out.u0, out.t, out.u


def _written(kind, path, solutions):
    u0, t, u = solutions
    x = np.arange(32) / 32
    if kind == "npz":
        np.savez(path, u0=u0, t=t, u=u, x=x)
    elif kind == "npz, apart":
        np.savez(path, u=u[..., 0], v=u[..., 1], u0=u0[..., 0], v0=u0[..., 1], t=t, x=x)
    elif kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file.update({"u0": u0, "t": t, "u": u, "x": x})
    elif kind == "pdebench groups":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for i, own in enumerate(u):
                file[f"{i:04d}/data"], file[f"{i:04d}/grid/t"], file[f"{i:04d}/grid/x"] = own, t, x
    else:
        xarray = pytest.importorskip("xarray")
        dims, coords = ("n", "time", "x"), {"time": t, "x": x}
        if kind == "netcdf":
            data = {key: (dims, u[..., k]) for k, key in enumerate("uv")}
        else:
            data, coords = {"u": ((*dims, "field"), u)}, {**coords, "field": ["u", "v"]}
        xarray.Dataset(data, coords).to_netcdf(path)


@pytest.mark.parametrize("kind", ["npz", "npz, apart", "hdf5", "pdebench groups", "netcdf", "netcdf, one array"])
def test_every_format_holds_the_same_fields(kind, solutions, tmp_path):
    suffix = {"n": ".npz", "h": ".h5", "p": ".h5"}[kind[0]]
    path = tmp_path / ("a.nc" if "netcdf" in kind else f"a{suffix}")
    _written(kind, path, solutions)
    data = read_trajectories(path, model("gray-scott-small").problem)
    u0, t, u = solutions
    assert_array_equal(data.u, u)
    assert_allclose(data.u0, u0, rtol=0, atol=1e-12)
    assert_array_equal(data.t, t)


def test_what_to_xarray_makes_is_data(solutions):
    pytest.importorskip("xarray")
    out = model("gray-scott-small").predict(initial("gray-scott-small"))
    data = read_trajectories(out.to_xarray(), model("gray-scott-small").problem)
    assert_array_equal(data.u, out.u)


def test_fields_that_are_missing_misplaced_or_scattered_are_refused(solutions, tmp_path):
    u0, t, u = solutions
    problem = model("gray-scott-small").problem
    with pytest.raises(ValueError, match="missing"):
        read_trajectories({"u0": u0[..., 0], "v": u[..., 1], "t": t}, problem)
    with pytest.raises(ValueError, match=r"pass u\.transpose"):
        read_trajectories({"u": np.moveaxis(u, -1, 1), "t": t, "x": np.arange(32) / 32}, problem)
    (tmp_path / "a.csv").write_text("x,t,u\n0.5,0.5,0.1\n")
    with pytest.raises(ValueError, match="scattered points have one field"):
        read_trajectories(tmp_path / "a.csv", problem)
