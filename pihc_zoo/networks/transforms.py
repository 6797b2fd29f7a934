"""Truncated transforms as small dense matrices (numpy only).

A truncated transform keeps few modes of many points, so a matrix product is both the simplest and
the fastest form of it, runs on every device and exports to ONNX without complex numbers.
"""

from __future__ import annotations

import numpy as np

from ..grid import FourierAxis


def cosine_modes(coordinates: np.ndarray, num_modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Synthesis and analysis matrices of cos(π k c), k = 0 … num_modes − 1.

    Args:
        coordinates: (n,) node coordinates in [0, 1], not necessarily uniform.
        num_modes: number of modes kept; at most n.

    Returns:
        synthesis (n, num_modes) and analysis (num_modes, n), its least-squares left inverse.

    Raises:
        ValueError: more modes than points.
    """
    if num_modes > len(coordinates):
        raise ValueError(f"{num_modes} modes asked of {len(coordinates)} points; choose at most {len(coordinates)}")
    synthesis = np.cos(np.pi * np.outer(coordinates, np.arange(num_modes)))
    return synthesis, np.linalg.pinv(synthesis)


def waves(axis: FourierAxis, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first modes of a periodic axis, 1, cos, sin, cos 2, sin 2, …

    Returns:
        synthesis (n, count): coefficients ↦ values at the nodes; analysis (count, n) its inverse on these modes.

    Raises:
        ValueError: more modes than the nodes carry.
    """
    order = [0, *(k + part * axis.band for k in range(1, axis.band + 1) for part in (0, 1))]
    if not 1 <= count <= len(order):
        raise ValueError(f"a periodic axis of {len(axis.nodes)} nodes carries up to {len(order)} modes, not {count}")
    return axis.modes(axis.nodes)[:, order[:count]], axis.analysis()[order[:count]]
