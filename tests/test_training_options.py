"""Laws of parts of a batch, averages, logs and profiles, and that training neither races nor waits for a device."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import torch
from processes import Job
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from training_cases import CASES, _bounded, _roll_out

from pihc_zoo.learning.step import FlatGradient
from training import loop
from training.log import Log
from training.profile import Profile
from training.references import ReferenceSet, SharedReferences
from training.run import prepare


def weights(model):
    return torch.cat([value.detach().flatten() for value in model.network.state_dict().values()])


@pytest.mark.parametrize("make", [_bounded, _roll_out])
def test_parts_of_a_batch_one_after_the_other_are_the_batch(tmp_path, make):
    models = [loop.advance(prepare(make(), tmp_path / str(parts), parts=parts), quiet=True) for parts in (1, 2, 3)]
    for model in models[1:]:
        assert_close(weights(model), weights(models[0]), rtol=1e-9, atol=1e-11)


def test_the_average_is_kept_validated_and_survives_an_interrupt(tmp_path, monkeypatch, interrupted_after):
    """θ̄ ← θ̄ + (1 − d)(θ − θ̄) with d = min(ema, (1 + k)/(10 + k)), by hand; resumed as unbroken."""
    recipe, seen = _bounded({"ema": 0.5, "steps": 4, "validate_every": 2}), []

    class References:
        def errors(self, model):
            seen.append(weights(model))
            return np.zeros(2)

    run = prepare(recipe, tmp_path / "straight")
    steps, take_step = [weights(run.model)], loop.take_step

    def noted(own, *rest):
        answer = take_step(own, *rest)
        steps.append(weights(own.model).clone())
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", noted)
        straight = weights(loop.advance(run, References(), quiet=True))
    average = steps[0]
    for k, theta in enumerate(steps[1:]):
        average = average + (1 - min(0.5, (1 + k) / (10 + k))) * (theta - average)
        if k in (1, 3):
            assert_close(seen[k // 2], average, rtol=1e-12, atol=1e-14)
    assert_close(straight, average, rtol=1e-12, atol=1e-14)

    with interrupted_after(loop, 3), pytest.raises(KeyboardInterrupt):
        loop.advance(prepare(recipe, tmp_path / "broken"), quiet=True)
    assert torch.equal(weights(loop.advance(prepare(recipe, tmp_path / "broken"), quiet=True)), straight)


@pytest.mark.parametrize("case", ["disjoint, pointwise rows", "roll-out, overlapping in two sweeps, replay pool"])
def test_resumed_runs_of_independent_experts_equal_unbroken_ones_bit_for_bit(tmp_path, interrupted_after, case):
    make, parts = CASES[case]
    straight = weights(loop.advance(prepare(make(), tmp_path / "straight", parts=parts), quiet=True))
    with interrupted_after(loop, 2), pytest.raises(KeyboardInterrupt):
        loop.advance(prepare(make(), tmp_path / "broken", parts=parts), quiet=True)
    assert torch.equal(weights(loop.advance(prepare(make(), tmp_path / "broken", parts=parts), quiet=True)), straight)


class Refused(TorchDispatchMode):
    """Fails on operations whose name holds one of ``parts``."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        if any(part in str(function) for part in self.parts) and not _is_single(str(function), arguments, options):
            raise AssertionError(f"{function} in a training step")
        return function(*arguments, **options)


def _is_single(name, arguments, options):
    """Whether an index_put writes every number once."""
    if "index_put" not in name:
        return False
    if not (options.get("accumulate") or (len(arguments) > 3 and arguments[3])):
        return True
    places = [index for index in arguments[1] if index is not None]
    return len(places) == 1 and len(places[0].unique()) == places[0].numel()


@pytest.mark.parametrize("case", [name for name in CASES if name != "shipped"])
def test_nothing_in_a_step_adds_from_many_threads_to_one_number(tmp_path, case):
    """What CUDA does by atomics, in an order that changes from run to run."""
    make, parts = CASES[case]
    run = prepare(make(), tmp_path, parts=parts)
    with Refused("index_add", "scatter_add", "scatter_reduce", "index_put", "put_", "bincount", "histc", "embedding"):
        loop.advance(run, quiet=True)


@pytest.mark.parametrize("case", ["joint", "roll-out, one solve, replay pool"])
def test_the_loop_asks_the_device_nothing_between_two_lines_of_the_log(tmp_path, case):
    """Draws, pool, sums, update and average; the model's own passes are not looked at here."""
    make, parts = CASES[case]
    run = prepare(make(), tmp_path, parts=parts)
    run.gradient.values.normal_()
    run.gradient.sums[:2] = 1.0
    run.optimiser.step = lambda: None  # Adam counts its steps on the host
    with Refused("_local_scalar_dense", "nonzero", "is_nonzero", "aten.equal", "unique"):
        for step in range(3):
            if run.pool is None:
                run.source(step, run.places)
            else:
                run.pool.is_looked_at = False
                states, _ = run.pool.take(step)
                run.pool.put(step, states * 1e3)
            assert loop.take_step(run, step, 1e-3, False) is None
    assert torch.isfinite(run.sums).all() and run.sums[1] == 3


