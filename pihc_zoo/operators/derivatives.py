"""Linear features of fields on a grid, with wall and initial conditions eliminated.

Fields carry values at nodes, (batch, basis, time, *space). Before a stencil is applied a field is
*closed*: the initial condition is put before the first time, wall values beside the first and last
node. Wall values follow from the wall conditions, which are linear in the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..grid import Grid
from ..solvers.dense import solve

if TYPE_CHECKING:
    from ..problems.base import Problem


@dataclass
class Closure:
    """Wall values of a field along one axis: walls = nodes · slopes + offset.

    slopes (batch or 1, n, 2), offset (batch or 1, 2).
    """

    slopes: Tensor
    offset: Tensor

    def take(self, rows: Tensor) -> Closure:
        """That of some trajectories."""
        return Closure(*(part if part.shape[0] == 1 else part[rows] for part in (self.slopes, self.offset)))

    def homogeneous(self) -> Closure:
        """The closure of a correction, which meets the conditions with zero targets."""
        return Closure(self.slopes, torch.zeros_like(self.offset))


class FeatureOperator(nn.Module):
    """u ↦ its features (u, u_t, u_xx, …) at the nodes of a grid.

    Args:
        problem: names the features and the wall conditions.
        grid: where fields live.
    """

    def __init__(self, problem: Problem, grid: Grid):
        super().__init__()
        self.problem, self.grid = problem, grid
        self.space_names = list(grid.space)
        for key, feature in problem.features.items():
            if feature.laplacian:
                raise ValueError(f"feature {key!r} takes a power of the Laplacian, which needs periodic axes")
            for name, order in feature.orders.items():
                if name not in grid.axes:
                    raise ValueError(f"feature needs axis {name!r}; the grid has {list(grid.axes)}")
                self._register(f"d_{name}_{order}", grid.axes[name].differentiation(order))
        rate = torch.as_tensor(grid.time.differentiation(1)[:, 1:].copy()) if problem.is_conservative else None
        # (time, time) time derivative of what vanishes initially, for problems with a storage
        self.register_buffer("storage_rate", rate, persistent=False)
        conditions = problem.walls(problem.as_tensors({}))
        for name, pair in conditions.items():
            axis = grid.space[name]
            for side, wall, condition in zip("lr", (axis.closed_nodes[0], axis.closed_nodes[-1]), pair, strict=True):
                at = wall if condition.at is None else condition.at
                self._register(f"slope_{name}_{side}", axis.differentiation(1, [at])[0])

    projection = None  # features live at the nodes

    def project(self, values: Tensor) -> Tensor:
        """Values at collocation points ↦ values at nodes: here the same."""
        return values

    def _register(self, name: str, matrix) -> None:
        if name not in self._buffers:
            self.register_buffer(name, torch.as_tensor(matrix, dtype=torch.float64), persistent=False)

    def matrix(self, name: str, order: int) -> Tensor:
        """(n, closed) derivative matrix of order ``order`` along axis ``name``."""
        return getattr(self, f"d_{name}_{order}")

    def closures(self, c: dict[str, Tensor]) -> dict[str, Closure]:
        """Wall elimination for the parameters ``c``, tensors of shape () or (batch,).

        Solves, for the two wall values a of each bounded axis,
        value·a_side + slope·(d · [a_left, nodes, a_right]) = target.
        """
        closures = {}
        for name, pair in self.problem.walls(c).items():
            rows, node_rows, targets = [], [], []
            for side, condition in zip("lr", pair, strict=True):
                d = getattr(self, f"slope_{name}_{side}")
                value, slope, target = (
                    torch.as_tensor(v, dtype=d.dtype, device=d.device).reshape(-1)
                    for v in (condition.value, condition.slope, condition.target)
                )
                own = torch.zeros(2, dtype=d.dtype, device=d.device)
                own[0 if side == "l" else 1] = 1
                rows.append(value[:, None] * own + slope[:, None] * torch.stack([d[0], d[-1]]))
                node_rows.append(slope[:, None] * d[1:-1])
                targets.append(target)
            batch = next((part.shape[0] for part in rows if part.shape[0] != 1), 1)
            system = torch.stack([part.expand(batch, 2) for part in rows], dim=1)  # (batch, 2, 2)
            nodes = torch.stack([part.expand(batch, -1) for part in node_rows], dim=1)  # (batch, 2, n)
            target = torch.stack([part.expand(batch) for part in targets], dim=1)  # (batch, 2)
            slopes = solve(system, torch.cat([-nodes, target[..., None]], dim=2))
            closures[name] = Closure(slopes[..., :-1].transpose(1, 2), slopes[..., -1])
        return closures

    def close_space(self, u: Tensor, name: str, closure: Closure | None) -> Tensor:
        """Adds the wall values along axis ``name``; the identity on a periodic axis.

        Args:
            u: (batch, ..., *space).
        """
        if closure is None:
            return u
        dim = self.space_names.index(name) - len(self.space_names)
        moved = u.movedim(dim, -1)
        middle = (1,) * (moved.dim() - 2)
        slopes = closure.slopes.reshape(closure.slopes.shape[0], *middle[:-1], *closure.slopes.shape[1:])
        walls = moved @ slopes + closure.offset.reshape(closure.offset.shape[0], *middle, 2)
        return torch.cat([walls[..., :1], moved, walls[..., 1:]], dim=-1).movedim(-1, dim)

    def close_time(self, u: Tensor, initial: Tensor | None) -> Tensor:
        """Puts the initial field (batch, basis, *space), zero when None, before the first time."""
        dim = -1 - len(self.space_names)
        if initial is None:
            initial = torch.zeros_like(u.select(dim, 0))
        return torch.cat([initial.unsqueeze(dim), u], dim=dim)

    def forward(
        self, u: Tensor, closures: dict[str, Closure], initial: Tensor | None = None, has_rates: bool = True
    ) -> Tensor:
        """Features of the fields.

        Args:
            u: (batch, basis, time, *space) values at the nodes.
            closures: from `closures`, or their homogeneous form for corrections.
            initial: (batch, basis, *space), zero when None.
            has_rates: whether time derivatives are asked for; where a storage takes their place they are left zero.

        Returns:
            (batch, basis, feature, time, *space), in the order of ``problem.features``.
        """
        results = []
        for feature in self.problem.features.values():
            result = u
            if not has_rates and "t" in feature.orders:
                results.append(torch.zeros_like(u))
                continue
            for name, order in feature.orders.items():
                if name == "t":
                    matrix = self.matrix(name, order)
                    dim = -1 - len(self.space_names)
                    if initial is None:
                        matrix = matrix[:, 1:]
                    else:
                        result = self.close_time(result, initial)
                    result = along(result, matrix, dim)
                else:
                    result = self._differentiate(result, name, order, closures.get(name))
            results.append(result)
        return torch.stack(results, dim=2)

    def eliminated(self, name: str, order: int, closure: Closure | None) -> tuple[Tensor, Tensor]:
        """A space derivative of values at nodes alone, the walls' eliminated: D + D_walls slopesᵀ and D_walls offset.

        Returns:
            (batch or 1, n, n) matrix and (batch or 1, n) constant.
        """
        matrix = self.matrix(name, order)
        if closure is None:
            return matrix[None], matrix.new_zeros(1, len(matrix))
        ends = torch.stack([matrix[:, 0], matrix[:, -1]], dim=1)  # (n, 2)
        return matrix[:, 1:-1] + ends @ closure.slopes.transpose(1, 2), closure.offset @ ends.T

    def _differentiate(self, u: Tensor, name: str, order: int, closure: Closure | None) -> Tensor:
        """Space derivative along an axis, see `eliminated`."""
        dim = self.space_names.index(name) - len(self.space_names)
        if closure is None:
            return along(u, self.matrix(name, order), dim)
        eliminated, constant = self.eliminated(name, order, closure)
        moved = u.movedim(dim, -1)
        if eliminated.shape[0] == 1:
            result = moved @ eliminated[0].T
        else:
            result = (moved.flatten(1, -2) @ eliminated.transpose(1, 2)).view(moved.shape)
        return (result + constant.reshape(constant.shape[0], *[1] * (moved.dim() - 2), -1)).movedim(-1, dim)


def along(u: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """matrix (m, n) applied to dimension ``dim`` of u."""
    if dim == -1:
        return u @ matrix.T
    return matrix @ u if dim == -2 else (u.movedim(dim, -1) @ matrix.T).movedim(-1, dim)
