"""A Fourier neural operator over periodic space whose outputs are polynomials in time.

    v ← v + gelu(W v + F^*[K · F v]),    b_i(x, t) = c_i(x) φ_p(t),  φ_p(t) = T_p(2t/τ − 1) − T_p(−1)

F is the truncated Fourier transform, K mixes channels by a complex matrix per mode (translation
equivariant), W pointwise. The last layer gives the fields c_i; function i has the Chebyshev degree
p = 1 + i mod degree and vanishes at the window's start. Transforms are real matrix products, weights are real pairs.

Source: Z. Li et al., "Fourier neural operator" (ICLR 2021), arXiv:2010.08895.
Deviations: residual form, time by Chebyshev coefficients instead of a third Fourier axis.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..grid import Grid
from ..solvers.dense import from_left
from .base import BasisNetwork
from .cosine_operator import gelu


class _Transforms(nn.Module):
    """Truncated discrete Fourier transform over the last axes, wave numbers k_last ≥ 0, in real pairs."""

    def __init__(self, sizes: tuple[int, ...], modes: tuple[int, ...]):
        super().__init__()
        self.num_axes = len(sizes)
        counts = []
        for i, (size, count) in enumerate(zip(sizes, modes, strict=True)):
            if not 1 <= count <= size // 2:
                raise ValueError(f"modes of an axis with {size} nodes must lie in [1, {size // 2}], got {count}")
            is_last = i == self.num_axes - 1
            k = np.arange(count) if is_last else np.arange(1 - count, count)
            angle = 2 * np.pi * np.outer(np.arange(size) / size, k)
            into = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1) / size  # (size, 2·k): real, imaginary
            out_of = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
            if is_last:
                out_of *= np.where(np.tile(k, 2) > 0, 2.0, 1.0)  # the conjugate half is not stored
            self.register_buffer(f"into_{i}", torch.tensor(into, dtype=torch.float32), persistent=False)
            out_of = out_of.T.copy() if is_last else out_of
            self.register_buffer(f"out_of_{i}", torch.tensor(out_of, dtype=torch.float32), persistent=False)
            counts.append(len(k))
        self.counts = tuple(counts)

    def forward(self, v: Tensor) -> Tensor:
        """(batch, channel, *space) ↦ (2, batch, channel, *modes), real and imaginary parts."""
        last = self.num_axes - 1
        pair = torch.stack((v @ getattr(self, f"into_{last}")).chunk(2, dim=-1))
        for i in range(last - 1, -1, -1):
            dim = i - self.num_axes
            cosine, sine = getattr(self, f"into_{i}").T.contiguous().chunk(2)
            moved = pair.movedim(dim, -2) if dim != -2 else pair
            by_cosine, by_sine = from_left(cosine, moved), from_left(sine, moved)
            moved = torch.stack([by_cosine[0] - by_sine[1], by_cosine[1] + by_sine[0]])
            pair = moved.movedim(-2, dim) if dim != -2 else moved
        return pair

    def inverse(self, pair: Tensor) -> Tensor:
        """(2, batch, channel, *modes) ↦ (batch, channel, *space)."""
        last = self.num_axes - 1
        for i in range(last):
            dim = i - self.num_axes
            cosine, sine = getattr(self, f"out_of_{i}").chunk(2, dim=1)  # sine holds −sin
            moved = pair.movedim(dim, -2) if dim != -2 else pair
            by_cosine, by_sine = from_left(cosine, moved), from_left(sine, moved)
            moved = torch.stack([by_cosine[0] + by_sine[1], by_cosine[1] - by_sine[0]])
            pair = moved.movedim(-2, dim) if dim != -2 else moved
        return torch.cat([pair[0], pair[1]], dim=-1) @ getattr(self, f"out_of_{last}")


class _SpectralBlock(nn.Module):
    def __init__(self, width: int, num_modes: int):
        super().__init__()
        self.pointwise = nn.Linear(width, width)
        self.kernel = nn.Parameter(torch.randn(2, num_modes, width, width) / (math.sqrt(2) * width))

    def forward(self, v: Tensor, transforms: _Transforms) -> Tensor:
        # v: (batch, width, *space)
        batch, width = v.shape[:2]
        # (mode, batch, 2·width), contiguous for one batched product with the complex kernel as a real matrix
        pair = transforms(v).flatten(3).permute(3, 1, 0, 2).contiguous().view(-1, batch, 2 * width)
        real, imaginary = self.kernel
        kernel = torch.cat([torch.cat([real, imaginary], dim=2), torch.cat([-imaginary, real], dim=2)], dim=1)
        mixed = torch.bmm(pair, kernel).view(-1, batch, 2, width).permute(2, 1, 3, 0).unflatten(3, transforms.counts)
        mixed = transforms.inverse(mixed.contiguous())
        return v + gelu(mixed + _pointwise(self.pointwise, v))


class FourierOperator(BasisNetwork):
    """Layers of Fourier-spectral and pointwise mixing over space, Chebyshev polynomials over time.

    Args:
        grid: periodic space axes; the time axis is one window.
        num_inputs: input channels.
        num_basis: number of basis functions.
        width: hidden channels.
        num_layers: number of blocks.
        modes: wave numbers below which modes are kept, per space axis.
        degree: highest Chebyshev degree in time; at most the number of time nodes.

    Input channels are divided by ``input_scale``, which is stored with the weights; `calibrate` sets
    it from a sample. ``time`` and ``rate`` (basis, time) are φ and its derivative at the time nodes.

    Raises:
        ValueError: bounded axes, or modes or a degree that the grid does not carry.
    """

    def __init__(
        self,
        grid: Grid,
        num_inputs: int,
        num_basis: int,
        width: int = 24,
        num_layers: int = 3,
        modes: tuple[int, ...] = (12, 12),
        degree: int = 6,
    ):
        super().__init__()
        for name, axis in grid.space.items():
            if not axis.is_periodic:
                raise ValueError(
                    f"a Fourier operator needs periodic axes; {name!r} is bounded: choose 'cosine_operator'"
                )
        sizes = grid.shape[1:]
        if len(modes) != len(sizes):
            raise ValueError(f"modes {tuple(modes)} must give one number per space axis, {tuple(grid.space)}")
        if not 1 <= degree <= grid.shape[0]:
            raise ValueError(f"degree must lie in [1, {grid.shape[0]}], the number of time nodes, got {degree}")
        self.num_basis, self.degree = num_basis, degree
        self.transforms = _Transforms(sizes, tuple(modes))
        s = 2 * grid.time.nodes / grid.time.stop - 1
        degrees = 1 + np.arange(num_basis) % degree
        values = np.polynomial.chebyshev.chebvander(s, degree)[:, degrees] - (-1.0) ** degrees
        derivatives = np.polynomial.chebyshev.chebder(np.eye(degree + 1), axis=0)[:, degrees]
        rates = np.polynomial.chebyshev.chebval(s, derivatives) * 2 / grid.time.stop
        self.register_buffer("time", torch.tensor(values.T), persistent=False)
        self.register_buffer("rate", torch.tensor(rates), persistent=False)
        self.register_buffer("input_scale", torch.ones(num_inputs))
        self.lifting = nn.Linear(num_inputs, width)
        self.blocks = nn.ModuleList(_SpectralBlock(width, math.prod(self.transforms.counts)) for _ in range(num_layers))
        self.projection = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, num_basis)
        )
        with torch.no_grad():
            last = self.projection[2]
            last.weight.mul_(0.3)
            last.bias.zero_()

    @torch.no_grad()
    def calibrate(self, inputs: Tensor) -> None:
        """Sets the input scale to the root mean square of each channel of ``inputs`` (batch, channel, *space)."""
        size = inputs.transpose(0, 1).flatten(1).square().mean(dim=1).sqrt()
        self.input_scale.copy_(torch.where(size > 0, size, 1.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channel, *space) ↦ the fields c (batch, basis, *space)."""
        space = inputs.shape[2:]
        scaled = nn.functional.linear(
            (inputs.flatten(2).transpose(1, 2)), self.lifting.weight / self.input_scale, self.lifting.bias
        )
        v = scaled.transpose(1, 2).contiguous().unflatten(2, space)
        for block in self.blocks:
            v = block(v, self.transforms)
        first, _, last = self.projection
        return _pointwise(last, gelu(_pointwise(first, v)))


def _pointwise(layer: nn.Linear, v: Tensor) -> Tensor:
    """A linear layer over the channels of v (batch, channel, *axes), one fused product a sample."""
    weight = layer.weight.expand(v.shape[0], -1, -1)
    return torch.baddbmm(layer.bias[:, None], weight, v.flatten(2)).unflatten(2, v.shape[2:])
