"""Predictions as xarray Datasets: nothing is lost, everything is named."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from fake_models import DecayingVortices, taylor_green
from numpy.testing import assert_array_equal

import pihc_zoo as pz
from pihc_zoo.prediction.prediction_file import REPORT

xarray = pytest.importorskip("xarray")


@pytest.fixture
def out(tiny_model, fields):
    return tiny_model(problem={"inputs": ["D"]}).predict(fields(3), times=[0.0, 100.0, 500.0], parameters={"D": 4e-4})


def test_fields_have_named_dimensions_and_coordinates_with_units(out, native_x):
    data = out.to_xarray()
    assert data.u.dims == ("batch", "time", "x") and data.sizes == {**data.sizes, "batch": 3, "time": 3, "x": 1024}
    assert_array_equal(data.u, out.u)
    assert_array_equal(data.time, out.t)
    assert_array_equal(data.x, native_x)
    units = {name: data[name].attrs["units"] for name in ("u", "time", "x", "parameter_D", "parameter_phi")}
    assert units == {"u": "1", "time": "s", "x": "m", "parameter_D": "m²/s", "parameter_phi": "1"}
    assert_array_equal(data.u.sel(time=100.0), out.u[:, 1])
    assert data.attrs == {"model": out.model, "symbol": "u"}


def test_the_report_is_beside_them(out):
    data = out.to_xarray()
    for key in REPORT:
        assert data[key].dims[0] == "batch" and data[key].attrs["long_name"], key
        assert_array_equal(data[key], getattr(out, key))
    assert data.messages.values.tolist() == out.messages
    assert data.u0.dims == ("batch", "x_input")
    assert_array_equal(data.parameter_D, np.full(3, 4e-4))
    assert (
        dict(zip(data.status.flag_meanings.split(), data.status.flag_values, strict=True))["max_steps"]
        == pz.Status.MAX_STEPS
    )
    assert_array_equal(data.u.where(data.is_reliable, drop=True).sizes["batch"], out.is_reliable.sum())


def test_initial_conditions_may_lie_elsewhere(tiny_model, native_x, fields):
    x = native_x[::4]
    out = tiny_model().predict(fields(1)[:, ::4], input_x=x, x=[0.2, 0.5])
    assert out.to_xarray().u0.shape == (1, 256) and out.to_xarray().u.shape == (1, 101, 2)


def test_tensors_become_arrays(tiny_model, fields):
    out = tiny_model().predict(torch.as_tensor(fields(1)), times=[1.0])
    assert isinstance(out.to_xarray().u.values, np.ndarray)


def test_planes_keep_their_periods_and_diagnostics(tmp_path):
    out = DecayingVortices().predict(taylor_green(), times=[0.0, 1.0])
    data = out.to_xarray(diagnostics=("velocity_x",))
    assert data.u.dims == data.velocity_x.dims == ("batch", "time", "x", "y")
    assert data.x.attrs["period"] == 1.0
    assert_array_equal(data.velocity_x, out.diagnostic("velocity_x"))
    path = out.save(tmp_path / "flow.npz", diagnostics=("velocity_x",))
    assert_array_equal(pz.Prediction.load(path).to_xarray().velocity_x, data.velocity_x)
    with pytest.raises(ValueError, match="no diagnostic 'velocity_z'"):
        out.to_xarray(diagnostics=("velocity_z",))


def test_files_of_it_are_read_back(out, tmp_path):
    data = out.to_xarray()
    data.to_netcdf(tmp_path / "out.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "out.nc", engine="scipy") as again:
        xarray.testing.assert_equal(again.load(), data)
        assert again.u.attrs == data.u.attrs and again.x.attrs == data.x.attrs


def test_without_xarray_it_says_what_to_install(out, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "xarray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'pihc_zoo\[xarray\]'"):
        out.to_xarray()
