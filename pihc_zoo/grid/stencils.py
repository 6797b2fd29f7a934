"""Finite-difference and interpolation weights on arbitrary nodes (numpy only).

Source: B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
Math. Comp. 51 (1988), doi:10.1090/S0025-5718-1988-0935077-0.
"""

from __future__ import annotations

import numpy as np


def fornberg_weights(point: float | np.ndarray, nodes: np.ndarray, order: int) -> np.ndarray:
    """Weights of the derivative of the interpolating polynomial through ``nodes``.

    Args:
        point: where the derivative is taken, a number or (...).
        nodes: (..., n) distinct positions.
        order: derivative order, 0 for interpolation; smaller than n.

    Returns:
        (..., n) weights c with  d^order u/dx^order (point) ≈ Σ c_i u(nodes_i).
    """
    x = np.moveaxis(np.asarray(nodes, dtype=np.float64), -1, 0)  # (n, ...)
    weights = np.zeros((order + 1, *x.shape))
    weights[0, 0] = 1.0
    product, offset = np.ones(x.shape[1:]), x[0] - point
    for i in range(1, len(x)):
        top = min(i, order)
        new_product, old_offset = np.ones(x.shape[1:]), offset
        offset = x[i] - point
        for j in range(i):
            gap = x[i] - x[j]
            new_product = new_product * gap
            if j == i - 1:
                for k in range(top, 0, -1):
                    weights[k, i] = product * (k * weights[k - 1, i - 1] - old_offset * weights[k, i - 1]) / new_product
                weights[0, i] = -product * old_offset * weights[0, i - 1] / new_product
            for k in range(top, 0, -1):
                weights[k, j] = (offset * weights[k, j] - k * weights[k - 1, j]) / gap
            weights[0, j] = offset * weights[0, j] / gap
        product = new_product
    return np.moveaxis(weights[order], 0, -1)


def stencil_matrix(nodes: np.ndarray, points: np.ndarray, order: int, width: int) -> np.ndarray:
    """Derivatives at ``points`` from values at ``nodes`` by the nearest ``width`` nodes.

    Args:
        nodes: (n,) increasing positions.
        points: (m,) positions.
        order: derivative order, 0 for interpolation.
        width: stencil width; the formula is exact for polynomials of degree width − 1.

    Returns:
        (m, n) matrix.
    """
    nodes, points = np.asarray(nodes, dtype=np.float64), np.asarray(points, dtype=np.float64)
    width = min(width, len(nodes))
    matrix = np.zeros((len(points), len(nodes)))
    columns = _first_of_nearest(nodes, points, width)[:, None] + np.arange(width)
    matrix[np.arange(len(points))[:, None], columns] = fornberg_weights(points, nodes[columns], order)
    return matrix


def _first_of_nearest(nodes: np.ndarray, points: np.ndarray, width: int) -> np.ndarray:
    """(m,) index of the first of the ``width`` nodes nearest to each point, the lower ones of two at the same distance.

    The first whose distance is at most that of the next node behind the stencil, by bisection.
    """
    low, high = np.zeros(len(points), dtype=int), np.full(len(points), len(nodes) - width)
    while (low < high).any():
        middle = (low + high) // 2
        behind = np.minimum(middle + width, len(nodes) - 1)
        is_near = np.abs(nodes[middle] - points) <= np.abs(nodes[behind] - points)
        is_open = low < high
        high = np.where(is_open & is_near, middle, high)
        low = np.where(is_open & ~is_near, middle + 1, low)
    return low
