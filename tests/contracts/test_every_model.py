"""What every shipped model promises: it loads, predicts, reproduces its example, and says what it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pihc_zoo import config as configuration
from pihc_zoo.decomposition import Joint
from pihc_zoo.families import PeriodicGaussianProcess
from pihc_zoo.problems import PROBLEMS
from pihc_zoo.sampling import default_families, draw
from pihc_zoo.zoo.folder import RECORDED, check_files, self_test
from pihc_zoo.zoo.loading import from_pretrained, model_info
from pihc_zoo.zoo.registry import list_models, shipped_folder

LARGEST = 6_000_000  # bytes of weights in the wheel


EVOLVING = [name for name in list_models() if from_pretrained(name).problem.duration is not None]


@pytest.fixture(scope="module", params=EVOLVING)  # steady ones have laws of their own, test_steady
def model(request):
    return from_pretrained(request.param)


@pytest.fixture
def u0(model):
    """Smooth fields inside the trained range, constants for models of constants; three of them."""
    axes = list(model.problem.output_space.values())
    if all(axis.is_periodic for axis in axes):
        family = PeriodicGaussianProcess(length_scale=1.0)
        return family.sample(3, [axis.nodes for axis in axes], np.random.default_rng(1))
    if len(axes) > 1 or model.problem.is_system:
        family = next(iter(default_families(model).values()))
        return draw(model.problem, family, (), 3, 1)[0]
    (axis,) = axes
    low, high = model.config["trust"]["state_range"]
    constants = np.linspace(0.1, 0.9, 3)[:, None] * np.ones(len(axis.nodes))
    return low + (high - low) * constants


def test_names_are_problem_and_variant(model):
    problem, _, variant = model.name.partition(".")
    assert problem == model.config["problem"]["name"] == model.problem.name and variant
    assert problem in PROBLEMS
    assert model.name in list_models(f"{problem}*") and model.name in list_models(problem=problem)
    assert model_info(model.name)["config"] == model.config


def test_the_folder_is_complete_and_small(model):
    folder = shipped_folder(model.name)
    config = configuration.read((folder / "config.json").read_text(encoding="utf-8"))
    assert config["config_version"] == "{}.{}".format(*configuration.CONFIG_VERSION)
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < LARGEST


def test_every_file_that_is_read_has_its_digest(model):
    """After `training.measure`, or ``record(folder, *RECORDED)``."""
    folder = shipped_folder(model.name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert set(config["digests"]) == {name for name in RECORDED if (folder / name).is_file()}
    check_files(folder, config)


def test_a_card_comes_with_the_figures_it_prints(model):
    folder = shipped_folder(model.name)
    if (folder / "README.md").exists():
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        assert metrics and model_info(model.name)["metrics"] == metrics


def test_the_example_is_reproduced(model):
    path = shipped_folder(model.name) / "example.npz"
    if not path.exists():
        pytest.skip("no example.npz")
    with np.load(path, allow_pickle=False) as example:
        parameters = {key: example[f"parameter_{key}"] for key in model.parameter_inputs}
        points = {name: example[name] for name in model.problem.output_space}
        out = model.predict(example["u0"], x=points, times=example["t"], parameters=parameters)
        if model.constraint.precision == torch.float64:
            assert_allclose(out.u, example["u"], rtol=0, atol=1e-6)
    assert self_test(model, path.parent) < 1e-4


def test_the_default_is_a_joint_solve(model):
    assert isinstance(model.constraint.decomposition, Joint)


def test_it_predicts_with_a_report(model, u0):
    out = model.predict(u0)
    assert out.u.shape == (3, len(model.problem.output_times), *u0.shape[1:])
    assert out.converged.all() and np.isfinite(out.u).all()
    assert (out.residual > 0).all() and (out.estimated_error > 0).all() and (out.estimated_error < 0.05).all()
    if not model.problem.is_system:  # those of a system fill the range of every field, more than was trained
        assert out.messages == ["", "", ""]


@pytest.mark.parametrize("experts", [1, 2, 8])
def test_other_numbers_of_experts_agree_with_the_default(model, u0, experts):
    """Within the error that both estimate."""
    default, other = model.predict(u0), model.predict(u0, experts=experts, max_steps=20)
    assert other.converged.all()
    difference = np.linalg.norm((other.u - default.u).reshape(3, -1), axis=1)
    relative = difference / np.linalg.norm(default.u.reshape(3, -1), axis=1)
    assert (relative < 2 * (default.estimated_error + other.estimated_error)).all()


def test_parameters_at_their_defaults_and_bounds_are_answered(model, u0):
    for end in ("low", "default", "high"):
        values = {key: getattr(model.problem.parameters[key], end) for key in model.parameter_inputs}
        out = model.predict(u0, parameters=values, max_steps=20)
        assert out.converged.all() and np.isfinite(out.u).all()


def test_values_beyond_the_trained_range_are_not_called_reliable(model, u0):
    most = model.problem.state_range[1]
    _, high = model.config["trust"].get("state_range", model.problem.state_range)
    beyond = np.full_like(u0[:1], high + 0.2 * (most - high) if high < most else 1.2 * most)
    assert not model.predict(beyond, max_steps=40, on_failure="fallback").is_reliable.any()


def test_unknown_names_suggest_a_shipped_model(model):
    with pytest.raises(ValueError, match=f"did you mean .*{model.name}"):
        from_pretrained(model.name[:-1])
