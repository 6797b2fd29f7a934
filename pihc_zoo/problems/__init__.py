"""The table of problems: one line each."""

from .base import Derivative, Parameter, Problem, WallCondition
from .burgers import Burgers
from .diffusion_sorption import DiffusionSorption
from .navier_stokes import NavierStokes2D

PROBLEMS: dict[str, type[Problem]] = {cls.name: cls for cls in (DiffusionSorption, NavierStokes2D, Burgers)}

__all__ = ["PROBLEMS", "Derivative", "DiffusionSorption", "NavierStokes2D", "Parameter", "Problem", "WallCondition"]
