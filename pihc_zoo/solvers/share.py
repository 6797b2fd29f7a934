"""Which part of a batch of solves is done by this process.

All of it, plainly. Several processes that hold the same batch may each solve some of its subproblems, where no row of
one depends on the coefficients of another, and tell each other the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from .implicit import implicit_coefficients
from .levenberg_marquardt import LevenbergMarquardt
from .report import LeastSquaresSolution


class Group(Protocol):
    """Processes that work on the same batch."""

    @property
    def index(self) -> int:
        """Of this process."""
        ...

    @property
    def size(self) -> int:
        """How many they are."""
        ...

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all, concatenated in their order along the first dimension."""
        ...

    def reduce(self, value: Tensor) -> Tensor:
        """The sum over all."""
        ...


class Whole:
    """All subproblems are solved here."""

    def solve(self, solver: LevenbergMarquardt, objective: Any, start: Tensor) -> LeastSquaresSolution:
        """Minimises from ``start`` (subproblem, coefficient)."""
        return solver.solve(objective, start)

    def coefficients(
        self, build: Callable[..., Any], w: Tensor, tensors: tuple[Tensor, ...], is_solved: Tensor
    ) -> Tensor:
        """``w`` with the gradient of the minimiser, see `implicit_coefficients`."""
        return implicit_coefficients(build, w, tensors, is_solved)

    def cost(self, objective: Any, w: Tensor, cost: Tensor) -> Tensor:
        """(subproblem,) Φ(w), differentiable; ``cost`` are its values."""
        return objective.cost(w)


class Rows(Whole):
    """Every process of a group solves an equal, contiguous share of the subproblems.

    Costs carry gradients where they are of the share, so that gradients summed over the group are those of the whole
    batch. In a backward pass all processes sum up what arrives at the coefficients, in the same order, and
    differentiate the solves of their share.

    Args:
        group: its size divides the number of subproblems.
    """

    def __init__(self, group: Group):
        self.group = group

    def _own(self, count: int) -> slice:
        size = count // self.group.size
        return slice(self.group.index * size, (self.group.index + 1) * size)

    def solve(self, solver, objective, start):
        own = self._own(len(start))
        part = solver.solve(objective.take(own), start[own])
        numbers = (part.cost, part.gradient_norm, part.status, part.iterations)
        packed = torch.cat([part.coefficients, torch.stack([n.to(start.dtype) for n in numbers], dim=1)], dim=1)
        w, rest = self.group.gather(packed).split([start.shape[1], len(numbers)], dim=1)
        columns = [column.to(number.dtype) for column, number in zip(rest.unbind(1), numbers, strict=True)]
        return LeastSquaresSolution(w.contiguous(), *columns)

    def coefficients(self, build, w, tensors, is_solved):
        own = self._own(len(w))
        part = implicit_coefficients(lambda *given: build(*given).take(own), w[own], tensors, is_solved[own])
        return _Gathered.apply(part, w, own, self.group)

    def cost(self, objective, w, cost):
        own = self._own(len(w))
        return torch.cat([cost[: own.start], objective.take(own).cost(w[own]), cost[own.stop :]])


class _Gathered(torch.autograd.Function):
    """The coefficients of all processes; their gradient is summed over all, for the own ones."""

    @staticmethod
    def forward(ctx, part, w, own, group):
        ctx.own, ctx.group = own, group
        return w.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.reduce(gradient.contiguous())[ctx.own], None, None, None
