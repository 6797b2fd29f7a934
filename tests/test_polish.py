"""Laws of polishing: it takes what experts leave, is never worse, touches nothing else, and says so."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.learning.start import with_settings
from pihc_zoo.reference import MethodOfLines
from pihc_zoo.status import Status

pytestmark = pytest.mark.filterwarnings("ignore:.*(not reliable|failed):RuntimeWarning")

X = (np.arange(1024) + 0.5) / 1024
WAVE, CONSTANT = 0.15 + 0.1 * np.sin(2 * np.pi * X), np.full(1024, 0.1)
CLEAN, WALL = np.zeros(1024), 0.22 * np.exp(-(1 - X) / 0.12)  # fronts, at which solves fail
STARTS = np.stack([WAVE, CLEAN, CONSTANT, WALL])
GOOD, HARD = [0, 2], [1, 3]
OWN = {"n_f": 0.5}


@pytest.fixture(scope="module")
def loaded():
    return pz.from_pretrained("diffusion-sorption.parametric")


@pytest.fixture
def model(loaded, monkeypatch):
    """With settings of its own, whatever it is shipped with: fronts fail, smooth solutions are good enough."""
    solver = dataclasses.replace(loaded.constraint.solver, max_steps=24, rtol=1e-3, ftol=0.0, xtol=0.0)
    monkeypatch.setattr(loaded.constraint, "solver", solver)
    monkeypatch.setattr(loaded, "trust", dataclasses.replace(loaded.trust, threshold=2e-3, unresolved=2e-3))
    return loaded


@pytest.fixture
def plain(model):
    return model.predict(STARTS, parameters=OWN, polish=False)


@pytest.fixture
def polished(model):
    return model.predict(STARTS, parameters=OWN)


# ------------------------------------------------------------------ where, and how well


def test_it_takes_what_experts_leave_and_says_so(plain, polished):
    assert polished.is_polished.tolist() == [False, True, False, True]
    assert not plain.is_polished.any() and not plain.converged[HARD].any()
    assert polished.status[HARD].tolist() == [[Status.POLISHED]] * 2 and polished.converged.all()
    assert np.isnan(plain.u[HARD]).all() and np.isfinite(polished.u).all()
    assert polished.is_reliable[[*GOOD, 3]].all() and polished.messages[3] == ""
    assert "solve" not in polished.messages[1]


def test_what_was_good_is_untouched(model, plain, polished):
    """Bit by bit as without polishing; as in a batch without the others, but for a network in single precision."""
    figures = ("u", "estimated_error", "residual", "residual_per_expert", "coefficients", "status", "iterations")
    for name in (*figures, "residual_field", "estimated_error_field"):
        assert_array_equal(getattr(polished, name)[GOOD], getattr(plain, name)[GOOD])
    alone = model.predict(STARTS[GOOD], parameters=OWN)
    assert_allclose(polished.u[GOOD], alone.u, rtol=0, atol=1e-7)
    assert_allclose(polished.estimated_error[GOOD], alone.estimated_error, rtol=1e-4)


def test_polished_answers_are_solutions(model, polished):
    """Against the classical solver: within .1 %, and within the estimate."""
    for i in HARD:
        truth = MethodOfLines(model.problem, rtol=1e-8, atol=1e-10)(STARTS[i], OWN)
        error = np.linalg.norm(polished.u[i] - truth) / np.linalg.norm(truth)
        assert error < 1e-3 and error <= 2.5 * polished.estimated_error[i]


def test_the_report_is_that_of_the_answer(model, plain, polished):
    """Residuals are those of the nodal values, and per expert they still add up; fields are those of the answer."""
    initial, c = model.at_nodes(torch.as_tensor(STARTS[HARD]), {"x": X}), model.tensors(OWN)
    conditions = model.constraint.conditions(initial, c)
    u, _ = model.polish.nodal(initial, conditions.walls, c)
    sizes = (u * model.constraint.residual_map.weights).flatten(1).norm(dim=1)
    expected = model.constraint.rows(u, conditions).flatten(1).norm(dim=1) / sizes
    assert_allclose(polished.residual[HARD], expected, rtol=1e-6)
    assert (polished.residual[HARD] < 0.1 * plain.residual[HARD]).all()
    assert_allclose(np.sqrt((polished.residual_per_expert**2).sum(axis=1)), polished.residual, rtol=1e-10)
    weights = np.sqrt((polished.u**2).sum(axis=(1, 2)))
    for name, figure in (("residual_field", polished.residual), ("estimated_error_field", polished.estimated_error)):
        sizes = np.sqrt((getattr(polished, name) ** 2).sum(axis=(1, 2))) / weights
        assert (sizes <= 1.5 * figure).all() and (sizes[GOOD] >= 0.2 * figure[GOOD]).all()
    assert_array_equal(polished.coefficients, plain.coefficients)  # those of the experts, as ever


def test_it_is_in_double_precision_whatever_the_experts_are_in(model, polished):
    """Fields in single precision are a matter of the experts alone; fronts and early times are as in double."""
    single = with_settings(model, {"solver.precision": "float32", "solver.max_steps": 24, "solver.rtol": 1e-3})
    single.trust = model.trust
    found = single.predict(STARTS, parameters=OWN)
    assert found.is_polished[HARD].all() and found.converged.all()
    assert_allclose(found.u[HARD], polished.u[HARD], rtol=0, atol=1e-7)
    assert_allclose(found.estimated_error[HARD], polished.estimated_error[HARD], rtol=0.02)
    early = [own.predict(STARTS[HARD], times=[0.1, 1.0], parameters=OWN) for own in (single, model)]
    assert_allclose(early[0].u, early[1].u, rtol=0, atol=1e-9)


@pytest.mark.parametrize("threshold", [1e-5, 1e-4, 1e-3])
def test_no_estimate_gets_worse(model, monkeypatch, threshold):
    """However much is asked for."""
    u0 = np.stack([WAVE, CONSTANT, np.full(1024, 1e-3), CLEAN])
    monkeypatch.setattr(model, "trust", dataclasses.replace(model.trust, threshold=threshold))
    for options in ({}, {"times": [5.0]}, {"times": [5.0, 500.0], "x": [0.1, 0.5]}):
        before, after = (model.predict(u0, polish=polish, **options) for polish in (False, None))
        assert (after.estimated_error <= before.estimated_error).all()
        changed = after.is_polished
        assert (after.estimated_error[~changed] == before.estimated_error[~changed]).all()
        assert not changed[before.estimated_error <= threshold / 2].any() or not before.converged.all()


def test_what_is_no_better_is_not_taken(model, monkeypatch):
    """A solver that claims success with something else: the experts' answers stay, where they have one."""
    monkeypatch.setattr(model, "trust", dataclasses.replace(model.trust, threshold=1e-6))

    def wrong(initial, closures, c):
        shape = (len(initial), *model.constraint.grid.shape)
        return torch.full(shape, 0.3, dtype=torch.float64), torch.ones(len(initial), dtype=torch.bool)

    monkeypatch.setattr(model.polish.nodal, "forward", wrong)
    plain, out = (model.predict(STARTS[GOOD], parameters=OWN, polish=polish) for polish in (False, None))
    assert not out.is_polished.any()
    for name in ("u", "estimated_error", "residual_per_expert", "estimated_error_field"):
        assert_array_equal(getattr(out, name), getattr(plain, name))


