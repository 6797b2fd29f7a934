"""Laws of the replay pool: places keep their slots, trajectories begin anew when they must, nothing is lost."""

from __future__ import annotations

import pytest
import torch

from pihc_zoo.learning.draws import KeyedDraws, Purpose
from pihc_zoo.learning.replay import ReplayPool

BATCH, SLOTS, BOUND = 4, 2, 100.0


class Counted:
    """States and a parameter that say whence they come: 10 · step + place, and half of it."""

    def draws(self, step, places, purpose):
        return KeyedDraws(5, step, places, purpose)

    def __call__(self, step, places, purpose=Purpose.BATCH):
        values = (10 * step + places).double()
        return values[:, None, None] * torch.ones(1, 2, 3, dtype=torch.float64), {"nu": values / 2}


@pytest.fixture
def pool():
    def make(num_windows=4, restart=0.0, places=range(BATCH), size=BATCH * SLOTS, source=None):
        places = torch.tensor(list(places))
        return ReplayPool(source or Counted(), places, BATCH, size, num_windows, BOUND, restart)

    return make


def firsts(pool):
    return pool.states[:, :, 0, 0].tolist()


def test_every_place_has_slots_of_its_own_with_their_parameters(pool):
    own = pool()
    assert firsts(own) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert torch.equal(own.parameters["nu"], own.states[:, :, 0, 0] / 2)
    taken = []
    for step in range(40):
        states, parameters = own.take(step)
        assert [int(state[0, 0]) % BATCH for state in states] == [0, 1, 2, 3]
        assert torch.equal(parameters["nu"], states[:, 0, 0] / 2)
        taken += [float(state[0, 0]) for state in states]
    assert set(taken) == set(range(BATCH * SLOTS))  # all of them, in time


@pytest.mark.parametrize(("size", "slots"), [(4, 1), (5, 2), (8, 2), (9, 3)])
def test_there_are_at_least_as_many_slots_as_asked_for(pool, size, slots):
    assert pool(size=size).states.shape == (BATCH, slots, 2, 3)


def test_end_states_go_back_into_their_slots_and_the_others_stay(pool):
    own = pool()
    before, (states, _) = own.states.clone(), own.take(3)
    assert not own.put(3, states + 0.25).any()
    is_taken = own.ages == 1
    assert is_taken.sum(dim=1).tolist() == [1] * BATCH and own.ages.sum() == BATCH
    assert torch.equal(own.states, before + 0.25 * is_taken[..., None, None])
    assert torch.equal(own.take(3)[0], states + 0.25)


def test_a_trajectory_begins_anew_after_its_last_window_with_its_own_parameters(pool):
    own = pool(num_windows=3, size=BATCH)
    for step in (1, 2):
        own.put(step, own.take(step)[0])
    assert own.ages[:, 0].tolist() == [2] * BATCH and firsts(own) == [[0], [1], [2], [3]]
    own.put(3, own.take(3)[0])
    assert own.ages.sum() == 0 and firsts(own) == [[30], [31], [32], [33]]  # drawn for this step and place
    assert torch.equal(own.parameters["nu"], own.states[:, :, 0, 0] / 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), BOUND, -BOUND - 1])
def test_states_that_left_the_range_or_are_not_finite_are_replaced_and_told(pool, bad):
    own = pool(size=BATCH)
    states = own.take(1)[0].clone()
    states[2, 1, 2] = bad
    assert own.put(1, states).tolist() == [False, False, True, False]
    assert firsts(own) == [[0], [1], [12], [3]] and torch.isfinite(own.states).all()
    assert own.ages[:, 0].tolist() == [1, 1, 0, 1]
    assert own.parameters["nu"][:, 0].tolist() == [0, 0.5, 6, 1.5]


def test_random_beginnings_come_as_often_as_asked(pool):
    own, begun = pool(num_windows=10**6, restart=0.25, size=BATCH), 0
    for step in range(250):
        own.put(step, own.take(step)[0].clamp(max=BOUND / 2))
        begun += int((own.ages == 0).sum())
    assert abs(begun / (250 * BATCH) - 0.25) < 0.05


def test_states_carry_no_gradients(pool):
    own = pool()
    own.put(1, own.take(1)[0].requires_grad_() * 1.0)
    assert not own.states.requires_grad


def go_on(pool, steps):
    for step in steps:
        pool.put(step, pool.take(step)[0] * 0.5 + 1)


def test_a_restored_pool_goes_on_as_the_first(pool):
    first, second = pool(num_windows=3, restart=0.2), pool(num_windows=3, restart=0.2)
    go_on(first, range(4))
    kept = {key: value.clone() for key, value in first.tensors().items()}
    assert set(kept) == {"states", "ages", "c_nu"}
    second.restore(kept)
    go_on(first, range(4, 12))
    go_on(second, range(4, 12))
    for key, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[key]), key


def test_shares_of_a_pool_are_the_pool(pool):
    """Whoever holds the slots of some places does with them what one process does with all."""
    whole, parts = pool(3, 0.2), [pool(3, 0.2, places) for places in (range(0, 1), range(1, 4))]
    for own in (whole, *parts):
        go_on(own, range(12))
    for key, value in whole.tensors().items():
        assert torch.equal(value, torch.cat([part.tensors()[key] for part in parts])), key
