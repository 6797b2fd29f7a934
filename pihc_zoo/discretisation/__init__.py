"""Fields on a grid: their linear features, walls, the linear operator A, lifts, and values anywhere; axis by axis."""

from .axes import along
from .coefficients import CoefficientFields
from .constants import constants, kept, no_new_constants
from .discretisation import Discretisation
from .field import Closure, Field, Walls
from .linear import LinearInverse, LinearOperator, linear_operator
from .readout import Readout
from .semi_discrete import SemiDiscrete
from .space import Projection, SpaceFeatures
from .subdomains import Subdomains

__all__ = [
    "Closure",
    "CoefficientFields",
    "Discretisation",
    "Field",
    "LinearInverse",
    "LinearOperator",
    "Projection",
    "Readout",
    "SemiDiscrete",
    "SpaceFeatures",
    "Subdomains",
    "Walls",
    "along",
    "constants",
    "kept",
    "linear_operator",
    "no_new_constants",
]
