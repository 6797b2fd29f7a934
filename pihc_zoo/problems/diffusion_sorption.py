"""Diffusion–sorption in one dimension:

    R(u) u_t = D u_xx,    R(u) = 1 + (1 − φ)/φ · ρ_s k_f n_f (u + 1e-6)^(n_f − 1)

on x ∈ (0, 1) m, t ∈ (0, 500] s, with u = 1 at the left wall and u = −D u_x at the right one.

Source: M. Takamoto et al., "PDEBench" (2022), arXiv:2210.07182, appendix; the constants and the
walls are those of its generator: 1024 cells of size dx, ghost values at −dx/2 and 1 + dx/2, the
right slope taken between the last two cells, that is at 1 − dx.
Deviation: u is clamped at 0 before the power, which is otherwise undefined below −1e-6.
"""

from __future__ import annotations

import numpy as np

from ..grid import UniformAxis
from .base import Derivative, Parameter, Problem, Variable, WallCondition

_CELL = 1 / 1024
_SHIFT = 1e-6  # of u in the power, PDEBench's
_REFERENCE_STATE, _REFERENCE_EXPONENT = 0.2, 0.874  # where the linearised operator takes the retardation factor


class DiffusionSorption(Problem):
    """R(u) u_t = D u_xx with Freundlich sorption.

    ``u`` → concentration of the solute, dimensionless; ``D`` → effective diffusion coefficient,
    m²/s; ``phi`` → porosity φ; ``n_f``, ``k_f``, ``rho_s`` → Freundlich exponent, sorption
    coefficient and bulk density. Only the product ρ_s k_f is identifiable.
    """

    name = "diffusion-sorption"
    title = "Diffusion–sorption, 1-D"
    equation = r"R(u)\,u_t = D\,u_{xx},\quad R(u) = 1 + \frac{1-\phi}{\phi}\rho_s k_f n_f (u+10^{-6})^{n_f-1}"
    fields = {"u": Variable(0.0, 1.0, description="concentration of the solute")}
    units = {"x": "m", "t": "s"}
    features = {"u": Derivative("u"), "u_t": Derivative("u", t=1), "u_xx": Derivative("u", x=2)}
    parameters = {
        "D": Parameter(5e-4, 2e-4, 1e-3, "m²/s", "effective diffusion coefficient", True, (0.0, np.inf)),
        "phi": Parameter(0.29, 0.2, 0.5, "dimensionless", "porosity", physical=(0.0, 1.0)),
        "n_f": Parameter(0.874, 0.5, 0.95, "dimensionless", "Freundlich exponent", physical=(0.0, np.inf)),
        "k_f": Parameter(
            3.5e-4, 3.5e-4, 3.5e-4, "m³/kg", "Freundlich sorption coefficient (fixed)", False, (0.0, np.inf)
        ),
        "rho_s": Parameter(2880.0, 2880.0, 2880.0, "kg/m³", "bulk density (fixed)", physical=(0.0, np.inf)),
    }
    duration = 500.0
    is_defined_on_cells = True
    output_space = {"x": UniformAxis(1024, 0.0, 1.0, stencil=3)}
    output_times = np.linspace(0.0, 500.0, 101)

    def retardation_factor(self, u, c):
        """R(u) ≥ 1, dimensionless; pointwise, R′ = 0 for u < 0."""
        sorption = (1 - c["phi"]) / c["phi"] * c["rho_s"] * c["k_f"] * c["n_f"]
        return 1 + sorption * (u.clip(min=0) + _SHIFT) ** (c["n_f"] - 1)

    def storage(self, f, c):
        """Stored mass per volume of water, m(u) = ∫₀ᵘ R: dissolved u and sorbed ((u + 1e-6)^n_f − 1e-6^n_f) s/n_f."""
        positive = f["u"].clip(min=0)
        sorption = (1 - c["phi"]) / c["phi"] * c["rho_s"] * c["k_f"]
        shift = 0 * c["n_f"] + _SHIFT
        sorbed = (positive + shift) ** c["n_f"] - shift ** c["n_f"]
        slope = c["n_f"] * shift ** (c["n_f"] - 1)  # R − 1 of u < 0
        return f["u"] + sorption * (sorbed + slope * (f["u"] - positive))

    def residual(self, f, c, at):
        return self.retardation_factor(f["u"], c) * f["u_t"] - c["D"] * f["u_xx"]

    def at_rest(self, f, c, at):
        return -c["D"] * f["u_xx"]  # without R(u) · 0

    def walls(self, c):
        left = WallCondition(value=1.0, slope=0.0, target=1.0)
        right = WallCondition(value=1.0, slope=c["D"], target=0.0, at=1.0 - _CELL)
        return {"x": (left, right)}

    def linearised(self, c):
        """R(u_r) u_t − D u_xx at the reference state u_r = 0.2 (n_f / 0.874)².

        The smaller n_f, the steeper R near u = 0, and the smaller the state that represents it.
        """
        state = _REFERENCE_STATE * (c["n_f"] / _REFERENCE_EXPONENT) ** 2
        return {"u_t": self.retardation_factor(state + 0 * c["D"], c), "u_xx": -c["D"]}

    def layer_width(self, t, c):
        """√(D t / R), the diffusion length, m."""
        return (c["D"] / self.linearised(c)["u_t"] * t) ** 0.5

    def network_inputs(self, lift, c):
        factor = self.retardation_factor(lift, c)
        return [factor / self.linearised(c)["u_t"] - 1]

    def check_initial_condition(self, u0):
        problems = []
        for values in u0:
            low, high = values.min(), values.max()
            if low < 0:
                problems.append(f"initial condition has negative values (minimum {low:.3g}); a concentration is ≥ 0")
            elif high > self.state_range[1]:
                problems.append(
                    f"initial condition exceeds 1 (maximum {high:.3g}); the left wall holds u = 1: scale your field"
                )
            else:
                problems.append(None)
        return problems
