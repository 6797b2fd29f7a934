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
        has_components: whether fields are those of a system, (…, time, component, *space).
    """

    def __init__(
        self,
        names: list[str],
        shape: tuple[int, ...],
        indices: list[np.ndarray],
        blending: np.ndarray,
        has_components: bool = False,
    ):
        super().__init__()
        self.has_components = has_components
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
        self.register_buffer("holders", torch.as_tensor(_holders(flat, int(np.prod(shape)))), persistent=False)
        self.register_buffer("blending", torch.as_tensor(local.reshape(self.num_subdomains, -1)), persistent=False)

    def is_split(self, name: str) -> bool:
        """Whether more than one subdomain lies along the axis."""
        return self.indices[name].shape[0] > 1

    def take(self, field: Tensor) -> Tensor:
        """(batch, *rest, time, *space) ↦ (batch·K, *rest, *local)."""
        if self.has_components:
            field = field.transpose(-1 - len(self.shape), -len(self.shape))  # (…, component, time, *space)
        local = _gather(field.flatten(-len(self.shape)), self.flat.flatten(), self.holders)
        local = local.unflatten(-1, self.flat.shape)  # (batch, *rest, K, points)
        local = local.movedim(-2, 1).flatten(0, 1)
        local = local.unflatten(-1, self.local_shape)
        return local.transpose(-1 - len(self.shape), -len(self.shape)) if self.has_components else local

    def merge(self, local: Tensor) -> Tensor:
        """(batch·K, *local) ↦ (batch, time, *space), blended by the partition of unity."""
        count = 1
        if self.has_components:  # each component by itself
            local = local.transpose(-1 - len(self.shape), -len(self.shape))
            count = local.shape[1]
            local = local.unflatten(0, (-1, self.num_subdomains)).transpose(1, 2)
        parts = local.reshape(-1, self.num_subdomains, self.flat.shape[1]) * self.blending.to(local.dtype)
        total = _gather_sum(parts.flatten(1), self.flat.flatten(), self.holders).unflatten(-1, self.shape)
        return total.unflatten(0, (-1, count)).transpose(1, 2) if self.has_components else total


def _holders(flat: np.ndarray, num_nodes: int) -> np.ndarray:
    """(node, most) where each node lies in the concatenated boxes; −1 where fewer boxes than most hold it."""
    nodes = flat.reshape(-1)
    order = np.argsort(nodes, kind="stable")
    counts = np.bincount(nodes, minlength=num_nodes)
    rank = np.arange(len(nodes)) - np.repeat(np.cumsum(counts) - counts, counts)
    holders = np.full((num_nodes, counts.max()), -1)
    holders[nodes[order], rank] = order
    return holders


def _gather(field: Tensor, nodes: Tensor, holders: Tensor) -> Tensor:
    """(..., node) ↦ (..., box point)."""
    if torch.compiler.is_exporting():
        return field[..., nodes]
    return _Gather.apply(field, nodes, holders)


def _gather_sum(local: Tensor, nodes: Tensor, holders: Tensor) -> Tensor:
    """(..., box point) ↦ (..., node): sums over the boxes that hold a node, always in the same order."""
    return _summed(local, holders) if torch.compiler.is_exporting() else _GatherSum.apply(local, nodes, holders)


def _summed(local: Tensor, holders: Tensor) -> Tensor:
    parts = local[..., holders.clamp(min=0)]  # (..., node, most)
    return torch.where(holders >= 0, parts, 0.0).sum(dim=-1)


class _Gather(torch.autograd.Function):
    """`_gather`. It and its transpose `_GatherSum` read only: no two threads add to one number."""

    @staticmethod
    def forward(ctx, field, nodes, holders):
        ctx.save_for_backward(nodes, holders)
        return field[..., nodes]

    @staticmethod
    def backward(ctx, gradient):
        return _GatherSum.apply(gradient, *ctx.saved_tensors), None, None


class _GatherSum(torch.autograd.Function):
    """`_gather_sum`, the transpose of `_Gather`."""

    @staticmethod
    def forward(ctx, local, nodes, holders):
        ctx.save_for_backward(nodes, holders)
        return _summed(local, holders)

    @staticmethod
    def backward(ctx, gradient):
        return _Gather.apply(gradient, *ctx.saved_tensors), None, None
