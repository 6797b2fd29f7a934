"""Incompressible Navier–Stokes in two dimensions, in vorticity form on the periodic unit square:

    w_t + u·∇w = ν Δw,    u = (−ψ_y, ψ_x),  Δψ = w

Velocity is a non-local linear feature of the vorticity; ∇·u = 0 by construction. The mean of w is zero
at all times, because the circulation around the square is.

Source: N. Chalapathi, Y. Du, A. Krishnapriyan, "Scaling physics-informed hard constraints with
mixture-of-experts" (ICLR 2024), arXiv:2402.13412: ν = 1e-4, T = 5 (there called Re = 1e4).
"""

from __future__ import annotations

import numpy as np

from ..grid import FourierAxis
from .base import Derivative, Parameter, Problem, Variable

_LARGEST_MEAN = 1e-6  # of the root mean square


class NavierStokes2D(Problem):
    """w_t − ψ_y w_x + ψ_x w_y = ν (w_xx + w_yy).

    ``w`` → vorticity, 1/time; ``psi_x``, ``psi_y`` → derivatives of the stream function Δψ = w, that is
    the velocity (−psi_y, psi_x); ``nu`` → kinematic viscosity ν, length²/time. Length and time are in
    units of the square's side and of its turnover: dimensionless.
    """

    name = "navier-stokes-2d"
    title = "Navier–Stokes, 2-D, vorticity"
    equation = r"w_t + \mathbf{u}\cdot\nabla w = \nu\,\Delta w,\quad \mathbf{u} = (-\psi_y, \psi_x),\ \Delta\psi = w"
    fields = {"w": Variable(-6.0, 6.0, description="vorticity", scale=1.0)}
    units = {"x": "dimensionless", "y": "dimensionless", "t": "dimensionless"}
    features = {
        "w_t": Derivative("w", t=1),
        "w_x": Derivative("w", x=1),
        "w_y": Derivative("w", y=1),
        "psi_x": Derivative("w", x=1, laplacian=-1),
        "psi_y": Derivative("w", y=1, laplacian=-1),
        "laplacian": Derivative("w", laplacian=1),
    }
    diagnostics = {
        "velocity_x": (-1.0, Derivative("w", y=1, laplacian=-1)),
        "velocity_y": (1.0, Derivative("w", x=1, laplacian=-1)),
        "stream_function": (1.0, Derivative("w", laplacian=-1)),
    }
    parameters = {
        "nu": Parameter(
            1e-4, 1e-4, 1e-2, "dimensionless", "kinematic viscosity", is_logarithmic=True, physical=(0.0, np.inf)
        ),
    }
    duration = 5.0
    conserves_mean = True
    can_continue = True
    output_space = {"x": FourierAxis(64), "y": FourierAxis(64)}
    output_times = np.linspace(0.0, 5.0, 64)

    def residual(self, f, c, at):
        advection = f["psi_x"] * f["w_y"] - f["psi_y"] * f["w_x"]
        return f["w_t"] + advection - c["nu"] * f["laplacian"]

    def linearised(self, c):
        """w_t − ν Δw: diffusion without the flow."""
        return {"w_t": 1.0, "laplacian": -c["nu"]}

    def check_initial_condition(self, u0):
        problems = []
        for values in u0:
            mean, size = values.mean(), np.sqrt(np.mean(values**2))
            if abs(mean) > _LARGEST_MEAN * size:
                problems.append(
                    f"initial vorticity has the mean {mean:.3g}; on a periodic square it is zero (the circulation "
                    "around the square): subtract the mean"
                )
            elif max(-values.min(), values.max()) > self.state_range[1]:
                problems.append(
                    f"initial vorticity reaches {np.abs(values).max():.3g}; at most {self.state_range[1]:g}"
                )
            else:
                problems.append(None)
        return problems
