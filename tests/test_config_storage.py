"""Laws of configurations and model folders: what is saved is what is loaded, all else is refused."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_array_equal

import pihc_zoo as pz
from pihc_zoo import config as configuration
from pihc_zoo import files
from pihc_zoo.config import ConfigError
from pihc_zoo.decomposition import DECOMPOSITIONS, Disjoint, Overlapping
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.text import nearest
from pihc_zoo.zoo import storage


@pytest.fixture
def model(tiny_model):
    return tiny_model()


@pytest.fixture
def folder(model, tmp_path):
    return storage.save_folder(model, tmp_path / "model")


def edit(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def refused(folder, *words, kind=ValueError):
    """Loading raises one line that holds all words."""
    with pytest.raises(kind) as caught:
        storage.load_folder(folder, pz.Surrogate)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def replace_weights(folder, state):
    """Other tensors, with the digest corrected."""
    path = folder / "model.safetensors"
    safetensors.torch.save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(folder, lambda config: config.update(weights_sha256=digest))


# ------------------------------------------------------------------ what is saved is what is loaded


@pytest.mark.parametrize("inputs", [[], ["D", "phi", "n_f"]], ids=["fixed", "parametric"])
def test_a_loaded_model_predicts_the_same_bits(tiny_model, tmp_path, fields, inputs):
    model = tiny_model(seed=4, problem={"inputs": inputs})
    loaded = storage.load_folder(storage.save_folder(model, tmp_path), pz.Surrogate)
    first, second = model.predict(fields(3)), loaded.predict(fields(3))
    for name in ("u", "coefficients", "estimated_error", "residual", "status"):
        assert_array_equal(getattr(first, name), getattr(second, name))
    assert not loaded.training


def test_saving_again_writes_the_same_bytes(folder, tmp_path):
    again = storage.save_folder(storage.load_folder(folder, pz.Surrogate), tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_the_configuration_survives_and_holds_the_digest(model, folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config.pop("weights_sha256") == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert config == {key: value for key, value in model.config.items() if key != "weights_sha256"}


def test_the_network_precision_can_be_chosen_on_load(folder, fields):
    single, double = (
        storage.load_folder(folder, pz.Surrogate),
        storage.load_folder(folder, pz.Surrogate, dtype=torch.float64),
    )
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    np.testing.assert_allclose(double.predict(fields(1)).u, single.predict(fields(1)).u, atol=1e-4)


def test_a_model_does_not_depend_on_the_configuration_it_was_given(tiny_config):
    config = tiny_config()
    model = Surrogate.from_config(config)
    config["solver"]["max_steps"] = 99
    assert model.constraint.solver.max_steps != 99 and model.config["solver"]["max_steps"] != 99


# ------------------------------------------------------------------ damaged and foreign weights


def test_changed_weights_are_refused(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    refused(folder, "damaged or was changed", "sha256")


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "damaged or was changed")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(folder, lambda config: config.update(weights_sha256=digest))
    refused(folder, "not a complete safetensors file")


def test_another_models_weights_are_refused(folder):
    replace_weights(folder, {"encoder.weight": torch.zeros(300)})
    refused(folder, "does not fit its config.json", "missing", "unexpected encoder.weight", "another model's file?")


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_weights_fit_key_by_key(folder, change):
    state = safetensors.torch.load_file(folder / "model.safetensors")
    key = "lifting.weight"
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        key = "lifting.extra"
        state[key] = torch.zeros(1)
    else:
        state[key] = torch.zeros(2, 2)
    replace_weights(folder, state)
    refused(folder, f"{change} {key}")


def test_missing_files_are_named(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "no model.safetensors")
    (folder / "config.json").unlink()
    refused(folder, "no config.json", kind=ConfigError)


# ------------------------------------------------------------------ configurations


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(netwrok={}), ("unknown key 'netwrok'", "did you mean 'network'")),
        (lambda c: c["network"].update(widht=8), ("network: unknown setting 'widht'", "'width'")),
        (lambda c: c["network"].update(name="cosine_operater"), ("no network named", "'cosine_operator'")),
        (lambda c: c["problem"].update(name="diffusion-sorbtion"), ("'diffusion-sorption'",)),
        (lambda c: c["problem"].update(inputs=["d"]), ("no parameter 'd'", "'D'")),
        (lambda c: c["solver"].update(max_step=3), ("solver: unknown setting 'max_step'", "'max_steps'")),
        (lambda c: c["grid"]["space"]["x"].update(name="gradde"), ("'graded'",)),
        (lambda c: c["grid"]["time"].update(stage=3), ("unknown setting 'stage'", "'stages'")),
        (lambda c: c["ansatz"].update(name="linear"), ("'linearised'",)),
        (lambda c: c["ansatz"].update(rampp=1.0), ("'ramp'",)),
        (lambda c: c["residual_map"].update(name="inverse"), ("'inverse_linearised'",)),
        (lambda c: c["decomposition"].update(overlap=3), ("decomposition: unknown setting 'overlap'",)),
        (lambda c: c["decomposition"].update(counts={"x": 3}), ("16 points, not divisible into 3",)),
        (lambda c: c.pop("trust"), ("lacks 'trust'", "complete?")),
        (lambda c: c.update(format="diffusers"), ("not a pihc_zoo configuration", "'diffusers'")),
        (lambda c: c.update(config_version="2.0"), ("2.0 is newer than this package reads", "pip install -U")),
        (lambda c: c.update(config_version="one"), ("must be 'major.minor', got 'one'",)),
        (lambda c: c.pop("config_version"), ("config_version must be 'major.minor', got None",)),
    ],
)  # fmt: skip
def test_configurations_are_refused_with_the_remedy(folder, change, words):
    edit(folder, change)
    refused(folder, *words)


def test_text_that_is_not_json_is_refused(folder):
    path = folder / "config.json"
    path.write_text(path.read_text(encoding="utf-8")[:200], encoding="utf-8")
    refused(folder, "not valid JSON", "truncated?", kind=ConfigError)
    path.write_text("[1, 2]", encoding="utf-8")
    refused(folder, "not a pihc_zoo configuration", kind=ConfigError)


def test_a_newer_minor_version_with_known_keys_is_read(folder):
    edit(folder, lambda config: config.update(config_version=f"{configuration.CONFIG_VERSION[0]}.99"))
    storage.load_folder(folder, pz.Surrogate)


def test_older_versions_are_migrated_step_by_step(monkeypatch, tiny_config):
    old = tiny_config() | {"config_version": "0.1"}
    old["lattice"] = old.pop("grid")

    def first(config):
        return {**config, "config_version": "0.2", "mesh": config["lattice"]}

    def second(config):
        config = {key: value for key, value in config.items() if key not in ("lattice", "mesh")} | {
            "grid": config["mesh"]
        }
        return {**config, "config_version": "1.1"}

    monkeypatch.setattr(configuration, "MIGRATIONS", {(0, 1): first, (0, 2): second})
    assert configuration.read(json.dumps(old)) == tiny_config()


@pytest.mark.parametrize("instance", [Disjoint({"x": 2}), Overlapping({"x": 2}, overlap=3)], ids=repr)
def test_describing_and_building_are_inverse(instance):
    spec = configuration.describe(instance, DECOMPOSITIONS)
    cls, settings = configuration.lookup("decomposition", spec, DECOMPOSITIONS)
    assert configuration.build("decomposition", cls, settings) == instance


def test_unregistered_classes_cannot_be_saved():
    class Own(Disjoint):
        pass

    with pytest.raises(ConfigError, match="Own is not registered and cannot be saved"):
        configuration.describe(Own(), DECOMPOSITIONS)


@pytest.mark.parametrize(
    ("name", "expected"), [("diffusion", "'diffusion-sorption'"), ("D", "'d'"), ("zzz", "known: diffusion-sorption, d")]
)
def test_nearest_names_are_suggested_whatever_their_case(name, expected):
    assert expected in nearest(name, ["diffusion-sorption", "d"])


# ------------------------------------------------------------------ atomic writes


def test_no_temporary_files_remain(folder):
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]


def test_an_interrupted_save_leaves_the_old_model(folder, tiny_model, monkeypatch, fields):
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}

    def interrupted(state, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.save_folder(tiny_model(seed=9), folder)
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before
    storage.load_folder(folder, pz.Surrogate).predict(fields(1))


def test_a_save_interrupted_between_its_files_never_passes_for_a_model(folder, tiny_model, monkeypatch):
    """New weights beside the old configuration: the digest refuses them."""
    monkeypatch.setattr(storage.json, "dumps", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        storage.save_folder(tiny_model(seed=9), folder)
    monkeypatch.undo()
    refused(folder, "damaged or was changed")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]


def test_a_failed_npz_leaves_the_old_file(tmp_path, monkeypatch):
    path = files.save_npz(tmp_path / "a", {"u": np.arange(3)})
    assert path.name == "a.npz"

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        files.save_npz(path, {"u": np.arange(4)})
    assert_array_equal(np.load(path)["u"], np.arange(3))
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(("name", "written"), [("a", "a.npz"), ("a.npz", "a.npz"), ("D=0.5", "D=0.5.npz")])
def test_npz_is_added_to_names_without_a_kind(tmp_path, name, written):
    assert files.save_npz(tmp_path / name, {"u": np.arange(3)}) == tmp_path / written


@pytest.mark.parametrize("name", ["run.h5", "run.nc", "run.npz.gz", "run.v1"])
def test_names_of_another_kind_are_refused(model, fields, tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.npz, got .*only NPZ"):
        model.predict(fields(1), times=[5.0]).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_predictions_are_saved_with_the_documented_keys(model, fields, tmp_path):
    out = model.predict(fields(2), times=[0.0, 100.0])
    with np.load(out.save(tmp_path / "run.npz")) as stored:
        for key in ("u0", "x", "t", "u", "estimated_error", "status"):
            assert_array_equal(stored[key], getattr(out, key))
        assert_array_equal(stored["parameter_D"], out.parameters["D"])


def test_folders_that_cannot_be_written_are_refused(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot create .*; choose a writable folder"):
        storage.save_folder(model, tmp_path / "file" / "model")
    with pytest.raises(ValueError, match=r"cannot write .*; choose a writable folder that exists"):
        files.save_npz(tmp_path / "missing" / "a.npz", {"u": np.arange(3)})
