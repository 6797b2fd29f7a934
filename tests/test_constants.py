"""Other constants than a problem declares: in the configuration, the answers, the card and what is refused."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pihc_zoo as pz
from pihc_zoo.config import ConfigError
from pihc_zoo.families import sample_parameters
from pihc_zoo.learning.start import head_of, with_constants, with_settings
from pihc_zoo.problems import DiffusionSorption, problem_of
from pihc_zoo.problems.constants import constants_of
from pihc_zoo.reference import MethodOfLines
from pihc_zoo.zoo.storage import load_folder, save_folder

NAME = "diffusion-sorption"


def problem(inputs=(), **constants):
    return problem_of({"name": NAME, "inputs": list(inputs), "parameters": constants})[0]


def test_new_defaults_and_ranges_are_those_of_one_model_alone():
    own = problem(["D"], k_f={"default": 5e-4}, D={"default": 3e-4, "low": 1e-4, "high": 4e-4})
    assert own.defaults() == {**DiffusionSorption().defaults(), "k_f": 5e-4, "D": 3e-4}
    assert own.as_tensors({})["k_f"] == 5e-4
    drawn = sample_parameters(own, ("D",), 200, np.random.default_rng(0))["D"]
    assert 1e-4 <= drawn.min() < 1.2e-4 and 3.7e-4 < drawn.max() <= 4e-4
    assert problem().defaults() == DiffusionSorption().defaults()
    assert DiffusionSorption.parameters["D"].low == 2e-4


def test_a_network_goes_on_seeing_the_numbers_that_it_was_trained_on():
    value = torch.tensor([2e-4, 3e-4, 1e-3])
    moved = problem(["D"], D={"default": 3e-4, "low": 1e-4, "high": 4e-4}).parameters["D"]
    assert_allclose(moved.normalised(value), DiffusionSorption.parameters["D"].normalised(value))


def test_a_model_under_new_constants_solves_their_equation(tiny_model, fields, tmp_path):
    """The answer of a refined lift is near the classical solution of the new constants, and far from the old one's."""
    model = with_constants(tiny_model(ansatz={"num_corrections": 4}), {"k_f": {"default": 7e-4}})
    u0, times = fields(1), [250.0, 500.0]
    u = model.predict(u0, times=times).u[0]
    truths = [MethodOfLines(p)(u0[0], {}, times=times) for p in (model.problem, DiffusionSorption())]
    new, old = (np.linalg.norm(u - truth) / np.linalg.norm(truth) for truth in truths)
    assert new < 0.3 * old
    loaded = load_folder(save_folder(model, tmp_path / "model"), pz.Surrogate)
    assert loaded.problem.parameters["k_f"].default == 7e-4
    assert_array_equal(loaded.predict(u0, times=times).u[0], u)
    assert_array_equal(copy.deepcopy(model).predict(u0, times=times).u[0], u)


