"""Problems as text: the shipped ones again, and of every other kind."""

from __future__ import annotations

PERIODIC = {"kind": "periodic", "start": 0.0, "stop": 1.0, "points": 64}

GROWTH = {
    "name": "growth-1d",
    "equations": ["u_t = D*u_xx + r*u*(1 - u/K)"],
    "duration": 2.0,
    "inputs": ["D"],
    "fields": {"u": {"range": [0.0, 1.5], "unit": "1/m³"}},
    "parameters": {
        "D": {"default": 1e-3, "low": 3e-4, "high": 3e-3, "unit": "m²/s", "is_logarithmic": True},
        "r": {"default": 2.0},
        "K": {"default": 1.0},
    },
    "space": {"x": {"kind": "bounded", "start": 0.0, "stop": 1.0, "points": 200, "left": "u = 1", "right": "u_x = 0"}},
}

DIFFUSION_SORPTION = {
    "name": "sorption-text",
    "title": "Diffusion–sorption, 1-D",
    "equations": ["R*u_t = D*u_xx"],
    "definitions": {"R": "1 + (1 - phi)/phi*rho_s*k_f*n_f*(maximum(u, 0) + 1e-6)**(n_f - 1)"},
    "duration": 500.0,
    "inputs": ["D", "phi", "n_f"],
    "time_unit": "s",
    "fields": {"u": {"range": [0.0, 1.0], "description": "concentration of the solute"}},
    "parameters": {
        "D": {"default": 5e-4, "low": 2e-4, "high": 1e-3, "unit": "m²/s", "is_logarithmic": True},
        "phi": {"default": 0.29, "low": 0.2, "high": 0.5, "description": "porosity", "physical": [0.0, 1.0]},
        "n_f": {"default": 0.874, "low": 0.5, "high": 0.95},
        "k_f": {"default": 3.5e-4, "unit": "m³/kg"},
        "rho_s": {"default": 2880.0, "unit": "kg/m³"},
    },
    "space": {
        "x": {
            "kind": "bounded", "start": 0.0, "stop": 1.0, "points": 1024, "unit": "m",
            "left": "u = 1", "right": "u = -D*u_x",
        }
    },
}  # fmt: skip

BURGERS = {
    "name": "burgers-text",
    "equations": ["u_t + u*u_x = nu*u_xx"],
    "duration": 2.0,
    "inputs": ["nu"],
    "fields": {"u": {"range": [-2.5, 2.5], "description": "velocity", "scale": 1.0}},
    "parameters": {"nu": {"default": 1e-2, "low": 1e-3, "high": 1e-1, "is_logarithmic": True}},
    "space": {"x": {**PERIODIC, "points": 256}},
}

NAVIER_STOKES = {
    "name": "vorticity-text",
    "equations": ["w_t - psi_y*w_x + psi_x*w_y = nu*laplacian(w)"],
    "definitions": {"psi": "inverse_laplacian(w)"},
    "duration": 5.0,
    "inputs": ["nu"],
    "times": 64,
    "conserves_mean": True,
    "fields": {"w": {"range": [-6.0, 6.0], "description": "vorticity", "scale": 1.0}},
    "parameters": {"nu": {"default": 1e-4, "low": 1e-4, "high": 1e-2, "is_logarithmic": True}},
    "space": {"x": PERIODIC, "y": PERIODIC},
}

_WALLS = {"kind": "bounded", "start": -1.0, "stop": 1.0, "points": 128}
FITZHUGH_NAGUMO = {  # the equations in the other order than the fields, terms on either side
    "name": "fitzhugh-nagumo",
    "equations": ["v_t - D_v*laplacian(v) = u - v", "0 = D_u*laplacian(u) + u - u**3 - k - v - u_t"],
    "duration": 5.0,
    "fields": {
        "u": {"range": [-1.2, 1.2], "description": "activator"},
        "v": {"range": [-1.2, 1.2], "description": "inhibitor"},
    },
    "parameters": {"D_u": {"default": 1e-3}, "D_v": {"default": 5e-3}, "k": {"default": 5e-3}},
    "space": {
        "x": {**_WALLS, "left": ["u_x = 0", "v_x = 0"], "right": ["0 = v_x", "u_x = 0"]},
        "y": {**_WALLS, "left": ["u_y = 0", "v_y = 0"], "right": ["u_y = 0", "v_y = 0"]},
    },
}

