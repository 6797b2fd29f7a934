"""The terms of a problem's linearised operator A, one mapping per equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..parameters import Parameters, column
from ..problems.base import Problem


def linear_terms(problem: Problem, c: dict[str, Any]) -> list[dict[str, Any]]:
    """Feature ↦ coefficient of A, for each equation.

    Raises:
        ValueError: the problem has none, or a term that is no feature.
    """
    found = problem.linearised(c)
    if found is None:
        raise ValueError(f"the problem {problem.name!r} has no linearised operator A, which is asked for here")
    terms = problem.by_equation(found)
    if len(terms) != len(problem.fields):
        raise ValueError(f"A has {len(terms)} equations; expected one per field, {', '.join(problem.fields)}")
    for own in terms:
        for name in own:
            if name not in problem.features:
                raise ValueError(f"A has the term {name!r}, which is no feature of the problem {problem.name!r}")
    return terms


def assembled(
    problem: Problem, c: Parameters, matrix: Callable[[str], Tensor], zeros: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """M of A's time derivatives and S of its other terms: matrices of a block per equation and field.

    Args:
        problem, c: whose A.
        matrix: a feature's name ↦ its block (batch or 1, ..., p, p) for the coefficient 1.
        zeros: the blocks of M and of S where there is no term.
    """
    fields = list(problem.fields)
    parts: tuple[dict, dict] = {}, {}
    for e, terms in enumerate(linear_terms(problem, c)):
        for name, value in terms.items():
            feature, own = problem.features[name], matrix(name)
            part, place = parts["t" not in feature.orders], (e, fields.index(feature.field))
            own = column(value, own.dim() - 1, own) * own
            part[place] = part[place] + own if place in part else own
    mass, stiffness = (_tiled(part, zero, len(fields)) for part, zero in zip(parts, zeros, strict=True))
    return mass, stiffness


def _tiled(blocks: dict[tuple[int, int], Tensor], zero: Tensor, count: int) -> Tensor:
    """A matrix of count × count blocks (..., p, p), zero where there is none."""
    shape = torch.broadcast_shapes(zero.shape, *(own.shape for own in blocks.values()))
    rows = [torch.cat([blocks.get((i, j), zero).expand(shape) for j in range(count)], dim=-1) for i in range(count)]
    return torch.cat(rows, dim=-2)
