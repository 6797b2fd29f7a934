"""The table of networks: one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from ..registration import registrar
from .base import BasisNetwork, through_finite
from .cosine_operator import CosineOperator
from .fourier_operator import FourierOperator

NETWORKS: dict[str, type[nn.Module]] = {
    "cosine_operator": CosineOperator,
    "fourier_operator": FourierOperator,
}

_Class = TypeVar("_Class", bound=type[nn.Module])

__all__ = ["NETWORKS", "BasisNetwork", "CosineOperator", "FourierOperator", "register_network", "through_finite"]


def register_network(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_network("my-network")``: a decorator that makes a network known by its name.

    How to write one: `BasisNetwork`. Its settings in a configuration are the arguments of its constructor beside
    ``grid`` and ``num_inputs``. Configurations, recipes and model folders may use it then. Entering the same class
    again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("network", NETWORKS, name, nn.Module, ("grid", "num_inputs", "num_basis"))
