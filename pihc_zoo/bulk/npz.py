"""Rows of the arrays of an NPZ file, read from the disk slice by slice."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.lib import format as npy

_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


class Member:
    """One array of an NPZ file.

    What `numpy.savez` wrote is read where it lies. Of what `numpy.savez_compressed` wrote, all that precedes a slice
    is decompressed and dropped, once if slices are asked for in order.

    Args:
        path: of the file.
        info: of the member.

    Attributes:
        shape, dtype: of the array.
        is_compressed: whether slices cost the decompression of what precedes them.

    Raises:
        ValueError: pickled objects, or a compressed array in Fortran's order.
    """

    def __init__(self, path: Path, info: zipfile.ZipInfo):
        self.path, self.info = path, info
        self.is_compressed = info.compress_type != zipfile.ZIP_STORED
        self._stream: Any = None
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            self.shape, is_fortran, self.dtype = read(file)
            self._header = file.tell()
        if self.dtype.hasobject:
            raise ValueError(f"{str(path)!r} holds pickled objects, which are never read; save plain arrays")
        if is_fortran and len(self.shape) > 1:
            raise ValueError(
                f"{info.filename.removesuffix('.npy')} in {str(path)!r} is in Fortran's order, in which trajectories "
                "cannot be read one by one; save numpy.ascontiguousarray of it"
            )

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def _row(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def __getitem__(self, rows: slice | EllipsisType) -> np.ndarray:
        """Rows ``first:stop``, or all with an ellipsis.

        Raises:
            ValueError: the file is damaged.
        """
        if isinstance(rows, slice):
            first, stop, _ = rows.indices(len(self))
            shape = (max(0, stop - first), *self.shape[1:])
        else:
            first, shape = 0, self.shape
        values = np.empty(shape, self.dtype)
        try:
            read = self._streamed if self.is_compressed else self._stored
            data = read(self._header + first * self._row, values.nbytes)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{str(self.path)!r} is not a complete NPZ file ({error})") from None
        if len(data) != values.nbytes:
            raise ValueError(f"{str(self.path)!r} is not a complete NPZ file: it ends within {self.info.filename}")
        values.reshape(-1)[:] = np.frombuffer(data, self.dtype)
        return values

    def _stored(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.info.header_offset)
            header = file.read(_LOCAL_HEADER)
            names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            file.seek(self.info.header_offset + _LOCAL_HEADER + names + offset)
            return file.read(size)

    def _streamed(self, offset: int, size: int) -> bytes:
        if self._stream is None:
            self._stream = zipfile.ZipFile(self.path).open(self.info)  # noqa: SIM115 (read on from)
        self._stream.seek(offset)  # back: from the start again
        return self._stream.read(size)


def members(path: Path) -> dict[str, Member]:
    """The arrays of an NPZ file by name.

    Raises:
        ValueError: no such file, not an NPZ file, or a damaged one.
    """
    if not path.is_file():
        raise ValueError(f"no such file {str(path)!r}; expected an NPZ file with u0")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        return {info.filename.removesuffix(".npy"): Member(path, info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{str(path)!r} is not a complete NPZ file ({error})") from None