def test_a_gpu_is_looked_at_for_lines_of_the_log_only(tmp_path):
    run = prepare(_bounded({"steps": 9, "validate_every": 4, "log_every": 3}), tmp_path)
    own = loop._Loop(run, None, True, 60.0, None)
    assert all(own.is_looked_at(done) for done in range(1, 10))
    run.sums = types.SimpleNamespace(is_cuda=True)
    assert [done for done in range(1, 10) if own.is_looked_at(done)] == [3, 4, 6, 8, 9]


def test_lines_of_the_log_come_as_often_as_asked(tmp_path):
    loop.advance(prepare(_bounded({"steps": 5, "validate_every": 4, "log_every": 2}), tmp_path), quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]


def test_a_loss_that_is_not_finite_ends_the_run_with_weights_unchanged(tmp_path, monkeypatch):
    run = prepare(_bounded(), tmp_path)
    before, real = weights(run.model).clone(), loop.residual_sum
    monkeypatch.setattr(loop, "residual_sum", lambda *a: (real(*a)[0] * float("inf"), *real(*a)[1:]))
    with pytest.raises(FloatingPointError, match="at step 1; the state saved before stays: lower the learning rate"):
        loop.advance(run, quiet=True)
    assert torch.equal(weights(run.model), before)


def test_weights_of_mixed_dtypes_are_refused():
    with pytest.raises(ValueError, match="mixed dtypes, float32 and float64; give all of them one"):
        FlatGradient([torch.nn.Parameter(torch.zeros(2, dtype=d)) for d in (torch.float32, torch.float64)], 1)


def test_gradients_are_views_of_one_buffer_and_are_clipped_together():
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    gradient = FlatGradient([a, b], 2)
    for _ in range(2):
        ((3 * a).sum() + 4 * b.sum()).backward()
    assert gradient.buffer.tolist() == [6, 6, 8, 0, 0]
    assert_close(gradient.clip(1.0), torch.tensor(136.0).sqrt())
    assert_close(torch.cat([a.grad, b.grad]).norm(), torch.tensor(1.0), rtol=1e-5, atol=0)
    gradient.zero()
    assert a.grad.abs().max() == 0


def test_a_profile_says_where_the_time_of_a_few_steps_goes(tmp_path):
    with_profile = Profile(tmp_path)
    loop.advance(prepare(_bounded({"steps": 10}), tmp_path), quiet=True, profile=with_profile)
    text = (tmp_path / "profile.txt").read_text()
    assert text.startswith("5 steps, ") and "aten::" in text
    assert json.loads((tmp_path / "profile.json").read_text())["traceEvents"]


def test_tensorboard_shows_what_the_log_holds(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((str(folder), purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            pass

        close = flush

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = Log(tmp_path, tensorboard=True)
    loop.advance(prepare(_bounded({"steps": 2}), tmp_path), quiet=True, log=log)
    (line,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written[0] == (str(tmp_path / "tensorboard"), 2)
    assert ("train/loss", line["loss"], 2) in written and ("train/unsolved", line["unsolved"], 2) in written
    assert any(name == "train/learning_rate" for name, *_ in written[1:])


def test_tensorboard_that_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="TensorBoard is not installed: pip install"):
        Log(tmp_path, tensorboard=True)


def shared_errors(folder):
    """What each of several processes does: the errors of references that the first one makes."""
    from pathlib import Path

    from pihc_zoo.learning.distributed import Processes
    from pihc_zoo.learning.mesh import Mesh, Place

    place = Place.of_environment()
    processes = Processes(place, Mesh(place.world), timeout=30)
    processes.connect()
    run = prepare(_bounded(), Path(folder) / "run", processes=processes)
    references = SharedReferences(processes, made)
    np.save(f"errors-{place.rank}.npy", references.errors(run.model))
    processes.close()


def made():
    rng = np.random.default_rng(0)
    u0 = 0.1 + 0.01 * rng.uniform(size=(3, 1)) * np.ones(1024)
    return ReferenceSet(u0, {}, np.repeat(u0[:, None], 101, axis=1))


def test_references_are_made_once_and_their_errors_shared(tmp_path):
    codes, said = Job(tmp_path, 2, shared_errors, str(tmp_path)).end()
    assert codes == [0, 0] and not said
    first, second = (np.load(tmp_path / f"errors-{rank}.npy") for rank in (0, 1))
    assert np.array_equal(first, second)
    alone = made().errors(prepare(_bounded(), tmp_path / "alone").model)
    np.testing.assert_allclose(first, alone, rtol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("case", [name for name in CASES if name != "shipped"])
def test_a_gpu_trains_as_a_cpu_does(tmp_path, case):
    make, parts = CASES[case]
    models = [
        loop.advance(prepare(make(), tmp_path / device, device, parts=parts), quiet=True) for device in ("cpu", "cuda")
    ]
    assert_close(weights(models[1]).cpu(), weights(models[0]), rtol=1e-6, atol=1e-8)
