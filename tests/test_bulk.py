"""Many trajectories: the same numbers as in one call, whatever is killed, resumed or shared; and nothing mixed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bulk_cases as cases
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from processes import Job, free_port

import pihc_zoo as pz
from pihc_zoo.bulk import run as bulk
from pihc_zoo.bulk.npz import members
from pihc_zoo.bulk.store import Output
from pihc_zoo.cli import main

xarray = pytest.importorskip("xarray")
pytest.importorskip("zarr")
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:.*trajectories failed.*", "ignore:.*answers are not reliable.*")


def opened(folder, name="out.zarr"):
    with xarray.open_zarr(folder / name, chunks=None) as data:
        return data.load()


def assert_same(first, second):
    """Bit by bit."""
    assert set(first.variables) == set(second.variables)
    for name in first.variables:
        assert first[name].dims == second[name].dims
        assert_array_equal(first[name].values, second[name].values, err_msg=name)
    assert first.attrs == second.attrs


@pytest.fixture
def model(tiny_model):
    return tiny_model(problem={"inputs": ["D"]})


@pytest.fixture
def given(fields):
    u0 = fields(7)
    u0[2, 5] = np.inf
    return {"u0": u0, "t": np.array([0.0, 100.0, 500.0]), "parameter_D": np.linspace(4e-4, 6e-4, 7)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A folder with many.npz and the store of an unbroken run of one process."""
    folder = tmp_path_factory.mktemp("straight")
    cases.write_input(folder)
    assert Job(folder, 1, cases.command, []).end() == ([0], [])
    return folder