COLUMN = {
    "name": "column-text",
    "equations": ["R*u_t = D*u_xx - v*u_x"],
    "definitions": {"R": "1 + k*n_f*(maximum(u, 0) + 1e-6)**(n_f - 1)"},
    "duration": 20.0,
    "inputs": ["D", "v", "n_f", "k", "c_in"],
    "time_unit": "h",
    "fields": {"u": {"range": [0.0, 1.0], "description": "concentration of the solute"}},
    "parameters": {
        "D": {"default": 5e-3, "low": 2e-3, "high": 1e-2, "unit": "m²/h", "is_logarithmic": True},
        "v": {"default": 0.1, "low": 0.05, "high": 0.15, "unit": "m/h"},
        "n_f": {"default": 0.8, "low": 0.6, "high": 0.95},
        "k": {"default": 1.0, "low": 0.3, "high": 2.0},
        "c_in": {"default": 0.5, "low": 0.2, "high": 1.0},
    },
    "space": {
        "x": {
            "kind": "bounded", "start": 0.0, "stop": 1.0, "points": 200, "unit": "m",
            "left": "v*u - D*u_x = v*c_in", "right": "u_x = 0",
        }
    },
}  # fmt: skip

KORTEWEG_DE_VRIES = {
    "name": "kdv-text",
    "equations": ["u_t + u*u_x + delta**2*u_xxx = 0"],
    "duration": 1.0,
    "fields": {"u": {"range": [-3.0, 3.0], "description": "velocity", "scale": 0.7}},
    "parameters": {"delta": {"default": 0.022}},
    "space": {"x": {**PERIODIC, "stop": 2.0, "points": 256}},
}

ALLEN_CAHN = {
    "name": "allen-cahn-text",
    "equations": ["u_t = eps*u_xx + 5*(u - u**3)"],
    "duration": 1.0,
    "fields": {"u": {"range": [-1.1, 1.1], "description": "order parameter"}},
    "parameters": {"eps": {"default": 1e-2}},
    "space": {"x": {**PERIODIC, "start": -1.0, "points": 256}},
}

DARCY = {
    "name": "darcy-text",
    "equations": ["-laplacian(u) - (a_x*u_x + a_y*u_y)/a = 1/a"],
    "fields": {"u": {"range": [0.0, 1.5], "description": "pressure"}},
    "parameters": {
        "a": {
            "kind": "field", "default": 1.0, "low": 0.05, "high": 10.0, "is_logarithmic": True,
            "description": "permeability", "physical": [0.0, float("inf")], "shortest": 0.2, "longest": 0.5,
        }
    },
    "space": {
        name: {"kind": "bounded", "points": 64, "left": "u = 0", "right": "u = 0"} for name in ("x", "y")
    },
}  # fmt: skip

POISSON = {
    "name": "poisson-text",
    "equations": ["-u_xx - u_yy = sin(pi*x)*sin(pi*y)"],
    "fields": {"u": {"range": [-1.0, 1.0]}},
    "space": {
        name: {"kind": "bounded", "points": 32, "left": "u = 0", "right": "u = 0"} for name in ("x", "y")
    },
}  # fmt: skip

FORCED = {
    "name": "forced-text",
    "equations": ["u_t = D*(1 + x**2)*u_xx + exp(-t)*sin(pi*x)"],
    "duration": 1.0,
    "fields": {"u": {"range": [-1.0, 1.0]}},
    "parameters": {"D": {"default": 0.1}},
    "space": {"x": {"kind": "bounded", "points": 64, "left": "u = 0", "right": "u_x + 2*u = 1"}},
}

ALL = (
    GROWTH, DIFFUSION_SORPTION, BURGERS, NAVIER_STOKES, FITZHUGH_NAGUMO, COLUMN, KORTEWEG_DE_VRIES, ALLEN_CAHN, DARCY,
    POISSON, FORCED,
)  # fmt: skip
