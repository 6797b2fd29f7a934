"""Laws of initial conditions on points of one's own: what they do not determine is refused, or counted and said."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.grid import INPUT_STENCIL
from pihc_zoo.grid.stencils import stencil_matrix
from pihc_zoo.prediction.initial_values import check_values, undetermined
from pihc_zoo.prediction.request import check_field
from pihc_zoo.problems import Burgers, DiffusionSorption
from pihc_zoo.reference import MethodOfLines

pytestmark = pytest.mark.filterwarnings("ignore:.*(not reliable|failed):RuntimeWarning")

X = (np.arange(1024) + 0.5) / 1024


def wave(x):
    return 0.15 + 0.1 * np.sin(2 * np.pi * x)


def pulse(x):
    return 0.25 * np.exp(-(((x - 0.43) / 0.05) ** 2))


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.general")


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    "x, message",
    [
        ([0.5], "one point, which do not determine a field; give at least 6, from wall to wall"),
        (np.linspace(0, 1, 5), "5 points, which do not determine a field"),
        (np.linspace(0, 0.5, 200), r"covers \[0, 0.5\] of \[0, 1\]; nothing is extrapolated"),
        (np.linspace(0.5, 1, 200), r"covers \[0.5, 1\] of \[0, 1\]"),
        (np.linspace(0.2, 0.8, 100), "no farther from a wall than from each other"),
        (np.delete(X, np.arange(1, 9))[1:], "covers"),
    ],
    ids=["one", "five", "left half", "right half", "inside", "first one far from the wall"],
)
@pytest.mark.parametrize("backend", ["predict", "check"])
def test_points_that_leave_part_of_the_domain_open_are_refused(model, x, message, backend):
    x = np.asarray(x)
    with pytest.raises(ValueError, match=f"input_x.*{message}" if backend == "predict" else message):
        if backend == "predict":
            model.predict(wave(x), input_x=x)
        else:
            check_field(model.problem, wave(x)[None], {"x": x})


def test_values_between_points_are_checked_as_those_at_them(model):
    """Interpolation overshoots: then more points are asked for, not values that no concentration has."""
    x = np.linspace(0, 1, 12)
    steep = np.where(x < 0.5, 1.0, 0.0)
    (message,) = check_values(model.problem, steep[None], points={"x": x})
    assert "between its points" in message and "beyond [0, 1]; give it at more points" in message
    out = model.predict(steep, input_x=x)
    assert np.isnan(out.u).all() and "between its points" in out.messages[0]
    with pytest.raises(ValueError, match="trajectory 0: between its points"):
        model.predict(steep, input_x=x, on_failure="raise")
    assert check_values(model.problem, np.where(X < 0.5, 1.0, 0.0)[None], points={"x": X}) == [None]


# ------------------------------------------------------------------ counted


@pytest.mark.parametrize("base", [0.0, 0.05])
@pytest.mark.parametrize("centre", [0.3, 0.43, 0.5])
def test_six_points_of_a_pulse_are_not_reliable_and_the_message_says_why(model, centre, base):
    x = np.linspace(0, 1, 6)
    out = model.predict(base + 0.25 * np.exp(-(((x - centre) / 0.08) ** 2)), input_x=x)
    assert not out.is_reliable[0]
    if np.isfinite(out.u).all():
        assert out.unresolved[0] > 0.02
        assert "of the initial condition is finer than the model's grid or than its points" in out.messages[0]
    else:
        assert "between its points the initial condition is interpolated" in out.messages[0]


@pytest.mark.parametrize("field, first", [(wave, 6), (pulse, 24)])
def test_what_points_do_not_determine_covers_what_they_miss(field, first):
    """The distance of two interpolants against the true error of the better one, relative, once they see a feature."""
    problem, found, errors = DiffusionSorption(), [], []
    for count in (6, 12, 24, 48, 96, 192):
        x = np.linspace(0, 1, count)
        values = field(x)[None]
        full = stencil_matrix(x, X, 0, INPUT_STENCIL) @ values[0]
        errors.append(np.linalg.norm(full - field(X)) / np.linalg.norm(field(X)))
        found.append(undetermined(problem, values, {"x": x})[0])
        assert errors[-1] <= (2 if count >= first else 10) * found[-1]
    assert (np.diff(found) < 0).all() and found[-1] < 1e-3 * found[0]


def test_at_the_problems_own_nodes_nothing_is_undetermined():
    values = np.random.default_rng(0).uniform(0, 1, (3, 1024))
    assert_array_equal(undetermined(DiffusionSorption(), values, {"x": X}), np.zeros(3))
    periodic = np.random.default_rng(0).uniform(0, 1, (2, 48))
    assert_array_equal(undetermined(Burgers(), periodic, {"x": np.arange(48) / 48}), np.zeros(2))


def test_a_field_of_low_degree_is_determined_by_few_points():
    x = np.sort(np.random.default_rng(1).uniform(0, 1, 9))
    assert undetermined(DiffusionSorption(), (0.3 - 0.2 * x**3)[None], {"x": x})[0] < 1e-10


@pytest.mark.parametrize("field", [wave, pulse])
def test_many_points_are_as_good_as_the_native_ones(model, field):
    native = model.predict(field(X))
    for x in (np.linspace(0, 1, 400), np.linspace(0, 1, 3000), np.sort(np.random.default_rng(0).uniform(0, 1, 4000))):
        x[0], x[-1] = 0.0, 1.0
        out = model.predict(field(x), input_x=x)
        assert np.linalg.norm(out.u[0, 1:] - native.u[0, 1:]) < 1e-5 * np.linalg.norm(native.u[0, 1:])
        assert out.is_reliable[0] == native.is_reliable[0]
        assert_allclose(out.estimated_error, native.estimated_error, rtol=0.01)


def test_few_points_of_a_smooth_field_are_an_answer_within_its_figures(model):
    """Against the true field's solution: the error is within the estimate and what the points leave open."""
    for count in (16, 24, 32, 64):
        x = np.linspace(0, 1, count)
        out = model.predict(wave(x), input_x=x)
        truth = MethodOfLines(model.problem, rtol=1e-8)(wave(X))
        error = np.linalg.norm(out.u[0, 1:] - truth[1:]) / np.linalg.norm(truth[1:])
        assert error <= 2.5 * (out.estimated_error[0] + out.unresolved[0]), count
        assert not out.is_reliable[0] or error < 2e-3


def test_centres_and_faces_of_cells_and_ghost_points_cover_the_domain(model):
    for x in (X[::2] + 0.5 / 1024, np.linspace(0, 1, 101), np.linspace(-0.5 / 1024, 1 + 0.5 / 1024, 300)):
        assert np.isfinite(model.predict(wave(x), input_x=x, times=[500.0]).u).all()
