"""Finite-difference and interpolation weights on arbitrary nodes (numpy only).

Source: B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
Math. Comp. 51 (1988), doi:10.1090/S0025-5718-1988-0935077-0.
"""

from __future__ import annotations

import numpy as np


def fornberg_weights(point: float, nodes: np.ndarray, order: int) -> np.ndarray:
    """Weights of the derivative of the interpolating polynomial through ``nodes``.

    Args:
        point: where the derivative is taken.
        nodes: (n,) distinct positions.
        order: derivative order, 0 for interpolation; smaller than n.

    Returns:
        (n,) weights c with  d^order u/dx^order (point) ≈ Σ c_i u(nodes_i).
    """
    num_nodes = len(nodes)
    weights = np.zeros((order + 1, num_nodes))
    weights[0, 0] = 1.0
    product, offset = 1.0, nodes[0] - point
    for i in range(1, num_nodes):
        top = min(i, order)
        new_product, old_offset = 1.0, offset
        offset = nodes[i] - point
        for j in range(i):
            gap = nodes[i] - nodes[j]
            new_product *= gap
            if j == i - 1:
                for k in range(top, 0, -1):
                    weights[k, i] = product * (k * weights[k - 1, i - 1] - old_offset * weights[k, i - 1]) / new_product
                weights[0, i] = -product * old_offset * weights[0, i - 1] / new_product
            for k in range(top, 0, -1):
                weights[k, j] = (offset * weights[k, j] - k * weights[k - 1, j]) / gap
            weights[0, j] = offset * weights[0, j] / gap
        product = new_product
    return weights[order]


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
    for row, point in enumerate(points):
        nearest = np.argsort(np.abs(nodes - point), kind="stable")[:width]
        first = int(np.clip(nearest.min(), 0, len(nodes) - width))
        matrix[row, first : first + width] = fornberg_weights(point, nodes[first : first + width], order)
    return matrix
