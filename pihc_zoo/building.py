"""Building the parts of a surrogate from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from . import config as configuration
from .ansatz import ansatz_on
from .constraint import HardConstraint
from .decomposition import DECOMPOSITIONS
from .discretisation import Discretisation, linear_operator
from .discretisation.stepped import LIFTS
from .grid import Grid
from .networks import NETWORKS
from .problems import problem_of
from .residual_map import RESIDUAL_MAPS
from .solvers.levenberg_marquardt import LevenbergMarquardt


def build_parts(
    config: dict[str, Any], check_network: Callable[[nn.Module], None] | None = None
) -> tuple[nn.Module, HardConstraint]:
    """The untrained network and the constraint that a configuration describes.

    Args:
        config: see `config`, its keys checked.
        check_network: is shown the network on torch's meta device, before its weights take memory.

    Raises:
        ConfigError: unknown names or settings.
    """
    problem, inputs = problem_of(config["problem"])
    grid = Grid.from_spec(config["grid"])
    discretisation = Discretisation(problem, grid)
    parts = {"discretisation": discretisation, "linearised": linear_operator(problem, discretisation)}
    lift_class, settings = configuration.lookup("ansatz", config["ansatz"], LIFTS)
    own = {key: settings.pop(key) for key in lift_class.settings if key in settings}
    lift = configuration.build("ansatz", lift_class, own, **parts)
    ansatz = configuration.build(
        "ansatz", ansatz_on(grid), settings, discretisation=discretisation, lift=lift, parameter_inputs=inputs
    )
    network_class, settings = configuration.lookup("network", config["network"], NETWORKS)
    sizes = {"grid": grid, "num_inputs": ansatz.num_inputs}
    if check_network is not None:
        with torch.device("meta"):
            check_network(configuration.build("network", network_class, settings, **sizes))
    network = configuration.build("network", network_class, settings, **sizes)
    map_class, settings = configuration.lookup("residual_map", config["residual_map"], RESIDUAL_MAPS)
    residual_map = configuration.build("residual_map", map_class, settings, **parts)
    decomposition_class, settings = configuration.lookup("decomposition", config["decomposition"], DECOMPOSITIONS)
    decomposition = configuration.build("decomposition", decomposition_class, settings)
    solver_class, settings = configuration.lookup(
        "solver", config["solver"], {"levenberg_marquardt": LevenbergMarquardt}
    )
    extra = {
        key: settings.pop(key) for key in ("ridge", "initial_coefficient", "precision", "stride") if key in settings
    }
    solver = configuration.build("solver", solver_class, settings)
    return network, HardConstraint(discretisation, ansatz, residual_map, decomposition, solver, **extra)
