"""Initial conditions and parameters of many trajectories, read slice by slice from files, arrays or Datasets."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data import check_names, fields_apart, read_arrays
from ..data.labelled import from_dataset, is_dataset, is_zarr
from ..prediction.prediction_file import PARAMETER
from ..prediction.request import check_parameters, real_array
from .npz import Member, members

_LABELLED = (".nc", ".nc4", ".cdf")


class Source:
    """What is to be solved for.

    Args:
        arrays: by name, u0 (batch, *space) and what goes with it; of u0 and the parameters only slices are read.
        problem: whose trajectories these are.
        name: of the source, for messages.

    Attributes:
        count: trajectories.
        positions: of u0, by axis name, where the source has them.
        times: output times, where the source has them.
        parameters: numbers, or (batch,) values, by symbol.

    Raises:
        ValueError: no u0, unknown names, shapes that do not agree, values that are not real numbers.
    """

    def __init__(self, arrays: Mapping[str, Any], problem: Any, name: str):
        check_names(dict(arrays), problem)
        arrays, axes = _by_field(arrays, problem), problem.output_space
        if "u0" not in arrays and problem.duration is None:
            arrays["u0"] = _nothing(arrays, problem, name)
        if "u0" not in arrays:
            raise ValueError(
                f"{name} has no array u0 (it has: {', '.join(sorted(arrays)) or 'none'}); "
                "expected u0 with the shape (batch, *space)"
            )
        self._u0 = arrays["u0"] if hasattr(arrays["u0"], "shape") else np.asarray(arrays["u0"])
        self.name = name
        if len(np.shape(self._u0)) < 2 or not len(self._u0):
            raise ValueError(f"u0 in {name} must have the shape (batch, *space), got {np.shape(self._u0)}")
        self.count = len(self._u0)
        self.positions = {key: real_array(_whole(arrays[key]), key) for key in axes if key in arrays}
        self.times = real_array(_whole(arrays["t"]), "t") if "t" in arrays else None
        self._num_dims = _num_dims(problem)
        self.parameters: dict[str, Any] = {}
        for key in arrays:
            if key.startswith(PARAMETER):
                symbol, value = key.removeprefix(PARAMETER), arrays[key]
                if not (symbol in self._num_dims and self._is_by_row(symbol, value)):
                    value = real_array(_whole(value), key)
                    value = value.reshape(()) if value.shape == (1,) else value
                self.parameters[symbol] = value
        compressed = isinstance(self._u0, Member) and self._u0.is_compressed
        self.note = (
            f"u0 in {name} is compressed: every process decompresses all of it, once; numpy.savez writes what is read "
            "by slices"
            if compressed
            else ""
        )

    def _is_by_row(self, symbol: str, value: Any) -> bool:
        """Whether a parameter has a value for each trajectory."""
        return len(np.shape(value)) > self._num_dims.get(symbol, 0)

    def check_parameters(self, problem: Any, inputs: tuple[str, ...]) -> None:
        """Raises ValueError for unknown parameters, and for values that the model does not take.

        Of a field for each trajectory the first one is looked at; the others when they are read.
        """
        values = {}
        for key, value in self.parameters.items():
            is_field = key in self._num_dims and self._is_by_row(key, value)
            if is_field and len(value) != self.count:
                raise ValueError(f"parameter {key!r} has {len(value)} fields for {self.count} trajectories")
            values[key] = real_array(value[0:1], key)[0] if is_field else value
        check_parameters(problem, inputs, values, self.count)

    def rows(self, first: int, stop: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(stop − first, *space) initial conditions, float64, and the parameters that go with them."""
        parameters = {
            key: real_array(value[first:stop], key) if self._is_by_row(key, value) else value
            for key, value in self.parameters.items()
        }
        return real_array(self._u0[first:stop], "u0"), parameters

    def digest(self, first: int, stop: int) -> str:
        """A digest of `rows`."""
        u0, parameters = self.rows(first, stop)
        return digest({"u0": u0, **parameters})


