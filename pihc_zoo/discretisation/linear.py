"""The linear operator A of a problem: its constant-coefficient part, inverted fast."""

from __future__ import annotations

from contextlib import suppress

from ..problems.base import Problem
from .diagonalised import ComplexEigenvaluesError, DiagonalisedOperator, Inverse
from .discretisation import Discretisation
from .modal import ModalInverse, ModalOperator
from .spectral import SpectralInverse, SpectralOperator
from .stagewise import StagewiseInverse, StagewiseOperator
from .terms import linear_terms

LinearOperator = DiagonalisedOperator | SpectralOperator | ModalOperator | StagewiseOperator
LinearInverse = Inverse | SpectralInverse | ModalInverse | StagewiseInverse


def linear_operator(problem: Problem, discretisation: Discretisation) -> LinearOperator:
    """A of ``problem`` in the cheapest form that holds all of its terms.

    Even derivatives of one field are diagonal on periodic axes; one of them along one bounded axis is diagonalised.
    Else terms that separate by axis leave a small matrix per mode, and any terms on one bounded axis are inverted
    stage by stage.

    Raises:
        ValueError: no form holds a term; it is named.
    """
    terms = linear_terms(problem, problem.as_tensors({}))
    space, time = discretisation.grid.space, discretisation.grid.time
    features = [problem.features[name] for own in terms for name in own]
    if not problem.is_system and any("t" in feature.orders for feature in features):
        is_even = all(order % 2 == 0 for feature in features for name, order in feature.orders.items() if name != "t")
        if discretisation.space.is_spectral and is_even and time.block_size == len(time.nodes):
            return SpectralOperator(problem, discretisation)
        is_walled = len(space) == 1 and not discretisation.space.is_spectral
        if is_walled and is_even and len(features) == 2 and all(feature.orders for feature in features):
            with suppress(ComplexEigenvaluesError):
                return DiagonalisedOperator(problem, discretisation)
    try:
        return ModalOperator(problem, discretisation)
    except ValueError:
        if len(space) != 1 or discretisation.space.is_spectral:
            raise
    return StagewiseOperator(problem, discretisation)


__all__ = ["LinearInverse", "LinearOperator", "linear_operator"]
