"""Passes that are recorded once and played again give the answers of eager mode, whatever changes between.

Where there is no GPU a tape stands in for CUDA graphs: like them it runs the very same operations on the very same
memory again, and nothing of what Python does around them.
"""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from test_operations import all_steps
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pihc_zoo as pz
from pihc_zoo.discretisation import constants, no_new_constants
from pihc_zoo.graphs import MOST, Graphs, Reads, Recording, changed
from pihc_zoo.prediction.predict import Inference

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class Tape(TorchDispatchMode):
    """What a CUDA graph holds: operations bound to memory."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        self.operations.append((function, arguments, options or {}, result))
        return result

    def play(self):
        for function, arguments, options, result in self.operations:
            given = {id(value) for value in tree_leaves((arguments, options))}
            again = function(*arguments, **options)
            if getattr(function, "is_view", False):
                continue
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and id(old) not in given:
                    old.copy_(new)


class Tapes:
    """A recorder; counts what it records."""

    def __init__(self):
        self.count = self.played = 0

    def can(self, inputs):
        return True

    def __call__(self, function, inputs):
        own = tuple(value.clone() for value in inputs)
        function(*own)
        with no_new_constants(), Tape() as tape:
            outputs = function(*own)
        self.count += 1

        def play():
            self.played += 1
            tape.play()

        return Recording(own, outputs, play)


def recorded(model):
    """The model as on a GPU, with tapes for graphs."""
    model = all_steps(model)
    model.graphs = Graphs(Tapes())
    return model


def assert_same(found, expected):
    assert_array_equal(found.u, expected.u)
    for key in ("residual", "estimated_error", "coefficients", "status", "residual_field", "estimated_error_field"):
        assert_array_equal(getattr(found, key), getattr(expected, key))


def eager(model, *arguments, **options):
    model.graphs.is_on = False
    try:
        return model.predict(*arguments, **options)
    finally:
        model.graphs.is_on = True


@pytest.mark.parametrize(
    "name", ["diffusion-sorption.parametric", "allen-cahn-1d.general", "navier-stokes-2d.re1e4", "darcy-2d.lognormal"]
)
def test_what_is_played_again_is_what_would_be_computed(name):
    model = recorded(pz.from_pretrained(name))
    u0, parameters = pz.sample(model, 6, seed=1)
    parts = [slice(0, 2), slice(2, 4), slice(4, 6)]
    given = [
        (
            None if u0 is None else u0[own],
            {key: value[own] if np.ndim(value) else value for key, value in parameters.items()},
        )
        for own in parts
    ]
    options = {"times": [0.4 * model.problem.span, model.problem.span]} if model.num_windows > 1 else {}
    answers = [model.predict(own, parameters=c, **options) for own, c in given]
    assert model.graphs.recorder.played
    for (own, c), answer in zip(given, answers, strict=True):
        assert_same(answer, eager(model, own, parameters=c, **options))


@pytest.fixture
def model(tiny_model):
    return recorded(tiny_model())


@pytest.fixture
def u0(fields):
    return fields(4)


def played(model, *arguments, **options):
    """The third answer, which is a recording's second."""
    for _ in range(2):
        model.predict(*arguments, **options)
    before = model.graphs.recorder.played
    answer = model.predict(*arguments, **options)
    assert model.graphs.recorder.played > before
    return answer


def test_nothing_is_recorded_for_one_call(model, u0):
    model.predict(u0, max_steps=2)
    assert model.graphs.recorder.count == 0
    model.predict(u0, max_steps=2)
    model.predict(u0, max_steps=2)
    assert model.graphs.recorder.count == 1


def test_answers_do_not_change_when_the_next_one_is_played(model, u0):
    first = played(model, u0, max_steps=2)
    values = first.u.copy(), first.residual_field.copy()
    model.predict(u0[::-1].copy(), max_steps=2)
    assert_array_equal(first.u, values[0])
    assert_array_equal(first.residual_field, values[1])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"experts": 1}),
        ({}, {"max_steps": 1}),
        ({}, {"rtol": 0.5}),
        ({}, {"times": [100.0, 200.0]}),
        ({"times": [100.0, 200.0]}, {"times": [100.0, 300.0]}),
        ({}, {"x": [0.2, 0.7]}),
        ({"x": [0.2, 0.7]}, {"x": [0.2, 0.8]}),
        ({}, {"estimate": False}),
        ({}, {"batch_size": 3}),
        ({"parameters": {"D": 4e-4}}, {"parameters": {"D": 6e-4}}),
        ({"polish": True}, {"polish": False}),
    ],
    ids=str,
)
def test_calls_that_differ_are_not_mixed_up(tiny_model, u0, first, second):
    model = recorded(tiny_model(problem={"inputs": ["D"]}))
    played(model, u0, **first)
    for _ in range(3):
        assert_same(model.predict(u0, **second), eager(model, u0, **second))


def test_weights_that_change_in_place_are_seen(model, tiny_model, u0):
    before = played(model, u0)
    count = model.graphs.recorder.count
    model.load_state_dict(tiny_model(seed=1).state_dict())
    after = model.predict(u0)
    assert model.graphs.recorder.count == count
    assert not np.array_equal(after.u, before.u)
    assert_same(after, eager(model, u0))


@pytest.mark.parametrize("change", [lambda m: m.double(), lambda m: m.to("cpu"), lambda m: m.network.double()])
def test_weights_that_are_replaced_are_seen(model, u0, change):
    played(model, u0)
    change(model)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight += 0.1
    for _ in range(3):
        found = model.predict(u0)
    assert_same(found, eager(model, u0))


