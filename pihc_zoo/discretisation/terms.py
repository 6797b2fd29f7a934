"""The terms of a problem's linearised operator A, one mapping per equation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..problems.base import Problem


def linear_terms(problem: Problem, c: dict[str, Any]) -> list[dict[str, Any]]:
    """Feature ↦ coefficient of A, for each equation.

    Raises:
        ValueError: the problem has none, or a term that is no feature.
    """
    found = problem.linearised(c)
    if found is None:
        raise ValueError(f"the problem {problem.name!r} has no linearised operator A, which is asked for here")
    terms = list(found) if problem.is_system else [found]
    if len(terms) != len(problem.fields):
        raise ValueError(f"A has {len(terms)} equations; expected one per field, {', '.join(problem.fields)}")
    for own in terms:
        for name in own:
            if name not in problem.features:
                raise ValueError(f"A has the term {name!r}, which is no feature of the problem {problem.name!r}")
    return terms


def tiled(blocks: dict[tuple[int, int], Tensor], zero: Tensor, count: int) -> Tensor:
    """A matrix of count × count blocks (..., p, p), zero where there is none."""
    shape = torch.broadcast_shapes(zero.shape, *(own.shape for own in blocks.values()))
    rows = [torch.cat([blocks.get((i, j), zero).expand(shape) for j in range(count)], dim=-1) for i in range(count)]
    return torch.cat(rows, dim=-2)
