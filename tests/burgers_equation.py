"""Burgers' equation on the periodic unit interval, as a problem for tests."""

from __future__ import annotations

import numpy as np

from pihc_zoo.grid import FourierAxis
from pihc_zoo.problems.base import Derivative, Parameter, Problem, Variable


class Burgers(Problem):
    """u_t + u u_x = ν u_xx on the periodic unit interval."""

    fields = {"u": Variable(-2.0, 2.0)}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {"nu": Parameter(0.02, 0.001, 0.1, "dimensionless", "viscosity")}
    duration = 1.0
    output_space = {"x": FourierAxis(64)}
    output_times = np.linspace(0.0, 1.0, 5)

    def residual(self, f, c, at):
        return f["u_t"] + f["u"] * f["u_x"] - c["nu"] * f["u_xx"]

    def linearised(self, c):
        return {"u_t": 1.0 + 0 * c["nu"], "u_xx": -c["nu"]}
