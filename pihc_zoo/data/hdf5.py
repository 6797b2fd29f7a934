"""HDF5 files: arrays by our names, or PDEBench's layouts as they are.

PDEBench keeps 1-D diffusion–sorption and its 2-D sets in one group per seed, "0000/data" (t, *space, field) with
"0000/grid/t", "0000/grid/x"; and Burgers' and other equations in one array "tensor" (n, t, *space) with
"t-coordinate", "x-coordinate". Its t-coordinate may have one entry more than there are times.

Source: M. Takamoto et al., "PDEBench" (NeurIPS 2022), arXiv:2210.07182, and its generators.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def read_hdf5(path: Path, axes: tuple[str, ...], count: int | None, fields: tuple[str, ...] = ()) -> dict:
    """The arrays of a file; see `files.read_arrays`.

    Raises:
        ValueError: no h5py, a damaged file, or one in no known layout.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError('HDF5 files need h5py: pip install "pihc_zoo[hdf5]"') from None
    try:
        with h5py.File(path) as file:
            datasets = {key: value for key, value in file.items() if isinstance(value, h5py.Dataset)}
            groups = {key: value for key, value in file.items() if isinstance(value, h5py.Group)}
            if "tensor" in datasets:
                return _one_tensor(str(path), datasets, axes, count, len(fields) > 1)
            if groups and not datasets:
                return _groups(str(path), groups, axes, count, max(1, len(fields)))
            return {key: np.asarray(value) for key, value in datasets.items()}
    except OSError as error:
        raise ValueError(f"{str(path)!r} is not a complete HDF5 file ({error})") from None


def _one_tensor(path: str, datasets: Any, axes: tuple[str, ...], count: int | None, is_system: bool) -> dict:
    tensor = datasets["tensor"]
    arrays = {axis: np.asarray(datasets[f"{axis}-coordinate"]) for axis in axes if f"{axis}-coordinate" in datasets}
    if "t-coordinate" not in datasets or len(arrays) < len(axes):
        wanted = ", ".join(f"{key}-coordinate" for key in ("t", *axes))
        raise ValueError(f"{path!r} has a tensor, but lacks some of {wanted}; it has {', '.join(sorted(datasets))}")
    t = np.asarray(datasets["t-coordinate"])
    if tensor.ndim == 2 + len(axes) + is_system and len(t) == tensor.shape[1] + 1:
        t = t[:-1]  # PDEBench's: the end of the last step
    return arrays | {"t": t, "u": np.asarray(tensor[:count])}


def _groups(path: str, groups: Any, axes: tuple[str, ...], count: int | None, num_fields: int) -> dict:
    names = sorted(groups)[:count]
    fields, first = [], groups[names[0]]
    for name in names:
        group = groups[name]
        if "data" not in group or "grid" not in group:
            raise ValueError(
                f"{path!r}: group {name!r} lacks data or grid, it has {', '.join(group) or 'nothing'}; expected "
                "PDEBench's layout (one group per seed with data and grid), or arrays u0 and u"
            )
        data = group["data"]
        if data.ndim != 2 + len(axes) or data.shape[-1] != num_fields:
            raise ValueError(
                f"{path!r}: {name}/data must have the shape (t, {', '.join(axes)}, {num_fields}), got {data.shape}; is "
                "it a file of another problem?"
            )
        fields.append(np.asarray(data if num_fields > 1 else data[..., 0]))
    missing = [key for key in ("t", *axes) if key not in first["grid"]]
    if missing:
        raise ValueError(f"{path!r}: {names[0]}/grid lacks {', '.join(missing)}; it has {', '.join(first['grid'])}")
    if len({field.shape for field in fields}) > 1:
        raise ValueError(f"{path!r}: the groups hold fields of different shapes; expected one grid")
    return {key: np.asarray(first["grid"][key]) for key in ("t", *axes)} | {"u": np.stack(fields)}
