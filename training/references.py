"""References for validation: converged classical solutions that training never sees."""

from pihc_zoo.evaluation import ReferenceSet, relative_error
from pihc_zoo.evaluation import reference_set as build

__all__ = ["ReferenceSet", "build", "relative_error"]