def _whole(values: Any) -> Any:
    """All values of an array that may lie in a file."""
    return values[...] if hasattr(values, "shape") else values


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal digest of arrays and their names."""
    found = hashlib.sha256()
    for key, value in sorted(arrays.items()):
        found.update(f"{key} {value.dtype} {value.shape};".encode())
        found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()


def _num_dims(problem: Any) -> dict[str, int]:
    """How many dimensions the parameters have that are fields over space or series over time."""
    return {key: len(problem.coefficient_shape(key)) for key in problem.coefficients}


class _Stacked:
    """Arrays of a system's fields as one with a last axis of fields, read by slices."""

    def __init__(self, parts: list[Any]):
        self._parts = parts
        self.shape = (*np.shape(parts[0]), len(parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.stack([np.asarray(part[rows]) for part in self._parts], axis=-1)


def _by_field(arrays: Mapping[str, Any], problem: Any) -> dict[str, Any]:
    """The arrays, those of a system's fields, <name>0, as one u0.

    Raises:
        ValueError: some fields are missing, or they differ in shape.
    """
    arrays = dict(arrays)
    names = fields_apart(arrays, problem, "u0")
    return {**arrays, "u0": _Stacked([arrays.pop(name) for name in names])} if names else arrays


def _nothing(arrays: Mapping[str, Any], problem: Any, name: str) -> np.ndarray:
    """u0 of a steady problem, which has none: zeros, as many as its parameters have trajectories.

    Raises:
        ValueError: no parameter has a value for each trajectory.
    """
    given = {key.removeprefix(PARAMETER): value for key, value in arrays.items() if key.startswith(PARAMETER)}
    count = problem.batch_of(given)
    if not count:
        wanted = " or ".join(f"{PARAMETER}{key}" for key in (*problem.coefficients, *problem.parameters))
        raise ValueError(f"{name} has no {wanted} with a value for each trajectory, of which there is to be a solution")
    return np.broadcast_to(0.0, (count, *problem.native_shape))


class _Variable:
    """A variable of a Dataset along whose first dimension slices are read, by ``values`` of the Dataset's rows."""

    def __init__(self, dataset: Any, batch: str, values: Callable[[Any], np.ndarray]):
        self._dataset, self._batch, self._values = dataset, batch, values
        self.shape = (dataset.sizes[batch], *self[0:1].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._values(self._dataset.isel({self._batch: rows}))


def _of_dataset(dataset: Any, problem: Any) -> dict[str, Any]:
    """Arrays of a Dataset by our names; u0, and parameters that are fields, are read by slices."""
    axes, fields = tuple(problem.output_space), tuple(problem.fields)
    own, num_dims = [str(name) for name in dataset.variables if str(name).startswith(PARAMETER)], _num_dims(problem)
    names = [name for name in dict.fromkeys(("u0", *(f"{name}0" for name in fields))) if name in dataset]
    times = [name for name in ("time", "t") if name in dataset.coords]
    arrays: dict[str, Any] = {"t": np.asarray(dataset[times[0]])} if times else {}
    for name in own:
        variable = dataset[name]
        symbol = name.removeprefix(PARAMETER)
        is_field = symbol in num_dims and variable.ndim > num_dims[symbol]
        arrays[name] = (
            _Variable(dataset[[name]], variable.dims[0], lambda rows, name=name: np.asarray(rows[name]))
            if is_field
            else np.asarray(variable)
        )
    if not names:
        if problem.duration is None:
            return arrays
        raise ValueError(f"the Dataset must have a variable u0, got {', '.join(map(str, dataset)) or 'nothing'}")
    initial, dims = dataset[names], dataset[names[0]].dims

    def values(rows: Any) -> np.ndarray:
        found = from_dataset(rows, axes, fields=fields)
        parts = [found[name] for name in names]
        return np.stack(parts, axis=-1) if len(parts) > 1 else parts[0]

    first = from_dataset(initial.isel({dims[0]: slice(0, 1)}), axes, fields=fields)
    if first[names[0]].ndim > len(dims):  # one trajectory
        return {**arrays, **{axis: first[axis] for axis in axes if axis in first}, "u0": values(initial)}
    for name in names:
        first.pop(name)
    return {**first, **arrays, "u0": _Variable(initial, dims[0], values)}


@contextlib.contextmanager
def open_source(source: Any, problem: Any) -> Iterator[Source]:
    """What a path, a mapping of arrays or an xarray Dataset holds, open inside the block.

    NPZ, netCDF, Zarr and HDF5 files and Datasets that are read lazily are never held in memory as a whole.

    Raises:
        ValueError: as `Source`, and for files that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        if is_dataset(source):
            arrays, name = _of_dataset(source, problem), "the Dataset"
        elif isinstance(source, str | os.PathLike):
            arrays, name = _of_file(Path(source), problem, stack), repr(str(source))
        elif isinstance(source, Mapping):
            arrays, name = source, "the data"
        else:
            raise ValueError(
                f"source must be a path, a mapping with the key 'u0' or an xarray Dataset, got {type(source).__name__}"
            )
        yield Source(arrays, problem, name)


def _of_file(path: Path, problem: Any, stack: contextlib.ExitStack) -> dict[str, Any]:
    suffix, fields = path.suffix.lower(), tuple(problem.fields)
    if is_zarr(path) or suffix in _LABELLED:
        return _of_dataset(stack.enter_context(_dataset(path)), problem)
    if suffix in (".h5", ".hdf5") and path.is_file():
        arrays = _of_hdf5(path, stack)
        if any(name in arrays for name in ("u0", *(f"{name}0" for name in fields))) or problem.duration is None:
            return arrays
    return dict(members(path)) if suffix == ".npz" else read_arrays(path, tuple(problem.output_space), fields=fields)


def _dataset(path: Path) -> Any:
    """A Dataset of a file, read lazily."""
    kind = "Zarr" if is_zarr(path) else "netCDF"
    if not path.exists():
        raise ValueError(f"no such file {str(path)!r}; expected a {kind} store with the variable u0")
    try:
        import xarray

        if kind == "Zarr":
            return xarray.open_zarr(path, chunks=None, consolidated=False)
        return xarray.open_dataset(path, cache=False)
    except ImportError as error:
        raise ValueError(f'{kind} files need xarray ({error}): pip install "pihc_zoo[bulk]"') from None
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a complete {kind} file ({error})") from None


def _of_hdf5(path: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise ValueError('HDF5 files need h5py: pip install "pihc_zoo[hdf5]"') from None
    try:
        file = stack.enter_context(h5py.File(path))
    except OSError as error:
        raise ValueError(f"{str(path)!r} is not a complete HDF5 file ({error})") from None
    return {key: value for key, value in file.items() if isinstance(value, h5py.Dataset)}
