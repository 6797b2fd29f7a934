"""Where the lift leaves rows so small that no solve would move, neither network nor solve is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import pihc_zoo as pz


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("burgers-1d.viscous")


def windows(model, num_basis, viscosity):
    """Two windows with the network counted; the first trajectory is steep, the others are not."""
    u0, _ = pz.sample(model, len(viscosity))
    points = {"x": model.problem.output_space["x"].nodes}
    calls = []
    with torch.no_grad():
        initial = model.at_nodes(torch.as_tensor(u0), points)

        def basis(conditions):
            calls.append(len(conditions.u0))
            return model.basis(conditions)

        c = model.tensors({"nu": torch.tensor(viscosity)})
        return list(model.rollout.windows(basis, initial, c, 2, num_basis)), calls


@pytest.mark.parametrize("viscosity", [[1e-3, 1e-2, 3e-2], [2e-2, 3e-2], [1e-3, 1e-3]])
def test_the_answers_are_those_of_the_solves(model, viscosity):
    count = model.network.num_basis
    (found, few), (expected, all_calls) = windows(model, count, viscosity), windows(model, None, viscosity)
    for own, other in zip(found, expected, strict=True):
        assert_close(own.u, other.u, rtol=0, atol=1e-5)
        assert_close(own.field.coefficients, other.field.coefficients, rtol=1e-2, atol=1e-2)
        for name in ("status", "iterations"):
            assert torch.equal(getattr(own.field.solution, name), getattr(other.field.solution, name))
    assert sum(all_calls) == 2 * len(viscosity)
    assert sum(few) == 2 * np.sum(np.array(viscosity) < 2e-3)


def test_gradients_pass_the_solves_of_all(model):
    u0, _ = pz.sample(model, 1)
    model(torch.as_tensor(u0), {"nu": 3e-2}, times=[0.05]).sum().backward()
    assert all(p.grad is not None for p in model.network.parameters())
    model.zero_grad()
