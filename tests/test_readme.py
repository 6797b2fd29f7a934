"""README's Python blocks run, in order, in one session, in an empty directory."""

from __future__ import annotations

import re
import tomllib
import warnings
from pathlib import Path

import pytest

import pihc_zoo as pz

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?P<skip><!-- not run:[^>]*-->\s*)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text):
    """(line, code) of every block that is to be run."""
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"])
        for match in BLOCK.finditer(text)
        if not match["skip"]
    ]


def test_blocks_are_found_and_marked_ones_left_out():
    text = "a\n```python\nx = 1\n```\n<!-- not run: needs a token -->\n```python\ny = 1\n```\n```bash\nls\n```\n"
    assert blocks(text) == [(3, "x = 1\n")]


def test_models_said_to_have_a_graph_are_those_of_one_time_window():
    (row,) = re.findall(r"^\| ONNX \|(.*)\|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name for pattern in re.findall(r"`([\w.*-]+)`", row) for name in pz.list_models(pattern)}
    models = {name: pz.from_pretrained(name) for name in pz.list_models()}
    assert said == {name for name, own in models.items() if own.num_windows == 1}


def test_the_environment_and_the_extras_that_are_named_exist():
    text, root = README.read_text(encoding="utf-8"), README.parent
    venv = re.search(r"^VENV := (.+)$", (root / "Makefile").read_text(), re.MULTILINE)[1]
    assert f". {venv}/bin/activate" in text
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (sentence,) = re.findall(r"`pip install \"\.\[(\w+)\]\"`; further extras are (.*?)\.", text, re.DOTALL)
    assert {sentence[0], *re.findall(r"`(\w+)`", sentence[1])} == set(extras)


def test_readme_runs(tmp_path, monkeypatch):
    found = blocks(README.read_text(encoding="utf-8"))
    if not found:
        pytest.skip("README has no Python blocks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "readme"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a failed trajectory
        for line, code in found:
            exec(compile("\n" * (line - 1) + code, str(README), "exec"), namespace)
