"""Steps of constant size in time, and output times that lie between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass
class Step:
    """From ``start`` on ``count`` steps of ``size``; ``outputs``: (row, fraction of the step) inside or at its end."""

    start: float
    size: float
    count: int
    outputs: list[tuple[int, float]]


def plan(times: np.ndarray, steps: int | None, duration: float) -> list[Step]:
    """Steps from 0 to the last of the increasing ``times``.

    Args:
        times: (m,) output times, 0 first.
        steps: about so many over ``duration``; None: one entry per output interval with a count of 0, which
            stability decides.
        duration: of the problem.
    """
    sizes = np.diff(times)
    if steps is None:
        return [Step(t, size, 0, [(i + 1, 1.0)]) for i, (t, size) in enumerate(zip(times, sizes, strict=False))]
    wanted = steps * sizes / duration
    counts = np.ceil(wanted - 1e-9).astype(int)
    if counts.sum() <= 1.05 * max(1.0, wanted.sum()):
        return [Step(times[i], sizes[i] / count, int(count), [(i + 1, 1.0)]) for i, count in enumerate(counts) if count]
    number = max(1, int(np.ceil(wanted.sum() - 1e-9)))
    size = times[-1] / number
    chosen = [Step(i * size, size, 1, []) for i in range(number)]
    for row, t in enumerate(times[1:], start=1):
        at = min(number - 1, max(0, int(np.ceil(t / size - 1e-9)) - 1))
        fraction = t / size - at
        chosen[at].outputs.append((row, 1.0 if abs(fraction - 1) < 1e-9 else fraction))
    return chosen


def hermite(u: Tensor, du: Tensor, v: Tensor, dv: Tensor, s: float) -> Tensor:
    """The cubic with values u, v and slopes du, dv (per step) at both ends of a step, at 0 < s < 1."""
    r = 1 - s
    return (1 + 2 * s) * r * r * u + s * r * r * du + s * s * (3 - 2 * s) * v - s * s * r * dv


def rounded(count: float) -> int:
    """The next number of steps of the form 2^k or 3 · 2^k, so that intervals of equal length share their step."""
    least = max(1, int(np.ceil(count - 1e-9)))
    power = 1 << max(0, least - 1).bit_length()
    return 3 * power // 4 if power >= 4 and 3 * power // 4 >= least else power
