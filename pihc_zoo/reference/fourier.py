"""Features on periodic axes by fast Fourier transforms, for the classical solver.

`pihc_zoo.discretisation` has the same maps as real matrix products; these are independent of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..grid import FourierAxis
from .equations import Equations


class FourierFeatures(nn.Module):
    """Linear features by fast Fourier transforms: complex modes ↦ features at collocation points.

    Modes (batch, field, *spectrum) are those of a real transform on the collocation grid, divided by its number
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
        self.equations = Equations(problem)
        self.shape = tuple(len(axis.collocation_points) for axis in space.values())
        mask, squares = torch.ones((), dtype=dtype, device=device), torch.zeros((), dtype=torch.float64, device=device)
        for dim, (name, axis) in enumerate(space.items()):
            count = len(axis.collocation_points)
            is_last = name == self.names[-1]
            k = np.fft.rfftfreq(count, 1 / count) if is_last else np.fft.fftfreq(count, 1 / count)
            angular = torch.as_tensor(2 * np.pi * k / axis.length, device=device)
            self.register_buffer(f"k_{name}", angular, persistent=False)
            points = torch.as_tensor(axis.collocation_points, dtype=dtype, device=device)
            points = points.reshape(1, -1, *[1] * (len(space) - 1 - dim))
            self.register_buffer(f"at_{name}", points, persistent=False)
            mask = mask[..., None] * torch.as_tensor(np.abs(k) <= axis.band, dtype=dtype, device=device)
            squares = squares[..., None] + angular**2
        self.modes_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("squares", squares, persistent=False)
        self._multipliers: dict[frozenset[str], tuple[list[str], Tensor]] = {}

    @property
    def at(self) -> dict[str, Tensor]:
        """Coordinates of the collocation points by axis, each (1, …, n, …, 1)."""
        return {name: getattr(self, f"at_{name}") for name in self.names}

    def symbol(self, feature) -> Tensor:
        """(*spectrum) complex multiplier of a feature on the modes inside the band, in double precision.

        Time derivatives are left out of it.

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
            if name == "t":
                continue
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

    def to_modes(self, values: Tensor) -> Tensor:
        """Values (..., *space) on any periodic grid ↦ their modes, those beyond the band left out."""
        band = [axis.band for axis in self.space.values()]
        modes = torch.fft.rfftn(values, dim=tuple(range(-len(band), 0)), norm="forward")
        return resized(modes, tuple(values.shape[-len(band) :]), self.shape, band).to(self.modes_dtype)

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points (..., *collocation) ↦ the modes inside the band."""
        modes = torch.fft.rfftn(values, dim=tuple(range(-len(self.names), 0)), norm="forward")
        return torch.view_as_complex(torch.view_as_real(modes).mul_(self.mask[..., None]))

    def multipliers(self, skip: frozenset[str] = frozenset()) -> tuple[list[str], Tensor]:
        """Names of the features but for time derivatives and ``skip``, and their (feature, 1, *spectrum)."""
        if skip not in self._multipliers:
            features = self.problem.features
            names = [name for name in self.equations.static if name not in skip]
            empty = self.mask.new_zeros(0, *self.mask.shape)
            stack = torch.stack([self.symbol(features[name]) for name in names]) if names else empty
            self._multipliers[skip] = names, stack[:, None].to(self.modes_dtype)
        return self._multipliers[skip]

    def forward(self, modes: Tensor, skip: frozenset[str] = frozenset()) -> dict[str, Tensor]:
        """(batch, field, *spectrum) ↦ features (batch, *collocation) by name, without time derivatives and ``skip``."""
        names, multipliers = self.multipliers(skip)
        places = [self.equations.place[name] for name in names]
        own = modes[:, 0] if len(self.equations.fields) == 1 else modes.transpose(0, 1)[places]
        return dict(zip(names, self.to_values(own * multipliers).unbind(), strict=True))


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
