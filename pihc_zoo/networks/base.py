"""What a network must be: input fields in, basis functions out."""

from __future__ import annotations

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
