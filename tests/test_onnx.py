"""The exported graph is the same pipeline, and its backend the same ``predict``."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

import pihc_zoo as pz
from pihc_zoo.basis import DenseBasis
from pihc_zoo.families import SmoothFields, sample_parameters
from pihc_zoo.status import Status
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.zoo.registry import shipped_folder

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from pihc_zoo.zoo import onnx_graph  # noqa: E402
from pihc_zoo.zoo.onnx_backend import OnnxSurrogate, create_session  # noqa: E402

MODELS = ["diffusion-sorption.general"]  # of parameters and fields as inputs: test_coefficient_fields
ROLL_OUTS = [name for name in pz.list_models() if pz.from_pretrained(name).num_windows > 1]


def difference(a, b):
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b))


class SolveOnly(torch.nn.Module):
    """The constraint alone, fed basis functions."""

    def __init__(self, config):
        super().__init__()
        self.model = Surrogate.from_config(config).requires_grad_(False)

    def example(self, batch, seed=0):
        generator, ansatz = torch.Generator().manual_seed(seed), self.model.constraint.ansatz
        initial = 0.02 + 0.2 * torch.rand(batch, 1, generator=generator, dtype=torch.float64)
        noise = torch.randn(batch, 3, 1, 1, generator=generator, dtype=torch.float64)
        waves = torch.cos(noise + torch.pi * (1 + noise.abs()) * ansatz.coordinates.sum(dim=0))
        return initial.expand(-1, 16).contiguous(), ansatz.mollifier(self.model.tensors({}))[:, None] * waves

    def forward(self, *inputs):
        initial, basis = inputs
        constraint = self.model.constraint
        field = constraint(DenseBasis(basis), constraint.conditions(initial, self.model.tensors({})))
        return field.u, field.coefficients, field.solution.status.reshape(initial.shape[0], -1)


DECOMPOSITIONS = {
    "joint": {"name": "joint", "counts": {"x": 2}},
    "overlapping": {"name": "overlapping", "counts": {"x": 2}, "overlap": 2},
}


def solve_only(decomposition: str) -> SolveOnly:
    solver = {**TINY["solver"], "max_steps": 30, "rtol": 1e-9}
    return SolveOnly({**TINY, "decomposition": DECOMPOSITIONS[decomposition], "solver": solver})


def export_shipped(name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    onnx_graph.export_onnx(pz.from_pretrained(name), folder)


def export_solve(name: str, folder: Path) -> None:
    import onnx

    torch.set_num_threads(1)
    module = solve_only(name)
    graph = onnx_graph.export_module(module, module.example(11), ("initial", "basis"), ("u", "coefficients", "status"))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save_model(graph, folder / "model.onnx")


@pytest.mark.parametrize("name", ROLL_OUTS)
def test_roll_outs_are_refused_in_one_line(name, tmp_path):
    with pytest.raises(ValueError, match="one time window, not roll-outs"):
        onnx_graph.export_onnx(pz.from_pretrained(name), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Folders of exported graphs by name; exports run side by side."""
    root = tmp_path_factory.mktemp("onnx")
    folders = {name: root / name for name in (*MODELS, *DECOMPOSITIONS)}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = []
        for name, folder in folders.items():
            folder.mkdir()
            if name in MODELS:
                shutil.copy(shipped_folder(name) / "config.json", folder)
            jobs.append(pool.submit(export_shipped if name in MODELS else export_solve, name, folder))
        for job in jobs:
            job.result()
    return folders


@pytest.fixture(scope="module")
def folders(exports):
    """Model folders (config.json and model.onnx) of every shipped model."""
    return {name: exports[name] for name in MODELS}


@pytest.fixture(scope="module")
def pairs(folders):
    """Per model the torch and the ONNX backend."""
    return {
        name: (pz.from_pretrained(name), pz.from_pretrained(folder, backend="onnx")) for name, folder in folders.items()
    }


@pytest.fixture
def case(native_x):
    """``case(model, batch)``: initial conditions and parameters inside the trained ranges."""

    def make(model, batch, seed=5):
        rng = np.random.default_rng(seed)
        low, high = model.trust.state_range
        u0 = SmoothFields(low + 0.01, high - 0.01, constants=0.0, shortest=0.3).sample(batch, native_x, rng)
        return u0, sample_parameters(model.problem, model.parameter_inputs, batch, rng)

    return make


