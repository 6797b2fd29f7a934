"""Runge–Kutta 4 with an integrating factor, for u_t = −(σ u + n(u)) with a diagonal linear part.

v = e^{σt} u solves v_t = −e^{σt} n(e^{−σt} v), which has no stiff linear part.

Source: J. P. Boyd, "Chebyshev and Fourier Spectral Methods" (2001), 14.4; A.-K. Kassam,
L. N. Trefethen, "Fourth-order time-stepping for stiff PDEs" (2005), doi:10.1137/S1064827502410633.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def integrating_factor_step(
    u: Tensor, nonlinear: Callable[[Tensor], Tensor], half: Tensor, step: float, first: Tensor | None = None
) -> Tensor:
    """One step of size ``step``; exact for n = 0, of order 4 otherwise.

    Args:
        u: any shape.
        nonlinear: u ↦ n(u).
        half: e^{−σ·step/2}, broadcasting against u.
        first: n(u), where it is known.
    """
    half_u = half * u
    k1 = nonlinear(u) if first is None else first
    k2 = nonlinear(torch.addcmul(half_u, half, k1, value=-step / 2))
    k3 = nonlinear(torch.sub(half_u, k2, alpha=step / 2))
    full_u = half * half_u
    k4 = nonlinear(torch.addcmul(full_u, half, k3, value=-step))
    middle = torch.addcmul(k2 + k3, half, k1, value=0.5)
    return torch.sub(full_u, torch.addcmul(k4, half, middle, value=2.0), alpha=step / 6)
