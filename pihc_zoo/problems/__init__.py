"""The table of problems: one line each."""

from __future__ import annotations

import fnmatch
from typing import Any, TypeVar

from .. import config as configuration
from ..registration import register
from ..text import nearest
from .allen_cahn import AllenCahn
from .base import Derivative, Parameter, Problem, Variable, WallCondition
from .burgers import Burgers
from .column_transport import ColumnTransport
from .constants import with_constants
from .darcy import Darcy2D
from .diffusion_sorption import DiffusionSorption
from .equation import TextProblem
from .fitzhugh_nagumo import FitzHughNagumo2D
from .korteweg_de_vries import KortewegDeVries
from .navier_stokes import NavierStokes2D

_OWN = (DiffusionSorption, ColumnTransport, NavierStokes2D, FitzHughNagumo2D, Burgers, AllenCahn, KortewegDeVries)
_OWN += (Darcy2D,)
PROBLEMS: dict[str, type[Problem]] = {cls.name: cls for cls in _OWN}

_Class = TypeVar("_Class", bound=type[Problem])
_DECLARED = ("title", "equation", "fields", "units", "features", "parameters", "duration", "output_space")
_DECLARED += ("output_times",)

__all__ = [
    "PROBLEMS",
    "Burgers",
    "Derivative",
    "DiffusionSorption",
    "NavierStokes2D",
    "Parameter",
    "Problem",
    "TextProblem",
    "Variable",
    "WallCondition",
    "list_problems",
    "problem_of",
    "register_problem",
]


def list_problems(pattern: str = "*") -> dict[str, str]:
    """Titles of the registered problems by name.

    Args:
        pattern: shell-style pattern on the name.
    """
    return {name: PROBLEMS[name].title for name in sorted(PROBLEMS) if fnmatch.fnmatch(name, pattern)}


def register_problem(cls: _Class) -> _Class:
    """Makes a problem of your own known by its ``name``: configurations, recipes and model folders may use it then.

    A class decorator, ``@pz.register_problem``. How to write one: `Problem`, and
    `pihc_zoo.problems.diffusion_sorption`. Entering the same class again, from a module that is reloaded, is no clash.

    Raises:
        ValueError: no `Problem`, a declaration that is missing, or a name that another problem has.
    """
    if not isinstance(cls, type) or not issubclass(cls, Problem):
        raise ValueError(f"a problem must be a subclass of pihc_zoo.problems.Problem, got {cls!r}")
    missing = [key for key in ("name", *_DECLARED) if not hasattr(cls, key)]
    missing += [key for key in ("residual", "linearised") if getattr(cls, key) is getattr(Problem, key)]
    if missing:
        raise ValueError(f"the problem {cls.__qualname__} lacks {', '.join(missing)}; see pihc_zoo.problems.Problem")
    times = () if cls.duration is None else ("t",)
    unnamed = [key for key in ("u", *times, *cls.output_space) if key not in cls.units]
    if unnamed:
        raise ValueError(f"the problem {cls.__qualname__} gives no unit of {', '.join(unnamed)}; add them to units")
    register("problem", PROBLEMS, cls.name, cls, Problem)
    return cls


def problem_of(spec: dict[str, Any]) -> tuple[Problem, tuple[str, ...]]:
    """The problem that a configuration describes, and the parameters that its model takes as inputs.

    One with ``equations`` describes it itself, see `equation`; any other names a registered one, whose declared
    parameters its ``parameters`` may change: they give
    defaults and ranges in place of the declared ones, see `constants`.

    Raises:
        ConfigError: unknown names or settings.
    """
    if "equations" in spec:
        own = TextProblem(spec)
        if own.name in PROBLEMS:
            raise configuration.ConfigError(
                f"problem: the name {own.name!r} belongs to a problem of the package; call yours otherwise"
            )
        return own, own.inputs
    cls, settings = configuration.lookup("problem", spec, PROBLEMS)
    inputs, constants = tuple(settings.pop("inputs", ())), settings.pop("parameters", {})
    problem = configuration.build("problem", cls, settings)
    for key in inputs:
        if key not in problem.parameters:
            raise configuration.ConfigError(f"problem: no parameter {key!r}; {nearest(key, problem.parameters)}")
    if constants:
        problem.parameters = with_constants(problem.parameters, constants, inputs)
    return problem, inputs