@pytest.fixture
def folder(straight, tmp_path, monkeypatch):
    """The working folder, with the same many.npz."""
    (tmp_path / "many.npz").hardlink_to(straight / "many.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def computed(monkeypatch):
    """Numbers of the chunks that this process computes."""
    indices, real = [], bulk._Job._finish_chunk
    monkeypatch.setattr(bulk._Job, "_finish_chunk", lambda job, index: (indices.append(index), real(job, index)))
    return indices


# ---------------------------------------------------------------------- what is written


def test_it_is_what_predict_says_and_xarray_opens_it(model, given, tmp_path):
    made = pz.predict_many(model, given, tmp_path / "out.zarr", batch_size=3, quiet=True)
    assert (made.count, made.computed, made.failed) == (7, 7, 1) and made.first_failure[0] == 2
    data = opened(tmp_path)
    arguments = {"times": given["t"], "parameters": {"D": given["parameter_D"]}}
    whole = model.predict(given["u0"], **arguments).to_xarray()
    for name in set(whole.variables) - {"coefficients"}:
        assert data[name].dims == whole[name].dims and data[name].attrs == whole[name].attrs, name
        if whole[name].dtype.kind in "fib":
            assert_allclose(data[name].values, whole[name].values, rtol=1e-9, atol=1e-13, err_msg=name)
        else:
            assert data[name].values.tolist() == whole[name].values.tolist()
    assert set(data.coords) == set(whole.coords)
    part = model.predict(given["u0"][3:6], times=given["t"], parameters={"D": given["parameter_D"][3:6]})
    assert_array_equal(data.u[3:6], part.u)  # the same chunk: the same bits
    assert np.isnan(data.u[2]).all() and "not finite" in str(data.messages.values[2])
    assert data.status.values[2] == pz.Status.BAD_INPUT and not data.converged.values[2].any()
    assert data.attrs["num_failed"] == 1 and len(data.attrs["weights_sha256"]) == 64
    assert data.attrs["model"] == model.name and data.attrs["version"] == pz.__version__
    assert not (tmp_path / "out.zarr.partial").exists()


def test_chunks_of_sixteen_are_one_large_call_bit_by_bit(model, fields, tmp_path):
    u0 = fields(40)
    pz.predict_many(model, {"u0": u0}, tmp_path / "out.zarr", times=[250.0], x=[0.1, 0.5], batch_size=16, quiet=True)
    data = opened(tmp_path)
    assert_array_equal(data.u, model.predict(u0, times=[250.0], x=[0.1, 0.5], batch_size=16).u)
    assert data.u.shape == (40, 1, 2) and data.time.attrs["units"] == "s" and data.x.attrs["units"] == "m"


def test_several_axes_positions_and_further_fields(tiny_rollout, vorticity, tmp_path):
    model, w0 = tiny_rollout(), vorticity(3)
    pz.predict_many(model, {"u0": w0}, tmp_path / "a.zarr", times=[0.5], batch_size=2, diagnostics=["velocity_x"],
                    quiet=True)  # fmt: skip
    pz.predict_many(model, {"u0": w0}, tmp_path / "b.zarr", times=[0.5], x={"x": [0.25], "y": [0.5, 0.75]}, quiet=True)
    first, second = opened(tmp_path, "a.zarr"), opened(tmp_path, "b.zarr")
    assert first.velocity_x.dims == first.u.dims == ("batch", "time", "x", "y") and first.x.attrs["period"] == 1.0
    assert_allclose(second.u, first.u.sel(x=[0.25], y=[0.5, 0.75]), rtol=1e-6, atol=1e-9)


def test_fields_may_have_further_axes(tmp_path):
    values = np.arange(2 * 3 * 4 * 2.0).reshape(2, 3, 4, 2)
    example = xarray.Dataset({"u": (("batch", "time", "x", "field"), values[:1]), "field": ["a", "b"]})
    output = Output(tmp_path / "out.zarr")
    output.lay_out({"failed": 0, "reliable": 2}, example, 1, 2, False)
    for i in range(2):
        output.write(i, i, example.assign(u=(example.u.dims, values[i : i + 1])), {})
    output.finish({"failed": 0, "reliable": 2})
    assert_array_equal(opened(tmp_path).u, values)
    assert opened(tmp_path).field.values.tolist() == ["a", "b"]


# ---------------------------------------------------------------------- where it is read from


@pytest.mark.parametrize("kind", ("npz", "compressed", "zarr", "nc", "h5", "dataset", "mapped"))
def test_any_source_gives_the_same(model, given, tmp_path, kind):
    dims = {"u0": ("batch", "x_input"), "t": ("time",), "parameter_D": ("batch",)}
    dataset = xarray.Dataset({key: (dims[key], value) for key, value in given.items() if key != "t"})
    dataset = dataset.assign_coords(time=given["t"])
    source = tmp_path / f"many.{ {'compressed': 'npz'}.get(kind, kind) }"
    if kind == "npz":
        np.savez(source, **given)
    elif kind == "compressed":
        np.savez_compressed(source, **given)
    elif kind == "zarr":
        dataset.to_zarr(source, consolidated=False)
    elif kind == "nc":
        dataset.to_netcdf(source)
    elif kind == "h5":
        with pytest.importorskip("h5py").File(source, "w") as file:
            for key, value in given.items():
                file[key] = value
    elif kind == "dataset":
        source = dataset
    else:
        np.save(tmp_path / "u0.npy", given["u0"])
        source = given | {"u0": np.load(tmp_path / "u0.npy", mmap_mode="r")}
    pz.predict_many(model, given, tmp_path / "a.zarr", batch_size=3, quiet=True)
    pz.predict_many(model, source, tmp_path / "b.zarr", batch_size=3, quiet=True)
    assert_same(opened(tmp_path, "a.zarr"), opened(tmp_path, "b.zarr"))


def labelled(u0, names, is_apart):
    """A Dataset of a system's initial values, with an axis of fields or a variable for each."""
    dims = ("batch", "x", "y")
    if not is_apart:
        return xarray.Dataset({"u0": ((*dims, "field"), u0)})
    return xarray.Dataset({f"{name}0": (dims, u0[..., i]) for i, name in enumerate(names)})


@pytest.mark.parametrize("kind", ["one array", "npz by field", "Zarr with an axis", "Dataset by field"])
def test_a_system_is_read_with_an_axis_of_fields_or_by_field(tmp_path, kind):
    own = pz.from_pretrained("reaction-diffusion-2d.fitzhugh-nagumo")
    names, u0 = list(own.problem.fields), pz.sample(own, 2)[0]
    source = {"u0": u0}
    if kind == "npz by field":
        source = tmp_path / "in.npz"
        np.savez(source, **{f"{name}0": u0[..., i] for i, name in enumerate(names)})
    elif kind == "Zarr with an axis":
        source = tmp_path / "in.zarr"
        labelled(u0, names, False).to_zarr(source)
    elif kind == "Dataset by field":
        source = labelled(u0, names, True)
    pz.predict_many(own, source, tmp_path / "out.zarr", times=[0.5], batch_size=2, quiet=True)
    found, expected = opened(tmp_path), own.predict(u0, times=[0.5])
    for name in names:
        assert_array_equal(found[name].values, expected[name])
        assert found[name].dims == ("batch", "time", "x", "y")


def test_a_steady_problem_needs_no_u0_and_its_coefficient_fields_are_read_by_slices(tmp_path, monkeypatch):
    own = pz.from_pretrained("darcy-2d.lognormal")
    a = pz.sample(own, 5)[1]["a"]
    np.savez(tmp_path / "in.npz", parameter_a=a)
    dataset = xarray.Dataset({"parameter_a": (("batch", "x_native", "y_native"), a)})
    sizes, real = [], type(own).predict
    monkeypatch.setattr(
        type(own), "predict", lambda self, u0, **options: sizes.append(len(u0)) or real(self, u0, **options)
    )
    for i, source in enumerate((tmp_path / "in.npz", dataset, {"parameter_a": a})):
        pz.predict_many(own, source, tmp_path / f"{i}.zarr", batch_size=2, quiet=True)
    assert max(sizes) == 2
    monkeypatch.undo()
    whole = own.predict(parameters={"a": a}, batch_size=2)
    for i in range(3):
        found = opened(tmp_path, f"{i}.zarr")
        assert_allclose(found.u.values, whole.u, rtol=0, atol=1e-12)
        assert_array_equal(found.parameter_a.values, a)
    pz.predict_many(own, tmp_path / "0.zarr", tmp_path / "again.zarr", batch_size=2, quiet=True)
    assert_array_equal(opened(tmp_path, "again.zarr").u.values, found.u.values)


def test_what_lacks_fields_is_said(tmp_path):
    system, steady = (
        pz.from_pretrained(name) for name in ("reaction-diffusion-2d.fitzhugh-nagumo", "darcy-2d.lognormal")
    )
    field = np.zeros((2, 128, 128))
    for model, given, message in (
        (system, {"u0": field}, "u0 are there, but v0 is missing"),
        (system, {"u0": field, "v0": field[:, :64]}, "must have one shape"),
        (steady, {"parameter_a": np.ones((64, 64))}, "no parameter_a with a value for each trajectory"),
        (steady, {"u0": np.zeros((3, 64, 64)), "parameter_a": np.ones((2, 64, 64))}, "2 fields for 3 trajectories"),
    ):
        with pytest.raises(ValueError, match=message):
            pz.predict_many(model, given, tmp_path / "out.zarr", quiet=True)


@pytest.mark.parametrize("save", (np.savez, np.savez_compressed))
def test_rows_of_an_npz_are_read_in_any_order(tmp_path, save, rng):
    values = rng.standard_normal((9, 4, 2)).astype(np.float32)
    save(tmp_path / "a.npz", u0=values, parameter_D=np.float64(3e-4))
    found = members(tmp_path / "a.npz")
    for first, stop in ((6, 9), (0, 2), (2, 5), (8, 20), (3, 3)):
        assert_array_equal(found["u0"][first:stop], values[first:stop])
    assert found["parameter_D"][...] == 3e-4


def test_what_cannot_be_read_is_said(model, given, tmp_path, capsys):
    whole = {"u0": given["u0"]}
    np.savez(tmp_path / "fortran.npz", u0=np.asfortranarray(given["u0"]))
    np.savez(tmp_path / "cut.npz", **whole)
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    np.savez(tmp_path / "objects.npz", u0=np.array([None, 1]))
    cases_ = {
        "fortran.npz": "Fortran's order", "cut.npz": "not a complete NPZ", "objects.npz": "pickled objects",
        "none.npz": "no such file",
    }  # fmt: skip
    for name, message in cases_.items():
        with pytest.raises(ValueError, match=message):
            pz.predict_many(model, tmp_path / name, tmp_path / "out.zarr", quiet=True)
    for changes, message in (
        ({"u0": given["u0"][0]}, r"shape \(batch, \*space\)"),
        ({"u": given["u0"]}, "no array u0"),
        (whole | {"parameter_Q": 1.0}, "no parameter 'Q'"),
        (whole | {"parameter_D": np.full(3, 4e-4)}, r"shape \(7,\), got \(3,\)"),
        (whole | {"parameter_D": np.full(7, 4.0)}, "must lie in"),
        (whole | {"x": np.linspace(0.1, 0.9, 7)}, "one value per point|extrapolated"),
    ):
        with pytest.raises(ValueError, match=message):
            pz.predict_many(model, changes, tmp_path / "out.zarr", quiet=True)
    assert not list(tmp_path.glob("out.zarr*"))


# ---------------------------------------------------------------------- killed, and going on


@pytest.mark.parametrize("kill, finished", (("written", 2), ("marked", 3)))
def test_after_kill_9_finished_chunks_are_kept_and_the_store_is_that_of_an_unbroken_run(
    straight, folder, computed, capsys, kill, finished
):
    assert Job(folder, 1, cases.command, [], kill, 2).end()[0] == [-signal.SIGKILL]
    assert not (folder / "out.zarr").exists()
    assert main(cases.COMMAND) == 2
    assert capsys.readouterr().err == (
        "error: 'out.zarr.partial' holds an unfinished run of this output; --resume goes on, --overwrite begins anew\n"
    )
    assert main([*cases.COMMAND, "--resume"]) == 0
    assert computed == list(range(finished, 5))
    assert_same(opened(folder), opened(straight))
    assert main([*cases.COMMAND, "--resume"]) == 0 and len(computed) == 5 - finished
    assert "all 14 trajectories were finished before" in capsys.readouterr().out


@pytest.mark.parametrize("after", (0, 1))
def test_overwrite_keeps_the_old_store_until_the_new_one_is_complete(straight, folder, after):
    assert main([*cases.COMMAND, "--times", "5"]) == 0
    old = opened(folder)
    assert Job(folder, 1, cases.command, ["--overwrite"], "replaced", after).end()[0] == [-signal.SIGKILL]
    if after == 0:
        assert_same(opened(folder / "out.zarr.partial", "replaced.zarr"), old)  # until the next name is given
    assert main([*cases.COMMAND, "--resume"]) == 0
    assert_same(opened(folder), opened(straight))
    assert [path.name for path in folder.glob("out*")] == ["out.zarr"]


def test_a_full_disk_leaves_what_was_finished(model, given, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr("pihc_zoo.bulk.store.write_text", full)
        with pytest.raises(ValueError, match="No space left on device"):
            pz.predict_many(model, given, out, quiet=True)
    assert not out.exists()
    assert pz.predict_many(model, given, out, resume=True, quiet=True).computed == 7


def test_only_the_same_run_is_resumed(tiny_model, model, given, tmp_path):
    out = tmp_path / "out.zarr"
    made = {"batch_size": 3, "quiet": True}
    pz.predict_many(model, given, out, **made)
    before = opened(tmp_path)
    other_u0 = given["u0"].copy()
    other_u0[5] *= 1.001
    renamed = tiny_model(problem={"inputs": ["D"]})
    renamed.name = "another"
    changed = [
        (renamed, given, {}, "another model: '', now 'another'"),
        (tiny_model(1, problem={"inputs": ["D"]}), given, {}, "another weights"),
        (tiny_model(problem={"inputs": ["D"]}, solver={"max_steps": 9}), given, {}, "another configuration"),
        (model, given | {"u0": other_u0}, {}, "another input"),
        (model, given, {"parameters": {"D": 5e-4}}, "another input"),
        (model, {key: value[:6] if len(value) == 7 else value for key, value in given.items()}, {}, "trajectories: 7"),
        (model, given, {"times": [1.0]}, "another times"),
        (model, given, {"x": [0.5]}, "another output points"),
        (model, given, {"polish": False}, "another settings"),
        (model, given, {"batch_size": 4}, "another chunk size: 3, now 4"),
    ]
    for other, data, options, message in changed:
        with pytest.raises(ValueError, match=message):
            pz.predict_many(other, data, out, resume=True, **{**made, **options})
    with pytest.raises(ValueError, match="exists; --overwrite replaces it"):
        pz.predict_many(model, given, out, **made)
    with pytest.raises(ValueError, match="exclude each other"):
        pz.predict_many(model, given, out, resume=True, overwrite=True, **made)
    assert pz.predict_many(model, given, out, resume=True, quiet=True).computed == 0  # the chunk size is the store's
    assert_same(opened(tmp_path), before)
    pz.predict_many(model, given, out, overwrite=True, times=[1.0], **made)
    assert opened(tmp_path).sizes["time"] == 1


def test_what_is_not_ours_is_not_replaced(model, given, tmp_path):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "thesis.tex").touch()
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match="was not written by bulk prediction"):
            pz.predict_many(model, given, tmp_path / "out.zarr", quiet=True, **options)
    with pytest.raises(ValueError, match="choose a writable folder"):
        pz.predict_many(model, given, tmp_path / "none" / "out.zarr", quiet=True)


