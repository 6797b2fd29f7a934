"""Models by name with changed settings, and models of one's own by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import pihc_zoo as pz
from pihc_zoo.zoo import registry

NAME = "diffusion-sorption.general"
TINY = {
    "grid.space.x": {"num_nodes": 16, "grading": 1.0},
    "grid.time.elements": 2,
    "decomposition.counts": {"x": 2},
    "network.modes": [3, 4],
}


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.network.parameters()])


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})


def test_without_changes_it_is_the_pretrained_model():
    model = pz.create_model(NAME, pretrained=True)
    assert model.name == NAME and model.config == pz.from_pretrained(NAME).config
    assert_close(weights(model), weights(pz.from_pretrained(NAME)), rtol=0, atol=0)


def test_the_weights_stay_where_settings_beside_the_network_change():
    model = pz.create_model(
        NAME, pretrained=True, overrides={"decomposition.counts": {"x": 2}, "solver": {"max_steps": 3}}
    )
    assert model.constraint.decomposition.counts == {"x": 2} and model.constraint.solver.max_steps == 3
    assert_close(weights(model), weights(pz.from_pretrained(NAME)), rtol=0, atol=0)
    assert "weights_sha256" not in model.config and model.trust == pz.from_pretrained(NAME).trust


def test_a_changed_model_predicts_saves_and_loads(tmp_path, fields):
    model = pz.create_model(NAME, pretrained=True, overrides={"decomposition.counts": {"x": 2}})
    again = pz.from_pretrained(model.save_pretrained(tmp_path / "two"))
    np.testing.assert_array_equal(again.predict(fields(1)).u, model.predict(fields(1)).u)


@pytest.mark.parametrize("overrides", [{"network.width": 8}, {"network": {"num_basis": 4}}, {"network.width": 10**9}])
def test_weights_that_do_not_fit_are_refused(overrides):
    with pytest.raises(ValueError, match=r"does not fit the changed settings.*leave pretrained out") as caught:
        pz.create_model(NAME, pretrained=True, overrides=overrides)
    assert "\n" not in str(caught.value)


def test_untrained_models_are_drawn_by_their_generator():
    def drawn(seed):
        return pz.create_model(NAME, overrides=TINY, generator=seed and torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    first, again, other, default = (weights(drawn(seed)) for seed in (1, 1, 2, None))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's numbers
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, default)
    assert torch.equal(default, weights(drawn(None)))


def test_of_untrained_models_nothing_is_trusted(fields):
    model = pz.create_model(NAME, overrides=TINY, dtype="float64")
    assert model.dtype == torch.float64 and not model.training
    assert model.trust.threshold is None and model.trust.state_range == pz.from_pretrained(NAME).trust.state_range
    with pytest.warns(RuntimeWarning, match="no calibrated threshold"):
        assert not model.predict(fields(1)).is_reliable.any()
    assert pz.create_model(NAME, overrides={**TINY, "trust.threshold": 0.5}).trust.threshold == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"sover.max_steps": 3}}, "unknown key 'sover'; did you mean 'solver'"),
        ({"overrides": {"solver.max_step": 3}}, "solver: unknown setting 'max_step'; did you mean 'max_steps'"),
        ({"overrides": {"network": {"name": "fno"}}}, "no network named 'fno'"),
        ({"overrides": {"network": {"name": "cosine_operator"}}}, "num_basis"),
        ({"overrides": {"grid.time": 5}}, "incomplete or malformed"),
        ({"overrides": {"decomposition.counts": {"x": 5}}}, "not divisible into 5"),
        ({"pretrained": True, "generator": torch.Generator()}, "leave it out, or pretrained"),
        ({"device": "abacus"}, "cannot use device 'abacus'"),
        ({"dtype": "half"}, "dtype must be 'float32' or 'float64'"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        pz.create_model(NAME, **arguments)
    assert "\n" not in str(caught.value)


def test_unknown_models_are_refused():
    with pytest.raises(ValueError, match=r"did you mean 'diffusion-sorption.general'"):
        pz.create_model("diffusion-sorption.generl")


# ------------------------------------------------------------------ models of one's own


def test_models_of_ones_own_have_names(registered, tmp_path, tiny_model, fields):
    model = tiny_model()
    folder = model.save_pretrained(tmp_path / "tiny")
    pz.register_model("diffusion-sorption.tiny", folder)
    pz.register_model("diffusion-sorption.tiny", folder)  # the same is no clash
    assert "diffusion-sorption.tiny" in pz.list_models(pretrained=True, problem="diffusion-sorption")
    loaded = pz.from_pretrained("diffusion-sorption.tiny")
    assert loaded.name == "diffusion-sorption.tiny"
    np.testing.assert_array_equal(loaded.predict(fields(1)).u, model.predict(fields(1)).u)


def test_a_configuration_alone_is_a_model_without_weights(registered, tmp_path, tiny_model):
    folder = tiny_model().save_pretrained(tmp_path / "tiny")
    (folder / "model.safetensors").unlink()
    pz.register_model("diffusion-sorption.tiny", folder)
    assert pz.list_models(pretrained=False) == ["diffusion-sorption.tiny"]
    assert pz.create_model("diffusion-sorption.tiny").name == "diffusion-sorption.tiny"
    for load in (pz.from_pretrained, lambda name: pz.create_model(name, True, {"solver.max_steps": 2})):
        with pytest.raises(ValueError, match=r"has no model.safetensors"):
            load("diffusion-sorption.tiny")


def test_names_that_cannot_be_registered_are_refused(registered, tmp_path, tiny_model):
    folder = tiny_model().save_pretrained(tmp_path / "tiny")
    for name, message in (
        (NAME, f"'{NAME}' belongs to the model in"),
        ("tiny", "as 'problem.variant'"),
        ("burgers-1d.tiny", "is of the problem 'diffusion-sorption'"),
    ):
        with pytest.raises(ValueError, match=message):
            pz.register_model(name, folder)
    with pytest.raises(ValueError, match=r"has no config.json"):
        pz.register_model("diffusion-sorption.none", tmp_path)
    assert pz.list_models() == pz.list_models(pretrained=True)
