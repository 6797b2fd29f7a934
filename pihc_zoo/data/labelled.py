"""netCDF and Zarr files, and xarray's Datasets: variables u and u0 with named dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_TIME = ("time", "t")
_OURS = ("parameter_",)


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr store."""
    return path.suffix == ".zarr" or any((path / name).is_file() for name in (".zgroup", ".zmetadata", "zarr.json"))


def is_dataset(source: Any) -> bool:
    """Whether it is an xarray Dataset; xarray is not imported for that."""
    return type(source).__module__.startswith("xarray.") and type(source).__name__ == "Dataset"


def read_labelled(path: Path, axes: tuple[str, ...], count: int | None, fields: tuple[str, ...] = ()) -> dict:
    """The arrays of a netCDF file or a Zarr store; see `files.read_arrays`.

    Raises:
        ValueError: xarray or a package that reads the file is not installed, or the file is damaged.
    """
    kind = "Zarr" if is_zarr(path) else "netCDF"
    if not path.exists():
        raise ValueError(f"no such file {str(path)!r}; expected a {kind} store with the variables u0 or u")
    try:
        import xarray
    except ImportError:
        raise ValueError(f'{kind} files need xarray: pip install "pihc_zoo[xarray]"') from None
    try:
        with xarray.open_zarr(path) if kind == "Zarr" else xarray.open_dataset(path) as dataset:
            return from_dataset(dataset, axes, count, fields)
    except ImportError as error:
        raise ValueError(f'{str(path)!r} cannot be read ({error}): pip install "pihc_zoo[xarray]"') from None
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a complete {kind} file ({error})") from None
    except ValueError as error:
        if "engine" in str(error) or "backend" in str(error):
            raise ValueError(
                f'{str(path)!r} is no {kind} file that is understood here: pip install "pihc_zoo[xarray]"'
            ) from None
        raise


def from_dataset(
    dataset: Any, axes: tuple[str, ...], count: int | None = None, fields: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Arrays by our names of a Dataset with u (batch, time, *space), u0 (batch, *space) or both.

    Of a system each of the ``fields`` is such a variable, its initial values <name>0; or u and u0 have one dimension
    more, the last one, with the name "field".

    The dimension of trajectories may have any name, that of times is "time" or "t"; what `Prediction.to_xarray`
    makes is understood. Values of each trajectory, parameter_<name>, are variables or coordinates.

    Raises:
        ValueError: neither u nor u0, or dimensions in another order.
    """
    is_system = len(fields) > 1
    is_apart = is_system and "field" not in dataset.dims
    names = fields if is_apart else ("u",)
    if not any(f"{name}{start}" in dataset for name in names for start in ("", "0")):
        wanted = " and ".join(f"{name}0 or {name}" for name in names)
        raise ValueError(f"the Dataset must have a variable {wanted}, got {', '.join(map(str, dataset)) or 'nothing'}")
    arrays: dict[str, np.ndarray] = {}
    last = ("field",) if is_system and not is_apart else ()
    for name in names:
        for key, expected in ((name, ("t", *axes, *last)), (f"{name}0", (*axes, *last))):
            if key in dataset:
                arrays[key] = _values(dataset[key], key, expected, count)
    for axis in axes:
        if axis in dataset.coords:
            arrays[axis] = np.asarray(dataset.coords[axis])
    for name in _TIME:
        if name in dataset.coords:
            arrays["t"] = np.asarray(dataset.coords[name])
    for name in (*dataset.data_vars, *dataset.coords):
        if str(name).startswith(_OURS):
            values = np.asarray(dataset[name])
            arrays[str(name)] = values[:count] if values.ndim else values
    return arrays


def _values(variable: Any, name: str, expected: tuple[str, ...], count: int | None) -> np.ndarray:
    """(batch, …) values of a variable whose dimensions are a batch and the ``expected``, in order."""
    known = [_plain(str(dim)) for dim in variable.dims]
    batch = [dim for dim in known if dim not in expected]
    missing = [dim for dim in expected if dim not in known]
    if len(batch) > 1 or missing:
        what = f"lacks {', '.join(missing)}" if missing else f"has {' and '.join(batch)} beside them"
        raise ValueError(
            f"{name} must have the dimensions (trajectory, {', '.join(expected)}), got "
            f"({', '.join(map(str, variable.dims))}): it {what}; rename, select or average"
        )
    right = (*batch, *expected)
    if tuple(known) != right:
        given = {_plain(str(dim)): str(dim) for dim in variable.dims}
        order = ", ".join(repr(given[dim]) for dim in right)
        raise ValueError(
            f"{name} has the dimensions ({', '.join(map(str, variable.dims))}); expected "
            f"({', '.join(given[dim] for dim in right)}): pass {name}.transpose({order})"
        )
    values = np.asarray(variable[:count] if batch else variable)
    return values if batch else values[None]


def _plain(dim: str) -> str:
    """Our name of a dimension."""
    return "t" if dim in _TIME else dim.removesuffix("_input")