def test_initial_conditions_that_the_grid_does_not_carry_are_left(model, monkeypatch):
    """Solving on the same grid would not help."""
    ripples = 0.15 + 0.05 * np.sin(20 * np.pi * X)
    monkeypatch.setattr(model, "trust", dataclasses.replace(model.trust, threshold=1e-6))
    out = model.predict(np.stack([ripples, WAVE]))
    assert out.unresolved[0] > out.estimated_error[0] and out.is_polished.tolist() == [False, True]


def test_without_a_threshold_only_failures_are_polished(model, monkeypatch):
    monkeypatch.setattr(model, "trust", dataclasses.replace(model.trust, threshold=None))
    out = model.predict(STARTS, parameters=OWN)
    assert out.is_polished.tolist() == [False, True, False, True] and not out.is_reliable.any()


# ------------------------------------------------------------------ failures and options


def test_a_polish_that_fails_leaves_the_failure(model, monkeypatch):
    monkeypatch.setattr(model.polish.nodal, "max_steps", 2)
    out = model.predict(STARTS, parameters=OWN)
    assert not out.is_polished.any() and np.isnan(out.u[HARD]).all() and np.isfinite(out.u[GOOD]).all()
    assert all("max_steps" in out.messages[i] for i in HARD)


def test_on_failure_sees_what_polishing_leaves(model):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*failed")
        for on_failure in ("warn", "raise", "fallback"):
            out = model.predict(STARTS, parameters=OWN, on_failure=on_failure)
            assert out.converged.all() and not any("classical" in message for message in out.messages)
    with pytest.raises(ValueError, match="2 of 4 trajectories failed; trajectory 1: solve"):
        model.predict(STARTS, parameters=OWN, polish=False, on_failure="raise")
    out = model.predict(STARTS[HARD], parameters=OWN, polish=False, on_failure="fallback")
    assert np.isfinite(out.u).all() and all("classical" in message for message in out.messages)


