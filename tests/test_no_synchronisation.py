"""No pass and no training step waits for the device: a law that is tested where there is no device.

Under a mode that refuses what reads a number back from tensors, makes shapes of them or copies from the host, whole
passes of every shipped model and whole training steps run. Solves take a fixed number of steps, as they do on a GPU.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from test_operations import all_steps
from torch.utils._python_dispatch import TorchDispatchMode

import pihc_zoo as pz
from pihc_zoo.discretisation import constants
from pihc_zoo.learning.loss import residual_sum
from pihc_zoo.prediction.predict import Inference
from pihc_zoo.prediction.request import check_request

READING = ("_local_scalar_dense", "item", "is_nonzero", "equal")  # a number of a tensor on the host
SHAPING = ("nonzero", "masked_select", "unique", "_unique2", "unique_dim", "unique_consecutive")
FROM_HOST = ("lift", "lift_fresh", "lift_fresh_copy")  # torch.tensor(…) of a number or a list


class WaitedError(AssertionError):
    """Something waited for the device."""


class Device(TorchDispatchMode):
    """Refuses what would wait for a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        if name in READING + SHAPING + FROM_HOST:
            raise WaitedError(f"{name} of {[getattr(a, 'shape', a) for a in arguments]}")
        if name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8)
            for part in arguments[1:]
            for i in (part if isinstance(part, list | tuple) else [part])
        ):
            raise WaitedError(f"{name} by a mask")
        return function(*arguments, **(options or {}))


@contextlib.contextmanager
def device(monkeypatch):
    """As on a GPU: besides `Device`, no array of the host becomes a tensor."""

    def of_tensors_only(name):
        real = getattr(torch, name)

        def convert(value, *arguments, **options):
            if not isinstance(value, torch.Tensor):
                raise WaitedError(f"torch.{name} of a {type(value).__name__}")
            return real(value, *arguments, **options)

        return convert

    with monkeypatch.context() as patch:
        for name in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, name, of_tensors_only(name))
        with Device():
            yield


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *((name, ()) for name in pz.list_models()),
        ("diffusion-sorption.general", ("times", "x")),
        ("reaction-diffusion-2d.fitzhugh-nagumo", ("times",)),
        ("navier-stokes-2d.re1e4", ("times",)),
    ],
)
def test_a_pass_waits_for_nothing(name, own, monkeypatch):
    model = all_steps(pz.from_pretrained(name))
    values, parameters = pz.sample(model, 2)
    asked = {"times": [0.3 * model.problem.span, 0.7 * model.problem.span], "x": [0.2, 0.7]}
    asked = {key: asked[key] for key in own}
    request = check_request(model.problem, model.parameter_inputs, values, parameters=parameters, **asked)
    inference = Inference(model, request, model.constraint.decomposition, model.constraint.solver)
    u0, c = model.inward(torch.as_tensor(request.values)), model.tensors(request.c)
    with constants():
        expected = inference.compute(u0, c)
        with device(monkeypatch):
            found = inference.compute(u0, c)
    assert torch.equal(found.u, expected.u) and torch.equal(found.error, expected.error)


@pytest.mark.parametrize("name", pz.list_models())
def test_a_training_step_waits_for_nothing(name, monkeypatch):
    """A window's loss and its gradients; what a step does with them is `training.loop`'s, tested there."""
    model = all_steps(pz.from_pretrained(name)).train()
    values, parameters = pz.sample(model, 2)
    points = {key: axis.nodes for key, axis in model.problem.output_space.items()}
    u0, c = model.at_nodes(model.inward(torch.as_tensor(values)), points), model.tensors(parameters)

    def step():
        model.zero_grad()
        field = model.constrained(u0, c, gradient="envelope", stride=1)
        total, used, _ = residual_sum(field, "mean")
        (total / used.clamp(min=1)).backward()
        return [p.grad for p in model.network.parameters()]

    expected = step()
    with device(monkeypatch):
        found = step()
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: bool((x > 0).all()),
        lambda x: x[[0, 1]],
        lambda x: x + torch.as_tensor(np.ones(3)),
    ],
)
def test_the_mode_refuses(reads, monkeypatch):
    with device(monkeypatch), pytest.raises(WaitedError):
        reads(torch.ones(3))
