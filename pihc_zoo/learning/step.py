"""One optimiser step, shared by training and fine-tuning."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_rate(base: float, step: int, steps: int, warmup: int = 0) -> float:
    """Learning rate of ``step`` (from 0): a linear rise over ``warmup`` steps times a cosine to 0 over ``steps``."""
    return base * min(1.0, (step + 1) / (warmup + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def take_step(loss: Tensor, optimiser: torch.optim.Optimizer, rate: float, clip: float) -> None:
    """Backward pass, gradient clipping and update.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; weights are unchanged.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    value = float(loss.detach())
    if not math.isfinite(value) or not torch.isfinite(norm):
        raise FloatingPointError(
            f"loss {value:g} with gradient norm {float(norm):g}; weights are unchanged: lower the learning rate"
        )
    optimiser.step()
