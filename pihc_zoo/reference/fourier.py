"""Features and right-hand side on periodic axes by fast Fourier transforms, for the classical solver.

`pihc_zoo.discretisation` has the same maps as real matrix products; these are independent of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..discretisation import SemiDiscrete
from ..grid import FourierAxis
from ..parameters import Parameters, column


class FourierFeatures(nn.Module):
    """`SpaceFeatures` by fast Fourier transforms: complex modes ↦ features at collocation points.

    Modes (..., *spectrum) are those of a real transform on the collocation grid, divided by its number
    of points; wave numbers beyond each axis' band are zero. All derivatives are multipliers.

    Args:
        problem: names the features.
        space: periodic axes by name.
        dtype: of values; modes are complex numbers of such parts.
        device: of both.
    """

    def __init__(self, problem, space: dict[str, FourierAxis], dtype: torch.dtype = torch.float64, device: Any = "cpu"):
        super().__init__()
        self.problem, self.space, self.names = problem, dict(space), list(space)
        self.shape = tuple(len(axis.collocation_points) for axis in space.values())
        mask, squares = torch.ones((), dtype=dtype, device=device), torch.zeros((), dtype=torch.float64, device=device)
        for name, axis in space.items():
            count = len(axis.collocation_points)
            is_last = name == self.names[-1]
            k = np.fft.rfftfreq(count, 1 / count) if is_last else np.fft.fftfreq(count, 1 / count)
            angular = torch.as_tensor(2 * np.pi * k / axis.length, device=device)
            self.register_buffer(f"k_{name}", angular, persistent=False)
            mask = mask[..., None] * torch.as_tensor(np.abs(k) <= axis.band, dtype=dtype, device=device)
            squares = squares[..., None] + angular**2
        self.modes_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("squares", squares, persistent=False)
        self._multipliers: dict[frozenset[str], tuple[list[str], Tensor]] = {}

    def point_shape(self, modes: Tensor) -> tuple[int, ...]:
        """Shape of the values at collocation points of a field with ``modes`` (batch, *spectrum)."""
        return (modes.shape[0], *self.shape)

    def symbol(self, feature) -> Tensor:
        """(*spectrum) complex multiplier of a feature on the modes inside the band, in double precision.

        Raises:
            ValueError: the feature names an axis that is not there.
        """
        squares = self.squares
        if feature.laplacian >= 0:
            symbol = (-squares) ** feature.laplacian
        else:  # the inverse acts on fields of zero mean
            symbol = torch.where(squares > 0, (-torch.where(squares > 0, squares, 1.0)) ** feature.laplacian, 0.0)
        symbol = (symbol * self.mask).to(torch.complex128)
        for name, order in feature.orders.items():
            if name not in self.space:
                raise ValueError(f"feature needs axis {name!r}; the grid has {self.names}")
            k = getattr(self, f"k_{name}")
            factor = (1j * k) ** order
            symbol = symbol * factor.reshape(-1, *[1] * (len(self.names) - 1 - self.names.index(name)))
        return symbol

    def to_values(self, modes: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        """Modes ↦ values on the collocation grid, or on the grid ``shape`` that modes belong to."""
        dims = tuple(range(-len(self.names), 0))
        return torch.fft.irfftn(modes, s=shape or self.shape, dim=dims, norm="forward")

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ the modes inside the band."""
        modes = torch.fft.rfftn(values, dim=tuple(range(-len(self.names), 0)), norm="forward")
        return torch.view_as_complex(torch.view_as_real(modes).mul_(self.mask[..., None]))

    def multipliers(self, skip: frozenset[str] = frozenset()) -> tuple[list[str], Tensor]:
        """Names of the features but for time derivatives and ``skip``, and their (feature, 1, *spectrum)."""
        if skip not in self._multipliers:
            features = self.problem.features
            names = [name for name in features if "t" not in features[name].orders and name not in skip]
            empty = self.mask.new_zeros(0, *self.mask.shape)
            stack = torch.stack([self.symbol(features[name]) for name in names]) if names else empty
            self._multipliers[skip] = names, stack[:, None].to(self.modes_dtype)
        return self._multipliers[skip]

    def forward(self, modes: Tensor, skip: frozenset[str] = frozenset()) -> dict[str, Tensor]:
        """(batch, *spectrum) ↦ features at collocation points by name, without time derivatives and ``skip``."""
        names, multipliers = self.multipliers(skip)
        return dict(zip(names, self.to_values(modes * multipliers).unbind(), strict=True))


class FourierSemiDiscrete(SemiDiscrete):
    """The right-hand side by fast transforms, and how fast its fastest mode changes."""

    def __init__(self, problem, space: dict[str, FourierAxis], dtype: torch.dtype, device: Any):
        super().__init__(problem, space)
        self.features = FourierFeatures(problem, space, dtype, device)
        names, multipliers = self.features.multipliers(self.skip)
        outer = torch.zeros((), device=device, dtype=torch.bool)
        for name, axis in space.items():
            k = getattr(self.features, f"k_{name}").abs() * axis.length / (2 * torch.pi)
            outer = outer[..., None] | (k > 0.75 * axis.band)
        self.outer = outer.to(dtype)  # (*spectrum) 1 on modes in the outer quarter of the band of any axis
        self.largest = {name: float(own.abs().max()) for name, own in zip(names, multipliers, strict=True)}

    def fastest(self, modes: Tensor, c: Parameters) -> Tensor:
        """(batch,) λ = max over points of Σ_j |∂n/∂f_j| · largest multiplier of the feature f_j."""
        if not self.largest:
            return self.features.mask.new_zeros(len(modes))
        own = c.against(len(self.features.names))
        coefficients = self.problem.linearised(own)
        with torch.enable_grad():
            fields = self.features(modes.detach(), self.skip)
            fields = {name: field.detach().requires_grad_() for name, field in fields.items()}
            some = next(iter(fields.values()))
            absent = torch.zeros((), dtype=some.dtype, device=some.device)
            residual = self.problem.residual({**fields, **dict.fromkeys((*self.rates, *self.skip), absent)}, own, {})
            if not residual.requires_grad:
                return some.new_zeros(len(modes))
            partials = torch.autograd.grad(residual.sum(), list(fields.values()), allow_unused=True)
        total = torch.zeros_like(some)
        for name, partial in zip(fields, partials, strict=True):
            if partial is not None:
                linear = coefficients[name] if name in self.linear else 0.0
                total = total + (partial - linear).abs() * self.largest[name]
        return (total / column(coefficients[self.rates[0]], total.dim() - 1, total).abs()).flatten(1).amax(dim=1)


def resized(modes: Tensor, source: tuple[int, ...], target: tuple[int, ...], band: Sequence[int]) -> Tensor:
    """Modes of a real transform on the grid ``source`` ↦ those on ``target``; |k| ≤ band is kept."""
    num = len(source)
    for axis, (n, m, highest) in enumerate(zip(source, target, band, strict=True)):
        dim, b = axis - num, min(highest, (n - 1) // 2, (m - 1) // 2)
        positive = modes.narrow(dim, 0, b + 1)
        shape = list(modes.shape)
        shape[dim] = m // 2 + 1 if axis == num - 1 else m
        moved = modes.new_zeros(shape)
        moved.narrow(dim, 0, b + 1).copy_(positive)
        if axis < num - 1 and b:
            moved.narrow(dim, m - b, b).copy_(modes.narrow(dim, n - b, b))
        modes = moved
    return modes
