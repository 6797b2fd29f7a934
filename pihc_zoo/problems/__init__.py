"""The table of problems: one line each."""

from .base import Derivative, Parameter, Problem, WallCondition
from .diffusion_sorption import DiffusionSorption

PROBLEMS: dict[str, type[Problem]] = {cls.name: cls for cls in (DiffusionSorption,)}

__all__ = ["PROBLEMS", "Derivative", "DiffusionSorption", "Parameter", "Problem", "WallCondition"]
