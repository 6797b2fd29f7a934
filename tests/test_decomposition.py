"""Laws of decompositions: partition, merge, partition of unity, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.decomposition import DECOMPOSITIONS, Disjoint, Joint, Overlapping, smooth_step
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis

GRID = Grid(RadauAxis(500.0, 4, 2), {"x": GradedAxis(32, 0.0, 1.0)})
COUNTS = [{}, {"x": 1}, {"x": 2}, {"x": 4}, {"t": 2}, {"x": 4, "t": 2}]


def make(cls, counts):
    return cls(counts, overlap=2) if cls is Overlapping else cls(counts)


@pytest.fixture(params=[(cls, counts) for cls in DECOMPOSITIONS.values() for counts in COUNTS], ids=str)
def decomposition(request):
    return make(*request.param)


def test_the_windows_sum_to_one(decomposition):
    windows = decomposition.partition_of_unity(GRID)
    assert windows.shape == (decomposition.num_experts, *GRID.shape)
    assert_allclose(windows.sum(axis=0), 1.0, rtol=0, atol=1e-15)
    assert (windows >= 0).all()


def test_merge_inverts_partition(decomposition):
    """Exactly for sharp windows; to rounding where the blending weights add."""
    field = torch.randn(3, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    windows = decomposition.subdomains(GRID)
    local = windows.take(field)
    assert local.shape == (3 * decomposition.num_experts, *windows.local_shape)
    is_sharp = isinstance(decomposition, Disjoint) or decomposition.num_experts == 1
    assert_close(windows.merge(local), field, rtol=0, atol=0 if is_sharp else 1e-14)


def test_every_window_lies_in_its_box(decomposition):
    """Nothing of ψ_k is cut off: the blending weights in the boxes are all of them."""
    windows = decomposition.subdomains(GRID)
    assert_allclose(windows.blending.sum(), decomposition.partition_of_unity(GRID).sum(), rtol=1e-14)


def test_experts_are_ordered_by_trajectory_then_axis():
    """take puts the windows of one trajectory next to each other, the last axis fastest."""
    windows = Disjoint({"t": 2, "x": 4}).subdomains(GRID)
    t, x = np.meshgrid(np.arange(8), np.arange(32), indexing="ij")
    expert = torch.as_tensor((t // 4) * 4 + x // 8).double()
    field = torch.stack([expert, expert + 100])
    local = windows.take(field).flatten(1)
    assert (local == torch.cat([torch.arange(8), torch.arange(8) + 100])[:, None]).all()


def test_take_keeps_the_middle_dimensions():
    field = torch.randn(2, 3, 5, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    windows = Overlapping({"x": 4}, overlap=2).subdomains(GRID)
    together = windows.take(field)
    assert_close(together[:, 1, 4], windows.take(field[:, 1, 4]), rtol=0, atol=0)


def test_disjoint_windows_are_indicators():
    windows = Disjoint({"x": 4}).partition_of_unity(GRID)
    assert set(np.unique(windows)) == {0.0, 1.0}
    assert (windows.reshape(4, -1).sum(axis=1) == 8 * 8).all()


@pytest.mark.parametrize("cls", [Overlapping, Joint])
def test_blended_windows_are_smooth_across_faces(cls):
    """No jump: halving the node distance halves the largest step of a window."""
    steps = []
    for num_nodes in (64, 128):
        grid = Grid(GRID.time, {"x": GradedAxis(num_nodes, 0.0, 1.0)})
        decomposition = cls({"x": 2}, overlap=num_nodes // 8) if cls is Overlapping else cls({"x": 2})
        steps.append(np.abs(np.diff(decomposition.partition_of_unity(grid)[:, 0], axis=-1)).max())
    assert_allclose(steps[0] / steps[1], 2.0, rtol=0.05)


# ------------------------------------------------------------------ periodic axes


def periodic(num_nodes=48):
    return Grid(RadauAxis(1.0, 1, 8), {"x": FourierAxis(num_nodes), "y": FourierAxis(16)})


PERIODIC_COUNTS = [{}, {"x": 1}, {"x": 2}, {"x": 3, "y": 2}, {"x": 4, "t": 2}]


@pytest.fixture(params=[(cls, counts) for cls in DECOMPOSITIONS.values() for counts in PERIODIC_COUNTS], ids=str)
def around(request):
    """A decomposition of a periodic grid."""
    return make(*request.param)


def test_periodic_windows_sum_to_one_and_merge_what_they_took(around):
    grid = periodic()
    windows = around.partition_of_unity(grid)
    assert windows.shape == (around.num_experts, *grid.shape) and (windows >= 0).all()
    assert_allclose(windows.sum(axis=0), 1.0, rtol=0, atol=1e-15)
    boxes = around.subdomains(grid)
    assert_allclose(boxes.blending.sum(), windows.sum(), rtol=1e-13)
    field = torch.randn(2, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert_close(boxes.merge(boxes.take(field)), field, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cls", DECOMPOSITIONS.values())
@pytest.mark.parametrize("count", [2, 3, 4])
def test_periodic_windows_are_shifts_of_one_another(cls, count):
    """No window is special: none ends at the seam."""
    bumps = make(cls, {"x": count}).bumps(48, count, is_periodic=True)
    for k in range(count):
        assert_allclose(bumps[k], np.roll(bumps[0], k * 48 // count), rtol=0, atol=1e-15)


@pytest.mark.parametrize("cls", [Overlapping, Joint])
@pytest.mark.parametrize("count", [2, 4])
def test_blended_periodic_windows_are_smooth_across_the_seam(cls, count):
    """Second differences around the whole circle fall with the square of the node distance, as of a C² function."""
    sizes = []
    for num_nodes in (64, 128, 256):
        split = cls({"x": count}, overlap=num_nodes // 16) if cls is Overlapping else cls({"x": count})
        bumps = split.bumps(num_nodes, count, is_periodic=True)
        around = np.concatenate([bumps[:, -1:], bumps, bumps[:, :1]], axis=1)
        sizes.append(np.abs(np.diff(around, n=2, axis=1)).max())
    assert (np.divide(sizes[:-1], sizes[1:]) > 3.5).all(), sizes


def test_smooth_step_joins_with_two_derivatives():
    h = 1e-3
    assert smooth_step(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert smooth_step(np.array([h]))[0] < 11 * h**3


@pytest.mark.parametrize("cls", DECOMPOSITIONS.values())
def test_counts_that_do_not_divide_are_refused(cls):
    grid = Grid(RadauAxis(500.0, 5, 5), {"x": GradedAxis(64, 0.0, 1.0)})
    with pytest.raises(
        ValueError, match="axis 'x' has 64 points, not divisible into 5 subdomains; choose a divisor of 64"
    ):
        make(cls, {"x": 5}).check(grid)


@pytest.mark.parametrize("cls", DECOMPOSITIONS.values())
@pytest.mark.parametrize("count", [0, -2, 2.0, "2"])
def test_counts_are_positive_integers(cls, count):
    with pytest.raises(ValueError, match="must be a positive integer"):
        make(cls, {"x": count}).check(GRID)


@pytest.mark.parametrize("cls", DECOMPOSITIONS.values())
def test_unknown_axes_are_refused_with_the_known_ones(cls):
    with pytest.raises(ValueError, match="no axis 'y' to decompose; the grid has t, x"):
        make(cls, {"y": 2}).partition_of_unity(GRID)


@pytest.mark.parametrize("overlap", [0, 1.5, 5])
def test_overlaps_fit_their_subdomains(overlap):
    with pytest.raises(ValueError, match="overlap"):
        Overlapping({"x": 4}, overlap=overlap).check(GRID)
