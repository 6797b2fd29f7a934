"""Values of a field at any times and points: interpolation from the closed nodes of its grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..solvers.dense import from_left
from .axes import along
from .discretisation import Discretisation
from .field import Field, Walls


class Readout(nn.Module):
    """Reads fields on a grid.

    Args:
        discretisation: of the grid.
        times: (m,) output times.
        points: per space axis (n,) output positions.
    """

    def __init__(self, discretisation: Discretisation, times: np.ndarray, points: dict[str, np.ndarray]):
        super().__init__()
        self.discretisation = discretisation
        grid = discretisation.grid
        to_times = grid.time.interpolation(times)
        self.register_buffer("to_times", torch.as_tensor(to_times), persistent=False)
        self.runs = _runs(to_times)
        for name, values in points.items():
            self._register(f"to_{name}", grid.space[name].interpolation(values))
            if discretisation.problem.has_moving_frame and grid.space[name].is_periodic:
                self._register(f"analysis_{name}", grid.space[name].analysis())
                self._register(f"at_{name}", grid.space[name].modes(values))

    def _register(self, name: str, matrix: np.ndarray) -> None:
        self.register_buffer(name, torch.as_tensor(matrix), persistent=False)

    def forward(self, field: Field, shift: dict[str, Tensor] | None = None) -> Tensor:
        """A field (batch, time, *space) ↦ (batch, m, *points).

        Args:
            shift: by periodic axis (batch, m) how far the field is moved along it at each time.
        """
        own = self.discretisation
        u = own.started(field.u, field.initial)
        if shift:
            return self._shifted(u, shift)
        u = own.space.by_component(u, field.walls, self.at_points)
        flat = u.flatten(2)  # (batch, closed time, points)
        parts = [from_left(self.to_times[rows, nodes], flat[:, nodes]) for rows, nodes in self.runs]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).unflatten(2, u.shape[2:])

    def at_points(self, u: Tensor, walls: Walls) -> Tensor:
        """(..., *space) ↦ (..., *points)."""
        own = self.discretisation.space
        for i, name in enumerate(own.names):
            dim, closure = i - len(own.names), walls[name]
            u = u if closure is None else own.axes[name].close(u, dim, closure)
            u = along(u, getattr(self, f"to_{name}"), dim)
        return u

    def _shifted(self, closed: Tensor, shift: dict[str, Tensor]) -> Tensor:
        """Through the modes of periodic axes: cos k(x − s) and sin k(x − s) by those of x."""
        space = self.discretisation.space
        u = from_left(self.to_times, closed.flatten(2)).unflatten(2, closed.shape[2:])  # (batch, m, *space)
        for name in space.names:
            dim = space.names.index(name) - len(space.names)
            axis, band = space.axes[name], space.space[name].band
            modes = along(u, getattr(self, f"analysis_{name}"), dim).movedim(dim, -1)
            mean, cosines, sines = modes.split([1, band, band], dim=-1)
            if name in shift:
                angle = shift[name][..., None] * axis.wave_numbers[1 : band + 1].to(u)
                angle = angle.reshape(*angle.shape[:2], *[1] * (modes.dim() - 3), band)
                cos, sin = angle.cos(), angle.sin()
                cosines, sines = cosines * cos - sines * sin, cosines * sin + sines * cos
            modes = torch.cat([mean, cosines, sines], dim=-1).movedim(-1, dim)
            u = along(modes, getattr(self, f"at_{name}"), dim)
        return u


def _runs(matrix: np.ndarray) -> list[tuple[slice, slice]]:
    """Runs of consecutive rows that read the same columns, (rows, columns): a time sees one element only."""
    spans = [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1]) + 1) for row in matrix]
    starts = [i for i in range(len(spans)) if i == 0 or spans[i][0] != spans[i - 1][0]]
    runs = []
    for first, stop in zip(starts, [*starts[1:], len(spans)], strict=True):
        group = spans[first:stop]
        runs.append((slice(first, stop), slice(group[0][0], max(end for _, end in group))))
    return runs
