"""Users' files are read as they are: the same trajectories from every format, and one helpful line for the rest."""

import importlib.util

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pihc_zoo.cli import main
from pihc_zoo.data import Scattered, read_arrays, read_trajectories
from pihc_zoo.problems import Burgers, DiffusionSorption, NavierStokes2D

N, T = 12, 5
X = (np.arange(N) + 0.5) / N
TIMES = np.linspace(0, 500, T)


@pytest.fixture
def u(rng):
    """(3, time, x) in the range of states."""
    return 0.1 + 0.2 * rng.uniform(size=(3, T, N))


def same(data, u, x=X, t=TIMES):
    assert_array_equal(data.u, u)
    assert_array_equal(data.u0, u[:, 0])
    assert_allclose(data.x, x, rtol=0, atol=1e-12)
    assert_allclose(data.t, t)


# ------------------------------------------------------------------ formats


def write(path, u, x=X, t=TIMES):
    """One set of trajectories in the format that the name says."""
    if path.suffix == ".npz":
        np.savez(path, u0=u[:, 0], u=u, x=x, t=t)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for key, value in {"u": u, "x": x, "t": t}.items():
                file[key] = value
    else:
        xarray = pytest.importorskip("xarray")
        dataset = xarray.Dataset({"u": (("sample", "time", "x"), u)}, {"time": t, "x": x})
        pytest.importorskip("zarr" if path.suffix == ".zarr" else "h5netcdf")
        dataset.to_zarr(path) if path.suffix == ".zarr" else dataset.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.nc", "a.zarr"])
def test_every_format_holds_the_same_trajectories(u, tmp_path, name):
    path = write(tmp_path / name, u)
    same(read_trajectories(path, DiffusionSorption()), u)
    assert len(read_trajectories(path, DiffusionSorption(), count=2)) == 2


def pdebench_groups(path, u, x=X, t=TIMES, **grid):
    with h5py.File(path, "w") as file:
        for i, own in enumerate(u):
            group = file.create_group(f"{i:04d}")
            group["data"] = own[..., None]
            for key, value in {"t": t, "x": x, **grid}.items():
                group[f"grid/{key}"] = value
    return path


def test_pdebench_diffusion_sorption(u, tmp_path):
    path = pdebench_groups(tmp_path / "1D_diff-sorp_NA_NA.h5", u)
    same(read_trajectories(path, DiffusionSorption()), u)
    assert_array_equal(read_trajectories(path, DiffusionSorption(), count=2).u, u[:2])


def test_pdebench_burgers_has_cell_centres_and_one_time_too_many(rng, tmp_path):
    n, t = 64, np.linspace(0, 2.01, 202)
    fields = rng.standard_normal((4, 201, n)).astype(np.float32)
    with h5py.File(tmp_path / "burgers.hdf5", "w") as file:
        file["tensor"], file["t-coordinate"], file["x-coordinate"] = fields, t, (np.arange(n) + 0.5) / n
    same(read_trajectories(tmp_path / "burgers.hdf5", Burgers()), fields, np.arange(n) / n, t[:-1])


def test_pdebench_in_two_dimensions(rng, tmp_path):
    n, t = 32, np.linspace(0, 5, 3)
    fields, points = rng.standard_normal((2, 3, n, n)), (np.arange(n) + 0.5) / n
    path = pdebench_groups(tmp_path / "2D.h5", fields, points, t, y=points)
    data = read_trajectories(path, NavierStokes2D())
    same(data, fields, np.arange(n) / n, t)
    assert list(data.points) == ["x", "y"]


def test_what_predictions_write_as_datasets_is_read(tiny_model, fields, tmp_path):
    pytest.importorskip("xarray")
    out = tiny_model().predict(fields(2), times=[0.0, 100.0, 500.0])
    data = read_trajectories(out.to_xarray(), DiffusionSorption())
    assert_array_equal(data.u, out.u)
    assert_array_equal(data.u0, out.u0)
    assert set(data.parameters) == set(out.parameters)


