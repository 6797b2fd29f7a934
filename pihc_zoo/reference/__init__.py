"""Good classical solvers: truth, baseline and fallback. They share a problem's physics only."""

from __future__ import annotations

from .method_of_lines import MethodOfLines


def truth_solver(problem) -> MethodOfLines:
    """The converged solver of one trajectory on the problem's output grid (about 1e-9 in time)."""
    return MethodOfLines(problem)


def reference_solver(problem) -> MethodOfLines:
    """The robust solver used as fallback: the same, at 1e-8."""
    return MethodOfLines(problem, rtol=1e-8, atol=1e-8)


def fast_solver(problem, **settings):
    """The fastest batched solver; imports torch."""
    from .picard import PicardSolver

    return PicardSolver(problem, **settings)


__all__ = ["MethodOfLines", "fast_solver", "reference_solver", "truth_solver"]
