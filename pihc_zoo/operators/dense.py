"""Small dense systems, batched: LAPACK's in eager mode, plain arithmetic in an exported graph.

ONNX has no factorisations, so under `torch.export` the same functions eliminate in a few unrolled
steps of sums and products.
"""

from __future__ import annotations

import torch
from torch import Tensor


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix⁻¹ right for matrix (..., n, n) and right (..., n, m), by LU; not finite where singular."""
    if torch.compiler.is_exporting():
        return eliminate(matrix, right)[0]
    return torch.linalg.solve_ex(matrix, right)[0]


def solve_positive_definite(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """matrix⁻¹ right for symmetric matrix (..., n, n) by Cholesky, and (...) whether it is positive definite."""
    if torch.compiler.is_exporting():
        solution, smallest_pivot = eliminate(matrix, right)
        return solution, smallest_pivot > 0
    factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(right, factor), info == 0


def invert_block_triangular(matrix: Tensor, size: int) -> Tensor:
    """Inverse of a matrix (..., n, n) that is lower triangular in blocks of ``size``.

    In eager mode the structure is not used.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    if not torch.compiler.is_exporting():
        return torch.linalg.solve_ex(matrix, identity.expand_as(matrix))[0]
    num_nodes = matrix.shape[-1]
    blocks = [slice(first, first + size) for first in range(0, num_nodes, size)]
    diagonal = torch.stack([matrix[..., block, block] for block in blocks], dim=-3)
    diagonal = eliminate(diagonal, identity[:size, :size].expand_as(diagonal))[0]  # (..., block, size, size)
    rows: list[Tensor] = []
    for i, block in enumerate(blocks):
        own = diagonal[..., i, :, :]
        parts = [own]
        if i:
            above = torch.cat(rows, dim=-2)[..., : block.start]
            parts = [-own @ (matrix[..., block, : block.start] @ above), own]
        rest = num_nodes - block.stop
        rows.append(torch.nn.functional.pad(torch.cat(parts, dim=-1), (0, rest)))
    return torch.cat(rows, dim=-2)


def eliminate(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss–Jordan elimination without pivoting; for definite or diagonally heavy matrices.

    Returns:
        matrix⁻¹ right (..., n, m) and the smallest pivot (...), positive for definite matrices.
    """
    rest = torch.cat([matrix, right], dim=-1)
    pivots = []
    for _ in range(matrix.shape[-1]):  # the pivot row goes to the end, the column that it cleared is dropped
        pivot = rest[..., :1, :1]
        row = rest[..., :1, 1:] / pivot
        rest = torch.cat([rest[..., 1:, 1:] - rest[..., 1:, :1] * row, row], dim=-2)
        pivots.append(pivot)
    return rest, torch.cat(pivots, dim=-2).amin(dim=(-1, -2))
