"""Arrays of either kind, numpy or torch (imports numpy only)."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_numpy(value: Any) -> np.ndarray:
    """A numpy array of a tensor, an array or a number."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
