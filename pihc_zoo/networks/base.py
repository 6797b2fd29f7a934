"""What a network must be: input fields in, basis functions out."""

from __future__ import annotations

from torch import Tensor, nn


class BasisNetwork(nn.Module):
    """(batch, channel, time, *space) ↦ (batch, basis, time, *space).

    Networks over space alone take (batch, channel, *space) and make the time axis themselves.

    Any ``nn.Module`` with this signature and an attribute ``num_basis`` serves; only classes listed
    in `pihc_zoo.networks.NETWORKS` can be saved.
    """

    num_basis: int

    def forward(self, inputs: Tensor) -> Tensor:
        """Basis functions of the input fields, before mollification."""
        raise NotImplementedError