@pytest.mark.parametrize("options", [{"max_steps": 1}, {"rtol": 1e-8}, {"max_steps": 0}], ids=str)
def test_settings_of_the_solver_are_kept_to_unless_polishing_is_asked_for(model, options):
    """`max_steps=1` is what one step finds; with ``polish=True`` the rest is Newton's."""
    plain = model.predict(STARTS[HARD], parameters=OWN, **options)
    assert not plain.is_polished.any() and not plain.converged.any()
    out = model.predict(STARTS[HARD], parameters=OWN, polish=True, **options)
    assert out.is_polished.all() and (out.status == Status.POLISHED).all() and np.isfinite(out.u).all()
    expected = model.predict(STARTS[HARD], parameters=OWN)
    assert_allclose(out.u, expected.u, rtol=0, atol=1e-8)  # it starts anew


def test_each_trajectory_is_polished_with_parameters_of_its_own(model):
    own = {"n_f": np.array([0.5, 0.6, 0.5, 0.9]), "D": np.array([2e-4, 9e-4, 5e-4, 1e-3])}
    u0 = np.stack([CLEAN, CLEAN, WAVE, WALL])
    batch = model.predict(u0, parameters=own)
    assert batch.is_polished[:2].all() and not batch.is_polished[2]
    for i in range(4):
        one = model.predict(u0[i], parameters={key: value[i] for key, value in own.items()})
        assert_allclose(batch.u[i], one.u[0], rtol=0, atol=1e-8)
        assert batch.is_polished[i] == one.is_polished[0] and batch.status[i] == one.status[0]


def test_a_bad_trajectory_among_polished_ones_is_its_own(model, polished):
    u0 = np.insert(STARTS, 1, np.nan, axis=0)
    out = model.predict(u0, parameters=OWN)
    assert out.is_polished.tolist() == [False, False, True, False, True]
    assert_allclose(np.delete(out.u, 1, axis=0), polished.u, rtol=0, atol=1e-10)


def test_roll_outs_have_nothing_to_polish_with(tiny_rollout, vorticity):
    model, u0 = tiny_rollout(trust={"threshold": 1e-9}), vorticity(2)
    assert model.polish is None
    plain, asked = (model.predict(u0, polish=polish) for polish in (False, True))
    assert not asked.is_polished.any()
    assert_array_equal(asked.u, plain.u)


def test_whether_it_was_polished_is_kept_in_files(polished, tmp_path):
    assert pz.Prediction.load(polished.save(tmp_path / "run.npz")).is_polished.tolist() == polished.is_polished.tolist()
    assert polished[1:3].is_polished.tolist() == [True, False]
