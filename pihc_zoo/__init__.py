"""pihc_zoo: pretrained, physics-constrained PDE surrogates.

>>> import pihc_zoo as pz
>>> model = pz.from_pretrained("diffusion-sorption.general")
>>> out = model.predict(u0)

Names load lazily: importing the package imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_NAMES = {
    "from_pretrained": "zoo.loading",
    "create_model": "zoo.creation",
    "list_models": "zoo.registry",
    "model_info": "zoo.loading",
    "sample": "zoo.testing",
    "evaluate": "zoo.testing",
    "Surrogate": "surrogate",
    "Prediction": "prediction.prediction",
    "Status": "status",
    "Disjoint": "decomposition",
    "Overlapping": "decomposition",
    "Joint": "decomposition",
    "finetune": "learning.finetune",
    "predict_many": "bulk.run",
    "calibrate": "calibration.calibrate",
    "ConfigError": "config",
    "list_problems": "problems",
    "register_model": "zoo.registry",
    "register_problem": "problems",
    "register_network": "networks",
    "register_family": "families",
    "register_axis": "grid",
    "register_decomposition": "decomposition",
    "register_residual_map": "residual_map",
}

__all__ = ["__version__", *_NAMES]

if TYPE_CHECKING:
    from .bulk.run import predict_many
    from .calibration.calibrate import calibrate
    from .config import ConfigError
    from .decomposition import Disjoint, Joint, Overlapping, register_decomposition
    from .families import register_family
    from .grid import register_axis
    from .learning.finetune import finetune
    from .networks import register_network
    from .prediction.prediction import Prediction
    from .problems import list_problems, register_problem
    from .residual_map import register_residual_map
    from .status import Status
    from .surrogate import Surrogate
    from .zoo.creation import create_model
    from .zoo.loading import from_pretrained, model_info
    from .zoo.registry import list_models, register_model
    from .zoo.testing import evaluate, sample


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
