"""How `predict` computes: passes of bounded size, without estimate, in single precision, with progress, for tensors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.prediction.predict import Inference

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.general")


@pytest.fixture(scope="module")
def u0(model):
    return pz.sample(model, 7)[0]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_passes_of_any_size_give_the_same_answers(model, u0, size, monkeypatch):
    sizes, real = [], Inference.answer
    monkeypatch.setattr(Inference, "answer", lambda self, u, c: sizes.append(len(u)) or real(self, u, c))
    found, whole = model.predict(u0, batch_size=size), model.predict(u0)
    assert max(sizes[:-1]) == min(size, 7) and sum(sizes[:-1]) == 7
    assert_allclose(found.u, whole.u, rtol=0, atol=1e-7)
    assert_allclose(found.estimated_error, whole.estimated_error, rtol=1e-4)
    assert_allclose(found.residual_field, whole.residual_field, rtol=0, atol=1e-6)


def test_bad_input_stays_where_it_is(model, u0):
    spoilt = u0.copy()
    spoilt[2] = np.nan
    found, whole = model.predict(spoilt, batch_size=2), model.predict(u0)
    assert np.isnan(found.u[2]).all() and not found.converged[2].any()
    kept = [0, 1, 3, 4, 5, 6]
    assert_allclose(found.u[kept], whole.u[kept], rtol=0, atol=1e-7)


def test_where_memory_runs_out_passes_get_smaller(model, u0, monkeypatch):
    tried, real = [], Inference.answer

    def answer(self, u, c):
        tried.append(len(u))
        if len(u) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return real(self, u, c)

    monkeypatch.setattr(Inference, "answer", answer)
    found = model.predict(u0, batch_size=7)
    assert tried == [7, 4, 2, 2, 2, 1]
    monkeypatch.undo()
    assert_allclose(found.u, model.predict(u0).u, rtol=0, atol=1e-7)


def test_memory_that_does_not_suffice_for_one_is_said(model, u0, monkeypatch):
    def answer(self, u, c):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Inference, "answer", answer)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        model.predict(u0)


@pytest.mark.parametrize("name", ["diffusion-sorption.general", "burgers-1d.viscous"])
def test_without_an_estimate_nothing_is_called_reliable(name):
    own = pz.from_pretrained(name)
    fields = pz.sample(own, 2)[0]
    with_estimate, without = own.predict(fields, polish=False), own.predict(fields, polish=False, estimate=False)
    assert_array_equal(without.u, with_estimate.u)
    assert_array_equal(without.residual, with_estimate.residual)
    assert np.isnan(without.estimated_error).all() and np.isnan(without.estimated_error_field).all()
    assert not without.is_reliable.any()
    assert all("estimate=False" in message for message in without.messages)


@pytest.mark.parametrize("dtype", [np.float32, torch.float32, "float32"])
def test_answers_in_single_precision(model, u0, dtype):
    single, double = model.predict(u0[:2], dtype=dtype), model.predict(u0[:2])
    assert single.u.dtype == np.float32 and double.u.dtype == np.float64
    assert_array_equal(single.u, double.u.astype(np.float32))
    assert single.residual_field.dtype == np.float32 and single.residual.dtype == np.float64
    assert model.predict(torch.as_tensor(u0[:2]), dtype=dtype).u.dtype == torch.float32


def test_progress_is_shown_where_asked_for(model, u0, capfd):
    model.predict(u0[:2])
    assert capfd.readouterr().err == ""
    model.predict(u0[:2], progress=True)


def test_a_tensor_is_not_taken_through_numpy(model, u0, monkeypatch):
    """What is computed with is the caller's tensor, where it is on the model's device."""
    given, seen, real = torch.as_tensor(u0[:3], dtype=torch.float32), [], Inference.answer
    monkeypatch.setattr(Inference, "answer", lambda self, u, c: seen.append(u) or real(self, u, c))
    out = model.predict(given)
    assert torch.equal(seen[0], given.double()) and out.u.device == given.device
    assert_allclose(out.u.numpy(), model.predict(given.numpy()).u, rtol=0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_tensor_on_a_gpu_stays_there(u0):
    out = pz.from_pretrained("diffusion-sorption.general", device="cuda").predict(torch.as_tensor(u0, device="cuda"))
    assert out.u.is_cuda and out.estimated_error.is_cuda


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"batch_size": 2.0}, "batch_size must be a positive integer"),
        ({"dtype": "float16"}, "dtype must be float32 or float64"),
        ({"estimate": None}, "estimate must be True or False"),
    ],
)
def test_what_cannot_be_is_refused(model, u0, options, message):
    with pytest.raises(ValueError, match=message):
        model.predict(u0, **options)


MEMORY = """
import resource, warnings, numpy as np, torch, pihc_zoo as pz
warnings.simplefilter("ignore")
torch.set_num_threads(1)
model = pz.from_pretrained("diffusion-sorption.general")
own = pz.sample(model, 16)[0]
for count in (64, 256):
    out = model.predict(np.resize(own, (count, 1024)), dtype="float32")
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - out.u.nbytes)
    del out
"""


def test_memory_beyond_the_answer_is_bounded():
    """Extrapolated from two batches, the smaller one first: 4096 trajectories in 2 GB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    (few, at_few), (many, at_many) = (map(int, line.split()) for line in done.stdout.splitlines())
    slope = (at_many - at_few) / (many - few)
    assert at_few + slope * (4096 - few) < 2e9, f"{slope / 1e3:.0f} kB a trajectory"
