"""Laws of keyed draws: the published generator, no dependence on who draws, the families' own distributions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import ive
from scipy.stats import ks_2samp, kstest

from pihc_zoo.families import FAMILIES, Domain, Family, PeriodicGaussianProcess, RandomWaves
from pihc_zoo.learning.draws import KeyedDraws, Purpose, Source, philox
from pihc_zoo.problems import DiffusionSorption


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_generator_gives_the_published_numbers(counter, key, words):
    """Known answers of Random123 for philox4x32-10."""
    found = philox([torch.tensor([number]) for number in counter], key)
    assert " ".join(f"{int(word):08x}" for word in found) == words


def source(family, seed=3, inputs=("D", "n_f")):
    number = 2 if family.is_periodic and 2 in family.num_axes else 1
    axes = [np.arange(24) / 24] * number
    return Source(family, axes, DiffusionSorption(), inputs, seed, Domain.unit(*[family.is_periodic] * number))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_share_of_a_batch_is_that_share_of_it(name):
    draw = source(FAMILIES[name]())
    assert draw.family.is_vectorised
    whole, c = draw(5, torch.arange(7))
    for places in (range(0, 3), range(3, 7), (6, 1)):
        u, own = draw(5, torch.tensor(list(places)))
        assert torch.equal(u, whole[list(places)]) and whole.dtype == torch.float64
        assert all(torch.equal(own[key], c[key][list(places)]) for key in c)
    others = [draw(6, torch.arange(7))[0], draw(5, torch.arange(7), Purpose.FRESH)[0]]
    others.append(source(FAMILIES[name](), seed=4)(5, torch.arange(7))[0])
    assert not any(torch.equal(other, whole) for other in others)


@pytest.mark.parametrize("name", FAMILIES)
def test_keyed_fields_are_distributed_as_the_family_is(name):
    """Values at two points, their difference and the parameters, of 400 fields; Kolmogorov and Smirnov."""
    draw, count = source(FAMILIES[name]()), 400
    keyed = draw(0, torch.arange(count))[0].numpy().reshape(count, -1)
    drawn = draw.family.sample(count, list(draw.axes), np.random.default_rng(1)).reshape(count, -1)
    for statistic in (lambda u: u[:, 3], lambda u: u[:, 8] - u[:, 3], lambda u: u.max(axis=1)):
        assert ks_2samp(statistic(keyed).round(12), statistic(drawn).round(12)).pvalue > 1e-3


def test_keyed_numbers_are_uniform_normal_and_independent():
    draws = KeyedDraws(1, 2, torch.arange(2000))
    u, z, k = draws.uniform(2.0, 5.0, 3), draws.normal(3), draws.integers(1, 5, 3)
    assert kstest(u.flatten(), "uniform", (2, 3)).pvalue > 1e-3 and kstest(z.flatten(), "norm").pvalue > 1e-3
    assert_allclose(np.bincount(k.long().flatten())[1:] / k.numel(), 0.25, atol=0.02)
    columns = torch.cat([u, z, k], dim=1).numpy()
    assert abs(np.corrcoef(columns.T) - np.eye(9)).max() < 0.1


def test_bessel_functions_are_scipys():
    numbers = np.concatenate([[0], np.arange(1, 40), np.arange(1, 40)])
    z = torch.tensor([1e-2, 0.17, 1.6, 20.0, 100.0], dtype=torch.float64)
    found = KeyedDraws(0, 0, torch.arange(5)).scaled_bessel(numbers, z)
    assert_allclose(found, ive(numbers, z.numpy()[:, None]), rtol=1e-11)


@dataclass(frozen=True)
class Own(Family):
    """A family of one's own, in numpy alone."""

    def draw(self, count, axes, rng):
        return rng.uniform(size=(count, 1)) * axes[0]


@dataclass(frozen=True)
class Other(RandomWaves):
    """A subclass whose fields are not its parent's."""

    def draw(self, count, axes, rng):
        return np.full((count, len(axes[0])), rng.uniform())


@pytest.mark.parametrize("cls", [Own, Other])
def test_families_in_numpy_are_drawn_place_by_place(cls):
    draw = source(cls())
    assert not cls().is_vectorised
    whole, _ = draw(1, torch.arange(4))
    assert torch.equal(draw(1, torch.tensor([2]))[0], whole[2:3]) and len(whole[:, 1].unique()) == 4


def test_a_family_that_does_not_serve_the_axes_says_so():
    draw = Source(RandomWaves(), [np.arange(8) / 8] * 2, DiffusionSorption(), (), 0)
    with pytest.raises(ValueError, match="RandomWaves draws fields on 1 axes, got positions on 2"):
        draw(0, torch.arange(2))


@pytest.mark.gpu
def test_a_gpu_draws_what_a_cpu_draws():
    draw = source(PeriodicGaussianProcess(shortest=0.4, longest=1.2))
    ours, c = draw(3, torch.arange(5))
    theirs, d = source(draw.family)(3, torch.arange(5, device="cuda"))
    assert theirs.is_cuda and d["D"].is_cuda
    assert_allclose(theirs.cpu(), ours, rtol=1e-12, atol=1e-12)
    assert_allclose(d["D"].cpu(), c["D"], rtol=1e-14)
