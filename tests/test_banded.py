"""Laws of inverses by blocks: they are those of LAPACK, for whatever lies near the diagonal."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.grid import GradedAxis
from pihc_zoo.solvers.banded import Banded


def pattern(n, reach):
    """Diagonals, and ends that reach further, as stencils beside walls do."""
    place = torch.arange(n)
    near = (place[:, None] - place).abs() <= reach
    near[0, : reach + 2] = near[-1, -reach - 2 :] = True
    return near


def matrices(n, near, dtype, *batch):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*batch, n, n, dtype=dtype, generator=generator) * near + 5 * torch.eye(n, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("reach", [1, 2])
@pytest.mark.parametrize("n", [20, 31, 40, 53, 64])
def test_it_is_the_inverse(n, reach, dtype):
    near = pattern(n, reach)
    matrix = matrices(n, near, dtype, 3, 2)
    cuts = Banded.of(near)
    assert cuts.count == round(n / 10) and cuts.reach == reach
    before = matrix.clone()
    assert_close(cuts.inverse(matrix), torch.linalg.inv(matrix), rtol=1e-12, atol=1e-13)
    assert_close(matrix, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "near",
    [torch.ones(40, 40, dtype=torch.bool), pattern(40, 9), pattern(12, 1), torch.eye(40).bool().roll(30, 1)],
    ids=["full", "wide", "small", "far from the diagonal"],
)
def test_others_are_inverted_whole(near):
    cuts, n = Banded.of(near), len(near)
    matrix = matrices(n, near, torch.float64, 2)
    assert cuts == Banded() and cuts.count == 1
    assert_close(cuts.inverse(matrix), torch.linalg.inv(matrix), rtol=0, atol=0)


def test_blocks_that_nothing_couples():
    near = torch.block_diag(*[torch.ones(10, 10)] * 4).bool()
    matrix = matrices(40, near, torch.float64, 2)
    assert_close(Banded.of(near).inverse(matrix), torch.linalg.inv(matrix), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("peclet", [0.0, 10.0, 300.0])
def test_steep_operators_lose_no_digits(peclet):
    """λ − u_xx + Pe u_x on graded nodes: what is lost is what LAPACK loses, whose condition numbers reach 1e6."""
    axis = GradedAxis(48, 0.0, 1.0, grading=2.0)
    first, second = (torch.as_tensor(axis.differentiation(order)[:, 1:-1]) for order in (1, 2))
    for value in (1e-3, 10.0, 1e4):
        matrix = value * torch.eye(48, dtype=torch.float64) - second + peclet * first
        found = Banded.of(matrix != 0).inverse(matrix[None])[0]
        own, lapacks = ((matrix @ inverse - torch.eye(48)).abs().max() for inverse in (found, torch.linalg.inv(matrix)))
        assert own <= 20 * lapacks + 1e-12


def test_what_is_not_finite_stays_so_alone():
    near = pattern(30, 2)
    matrix = matrices(30, near, torch.float64, 3)
    matrix[1, 4, 5] = torch.nan
    found = Banded.of(near).inverse(matrix)
    assert found[1].isnan().any()
    assert_close(found[::2], torch.linalg.inv(matrix[::2]), rtol=1e-12, atol=1e-13)


def test_it_is_differentiable():
    near = pattern(21, 1)
    matrix = matrices(21, near, torch.float64, 1)
    entries = near.nonzero().T
    values = matrix[0][near].clone().requires_grad_()

    def own(values):
        return Banded.of(near).inverse(torch.zeros(21, 21, dtype=torch.float64).index_put(tuple(entries), values))[::7]

    assert torch.autograd.gradcheck(own, (values,), atol=1e-6)
