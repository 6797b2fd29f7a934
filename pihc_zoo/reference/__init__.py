"""Good classical solvers: truth, baseline and fallback. They share a problem's physics only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .baselines import Baseline, baselines
from .method_of_lines import MethodOfLines

TRUTH_NODES = 128  # per periodic axis, to begin with
_TRUTH_TAIL, _FALLBACK_TAIL = 1e-5, 1e-3  # share of a solution in the outer quarter of its band


def is_periodic(problem) -> bool:
    """Whether all space axes of a problem are periodic.

    Raises:
        ValueError: some are and some are not.
    """
    kinds = {axis.is_periodic for axis in problem.output_space.values()}
    if len(kinds) > 1:
        raise ValueError(f"no classical solver for the axes {tuple(problem.output_space)}: some bounded, some periodic")
    return kinds.pop()


def truth_solver(problem, **settings: Any):
    """The converged solver.

    Bounded axes: one trajectory at a time on the problem's output grid, about 1e-9 in time. Periodic
    axes: batches in float64 on ``num_nodes`` points per axis, whatever the grid of the answer is;
    default: 128, or the input's grid where the initial condition has modes that 128 do not carry. For
    Navier–Stokes at ν = 1e-4 and smooth vorticity (length scales from .4) that is converged to 1e-8 in space
    and 2e-8 in time, without dealiasing, which would cost twice as much.

    Args:
        settings: of `MethodOfLines` or `PseudoSpectral`.
    """
    if not is_periodic(problem):
        return MethodOfLines(problem, **settings)
    from .pseudo_spectral import PseudoSpectral

    defaults: dict[str, Any] = {"dealiasing": 1.0, "rtol": 1e-7}
    if settings.get("num_nodes") is None:
        defaults |= {"least_nodes": TRUTH_NODES, "tail": _TRUTH_TAIL}
    return PseudoSpectral(problem, **{**defaults, **settings})


def reference_solver(problem):
    """The robust solver used as fallback: the same, at 1e-8 on bounded axes, with a tail of 1e-3 on periodic ones."""
    if is_periodic(problem):
        return truth_solver(problem, tail=_FALLBACK_TAIL)
    return MethodOfLines(problem, rtol=1e-8, atol=1e-8)


def in_passes(solve: Any, u0: np.ndarray, parameters: dict[str, np.ndarray], **options: Any) -> Iterator[np.ndarray]:
    """Solutions (rows, time, *space) of u0 (batch, *space), as many rows at a time as the solver takes at once.

    Args:
        solve: a solver of this package.
        parameters: (batch,) values by symbol.
        options: of its call.
    """
    for first in range(0, len(u0), solve.pass_size):
        rows = slice(first, first + solve.pass_size)
        yield solve(u0[rows], {key: value[rows] for key, value in parameters.items()}, **options)


def fast_solver(problem, **settings: Any):
    """The fastest batched solver, u0 (batch, *space) ↦ (batch, time, *space); imports torch.

    Args:
        settings: of `PicardSolver` on bounded axes, of `PseudoSpectral` on periodic ones, there by
            default in float32.
    """
    if not is_periodic(problem):
        from .picard import PicardSolver

        return PicardSolver(problem, **settings)
    import torch

    from .pseudo_spectral import PseudoSpectral

    return PseudoSpectral(problem, **{"dtype": torch.float32, **settings})


__all__ = [
    "Baseline",
    "MethodOfLines",
    "baselines",
    "fast_solver",
    "in_passes",
    "is_periodic",
    "reference_solver",
    "truth_solver",
]
