"""A `Prediction` as an xarray Dataset: named dimensions, coordinates with units, the report beside the fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .arrays import to_numpy
from .prediction.prediction_file import PARAMETER, REPORT
from .status import Status
from .text import unit_of

if TYPE_CHECKING:
    import xarray

    from .prediction.prediction import Prediction

_FURTHER = {  # dimensions after "batch"
    "residual_per_expert": ("expert",),
    "status": ("subproblem",),
    "converged": ("subproblem",),
    "iterations": ("subproblem",),
    "coefficients": ("subproblem", "coefficient"),
}
_MEANING = {
    "residual": "relative L2 norm of the mapped residual",
    "residual_per_expert": "its part in each expert's subdomain",
    "estimated_error": "estimated relative L2 error",
    "unresolved": "relative L2 part of the initial condition that the grid does not carry",
    "status": "how the solves ended",
    "converged": "whether the solves converged",
    "iterations": "solver steps",
    "is_reliable": "whether there is no reason not to trust the answer",
    "is_polished": "whether Newton's method went on from the experts' answer",
    "failure_time": "time from which on a roll-out has no values",
    "coefficients": "of the basis functions",
    "messages": "why an answer is not reliable",
}


def to_dataset(prediction: Prediction, diagnostics: Sequence[str] = ()) -> xarray.Dataset:
    """See `Prediction.to_xarray`."""
    try:
        import xarray
    except ImportError:
        raise ValueError("to_xarray needs xarray; install it with: pip install 'pihc_zoo[xarray]'") from None
    units, space = prediction.units, tuple(prediction.points)
    stored = [name for name in prediction.field_maps if name not in ("residual", "estimated_error")]  # from a file
    fields = {name: prediction.diagnostic(name) for name in dict.fromkeys([*stored, *diagnostics])}

    def variable(dims: tuple[str, ...], values: Any, unit: str | None = None, meaning: str = "", **attributes: Any):
        known = {"units": unit and (unit_of(unit).strip() or "1"), "long_name": meaning}
        return xarray.Variable(
            dims, to_numpy(values), {key: value for key, value in known.items() if value} | attributes
        )

    coordinates = {"time": variable(("time",), prediction.t, units.get("t"), "time")}
    for name, points in prediction.points.items():
        period: dict[str, Any] = {"period": prediction.periods[name]} if name in prediction.periods else {}
        coordinates[name] = variable((name,), points, units.get(name), **period)
    for key, values in prediction.parameters.items():
        over = ("time_native",) if key in prediction.series else tuple(f"{name}_native" for name in space)
        dims = ("batch", *over) if values.ndim > 1 else ("batch",)
        coordinates[f"{PARAMETER}{key}"] = variable(dims, values, units.get(key), f"parameter {key}")
    whole = ("batch", "time", *space)
    start = ("batch", *(f"{name}_input" for name in space))
    variables = {}
    for name in prediction.fields if prediction.is_system else ("u",):
        only = prediction.of_field(name) if prediction.is_system else prediction
        variables[name] = variable(whole, only.u, only.units.get("u"), f"solution {only.symbol}")
        variables[f"{name}0"] = variable(start, only.u0, only.units.get("u"), "initial condition as given")
    variables |= {name: variable(whole, values, meaning=name.replace("_", " ")) for name, values in fields.items()}
    own = {
        "failure_time": {"unit": units.get("t")},
        "coefficients": {"unit": None},
        "status": {
            "flag_values": [int(status) for status in Status],
            "flag_meanings": " ".join(status.name.lower() for status in Status),
        },
    }
    for key in REPORT:
        values, further = getattr(prediction, key), _FURTHER.get(key, ())
        unit = "dimensionless" if to_numpy(values).dtype.kind == "f" else None
        attributes = {"unit": unit} | own.get(key, {})
        variables[key] = variable(("batch", *further), values, meaning=_MEANING.get(key, ""), **attributes)
    messages = [str(message) for message in prediction.messages]
    variables["messages"] = variable(("batch",), messages, meaning=_MEANING["messages"])
    attributes = {"model": prediction.model, "symbol": prediction.symbol}
    if prediction.is_system:
        attributes["fields"] = list(prediction.fields)
    return xarray.Dataset(variables, coordinates, attributes)
