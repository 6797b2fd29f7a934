"""Fine-tuning on scattered and noisy points: compared where they are, noise told from error."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import pihc_zoo as pz
from pihc_zoo.data import read_trajectories
from pihc_zoo.learning.consistency import contradiction
from pihc_zoo.learning.finetune import finetune
from pihc_zoo.learning.targets import Targets, pieces
from pihc_zoo.reference import MethodOfLines


def test_scattered_values_are_compared_where_they_are(tiny_model, solved, points):
    """The error at scattered points is that of a prediction at each of them alone."""
    model = tiny_model()
    tuned = finetune(model, points, steps=12, learning_rate=5e-3, quiet=True)
    assert tuned.history.criterion == "error" and tuned.after.error < tuned.before.error
    held = np.random.default_rng(0).permutation(8)[:2]
    errors = []
    for row in held:
        out = model.predict(solved["u0"][row], x=solved["x"], times=solved["t"][1:], input_x=solved["x"], polish=False)
        own = points["trajectory"] == row
        time = np.searchsorted(solved["t"][1:], points["t"][own])
        values = out.u[0, time, np.searchsorted(solved["x"], points["x"][own])]
        truth = points["u"][own]
        errors.append(np.linalg.norm(values - truth) / np.linalg.norm(truth))
    assert_allclose(tuned.history.errors_before, errors, rtol=1e-6)


def test_many_points_are_taken_in_parts(monkeypatch, tiny_model, points):
    """By trajectories, and by times where a solved roll-out is read: errors are those of one grid through them all."""
    data, rows = read_trajectories(points, tiny_model().problem), np.arange(8)
    whole = Targets(data, rows)
    (grid,) = whole.grids
    u = torch.rand(8, len(grid.times), len(grid.points["x"]), dtype=torch.float64)

    def error(part):
        answers = [
            u[part.rows][:, np.searchsorted(grid.times, own.times)][
                :, :, np.searchsorted(grid.points["x"], own.points["x"])
            ]
            for own in part.grids
        ]
        return part.error(part.values(answers))

    by_time = Targets(data, rows, whole.size // 8)
    assert len(by_time.grids) > 1 and sum(len(own.picked) for own in by_time.grids) == len(points["t"])
    assert by_time.size <= whole.size // 8
    assert_allclose(error(by_time), error(whole))
    monkeypatch.setattr("pihc_zoo.learning.targets._LARGEST", whole.size // 8)
    parts = list(pieces(data, rows))
    assert len(parts) > 1 and np.concatenate([part.rows for part in parts]).tolist() == list(rows)
    assert_allclose(torch.cat([error(part) for part in parts]), error(whole))


@pytest.mark.parametrize("kind", ["grid", "points"])
def test_noise_is_measured_and_not_held_against_the_data(kind, solved, points):
    model, rng = pz.from_pretrained("diffusion-sorption.general"), np.random.default_rng(0)
    data = dict(solved if kind == "grid" else points)
    data["u"] = data["u"] + 0.02 * rng.standard_normal(data["u"].shape)
    if kind == "grid":
        data["u"][:, 0] = data["u0"]
    read = read_trajectories(data, model.problem)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distance, noise = contradiction(model, read, np.arange(8))
    size = np.sqrt(np.mean(data["u"] ** 2))
    assert distance is None and noise == pytest.approx(0.02 / size, rel=0.15)


def test_points_of_another_equation_are_named(solved, points):
    model = pz.from_pretrained("diffusion-sorption.general")
    solve = MethodOfLines(model.problem)
    u = np.stack(
        [solve(own, {"D": 9e-4}, input_x=solved["x"], x=solved["x"], times=solved["t"]) for own in solved["u0"]]
    )
    other = {**points, "u": u[points["trajectory"], np.searchsorted(solved["t"], points["t"]),
                              np.searchsorted(solved["x"], points["x"])]}  # fmt: skip
    with pytest.warns(RuntimeWarning, match="contradict the equation.*D = 0.0005"):
        assert finetune(model, other, steps=1, quiet=True).history.contradiction > 0.02
