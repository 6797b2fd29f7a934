"""Small dense systems, batched: LAPACK's in eager mode, plain arithmetic in an exported graph.

ONNX has no factorisations, so under `torch.export` the same functions eliminate by sums and products,
as one operator that the exporter translates to a loop.
"""

from __future__ import annotations

import torch
from torch import Tensor


def from_left(matrix: Tensor, fields: Tensor) -> Tensor:
    """matrix (m, n) · fields (..., n, p), in fewer operations than ``@`` takes to broadcast."""
    flat = fields.reshape(-1, *fields.shape[-2:])
    product = torch.bmm(matrix.expand(flat.shape[0], -1, -1), flat)
    return product.view(*fields.shape[:-2], matrix.shape[0], fields.shape[-1])


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix⁻¹ right for matrix (..., n, n) and right (..., n, m), by LU; not finite where singular."""
    if torch.compiler.is_exporting():
        return eliminate(matrix, right)[0]
    return torch.linalg.solve_ex(matrix, right)[0]


def combination(parts: Tensor, target: Tensor, ridge: float) -> Tensor:
    """(batch, k, 1) weights with which parts (batch, k, *shape) sum up to what is nearest to target (batch, *shape).

    The normal equations are in float64, whatever parts are.

    Args:
        ridge: times the mean diagonal of the normal equations, which it keeps regular.
    """
    own = parts.flatten(2).double()
    gram = own @ own.transpose(1, 2)
    ridges = ridge * gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] + torch.finfo(gram.dtype).tiny
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return solve(gram + ridges * identity, own @ target.flatten(1)[..., None].double()).to(parts.dtype)


def solve_positive_definite(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """matrix⁻¹ right for symmetric matrix (..., n, n) by Cholesky, and (...) whether it is positive definite."""
    if torch.compiler.is_exporting():
        solution, smallest_pivot = eliminate(matrix, right)
        return solution, smallest_pivot > 0
    factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(right, factor), info == 0


@torch.library.custom_op("pihc_zoo::eliminate", mutates_args=())
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


@eliminate.register_fake
def _(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(right), matrix.new_empty(matrix.shape[:-2])
