"""A Fourier neural operator with cosine modes along time and bounded axes, with waves along periodic ones.

    v ← v + gelu(W v + S^*[K · S v])

S is the truncated transform along every axis, K mixes channels mode by mode, W pointwise.
Transforms are matrix products with few modes; weights are real.

Source: Z. Li et al., "Fourier neural operator" (ICLR 2021), arXiv:2010.08895.
Deviations: cosine instead of Fourier modes (bounded axes need no periodic extension), residual form.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..grid import Grid
from ..solvers.dense import from_left
from .base import BasisNetwork
from .transforms import cosine_modes, waves


class _SpectralBlock(nn.Module):
    def __init__(self, width: int, modes: tuple[int, ...]):
        super().__init__()
        self.pointwise = nn.Linear(width, width)
        self.kernel = nn.Parameter(torch.randn(math.prod(modes), width, width) / width)

    def forward(self, v: Tensor, analysis: list[Tensor], synthesis: list[Tensor]) -> Tensor:
        # v: (batch, width, time, *space)
        modes = along_axes(v, analysis)
        mixed = torch.bmm(modes.flatten(2).permute(2, 0, 1).contiguous(), self.kernel)  # (mode, batch, width)
        mixed = along_axes(mixed.permute(1, 2, 0).contiguous().unflatten(2, modes.shape[2:]), synthesis)
        return v + gelu(mixed + _pointwise(self.pointwise, v))


def gelu(v: Tensor) -> Tensor:
    """GELU by its tanh form; without gradients on a CPU as v·sigmoid(…), the same function at half the time."""
    if torch.is_grad_enabled() or v.device.type != "cpu" or torch.compiler.is_exporting():
        return nn.functional.gelu(v, approximate="tanh")
    inner = torch.addcmul(v, v * v, v, value=0.044715).mul_(math.sqrt(8 / math.pi))
    return inner.sigmoid_().mul_(v)


def along_axes(v: Tensor, matrices: list[Tensor]) -> Tensor:
    """Applies matrix i (out, in) along axis i of v (batch, channel, *axes), the last axis first."""
    for dim in range(-1, -len(matrices) - 1, -1):
        if dim == -1:
            v = v @ matrices[dim].T
        elif dim == -2:
            v = from_left(matrices[dim], v)
        else:
            v = (v.movedim(dim, -1) @ matrices[dim].T).movedim(-1, dim)
    return v


class CosineOperator(BasisNetwork):
    """Layers of cosine-spectral and pointwise mixing over the whole space-time grid.

    Args:
        grid: whose coordinates the modes take.
        num_inputs: input channels.
        num_basis: output channels, the basis functions.
        width: hidden channels.
        num_layers: number of blocks.
        modes: kept per axis, time first; of periodic axes 1, cos, sin, cos 2, sin 2, …

    Raises:
        ValueError: not one number of modes per axis, or more than it carries.
    """

    def __init__(
        self,
        grid: Grid,
        num_inputs: int,
        num_basis: int,
        width: int = 32,
        num_layers: int = 4,
        modes: tuple[int, ...] = (8, 12),
    ):
        super().__init__()
        if len(modes) != len(grid.shape):
            raise ValueError(f"modes {tuple(modes)} must give one number per axis, {tuple(grid.axes)}")
        self.num_basis, self.modes = num_basis, tuple(modes)
        for name, axis, count in zip(grid.axes, grid.axes.values(), modes, strict=True):
            is_periodic = name in grid.space and axis.is_periodic
            synthesis, analysis = waves(axis, count) if is_periodic else cosine_modes(axis.coordinates, count)
            self.register_buffer(f"synthesis_{name}", torch.tensor(synthesis, dtype=torch.float32), persistent=False)
            self.register_buffer(f"analysis_{name}", torch.tensor(analysis, dtype=torch.float32), persistent=False)
        self.names = list(grid.axes)
        self.lifting = nn.Linear(num_inputs, width)
        self.blocks = nn.ModuleList(_SpectralBlock(width, self.modes) for _ in range(num_layers))
        self.projection = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, num_basis)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        analysis = [getattr(self, f"analysis_{name}") for name in self.names]
        synthesis = [getattr(self, f"synthesis_{name}") for name in self.names]
        v = _pointwise(self.lifting, inputs)
        for block in self.blocks:
            v = block(v, analysis, synthesis)
        first, _, last = self.projection
        return _pointwise(last, gelu(_pointwise(first, v)))


def _pointwise(layer: nn.Linear, v: Tensor) -> Tensor:
    """A linear layer over the channels of v (batch, channel, *axes), one fused product a sample."""
    weight = layer.weight.expand(v.shape[0], -1, -1)
    return torch.baddbmm(layer.bias[:, None], weight, v.flatten(2)).unflatten(2, v.shape[2:])
