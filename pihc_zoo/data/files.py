"""Arrays of a file by name, whatever its kind."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .hdf5 import read_hdf5
from .labelled import is_zarr, read_labelled
from .table import is_table, read_table

KINDS = "NPZ, HDF5 (.h5, .hdf5), netCDF (.nc), Zarr or CSV"


def read_arrays(
    path: str | os.PathLike, axes: tuple[str, ...] = ("x",), count: int | None = None, fields: tuple[str, ...] = ()
) -> dict:
    """The arrays of an NPZ, HDF5, netCDF, Zarr or CSV file by our names; pickled objects are refused.

    Args:
        path: its name says what kind it is.
        axes: names of the space axes, in order.
        count: trajectories to read, the first ones; all by default. Of NPZ and CSV files everything is read.
        fields: names of a system's fields.

    Raises:
        ValueError: missing, foreign, truncated, or with object arrays.
    """
    path = Path(path)
    if is_zarr(path):
        return read_labelled(path, axes, count, fields)
    if not path.is_file():
        raise ValueError(f"no such file {str(path)!r}; expected a file with u0 or u: {KINDS}")
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_hdf5(path, axes, count, fields)
    if suffix in (".nc", ".nc4", ".cdf"):
        return read_labelled(path, axes, count, fields)
    if is_table(path):
        return read_table(path)
    return _read_npz(path)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError(
                    f"{str(path)!r} is not an NPZ file, or not a complete one; write it with numpy.savez(path, u0=...)"
                )
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {key: arrays[key] for key in arrays.files}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{str(path)!r} is not a complete NPZ file ({error})") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{str(path)!r} holds pickled objects, which are never read; save plain arrays") from None
        raise
    return {key: value for key, value in loaded.items() if isinstance(value, np.ndarray)}