# ------------------------------------------------------------------ parity


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 9])
@pytest.mark.parametrize("name", MODELS)
def test_both_backends_predict_the_same(pairs, case, name, batch):
    model, onnx_model = pairs[name]
    u0, parameters = case(model, batch)
    expected, got = (m.predict(u0, parameters=parameters) for m in (model, onnx_model))
    assert difference(got.u, expected.u) <= 1e-5
    for key in ("coefficients", "residual", "residual_per_expert", "estimated_error"):
        assert difference(getattr(got, key), getattr(expected, key)) <= 1e-4, key
    for key in ("status", "converged", "iterations", "is_reliable", "messages", "t", "x", "u0"):
        np.testing.assert_array_equal(getattr(got, key), getattr(expected, key), err_msg=key)
    assert got.parameters.keys() == expected.parameters.keys()
    assert got.u.dtype == np.float64
    for key in ("residual_field", "estimated_error_field"):
        assert getattr(got, key).shape == expected.u.shape
        assert difference(getattr(got, key), getattr(expected, key)) <= 1e-3, key
    again = pickle.loads(pickle.dumps(got))
    np.testing.assert_array_equal(again.estimated_error_field, got.estimated_error_field)
    np.testing.assert_array_equal(got[-1].residual_field, got.residual_field[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_other_points_and_times_are_read_as_torch_reads_them(pairs, case, name):
    model, onnx_model = pairs[name]
    u0, parameters = case(model, 2)
    for options in (
        {"x": np.linspace(0, 1, 37), "times": [0.0, 0.3, 7.0, 333.3]},
        {"times": [500.0]},
        {"x": [0.25, 0.5]},
    ):
        expected, got = (m.predict(u0, parameters=parameters, polish=False, **options) for m in (model, onnx_model))
        assert got.u.shape == expected.u.shape
        assert difference(got.u, expected.u) <= 1e-5


def test_initial_conditions_on_other_points(pairs, case, native_x):
    model, onnx_model = pairs[MODELS[0]]
    u0, parameters = case(model, 2)
    options = {"input_x": native_x[::4], "parameters": parameters, "times": [0.0, 100.0]}
    expected, got = (m.predict(u0[:, ::4], **options) for m in (model, onnx_model))
    assert difference(got.u, expected.u) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_the_solve_fed_identical_bases(exports, name):
    module, session = solve_only(name), create_session(exports[name] / "model.onnx")
    for batch in (1, 3):
        initial, basis = module.example(batch, seed=batch)
        u, coefficients, status = (tensor.numpy() for tensor in module(initial, basis))
        got = session.run(None, {"initial": initial.numpy(), "basis": basis.numpy()})
        assert difference(got[0], u) <= 1e-9
        assert difference(got[1], coefficients) <= 1e-9
        np.testing.assert_array_equal(got[2], status)
        assert (status == Status.CONVERGED).all()


def test_duals_give_the_partials_of_automatic_differentiation(problem):
    from pihc_zoo.objective import ProblemResidual, pointwise_partials

    features = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    residual = ProblemResidual(problem, problem.as_tensors({}))
    stored = ProblemResidual(problem, problem.as_tensors({}), torch.tensor(0.3, dtype=torch.float64))
    for form in (residual, stored) if problem.is_conservative else (residual,):
        for i, (value, partials) in enumerate(form.partials(features)):
            zero = torch.zeros_like(value)
            stacked = torch.stack([zero if own is None else own.expand_as(value) for own in partials], dim=1)
            differentiated = pointwise_partials(lambda f, form=form, i=i: form.parts(f)[i], features)
            for got, expected in zip((value, stacked), differentiated, strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_elimination_solves_definite_systems():
    from pihc_zoo.solvers.dense import eliminate

    matrix = torch.randn(4, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix, right = matrix @ matrix.mT + torch.eye(9, dtype=torch.float64), matrix[..., :2]
    solution, smallest_pivot = eliminate(matrix, right)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, right), rtol=1e-10, atol=1e-10)
    assert (smallest_pivot > 0).all()
    assert eliminate(-matrix, right)[1].max() < 0


# ------------------------------------------------------------------ the backend


def test_torch_is_never_imported(folders, tmp_path):
    code = f"""
import sys, numpy as np, pihc_zoo as pz
model = pz.from_pretrained({str(folders[MODELS[0]])!r}, backend="onnx")
out = model.predict(np.full((2, 1024), 0.1), times=[0, 100, 500])
out.residual_field, out.save({str(tmp_path / "run.npz")!r})
assert np.isfinite(out.u).all() and out.converged.all()
assert not [name for name in sys.modules if name.split(".")[0] in ("torch", "onnx")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_graph_runs_with_nothing_but_onnxruntime(folders, pairs, native_x):
    name = next((name for name in MODELS if pairs[name][0].parameter_inputs), MODELS[0])
    session = onnxruntime.InferenceSession(folders[name] / "model.onnx", providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    grid, inputs, outputs = (json.loads(meta[key]) for key in ("grid", "inputs", "outputs"))
    np.testing.assert_array_equal(grid["x"], native_x)
    assert [i.name for i in session.get_inputs()] == list(inputs)
    assert [o.name for o in session.get_outputs()] == list(outputs)
    ranges = json.loads(meta["parameter_ranges"])
    feed = {"u0": np.full((2, 1024), 0.1)} | {key: np.full(2, np.mean(bounds)) for key, bounds in ranges.items()}
    result = dict(zip(outputs, session.run(None, feed), strict=True))
    assert result["u"].shape == (2, len(grid["t"]), 1024)
    assert result["u"].dtype == np.float64
    assert result["converged"].all()
    np.testing.assert_array_equal(result["u"][:, 0], feed["u0"])


def test_metadata_says_what_the_graph_is(folders, pairs):
    for name, (model, onnx_model) in pairs.items():
        meta = onnx_model.metadata
        assert (meta["model"], meta["format"], meta["version"]) == (name, "pihc_zoo", pz.__version__)
        assert json.loads(meta["units"])["t"] == model.problem.units["t"]
        assert set(json.loads(meta["parameter_ranges"])) == set(model.parameter_inputs)
        assert json.loads(meta["max_steps"]) == model.constraint.solver.max_steps
        assert json.loads(meta["experts"])["counts"] == model.constraint.decomposition.counts


def test_the_file_tells_nothing_of_the_machine_that_made_it(folders):
    for folder in folders.values():
        content = (folder / "model.onnx").read_bytes()
        assert str(Path(pz.__file__).parent).encode() not in content
        assert b"site-packages" not in content


def test_the_graph_says_that_it_does_not_polish(pairs):
    model = pairs[MODELS[0]][1]
    with pytest.raises(ValueError, match=r"does not polish.*backend='torch'"):
        model.predict(np.full((1, 1024), 0.1), polish=True)
    for polish in (None, False):
        assert not model.predict(np.full((1, 1024), 0.1), polish=polish).is_polished.any()


@pytest.mark.parametrize(
    "options",
    [
        {"u0": np.zeros((2, 5))},
        {"u0": np.zeros((0, 1024))},
        {"times": [-1.0]},
        {"times": [501.0]},
        {"times": []},
        {"x": [0.5, 0.2]},
        {"x": [3.0]},
        {"parameters": {"Dd": 1.0}},
        {"parameters": {"D": 1.0}},
        {"parameters": {"D": [5e-4, 5e-4, 5e-4]}},
        {"on_failure": "ignore"},
        {"u0": np.full((1, 1024), np.nan), "on_failure": "raise"},
        {"u0": np.full((1, 1024), -0.1), "on_failure": "raise"},
    ],
    ids=str,
)
def test_bad_input_is_refused_in_the_same_words(pairs, options):
    texts = []
    for model in pairs[MODELS[0]]:
        with pytest.raises(ValueError) as caught:
            model.predict(**{"u0": np.full((2, 1024), 0.1), **options})
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("options", [{"experts": 2}, {"max_steps": 1}, {"rtol": 0.1}], ids=str)
def test_what_the_graph_cannot_change_is_refused(pairs, options):
    with pytest.raises(ValueError, match="backend='torch'"):
        pairs[MODELS[0]][1].predict(np.full((1, 1024), 0.1), **options)


def test_what_the_graph_has_may_be_asked_for(pairs):
    model, onnx_model = pairs[MODELS[0]]
    solver, counts = model.constraint.solver, model.constraint.decomposition.counts
    options = {"experts": counts, "max_steps": solver.max_steps, "rtol": solver.rtol, "times": [500.0]}
    assert onnx_model.predict(np.full((1, 1024), 0.1), **options).converged.all()


def test_bad_trajectories_leave_the_others_alone(pairs, case):
    model, onnx_model = pairs[MODELS[0]]
    u0, parameters = case(model, 3)
    good = onnx_model.predict(u0, parameters=parameters)
    u0[1, 7] = np.nan
    with pytest.warns(RuntimeWarning, match="1 of 3"):
        got = onnx_model.predict(u0, parameters=parameters)
    with pytest.warns(RuntimeWarning):
        expected = model.predict(u0, parameters=parameters)
    assert got.messages == expected.messages
    np.testing.assert_array_equal(got.status, expected.status)
    assert np.isnan(got.u[1]).all()
    assert np.isnan(got.residual_field[1]).all()
    for i in (0, 2):
        assert difference(got.u[i], good.u[i]) <= 1e-12


def test_failed_trajectories_are_replaced_by_the_classical_solver(pairs, monkeypatch):
    _, onnx_model = pairs[MODELS[0]]
    session = onnx_model.session

    class Failing:
        def __getattr__(self, name):
            return getattr(session, name)

        def run(self, names, feed):
            results = dict(zip(names, session.run(names, feed), strict=True))
            results["status"] = np.full_like(results["status"], int(Status.MAX_STEPS))
            return [results[name] for name in names]

    expected = onnx_model.predict(np.full((1, 1024), 0.1), times=[100.0, 500.0])
    monkeypatch.setattr(onnx_model, "session", Failing())
    got = onnx_model.predict(np.full((1, 1024), 0.1), times=[100.0, 500.0], on_failure="fallback")
    assert "classical solver" in got.messages[0]
    assert difference(got.u, expected.u) < 0.01


# ------------------------------------------------------------------ files


def test_unusable_files_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders[MODELS[0]], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "weights_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="other weights"):
        OnnxSurrogate(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged or was changed"):
        OnnxSurrogate(folder)
    (folder / "config.json").write_text(json.dumps({**config, "digests": {}}))
    with pytest.raises(ValueError, match="download or export it again"):
        OnnxSurrogate(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ValueError, match="pihc export"):
        OnnxSurrogate(folder)
    with pytest.raises(ValueError, match="no 'NoProvider' here"):
        OnnxSurrogate(folders[MODELS[0]], providers=["NoProvider"])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def scale_a_weight(path):
    import onnx

    graph = onnx.load(path)
    largest = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(largest)
    largest.CopyFrom(onnx.numpy_helper.from_array(1.5 * values, largest.name))
    onnx.save_model(graph, path)


@pytest.mark.parametrize("change", [flip, scale_a_weight], ids=lambda change: change.__name__)
def test_a_changed_graph_is_refused_by_name(folders, tmp_path, change):
    folder = shutil.copytree(folders[MODELS[0]], tmp_path / "model")
    pz.from_pretrained(folder, backend="onnx")
    change(folder / "model.onnx")
    with pytest.raises(ValueError, match=r"model\.onnx.*damaged or was changed.*export it again"):
        pz.from_pretrained(folder, backend="onnx")
    onnx_graph.record(folder, "model.onnx")  # what an export does
    config = json.loads((folder / "config.json").read_text())
    assert set(config["digests"]) >= {"model.onnx"}


def test_a_graph_that_differs_is_not_written(folders, pairs, tmp_path, monkeypatch):
    import onnx

    model, _ = pairs[MODELS[0]]
    graph = onnx.load(folders[MODELS[0]] / "model.onnx")
    del graph.metadata_props[:]
    monkeypatch.setattr(onnx_graph, "export_module", lambda *args: graph)
    monkeypatch.setattr(onnx_graph, "PARITY", 0.0)
    (tmp_path / "model.onnx").write_text("previous")
    with pytest.raises(ValueError, match="differs from the model"):
        onnx_graph.export_onnx(model, tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("model.onnx", "previous")]


@pytest.mark.gpu
def test_the_graph_runs_on_cuda(folders, pairs, case):
    model, _ = pairs[MODELS[0]]
    u0, parameters = case(model, 3)
    onnx_model = OnnxSurrogate(folders[MODELS[0]], providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert onnx_model.provider == "CUDAExecutionProvider"
    expected = model.predict(u0, parameters=parameters)
    assert difference(onnx_model.predict(u0, parameters=parameters).u, expected.u) <= 1e-5
