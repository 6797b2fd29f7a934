"""A model folder is complete, repeatable and its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from pihc_zoo import model_info
from pihc_zoo.files import sha256
from pihc_zoo.zoo.exporting import export as export_model
from pihc_zoo.zoo.exporting import save_pretrained
from pihc_zoo.zoo.folder import record, self_test
from pihc_zoo.zoo.loading import from_pretrained


def export(model, to, **options):
    """Of a model, or of the folder that holds one."""
    return export_model(from_pretrained(model) if isinstance(model, Path) else model, to, **options)


COMPLETE = {"config.json", "model.safetensors", "README.md", "example.npz", "LICENSE"}


@pytest.fixture
def measured(tiny_model, tmp_path):
    """A saved tiny model with a metrics.json."""
    folder = save_pretrained(tiny_model(), tmp_path / "tiny")
    (folder / "metrics.json").write_text(json.dumps({"description": "a test", "threshold": 0.01}))
    return folder


def test_the_folder_is_complete_and_verifies(measured, tmp_path, capsys):
    assert main([str(measured), "--to", str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    assert COMPLETE | {"metrics.json"} <= {path.name for path in out.iterdir()}
    assert "a test" in (out / "README.md").read_text() and "MIT" in (out / "LICENSE").read_text()
    model = from_pretrained(out, verify=True)
    assert self_test(model, out) == 0.0
    assert model.name == "out" and "config.json" in capsys.readouterr().out


def test_exporting_again_changes_nothing(measured, tmp_path):
    out = export(measured, tmp_path / "again" / "tiny")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    export(measured, out)
    export(out, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_another_models_figures_do_not_stay(measured, tiny_model, tmp_path):
    """A folder that is saved over, or a model that was changed, loses what no longer describes it."""
    export(measured, measured)
    tuned = from_pretrained(measured)
    next(tuned.network.parameters()).data.mul_(1.5)
    out = export(tuned, tmp_path / "tuned")
    assert not (out / "metrics.json").exists()
    from_pretrained(out, verify=True)
    save_pretrained(tiny_model(seed=4), measured)
    assert {path.name for path in measured.iterdir()} == {"config.json", "model.safetensors", "README.md", "LICENSE"}


def test_verify_catches_other_weights(measured, tiny_model, tmp_path):
    out = export(measured, tmp_path / "out")
    other = export(tiny_model(seed=5), tmp_path / "other")
    (out / "example.npz").write_bytes((other / "example.npz").read_bytes())
    with pytest.raises(ValueError, match=r"example\.npz' is damaged or was changed"):
        from_pretrained(out, verify=True)
    record(out, "example.npz")
    with pytest.raises(ValueError, match=r"does not reproduce its example\.npz"):
        from_pretrained(out, verify=True)
    with np.load(out / "example.npz") as file:
        arrays = dict(file)
    np.savez(out / "example.npz", **{**arrays, "u": np.array([object()])})
    record(out, "example.npz")
    with pytest.raises(ValueError, match="not a usable example"):
        from_pretrained(out, verify=True)
    (out / "example.npz").unlink()
    with pytest.raises(ValueError, match="no example"):
        from_pretrained(out, verify=True)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


READERS = {
    "model.safetensors": from_pretrained,
    "example.npz": lambda folder: from_pretrained(folder, verify=True),
    "metrics.json": model_info,
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_with_one_byte_flipped_is_refused_by_name(measured, tmp_path, name):
    out = export(measured, tmp_path / "out")
    READERS[name](out)
    _flip(out / name)
    with pytest.raises(ValueError, match=f"{name}' is damaged or was changed.*download it again.*export it again"):
        READERS[name](out)


def test_a_damaged_file_is_neither_copied_nor_blessed(measured, tmp_path):
    out = export(measured, tmp_path / "out")
    _flip(out / "metrics.json")
    for target in (out, tmp_path / "other"):
        with pytest.raises(ValueError, match=r"metrics\.json' is damaged"):
            export(out, target)
    (out / "metrics.json").unlink()  # the remedy that the message names
    export(out, out)
    assert "metrics.json" not in json.loads((out / "config.json").read_text())["digests"]


def test_digests_follow_the_files(measured, tmp_path, tiny_model):
    out = export(measured, tmp_path / "out")
    digests = json.loads((out / "config.json").read_text())["digests"]
    assert digests == {name: sha256(out / name) for name in ("example.npz", "metrics.json")}
    save_pretrained(from_pretrained(out), out)
    assert json.loads((out / "config.json").read_text())["digests"] == digests, "the same weights: files stay"
    save_pretrained(tiny_model(seed=4), out)
    assert "digests" not in json.loads((out / "config.json").read_text())


def test_folders_without_digests_load(measured, tmp_path):
    out = export(measured, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    del config["digests"]
    (out / "config.json").write_text(json.dumps({**config, "config_version": "1.0"}))
    assert from_pretrained(out, verify=True).config["config_version"] == "1.1"
    assert model_info(out)["metrics"]["description"] == "a test"


def test_a_card_written_by_hand_stays(measured, tmp_path):
    (measured / "README.md").write_text("by hand")
    export(measured, measured)
    assert (measured / "README.md").read_text() == "by hand"


def test_parametric_models_export(tiny_model, tmp_path):
    out = export(tiny_model(problem={"inputs": ["D", "phi"]}), tmp_path / "parametric")
    from_pretrained(out, verify=True)
    assert "input, 0.0002 … 0.001" in (out / "README.md").read_text()


def test_refusals_are_one_line(measured, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (measured / "metrics.json").write_text("[")
    for arguments in (
        ["no-such-model", "--to", str(tmp_path / "x")],
        [str(measured), "--to", str(tmp_path / "file")],
        [str(measured), "--to", str(tmp_path / "x")],
        ["--cards", "more"],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
