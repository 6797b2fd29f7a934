"""Burgers' equation beside its exact solution: the Cole–Hopf integral, its spectral solvers, its mean."""

from __future__ import annotations

import numpy as np
import pytest

from pihc_zoo.families import RandomWaves
from pihc_zoo.problems.burgers import Burgers
from pihc_zoo.reference import truth_solver
from pihc_zoo.reference.pseudo_spectral import PseudoSpectral

TIMES = np.array([0.1, 0.5, 2.0])
X = np.arange(64) / 64
MEAN = 0.25


def initial(x):
    return MEAN + 0.8 * np.sin(2 * np.pi * x) + 0.5 * np.cos(4 * np.pi * x + 1)


def cole_hopf(x, times, nu):
    """u = ∫ (x−y)/t e^(−G/2ν) dy / ∫ e^(−G/2ν) dy, G = ∫₀ʸ u₀ + (x−y)²/2t: (time, n).

    The trapezoidal rule on the line converges faster than any power; weights are positive, so that
    nothing cancels.
    """
    reach, count = 6.0, 2**15
    offset = np.linspace(-reach, reach, count)  # x − y
    fields = []
    for t in times:
        y = x[:, None] - offset
        potential = MEAN * y - 0.8 * np.cos(2 * np.pi * y) / (2 * np.pi) + 0.5 * np.sin(4 * np.pi * y + 1) / (4 * np.pi)
        exponent = -(potential + offset**2 / (2 * t)) / (2 * nu)
        weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        fields.append((weights @ (offset / t)) / weights.sum(axis=1))
    return np.stack(fields)


def distance(u, truth):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("nu", [1e-1, 1e-2, 3e-3, 1e-3])
def test_the_truth_is_the_cole_hopf_solution(nu):
    """Over the whole range of viscosities, with a mean that carries the fronts along."""
    found = truth_solver(Burgers())(initial(X), {"nu": nu}, times=TIMES)
    assert distance(found, cole_hopf(X, TIMES, nu)) < 1e-6


def test_the_spectral_solver_converges_to_it_faster_than_any_power():
    exact, nodes = cole_hopf(X, TIMES, 1e-2), np.array([32, 64, 128])
    found = [PseudoSpectral(Burgers(), num_nodes=n)(initial(X), {"nu": 1e-2}, times=TIMES) for n in nodes]
    errors = np.array([distance(u, exact) for u in found])
    orders = np.log2(errors[:-1] / errors[1:])
    assert orders[0] > 3 and orders[1] > orders[0] + 2, (errors, orders)


def test_the_mean_is_kept():
    u0 = MEAN + RandomWaves().sample(2, X, np.random.default_rng(1))
    u = PseudoSpectral(Burgers(), num_nodes=128)(u0, {"nu": 1e-2})
    assert np.abs(u.mean(axis=-1) - u0.mean(axis=-1)[:, None]).max() < 1e-12


def test_velocities_beyond_the_range_are_named():
    first, second = Burgers().check_initial_condition(np.array([[0.5, 2.5], [0.0, -3.0]]))
    assert first is None and "reaches 3; at most 2.5" in second
