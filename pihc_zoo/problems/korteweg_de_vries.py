"""The Korteweg–de Vries equation in one dimension, periodic:

    u_t + u u_x + δ² u_xxx = 0

A smooth field steepens and breaks up into solitons, which pass through each other. Mass ∫u and momentum ∫u² are
constant.

Source: N. J. Zabusky, M. D. Kruskal, "Interaction of 'solitons' in a collisionless plasma and the recurrence of initial
states" (1965), doi:10.1103/PhysRevLett.15.240: δ = 0.022 on a period of 2; their cosine breaks at t = 1/π.
"""

from __future__ import annotations

import numpy as np

from ..grid import FourierAxis
from .base import Derivative, Parameter, Problem, Variable


class KortewegDeVries(Problem):
    """u_t + u u_x + δ² u_xxx = 0.

    ``u`` → velocity; ``delta`` → δ, a length. Length is in units of half the period: dimensionless.
    """

    name = "korteweg-de-vries-1d"
    title = "Korteweg–de Vries, 1-D"
    equation = r"u_t + u\,u_x + \delta^2\,u_{xxx} = 0"
    fields = {"u": Variable(-3.0, 3.0, description="velocity", scale=0.7)}
    units = {"x": "dimensionless", "t": "dimensionless"}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xxx": Derivative("u", x=3),
    }
    parameters = {
        "delta": Parameter(
            0.022, 0.022, 0.022, "dimensionless", "width δ of dispersion (fixed)", physical=(0.0, np.inf)
        ),
    }
    duration = 1.0
    conserves_mean = True
    can_continue = True
    output_space = {"x": FourierAxis(256, length=2.0)}
    output_times = np.linspace(0.0, 1.0, 101)

    def residual(self, f, c, at):
        return f["u_t"] + f["u"] * f["u_x"] + c["delta"] * c["delta"] * f["u_xxx"]

    def moving_frame(self, u0):
        """Galilean invariance: u(x, t) = ū + v(x − ū t, t), where v of zero mean solves the same equation."""
        mean = u0.mean(-1)
        return {"x": mean}, mean

    def linearised(self, c):
        """u_t + δ² u_xxx: dispersion without steepening."""
        return {"u_t": 1.0, "u_xxx": c["delta"] * c["delta"]}
