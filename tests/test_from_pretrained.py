"""`Surrogate.from_pretrained`, as users of torch and the Hub expect it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import pihc_zoo as pz
from pihc_zoo.surrogate import Surrogate


def test_it_takes_what_the_function_takes_but_the_backend():
    function, method = inspect.signature(pz.from_pretrained), inspect.signature(Surrogate.from_pretrained)
    expected = {key: value for key, value in function.parameters.items() if key != "backend"}
    assert dict(method.parameters) == expected


def test_it_gives_the_same_model(tmp_path, tiny_model, fields):
    tiny_model().save_pretrained(tmp_path / "mine")
    model, other = Surrogate.from_pretrained(tmp_path / "mine", dtype="float64"), pz.from_pretrained(tmp_path / "mine")
    assert model.name == other.name == "mine" and model.dtype == torch.float64
    assert not model.training
    np.testing.assert_array_equal(
        Surrogate.from_pretrained(tmp_path / "mine").predict(fields(1)).u, other.predict(fields(1)).u
    )


def test_a_subclass_gets_its_own_kind(tmp_path, tiny_model):
    class Mine(Surrogate):
        pass

    tiny_model().save_pretrained(tmp_path)
    assert type(Mine.from_pretrained(tmp_path)) is Mine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"revision": "v1"}, "leave revision out"),
        ({"subfolder": "../.."}, "climbs out"),
        ({"dtype": "half"}, "float64"),
    ],
)
def test_its_errors_are_those_of_the_function(arguments, message):
    with pytest.raises(ValueError, match=message):
        Surrogate.from_pretrained("diffusion-sorption.general", **arguments)
    with pytest.raises(TypeError, match="backend"):
        Surrogate.from_pretrained("diffusion-sorption.general", backend="onnx")
