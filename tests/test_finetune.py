"""Fine-tuning lowers what it is asked to lower, keeps the given model, and refuses data that does not fit."""

import numpy as np
import pytest
import torch

import pihc_zoo as pz
from pihc_zoo.cli import main

X = (np.arange(1024) + 0.5) / 1024


@pytest.fixture(scope="module")
def model():
    return pz.from_pretrained("diffusion-sorption.general")


@pytest.fixture(scope="module")
def data(model):
    u0 = 0.15 + 0.1 * np.sin(np.pi * np.outer(np.arange(1, 7), X))
    u = model.predict(u0).u
    return {"u0": u0, "u": u * (1 + 1e-3 * np.sin(3 * X))}  # solutions that the physics alone does not give


def test_data_loss_falls_and_the_given_model_stays(model, data, tmp_path):
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    tuned = pz.finetune(
        model, data, tmp_path / "tuned", loss="data", steps=20, learning_rate=1e-3, validation=0.0, quiet=True
    )
    errors = [np.linalg.norm(m.predict(data["u0"]).u - data["u"]) for m in (model, tuned)]
    assert errors[1] < errors[0]
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, before[key])
    again = pz.from_pretrained(str(tmp_path / "tuned"))
    np.testing.assert_array_equal(again.predict(data["u0"]).u, tuned.predict(data["u0"]).u)


def test_never_worse_on_the_held_out_part(model, data):
    tuned = pz.finetune(model, data, loss="data", steps=3, learning_rate=0.5, validation=0.5, quiet=True)
    held = np.random.default_rng(0).permutation(6)[:3]
    errors = [np.linalg.norm(m.predict(data["u0"][held]).u - data["u"][held]) for m in (model, tuned)]
    assert errors[1] <= errors[0] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"u": None}, "needs solutions"),
        ({"u0": None}, "must have the key 'u0'"),
        ({"u": np.zeros((2, 3, 4))}, "u must have the shape"),
        ({"u0": -np.ones((6, 1024))}, "negative"),
        ({"parameter_D": np.full(6, 1.0)}, "parameter D"),
    ],
)
def test_data_that_does_not_fit(model, data, change, text):
    wrong = {key: value for key, value in {**data, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=text):
        pz.finetune(model, wrong, loss="data", steps=1, quiet=True)


def test_command_line(data, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", **data)
    arguments = [
        "finetune",
        "diffusion-sorption.general",
        str(tmp_path / "mine.npz"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--steps", "2", "--quiet"]) == 0
    assert (tmp_path / "out" / "config.json").is_file()
    assert main([*arguments[:2], str(tmp_path / "absent.npz"), "--output", str(tmp_path / "no")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
