"""A `Prediction` as the arrays of an NPZ file, and back (numpy only; no pickled objects).

Keys: u0, positions by axis name, t, u, parameter_<name>, the report, and as text ``model``, ``symbol``, ``axes``
(names, in the order of u's dimensions), ``fields`` (names, of a system in the order of u's last axis),
``signed_fields``, ``units`` (rows of name and unit) and ``messages``; period_<axis> of periodic axes. Any other key is
a further field (batch, time, *space).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .fields import StoredField

if TYPE_CHECKING:
    from .prediction import Prediction

REPORT = (
    "residual",
    "residual_per_expert",
    "estimated_error",
    "unresolved",
    "status",
    "converged",
    "iterations",
    "is_reliable",
    "is_polished",
    "failure_time",
    "coefficients",
)
TEXTS = ("model", "symbol", "axes", "units", "messages")
LATER_TEXTS = ("fields", "signed_fields", "series")  # that older files lack
PARAMETER, PERIOD = "parameter_", "period_"


def to_arrays(prediction: Prediction, diagnostics: dict[str, Any]) -> dict[str, Any]:
    """The arrays of a prediction and of further fields, by their keys."""
    arrays = {"u0": prediction.u0, **prediction.points, "t": prediction.t, "u": prediction.u, **diagnostics}
    arrays |= {f"{PARAMETER}{key}": value for key, value in prediction.parameters.items()}
    arrays |= {key: getattr(prediction, key) for key in REPORT}
    arrays |= {f"{PERIOD}{key}": np.float64(value) for key, value in prediction.periods.items()}
    texts = {
        "model": prediction.model,
        "symbol": prediction.symbol,
        "axes": list(prediction.points),
        "units": np.array(list(prediction.units.items()), dtype=np.str_).reshape(-1, 2),
        "messages": prediction.messages,
        **{key: list(getattr(prediction, key)) for key in LATER_TEXTS},
    }
    return arrays | {key: np.asarray(value, dtype=np.str_) for key, value in texts.items()}


def from_arrays(arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """The attributes of a `Prediction` from the arrays of a file.

    Args:
        name: of the file, for the message.

    Raises:
        ValueError: keys are missing.
    """
    missing = [key for key in ("u0", "t", "u", *REPORT, *TEXTS) if key not in arrays]
    axes = [str(key) for key in arrays.get("axes", ())]
    missing += [key for key in axes if key not in arrays]
    if missing:
        raise ValueError(
            f"{name} is not a saved prediction: it lacks {', '.join(missing)}; expected what Prediction.save wrote"
        )
    points = {key: arrays[key] for key in axes}
    known = {"u0", "t", "u", *points, *REPORT, *TEXTS, *LATER_TEXTS}
    own = {key: value for key, value in arrays.items() if key not in known}
    parameters = {key.removeprefix(PARAMETER): own.pop(key) for key in list(own) if key.startswith(PARAMETER)}
    periods = {key.removeprefix(PERIOD): float(own.pop(key)) for key in list(own) if key.startswith(PERIOD)}
    return {
        **{key: arrays[key] for key in ("u0", "t", "u", *REPORT)},
        "points": points,
        "parameters": parameters,
        "messages": [str(message) for message in arrays["messages"]],
        "model": str(arrays["model"]),
        "symbol": str(arrays["symbol"]),
        "fields": tuple(str(key) for key in arrays.get("fields", [arrays["symbol"]])),
        "signed_fields": tuple(str(key) for key in arrays.get("signed_fields", ())),
        "series": tuple(str(key) for key in arrays.get("series", ())),
        "units": {str(key): str(unit) for key, unit in arrays["units"]},
        "periods": periods,
        "field_maps": {key: StoredField(value) for key, value in own.items()},
    }
