"""Subdomains of a grid: equal-sized index boxes, and the partition of unity that blends them."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor, nn


class Subdomains(nn.Module):
    """K boxes of nodes with blending weights.

    Args:
        shape: (time, *space) of the grid.
        indices: per axis (K_axis, n_axis) node indices, in the order of ``shape``; boxes are their
            products, the last axis fastest.
        blending: (K, time, *space) weights that sum to one over K and vanish outside the boxes.
    """

    def __init__(self, names: list[str], shape: tuple[int, ...], indices: list[np.ndarray], blending: np.ndarray):
        super().__init__()
        self.shape = tuple(shape)
        self.indices = {name: torch.as_tensor(index) for name, index in zip(names, indices, strict=True)}
        self.local_shape = tuple(index.shape[1] for index in indices)
        flat = np.stack(
            [np.ravel_multi_index(np.meshgrid(*box, indexing="ij"), shape) for box in product(*indices)]
        )  # (K, *local)
        self.num_subdomains = len(flat)
        self.key = tuple((index.shape, index.tobytes()) for index in indices)
        local = np.stack([weights.ravel()[box] for weights, box in zip(blending, flat, strict=True)])
        self.register_buffer("flat", torch.as_tensor(flat.reshape(self.num_subdomains, -1)), persistent=False)
        self.register_buffer("blending", torch.as_tensor(local.reshape(self.num_subdomains, -1)), persistent=False)

    def is_split(self, name: str) -> bool:
        """Whether more than one subdomain lies along the axis."""
        return self.indices[name].shape[0] > 1

    def take(self, field: Tensor) -> Tensor:
        """(batch, *rest, time, *space) ↦ (batch·K, *rest, *local)."""
        field = field.flatten(-len(self.shape))
        local = field[..., self.flat]  # (batch, *rest, K, points)
        local = local.movedim(-2, 1).flatten(0, 1)
        return local.unflatten(-1, self.local_shape)

    def merge(self, local: Tensor) -> Tensor:
        """(batch·K, *local) ↦ (batch, time, *space), blended by the partition of unity."""
        parts = local.reshape(-1, self.num_subdomains, self.flat.shape[1]) * self.blending.to(local.dtype)
        total = torch.zeros(parts.shape[0], int(np.prod(self.shape)), dtype=local.dtype, device=local.device)
        total = total.index_add(1, self.flat.flatten(), parts.flatten(1))
        return total.unflatten(-1, self.shape)
