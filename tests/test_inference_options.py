"""One loaded model under many decompositions: what was cached for one must not serve another."""

import itertools

import numpy as np
import pytest

import pihc_zoo as pz
from pihc_zoo import Disjoint, Joint, Overlapping

CHOICES = [
    decomposition({"x": count})
    for decomposition, count in itertools.product((Disjoint, Overlapping, Joint), (1, 2, 4))
    if not (decomposition is Overlapping and count == 1)
]


@pytest.fixture(scope="module")
def fields():
    x = (np.arange(1024) + 0.5) / 1024
    return np.stack([0.1 + 0.05 * np.sin(3 * x), 0.2 - 0.1 * x])


def test_predictions_do_not_depend_on_what_ran_before(fields):
    model = pz.from_pretrained("diffusion-sorption.general")
    after_others = [model.predict(fields, experts=choice).u for choice in CHOICES]
    for choice, u in zip(CHOICES, after_others, strict=True):
        alone = pz.from_pretrained("diffusion-sorption.general").predict(fields, experts=choice).u
        np.testing.assert_array_equal(u, alone)


def test_one_expert_is_one_solve_whatever_it_is_called(fields):
    model = pz.from_pretrained("diffusion-sorption.general")
    joint, disjoint = (model.predict(fields, experts=choice({"x": 1})).u for choice in (Joint, Disjoint))
    np.testing.assert_allclose(joint, disjoint, rtol=0, atol=1e-12)


@pytest.mark.parametrize("choice", CHOICES, ids=repr)
def test_report_has_one_entry_per_subproblem_and_expert(fields, choice):
    out = pz.from_pretrained("diffusion-sorption.general").predict(fields, experts=choice)
    num_solves = 1 if choice.is_joint else choice.num_experts
    assert out.status.shape == out.converged.shape == out.iterations.shape == (2, num_solves)
    assert out.residual_per_expert.shape == (2, choice.num_experts)
    total = np.sqrt((out.residual_per_expert**2).sum(axis=1))
    np.testing.assert_allclose(total, out.residual, rtol=1e-10)  # squares add up over the partition of unity