def test_one_job_writes_at_a_time(model, given, tmp_path):
    output = Output(tmp_path / "out.zarr")
    output.lay_out({}, model.predict(given["u0"][:1]).to_xarray(), 3, 7, False)
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(ValueError, match="another process is writing"):
            pz.predict_many(model, given, tmp_path / "out.zarr", quiet=True, **options)


# ---------------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_number(tmp_path):
    for count in (32, 160):  # answers of 26 and 132 MB
        assert Job(tmp_path, 1, cases.peak, tmp_path, count).end() == ([0], [])
    few, many = (int((tmp_path / f"{count}.txt").read_text()) / 1024 for count in (32, 160))
    assert many < few + 25, (few, many)


# ---------------------------------------------------------------------- several processes


def test_two_processes_share_the_chunks(straight, folder):
    assert Job(folder, 2, cases.command, []).end() == ([0, 0], [])
    assert_same(opened(folder), opened(straight))
    assert "predict" not in (folder / "stderr-1").read_text()


@pytest.mark.parametrize("rank, who", ((1, "process 1"), (0, "the first process")))
def test_a_dead_process_ends_all_with_one_line_and_one_process_goes_on(straight, folder, rank, who):
    codes, said = Job(folder, 2, cases.command, ["--timeout", "2"], "written", 1, rank).end()
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 2
    assert said == [f"error: lost contact with {who}; --resume goes on from the finished chunks"]
    assert main([*cases.COMMAND, "--resume"]) == 0
    assert_same(opened(folder), opened(straight))


