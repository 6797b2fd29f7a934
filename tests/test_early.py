"""Laws of the first instants: times before the first output time, on grids of their own, with an honest estimate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.discretisation import Discretisation, Field, Readout
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis, UniformAxis
from pihc_zoo.nodal import NodalSolver
from pihc_zoo.reference import MethodOfLines

pytestmark = pytest.mark.filterwarnings("ignore:.*not reliable:RuntimeWarning")

X = (np.arange(1024) + 0.5) / 1024
TIMES = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0])
STARTS = {
    "wave": 0.15 + 0.1 * np.sin(2 * np.pi * X),
    "constant": np.full(1024, 0.1),
    "clean": np.zeros(1024),
    "ripples": 0.15 + 0.1 * np.sin(12 * np.pi * X),
}


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.general")


def distances(u, truth):
    """(time,) relative to the truth at each time."""
    return np.linalg.norm(u - truth, axis=-1) / np.linalg.norm(truth, axis=-1)


# ------------------------------------------------------------------ axes for shorter durations


@pytest.mark.parametrize("factor", [4.0, 100.0])
def test_spacings_at_walls_shrink_as_diffusion_layers_do(factor):
    axis = GradedAxis(64, -1.0, 3.0)
    zoomed = axis.zoomed(factor)
    before, after = np.diff(axis.closed_nodes), np.diff(zoomed.closed_nodes)
    assert_allclose(after[[0, -1]] * factor**0.5, before[[0, -1]], rtol=0.1)
    assert after.max() < 1.5 * before.max()  # and the others do not pay for it
    assert_allclose(zoomed.closed_nodes[[0, -1]], [-1.0, 3.0], rtol=0, atol=1e-14)
    grid = Grid(RadauAxis(500.0, 4, 3), {"x": axis}).zoomed(factor)
    assert grid.time.stop == 500.0 / factor and grid.time.stages == 3 and grid.space["x"] == zoomed


def test_axes_without_layers_have_no_such_form():
    assert Grid(RadauAxis(1.0), {"x": GradedAxis(8, 0.0, 1.0)}).can_zoom
    for axis in (FourierAxis(16), UniformAxis(16, 0.0, 1.0)):
        assert not Grid(RadauAxis(1.0), {"x": axis}).can_zoom
        with pytest.raises(ValueError, match="no form for shorter durations"):
            axis.zoomed(2.0)


# ------------------------------------------------------------------ accuracy and honesty


@pytest.fixture(scope="module")
def finer(model):
    """``finer(u0)``: solutions of the equation on twice the nodes along each axis, (batch, time, x) at `TIMES`."""
    grid = model.polish.early.grid.refined(2)
    operator = Discretisation(model.problem, grid)
    readout, solver = Readout(operator, TIMES, {"x": X}), NodalSolver(operator)
    gather, c = torch.as_tensor(grid.space["x"].gathering(X)), model.tensors({})

    def solve(u0):
        initial, closures = torch.as_tensor(u0) @ gather.T, operator.walls(c)
        u, is_solved = solver(initial, closures, c)
        assert is_solved.all()
        return readout(Field(u, closures, initial)).numpy()

    return solve


@pytest.mark.parametrize("kind", STARTS)
def test_answers_and_estimates_hold_against_finer_grids_and_cells(model, finer, kind):
    """Of the equation and of what the generator's cells make of it, at every time: what is reliable is within .5 %.

    Against the equation nearly all of it is much better.
    """
    u0 = STARTS[kind]
    of_equation = finer(u0[None])[0]
    of_cells = MethodOfLines(model.problem, rtol=1e-8, atol=1e-10)(u0, times=TIMES)
    found = [model.predict(u0, times=[t]) for t in TIMES]
    u, estimates = np.stack([out.u[0, 0] for out in found]), np.array([out.estimated_error[0] for out in found])
    is_reliable = np.array([out.is_reliable[0] for out in found])
    for truth in (of_equation, of_cells):
        errors = distances(u, truth)
        assert (errors <= 2.5 * estimates).all(), errors / estimates
        assert (errors[is_reliable] <= 5e-3).all()
    assert (distances(u, of_equation) < 1e-3).all()
    assert is_reliable[TIMES == 1.0] or kind == "ripples"
    assert all(bool(out.messages[0]) != out.is_reliable[0] for out in found)  # and what is not says why


def test_estimates_fall_with_time(model):
    """The layers grow, and the cells' part with them falls."""
    estimates = [model.predict(STARTS["wave"], times=[t]).estimated_error[0] for t in TIMES]
    assert estimates[0] > 3 * estimates[len(estimates) // 2] > 3 * estimates[-1]


def test_early_answers_meet_the_others(model):
    """At the first output time both grids say the same, but for the errors that they estimate."""
    first = model.problem.output_times[1]
    early, late = (model.predict(STARTS["wave"], times=[t]) for t in (first * (1 - 1e-6), first))
    jump = distances(early.u[0], late.u[0])
    assert jump < 1e-3 and jump < early.estimated_error[0] + late.estimated_error[0]


def test_without_polishing_there_is_one_grid(model):
    """`polish=False` reads the surrogate's own grid, wrong at first, and the estimate says so."""
    u0, truth = STARTS["wave"], MethodOfLines(model.problem, rtol=1e-8)(STARTS["wave"], times=[0.1])
    plain, early = (model.predict(u0, times=[0.1], polish=polish) for polish in (False, True))
    plain_error, error = (float(distances(out.u[0], truth)[0]) for out in (plain, early))
    assert plain_error > 10 * error and plain_error < 2.5 * plain.estimated_error[0]


# ------------------------------------------------------------------ any times


@pytest.fixture
def content(model, monkeypatch):
    """The model, of which no estimate asks for more than early grids."""
    monkeypatch.setattr(model, "trust", dataclasses.replace(model.trust, threshold=1.0))
    return model


def test_times_in_any_order_and_twice_are_those_asked_for_one_by_one(content):
    """Before, at and after the first output time, and zero."""
    u0 = np.stack([STARTS["wave"], STARTS["constant"]])
    times = [30.0, 0.1, 0.0, 500.0, 0.1, 5.0, 4.0, 0.01, 0.0]
    out = content.predict(u0, times=times)
    assert_array_equal(out.t, times)
    for i, t in enumerate(times):
        one = content.predict(u0, times=[t])
        assert_allclose(out.u[:, i], one.u[:, 0], rtol=0, atol=1e-12)
        assert_allclose(out.estimated_error_field[:, i], one.estimated_error_field[:, 0], rtol=0, atol=1e-12)
        assert_allclose(out.residual_field[:, i], one.residual_field[:, 0], rtol=0, atol=1e-12)
    assert_array_equal(out.u[:, 2], u0)


def test_points_are_those_of_the_default_output(content):
    u0, times, picked = STARTS["wave"], [0.1, 3.0, 50.0], [0, 1, 2, 100, 1023]
    whole, some = content.predict(u0, times=times), content.predict(u0, times=times, x=X[picked])
    assert_allclose(some.u[0], whole.u[0][:, picked], rtol=0, atol=1e-11)


def test_the_estimate_of_many_times_is_that_of_each_put_together(content):
    """Squares of errors add up, relative to those of u; early or late."""
    times = [0.1, 2.0, 5.0, 300.0]
    out, *single = (content.predict(STARTS["wave"], times=own) for own in (times, *times))
    sizes = np.array([(one.u**2).mean() for one in single])
    squares = np.array([one.estimated_error[0] ** 2 for one in single]) * sizes
    assert_allclose(out.estimated_error[0], np.sqrt(squares.sum() / sizes.sum()), rtol=1e-2)


def test_a_batch_with_parameters_of_its_own_equals_a_loop():
    model = pz.from_pretrained("diffusion-sorption.parametric")
    u0 = np.stack([STARTS["wave"], STARTS["constant"], STARTS["clean"]])
    own = {"D": np.array([3e-4, 9e-4, 5e-4]), "n_f": np.array([0.6, 0.9, 0.8])}
    batch = model.predict(u0, times=[0.3, 100.0], parameters=own)
    for i in range(3):
        one = model.predict(u0[i], times=[0.3, 100.0], parameters={key: value[i] for key, value in own.items()})
        assert_allclose(batch.u[i], one.u[0], rtol=0, atol=1e-9)
        assert_allclose(batch.estimated_error[i], one.estimated_error[0], rtol=1e-4)


# ------------------------------------------------------------------ no solution


@pytest.mark.parametrize("which", ["coarse", "fine"])
def test_without_a_solution_nothing_is_estimated(model, monkeypatch, which):
    """An unfinished solve leaves no values that look like an answer."""
    monkeypatch.setattr(getattr(model.polish.early, which), "max_steps", 1)
    out = model.predict(STARTS["wave"], times=[0.1, 100.0])
    assert not out.is_reliable[0] and "could not be estimated" in out.messages[0]
    assert np.isfinite(out.u[0, 1]).all() and np.isfinite(out.u[0, 0]).all() == (which == "coarse")


def test_only_what_is_read_is_polished(model, monkeypatch):
    """Experts are not polished for times that are solved for on other grids, unless their solve failed."""
    calls = []
    improve = model.polish.improve
    monkeypatch.setattr(model.polish, "improve", lambda *arguments: calls.append(1) or improve(*arguments))
    for times in ([0.1], [0.0], [0.0, 4.0]):
        assert not model.predict(STARTS["wave"], times=times).is_polished.any() and not calls
