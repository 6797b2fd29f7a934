"""Surrogates of any equation, spelled as text: manufactured solutions with sources converge at the stated orders."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import pihc_zoo as pz
from pihc_zoo.surrogate import Surrogate

BOX = {"kind": "bounded", "start": 0.0, "stop": 1.0, "points": 24}
RING = {"kind": "periodic", "start": 0.0, "stop": 1.0, "points": 32}


def problem(name, equations, space, duration=0.5, fields="u"):
    ranges = {field: {"range": [-3.0, 3.0]} for field in fields}
    return {"name": name, "equations": equations, "duration": duration, "fields": ranges, "space": space}


# Each: the problem, and its solution of x, y, t (fields last where there are several).
DISPERSIVE = (
    problem(
        "dispersive",
        [
            "u_t + u*u_x + 0.002*u_xxx = -cos(2*pi*x - t) + 2*pi*sin(2*pi*x - t)*cos(2*pi*x - t)"
            " - 0.002*(2*pi)**3*cos(2*pi*x - t)"
        ],
        {"x": RING},
    ),
    lambda x, y, t: np.sin(2 * np.pi * x - t),
)
TWO = (
    problem(
        "two",
        [
            "u_t = 0.01*u_xx + u*v + 0.01*(2*pi)**2*cos(2*pi*x)*exp(-t) - cos(2*pi*x)*exp(-t)"
            " - cos(2*pi*x)*exp(-t)*sin(2*pi*x + t)",
            "v_t = 0.02*v_xx - 0.1*u_x + cos(2*pi*x + t) + 0.02*(2*pi)**2*sin(2*pi*x + t) - 0.2*pi*sin(2*pi*x)*exp(-t)",
        ],
        {"x": RING},
        fields="uv",
    ),
    lambda x, y, t: np.stack([np.cos(2 * np.pi * x) * np.exp(-t), np.sin(2 * np.pi * x + t)], axis=-1),
)
MASS = (
    problem(
        "mass",
        [
            "(1 + u**2)*u_t = 0.05*u_xx - 0.3*u_x - (1 + (1 + exp(-t)*cos(1.5*pi*x))**2)*exp(-t)*cos(1.5*pi*x)"
            " + 0.05*(1.5*pi)**2*exp(-t)*cos(1.5*pi*x) - 0.3*1.5*pi*exp(-t)*sin(1.5*pi*x)"
        ],
        {"x": {**BOX, "left": "u_x = 0", "right": "u = 1"}},
    ),
    lambda x, y, t: 1 + np.exp(-t) * np.cos(1.5 * np.pi * x),
)
PLANE = (
    problem(
        "plane",
        [
            "u_t = 0.02*laplacian(u) - v + (0.04*pi**2 - 1)*exp(-t)*cos(pi*x)*cos(pi*y)"
            " + exp(-2*t)*cos(pi*x)*cos(2*pi*y)",
            "v_t = 0.01*laplacian(v) + u*v + (0.05*pi**2 - 2)*exp(-2*t)*cos(pi*x)*cos(2*pi*y)"
            " - exp(-3*t)*cos(pi*x)**2*cos(pi*y)*cos(2*pi*y)",
        ],
        {
            name: {**BOX, "left": [f"u_{name} = 0", f"v_{name} = 0"], "right": [f"u_{name} = 0", f"v_{name} = 0"]}
            for name in "xy"
        },
        fields="uv",
    ),
    lambda x, y, t: np.stack(
        [
            np.exp(-t) * np.cos(np.pi * x) * np.cos(np.pi * y),
            np.exp(-2 * t) * np.cos(np.pi * x) * np.cos(2 * np.pi * y),
        ],
        axis=-1,
    ),
)


def settings(case, time, space, ansatz, network):
    radau = {"name": "radau", "grading": 1.0, "power": 1.0, **time}
    return {
        "format": "pihc_zoo",
        "config_version": "1.1",
        "problem": case[0],
        "grid": {"time": radau, "space": {name: space for name in case[0]["space"]}},
        "network": network,
        "ansatz": ansatz,
        "residual_map": {"name": "inverse_linearised"},
        "decomposition": {"name": "joint", "counts": {}},
        "solver": {"name": "levenberg_marquardt", "max_steps": 20, "rtol": 1e-6},
        "trust": {"refinement": 1.5},
    }


def error(case, config):
    """Relative L2 error of the untrained model, and the estimated one over it."""
    torch.manual_seed(0)
    model = Surrogate.from_config(config).eval()
    axes = [axis.nodes for axis in model.problem.output_space.values()]
    x, y = np.meshgrid(*axes, indexing="ij") if len(axes) == 2 else (axes[0], None)
    times = np.linspace(0, case[0]["duration"], 5)
    exact = np.stack([case[1](x, y, t) for t in times])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        out = model.predict(exact[:1], times=times, polish=False)
    found = float(np.linalg.norm(out.u[0] - exact) / np.linalg.norm(exact))
    return found, float(out.estimated_error[0]) / found


def rates(errors):
    return np.log2(np.array(errors[:-1]) / errors[1:])


@pytest.mark.parametrize("case", [DISPERSIVE, TWO], ids=["odd derivative", "two fields"])
def test_steps_of_the_lift_are_of_fourth_order(case):
    """Runge–Kutta 4 beside an exact linear part, on all modes; read between steps by polynomials of a higher order."""
    network = {"name": "fourier_operator", "num_basis": 2, "width": 4, "num_layers": 1, "modes": [2], "degree": 2}
    space = {"name": "fourier", "num_nodes": 24, "length": 1.0}
    own = []
    for steps in (10, 20, 40):
        config = settings(
            case,
            {"duration": 0.5, "elements": 1, "stages": 14},
            space,
            {"name": "stepped", "steps": steps},
            network,
        )
        config["solver"] |= {"atol": 1.0}  # the lift alone
        own.append(error(case, config)[0])
    assert (rates(own) > 3.6).all() and own[-1] < 1e-5, own


@pytest.mark.parametrize(
    ("case", "sizes", "time"),
    [(MASS, (10, 20, 40), {"elements": 3, "stages": 6}), (PLANE, (8, 16, 32), {"elements": 1, "stages": 5})],
    ids=["mass and advection", "two fields on a plane"],
)
def test_nodes_between_walls_are_of_third_order(case, sizes, time):
    """Five-point stencils: second derivatives are accurate to order 5 − 2; the estimate sees what remains."""
    axes = len(case[0]["space"])
    network = {"name": "cosine_operator", "num_basis": 2, "width": 4, "num_layers": 1, "modes": [2] * (1 + axes)}
    own, ratios = [], []
    for nodes in sizes:
        space = {"name": "graded", "num_nodes": nodes, "start": 0.0, "stop": 1.0, "grading": 0.5}
        ansatz = {"name": "linearised", "sweeps": 20, "num_corrections": 4}
        found, ratio = error(case, settings(case, {"duration": 0.5, **time}, space, ansatz, network))
        own.append(found)
        ratios.append(ratio)
    assert (rates(own) > 2.7).all() and own[-1] < 1e-4, own
    assert all(0.5 < ratio < 2.5 for ratio in ratios[1:]), (own, ratios)


# ------------------------------------------------------------------ shipped problems as text

SHIPPED = {
    "allen-cahn-1d.general": {
        "name": "allen-cahn-text",
        "equations": ["u_t = eps*u_xx + 5*(u - u**3)"],
        "duration": 1.0,
        "fields": {"u": {"range": [-1.1, 1.1]}},
        "parameters": {"eps": {"default": 1e-2}},
        "space": {"x": {"kind": "periodic", "start": -1.0, "stop": 1.0, "points": 256}},
    },
    "korteweg-de-vries-1d.periodic": {
        "name": "korteweg-de-vries-text",
        "equations": ["u_t + u*u_x = -delta**2*u_xxx"],
        "duration": 1.0,
        "fields": {"u": {"range": [-3.0, 3.0]}},
        "parameters": {"delta": {"default": 0.022}},
        "space": {"x": {"kind": "periodic", "start": 0.0, "stop": 2.0, "points": 256}},
    },
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_text_of_a_shipped_problem_gives_its_model(name):
    """The same weights under the problem as text: the same answers, to what both estimate of their errors."""
    model = pz.from_pretrained(name)
    torch.manual_seed(0)
    text = Surrogate.from_config({**model.config, "problem": SHIPPED[name]}).eval()
    text.network.load_state_dict(model.network.state_dict())
    axis = model.problem.output_space["x"]
    phase = 2 * np.pi * (axis.nodes - axis.start) / axis.length
    u0 = 0.8 * np.sin(phase) * np.stack([np.cos(phase), np.ones_like(phase)])
    own, other = model.predict(u0), text.predict(u0)
    difference = np.linalg.norm((own.u - other.u).reshape(2, -1), axis=1) / np.linalg.norm(own.u.reshape(2, -1), axis=1)
    assert (difference <= own.estimated_error + other.estimated_error).all() and (difference < 1e-3).all()
