"""Fields of a prediction that are computed when they are read, and what a file does not hold (numpy only)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class LazyField:
    """A field (batch, time, *space[, field]), read from the solution's nodes when it is called.

    Copies and pickles hold the values themselves.

    Args:
        read: trajectories (n,) ↦ their fields (n, time, *space), numpy.
        rows: which trajectories this is of.
        like_input: converts arrays to the caller's kind.
    """

    def __init__(
        self, read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, like_input: Callable[[np.ndarray], Any]
    ):
        self._read, self._rows, self._like_input = read, rows, like_input

    def __call__(self) -> Any:
        return self._like_input(self._read(self._rows))

    def __getitem__(self, rows: np.ndarray) -> LazyField:
        return LazyField(self._read, self._rows[rows], self._like_input)

    def component(self, index: int) -> LazyField:
        """Of one field of a system, the last axis of what is read."""
        return LazyField(lambda rows: self._read(rows)[..., index], self._rows, self._like_input)

    def __reduce__(self) -> tuple:
        return StoredField, (self(),)


class StoredField:
    """A field (batch, time, *space[, field]) that is known."""

    def __init__(self, values: Any):
        self._values = values

    def __call__(self) -> Any:
        return self._values

    def __getitem__(self, rows: np.ndarray) -> StoredField:
        return StoredField(self._values[rows])

    def component(self, index: int) -> StoredField:
        """Of one field of a system."""
        return StoredField(self._values[..., index])
