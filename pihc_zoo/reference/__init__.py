"""Good classical solvers: truth, baseline and fallback. They share a problem's physics only.

Which one serves a problem follows from its axes: pseudo-spectral on periodic ones, a banded method of lines on one
between walls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .baselines import Baseline, baselines
from .method_of_lines import ConvergedLines, MethodOfLines

TRUTH_NODES = 128  # per periodic axis, to begin with
_TRUTH_TAIL, _FALLBACK_TAIL = {1: 1e-6, 2: 1e-5}, 1e-3  # share of a solution in the outer quarter of its band
_FALLBACK_RTOL = 1e-5  # of the method of lines


def is_periodic(problem) -> bool:
    """Whether all space axes of a problem are periodic."""
    return all(axis.is_periodic for axis in problem.output_space.values())


def _is_line(problem) -> bool:
    return len(problem.output_space) == 1 and not is_periodic(problem)


def _unserved(problem) -> ValueError:
    kinds = ", ".join(
        f"{name} {'periodic' if a.is_periodic else 'bounded'}" for name, a in problem.output_space.items()
    )
    return ValueError(f"no classical solver for the axes {kinds}; bring your own by Problem.reference_solvers")


def truth_solver(problem, **settings: Any):
    """The converged solver.

    One bounded axis: one trajectory at a time, on grids of its own until they agree to 1e-7; where the problem is
    defined on its output cells (`Problem.is_defined_on_cells`) on these, about 1e-9 in time. Periodic
    axes: batches in float64 on ``num_nodes`` points per axis, whatever the grid of the answer is;
    default: 128, or the input's grid where the initial condition has modes that 128 do not carry. For
    Navier–Stokes at ν = 1e-4 and smooth vorticity (length scales from .4) that is converged to 1e-8 in space
    and 2e-8 in time, without dealiasing, which would cost twice as much.

    Args:
        settings: of `MethodOfLines`, `ConvergedLines` or `PseudoSpectral`.

    Raises:
        ValueError: no solver serves the problem's axes.
    """
    if _is_line(problem):
        kind = MethodOfLines if problem.is_defined_on_cells else ConvergedLines
        return kind(problem, **settings)
    if not is_periodic(problem):
        raise _unserved(problem)
    from .pseudo_spectral import PseudoSpectral

    defaults: dict[str, Any] = {"dealiasing": 1.0, "rtol": 1e-7}
    if settings.get("num_nodes") is None:
        defaults |= {"least_nodes": TRUTH_NODES, "tail": _TRUTH_TAIL.get(len(problem.output_space), 1e-5)}
    return PseudoSpectral(problem, **{**defaults, **settings})


def reference_solver(problem):
    """The robust solver used as fallback: the same, less tight."""
    if _is_line(problem):
        if problem.is_defined_on_cells:
            return MethodOfLines(problem, rtol=1e-8, atol=1e-8)
        return ConvergedLines(problem, rtol=_FALLBACK_RTOL)
    if is_periodic(problem):
        return truth_solver(problem, tail=_FALLBACK_TAIL)
    return truth_solver(problem)


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
        settings: of `PicardSolver` on one bounded axis, where it serves the problem, else of `MethodOfLines`; of
            `PseudoSpectral` on periodic ones, there by default in float32.
    """
    if _is_line(problem):
        from .picard import PicardSolver

        if PicardSolver.serves(problem):
            return PicardSolver(problem, **settings)
        settings.pop("device", None)
        return MethodOfLines(problem, **{"rtol": 1e-6, "atol": 1e-6, "num_nodes": 256, **settings})
    if not is_periodic(problem):
        raise _unserved(problem)
    import torch

    from .pseudo_spectral import PseudoSpectral

    return PseudoSpectral(problem, **{"dtype": torch.float32, **settings})


__all__ = [
    "Baseline",
    "ConvergedLines",
    "MethodOfLines",
    "baselines",
    "fast_solver",
    "in_passes",
    "is_periodic",
    "reference_solver",
    "truth_solver",
]
