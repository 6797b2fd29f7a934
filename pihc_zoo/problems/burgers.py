"""Viscous Burgers' equation in one dimension, on the periodic unit interval:

    u_t + u u_x = ν u_xx

Smooth fields steepen into fronts of thickness 4ν / jump, which move, merge and decay. The mean of u
is constant in time, because u u_x is a derivative.

Source: M. Takamoto et al., "PDEBench" (2022), arXiv:2210.07182, appendix D.2: the interval, T = 2 and the
initial fields; its viscosity is ν/π, ν from 1e-3 to 4.
Deviation: viscosities as small as PDEBench's smallest, 3.2e-4, leave fronts that take thousands of points.
"""

from __future__ import annotations

import numpy as np

from ..grid import FourierAxis
from .base import Derivative, Parameter, Problem, Variable


class Burgers(Problem):
    """u_t + u u_x = ν u_xx.

    ``u`` → velocity; ``nu`` → viscosity ν, length²/time. Length is in units of the period and velocity
    of the initial amplitude: dimensionless.
    """

    name = "burgers-1d"
    title = "Viscous Burgers, 1-D"
    equation = r"u_t + u\,u_x = \nu\,u_{xx}"
    fields = {"u": Variable(-2.5, 2.5, description="velocity", scale=1.0)}
    units = {"x": "dimensionless", "t": "dimensionless"}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {
        "nu": Parameter(1e-2, 1e-3, 1e-1, "dimensionless", "viscosity", is_logarithmic=True, physical=(0.0, np.inf)),
    }
    duration = 2.0
    conserves_mean = True
    can_continue = True
    output_space = {"x": FourierAxis(256)}
    output_times = np.linspace(0.0, 2.0, 101)

    def residual(self, f, c, at):
        return f["u_t"] + f["u"] * f["u_x"] - c["nu"] * f["u_xx"]

    def moving_frame(self, u0):
        """Galilean invariance: u(x, t) = ū + v(x − ū t, t), where v of zero mean solves the same equation."""
        mean = u0.mean(-1)
        return {"x": mean}, mean

    def linearised(self, c):
        """u_t − ν u_xx: diffusion without steepening."""
        return {"u_t": 1.0, "u_xx": -c["nu"]}

    def check_initial_condition(self, u0):
        problems = []
        for values in u0:
            largest = max(-values.min(), values.max())
            problems.append(
                f"initial velocity reaches {largest:.3g}; at most {self.state_range[1]:g}: scale your field"
                if largest > self.state_range[1]
                else None
            )
        return problems
