"""Laws of training over several processes: as many as one likes do what one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import training_cases as cases
from numpy.testing import assert_allclose
from processes import Job

from pihc_zoo.learning.mesh import Mesh

MESHES = {"data=2": 2, "expert=2": 2, "data=2,expert=2": 4}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process does, by case."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: cases.recorded(case, folder / str(i)) for i, case in enumerate(cases.CASES)}


@pytest.fixture(scope="module", params=MESHES)
def together(request, tmp_path_factory):
    """A mesh, a folder, and what several processes did: rank → arrays, by case."""
    folder, mesh = tmp_path_factory.mktemp("together"), Mesh.parse(request.param, MESHES[request.param])
    codes, said = Job(folder, MESHES[request.param], cases.main, folder, request.param).end()
    assert set(codes) == {0} and not said
    found = {}
    for number, case in enumerate(cases.CASES):
        if cases.serves(case, mesh):
            found[case] = [dict(np.load(folder / f"{number}-{rank}.npz")) for rank in range(MESHES[request.param])]
    return mesh, folder, found


def test_several_processes_do_what_one_does(alone, together):
    """Loss, unsolved subproblems, coefficients and weights after every step; a batch of 5 or 3 in two shares."""
    mesh, _, found = together
    assert len(found) >= 4
    for case, ranks in found.items():
        one = alone[case]
        rtol = 1e-6 if case == "shipped" else 1e-10
        for rank, arrays in enumerate(ranks):
            size = abs(one["weights"]).max()
            assert_allclose(arrays["loss"], one["loss"], rtol=rtol, err_msg=case)
            assert_allclose(arrays["weights"], one["weights"], rtol=rtol, atol=rtol * size, err_msg=case)
            assert np.array_equal(arrays["unsolved"], one["unsolved"]), case
            assert np.array_equal(arrays["weights"], ranks[0]["weights"]), case  # bit for bit among themselves
            assert np.array_equal(arrays["final"], ranks[0]["final"]), case
            places = arrays["places"]
            assert list(places) == list(mesh.share(len(one["places"]), rank // mesh.expert))
            own = one["coefficients"][:, places]
            assert_allclose(arrays["coefficients"], own, rtol=rtol, atol=rtol * abs(own).max(), err_msg=case)
        assert_allclose(ranks[0]["final"], one["final"], rtol=rtol, atol=rtol * abs(one["final"]).max(), err_msg=case)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("mesh", ["data=2", "expert=2"])
def test_two_gpus_do_what_one_cpu_does(alone, tmp_path, mesh):
    codes, said = Job(tmp_path, 2, cases.main, tmp_path, mesh, "cuda").end()
    assert set(codes) == {0} and not said
    for number, case in enumerate(cases.CASES):
        if cases.serves(case, Mesh.parse(mesh, 2)):
            final, one = np.load(tmp_path / f"{number}-0.npz")["final"], alone[case]["final"]
            assert_allclose(final, one, rtol=1e-5, atol=1e-6 * abs(one).max(), err_msg=case)


def test_the_cases_are_what_they_say(alone):
    assert 0 < alone["experts that do not converge"]["unsolved"][0] < 10
    assert alone["disjoint, pointwise rows"]["unsolved"].max() == 0


def test_bytes_on_the_wire_are_those_of_the_gradient_and_the_coefficients(together):
    """Eight bytes a weight, and for six sums; where experts are shared their solutions, and in sweeps the adjoint."""
    mesh, _, found = together
    for case, ranks in found.items():
        sweeps = 2 if "two sweeps" in case else 1
        for rank, arrays in enumerate(ranks):
            _, trajectories, experts, size = arrays["coefficients"].shape
            gradient, gathered, adjoint = 8 * (arrays["weights"].shape[1] + 6), 0, 0
            if mesh.expert > 1:
                own = trajectories * experts // mesh.expert
                gathered = sweeps * 8 * own * (size + 4)
                adjoint = (sweeps - 1) * 8 * trajectories * experts * size
            assert (arrays["allreduce_"] == gradient + adjoint).all(), (case, rank)
            assert (arrays["allgather_"] == gathered).all(), (case, rank)
            counted = arrays["counted"][1:]  # the first has the inputs' scale, told to all
            assert (counted == gradient + gathered + adjoint).all(), (case, rank)