# ------------------------------------------------------------------ scattered points


@pytest.fixture
def table(rng):
    """Columns of 8 points in each of two trajectories, some at the start."""
    rows = np.repeat([3, 7], 8)
    t = np.tile([0.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, 500.0], 2)
    return {"trajectory": rows, "x": rng.uniform(size=16), "t": t, "u": rng.uniform(0.1, 0.3, 16)}


def csv(path, columns, delimiter=","):
    lines = [delimiter.join(columns)]
    lines += [delimiter.join(f"{value:.17g}" for value in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_points(table, tmp_path, delimiter):
    path = csv(tmp_path / "points.csv", table, delimiter)
    data = read_trajectories(path, DiffusionSorption(), u0=0.1)
    later = table["t"] > 0
    assert data.u is None and len(data) == 2 and (data.u0 == 0.1).all()
    assert_array_equal(data.scattered.trajectory, np.repeat([0, 1], 8)[later])
    assert_array_equal(data.scattered.u, table["u"][later])
    assert_array_equal(data.scattered.points["x"], table["x"][later])
    again = read_trajectories({**table, "u0": np.full((2, 1024), 0.1)}, DiffusionSorption())
    assert_array_equal(again.scattered.u, data.scattered.u)


def test_initial_conditions_of_points_come_from_a_file_or_from_the_start(table, tmp_path, fields):
    u0 = fields(2)
    np.savez(tmp_path / "u0.npz", u0=u0, parameter_D=[3e-4, 4e-4])
    data = read_trajectories(table, DiffusionSorption(), u0=tmp_path / "u0.npz")
    assert_array_equal(data.u0, u0)
    assert_array_equal(data.parameters["D"], [3e-4, 4e-4])
    x = np.linspace(0, 1, 9)
    start = {"x": np.tile(x, 2), "t": np.zeros(18), "u": np.linspace(0.1, 0.2, 18), "trajectory": np.repeat([3, 7], 9)}
    both = {key: np.concatenate([start[key], table[key][table["t"] > 0]]) for key in start}
    data = read_trajectories(both, DiffusionSorption())
    assert_array_equal(data.u0, start["u"].reshape(2, 9))
    assert_array_equal(data.x, x)


def test_scattered_values_of_some_trajectories(rng):
    points = Scattered(np.array([0, 2, 1, 2]), np.arange(4.0), {"x": np.arange(4.0)}, np.arange(4.0))
    own = points.of(np.array([2, 0]))
    assert_array_equal(own.trajectory, [1, 0, 0])
    assert_array_equal(own.u, [0, 1, 3])


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": None}, "need the columns t, u, x; missing: x"),
        ({"x": None, "X": 0.5}, "unknown column 'X'; .*'x'"),
        ({"D": 3e-4}, "did you mean 'parameter_D'"),
        ({"t": 501.0}, "1[46] of 16 points lie outside t in \\[0, 500\\] s.*check the unit"),
        ({"x": 1.5}, "outside x in \\[0, 1\\] m.*x = 1.5"),
        ({"u": 150.0}, "far outside \\[0, 1\\].*check the unit"),
        ({"t": 0.0}, "no point lies after the start"),
        ({"parameter_D": "each"}, "constant in each"),
        ({"trajectory": "more"}, "16 trajectories of points, but 2 initial conditions"),
    ],
)
def test_tables_that_do_not_fit(table, change, text):
    wrong = dict(table)
    for key, value in change.items():
        if value is None:
            wrong.pop(key)
        elif isinstance(value, str):
            wrong[key] = np.arange(16.0)
        else:
            wrong[key] = np.full(16, value)
    with pytest.raises(ValueError, match=text):
        read_trajectories(wrong, DiffusionSorption(), u0=np.full((2, 1024), 0.1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("0.1,0.2,0.3\n", "has no header in line 1"),
        ("x,t,u\n", "a header and no points"),
        ("x,t,u\n0.1,10,nan\n", "line 2: u is 'nan'"),
        ("x,t,u\n0.1,10,\n", "line 2: u is empty; remove the line"),
        (" # wells\nx,t,u\n0.1,10\n", "line 3: 2 values, expected 3"),
        ("x,t,u,u\n", "'u' twice"),
        ("x,t,u\n0.1,ten,0.1\n", "line 2: t is 'ten', not a finite number"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trajectories(tmp_path / "a.csv", DiffusionSorption(), u0=0.1)


def test_initial_conditions_must_be_known(table, u):
    with pytest.raises(ValueError, match=r"trajectory 0 starts|not known: trajectory 0.*|give u0"):
        read_trajectories({**table, "t": table["t"] + (table["t"] == 0)}, DiffusionSorption())
    with pytest.raises(ValueError, match="begin at t = 1, and u0 is not known"):
        read_trajectories({"u": u, "t": TIMES + 1, "x": X}, DiffusionSorption())
    with pytest.raises(ValueError, match="u0 is given twice"):
        read_trajectories({"u0": u[:, 0], "u": u}, DiffusionSorption(), u0=0.1)


def test_axes_in_another_order_are_refused_with_the_right_one(u, tmp_path):
    for wrong, call in ((u.swapaxes(1, 2), r"\(0, 2, 1\)"), (np.moveaxis(u, 0, 1), r"\(1, 0, 2\)")):
        with pytest.raises(ValueError, match=rf"pass u.transpose{call}, which are \(trajectory, t, x\)"):
            read_trajectories({"u": wrong, "x": X, "t": TIMES}, DiffusionSorption())
    with pytest.raises(ValueError, match=r"its axes are \(x, trajectory\): pass u0.transpose\(1, 0\)"):
        read_trajectories({"u0": u[:, 0].T, "x": X}, DiffusionSorption())
    xarray = pytest.importorskip("xarray")
    dataset = xarray.Dataset({"u": (("x", "time", "sample"), u.T)}, {"time": TIMES, "x": X})
    with pytest.raises(ValueError, match=r"u has the dimensions .* pass u.transpose\('sample', 'time', 'x'\)"):
        read_trajectories(dataset, DiffusionSorption())
    with pytest.raises(ValueError, match="lacks x"):
        read_trajectories(dataset.rename(x="depth"), DiffusionSorption())


def test_a_misnamed_key_is_named(u):
    with pytest.raises(ValueError, match="must have the key 'u0', got u00; rename 'u00' to 'u0'"):
        read_trajectories({"u00": u[:, 0]}, DiffusionSorption())


def test_files_of_another_problem(rng, u, tmp_path):
    path = pdebench_groups(tmp_path / "1D.h5", u)
    with pytest.raises(ValueError, match=r"must have the shape \(t, x, y, 1\).*another problem"):
        read_trajectories(path, NavierStokes2D())
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["tensor"], file["x-coordinate"] = u, X
    with pytest.raises(ValueError, match="lacks some of t-coordinate, x-coordinate"):
        read_trajectories(tmp_path / "t.h5", DiffusionSorption())
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["0000/velocity"] = u
    with pytest.raises(ValueError, match=r"group '0000' lacks data or grid, it has velocity"):
        read_trajectories(tmp_path / "g.h5", DiffusionSorption())


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.nc", "a.zarr"])
def test_damaged_files_are_one_line(tmp_path, capsys, name):
    path = tmp_path / name
    if name.endswith("zarr"):
        path.mkdir()
    else:
        path.write_bytes(b"nothing of the kind")
    if name.endswith(("nc", "zarr")) and importlib.util.find_spec("xarray") is None:
        pytest.skip("needs xarray")
    with pytest.raises(ValueError, match=name):
        read_arrays(path)
    assert main(["finetune", "diffusion-sorption.general", str(path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
