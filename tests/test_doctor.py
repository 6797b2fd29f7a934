"""`pihc doctor` finds what is wrong, and tells no secret."""

from __future__ import annotations

import shutil

import pytest

from pihc_zoo import cli, doctor
from pihc_zoo.zoo import registry


def wrong() -> dict[str, str]:
    return {finding.topic: finding.text for finding in doctor.examine() if finding.state == "wrong"}


def test_reports_and_tells_no_token(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    code = cli.main(["doctor"])
    out = capsys.readouterr().out
    assert code == (1 if wrong() else 0)
    assert "hf_secret_value" not in out and "present" in out
    for topic in ("torch", "huggingface_hub", "Hub endpoint", "offline mode", "Hub cache", *registry.list_models()):
        assert topic in out


def test_damaged_weights_are_found(monkeypatch, tmp_path, capsys):
    name = registry.list_models()[0]
    shutil.copytree(registry.WEIGHTS / name, tmp_path / name)
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    assert name not in wrong()
    path = tmp_path / name / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    assert "damaged" in wrong()[name]
    assert cli.main(["doctor"]) == 1 and "wrong" in capsys.readouterr().out
    shutil.rmtree(tmp_path / name)
    assert "reinstall" in wrong()["shipped models"]


def test_two_onnxruntimes_and_old_packages(monkeypatch):
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "1.20.0" if name.startswith("onnxruntime") else real(name))
    assert "overwrite each other" in wrong()["onnxruntime"]
    monkeypatch.setattr(doctor, "version", lambda name: {"torch": "1.0", "scipy": None}.get(name, real(name)))
    assert "is needed" in wrong()["torch"] and "not installed" in wrong()["scipy"]


def test_the_active_provider_is_asked_of_a_session():
    onnxruntime = pytest.importorskip("onnxruntime")
    active = doctor.active_providers()
    assert "CPUExecutionProvider" in active and set(active) <= set(onnxruntime.get_available_providers())


def test_a_check_that_breaks_is_reported(monkeypatch):
    def _broken():
        raise OSError("no such library\nand a page of text")

    monkeypatch.setattr(doctor, "_CHECKS", (_broken,))
    assert wrong() == {"broken": "OSError: no such library"}
