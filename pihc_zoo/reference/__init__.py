"""Good classical solvers: truth, baseline and fallback. They share a problem's physics only.

Which one serves a problem follows from its axes: pseudo-spectral on periodic ones, a banded method of lines on one
between walls, products of spectral axes on several of which some are bounded, Newton's method where nothing changes in
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .baselines import Baseline, baselines
from .method_of_lines import ConvergedLines, MethodOfLines
from .steady import SteadySolver

TRUTH_NODES = 128  # per periodic axis, to begin with
_TRUTH_TAIL, _FALLBACK_TAIL = {1: 1e-6, 2: 1e-5}, 1e-3  # share of a solution in the outer quarter of its band
_FALLBACK_RTOL = 1e-5  # of the method of lines


def is_periodic(problem) -> bool:
    """Whether all space axes of a problem are periodic."""
    return all(axis.is_periodic for axis in problem.output_space.values())


def kind_of(problem) -> str:
    """Which solver serves a problem: "steady", "periodic", "lines" (one bounded axis) or "tensor" (several axes)."""
    if problem.duration is None:
        return "steady"
    if is_periodic(problem):
        return "periodic"
    return "lines" if len(problem.output_space) == 1 else "tensor"


def truth_solver(problem, **settings: Any):
    """The converged solver: the problem's own, where its `reference_solvers` has a "truth", else one of ours.

    One bounded axis: one trajectory at a time, on grids of its own until they agree to 1e-7; where the problem is
    defined on its output cells (`Problem.is_defined_on_cells`) on these, about 1e-9 in time. Several axes, some
    bounded, and steady problems: likewise, to 1e-6. Periodic axes: batches in float64 on ``num_nodes`` points per axis,
    whatever the grid of the answer is;
    default: 128, or the input's grid where the initial condition has modes that 128 do not carry, twice as many
    where the spectrum says so; steps are halved until answers agree to 1e-7. For
    Navier–Stokes at ν = 1e-4 and smooth vorticity (length scales from .4) that is converged to 1e-8 in space
    and 2e-8 in time, without dealiasing, which would cost twice as much.

    Args:
        settings: of `ConvergedLines` or `MethodOfLines`, `TensorSpectral`, `SteadySolver` or `PseudoSpectral`.

    Raises:
        ValueError: no solver serves the problem.
    """
    own = problem.reference_solvers().get("truth")
    if own is not None:
        return _Own(own)
    kind = kind_of(problem)
    if kind == "lines":
        lines = MethodOfLines if problem.is_defined_on_cells else ConvergedLines
        return lines(problem, **settings)
    if kind == "steady":
        return SteadySolver(problem, **settings)
    if kind == "tensor":
        from .tensor import TensorSpectral

        return TensorSpectral(problem, **settings)
    from .pseudo_spectral import PseudoSpectral

    defaults: dict[str, Any] = {"dealiasing": 1.0, "rtol": 1e-7, "is_verified": True, "safety": 0.95}
    if settings.get("num_nodes") is None:
        defaults |= {"least_nodes": TRUTH_NODES, "tail": _TRUTH_TAIL.get(len(problem.output_space), 1e-5)}
    return PseudoSpectral(problem, **{**defaults, **settings})


def reference_solver(problem):
    """The robust solver used as fallback: the same, less tight."""
    kind = kind_of(problem)
    if kind == "periodic":
        return truth_solver(problem, tail=_FALLBACK_TAIL, is_verified=False, safety=0.7)
    if kind == "lines" and problem.is_defined_on_cells:
        return MethodOfLines(problem, rtol=1e-8, atol=1e-8)
    return truth_solver(problem, rtol=_FALLBACK_RTOL)


class _Own:
    """A problem's own truth, on its output times and grid."""

    has_own_grid = False
    pass_size = 8

    def __init__(self, solve: Any):
        self.solve = solve

    def __call__(self, u0: np.ndarray, parameters: dict[str, Any] | None = None, **grid: Any) -> np.ndarray:
        """u0 (batch, *space[, field]) ↦ (batch, time, *space[, field]).

        Raises:
            ValueError: positions or times other than the problem's.
        """
        if any(value is not None for value in grid.values()):
            raise ValueError(
                f"the problem's own truth answers at its output times and points, not at {', '.join(grid)}"
            )
        return np.asarray(self.solve(u0, parameters or {}))


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
            `PseudoSpectral` on periodic ones, there by default in float32; else of `TensorSpectral` or `SteadySolver`.
    """
    kind = kind_of(problem)
    if kind == "lines":
        from .picard import PicardSolver

        if PicardSolver.serves(problem):
            return PicardSolver(problem, **settings)
        settings.pop("device", None)
        return MethodOfLines(problem, **{"rtol": 1e-6, "atol": 1e-6, "num_nodes": 256, **settings})
    if kind == "steady":
        settings.pop("device", None)
        return SteadySolver(problem, **{"num_nodes": 64, **settings})
    if kind == "tensor":
        from .tensor import TensorSpectral

        return TensorSpectral(problem, **{"num_nodes": 96, "steps": 100, **settings})
    import torch

    from .pseudo_spectral import PseudoSpectral

    return PseudoSpectral(problem, **{"dtype": torch.float32, **settings})


__all__ = [
    "Baseline",
    "ConvergedLines",
    "MethodOfLines",
    "SteadySolver",
    "baselines",
    "fast_solver",
    "in_passes",
    "is_periodic",
    "kind_of",
    "reference_solver",
    "truth_solver",
]
