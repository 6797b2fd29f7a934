"""The Allen–Cahn equation in one dimension, periodic:

    u_t = ε u_xx + 5 (u − u³)

Fields separate into the phases u = ±1, with walls of width √(2 ε / 5) between them, which move slowly and merge.

Source: S. M. Allen, J. W. Cahn, "A microscopic theory for antiphase boundary motion" (1979),
doi:10.1016/0001-6160(79)90196-2; the factor 5 and x ∈ (−1, 1) as in M. Raissi, P. Perdikaris, G. E. Karniadakis,
"Physics-informed neural networks" (2019), doi:10.1016/j.jcp.2018.10.045.
"""

from __future__ import annotations

import numpy as np

from ..grid import FourierAxis
from .base import Derivative, Parameter, Problem, Variable


class AllenCahn(Problem):
    """u_t = ε u_xx + 5 (u − u³).

    ``u`` → order parameter; ``eps`` → ε, length²/time. Length is in units of half the period: dimensionless.
    """

    name = "allen-cahn-1d"
    title = "Allen–Cahn, 1-D"
    equation = r"u_t = \varepsilon\,u_{xx} + 5\,(u - u^3)"
    fields = {"u": Variable(-1.1, 1.1, description="order parameter")}
    units = {"x": "dimensionless", "t": "dimensionless"}
    features = {"u": Derivative("u"), "u_t": Derivative("u", t=1), "u_xx": Derivative("u", x=2)}
    parameters = {
        "eps": Parameter(1e-2, 1e-2, 1e-2, "dimensionless", "gradient energy ε (fixed)", physical=(0.0, np.inf)),
    }
    duration = 1.0
    can_continue = True
    output_space = {"x": FourierAxis(256, length=2.0, start=-1.0)}
    output_times = np.linspace(0.0, 1.0, 101)

    def residual(self, f, c, at):
        return f["u_t"] - c["eps"] * f["u_xx"] - 5 * (f["u"] - f["u"] * f["u"] * f["u"])

    def linearised(self, c):
        """u_t − ε u_xx: diffusion without reaction."""
        return {"u_t": 1.0, "u_xx": -c["eps"]}
