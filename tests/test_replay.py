"""Laws of the replay pool: places keep their order, trajectories begin anew when they must, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pihc_zoo.learning.replay import ReplayPool

SIZE, BOUND = 8, 100.0


@pytest.fixture
def draw():
    """States whose first value counts the draws from 0, and the parameter that belongs to it: half of it."""
    drawn = iter(range(1000))

    def sample(count, rng):
        rng.uniform()  # a family moves the generator
        ids = np.array([next(drawn) for _ in range(count)], dtype=np.float64)
        return torch.as_tensor(ids)[:, None, None] * torch.ones(1, 2, 3, dtype=torch.float64), {"nu": ids / 2}

    return sample


@pytest.fixture
def pool(draw):
    return lambda num_windows=4, restart=0.0: ReplayPool(
        draw, SIZE, num_windows, BOUND, restart, np.random.default_rng(0)
    )


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def firsts(pool):
    return pool.states[:, 0, 0].tolist()


def test_a_batch_is_of_different_places_with_their_states_and_parameters(pool, rng):
    own = pool()
    places, states, parameters = own.take(5, rng)
    assert len(set(places.tolist())) == 5
    assert torch.equal(states, own.states[places]) and torch.equal(parameters["nu"], states[:, 0, 0] / 2)


def test_end_states_go_back_in_their_places_and_the_others_stay(pool, rng):
    own = pool()
    places, states, _ = own.take(3, rng)
    before = own.states.clone()
    assert own.put(places, states + 0.25, rng) == 0
    others = [i for i in range(SIZE) if i not in places.tolist()]
    assert torch.equal(own.states[places], before[places] + 0.25) and torch.equal(own.states[others], before[others])
    assert own.ages[places].tolist() == [1, 1, 1] and own.ages[others].sum() == 0


def test_a_trajectory_begins_anew_after_its_last_window_with_its_own_parameters(pool, rng):
    own = pool(num_windows=3)
    places = torch.tensor([6, 2])
    for _ in range(2):
        own.put(places, own.states[places], rng)
    assert own.ages[places].tolist() == [2, 2] and firsts(own) == list(range(SIZE))
    own.put(places, own.states[places], rng)
    assert own.ages.tolist() == [0] * SIZE
    assert firsts(own) == [0, 1, SIZE + 1, 3, 4, 5, SIZE, 7]  # drawn in the order of the batch
    assert torch.equal(own.parameters["nu"], own.states[:, 0, 0] / 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), BOUND, -BOUND - 1])
def test_states_that_left_the_range_or_are_not_finite_are_replaced_and_counted(pool, rng, bad):
    own = pool()
    places = torch.tensor([5, 0, 3])
    states = own.states[places].clone()
    states[1, 1, 2] = bad
    assert own.put(places, states, rng) == 1
    assert firsts(own) == [SIZE, 1, 2, 3, 4, 5, 6, 7] and torch.isfinite(own.states).all()
    assert own.ages.tolist() == [0, 0, 0, 1, 0, 1, 0, 0]
    assert own.parameters["nu"].tolist() == [SIZE / 2, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]


def test_random_beginnings_come_as_often_as_asked(pool, rng):
    own, places = pool(num_windows=10**6, restart=0.25), torch.arange(SIZE)
    begun = 0
    for _ in range(100):
        own.put(places, own.states[places].clamp(max=BOUND / 2), rng)
        begun += int((own.ages == 0).sum())
    assert abs(begun / (100 * SIZE) - 0.25) < 0.05


def test_states_carry_no_gradients(pool, rng):
    own = pool()
    places, states, _ = own.take(2, rng)
    own.put(places, states.requires_grad_() * 1.0, rng)
    assert not own.states.requires_grad


def test_a_restored_pool_goes_on_as_the_first(pool, draw):
    first = pool(num_windows=3, restart=0.2)

    def go_on(pool, seeds):
        for seed in seeds:
            rng = np.random.default_rng(seed)
            places, states, _ = pool.take(3, rng)
            pool.put(places, states * 0.5, rng)

    go_on(first, range(4))
    kept = {key: value.clone() for key, value in first.tensors().items()}
    assert set(kept) == {"states", "ages", "c_nu"}

    def random(count, rng):
        return torch.as_tensor(rng.uniform(size=(count, 2, 3))), {"nu": rng.uniform(size=count)}

    first.draw = random
    second = ReplayPool(random, SIZE, 3, BOUND, 0.2, np.random.default_rng(9))
    second.restore(kept)
    go_on(first, range(4, 12))
    go_on(second, range(4, 12))
    for key, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[key]), key
