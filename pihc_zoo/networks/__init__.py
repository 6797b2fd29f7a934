"""The table of networks: one line each."""

from .base import BasisNetwork
from .cosine_operator import CosineOperator
from .fourier_operator import FourierOperator

NETWORKS: dict[str, type[BasisNetwork]] = {
    "cosine_operator": CosineOperator,
    "fourier_operator": FourierOperator,
}

__all__ = ["NETWORKS", "BasisNetwork", "CosineOperator", "FourierOperator"]
