"""One optimiser step, shared by training and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .distributed import Processes


def cosine_rate(base: float, step: int, steps: int, warmup: int = 0) -> float:
    """Learning rate of ``step`` (from 0): a linear rise over ``warmup`` steps times a cosine to 0 over ``steps``."""
    return base * min(1.0, (step + 1) / (warmup + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def take_step(
    loss: Tensor, optimiser: torch.optim.Optimizer, rate: float, clip: float, processes: Processes | None = None
) -> None:
    """Backward pass, gradient clipping and update.

    Args:
        processes: whose gradients are added up.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; weights are unchanged.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    if loss.requires_grad:  # a process may have no part in it
        loss.backward()
    if processes is not None:
        processes.add_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    value = float(loss.detach())
    if not math.isfinite(value) or not torch.isfinite(norm):
        raise FloatingPointError(
            f"loss {value:g} with gradient norm {float(norm):g}; weights are unchanged: lower the learning rate"
        )
    optimiser.step()


class FlatGradient:
    """The gradients of all parameters in one buffer, with a few sums behind them: what is added up over processes.

    Every parameter's ``grad`` is a view of it, so that backward passes add to it in place.

    Args:
        parameters: all of one dtype and device.
        num_sums: how many numbers follow.

    Raises:
        ValueError: parameters of several dtypes.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], num_sums: int):
        own = [p for p in parameters if p.requires_grad]
        kinds = sorted({str(p.dtype).removeprefix("torch.") for p in own})
        if len(kinds) > 1:
            raise ValueError(f"the network's weights have mixed dtypes, {' and '.join(kinds)}; give all of them one")
        count = sum(p.numel() for p in own)
        self.buffer = own[0].new_zeros(count + num_sums, requires_grad=False)
        self.values, self.sums = self.buffer[:count], self.buffer[count:]
        first = 0
        for p in own:
            p.grad = self.values[first : first + p.numel()].view_as(p)
            first += p.numel()

    def zero(self) -> None:
        """Begins anew."""
        self.buffer.zero_()

    def clip(self, largest: float) -> Tensor:
        """Scales the gradient to a norm of at most ``largest``; returns the norm it had."""
        norm = torch.linalg.vector_norm(self.values)
        self.values.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
        return norm


def check_finite(numbers: Sequence[float], step: int) -> None:
    """Refuses an update that would spoil the weights.

    Args:
        numbers: the step's loss and gradient norm, then others.

    Raises:
        FloatingPointError: any is not finite.
    """
    if not all(map(math.isfinite, numbers)):
        raise FloatingPointError(
            f"loss {numbers[0]:g} with gradient norm {numbers[1]:g} at step {step + 1}; the state saved before stays: "
            "lower the learning rate"
        )