def test_an_error_ends_all_with_one_line(folder):
    codes, said = Job(folder, 2, cases.command, ["--times", "-3"]).end()
    assert codes == [2, 2] and said == ["error: times must lie in [0, 500] s, got -3"]


def test_torchrun_as_the_manual_says(straight, folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*map(str, command), "-m", "pihc_zoo.cli", *cases.COMMAND], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("written to out.zarr") == 1
    assert_same(opened(folder), opened(straight))


# ---------------------------------------------------------------------- the command


def test_the_command_says_what_failed(folder, capsys):
    assert main([*cases.COMMAND, "--times", "1", "2", "--x", "0.25", "0.5", "--set", "D=5e-4"]) == 0
    said = capsys.readouterr().out
    assert "14 trajectories in" in said and "failed: 1 of 14" in said and "trajectory 4: initial condition" in said
    assert opened(folder).u.shape == (14, 2, 2)
    attributes = json.loads((folder / "out.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["num_failed"] == 1


def test_what_does_not_go_together_is_one_line(folder, capsys):
    npz = ["predict", cases.MODEL, "many.npz", "--output", "out.npz"]
    for arguments, message in (
        ([*npz, "--resume"], "--resume is for an --output that ends in .zarr"),
        ([*npz, "--input", "many.npz"], "given twice"),
        ([*cases.COMMAND, "--plot", "a.png"], "--plot is not for a Zarr store"),
        ([*cases.COMMAND, "--x", "a"], "--x expects numbers"),
        ([*cases.COMMAND, "--x", "z=0.5"], "no axis 'z'"),
        ([*cases.COMMAND, "--on-failure", "raise"], "failures are listed"),
        ([*cases.COMMAND, "--device", "cuda:7"], "cuda"),
        (["predict", cases.MODEL, "--output", "out.zarr"], "expected --input"),
    ):
        assert main(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1, said
    assert sorted(path.name for path in folder.iterdir()) == ["many.npz"]


def test_a_missing_package_is_named(model, given, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ValueError, match=r"pip install \"pihc_zoo\[bulk\]\""):
        pz.predict_many(model, given, tmp_path / "out.zarr", quiet=True)
