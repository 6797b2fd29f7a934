"""Axes and grids (numpy only): where the unknowns live and how they are read between them.

An axis has *nodes*, which carry the unknowns, and *closed nodes*: the nodes plus the boundary
points whose values the conditions give (two walls in space, the initial time in time; none on a
periodic axis). All matrices act on values at closed nodes, so that conditions enter every stencil.
The residual is formed at *collocation points*: the nodes, or more of them where products are
dealiased.
"""

from .axis import INPUT_STENCIL, Axis
from .bounded import CellAxis, GradedAxis, UniformAxis
from .fourier import FourierAxis
from .grid import AXES, Grid, register_axis
from .instant import InstantAxis
from .radau import RadauAxis

__all__ = [
    "AXES",
    "INPUT_STENCIL",
    "Axis",
    "CellAxis",
    "FourierAxis",
    "GradedAxis",
    "Grid",
    "InstantAxis",
    "RadauAxis",
    "UniformAxis",
    "register_axis",
]