def test_a_model_takes_its_new_range_and_nothing_beyond(tiny_model, fields):
    model = tiny_model(problem={"name": NAME, "inputs": ["D"]})
    with pytest.raises(ValueError, match=r"D must lie in \[0.0002, 0.001\]"):
        model.predict(fields(1), parameters={"D": 1.2e-3})
    wider = with_constants(model, {"D": {"default": 5e-4, "low": 2e-4, "high": 1.3e-3}})
    narrow = with_constants(model, {"D": {"default": 5e-4, "low": 4e-4, "high": 6e-4}})
    assert np.isfinite(wider.predict(fields(1), parameters={"D": 1.2e-3}).u).all()
    assert_array_equal(
        wider.predict(fields(1), parameters={"D": 5e-4}).u, model.predict(fields(1), parameters={"D": 5e-4}).u
    )
    with pytest.raises(ValueError, match=r"D must lie in \[0.0004, 0.0006\]"):
        narrow.predict(fields(1), parameters={"D": 3e-4})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"k_f": 5e-4}, {"k_f": {"default": 5e-4}}),
        ({"D": 3e-4}, {"D": {"default": 3e-4, "low": 2e-4, "high": 1e-3}}),
        ({"D": 2e-3}, {"D": {"default": 2e-3, "low": 2e-4, "high": 2e-3}}),
        ({"D": (3e-4, 6e-4)}, {"D": {"default": 5e-4, "low": 3e-4, "high": 6e-4}}),
        ({"D": (1e-4, 4e-4)}, {"D": {"default": 2e-4, "low": 1e-4, "high": 4e-4}}),
        ({"D": (1e-4, 3e-4, 4e-4)}, {"D": {"default": 3e-4, "low": 1e-4, "high": 4e-4}}),
    ],
)
def test_what_a_user_writes(wanted, expected):
    found = constants_of(wanted, DiffusionSorption.parameters, ("D",))
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values)
    problem_of({"name": NAME, "inputs": ["D"], "parameters": found})


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"kf": 1.0}, "no parameter 'kf'.*k_f"),
        ({"k_f": (1e-4, 2e-4)}, "k_f is no input of this model, whose inputs are D"),
        ({"D": "much"}, "must be a number"),
        ({"D": (4e-4, 1e-4)}, "must increase"),
        ({"D": (1e-4, float("nan"))}, "must be a number"),
        ([1], "must be a dict"),
    ],
)
def test_what_a_user_cannot_mean(wanted, text):
    with pytest.raises(ValueError, match=text):
        constants_of(wanted, DiffusionSorption.parameters, ("D",))


@pytest.mark.parametrize(
    ("constants", "text"),
    [
        ({"phi": {"default": 1.2}}, "phi must lie between 0 and 1"),
        ({"k_f": {"default": -1.0}}, "k_f must lie between 0 and inf"),
        ({"k_f": {"low": 1.0}}, "no input of this model"),
        ({"D": {"default": 1.0, "low": 1e-4, "high": 1e-3}}, "outside its range"),
        ({"D": {"middle": 1.0}}, "must be a table of default, low, high"),
        ({"E": {"default": 1.0}}, "no parameter 'E'"),
    ],
)
def test_configurations_that_mean_nothing(constants, text):
    with pytest.raises(ConfigError, match=text):
        problem(["D"], **constants)


# ------------------------------------------------------------------ settings


def test_more_basis_functions_leave_the_given_ones_as_they_are(tiny_model, tiny_rollout, fields):
    for model in (tiny_model(), tiny_rollout()):
        num = model.network.num_basis
        wider = with_settings(model, {"network.num_basis": num + 3})
        inputs = torch.randn(
            2,
            model.constraint.ansatz.num_inputs,
            *model.constraint.grid.shape[-(1 + len(model.constraint.grid.space)) :],
        )
        inputs = inputs[:, :, 0] if hasattr(model.network, "time") else inputs
        assert wider.network.num_basis == num + 3
        assert_allclose(wider.network(inputs)[:, :num].detach(), model.network(inputs).detach(), atol=1e-6)


def test_settings_that_cannot_be_carried_over(tiny_model):
    model = tiny_model()
    for overrides, text in (
        ({"network.width": 8}, "cannot be carried over.*shape"),
        ({"network.num_basis": 1}, "cannot be carried over"),
        ({"network.num_layers": 2}, "is in one of both only"),
        ({"problem.name": "x"}, "constants go in parameters"),
        ({"trust.threshold": 1.0}, "recalibrated"),
        ({"netwrk.width": 1}, "unknown setting 'netwrk.width'.*network"),
        ({"solver.steps": 1}, "unknown setting 'steps'"),
    ):
        with pytest.raises(ValueError, match=text):
            with_settings(model, overrides)


def test_the_head_is_the_last_layers(tiny_model):
    network = tiny_model().network
    assert {id(p) for p in head_of(network)} == {id(p) for p in network.projection.parameters()}
    with pytest.raises(ValueError, match="no layers to tell a head from"):
        head_of(torch.nn.Identity())
