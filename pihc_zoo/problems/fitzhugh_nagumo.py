"""Two-field reaction and diffusion in two dimensions, FitzHugh–Nagumo's equations between walls without flux:

    u_t = D_u Δu + u − u³ − k − v
    v_t = D_v Δv + u − v

on (−1, 1)², t ∈ (0, 5]. The activator u separates into phases that the inhibitor v holds apart.

Source: M. Takamoto et al., "PDEBench" (2022), arXiv:2210.07182, appendix D.5: the equations, the constants, walls, T
and 128 × 128 cells.
Deviation: smooth initial fields in place of its white noise.
"""

from __future__ import annotations

import numpy as np

from ..grid import CellAxis
from .base import Derivative, Parameter, Problem, Variable, WallCondition

_CLOSED = WallCondition(value=0.0, slope=1.0, target=0.0)


class FitzHughNagumo2D(Problem):
    """u_t = D_u Δu + u − u³ − k − v, v_t = D_v Δv + u − v.

    ``u`` → activator, ``v`` → inhibitor; ``D_u``, ``D_v`` → their diffusion coefficients, length²/time; ``k`` → rate of
    the activator's loss, dimensionless.
    """

    name = "reaction-diffusion-2d"
    title = "Reaction–diffusion of FitzHugh and Nagumo, 2-D"
    equation = r"\begin{aligned} u_t &= D_u\,\Delta u + u - u^3 - k - v \\ v_t &= D_v\,\Delta v + u - v \end{aligned}"
    fields = {"u": Variable(-1.2, 1.2, description="activator"), "v": Variable(-1.2, 1.2, description="inhibitor")}
    units = {"x": "dimensionless", "y": "dimensionless", "t": "dimensionless"}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_xx": Derivative("u", x=2),
        "u_yy": Derivative("u", y=2),
        "v": Derivative("v"),
        "v_t": Derivative("v", t=1),
        "v_xx": Derivative("v", x=2),
        "v_yy": Derivative("v", y=2),
    }
    parameters = {
        "D_u": Parameter(
            1e-3, 1e-3, 1e-3, "dimensionless", "diffusion of the activator (fixed)", physical=(0.0, np.inf)
        ),
        "D_v": Parameter(
            5e-3, 5e-3, 5e-3, "dimensionless", "diffusion of the inhibitor (fixed)", physical=(0.0, np.inf)
        ),
        "k": Parameter(5e-3, 5e-3, 5e-3, "dimensionless", "loss of the activator (fixed)"),
    }
    duration = 5.0
    output_space = {"x": CellAxis(128, -1.0, 1.0), "y": CellAxis(128, -1.0, 1.0)}
    output_times = np.linspace(0.0, 5.0, 101)

    def residual(self, f, c, at):
        u, v = f["u"], f["v"]
        activator = f["u_t"] - c["D_u"] * (f["u_xx"] + f["u_yy"]) - u + u * u * u + c["k"] + v
        return activator, f["v_t"] - c["D_v"] * (f["v_xx"] + f["v_yy"]) - u + v

    def walls(self, c):
        closed = {field: (_CLOSED, _CLOSED) for field in self.fields}
        return {"x": closed, "y": closed}

    def linearised(self, c):
        """The linear terms, u³ left out."""
        return [
            {"u_t": 1.0, "u_xx": -c["D_u"], "u_yy": -c["D_u"], "u": -1.0, "v": 1.0},
            {"v_t": 1.0, "v_xx": -c["D_v"], "v_yy": -c["D_v"], "u": -1.0, "v": 1.0},
        ]

    def layer_width(self, t, c):
        """√(D_u t), the shorter diffusion length."""
        return (c["D_u"] * t) ** 0.5
