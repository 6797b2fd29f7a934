"""Steps of fourth order for u_t = −(σ u + n(u, t)), σ diagonal and possibly complex.

ETDRK4 integrates σ exactly and n as a polynomial in time; IFRK4 is Runge–Kutta 4 for e^{σt} u, cheaper per step and
less accurate where σ is stiff and the solution slow.

Source: S. M. Cox, P. C. Matthews, "Exponential time differencing for stiff systems" (2002),
doi:10.1006/jcph.2002.6995; coefficients by the contour integrals of A.-K. Kassam, L. N. Trefethen,
"Fourth-order time-stepping for stiff PDEs" (2005), doi:10.1137/S1064827502410633.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Nonlinear = Callable[[Tensor, float], Tensor]
_CONTOUR = 32  # points on the circle around each σ·step
_KEPT = 6  # step sizes whose coefficients are kept


class ETDRK4:
    """Exponential time differencing of order 4.

    Args:
        symbol: σ, broadcasting against the modes.
        dtype: of the coefficients.
    """

    def __init__(self, symbol: Tensor, dtype: torch.dtype):
        self.symbol, self.dtype = symbol, dtype
        self._made: dict[float, tuple[Tensor, ...]] = {}

    def coefficients(self, step: float) -> tuple[Tensor, ...]:
        """e^{hL}, e^{hL/2}, Q, f1, f2, f3 for L = −σ."""
        key = float(f"{step:.12e}")
        if key not in self._made:
            if len(self._made) == _KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[key] = self._coefficients(step)
        return self._made[key]

    def _coefficients(self, step: float) -> tuple[Tensor, ...]:
        z = (-step * self.symbol).to(torch.complex128)
        sums = [torch.zeros_like(z) for _ in range(4)]
        for turn in np.exp(2j * np.pi * (np.arange(_CONTOUR) + 0.5) / _CONTOUR):
            r = z + complex(turn)
            whole = torch.exp(r)
            cube = r**3
            sums[0] += (torch.exp(r / 2) - 1) / r
            sums[1] += (-4 - r + whole * (4 - 3 * r + r * r)) / cube
            sums[2] += (2 + r + whole * (r - 2)) / cube
            sums[3] += (-4 - 3 * r - r * r + whole * (4 - r)) / cube
        own = (torch.exp(z), torch.exp(z / 2), *(step / _CONTOUR * total for total in sums))
        return tuple((part if self.dtype.is_complex else part.real).to(self.dtype) for part in own)

    def __call__(self, u: Tensor, n: Nonlinear, t: float, step: float, first: Tensor | None = None) -> Tensor:
        """u(t) ↦ u(t + step); ``first``: n(u, t), where it is known."""
        whole, half, q, f1, f2, f3 = self.coefficients(step)
        at_start = n(u, t) if first is None else first
        half_u, middle = half * u, t + step / 2
        a = half_u - q * at_start
        at_a = n(a, middle)
        at_b = n(half_u - q * at_a, middle)
        at_c = n(half * a - q * (2 * at_b - at_start), t + step)
        return whole * u - f1 * at_start - 2 * f2 * (at_a + at_b) - f3 * at_c


class IFRK4:
    """Runge–Kutta 4 with an integrating factor; arguments as of `ETDRK4`."""

    def __init__(self, symbol: Tensor, dtype: torch.dtype):
        self.symbol, self.dtype = symbol, dtype
        self._made: dict[float, Tensor] = {}

    def __call__(self, u: Tensor, n: Nonlinear, t: float, step: float, first: Tensor | None = None) -> Tensor:
        """u(t) ↦ u(t + step); ``first``: n(u, t), where it is known."""
        key = float(f"{step:.12e}")
        if key not in self._made:
            if len(self._made) == _KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[key] = torch.exp(-self.symbol * (step / 2)).to(self.dtype)
        half, middle = self._made[key], t + step / 2
        half_u = half * u
        k1 = n(u, t) if first is None else first
        k2 = n(half_u - (step / 2) * (half * k1), middle)
        k3 = n(half_u - (step / 2) * k2, middle)
        full_u, half_k3 = half * half_u, half * k3
        k4 = n(full_u - step * half_k3, t + step)
        return full_u - (step / 6) * (half * (half * k1 + 2 * k2) + 2 * half_k3 + k4)


METHODS = {"etdrk4": ETDRK4, "ifrk4": IFRK4}
