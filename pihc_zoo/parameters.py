"""The values of a problem's parameters, as its formulas take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Parameters(dict[str, Tensor]):
    """Symbol ↦ float64 tensor of shape (), or (batch,) where it varies.

    What is given as a number stays known as one, so that nothing is read back from a device to look it up.

    Args:
        values: numbers, arrays or tensors by symbol.
        fields: coefficient fields (batch, *space) on the native grid, series (batch, time) at output times, by name.

    Attributes:
        fields: these; by the same names the mapping has their means (batch,), see `with_means`.
    """

    def __init__(self, values: Mapping[str, Any], fields: Mapping[str, Any] | None = None):
        super().__init__({key: torch.as_tensor(value, dtype=torch.float64) for key, value in values.items()})
        self.numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
        self.fields = {key: torch.as_tensor(value, dtype=torch.float64) for key, value in (fields or {}).items()}
        if isinstance(values, Parameters):
            self.numbers, self.fields = dict(values.numbers), dict(values.fields)

    def _with(self, change: Any) -> Parameters:
        """The same numbers, their tensors changed."""
        own = Parameters({})
        own.update({key: change(value) for key, value in self.items()})
        own.numbers, own.fields = self.numbers, {key: change(value) for key, value in self.fields.items()}
        return own

    def with_means(self, means: Mapping[str, Tensor]) -> Parameters:
        """Those, and (batch,) values that stand for the fields where a number is asked for."""
        own = self._with(lambda value: value)
        own.update(means)
        return own

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All values and fields."""
        return (*self.values(), *self.fields.values())

    @property
    def fixed(self) -> tuple[tuple[str, float], ...] | None:
        """All values, if all are numbers; else None."""
        return tuple(self.numbers.items()) if len(self.numbers) == len(self) else None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients pass to any value."""
        return any(value.requires_grad for value in self.tensors)

    def replaced(self, values: Sequence[Tensor]) -> Parameters:
        """The same numbers as other tensors, in the order of `tensors`."""
        own = iter(values)
        return self._with(lambda _: next(own))

    def to(self, *arguments: Any) -> Parameters:
        """On another device or in another precision."""
        return self._with(lambda value: value.to(*arguments))

    def take(self, indices: Tensor) -> Parameters:
        """Those of some trajectories."""
        return self._with(lambda value: value[indices] if value.dim() else value)

    def repeated(self, count: int) -> Parameters:
        """Each trajectory's values ``count`` times in a row."""
        return self._with(lambda value: value.repeat_interleave(count) if value.dim() else value)

    def like(self, field: Tensor) -> dict[str, Tensor]:
        """(batch or 1, 1, …), broadcasting against ``field`` (batch, ...)."""
        return self.against(field.dim() - 1)

    def against(self, num_dims: int) -> dict[str, Tensor]:
        """(batch or 1, 1, …), broadcasting against fields of ``num_dims`` dimensions after the batch."""
        return {key: value.reshape(-1, *[1] * num_dims) for key, value in self.items()}


def column(value: Any, num_dims: int, like: Tensor) -> Tensor:
    """A number, or (batch,) values, as (batch or 1, 1, …) in the precision and on the device of ``like``."""
    if isinstance(value, Tensor | np.ndarray):
        return torch.as_tensor(value).to(like).reshape(-1, *[1] * num_dims)
    return like.new_full([1] * (num_dims + 1), float(value))
