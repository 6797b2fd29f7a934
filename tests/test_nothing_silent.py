"""Black box: what a caller gets is right to within its estimate, or says that it is not.

Every case here was once an answer that called itself reliable and was wrong by many times its estimate, or no answer.
"""

from __future__ import annotations

import numpy as np
import pytest

import pihc_zoo as pz
from pihc_zoo.reference import MethodOfLines, truth_solver

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

X = (np.arange(1024) + 0.5) / 1024
WAVE = 0.15 + 0.1 * np.sin(2 * np.pi * X)
FACTOR = 2.5  # an error may exceed its estimate by


@pytest.fixture(scope="module")
def general():
    return pz.from_pretrained("diffusion-sorption.general")


@pytest.fixture(scope="module")
def parametric():
    return pz.from_pretrained("diffusion-sorption.parametric")


def compared(model, u0, parameters=None, times=None):
    """The prediction and its relative error against the classical solver, over all that was asked for."""
    out = model.predict(u0, times=times, parameters=parameters)
    truth = MethodOfLines(model.problem, rtol=1e-8, atol=1e-9)(u0, parameters, times=times)
    return out, np.linalg.norm(out.u[0] - truth) / np.linalg.norm(truth)


def check_honest(out, error, least=0.0):
    """Answered, and the error is within the estimate; what is not reliable says why."""
    assert np.isfinite(out.u).all(), out.messages
    assert error <= max(FACTOR * out.estimated_error[0], least), (error, out.estimated_error, out.messages)
    assert bool(out.messages[0]) != out.is_reliable[0]


# ------------------------------------------------------------------ small Freundlich exponents


@pytest.mark.parametrize(
    "u0", [0.28 * np.sin(np.pi * X) ** 2, np.full(1024, 0.01)], ids=["clean at both walls", "almost clean"]
)
def test_small_exponents(parametric, u0):
    check_honest(*compared(parametric, u0, {"n_f": 0.5}), least=2e-4)


def test_a_clean_column_at_the_smallest_exponent_is_answered(parametric):
    out, error = compared(parametric, np.zeros(1024), {"n_f": 0.5})
    check_honest(out, error)
    assert error < 1e-3


# ------------------------------------------------------------------ layers, clean columns, pulses


def test_a_layer_at_the_outflow(general):
    check_honest(*compared(general, 0.22 * np.exp(-(1 - X) / 0.12)))


@pytest.mark.parametrize(
    "u0",
    [np.zeros(1024), np.full(1024, 1e-4), np.full(1024, 1e-3), 0.25 * np.exp(-(((X - 0.5) / 0.08) ** 2))],
    ids=["clean", "1e-4", "1e-3", "pulse"],
)
def test_clean_columns_and_pulses_are_answered(general, u0):
    """PDEBench's own initial conditions reach down to zero."""
    out, error = compared(general, u0)
    check_honest(out, error)
    assert error <= 1e-3


# ------------------------------------------------------------------ the first instants


@pytest.mark.parametrize("t", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("u0", [WAVE, np.full(1024, 0.1)], ids=["wave", "constant"])
def test_times_before_the_first_output_time(general, u0, t):
    out, error = compared(general, u0, times=[t])
    check_honest(out, error)
    assert error <= 5e-3


# ------------------------------------------------------------------ values that say nothing of the field


@pytest.mark.parametrize("x", [[0.5], np.linspace(0.2, 0.4, 50)], ids=["one point", "part of the domain"])
def test_points_that_do_not_determine_the_field_are_refused(general, x):
    with pytest.raises(ValueError, match="input_x"):
        general.predict(np.full(len(x), 0.1), input_x=x)


def test_six_points_of_a_pulse_are_not_reliable(general):
    x = np.linspace(0, 1, 6)
    out = general.predict(0.05 + 0.2 * np.exp(-(((x - 0.5) / 0.08) ** 2)), input_x=x)
    assert not out.is_reliable[0] and "points" in out.messages[0]


# ------------------------------------------------------------------ a flow with a mean


def test_fronts_that_a_mean_velocity_carries():
    model, x = pz.from_pretrained("burgers-1d.viscous"), np.arange(256) / 256
    u0, own = 0.3 + 0.5 * np.sin(2 * np.pi * x), {"nu": 1e-3}
    out = model.predict(u0, parameters=own)
    truth = truth_solver(model.problem, num_nodes=512, rtol=1e-6)(u0, own)
    check_honest(out, np.linalg.norm(out.u[0] - truth) / np.linalg.norm(truth))
