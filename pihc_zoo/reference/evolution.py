"""Modes advanced in time by exponential steps whose size is chosen, estimated and, where asked for, verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .exponential import METHODS
from .steps import hermite, plan, rounded

_STABILITY = 2.8  # RK4 is stable for |λ| step ≤ 2.83 on the imaginary and 2.78 on the real axis
_MOST_STEPS = 1_000_000  # over the duration; a trajectory that asks for more has failed
_INTERVALS_A_CHECK = 8  # output intervals between two estimates of the error of a step
_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}  # smallest error to ask for
_MOST_HALVINGS = 7
_FIRST = 8.0  # a run whose steps will be halved asks for so much less accuracy at first


class Rates(Protocol):
    """u_t = −(σ u + n(u, t)) for given parameters."""

    symbol: Tensor  # (batch or 1, field, *modes) σ

    def __call__(self, modes: Tensor, t: float = 0.0) -> Tensor:
        """n."""
        ...

    def fastest(self, modes: Tensor, t: float = 0.0) -> Tensor:
        """(batch,) how fast the fastest mode of n changes."""
        ...


@dataclass(frozen=True)
class Stepping:
    """How to advance; see `pseudo_spectral.PseudoSpectral` for the settings.

    Raises:
        ValueError: settings out of their range.
    """

    duration: float
    steps: int | None = None
    safety: float = 0.7
    rtol: float = 1e-8
    is_verified: bool = False
    method: str = "etdrk4"
    dtype: torch.dtype = torch.float64

    def __post_init__(self):
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 < self.safety <= 1:
            raise ValueError(f"safety must lie in (0, 1], got {self.safety}")
        if self.dtype not in _ROUNDING:
            raise ValueError(f"dtype must be one of {', '.join(map(str, _ROUNDING))}, got {self.dtype}")
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")


class Evolution:
    """One pass of trajectories on one grid.

    Args:
        stepping: how to advance.
        rates: σ and n.
        modes: (batch, field, *modes) at time 0.
        times: (m,) increasing output times, 0 first.
        read: (batch, field, *modes) ↦ (batch, field, *points).
        outer: (*modes) 1 where modes should hold little of the solution; None: not looked at.
    """

    def __init__(self, stepping: Stepping, rates: Rates, modes: Tensor, times, read, outer: Tensor | None = None):
        self.stepping, self.rates, self.modes, self.times, self.read = stepping, rates, modes, times, read
        self.outer = outer
        self.is_given = torch.isfinite(modes.abs().flatten(1)).all(dim=1)
        self.step = METHODS[stepping.method](rates.symbol, modes.dtype)

    def verified(self, report: Callable[[int], None], tail: float) -> tuple[np.ndarray, np.ndarray]:
        """`solve`, its steps halved until two answers agree where that is asked for."""
        stepping = self.stepping
        u, is_rough, counts = self.solve(report, tail)
        if not stepping.is_verified or stepping.steps is not None or is_rough.all():
            return u, is_rough
        is_open = self.is_given.cpu().numpy() & ~is_rough
        for _ in range(_MOST_HALVINGS):
            counts = [2 * count for count in counts]
            finer, is_rough, _ = self.solve(lambda number: None, tail, counts)
            flat = [a.reshape(len(a), -1) for a in (finer - u, finer)]
            u = finer
            with np.errstate(invalid="ignore", divide="ignore"):
                change = np.linalg.norm(flat[0], axis=1) / np.linalg.norm(flat[1], axis=1) / 15
                is_open &= ~is_rough & ~(change <= max(stepping.rtol, _ROUNDING[stepping.dtype]))
                is_open &= np.linalg.norm(flat[1], axis=1) > 0
            if not is_open.any():
                return u, is_rough
        u[is_open] = np.nan
        return u, is_rough

    def solve(
        self, report: Callable[[int], None], tail: float, counts: list[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Trajectories (batch, time, field, *space); which exceed ``tail``; the steps of each output interval.

        Where all exceed it the rest of the pass is not computed. Finite initial values with no finite end exceed it.
        """
        stepping, modes = self.stepping, self.modes
        out: np.ndarray | None = None
        is_failed = torch.zeros(len(modes), dtype=torch.bool, device=modes.device)
        is_rough = torch.zeros_like(is_failed)
        duration, taken = stepping.duration, []
        asked = stepping.rtol * (_FIRST if stepping.is_verified else 1.0)

        def written(row: int, v: Tensor) -> None:
            nonlocal out
            own = self.read(v)
            out = np.full((len(own), len(self.times), *own.shape[1:]), np.nan) if out is None else out
            out[:, row] = own
            if tail < np.inf and self.outer is not None:
                outer, whole = ((part.flatten(2)).norm(dim=2) for part in (v * self.outer, v))
                whole = torch.maximum(whole, 1e-3 * whole.amax(dim=1, keepdim=True))
                is_rough.logical_or_(self.is_given & ~(outer <= tail * whole).all(dim=1))

        written(0, modes)
        t, done, ahead = 0.0, 0, None  # ahead: n(u) at the start of the next step, where it is known
        accurate = np.inf  # the longest step that is accurate enough
        for number, part in enumerate(plan(self.times, stepping.steps, duration)):
            t = part.start
            if part.count == 0 and counts is not None:
                part.count = counts[number]
                part.size /= part.count
            elif part.count == 0:  # as many steps as stability and accuracy ask for
                speed = self.rates.fastest(modes, t)
                is_failed |= ~(speed < _STABILITY * stepping.safety * _MOST_STEPS / duration)
                modes = torch.where(is_failed.reshape(-1, *[1] * (modes.dim() - 1)), torch.zeros_like(modes), modes)
                speed = float(torch.where(is_failed, 0.0, speed).max())
                size = min(part.size, accurate, _STABILITY * stepping.safety / max(speed, 1e-300))
                if number % _INTERVALS_A_CHECK == 0:
                    ahead = self.rates(modes, t)
                    once = self.step(modes, self.rates, t, size, ahead)
                    half = self.step(modes, self.rates, t, size / 2, ahead)
                    twice = self.step(half, self.rates, t + size / 2, size / 2)
                    accurate = size * self._growth(modes, once - twice, size, asked)
                part.count = rounded(part.size / min(size, accurate))
                part.size /= part.count
            taken.append(part.count)
            for own in range(part.count):
                t = part.start + own * part.size
                before, start = modes, self.rates(modes, t) if ahead is None else ahead
                modes, ahead = self.step(before, self.rates, t, part.size, start), None
            inside = [(row, s) for row, s in part.outputs if s < 1]
            if inside:
                ahead, symbol = self.rates(modes, t + part.size), self.rates.symbol.to(modes.dtype)
                slopes = [-part.size * (symbol * u + n) for u, n in ((before, start), (modes, ahead))]
                for row, s in inside:
                    written(row, hermite(before, slopes[0], modes, slopes[1], s))
            for row, s in part.outputs:
                if s >= 1:
                    written(row, modes)
            done += len(part.outputs)
            report(done)
            if is_rough.all():
                break
        out[is_failed.cpu().numpy()] = np.nan
        if tail < np.inf:
            is_rough |= is_failed & self.is_given
        return out, is_rough.cpu().numpy(), taken

    def _growth(self, modes: Tensor, difference: Tensor, size: float, asked: float) -> float:
        """By how much a step may grow; ``difference``: of one step of ``size`` and two of half of it.

        The half steps err by 1/15 of it (Richardson), and errors of a whole run are taken to add up.
        """
        error = difference.flatten(1).norm(dim=1) / modes.flatten(1).norm(dim=1).clamp(min=1e-300)
        error = float(error[torch.isfinite(error)].max()) if torch.isfinite(error).any() else 0.0
        error *= 16 / 15 * self.stepping.duration / size
        asked = max(asked, _ROUNDING[self.stepping.dtype])
        return float(np.clip((asked / max(error, 1e-300)) ** 0.25, 0.05, 1e3))
