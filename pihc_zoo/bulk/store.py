"""The output: a folder in which chunks are finished one by one, and the Zarr store that it becomes.

While chunks are missing, ``out.zarr.partial`` holds the store, ``request.json`` (what is computed, written when the
store is laid out) and ``done/<chunk>.json``, which appears when all of a chunk is written: what a killed process has
left of a chunk without it is written again. The finished store takes the name ``out.zarr`` in one step.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..files import check_writable, write_text

FORMAT = "pihc_zoo.bulk"
_LEFT_OUT = ("coefficients",)  # their number is not known of trajectories that were refused
_OWN = "pihc_zoo"  # the attribute of the finished store with what was computed


def require_zarr() -> Any:
    """The package zarr.

    Raises:
        ValueError: it or xarray is not installed, or too old.
    """
    try:
        import xarray  # noqa: F401
        import zarr
    except ImportError as error:
        raise ValueError(f'writing Zarr stores needs {error.name}: pip install "pihc_zoo[bulk]"') from None
    if int(zarr.__version__.split(".")[0]) < 3:
        raise ValueError(f'writing needs zarr 3, {zarr.__version__} is installed: pip install "pihc_zoo[bulk]"')
    return zarr


class Output:
    """The store at ``path`` and what is done of it.

    Raises:
        ValueError: the folder does not exist or is not writable, or a file is in the way.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.work = self.path.with_name(f"{self.path.name}.partial")
        self.data, self.done = self.work / "store.zarr", self.work / "done"
        self._replaced, self._request = self.work / "replaced.zarr", self.work / "request.json"
        self._locked: Any = None
        if self.path.is_file():
            raise ValueError(f"cannot write {str(self.path)!r}: it is a file; choose another name")
        check_writable(self.path.with_name(f"{self.path.name}.check"))

    # ------------------------------------------------------------------ beginning

    def found(self, resume: bool, overwrite: bool) -> tuple[dict[str, Any] | None, bool]:
        """What an unfinished or finished store says of itself (None: begin one), and whether it is finished.

        Raises:
            ValueError: there is one and neither ``resume`` nor ``overwrite`` is set; or it is not one of ours.
        """
        if resume and overwrite:
            raise ValueError("--resume and --overwrite exclude each other: go on, or begin anew")
        self._lock()
        request = _read(self._request)
        finished = None
        if self.path.exists():
            finished = self.request()
            if finished is None:
                raise ValueError(
                    f"{str(self.path)!r} was not written by bulk prediction and is not replaced; choose another name"
                )
        if not overwrite and not resume:
            if request is not None:
                raise ValueError(
                    f"{str(self.work)!r} holds an unfinished run of this output; --resume goes on, --overwrite begins "
                    "anew"
                )
            if finished is not None:
                raise ValueError(f"{str(self.path)!r} exists; --overwrite replaces it, or choose another name")
        if overwrite:
            return None, False
        return (request, False) if request is not None else (finished, finished is not None)

    def lay_out(self, request: dict[str, Any], example: Any, chunk: int, count: int, compress: bool) -> None:
        """An empty store for ``count`` trajectories like those of a Dataset; whatever was begun before is deleted."""
        zarr = require_zarr()
        try:
            if self.work.exists():
                shutil.rmtree(self.work)
            self.done.mkdir(parents=True)
            self._lock()
            names = [name for name in example.variables if name not in _LEFT_OUT]
            beside = [name for name in example.coords if name not in example.dims]
            group = zarr.create_group(
                self.data, zarr_format=3, attributes={**example.attrs, "coordinates": " ".join(beside)}
            )
            for name in names:
                variable = example.variables[name]
                is_batch, is_text = variable.dims[:1] == ("batch",), variable.dtype.kind in "UOT"
                shape = (count, *variable.shape[1:]) if is_batch else variable.shape
                array = group.create_array(
                    name,
                    shape=shape,
                    chunks=tuple(max(1, n) for n in ((min(chunk, count), *shape[1:]) if is_batch else shape)),
                    dtype=str if is_text else variable.dtype,
                    fill_value=np.nan if variable.dtype.kind == "f" else None,
                    compressors="auto" if compress or is_text else None,
                    dimension_names=variable.dims,
                    attributes=_plain(variable.attrs),
                )
                if not is_batch and variable.size:
                    array[...] = variable.values
            write_text(self._request, json.dumps(request, indent=1))
        except OSError as error:
            raise ValueError(f"cannot write {str(self.work)!r}: {error.strerror or error}") from None

    def _lock(self) -> None:
        """Keeps other processes from writing to an unfinished store while this one lives.

        Raises:
            ValueError: another one does.
        """
        if not self.work.is_dir():
            return
        try:
            import fcntl
        except ImportError:  # on Windows
            return
        self._locked = open(self.work / "lock", "a")  # noqa: SIM115 (held until the process ends)
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is writing {str(self.work)!r}; wait for it or end it") from None
        except OSError:  # a file system without locks
            return

    # ------------------------------------------------------------------ chunk by chunk

    def write(self, index: int, first: int, dataset: Any, note: dict[str, Any]) -> None:
        """The trajectories from ``first`` on, and then the mark that the chunk is finished.

        Raises:
            ValueError: the disk is full, or the folder has gone.
        """
        try:
            group = require_zarr().open_group(self.data, mode="r+")
            for name, variable in dataset.variables.items():
                if variable.dims[:1] == ("batch",) and name in group:
                    values = variable.values
                    values = values.astype(object) if values.dtype.kind in "UT" else values
                    group[name][first : first + len(values)] = values
            write_text(self.done / f"{index:08d}.json", json.dumps(note))
        except OSError as error:
            raise ValueError(
                f"cannot write {str(self.data)!r}: {error.strerror or error}; --resume goes on from the finished chunks"
            ) from None

    def finished(self) -> set[int]:
        """Numbers of the finished chunks."""
        return {int(name[:-5]) for name in os.listdir(self.done) if name.endswith(".json") and name[0] != "."}

    def notes(self) -> dict[int, dict[str, Any]]:
        """What was noted with each finished chunk, in their order."""
        return {index: json.loads((self.done / f"{index:08d}.json").read_text()) for index in sorted(self.finished())}

    def request(self) -> dict[str, Any] | None:
        """What the finished store says of itself; None where there is none of ours."""
        attributes = _read(self.path / "zarr.json", "attributes") or {}
        try:
            return json.loads(attributes[_OWN])
        except (KeyError, TypeError, ValueError):
            return None

    def finish(self, request: dict[str, Any]) -> None:
        """The store takes its name; one that it replaces is deleted after that."""
        zarr = require_zarr()
        try:
            if self.data.exists():
                zarr.open_group(self.data, mode="r+").update_attributes(
                    {"num_failed": request["failed"], "num_reliable": request["reliable"], _OWN: json.dumps(request)}
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that consolidated metadata are no part of format 3 yet
                    zarr.consolidate_metadata(self.data)
                if self.path.exists():
                    os.rename(self.path, self._replaced)
                os.rename(self.data, self.path)
            shutil.rmtree(self.work)
        except OSError as error:
            raise ValueError(f"cannot write {str(self.path)!r}: {error.strerror or error}") from None


def _read(path: Path, *keys: str) -> dict[str, Any] | None:
    """What a JSON file holds under ``keys``; None if there is no such thing."""
    try:
        value = json.loads(path.read_text())
        for key in keys:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes as JSON takes them."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in attributes.items()}
