"""What a package of one's own holds: a problem, a network and a family of initial conditions, registered at import."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import pihc_zoo as pz
from pihc_zoo.families import Family
from pihc_zoo.grid import UniformAxis
from pihc_zoo.networks import BasisNetwork
from pihc_zoo.problems import Derivative, Parameter, Problem, Variable, WallCondition

CONFIG = {
    "format": "pihc_zoo",
    "config_version": "1.1",
    "problem": {"name": "heat-1d", "inputs": ["kappa"]},
    "grid": {
        "time": {"name": "radau", "duration": 1.0, "elements": 2, "stages": 4},
        "space": {"x": {"name": "graded", "num_nodes": 24, "start": -1 / 128, "stop": 1 + 1 / 128, "grading": 1.0}},
    },
    "network": {"name": "small", "num_basis": 2, "width": 4},
    "ansatz": {"name": "linearised"},
    "residual_map": {"name": "inverse_linearised"},
    "decomposition": {"name": "joint", "counts": {"x": 2}},
    "solver": {"name": "levenberg_marquardt", "max_steps": 8, "rtol": 1e-3},
    "trust": {"refinement": 1.5, "state_range": [-1.0, 1.0], "threshold": 1.0},
}


@pz.register_problem
class Heat(Problem):
    """u_t = κ u_xx between walls held at 0."""

    name = "heat-1d"
    title = "Heat, 1-D"
    equation = r"u_t = \\kappa\\,u_{xx}"
    fields = {"u": Variable(-1.0, 1.0, "K", "temperature")}
    units = {"x": "m", "t": "s"}
    features = {"u": Derivative("u"), "u_t": Derivative("u", t=1), "u_xx": Derivative("u", x=2)}
    parameters = {"kappa": Parameter(0.05, 0.02, 0.1, "m²/s", "diffusivity")}
    duration = 1.0
    output_space = {"x": UniformAxis(64, 0.0, 1.0)}
    output_times = np.linspace(0.0, 1.0, 11)

    def residual(self, f, c, at):
        return f["u_t"] - c["kappa"] * f["u_xx"]

    def walls(self, c):
        return {"x": (WallCondition(1.0, 0.0, 0.0), WallCondition(1.0, 0.0, 0.0))}

    def linearised(self, c):
        return {"u_t": 1 + 0 * c["kappa"], "u_xx": -c["kappa"]}

    def layer_width(self, t, c):
        return (c["kappa"] * t) ** 0.5


@pz.register_network("small")
class Small(BasisNetwork):
    """Two layers over the channels alone."""

    def __init__(self, grid, num_inputs: int, num_basis: int, width: int = 8):
        super().__init__()
        self.num_basis = num_basis
        self.layers = nn.Sequential(nn.Linear(num_inputs, width), nn.Tanh(), nn.Linear(width, num_basis))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs.movedim(1, -1)).movedim(-1, 1)


@pz.register_family("lone_sines")
@dataclass(frozen=True)
class LoneSines(Family):
    """a sin(π x), a between lowest and highest."""

    lowest: float = 0.2
    highest: float = 0.9

    def draw(self, count, axes, rng):
        return rng.uniform(self.lowest, self.highest, count)[:, None] * np.sin(np.pi * axes[0])
