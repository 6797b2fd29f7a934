"""Tiny untrained models of problems from text: a periodic system, a Robin wall, a system on two bounded axes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from pihc_zoo.surrogate import Surrogate

_NO_FLUX = {"left": ["u_{0} = 0", "v_{0} = 0"], "right": ["u_{0} = 0", "v_{0} = 0"]}

GRAY_SCOTT = {
    "name": "gray-scott-small",
    "title": "Gray–Scott, 1-D",
    "equations": ["u_t = D*u_xx - u*v**2 + F*(1 - u)", "v_t = 5e-4*v_xx + u*v**2 - 0.1*v"],
    "duration": 2.0,
    "times": 9,
    "inputs": ["D"],
    "time_unit": "s",
    "fields": {
        "u": {"range": [0.0, 1.0], "unit": "mol/m³", "description": "substrate"},
        "v": {"range": [-1.0, 1.0], "unit": "kg/m³", "description": "activator"},
    },
    "parameters": {
        "D": {"default": 1e-3, "low": 5e-4, "high": 2e-3, "unit": "m²/s", "is_logarithmic": True},
        "F": {"default": 0.04, "unit": "1/s"},
    },
    "space": {"x": {"kind": "periodic", "start": 0.0, "stop": 1.0, "points": 32, "unit": "m"}},
}

ROBIN = {
    "name": "robin-small",
    "title": "Growth and transport, 1-D",
    "equations": ["u_t = D*u_xx + u*(1 - u) - 0.2*u*u_x"],
    "duration": 1.0,
    "times": 9,
    "inputs": ["D"],
    "fields": {"u": {"range": [0.0, 1.2], "unit": "1/m³"}},
    "parameters": {"D": {"default": 0.02, "low": 0.01, "high": 0.04, "unit": "m²/s"}},
    "space": {
        "x": {"kind": "bounded", "start": 0.0, "stop": 1.0, "points": 40, "left": "u = 1", "right": "u + 0.5*u_x = 0"}
    },
}

FITZHUGH_NAGUMO = {
    "name": "fitzhugh-nagumo-small",
    "title": "FitzHugh–Nagumo, 2-D",
    "equations": ["u_t = 1e-2*laplacian(u) + u - u**3 - k - v", "v_t = 2e-2*laplacian(v) + u - v"],
    "duration": 1.0,
    "times": 5,
    "fields": {"u": {"range": [-1.5, 1.5]}, "v": {"range": [-1.5, 1.5], "unit": "V"}},
    "parameters": {"k": {"default": 5e-3}},
    "space": {
        name: {
            "kind": "bounded", "start": -1.0, "stop": 1.0, "points": 16,
            **{side: [text.format(name) for text in texts] for side, texts in _NO_FLUX.items()},
        }
        for name in ("x", "y")
    },
}  # fmt: skip


def _configuration(problem: dict[str, Any], grid: dict, network: dict, ansatz: dict, residual_map: str, **trust: Any):
    return {
        "format": "pihc_zoo",
        "config_version": "1.0",
        "problem": problem,
        "grid": grid,
        "network": network,
        "ansatz": ansatz,
        "residual_map": {"name": residual_map},
        "decomposition": {"name": "joint", "counts": {}},
        "solver": {"name": "levenberg_marquardt", "max_steps": 20, "rtol": 1e-6},
        "trust": {"threshold": 0.05, "krylov": 3, **trust},
    }


def configuration(name: str) -> dict[str, Any]:
    """Of one of the problems above, by its name."""
    if name == "gray-scott-small":
        time = {"name": "radau", "duration": 1.0, "elements": 1, "stages": 5, "power": 1.0, "grading": 1.0}
        grid = {"time": time, "space": {"x": {"name": "fourier", "num_nodes": 32, "length": 1.0, "start": 0.0}}}
        network = {"name": "fourier_operator", "num_basis": 6, "width": 8, "num_layers": 1, "modes": [6], "degree": 3}
        ansatz = {"name": "stepped", "steps": 8}
        return _configuration(GRAY_SCOTT, grid, network, ansatz, "quadrature_weights", refinement=1.0)
    if name == "robin-small":
        x = {"name": "graded", "num_nodes": 32, "start": 0.0, "stop": 1.0, "grading": 1.5}
        grid = {"time": {"name": "radau", "duration": 1.0, "elements": 3, "stages": 5}, "space": {"x": x}}
        network = {"name": "cosine_operator", "num_basis": 4, "width": 8, "num_layers": 1, "modes": [4, 6]}
        return _configuration(ROBIN, grid, network, {"name": "linearised", "num_corrections": 4}, "inverse_linearised")
    if name == "fitzhugh-nagumo-small":
        own = {"name": "graded", "num_nodes": 16, "start": -1.0, "stop": 1.0, "grading": 0.8, "stencil": 5}
        time = {"name": "radau", "duration": 1.0, "elements": 1, "stages": 4, "power": 1.0, "grading": 1.0}
        network = {"name": "cosine_operator", "num_basis": 4, "width": 8, "num_layers": 1, "modes": [2, 4, 4]}
        ansatz = {"name": "linearised", "num_corrections": 2, "sweeps": 2}
        grid = {"time": time, "space": {"x": own, "y": own}}
        return _configuration(FITZHUGH_NAGUMO, grid, network, ansatz, "quadrature_weights", refinement=1.5)
    raise ValueError(f"no such model: {name}")


NAMES = ("gray-scott-small", "robin-small", "fitzhugh-nagumo-small")


@cache
def model(name: str) -> Surrogate:
    """The untrained model of one of the problems above; do not change it."""
    torch.manual_seed(0)
    return Surrogate.from_config(configuration(name)).eval()


def initial(name: str, batch: int = 2) -> np.ndarray:
    """(batch, *space[, field]) smooth initial conditions on the native grid."""
    space = [axis.nodes for axis in model(name).problem.output_space.values()]
    phase = np.arange(batch)[:, None]
    if name == "robin-small":
        return 0.6 + 0.3 * np.cos(np.pi * space[0] * (1 + phase))
    if name == "gray-scott-small":
        wave = 2 * np.pi * space[0]
        return np.stack([0.6 + 0.2 * np.sin(wave + phase), 0.3 + 0.2 * np.cos(2 * wave - phase)], axis=-1)
    x, y = np.meshgrid(*[0.5 * np.pi * (values + 1) for values in space], indexing="ij")
    phase = phase[..., None]
    return np.stack([np.cos(x) * np.cos(2 * y) + 0.1 * phase, 0.5 * np.cos((1 + phase) * x + 0 * y)], axis=-1)
