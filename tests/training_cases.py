"""Small recipes of every kind, trained in float64 with all of their steps recorded; also a program for torchrun.

torchrun --nproc-per-node N tests/training_cases.py FOLDER MESH
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pihc_zoo.families import PeriodicGaussianProcess, SmoothFields
from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.loss import residual_sum
from pihc_zoo.learning.mesh import Mesh, Place
from training import loop, run
from training import recipe as recipes
from training.recipe import Recipe, Training

sys.path.insert(0, str(Path(__file__).parent))
from conftest import TINY, TINY_ROLLOUT, _changed

SHIPPED = "diffusion-sorption.general"
FLOAT64 = {"dtype": "float64"}


def _bounded(training=None, **changes) -> Recipe:
    settings = {"steps": 3, "batch": 5, "learning_rate": 1e-2, **FLOAT64, **(training or {})}
    family = SmoothFields(shortest=0.3)
    return Recipe("tiny", _changed(TINY, changes), Training(**settings), family, {"same": family})


def _roll_out(training=None, **changes) -> Recipe:
    settings = {"steps": 4, "batch": 3, "pool": 7, "restart": 0.3, "loss": "mean", "warmup": 2, **FLOAT64}
    config = _changed(TINY_ROLLOUT, {"problem": {"inputs": ["nu"]}, "solver": {"max_steps": 6}, **changes})
    config["problem"]["name"] = "navier-stokes-2d"
    family = PeriodicGaussianProcess(length_scale=1.0, scale=0.5)
    return Recipe("tiny", config, Training(**{**settings, **(training or {})}), family, {"same": family})


CASES = {  # name → recipe, and in how many parts
    "disjoint, pointwise rows": (
        lambda: _bounded(
            decomposition={"name": "disjoint", "counts": {"x": 4}},
            residual_map={"name": "quadrature_weights"},
            solver={"max_steps": 40},
        ),
        1,
    ),
    "overlapping, rows in solution units, parameters as inputs": (
        lambda: _bounded(
            {"ema": 0.9},
            problem={"inputs": ["D", "n_f"]},
            decomposition={"name": "overlapping", "counts": {"x": 2}, "overlap": 2},
        ),
        2,
    ),
    "experts that do not converge": (
        lambda: _bounded(decomposition={"name": "disjoint", "counts": {"x": 2}}, solver={"max_steps": 1, "rtol": 6e-4}),
        1,
    ),
    "roll-out, overlapping in two sweeps, replay pool": (
        lambda: _roll_out(decomposition={"name": "overlapping", "counts": {"x": 2, "y": 2}, "overlap": 2, "sweeps": 2}),
        1,
    ),
    "roll-out, one solve, replay pool": (lambda: _roll_out({"batch": 6, "ema": 0.5}), 2),
    "joint": (lambda: _bounded({"loss": "mean"}, decomposition={"name": "joint", "counts": {"x": 2}}), 1),
    "shipped": (
        lambda: recipes.load(SHIPPED, {"training.steps": 20, "training.batch": 5, "training.dtype": "float64"}),
        1,
    ),
}


class Traffic(TorchDispatchMode):
    """Bytes that collectives are given, by their name."""

    def __init__(self):
        super().__init__()
        self.bytes = {"allreduce_": 0, "allgather_": 0}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function._schema.name.removeprefix("c10d::")
        if name in self.bytes:
            given = arguments[0] if name == "allreduce_" else arguments[1]
            self.bytes[name] += sum(tensor.numel() * tensor.element_size() for tensor in given)
        return function(*arguments, **(options or {}))


def recorded(case: str, folder: Path, processes: Processes | None = None) -> dict[str, np.ndarray]:
    """Trains a case; what every step left: loss, unsolved subproblems, weights, coefficients of own places, and bytes
    on the wire by collective, seen from below and as the processes count them."""
    make, parts = CASES[case]
    own = run.prepare(make(), folder, processes=processes, parts=parts)
    steps: dict[str, list] = {"loss": [], "unsolved": [], "weights": [], "coefficients": []}
    take_step, constrained = loop.take_step, own.model.constrained
    before, traffic = [0.0, 0.0], Traffic()
    for name in (*traffic.bytes, "counted"):
        steps[name] = []

    def kept(*arguments, **options):
        field = constrained(*arguments, **options)
        steps["coefficients"].append(field.coefficients.detach().cpu().numpy().copy())
        return field

    def noted(own, *arguments):
        seen = take_step(own, *arguments)
        loss, _, unsolved, _ = own.sums.tolist()
        steps["loss"].append(loss - before[0])
        steps["unsolved"].append(unsolved - before[1])
        before[:] = loss, unsolved
        weights = torch.cat([p.detach().flatten() for p in own.model.network.parameters()])
        steps["weights"].append(weights.cpu().numpy().copy())
        for name, count in traffic.bytes.items():
            steps[name].append(count)
            traffic.bytes[name] = 0
        steps["counted"].append(sum(own.processes.payload.values()))
        own.processes.payload.clear()
        return seen

    own.model.constrained, loop.take_step = kept, noted
    try:
        own.processes.payload.clear()
        with traffic:
            loop.advance(own, quiet=True)
    finally:
        loop.take_step = take_step
    coefficients = steps.pop("coefficients")
    arrays = {key: np.stack(values) for key, values in steps.items()}
    per_step = [np.concatenate(coefficients[i : i + parts]) for i in range(0, len(coefficients), parts)]
    arrays |= {"coefficients": np.stack(per_step), "places": own.places.cpu().numpy()}
    final = [value.flatten() for value in own.model.network.state_dict().values()]
    return arrays | {"final": torch.cat(final).detach().cpu().numpy()}


def serves(case: str, mesh: Mesh) -> bool:
    """Whether a case can be trained on a mesh."""
    experts = CASES[case][0]().config["decomposition"]
    is_joint = experts["name"] == "joint"
    return mesh.expert == 1 or not is_joint


def main(folder: Path, mesh_text: str, device: str = "cpu") -> None:
    """What each of several processes does: all cases that the mesh serves, in NUMBER-RANK.npz."""
    torch.set_num_threads(1)
    place = Place.of_environment()
    mesh = Mesh.parse(mesh_text, place.world)
    processes = Processes(place, mesh, device, timeout=60)
    processes.connect()
    for number, case in enumerate(CASES):
        if serves(case, mesh):
            arrays = recorded(case, folder / f"run-{number}", processes)
            np.savez(folder / f"{number}-{place.rank}.npz", **arrays)
    processes.close()


def residual_loss(field, kind="log"):
    """The mean of what `residual_sum` adds up, and the number of subproblems left out."""
    total, used, left_out = residual_sum(field, kind)
    return total / used.clamp(min=1), left_out
