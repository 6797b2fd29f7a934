"""What every shipped model promises: it loads, predicts, reproduces its example, and says what it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pihc_zoo import config as configuration
from pihc_zoo.decomposition import Joint
from pihc_zoo.problems import PROBLEMS
from pihc_zoo.zoo.folder import RECORDED, check_files, self_test
from pihc_zoo.zoo.loading import from_pretrained, model_info
from pihc_zoo.zoo.registry import list_models, shipped_folder
from pihc_zoo.zoo.testing import sample

LARGEST = 6_000_000  # bytes of weights in the wheel


@pytest.fixture(scope="module", params=list_models())
def model(request):
    return from_pretrained(request.param)


@pytest.fixture
def u0(model):
    """Three initial conditions of the family that the model was tested on first; zeros for a steady one."""
    return sample(model, 3)[0]


@pytest.fixture
def parameters(model):
    """As drawn with them."""
    return sample(model, 3)[1]


@pytest.fixture
def fields(model, parameters):
    """The coefficient fields among them."""
    return {key: parameters[key] for key in model.problem.coefficients}


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
        parameters = {
            key: example[f"parameter_{key}"] for key in (*model.parameter_inputs, *model.problem.coefficients)
        }
        points = {name: example[name] for name in model.problem.output_space}
        out = model.predict(example["u0"], x=points, times=example["t"], parameters=parameters)
        if model.constraint.precision == torch.float64:
            assert_allclose(out.u, example["u"], rtol=0, atol=1e-6)
    assert self_test(model, path.parent) < 1e-4


def test_the_default_is_a_joint_solve_of_as_many_experts_as_are_configured(model):
    assert model.constraint.decomposition == Joint(model.config["decomposition"]["counts"])


def test_it_predicts_with_a_report(model, u0, parameters):
    out = model.predict(u0, parameters=parameters)
    assert out.u.shape == (3, len(model.problem.output_times), *u0.shape[1:])
    assert out.converged.all() and np.isfinite(out.u).all()
    assert (out.residual > 0).all() and (out.estimated_error > 0).all() and (out.estimated_error < 0.05).all()
    assert out.messages == ["", "", ""] and out.is_reliable.all()


@pytest.mark.parametrize("experts", [1, 2, 8])
def test_other_numbers_of_experts_agree_with_the_default(model, u0, fields, experts):
    """Within the error that both estimate."""
    default = model.predict(u0, parameters=fields)
    other = model.predict(u0, parameters=fields, experts=experts, max_steps=20)
    assert other.converged.all()
    difference = np.linalg.norm((other.u - default.u).reshape(3, -1), axis=1)
    relative = difference / np.linalg.norm(default.u.reshape(3, -1), axis=1)
    assert (relative < 2 * (default.estimated_error + other.estimated_error)).all()


def test_parameters_at_their_defaults_and_bounds_are_answered(model, u0):
    """Coefficient fields, too, uniform."""
    declared = {key: model.problem.parameters[key] for key in model.parameter_inputs} | model.problem.coefficients
    for end in ("low", "default", "high") if declared else ("default",):
        values = {key: getattr(own, end) for key, own in declared.items()}
        out = model.predict(u0, parameters=values, max_steps=20)
        assert out.converged.all() and np.isfinite(out.u).all()


def test_values_beyond_the_trained_range_are_not_called_reliable(model, u0, fields):
    if model.problem.duration is None:
        pytest.skip("starts from no values")
    most = model.problem.state_range[1]
    _, high = model.config["trust"].get("state_range", model.problem.state_range)
    beyond = np.full_like(u0[:1], high + 0.2 * (most - high) if high < most else 1.2 * most)
    given = {key: own[:1] for key, own in fields.items()}
    assert not model.predict(beyond, parameters=given, max_steps=40, on_failure="fallback").is_reliable.any()


def test_parameters_and_fields_beyond_their_range_are_refused_by_name(model, u0, parameters):
    for key, value in parameters.items():
        own = model.problem.coefficients.get(key) or model.problem.parameters[key]
        for beyond in (own.high + 0.01 * (own.high - own.low), own.low - 0.01 * (own.high - own.low)):
            with pytest.raises(ValueError, match=rf"\b{key} must lie in"):
                model.predict(u0, parameters=parameters | {key: np.full_like(value, beyond)})


def test_unknown_names_suggest_a_shipped_model(model):
    with pytest.raises(ValueError, match=f"did you mean .*{model.name}"):
        from_pretrained(model.name[:-1])
