"""The table of networks: one line each."""

from .base import BasisNetwork
from .cosine_operator import CosineOperator

NETWORKS: dict[str, type[BasisNetwork]] = {"cosine_operator": CosineOperator}

__all__ = ["NETWORKS", "BasisNetwork", "CosineOperator"]
