"""Progress is a bar on a terminal, a few whole lines elsewhere, and nothing when quiet."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import pihc_zoo
from pihc_zoo.families import SmoothFields
from training import loop
from training.recipe import Recipe, Training


def test_training_without_a_terminal_writes_no_frames(tiny_config, tmp_path, capsys):
    family = SmoothFields(shortest=0.3)
    recipe = Recipe("tiny", tiny_config(), Training(steps=40, batch=2, validate_every=2), family, {"same": family})
    loop.train(recipe, tmp_path, None, quiet=False)
    error = capsys.readouterr().err
    assert "\r" not in error and len(error) < 200


def test_one_helper_shows_all_progress():
    root = Path(pihc_zoo.__file__).parents[1]
    files = [path for room in ("pihc_zoo", "training", "export") for path in (root / room).rglob("*.py")]
    users = [path.name for path in files if re.search(r"^\s*(import|from) tqdm", path.read_text(), re.MULTILINE)]
    assert users == ["progress.py"]


def test_lines_are_whole_and_rare(capsys, monkeypatch):
    from pihc_zoo import progress

    assert list(progress.progress(range(2, 5), "steps", start=2, total=5)) == [2, 3, 4]
    assert capsys.readouterr().err == ""  # less than ten seconds
    monkeypatch.setattr(progress, "SECONDS_PER_LINE", 0.0)
    bar = progress.progress(range(2, 5), "steps", start=2, total=5)
    for step in bar:
        bar.set_postfix_str(f"error {step} %")
    assert capsys.readouterr().err.splitlines() == [
        f"steps: {n}/5 after 0 s, 0 s left, error {n - 1} %" for n in (3, 4, 5)
    ]
    assert list(progress.progress(range(3), "steps", total=3, quiet=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_gets_a_bar_unless_quiet(capsys, monkeypatch, quiet):
    from pihc_zoo.progress import progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress(range(3), "steps", total=3, quiet=quiet)) == [0, 1, 2]
    assert ("3/3" in capsys.readouterr().err) is not quiet
