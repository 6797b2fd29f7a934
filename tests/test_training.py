"""Laws of training: resumable bit for bit, one pipeline for every variant, refusals of what is damaged."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.testing import assert_close
from training_cases import residual_loss

import pihc_zoo as pz
from pihc_zoo.families import PeriodicGaussianProcess, SmoothFields
from pihc_zoo.learning.draws import Purpose, Source
from pihc_zoo.sampling import draw, values_of
from pihc_zoo.status import Status
from pihc_zoo.surrogate import Surrogate
from training import __main__ as command
from training import loop
from training import recipe as recipes
from training.recipe import Recipe, Training

VARIANTS = {
    "PI-SC": {
        "network": {"num_basis": 1},
        "solver": {"max_steps": 0, "initial_coefficient": 1.0},
        "decomposition": {"counts": {"x": 1}},
    },
    "PI-HC": {"decomposition": {"counts": {"x": 1}}},
    "PI-HC-MoE, joint": {"decomposition": {"counts": {"x": 4}}},
    "PI-HC-MoE, disjoint": {"decomposition": {"name": "disjoint", "counts": {"x": 4}}},
    "PI-HC-MoE, overlapping": {"decomposition": {"name": "overlapping", "counts": {"x": 2}, "overlap": 2}},
    "pointwise rows": {"residual_map": {"name": "quadrature_weights"}, "solver": {"max_steps": 40}},
    "parametric": {"problem": {"inputs": ["D", "phi", "n_f"]}},
}


@pytest.fixture
def recipe(tiny_config):
    """``recipe(training={...}, **config changes)``."""

    def make(training=None, **changes):
        settings = Training(**{"steps": 6, "batch": 2, "validate_every": 3, **(training or {})})
        family = SmoothFields(shortest=0.3)
        return Recipe("tiny", tiny_config(**changes), settings, family, {"same": family})

    return make


@pytest.fixture
def rollout_recipe(rollout_config):
    """The same of a tiny roll-out over ν, with a pool so small that trajectories end and begin anew."""

    def make(training=None, **changes):
        settings = {"steps": 6, "batch": 3, "validate_every": 3, "pool": 4, "restart": 0.2, "loss": "mean"}
        settings = Training(**{**settings, "warmup": 2, **(training or {})})
        family = PeriodicGaussianProcess(length_scale=1.0, scale=0.5)
        config = rollout_config(**{"problem": {"inputs": ["nu"]}, "solver": {"max_steps": 4}, **changes})
        return Recipe("tiny", config, settings, family, {"same": family})

    return make


def weights(model):
    return model.network.state_dict()


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(recipe, tmp_path, interrupted_after):
    straight = loop.train(recipe(), tmp_path / "straight", None, quiet=True)
    with interrupted_after(loop, 5), pytest.raises(KeyboardInterrupt):  # between two lines of the log
        loop.train(recipe(), tmp_path / "broken", None, quiet=True)
    torch.manual_seed(123)  # whatever state the process is in
    resumed = loop.train(recipe(), tmp_path / "broken", None, quiet=True)
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[key]), key
    first, second = lines(tmp_path / "straight"), lines(tmp_path / "broken")
    assert [(r["step"], r["loss"], r["unsolved"]) for r in first] == [
        (r["step"], r["loss"], r["unsolved"]) for r in second
    ]


def checkpointed(folder):
    return safetensors.torch.load_file(folder / "checkpoint.safetensors")


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_resumed_roll_out_equals_an_unbroken_one_bit_for_bit(rollout_recipe, tmp_path, interrupted_after, precision):
    """The pool of states, ages and parameters is part of the checkpoint; so is the scale of the inputs."""
    recipe = rollout_recipe(solver={"max_steps": 4, "precision": precision})
    loop.train(recipe, tmp_path / "straight", None, quiet=True)
    with interrupted_after(loop, 3), pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path / "broken", None, quiet=True)
    middle = checkpointed(tmp_path / "broken")
    torch.manual_seed(123)
    loop.train(recipe, tmp_path / "broken", None, quiet=True)
    first, second = checkpointed(tmp_path / "straight"), checkpointed(tmp_path / "broken")
    assert set(first) == set(second) >= {"extra.states", "extra.ages", "extra.c_nu", "network.input_scale"}
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert not torch.equal(middle["extra.states"], first["extra.states"])
    assert torch.equal(middle["network.input_scale"], first["network.input_scale"])
    assert first["extra.states"].dtype == torch.float64
    assert [r["loss"] for r in lines(tmp_path / "straight")] == [r["loss"] for r in lines(tmp_path / "broken")]


def test_a_roll_out_trains_on_its_own_end_states(rollout_recipe, tmp_path):
    """After one step, the places of the batch hold the ends of its windows, under the old weights."""
    recipe = rollout_recipe({"steps": 1, "restart": 0.0, "batch": 4})
    model = loop.train(recipe, tmp_path, None, quiet=True)
    end = checkpointed(tmp_path)
    assert end["extra.ages"].tolist() == [[1]] * 4
    points = [axis.nodes for axis in model.constraint.grid.space.values()]
    source = Source(recipe.family, points, model.problem, ("nu",), recipe.training.seed)
    start, drawn = source(0, torch.arange(4), Purpose.POOL)
    nu = end["extra.c_nu"][:, 0]
    assert torch.equal(drawn["nu"], nu)
    truth = model.constraint.conditions(start, model.tensors({"nu": nu})).lift.u[:, -1]
    assert (nu.log10() >= -4).all() and (nu.log10() <= -2).all() and len(nu.unique()) == 4
    difference = (end["extra.states"][:, 0] - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    assert (difference < 0.1).all() and (difference > 0).all()


def test_before_the_first_step_networks_see_inputs_of_order_one(rollout_recipe, tmp_path):
    model = loop.train(rollout_recipe({"steps": 1}), tmp_path, None, quiet=True)
    scale = model.network.input_scale
    assert (scale > 0).all() and scale.max() / scale.min() > 10  # derivatives are larger than values
    points = [axis.nodes for axis in model.constraint.grid.space.values()]
    u0 = torch.as_tensor(PeriodicGaussianProcess(1.0, scale=0.5).sample(8, points, np.random.default_rng(5)))
    inputs = model.constraint.inputs(model.constraint.conditions(u0, model.tensors({"nu": 1e-3})))
    sizes = inputs.square().mean(dim=(0, 2, 3)).sqrt() / scale
    assert (sizes[:-1] > 0.2).all() and (sizes[:-1] < 3).all()


@pytest.mark.parametrize("variant", ["PI-SC", "PI-HC", "PI-HC-MoE, joint", "dealiased"])
def test_every_roll_out_variant_learns(rollout_recipe, tmp_path, variant):
    """Sixty steps lower the loss of roll-outs that were not trained on, against the same weights untrained."""
    changes = {
        "PI-SC": {"network": {"num_basis": 1, "degree": 1}, "solver": {"max_steps": 0, "initial_coefficient": 1.0}},
        "PI-HC": {},
        "PI-HC-MoE, joint": {"decomposition": {"counts": {"x": 2, "y": 2}}},
        "dealiased": {"n": 12, "dealiasing": 1.5},
    }[variant]
    solver = {"max_steps": 12, **changes.pop("solver", {})}
    losses = []
    for rate in (1e-9, 1e-2):
        training = {"steps": 60, "validate_every": 60, "learning_rate": rate, "pool": 16, "batch": 8, "loss": "log"}
        folder = tmp_path / str(rate)
        model = loop.train(rollout_recipe(training, solver=solver, **changes), folder, None, quiet=True)
        assert lines(folder)[-1]["unsolved"] <= 0.1 * 60 * 8
        points = [axis.nodes for axis in model.constraint.grid.space.values()]
        u0 = torch.as_tensor(PeriodicGaussianProcess(1.0, scale=0.5).sample(8, points, np.random.default_rng(5)))
        with torch.no_grad():
            windows = model.windows(u0, model.tensors({"nu": 1e-3}))
            losses.append(np.mean([float(residual_loss(window.field)[0]) for window in windows]))
    assert losses[1] < losses[0] - 0.02, losses


def test_a_finished_run_is_not_trained_again(recipe, tmp_path):
    first = loop.train(recipe(), tmp_path, None, quiet=True)
    again = loop.train(recipe(), tmp_path, None, quiet=True)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(first).items())
    assert [r["step"] for r in lines(tmp_path)] == [3, 6]


def test_the_seed_determines_the_run(recipe, tmp_path):
    first, again, other = (
        weights(loop.train(recipe({"seed": seed, "steps": 2}), tmp_path / str(i), None, quiet=True))
        for i, seed in enumerate((1, 1, 2))
    )
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["lifting.weight"], other["lifting.weight"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_through_the_same_code(recipe, tmp_path, variant):
    """The loss of the last ten of forty steps is below that of the first ten."""
    training = {"steps": 40, "validate_every": 10, "learning_rate": 2e-2, "batch": 4}
    loop.train(recipe(training, **VARIANTS[variant]), tmp_path, None, quiet=True)
    records = lines(tmp_path)
    assert records[-1]["loss"] < records[0]["loss"] - 0.02, [r["loss"] for r in records]
    assert records[-1]["unsolved"] <= 0.2 * 10 * 4 * 4


def test_a_soft_constraint_is_the_same_pipeline_without_a_solve(tiny_model, fields):
    """PI-SC: one basis function, coefficient one, no steps: u = lift + basis."""
    model = tiny_model(**VARIANTS["PI-SC"])
    u0 = model.at_nodes(torch.as_tensor(fields(2)), {"x": model.problem.output_space["x"].nodes})
    field = model.constrained(u0, model.tensors({}), gradient="envelope")
    conditions = model.constraint.conditions(u0, model.tensors({}))
    assert_close(field.u, conditions.lift.u + model.basis(conditions).tensor[:, 0], rtol=0, atol=1e-14)
    loss, left_out = residual_loss(field)
    loss.backward()
    assert left_out == 0 and all(p.grad.abs().max() > 0 for p in model.network.parameters())


def test_the_loss_is_the_mean_log_of_the_rows_norm(tiny_model, fields):
    model = tiny_model(solver={"max_steps": 40}, ansatz={"basis_scale": 0.05})
    u0 = model.at_nodes(torch.as_tensor(fields(3)), {"x": model.problem.output_space["x"].nodes})
    field = model.constrained(u0, model.tensors({}))
    rows = model.constraint.rows(field.u, model.constraint.conditions(u0, model.tensors({})))
    loss, _ = residual_loss(field)
    assert_close(loss, rows.flatten(1).norm(dim=1).log().mean(), rtol=1e-3, atol=1e-3)


def test_unsolved_subproblems_leave_the_loss_and_are_counted(tiny_model, fields):
    model = tiny_model(solver={"max_steps": 40})
    u0 = model.at_nodes(torch.as_tensor(fields(3)), {"x": model.problem.output_space["x"].nodes})
    field = model.constrained(u0, model.tensors({}))
    whole, none = residual_loss(field)
    per_field = 0.5 * torch.log(2 * field.cost[:, 0])
    field.solution.status[1] = int(Status.MAX_STEPS)
    partial, one = residual_loss(field)
    assert (int(none), int(one)) == (0, 1)
    assert_close(whole, per_field.mean())
    assert_close(partial, per_field[[0, 2]].mean())
    field.solution.status[:] = int(Status.STALLED)
    nothing, three = residual_loss(field)
    assert nothing == 0 and three == 3


def test_a_damaged_checkpoint_is_refused(recipe, tmp_path):
    loop.train(recipe({"steps": 1}), tmp_path, None, quiet=True)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"is damaged .*; delete it to start again"):
        loop.train(recipe({"steps": 1}), tmp_path, None, quiet=True)


@pytest.mark.parametrize(
    ("training", "changes"), [({"learning_rate": 1e-3}, {}), ({}, {"network": {"width": 5}}), ({"seed": 5}, {})]
)
def test_a_checkpoint_of_another_recipe_is_refused(recipe, tmp_path, training, changes):
    loop.train(recipe({"steps": 1}), tmp_path, None, quiet=True)
    with pytest.raises(ValueError, match="is of another recipe; choose another --output or delete it"):
        loop.train(recipe({"steps": 1, **training}, **changes), tmp_path, None, quiet=True)


def test_validation_is_logged(recipe, tmp_path):
    class References:
        def errors(self, model):
            return np.array([0.1, 0.3])

    loop.train(recipe(), tmp_path, References(), quiet=True)
    assert [(r["error_mean"], r["error_max"]) for r in lines(tmp_path)] == [(0.2, 0.3)] * 2


# ------------------------------------------------------------------ recipes and the command line


@pytest.mark.parametrize("name", sorted(path.stem for path in recipes.FOLDER.glob("*.toml")))
def test_every_shipped_recipe_loads_and_builds(name):
    recipe = recipes.load(name)
    model = Surrogate.from_config(recipe.config)
    assert recipe.name == name and recipe.description and recipe.test_families
    known = values_of(model.problem, recipe.config["trust"])
    for family in (recipe.family, *recipe.test_families.values()):
        u0, _ = draw(model.problem, family, (), 2, 0)
        by_field = np.moveaxis(u0, -1, 0) if model.problem.is_system else [u0]
        for own, values in zip(known.values(), by_field, strict=True):
            assert own.low <= values.min() and values.max() <= own.high


def test_unknown_recipes_suggest_the_nearest():
    with pytest.raises(
        ValueError, match=r"no recipe 'difusion-sorption.genral'; did you mean .*'diffusion-sorption.general'"
    ):
        recipes.load("difusion-sorption.genral")


def test_overrides_reach_their_setting_and_unknown_ones_are_refused():
    recipe = recipes.load("diffusion-sorption.general", {"training.steps": 7, "network.width": 8})
    assert recipe.training.steps == 7 and recipe.config["network"]["width"] == 8
    default = recipes.load("diffusion-sorption.general")
    assert dataclasses.replace(recipe.training, steps=default.training.steps) == default.training
    with pytest.raises(ValueError, match="training: unknown setting 'step'; did you mean 'steps'"):
        recipes.load("diffusion-sorption.general", {"training.step": 7})


def test_toml_that_does_not_parse_is_refused(tmp_path):
    (tmp_path / "own.toml").write_text("name = ", encoding="utf-8")
    with pytest.raises(ValueError, match=r"own.toml is not valid TOML"):
        recipes.load(str(tmp_path / "own.toml"))


def test_the_command_line_trains_writes_a_model_and_refuses_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [
        "grid.time.elements=2", "grid.time.stages=3", "grid.space.x.num_nodes=16", "grid.space.x.grading=1.0",
        "network.width=4", "network.num_layers=1", "network.modes=[3, 4]", "network.num_basis=2",
        "training.steps=2", "training.batch=2",
    ]  # fmt: skip
    arguments = [part for text in small for part in ("--set", text)]
    options = ["--references", "0", "--quiet", "--device", "cpu"]
    assert command.main(["diffusion-sorption.general", *options, *arguments]) == 0
    from pihc_zoo.zoo.storage import load_folder

    assert load_folder(tmp_path / "runs" / "diffusion-sorption.general" / "model", pz.Surrogate).network.num_basis == 2
    capsys.readouterr()
    assert command.main(["diffusion-sorption.generl", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no recipe") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (["--output", "/proc/x"], "cannot write '/proc/x'"),
        (["--set", "training.steps=0"], "training: steps must be an integer of at least 1, got 0"),
        (["--set", "training.steps=many"], "training: steps must be an integer of at least 1, got 'many'"),
        (["--set", "training.validate_every=0"], "training: validate_every must be an integer of at least 1"),
        (["--set", "training.learning_rate=-1"], "training: learning_rate must be a positive number"),
        (["--set", "training.loss=rms"], "training: loss must be 'log' or 'mean'"),
        (["--set", "training=5"], "'training' must be a table"),
        (["--set", "name.x=5"], "cannot set 'name.x'"),
        (["--set", "netwrok.width=4"], "unknown key 'netwrok'; did you mean 'network'"),
        (["--set", "network.widht=4"], "network: unknown setting 'widht'"),
        (["--set", "family=constants"], "'family' must be a table"),
        (["--set", "family={name = 'periodic_gaussian_process', scal = 1}"], "family: unknown setting 'scal'"),
        (["--set", "test_parameters.thin.D=1e-4"], "test_parameters.thin: 'D' is no input of this model"),
        (["--set", "grid=5"], "'grid' must be a table"),
        (["--references", "-1"], "expected an integer of at least 0"),
        (["--threads", "0"], "expected an integer of at least 1"),
        (["--device", "abacus"], "cannot use device 'abacus'"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_any_work(option, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.__main__.reference_set", lambda *arguments, **options: pytest.fail("work was begun"))
    assert command.main(["diffusion-sorption.general", "--device", "cpu", *option]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error


@pytest.mark.parametrize("missing", ["name", "problem"])
def test_a_recipe_that_lacks_a_part_is_refused(tmp_path, missing):
    lines = (recipes.FOLDER / "diffusion-sorption.general.toml").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith((f"{missing} =", f"[{missing}]"))]
    if missing == "test_families":
        kept = [line for line in kept if not line.startswith(("random_sines", "gaussian_process", "constants"))]
    (tmp_path / "own.toml").write_text("\n".join(kept), encoding="utf-8")
    with pytest.raises(ValueError, match=f"own.toml lacks '{missing}'"):
        recipes.load(str(tmp_path / "own.toml"))


@pytest.mark.parametrize("held", ["metrics.jsonl", "model", "config.json"])
def test_a_folder_of_another_run_is_refused_and_stays(recipe, tmp_path, held):
    if held == "model":
        (tmp_path / held).mkdir()
    else:
        (tmp_path / held).write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds another run, or a model .*; choose another --output or delete it"):
        loop.train(recipe({"steps": 1}), tmp_path, None, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == [held]


def test_another_recipe_is_refused_before_references_are_made(recipe, tmp_path, capsys, monkeypatch):
    loop.train(recipe({"steps": 1}), tmp_path, None, quiet=True)
    monkeypatch.setattr("training.__main__.reference_set", lambda *arguments, **options: pytest.fail("work was begun"))
    assert command.main(["diffusion-sorption.general", "--device", "cpu", "--output", str(tmp_path)]) == 2
    assert "is of another recipe" in capsys.readouterr().err


def test_a_line_of_the_log_that_was_cut_is_dropped(recipe, tmp_path, interrupted_after):
    with interrupted_after(loop, 4), pytest.raises(KeyboardInterrupt):
        loop.train(recipe(), tmp_path, None, quiet=True)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')
    loop.train(recipe(), tmp_path, None, quiet=True)
    assert [r["step"] for r in lines(tmp_path)] == [3, 6]
