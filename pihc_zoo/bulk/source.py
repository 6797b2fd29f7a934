"""Initial conditions and parameters of many trajectories, read slice by slice from files, arrays or Datasets."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data import check_names, read_arrays
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
        if "u0" not in arrays:
            raise ValueError(
                f"{name} has no array u0 (it has: {', '.join(sorted(arrays)) or 'none'}); "
                "expected u0 with the shape (batch, *space)"
            )
        check_names(dict(arrays), problem)
        self._u0 = arrays["u0"] if hasattr(arrays["u0"], "shape") else np.asarray(arrays["u0"])
        self.name = name
        if len(np.shape(self._u0)) < 2 or not len(self._u0):
            raise ValueError(f"u0 in {name} must have the shape (batch, *space), got {np.shape(self._u0)}")
        self.count = len(self._u0)
        axes = problem.output_space
        self.positions = {key: real_array(_whole(arrays[key]), key) for key in axes if key in arrays}
        self.times = real_array(_whole(arrays["t"]), "t") if "t" in arrays else None
        self.parameters: dict[str, np.ndarray] = {}
        for key in arrays:
            if key.startswith(PARAMETER):
                value = real_array(_whole(arrays[key]), key)
                self.parameters[key.removeprefix(PARAMETER)] = value.reshape(()) if value.shape == (1,) else value
        compressed = isinstance(self._u0, Member) and self._u0.is_compressed
        self.note = (
            f"u0 in {name} is compressed: every process decompresses all of it, once; numpy.savez writes what is read "
            "by slices"
            if compressed
            else ""
        )

    def check_parameters(self, problem: Any, inputs: tuple[str, ...]) -> None:
        """Raises ValueError for unknown parameters, and for values that the model does not take."""
        check_parameters(problem, inputs, self.parameters, self.count)

    def rows(self, first: int, stop: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(stop − first, *space) initial conditions, float64, and the parameters that go with them."""
        u0 = real_array(self._u0[first:stop], "u0")
        return u0, {key: value[first:stop] if value.ndim else value for key, value in self.parameters.items()}

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


class _Variable:
    """A variable of a Dataset along whose first dimension slices are read."""

    def __init__(self, dataset: Any, axes: tuple[str, ...]):
        self._dataset, self._axes = dataset, axes
        self._batch = dataset["u0"].dims[0]
        self.shape = from_dataset(dataset.isel({self._batch: slice(0, 1)}), axes)["u0"].shape
        self.shape = (dataset.sizes[self._batch], *self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return from_dataset(self._dataset.isel({self._batch: rows}), self._axes)["u0"]


def _of_dataset(dataset: Any, axes: tuple[str, ...]) -> dict[str, Any]:
    """Arrays of a Dataset by our names; u0 is read by slices."""
    if "u0" not in dataset:
        raise ValueError(f"the Dataset must have a variable u0, got {', '.join(map(str, dataset)) or 'nothing'}")
    own = [str(name) for name in dataset.variables if str(name).startswith(PARAMETER)]
    dims = dataset["u0"].dims
    first = from_dataset(dataset[["u0"]].isel({dim: slice(0, 1) for dim in dims[:1]}), axes)
    names = [name for name in ("time", "t") if name in dataset.coords]
    times = {"t": np.asarray(dataset[names[0]])} if names else {}
    if first["u0"].ndim > len(dims):  # one trajectory
        return times | from_dataset(dataset[["u0", *own]], axes)
    parameters = {name: np.asarray(dataset[name]) for name in own}
    return {**first, **times, **parameters, "u0": _Variable(dataset[["u0"]], axes)}


@contextlib.contextmanager
def open_source(source: Any, problem: Any) -> Iterator[Source]:
    """What a path, a mapping of arrays or an xarray Dataset holds, open inside the block.

    NPZ, netCDF, Zarr and HDF5 files and Datasets that are read lazily are never held in memory as a whole.

    Raises:
        ValueError: as `Source`, and for files that cannot be read.
    """
    axes = tuple(problem.output_space)
    with contextlib.ExitStack() as stack:
        if is_dataset(source):
            arrays, name = _of_dataset(source, axes), "the Dataset"
        elif isinstance(source, str | os.PathLike):
            arrays, name = _of_file(Path(source), axes, stack), repr(str(source))
        elif isinstance(source, Mapping):
            arrays, name = source, "the data"
        else:
            raise ValueError(
                f"source must be a path, a mapping with the key 'u0' or an xarray Dataset, got {type(source).__name__}"
            )
        yield Source(arrays, problem, name)


def _of_file(path: Path, axes: tuple[str, ...], stack: contextlib.ExitStack) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if is_zarr(path) or suffix in _LABELLED:
        return _of_dataset(stack.enter_context(_dataset(path)), axes)
    if suffix in (".h5", ".hdf5") and path.is_file():
        arrays = _of_hdf5(path, stack)
        if "u0" in arrays:
            return arrays
    return dict(members(path)) if suffix == ".npz" else read_arrays(path, axes)


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
