"""What one pass of a surrogate over a batch finds, as tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..discretisation import Discretisation, Field

if TYPE_CHECKING:
    from ..rollout import Frame


@dataclass
class NodalField:
    """A field on a grid, to be read anywhere.

    Attributes:
        field: (batch, time, *space); ``discretisation`` of its grid.
        times: those of the request that are read from it; ``local`` the same, counted from its start.
        frame: in which it is given.
    """

    field: Field
    discretisation: Discretisation
    times: np.ndarray
    local: np.ndarray
    frame: Frame | None = None


@dataclass
class Pass:
    """What `compute` finds, tensors of a batch.

    Attributes:
        u: (batch, time, *points), times in increasing order.
        size, error, scale: (batch,) sums of squares, of u at the nodes, of the estimated error and of what it is
            relative to; ``by_expert`` (batch, expert) of the mapped residual.
        coefficients: (batch, subproblem, coefficient); ``status``, ``iterations`` (batch, subproblem).
        mean_squares: (batch, window) of u.
        unresolved: (batch,).
        fields: "u", "residual" and "estimated_error" ↦ these at nodes, window by window.
        initial, fine_initial: (batch, *space) initial values at the nodes and at the estimator's.
    """

    u: Tensor
    size: Tensor
    error: Tensor
    scale: Tensor
    by_expert: Tensor
    coefficients: Tensor
    status: Tensor
    iterations: Tensor
    mean_squares: Tensor
    unresolved: Tensor
    initial: Tensor
    fine_initial: Tensor
    fields: dict[str, list[NodalField]] = dataclasses.field(default_factory=dict)

    def put(self, indices: Tensor, other: Pass) -> None:
        """What ``other`` found of the trajectories ``indices``."""
        for own in dataclasses.fields(self):
            if own.name != "fields":
                getattr(self, own.name)[indices] = getattr(other, own.name)
        for key, parts in self.fields.items():
            for part, found in zip(parts, other.fields[key], strict=True):
                part.field.u[indices] = found.field.u
                if part.field.initial is not None:
                    part.field.initial[indices] = found.field.initial

    @property
    def residual_per_expert(self) -> Tensor:
        """(batch, expert) relative L2 norms of the mapped residual."""
        return (self.by_expert / self.size[:, None]).sqrt()

    @property
    def residual(self) -> Tensor:
        """(batch,) its relative L2 norm."""
        return self.residual_per_expert.square().sum(dim=1).sqrt()

    @property
    def estimated_error(self) -> Tensor:
        """(batch,) relative L2 norm."""
        return (self.error / self.scale).sqrt()
