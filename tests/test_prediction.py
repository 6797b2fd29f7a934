"""Laws of predictions on several axes: shapes, roll-outs that fail, horizons, spectral diagnostics, files, figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_models import DecayingVortices, taylor_green
from numpy.testing import assert_allclose, assert_array_equal

from pihc_zoo import cli, spectra
from pihc_zoo.data import check_solutions, read_trajectories
from pihc_zoo.plotting import plot_prediction
from pihc_zoo.prediction.request import check_request
from pihc_zoo.prediction.trust import Trust
from pihc_zoo.problems import NavierStokes2D
from pihc_zoo.status import Status


@pytest.fixture
def vortices():
    """(3, 32, 32) vortices of one, two and three waves."""
    return np.stack([taylor_green(32, 2.0, waves) for waves in (1, 2, 3)])


@pytest.fixture
def noise(rng):
    """(2, 32, 32) fields with energy in all modes, the Nyquist mode too, of zero mean."""
    values = rng.standard_normal((2, 32, 32))
    return values - values.mean(axis=(1, 2), keepdims=True)


def predict(u0, failure_times=None, **options):
    return DecayingVortices(failure_times).predict(u0, **options)


# ------------------------------------------------------------------ positions and shapes


def test_the_default_output_is_the_inputs_own_grid():
    for n in (32, 48):
        out = predict(taylor_green(n))
        assert out.u.shape == (1, 64, n, n) and list(out.points) == ["x", "y"]
        assert_allclose(out.points["y"], np.arange(n) / n, rtol=0, atol=1e-15)
        assert_array_equal(out.x, out.points["x"])
        assert_array_equal(out.t, np.linspace(0, 5, 64))
        assert out.estimated_error_field.shape == out.u.shape


def test_output_positions_are_chosen_by_axis(vortices):
    out = predict(vortices, x={"y": [0.25, 0.5, 1.0]}, times=[0.0, 1.0])
    assert out.u.shape == (3, 2, 32, 3)
    assert_allclose(out.u[:, 0, :, 0], vortices[:, :, 8], atol=1e-12)
    assert_allclose(out.u[:, 0, :, 2], vortices[:, :, 0], atol=1e-12)


def test_equal_positions_in_single_precision_are_the_grid_itself():
    nodes = np.arange(48) / 48
    given = {"x": nodes.astype(np.float32), "y": nodes}
    request = check_request(NavierStokes2D(), (), taylor_green(48), input_x=given)
    for points in (*request.input_points.values(), *request.points.values()):
        assert_array_equal(points, nodes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": [0.5]}, "x must be a dict with the positions along each axis, {'x': ..., 'y': ...}"),
        ({"x": {"z": [0.5]}}, "no axis 'z'; known: x, y"),
        ({"x": {"y": [0.5, 1.2]}}, "y must be finite positions in [0, 1]"),
        ({"x": {"y": []}}, "y must be finite positions"),
        ({"input_x": {"x": np.linspace(0, 1, 32)}}, "32 equally spaced points 0, 0.03125, …, 0.96875 (without 1)"),
        ({"input_x": {"x": np.arange(31) / 31}}, "shape (batch, 31, n_y)"),
    ],
)
def test_wrong_positions_are_refused(options, message):
    with pytest.raises(ValueError) as caught:
        predict(taylor_green(), **options)
    assert message in str(caught.value)


def test_trust_bounds_values_of_any_number_of_axes(vortices):
    trust = Trust(state_range=(-2.5, 2.5), threshold=1.0)
    assert [trust.reasons(u0, 0.0, 0.0) for u0 in vortices] == [[], [], []]
    vortices[1, 3, 3] = 2.6
    first, second, third = (trust.reasons(u0, 0.0, 0.0) for u0 in vortices)
    assert first == third == [] and len(second) == 1 and "outside the trained range [-2.5, 2.5]" in second[0]


def test_parts_are_put_together_in_the_callers_kind(vortices):
    out = predict(vortices, like_input=torch.as_tensor, times=[0.0, 1.0])
    assert all(isinstance(value, torch.Tensor) for value in (out.u, out.points["y"], out.x, out.failure_time))
    velocity = out.diagnostic("velocity_x")
    assert isinstance(velocity, torch.Tensor) and velocity.dtype == torch.float64
    assert_array_equal(velocity.numpy(), predict(vortices, times=[0.0, 1.0]).diagnostic("velocity_x"))


# ------------------------------------------------------------------ failures and horizons


def test_a_failed_roll_out_keeps_what_came_before(vortices):
    times = np.array([0.0, 4.0, 3.0, 3.12, 1.0])
    with pytest.warns(RuntimeWarning, match=r"1 of 3 trajectories failed; trajectory 1: solve at t = 3.12: not conv"):
        out = predict(vortices, {1: 3.12}, times=times)
    clean = predict(vortices, times=times)
    assert_array_equal(np.isnan(out.u[1]).all(axis=(1, 2)), times >= 3.12)
    assert_array_equal(np.isnan(out.estimated_error_field[1]).all(axis=(1, 2)), times >= 3.12)
    assert_array_equal(out.u[1, times < 3.12], clean.u[1, times < 3.12])
    assert_array_equal(out.failure_time, [np.nan, 3.12, np.nan])
    assert not out.is_reliable[1] and out.messages[0] == out.messages[2] == ""


def test_the_others_are_bit_identical_to_a_batch_without_failures(vortices):
    with pytest.warns(RuntimeWarning):
        out = predict(vortices, {1: 0.5})
    clean = predict(vortices)
    for name in ("u", "status", "estimated_error", "is_reliable", "estimated_error_field", "failure_time"):
        assert_array_equal(getattr(out, name)[[0, 2]], getattr(clean, name)[[0, 2]])


def test_bad_input_has_no_failure_time(vortices):
    vortices[0, 4, 4] = np.nan
    vortices[2] += 0.1
    with pytest.warns(RuntimeWarning, match="3 of 3"):
        out = predict(vortices, {1: 2.0})
    assert_array_equal(out.failure_time, [np.nan, 2.0, np.nan])
    assert "1 values that are not finite" in out.messages[0] and "subtract the mean" in out.messages[2]
    assert (out.status[[0, 2]] == Status.BAD_INPUT).all() and np.isnan(out.u[[0, 2]]).all()


def test_raise_says_when_it_failed(vortices):
    with pytest.raises(ValueError, match=r"trajectory 1: solve at t = 2\.5"):
        predict(vortices, {1: 2.5}, on_failure="raise")


def test_beyond_the_trained_duration_nothing_is_reliable(vortices):
    with pytest.warns(RuntimeWarning, match="3 of 3 answers are not reliable; trajectory 0: predicted beyond"):
        out = predict(vortices, times=[1.0, 7.5])
    assert out.converged.all() and np.isfinite(out.u).all() and not out.is_reliable.any()
    assert out.messages == ["predicted beyond the trained duration (5): t = 7.5"] * 3
    assert predict(vortices, times=[1.0, 5.0]).is_reliable.all()
    with pytest.warns(RuntimeWarning):
        assert predict(vortices, {0: 6.0}, times=[7.0]).messages[0].endswith("trained duration (5): t = 7")


# ------------------------------------------------------------------ diagnostics


def test_the_velocity_of_a_known_stream_function():
    n = 32
    out = predict(taylor_green(n, 8 * np.pi**2 / 40), times=[0.0, 2.0])  # ψ = −sin(2πx) sin(2πy) / 40
    s, c = (f(2 * np.pi * np.arange(n) / n) for f in (np.sin, np.cos))
    assert_allclose(out.diagnostic("stream_function")[0, 0], -np.outer(s, s) / 40, atol=1e-14)
    assert_allclose(out.diagnostic("velocity_x")[0, 0], 2 * np.pi * np.outer(s, c) / 40, atol=1e-14)
    assert_allclose(out.diagnostic("velocity_y")[0, 0], -2 * np.pi * np.outer(c, s) / 40, atol=1e-14)


def test_the_velocity_has_no_divergence_and_the_vorticity_as_curl(noise):
    out = predict(noise, times=[0.0, 1.0])
    u, v = out.diagnostic("velocity_x"), out.diagnostic("velocity_y")
    d = spectra.derivative
    assert np.abs(d(u, [1, 1], [1, 0]) + d(v, [1, 1], [0, 1])).max() <= 1e-10
    assert_allclose(d(v, [1, 1], [1, 0]) - d(u, [1, 1], [0, 1]), d(out.u, [1, 1], [0, 0]), atol=1e-11)


def test_diagnostics_keep_failures_where_they_are(vortices):
    with pytest.warns(RuntimeWarning):
        out = predict(vortices, {1: 2.0}, times=[0.0, 1.0, 3.0])
    assert_array_equal(np.isnan(out.diagnostic("velocity_x")), np.isnan(out.u))


def test_diagnostics_need_a_known_name_and_a_full_periodic_grid(vortices):
    out = predict(vortices, times=[0.0])
    with pytest.raises(ValueError, match="no diagnostic 'velocity'; did you mean 'velocity_"):
        out.diagnostic("velocity")
    for points in (np.arange(16) / 32, np.linspace(0, 1, 32), [0.5]):
        with pytest.raises(ValueError, match="equally spaced output points over the whole period 1 of y"):
            predict(vortices, times=[0.0], x={"y": points}).diagnostic("velocity_x")
    finer = predict(vortices, times=[0.0], x={key: np.arange(64) / 64 for key in "xy"})
    assert_allclose(finer.diagnostic("velocity_x")[:, :, ::2, ::2], out.diagnostic("velocity_x"), atol=1e-12)


def test_shell_spectra_add_up_to_half_the_mean_square(rng):
    modes = np.fft.rfft2(rng.standard_normal((24, 24)))
    k = np.hypot(np.fft.fftfreq(24, 1 / 24)[:, None], np.fft.rfftfreq(24, 1 / 24))
    values = np.fft.irfft2(np.where((k > 0) & (k < 11), modes, 0))
    k, spectrum = spectra.shell_spectrum(values, [1.0, 1.0])
    assert_array_equal(k, np.arange(1, 12))
    assert_allclose(spectrum.sum(), 0.5 * np.mean(values**2))


def test_the_spectrum_of_one_wave_is_one_shell():
    k, spectrum = spectra.shell_spectrum(taylor_green(32, 2.0, 3), [1.0, 1.0])
    assert_allclose(spectrum, np.where(k == 4, 0.5, 0.0), atol=1e-15)  # |k| = 3√2 ≈ 4.24


# ------------------------------------------------------------------ files


def test_files_hold_positions_by_axis_and_the_report(vortices, tmp_path):
    out = predict(vortices, times=[0.0, 1.0])
    out.save(tmp_path / "out", diagnostics=["velocity_y"])
    with np.load(tmp_path / "out.npz") as saved:
        for key in ("x", "y"):
            assert_array_equal(saved[key], out.points[key])
        for key in ("u", "u0", "t", "failure_time", "is_reliable", "status"):
            assert_array_equal(saved[key], getattr(out, key))
        assert_array_equal(saved["velocity_y"], out.diagnostic("velocity_y"))
        assert_array_equal(saved["parameter_nu"], [1e-4] * 3)


def test_unknown_diagnostics_leave_no_file(vortices, tmp_path):
    with pytest.raises(ValueError, match="no diagnostic 'vorticity'"):
        predict(vortices).save(tmp_path / "out.npz", diagnostics=["vorticity"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_saved_predictions_are_data_again(vortices, tmp_path, kind):
    out = predict(vortices, times=[0.0, 1.0, 4.0])
    path = out.save(tmp_path / "out.npz")
    if kind == "h5":
        h5py = pytest.importorskip("h5py")
        with np.load(path) as saved, h5py.File(tmp_path / "out.h5", "w") as file:
            for key in saved.files:
                if saved[key].dtype.kind != "U":  # h5py has no such text
                    file[key] = saved[key]
        path = tmp_path / "out.h5"
    data = read_trajectories(path, NavierStokes2D())
    assert_array_equal(data.u, out.u)
    assert_array_equal(data.points["y"], out.points["y"])
    assert_array_equal(data.t, [0, 1, 4])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"u0": np.zeros((2, 33, 33))}, "even number of at least 32"),
        ({"u0": np.zeros((2, 32, 48))}, "non-square"),
        ({"u0": np.zeros((2, 2, 32, 32))}, "(batch, n_x, n_y)"),
        ({"u0": np.zeros((2, 32, 32)), "u": np.zeros((2, 3, 32, 32))}, "(2, 64, 32, 32) of (u0, t, x, y), got (2, 3,"),
    ],
)
def test_data_that_does_not_fit_is_refused(arrays, message):
    with pytest.raises(ValueError) as caught:
        check_solutions(read_trajectories(arrays, NavierStokes2D()))
    assert message in str(caught.value)


# ------------------------------------------------------------------ figures


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


def test_planes_are_drawn_as_snapshots_error_and_spectra(vortices, tmp_path):
    figure = predict(vortices).plot(2, tmp_path / "out.png")
    shown = titles(figure)
    assert shown[:5] == ["w,  t = 0", "w,  t = 1.27", "w,  t = 2.54", "w,  t = 3.73", "w,  t = 5"]
    assert {"Estimated error at t = 5", "Energy spectrum", "Enstrophy spectrum"} < set(shown)
    report, parameters = figure.get_suptitle().splitlines()
    assert report == "decaying-vortices   ·   trajectory 2   ·   estimated error 1 %   ·   reliable"
    assert parameters == "nu = 0.0001"
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    low, high = figure.axes[0].collections[0].get_clim()
    assert low == -high


def drawn(figure):
    """By title: the colour map and limits of every map."""
    shown = [axes for axes in figure.axes if axes.collections and axes.get_title("left")]
    return {axes.get_title("left"): (m.get_cmap().name, m.get_clim()) for axes in shown for m in axes.collections[:1]}


def test_the_truth_of_a_plane_is_drawn_on_the_same_scale_and_the_error_on_its_own(vortices, tmp_path):
    out = predict(vortices)
    maps = drawn(out.plot(0, tmp_path / "out.png", truth=1.001 * out.u))
    assert maps["w,  t = 5"] == maps["truth,  t = 5"]
    colours, (low, high) = maps["w − w_true,  t = 5"]
    assert colours == "RdBu_r" and low == -high and high < 0.0011 * np.abs(out.u[0]).max()
    assert maps["w − w_true,  t = 0"] == maps["w − w_true,  t = 5"]


def test_a_truth_of_another_shape_is_refused(vortices):
    out = predict(vortices)
    with pytest.raises(ValueError, match=r"truth must have the shape of u, \(3, 64, 32, 32\), got \(3, 64, 32\)"):
        out.plot(0, truth=out.u[..., 0])


def test_planes_that_fail_are_drawn_until_then(vortices):
    vortices[0, 0, 0] = np.nan
    with pytest.warns(RuntimeWarning):
        out = predict(vortices, {1: 3.0, 2: 0.0})
    assert "Estimated error at t = 2.94" in titles(out.plot(1))
    assert "t = 3:" in out.plot(1).get_suptitle()
    assert "Initial condition w" in titles(out.plot(2))
    assert "not finite" in out.plot(0).get_suptitle()


@pytest.mark.parametrize(
    "options",
    [
        {"times": [2.0]},
        {"x": {"y": [0.3]}},
        {"x": {"y": [0.3]}, "times": [1.0]},
        {"x": {"x": [0.3], "y": [0.3]}},
        {"x": {"x": np.linspace(0, 0.5, 9)}},
    ],
)
def test_plots_of_few_points_or_times(vortices, options, tmp_path):
    plot_prediction(predict(vortices, **options), 0, tmp_path / "out.svg")
    assert (tmp_path / "out.svg").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["plane", "line"])
def test_animations_have_a_frame_per_time(vortices, kind, tmp_path):
    from PIL import Image

    out = predict(vortices, times=[0.0, 2.0, 1.0], x={"y": [0.3]} if kind == "line" else None)
    assert out.animate(0, tmp_path / "out.gif", fps=10) == tmp_path / "out.gif"
    with Image.open(tmp_path / "out.gif") as image:
        assert image.n_frames == 3 and image.info["duration"] == 100 and image.info["loop"] == 0


def test_animations_end_where_the_roll_out_fails(vortices, tmp_path):
    from PIL import Image

    with pytest.warns(RuntimeWarning):
        out = predict(vortices, {0: 2.5, 1: 1.0}, times=[0.0, 1.0, 2.0, 3.0, 4.0])
    with Image.open(out.animate(0, tmp_path / "out.gif")) as image:
        assert image.n_frames == 3
    with pytest.raises(ValueError, match=r"trajectory 1 has values at 1 times, an animation needs two: solve at t = 1"):
        out.animate(1, tmp_path / "other.gif")
    assert not (tmp_path / "other.gif").exists()


def test_animations_refuse_what_cannot_be_one(vortices, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.gif"):
        predict(vortices).animate(0, tmp_path / "out.mp4")
    with pytest.raises(ValueError, match="ask for more times"):
        predict(vortices, times=[1.0]).animate(0, tmp_path / "out.gif")
    with pytest.raises(ValueError, match="one or two axes"):
        predict(vortices, x={"x": [0.1], "y": [0.1]}).animate(0, tmp_path / "out.gif")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ the command line


@pytest.fixture
def run(capsys, tmp_path, monkeypatch, vortices):
    """``run(*options, failure_times)``: predicts the vortices; returns exit code, stdout and stderr."""

    def call(*options, failure_times=None, **arrays):
        np.savez(tmp_path / "in.npz", **{"u0": vortices, **arrays})
        monkeypatch.setattr("pihc_zoo.cli.predict.load_model", lambda options: DecayingVortices(failure_times))
        command = ["predict", "MODEL", tmp_path / "in.npz", "--output", tmp_path / "out.npz", *options]
        code = cli.main([str(word) for word in command])
        return code, *capsys.readouterr()

    return call


def test_predict_writes_planes_diagnostics_and_an_animation(run, tmp_path):
    options = ("--animate", tmp_path / "a.gif", "--plot", tmp_path / "a.png", "--times", 0, 2.5)
    code, out, err = run(*options, "--save-diagnostics", "velocity_x,velocity_y", y=np.arange(32) / 32)
    assert (code, err) == (0, "") and "a.gif" in out and "3 of 3; reliable: 3 of 3" in out
    assert (tmp_path / "a.gif").read_bytes()[:6] == b"GIF89a" and (tmp_path / "a.png").exists()
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["velocity_y"].shape == saved["u"].shape == (3, 2, 32, 32)
        assert saved["x"].shape == saved["y"].shape == (32,)


def test_predict_says_when_roll_outs_failed(run):
    code, out, err = run("--on-failure", "warn", failure_times={1: 2.5})
    assert code == 0 and "trajectory 1 failed at t = 2.5: its values are NaN from then on" in out
    assert "failed: 1, of which 0 replaced by the classical solver, 1 NaN" in out
    assert err.startswith("warning: trajectory 1: solve at t = 2.5") and err.count("\n") == 1


def test_predict_says_that_times_are_beyond_the_trained_duration(run):
    code, out, err = run("--times", 0, 12)
    assert code == 0 and "reliable: 0 of 3" in out
    assert err == "warning: not reliable: 0, 1, 2; predicted beyond the trained duration (5): t = 12\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save-diagnostics", "velocity"], "no field 'velocity'; did you mean 'velocity_"),
        (["--animate", "OUT.mp4"], "must end in .gif"),
        (["--animate", "OUT.gif", "--times", "1"], "at least two times, got --times 1"),
        (["--animate", "OUT.gif", "--index", "3"], "there are 3 trajectories"),
        (["--animate", "/nowhere/a.gif"], "choose a writable folder"),
        (["--times", "-1", "0"], "times must lie in [0, 50] (10 trained durations), got -1"),
        (["--times", "51"], "times must lie in [0, 50] (10 trained durations), got 51"),
        (["--experts", "x="], "positive integer"),
        (["--experts", "=2"], "x=2,y=2"),
    ],
)
def test_bad_options_write_nothing(run, tmp_path, options, message):
    code, out, err = run(*(str(tmp_path / word) if word.startswith("OUT") else word for word in options))
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]
