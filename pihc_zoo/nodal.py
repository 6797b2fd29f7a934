"""The finest basis: one function per node. Newton's method for all nodal values, one time element after another.

    ρ(u) = 0 at every node of an element, given the state at its start

The experts' few coefficients leave a residual where an equation is far from its linearised form, such as a front
that runs into a clean column. There the same discretised equation is solved for all values instead. An element of a
Radau axis sees what was before it through one state only, and space stencils are narrow, so each Newton step is a
block-tridiagonal system in space whose blocks hold a few nodes at all stages.

Source: E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II" (1996), IV.8; the rule that a step goes
at most a fraction of the way to a bound: J. Nocedal, S. Wright, "Numerical Optimization" (2006), 19.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .discretisation import Discretisation, Walls
from .objective import ProblemResidual
from .parameters import Parameters
from .solvers.block_tridiagonal import solve_block_tridiagonal

_FRACTION = 0.95  # of the way to a bound of the states that a step may go


class NodalSolver(nn.Module):
    """Solves the discretised problem on a grid with one bounded space axis.

    Args:
        discretisation: of the grid.
        max_steps: Newton steps per element.
        tolerance: an element is solved when a step changes no value by more than this share of the range of states.

    Raises:
        ValueError: another kind of grid, or a feature of mixed derivatives.
    """

    def __init__(self, discretisation: Discretisation, max_steps: int = 40, tolerance: float = 1e-5):
        super().__init__()
        grid, problem = discretisation.grid, discretisation.problem
        if len(grid.space) != 1 or any(axis.is_periodic for axis in grid.space.values()):
            raise ValueError(f"nodal values are solved for on one bounded axis, not on {', '.join(grid.space)}")
        self.discretisation, self.problem, self.max_steps = discretisation, problem, max_steps
        (self.axis_name,) = grid.space
        low, high = problem.state_range
        self.tolerance = tolerance * (high - low)
        for key, feature in problem.features.items():
            if len(feature.orders) > 1:
                raise ValueError(f"feature {key!r} mixes derivatives, which nodal values are not solved for")
        self.register_buffer("time_blocks", discretisation.time_elements()[0], persistent=False)

    def forward(self, initial: Tensor, walls: Walls, c: Parameters) -> tuple[Tensor, Tensor]:
        """Solves for all nodes.

        Args:
            initial: (batch, x) initial values at the nodes, float64.
            walls: of the grid, for these parameters.
            c: parameters, tensors of shape () or (batch,).

        Returns:
            (batch, time, x) values; (batch,) whether every element was solved.
        """
        closure, axis = walls[self.axis_name], self.discretisation.space.axes[self.axis_name]
        matrices = {
            key: axis.eliminated(feature.orders[self.axis_name], closure)
            for key, feature in self.problem.features.items()
            if self.axis_name in feature.orders
        }
        width = self._width(matrices)
        bands = {key: _bands(matrix, width) for key, (matrix, _) in matrices.items()}
        state, elements = initial, []
        is_solved = torch.ones(len(initial), dtype=torch.bool, device=initial.device)
        for block in self.time_blocks:
            values, is_done = self._element(block, state, matrices, bands, c)
            is_solved = is_solved & is_done
            elements.append(values)
            state = values[:, -1]
        return torch.cat(elements, dim=1), is_solved

    def _width(self, matrices: dict) -> int:
        """Nodes per block, as many as a stencil reaches."""
        reach = 1
        for matrix, _ in matrices.values():
            rows, columns = (matrix != 0).any(dim=0).nonzero().unbind(1)
            reach = max(reach, int((rows - columns).abs().max()))
        return reach

    def _element(self, block: Tensor, state: Tensor, matrices: dict, bands: dict, c: Parameters):
        """One element: stage values (batch, stage, x) from the state (batch, x) at its start, and which are found."""
        low, high = self.problem.state_range
        result = state[:, None].expand(-1, len(block), -1).clone()
        is_found = torch.zeros(len(state), dtype=torch.bool, device=state.device)
        unfinished = torch.arange(len(state), device=state.device)
        for _ in range(self.max_steps):
            own = c.take(unfinished).against(2)
            own_matrices = {key: (_of(m, unfinished), _of(k, unfinished)) for key, (m, k) in matrices.items()}
            own_bands = {key: tuple(_of(band, unfinished) for band in three) for key, three in bands.items()}
            start, u = state[unfinished], result[unfinished]
            residual = ProblemResidual(self.problem, own, self.problem.storage({"u": start[:, None]}, own))
            parts = residual.partials(self._features(u, start, block, own_matrices))
            step = self._step(parts, block, own_bands)
            trial = u + step
            trial = torch.where(trial < low, low + (u - low).clamp(min=0) * (1 - _FRACTION), trial)
            trial = torch.where(trial > high, high - (high - u).clamp(min=0) * (1 - _FRACTION), trial)
            change = (trial - u).abs().amax(dim=(1, 2))  # at a bound less than the step
            is_finite = torch.isfinite(change)
            result[unfinished] = torch.where(is_finite[:, None, None], trial, u)
            is_found[unfinished] = change <= self.tolerance
            unfinished = unfinished[is_finite & (change > self.tolerance)]
            if not len(unfinished):
                break
        return result, is_found

    def _features(self, u: Tensor, state: Tensor, block: Tensor, matrices: dict) -> Tensor:
        """(batch, feature, stage, x)."""
        features = []
        for key, feature in self.problem.features.items():
            if "t" in feature.orders:
                features.append(block @ (u - state[:, None]))  # a derivative matrix takes constants to zero
            elif key in matrices:
                matrix, constant = matrices[key]
                features.append(u @ matrix.transpose(1, 2) + constant[:, None])
            else:
                features.append(u)
        return torch.stack(features, dim=1)

    def _step(self, parts: list, block: Tensor, bands: dict) -> Tensor:
        """(batch, stage, x) the Newton step −J⁻¹ρ.

        J couples the nodes of a stage by the space features, the stages of a node by the time derivative. Unknowns
        are ordered by block of nodes, node, stage.
        """
        value, partials = parts[0]
        rho = value if len(parts) == 1 else value + block @ parts[1][0]
        batch, stages, points = rho.shape
        width = next(iter(bands.values()))[0].shape[-1]
        count = -(-points // width)

        def blocked(field: Tensor, fill: float = 0.0) -> Tensor:
            """(batch, stage, x) ↦ (batch, block, x, stage)."""
            padded = nn.functional.pad(field, (0, count * width - points), value=fill)
            return padded.unflatten(2, (count, width)).permute(0, 2, 3, 1)

        space = [rho.new_zeros(batch, count, width, stages, width) for _ in range(3)]  # before, own, after
        local = rho.new_zeros(batch, count, width, stages, stages)
        for j, (key, feature) in enumerate(self.problem.features.items()):
            if len(parts) > 1 and parts[1][1][j] is not None:
                local = local + blocked(parts[1][1][j].expand_as(rho))[..., None, :] * block
            if partials[j] is None:
                continue
            partial = blocked(partials[j].expand_as(rho))
            if "t" in feature.orders:
                local = local + partial[..., None] * block
            elif key in bands:
                space = [
                    torch.addcmul(own, partial[..., None], band[:, :, :, None])
                    for own, band in zip(space, bands[key], strict=True)
                ]
            else:
                local = local + torch.diag_embed(partial)
        identity = torch.eye(stages, dtype=rho.dtype, device=rho.device)
        nodes = torch.eye(width, dtype=rho.dtype, device=rho.device)
        size = width * stages
        lower, diagonal, upper = (
            (own[..., None] * identity[:, None]).reshape(batch, count, size, size) for own in space
        )
        diagonal = diagonal + (local[..., None, :] * nodes[:, None, :, None]).reshape(batch, count, size, size)
        if count * width > points:
            padding = blocked(torch.zeros_like(rho[:1]), 1.0).flatten(2)
            diagonal = diagonal + torch.diag_embed(padding)
        right = -blocked(rho).flatten(2)
        solved = solve_block_tridiagonal(lower, diagonal, upper, right)
        return solved.unflatten(2, (width, stages)).flatten(1, 2)[:, :points].transpose(1, 2)


def _of(part: Tensor, indices: Tensor) -> Tensor:
    """Those of some trajectories, or what all share."""
    return part if part.shape[0] == 1 else part[indices]


def _bands(matrix: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks (batch, block, x, x) of a banded matrix (batch, x, x) before, on and after its diagonal."""
    count = -(-matrix.shape[-1] // width)
    padding = count * width - matrix.shape[-1]
    tiled = (
        nn.functional.pad(matrix, (0, padding, 0, padding)).unflatten(2, (count, width)).unflatten(1, (count, width))
    )
    result = []
    for offset in (-1, 0, 1):
        own = tiled.diagonal(offset, dim1=1, dim2=3).movedim(-1, 1)  # (batch, block, x, x)
        result.append(nn.functional.pad(own, (0, 0, 0, 0, max(0, -offset), max(0, offset))))
    before, own, after = result
    return before, own, after
