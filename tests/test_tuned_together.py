"""Fine-tuning on several processes: what one does, one voice, and nothing is lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tuning_cases as cases
from numpy.testing import assert_allclose
from processes import Job

import pihc_zoo as pz


def test_two_processes_do_what_one_does(tmp_path):
    codes, said = Job(tmp_path, 2, cases.tune, tmp_path).end()
    assert codes == [0, 0] and not said
    for number, case in enumerate(cases.CASES):
        one = cases.recorded(case)
        ranks = [dict(np.load(tmp_path / f"{number}-{rank}.npz")) for rank in range(2)]
        size = abs(one["weights"]).max()
        assert one["is_improved"] and len(one["reviews"]) > 3, case
        for own in ranks:
            assert_allclose(own["weights"], one["weights"], rtol=1e-9, atol=1e-9 * size, err_msg=case)
            assert_allclose(own["reviews"], one["reviews"], rtol=1e-8, err_msg=case)
            assert_allclose(own["threshold"], one["threshold"], rtol=1e-8, err_msg=case)
            assert np.array_equal(own["weights"], ranks[0]["weights"]), case  # bit for bit among themselves


def run(folder, *options, **event):
    """Two processes of the command in ``folder``: their exit codes and lines."""
    return Job(folder, 2, cases.command, list(options), *event.values()).end()


def test_sigterm_to_one_keeps_the_state_and_one_process_goes_on(tmp_path, monkeypatch, capsys):
    cases.write_input(tmp_path)
    codes, said = run(tmp_path, "--quiet", steps=2, rank=1)
    assert codes == [143, 143] and len(said) == 1
    assert said[0].startswith("terminated; fine-tuning was interrupted after 3 of 8 steps; its state is kept")
    assert not (tmp_path / "out" / "config.json").exists()
    monkeypatch.chdir(tmp_path)
    assert cases.main([*cases.COMMAND, "--quiet"]) == 0
    resumed = json.loads((tmp_path / "out" / "history.json").read_text())
    assert capsys.readouterr().out.count("tuned model written") == 1
    given = pz.from_pretrained(str(tmp_path / "given"))
    straight = pz.finetune(given, "mine.npz", steps=8, batch=3, patience=9, quiet=True).history
    assert [row["step"] for row in resumed["steps"]] == [row["step"] for row in straight.steps]
    assert resumed["after"]["error"] == pytest.approx(straight.after.error, rel=1e-4)
    codes, said = run(tmp_path)  # a finished run is not repeated
    assert codes == [0, 0] and not said
    assert pz.from_pretrained(str(tmp_path / "out")).predict(np.full((1, 1024), 0.1)).converged.all()


def test_errors_of_several_processes_are_one_line_and_code_2(tmp_path):
    codes, said = run(tmp_path, "--loss", "dat")
    assert codes == [2, 2] and len(said) == 1 and "--loss: invalid choice" in said[0]
    cases.write_input(tmp_path)
    codes, said = run(tmp_path, "--output", "given")
    assert codes == [2, 2] and len(said) == 1 and "holds a model already; choose another output folder" in said[0]
