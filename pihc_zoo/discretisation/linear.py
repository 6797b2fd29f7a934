"""The linear operator A of a problem: its constant-coefficient part, inverted fast."""

from __future__ import annotations

from ..problems.base import Problem
from .diagonalised import DiagonalisedOperator, Inverse
from .discretisation import Discretisation
from .spectral import SpectralInverse, SpectralOperator

LinearOperator = DiagonalisedOperator | SpectralOperator
LinearInverse = Inverse | SpectralInverse


def linear_operator(problem: Problem, discretisation: Discretisation) -> LinearOperator:
    """A of ``problem``, by its symbol on periodic axes, by fast diagonalisation on a bounded one."""
    own = SpectralOperator if discretisation.space.is_spectral else DiagonalisedOperator
    return own(problem, discretisation)


__all__ = ["LinearInverse", "LinearOperator", "linear_operator"]
