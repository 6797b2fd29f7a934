"""Transport of a sorbing solute through a column of soil:

    R(u) u_t = D u_xx − v u_x,    R(u) = 1 + k n_f (u + 1e-6)^(n_f − 1)

on x ∈ (0, 1) m, t ∈ (0, 20] h. The solute enters with the water, v u − D u_x = v c_in at x = 0, and leaves with it,
u_x = 0 at x = 1. In a clean column (u₀ = 0) a front runs in whose foot is steep, because R is largest where u is
smallest.

Source: M. Th. van Genuchten, W. J. Alves, "Analytical solutions of the one-dimensional convective-dispersive solute
transport equation" (1982), USDA Technical Bulletin 1661, for equation and walls; Freundlich's isotherm in place of a
linear one, with the shift of PDEBench's diffusion–sorption.
Deviation: u is clamped at 0 before the power, which is otherwise undefined below −1e-6.
"""

from __future__ import annotations

import numpy as np

from ..grid import CellAxis
from .base import Derivative, Parameter, Problem, Variable, WallCondition

_SHIFT = 1e-6  # of u in the power
_REFERENCE = 0.5  # of c_in: the state at which the linearised operator takes the retardation factor


class ColumnTransport(Problem):
    """R(u) u_t = D u_xx − v u_x with Freundlich sorption.

    ``u`` → concentration in the water, of a unit concentration; ``D`` → dispersion coefficient, m²/h; ``v`` → velocity
    of the water, m/h; ``n_f`` → Freundlich exponent; ``k`` → sorption coefficient, of unit concentration and per volume
    of water: dimensionless; ``c_in`` → concentration of what flows in.
    """

    name = "column-transport"
    title = "Transport through a sorbing column, 1-D"
    equation = r"R(u)\,u_t = D\,u_{xx} - v\,u_x,\quad R(u) = 1 + k\,n_f\,(u+10^{-6})^{n_f-1}"
    fields = {"u": Variable(0.0, 1.0, description="concentration of the solute")}
    units = {"x": "m", "t": "h"}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
    }
    parameters = {
        "D": Parameter(5e-3, 2e-3, 1e-2, "m²/h", "dispersion coefficient", True, (0.0, np.inf)),
        "v": Parameter(0.1, 0.05, 0.15, "m/h", "velocity of the water", physical=(0.0, np.inf)),
        "n_f": Parameter(0.8, 0.6, 0.95, "dimensionless", "Freundlich exponent", physical=(0.0, np.inf)),
        "k": Parameter(1.0, 0.3, 2.0, "dimensionless", "sorption coefficient", physical=(0.0, np.inf)),
        "c_in": Parameter(0.5, 0.2, 1.0, "dimensionless", "inflow concentration", physical=(0.0, np.inf)),
    }
    duration = 20.0
    output_space = {"x": CellAxis(200, 0.0, 1.0)}
    output_times = np.linspace(0.0, 20.0, 101)

    def retardation_factor(self, u, c):
        """R(u) ≥ 1, dimensionless; pointwise, R′ = 0 for u < 0."""
        return 1 + c["k"] * c["n_f"] * (u.clip(min=0) + _SHIFT) ** (c["n_f"] - 1)

    def storage(self, f, c):
        """Solute per volume of water, m(u) = ∫₀ᵘ R: dissolved u and sorbed k ((u + 1e-6)^n_f − 1e-6^n_f)."""
        positive, shift = f["u"].clip(min=0), 0 * c["n_f"] + _SHIFT
        sorbed = (positive + shift) ** c["n_f"] - shift ** c["n_f"]
        slope = c["n_f"] * shift ** (c["n_f"] - 1)  # (R − 1) / k of u < 0
        return f["u"] + c["k"] * (sorbed + slope * (f["u"] - positive))

    def residual(self, f, c, at):
        return self.retardation_factor(f["u"], c) * f["u_t"] - c["D"] * f["u_xx"] + c["v"] * f["u_x"]

    def at_rest(self, f, c, at):
        return c["v"] * f["u_x"] - c["D"] * f["u_xx"]  # without R(u) · 0

    def walls(self, c):
        inlet = WallCondition(value=c["v"], slope=-c["D"], target=c["v"] * c["c_in"])
        return {"x": (inlet, WallCondition(value=0.0, slope=1.0, target=0.0))}

    def linearised(self, c):
        """R(c_in / 2) u_t − D u_xx + v u_x."""
        factor = self.retardation_factor(_REFERENCE * c["c_in"] + 0 * c["D"], c)
        return {"u_t": factor, "u_xx": -c["D"], "u_x": c["v"]}

    def initial_factor(self, c):
        """Initial fields are shares of c_in."""
        return c["c_in"]

    def layer_width(self, t, c):
        """√(D t / R), the diffusion length, m."""
        return (c["D"] / self.linearised(c)["u_t"] * t) ** 0.5

    def network_inputs(self, lift, c):
        factor = self.retardation_factor(lift, c)
        return [factor / self.linearised(c)["u_t"] - 1]