def test_copies_record_anew(model, u0):
    played(model, u0)
    model.graphs.is_on = False
    other = copy.deepcopy(model)
    assert not other.graphs.is_on and other.graphs is not model.graphs
    assert_array_equal(other.predict(u0).u, model.predict(u0).u)


def test_what_cannot_be_recorded_is_computed_and_said_once(model, u0, monkeypatch, caplog):
    class Refusing(Tapes):
        def __call__(self, function, inputs):
            self.count += 1
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    model.graphs = Graphs(Refusing())
    with caplog.at_level(logging.DEBUG, logger="pihc_zoo"):
        for _ in range(4):
            found = model.predict(u0)
            short = model.predict(u0[:1])
    assert len(caplog.records) == 1
    assert "not permitted when stream is capturing" in caplog.messages[0] and "\n" not in caplog.messages[0]
    assert model.graphs.recorder.count <= 4  # each set of shapes and settings is tried once
    assert_same(found, eager(model, u0))
    assert_same(short, eager(model, u0[:1]))


def test_only_so_many_are_kept():
    graphs, ones = Graphs(Tapes()), torch.ones(3)
    for factor in range(1, MOST + 5):
        for _ in range(3):
            assert graphs(factor, (), lambda u, own=factor: own * u, (ones,)).tolist() == [factor] * 3
    assert len(graphs._known) == MOST and graphs.recorder.count == MOST + 4


def test_gradients_and_cpus_know_no_graphs(tiny_model, u0):
    model = tiny_model()
    given = torch.as_tensor(u0).requires_grad_()
    for _ in range(3):
        model(given, times=[500.0]).sum().backward()
        model.predict(u0)
    assert not model.graphs._known and torch.isfinite(given.grad).all()


def test_a_constant_is_not_made_by_what_does_not_run():
    with no_new_constants(), pytest.raises(RuntimeError, match="constant would be made"), constants():
        pass


def test_what_operations_read_is_kept():
    """A graph is bound to addresses, so all that it reads but does not write must live as long as it."""
    kept, buffer = torch.ones(3), torch.zeros(2, 3)
    with Reads() as reads:
        own = kept * 2
        buffer[0] += own
        own.sum().sqrt()
    expected = {value.untyped_storage().data_ptr() for value in (kept, buffer)}
    assert set(reads.storages) == expected


def test_all_tensors_of_a_nest_are_changed_once(model, u0):
    inference = None

    def keep(self, *arguments):
        nonlocal inference
        inference = real(self, *arguments)
        return inference

    real = Inference.compute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inference, "compute", keep)
        model.predict(u0, polish=False)
    copied = changed(inference, torch.clone)
    assert copied.u is not inference.u and torch.equal(copied.u, inference.u)
    (own,), (other,) = copied.fields["u"], inference.fields["u"]
    assert own.discretisation is other.discretisation
    closure, original = own.field.walls["x"], other.field.walls["x"]
    assert closure.slopes is not original.slopes and torch.equal(closure.slopes, original.slopes)
    tensor = torch.ones(1)
    first, second = changed([tensor, {"again": tensor}], torch.clone)
    assert first is second["again"] and first is not tensor


# ------------------------------------------------------------------ CUDA graphs


@pytest.mark.gpu
@pytest.mark.parametrize("name", pz.list_models())
def test_cuda_graphs_give_the_answers_of_eager_mode(name, caplog):
    model = pz.from_pretrained(name, device="cuda")
    u0, parameters = pz.sample(model, 4)
    with caplog.at_level(logging.DEBUG, logger="pihc_zoo"):
        answers = [model.predict(u0, parameters=parameters) for _ in range(3)]
    assert not caplog.records, caplog.messages
    assert any(isinstance(own, Recording) for own in model.graphs._known.values())
    expected = eager(model, u0, parameters=parameters)
    scale = np.abs(expected.u).max()
    for found in answers:
        assert_allclose(found.u, expected.u, rtol=0, atol=1e-6 * scale)
        assert_allclose(found.estimated_error, expected.estimated_error, rtol=1e-3)
        assert_array_equal(found.status, expected.status)


@pytest.mark.gpu
def test_a_cuda_graph_sees_new_input_and_new_weights(tiny_model, fields):
    model, u0 = tiny_model().to("cuda"), fields(4)
    for _ in range(3):
        model.predict(u0)
    other = fields(4, seed=5)
    assert_allclose(model.predict(other).u, eager(model, other).u, rtol=0, atol=1e-9)
    model.load_state_dict(tiny_model(seed=1).state_dict())
    assert_allclose(model.predict(u0).u, eager(model, u0).u, rtol=0, atol=1e-9)
    model.to("cpu")
    assert_allclose(model.predict(u0).u, tiny_model(seed=1).predict(u0).u, rtol=0, atol=1e-9)


@pytest.mark.gpu
def test_after_a_cuda_graph_that_failed_all_goes_on(caplog):
    graphs, u = Graphs(), torch.ones(3, device="cuda")
    with caplog.at_level(logging.DEBUG, logger="pihc_zoo"):
        for _ in range(3):
            assert graphs("read", (), lambda u: u * u.sum().item(), (u,)).tolist() == [3.0] * 3
    assert len(caplog.records) == 1
    for _ in range(3):
        assert graphs("fine", (), lambda u: u + 1, (u,)).tolist() == [2.0] * 3
    assert isinstance(graphs._known[next(reversed(graphs._known))], Recording)
