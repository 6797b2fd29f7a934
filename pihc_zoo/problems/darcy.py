"""Steady flow through a porous medium, Darcy's equation between walls held at zero:

    −∇·(a ∇u) = 1    on (0, 1)²,    u = 0 on the walls

The permeability a(x, y) is given as a field.

It is solved in the form −Δu − ∇(log a)·∇u = 1/a. There A = −Δ whatever a is, and A⁻¹ times the equation differs from
the identity by a compact operator, so that few Krylov directions carry the solution; of −a Δu − ∇a·∇u = 1 with A = −ā Δ
their number grows with the ratio of the largest a to the smallest, up to 200. A system of first order (q = −a ∇u,
∇·q = 1) has three fields in place of one, and no conditions at the walls for q.

Source: Z. Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations" (2021), arXiv:2010.08895,
5.2, for equation, source and walls.
Deviation: a smooth log-normal field in [0.05, 10] in place of its piecewise constant one.
"""

from __future__ import annotations

import numpy as np

from ..grid import CellAxis
from .base import Derivative, Parameter, Problem, Variable, WallCondition

_HELD = WallCondition(value=1.0, slope=0.0, target=0.0)
_LAYER = 0.1  # distance from a wall over which corrections grow


class Darcy2D(Problem):
    """−∇·(a ∇u) = 1 on the unit square, u = 0 on its walls.

    ``u`` → pressure; ``a`` → permeability, a field over space; both dimensionless.
    """

    name = "darcy-2d"
    title = "Darcy flow, 2-D, steady"
    equation = r"-\nabla\cdot(a\,\nabla u) = 1"
    fields = {"u": Variable(0.0, 1.5, description="pressure")}
    units = {"x": "dimensionless", "y": "dimensionless"}
    features = {
        "u_x": Derivative("u", x=1),
        "u_y": Derivative("u", y=1),
        "u_xx": Derivative("u", x=2),
        "u_yy": Derivative("u", y=2),
    }
    parameters = {}
    coefficients = {"a": Parameter(1.0, 0.05, 10.0, "dimensionless", "permeability", True, (0.0, np.inf))}
    coefficient_features = {"a_x": Derivative("a", x=1), "a_y": Derivative("a", y=1)}
    coefficient_families = {"a": {"shortest": 0.2, "longest": 0.5}}
    duration = None
    output_space = {"x": CellAxis(64, 0.0, 1.0), "y": CellAxis(64, 0.0, 1.0)}
    output_times = np.ones(1)

    def residual(self, f, c, at):
        flow = at["a_x"] * f["u_x"] + at["a_y"] * f["u_y"]
        return -f["u_xx"] - f["u_yy"] - (flow + 1) / at["a"]

    def walls(self, c):
        return {"x": (_HELD, _HELD), "y": (_HELD, _HELD)}

    def linearised(self, c):
        """−Δ."""
        return {"u_xx": -1.0, "u_yy": -1.0}

    def layer_width(self, t, c):
        return _LAYER + 0 * t
