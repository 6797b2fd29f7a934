"""Random initial conditions and parameters that do not depend on who draws them.

Every number is a function of (seed, step, place in the global batch) alone, by a counter-based generator, so that
any share of a batch is drawn by itself, on its device and all of it at once.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011),
doi:10.1145/2063384.2063405: Philox 4×32, 10 rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..families import Domain, Family, draw_parameters
from ..parameters import column

METHOD = "philox4x32-10"  # a run drawn otherwise is another run
_MASK = 0xFFFFFFFF


class Purpose(IntEnum):
    """What numbers are for; those of different purposes are independent."""

    BATCH = 0
    POOL = 1
    FRESH = 2
    CHOICE = 3
    CALIBRATION = 4


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Four words of 32 random bits per counter.

    Args:
        counter: four int64 tensors of values below 2³², broadcasting.
        key: two numbers below 2³².

    Returns:
        four int64 tensors of values below 2³².
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        high, low = a * 0xD2511F53, c * 0xCD9E8D57  # modulo 2⁶⁴, whatever the sign
        a, b = ((low >> 32) & _MASK) ^ b ^ first, low & _MASK
        c, d = ((high >> 32) & _MASK) ^ d ^ second, high & _MASK
        first, second = (first + 0x9E3779B9) & _MASK, (second + 0xBB67AE85) & _MASK
    return [a, b, c, d]


class KeyedDraws:
    """`families.Draws` in float64 tensors: a row per place, a function of (seed, step, place, purpose).

    Args:
        seed: of the run, below 2⁶⁴.
        step: below 2³².
        places: (count,) int64 places in the global batch, on the device to draw on.
        purpose: see `Purpose`.
        constants: tensors of the numbers that are not random, remembered from step to step.
    """

    xp = torch

    def __init__(self, seed: int, step: int, places: Tensor, purpose: int = 0, constants: dict | None = None):
        self.key = seed & _MASK, (seed >> 32) & _MASK
        self.step, self.places, self.purpose = step, places, purpose
        self.calls, self.constants = 0, {} if constants is None else constants

    def _pairs(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Two (count, half) tensors of uniform values in [0, 1), with half ≥ the size of ``shape`` / 2."""
        half = -(-int(np.prod(shape)) // 2)
        index = torch.arange(half, device=self.places.device)
        call = torch.full_like(index, self.purpose << 16 | self.calls)
        self.calls += 1
        words = philox([index, call, torch.full_like(index, self.step), self.places[:, None]], self.key)
        first, second = (
            ((words[i] >> 5) * 67108864.0 + (words[i + 1] >> 6)).double() * 2.0**-53 for i in (0, 2)
        )  # 53 bits each
        return first, second

    def _shaped(self, values: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        size = int(np.prod(shape))
        return torch.stack(list(values), dim=2).flatten(1)[:, :size].reshape(len(self.places), *shape)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return self._shaped(self._pairs(shape), shape) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        first, second = self._pairs(shape)
        radius, angle = (-2 * torch.log1p(-first)).sqrt(), 2 * np.pi * second  # Box–Muller
        return self._shaped((radius * angle.cos(), radius * angle.sin()), shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return self.uniform(low, high, *shape).floor()

    def array(self, values: np.ndarray) -> Tensor:
        values = np.ascontiguousarray(values, dtype=np.float64)
        key = values.shape, values.tobytes()
        if key not in self.constants:
            self.constants[key] = torch.as_tensor(values, device=self.places.device)
        return self.constants[key]

    def scaled_bessel(self, numbers: np.ndarray, z: Tensor) -> Tensor:
        """By Miller's backward recurrence I_(k−1) = I_(k+1) + (2k/z) I_k, normalised by I₀ + 2 Σ I_k = e^z."""
        highest = int(np.max(numbers)) + 48
        above, here = torch.zeros_like(z), torch.full_like(z, 1e-250)
        values = [here]
        for k in range(highest, 0, -1):
            above, here = here, above + (2 * k / z) * here
            values.append(here)
        orders = torch.stack(values[::-1], dim=1)  # 0, 1, …
        orders = orders / (orders[:, :1] + 2 * orders[:, 1:].sum(dim=1, keepdim=True))
        return orders[:, self.array(numbers).long()]


@dataclass
class Source:
    """Initial conditions at the nodes and input parameters, for steps and places.

    Attributes:
        family: of the initial conditions; one without `Family.fields` is drawn place by place on the host.
        axes: physical positions of the nodes, by axis.
        problem, inputs: whose parameters are drawn.
        seed: of the run.
        domain: on which fields are drawn; default the problem's.
    """

    family: Family
    axes: Sequence[np.ndarray]
    problem: Any
    inputs: tuple[str, ...]
    seed: int
    domain: Domain | None = None
    constants: dict = field(default_factory=dict, repr=False)

    def draws(self, step: int, places: Tensor, purpose: Purpose) -> KeyedDraws:
        """Random numbers for some places (count,) of a step."""
        return KeyedDraws(self.seed, step, places, purpose, self.constants)

    def __call__(self, step: int, places: Tensor, purpose: Purpose = Purpose.BATCH) -> tuple[Tensor, dict[str, Tensor]]:
        """Initial values, float64, and (count,) values of each input, on the device of ``places``.

        Values are (count, *space), of a system (count, field, *space), as fields are inside the package.

        Raises:
            ValueError: the family does not serve these axes.
        """
        draws = self.draws(step, places, purpose)
        parameters = draw_parameters(self.problem, self.inputs, draws)
        self.family.check_axes(len(self.axes))
        domain = Domain.of(self.problem.output_space) if self.domain is None else self.domain
        if self.family.is_vectorised:
            return self._inward(self.family.fields(domain.points(self.axes), draws), parameters), parameters
        fields = []
        for place in places.tolist():
            rng = np.random.default_rng([self.seed, step, place, int(purpose)])
            fields.append(self.family.sample(1, list(self.axes), rng, domain))
        return self._inward(torch.as_tensor(np.concatenate(fields), device=places.device), parameters), parameters

    def _inward(self, u0: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Drawn fields in the problem's scale, components before space."""
        factor = self.problem.initial_factor({**self.problem.typical(), **parameters})
        u0 = u0 if factor is None else u0 * column(factor, u0.dim() - 1, u0)
        return u0.movedim(-1, 1) if self.problem.is_system else u0
