"""Truncated transforms as small dense matrices (numpy only).

A truncated transform keeps few modes of many points, so a matrix product is both the simplest and
the fastest form of it, runs on every device and exports to ONNX without complex numbers.
"""

from __future__ import annotations

import numpy as np


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
