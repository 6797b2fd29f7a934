"""A caller's positions on periodic axes: where initial values are given and where answers are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..grid import FourierAxis
from .fourier import FourierFeatures, resized


def positions(axes: dict[str, FourierAxis], points: Any, sizes: Sequence[int] | None, what: str) -> list[np.ndarray]:
    """One array of positions per axis, from an array, a dict, or the axis' own points for ``sizes``.

    Raises:
        ValueError: other axes, or an array where there are several.
    """
    if points is None:
        return [axis.sized(n).nodes for axis, n in zip(axes.values(), sizes or (), strict=True)]
    if not isinstance(points, dict):
        if len(axes) > 1:
            raise ValueError(f"{what} must be a dict of positions by axis, {tuple(axes)}")
        points = {next(iter(axes)): points}
    if set(points) != set(axes):
        raise ValueError(f"{what} must have the axes {tuple(axes)}, got {tuple(points)}")
    return [np.asarray(points[name], dtype=np.float64) for name in axes]


def is_grid_of(axis: FourierAxis, points: np.ndarray) -> bool:
    """Whether positions are equally spaced over the period, from the axis' start on."""
    count = len(points)
    regular = axis.start + axis.length * np.arange(count) / count
    return bool(np.allclose(points, regular, rtol=0, atol=1e-12 * axis.length))


def canonical(axes: dict[str, FourierAxis], values: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Values (..., *space) at equally spaced positions with any offset ↦ at those that begin at each axis' start.

    Raises:
        ValueError: other positions.
    """
    for dim, (axis, own) in enumerate(zip(axes.values(), points, strict=True), start=-len(axes)):
        if len(own) != values.shape[dim]:
            raise ValueError(f"input_x has {len(own)} positions for {values.shape[dim]} values")
        if is_grid_of(axis, own):
            continue
        moved = replace(axis, num_nodes=len(own), start=float(own[0]))
        if not is_grid_of(moved, own):
            raise ValueError(
                "input_x must be equally spaced over one period (n points at distances length/n); "
                "interpolate the initial condition to such points"
            )
        matrix = moved.interpolation(axis.start + axis.length * np.arange(len(own)) / len(own))
        values = np.moveaxis(np.moveaxis(values, dim, -1) @ matrix.T, -1, dim)
    return values


def reader(features: FourierFeatures, points: list[np.ndarray]) -> Callable[[Tensor], np.ndarray]:
    """Modes (..., *spectrum) ↦ values at ``points``, (..., *points)."""
    axes, dtype, device = list(features.space.values()), features.mask.dtype, features.mask.device
    band = [axis.band for axis in axes]
    counts = tuple(len(own) for own in points)
    if all(n // 2 > b and is_grid_of(a, p) for a, b, n, p in zip(axes, band, counts, points, strict=True)):

        def on_grid(modes: Tensor) -> np.ndarray:
            moved = modes if counts == features.shape else resized(modes, features.shape, counts, band)
            return features.to_values(moved, counts).cpu().numpy()

        return on_grid
    nodes = tuple(axis.num_nodes for axis in axes)
    matrices = [
        torch.as_tensor(axis.interpolation(own), device=device, dtype=dtype)
        for axis, own in zip(axes, points, strict=True)
    ]

    def at_points(modes: Tensor) -> np.ndarray:
        values = features.to_values(resized(modes, features.shape, nodes, band), nodes)
        for dim, matrix in enumerate(matrices):
            axis = dim - len(matrices)
            values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
        return values.cpu().numpy()

    return at_points
