"""What a network must be: input fields in, basis functions out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasisNetwork(nn.Module):
    """(batch, channel, time, *space) ↦ (batch, basis, time, *space).

    Networks over space alone take (batch, channel, *space) and give the fields c_i (batch, basis, *space) of
    basis functions c_i(x) φ_i(t), with φ in attributes ``time`` and ``rate`` (basis, time).

    Any ``nn.Module`` with this signature and an attribute ``num_basis`` serves; only classes listed
    in `pihc_zoo.networks.NETWORKS` can be saved.
    """

    num_basis: int

    def forward(self, inputs: Tensor) -> Tensor:
        """Basis functions of the input fields, before mollification."""
        raise NotImplementedError


def through_finite(network: nn.Module, inputs: Tensor) -> Tensor:
    """``network(inputs)``, NaN for trajectories whose inputs (batch, …) are not finite.

    These have no part in the gradients of the weights, which a single one would spoil for the whole batch.
    """
    is_finite = inputs.isfinite().flatten(1).all(dim=1).reshape(-1, *[1] * (inputs.dim() - 1))
    output = network(torch.where(is_finite, inputs, 0.0))
    return torch.where(is_finite, output, torch.nan)
