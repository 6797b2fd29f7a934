"""The benchmark of the runtime: stages add up to the whole, tables go between the marks, errors are one line."""

from __future__ import annotations

import time

import pytest

import pihc_zoo as pz
from training import bench


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_stages_add_up_to_the_whole_and_leave_no_trace():
    model = pz.from_pretrained("diffusion-sorption.general")
    u0, _ = pz.sample(model, 2)
    with bench.staged(model) as seconds:
        begin = time.process_time()
        inside = model.predict(u0)
        span = time.process_time() - begin
    assert set(seconds) == set(bench.STAGES) and all(value > 0 for value in seconds.values())
    assert abs(seconds.total() - span) < 0.1 * span
    assert "predict" not in vars(model)
    assert (model.predict(u0).u == inside.u).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_pass_is_faster_than_its_floor():
    model = pz.from_pretrained("diffusion-sorption.pdebench")
    ((name, batch, _, _, _, share),) = bench.throughput(model, [4, 10**9], 1, "cpu", bench.floors("cpu"))
    assert (name, batch) == ("`diffusion-sorption.pdebench`", "4")
    assert 0 < float(share.removesuffix(" %")) < 100


def test_tables_go_between_the_marks():
    page = f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter"
    assert bench.rewritten(page, "new") == f"before\n{bench.BEGIN}\nnew\n{bench.END}\nafter"
    with pytest.raises(ValueError, match="lacks the marks"):
        bench.rewritten("nothing", "new")


def test_errors_are_one_line(capsys):
    assert bench.main(["--models", "no-such-model"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
