"""Batched block-tridiagonal systems by block elimination without pivoting between blocks.

    L_p x_(p−1) + D_p x_p + U_p x_(p+1) = b_p

Source: G. Golub, C. Van Loan, "Matrix Computations" (2013), 4.5.1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def solve_block_tridiagonal(lower: Tensor, diagonal: Tensor, upper: Tensor, right: Tensor) -> Tensor:
    """Solves a batch of block-tridiagonal systems.

    Args:
        lower, diagonal, upper: (batch, block, n, n) blocks L, D, U; the first L and the last U are not read.
        right: (batch, block, n) b.

    Returns:
        (batch, block, n) x; not finite where a pivot block is singular.
    """
    count, size = diagonal.shape[1:3]
    eliminated: list[tuple[Tensor, Tensor]] = []  # D′⁻¹U and D′⁻¹b′ of the blocks so far
    for p in range(count):
        pivot, sides = diagonal[:, p], torch.cat([upper[:, p], right[:, p, :, None]], dim=2)
        if p:
            before, value = eliminated[-1]
            pivot = pivot - lower[:, p] @ before
            sides = torch.cat([upper[:, p], right[:, p, :, None] - lower[:, p] @ value], dim=2)
        solved, _ = torch.linalg.solve_ex(pivot, sides)
        eliminated.append((solved[..., :size], solved[..., size:]))
    result = [eliminated[-1][1]]
    for before, value in reversed(eliminated[:-1]):
        result.append(value - before @ result[-1])
    return torch.stack(result[::-1], dim=1)[..., 0]
