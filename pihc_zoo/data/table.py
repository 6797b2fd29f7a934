"""CSV tables of scattered points: columns x, t, u and, with several trajectories, trajectory."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

_DELIMITERS = ",;\t"
_SUFFIXES = (".csv", ".tsv", ".txt")


def is_table(source: Any) -> bool:
    """Whether a path is that of a table."""
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in _SUFFIXES


def read_table(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns of a table by their names, (m,) each; separated by commas, semicolons or tabs, # begins a comment.

    Raises:
        ValueError: no such file, no header, rows of another length, or values that are not numbers, with their line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file {str(path)!r}; expected a CSV table with the columns x, t, u")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as text ({error}); expected a CSV table") from None
    numbered = [
        (i, line) for i, line in enumerate(lines, start=1) if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        raise ValueError(f"{str(path)!r} is empty; expected a header such as x,t,u and a line per point")
    header = numbered[0][1]
    delimiter = max(_DELIMITERS, key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    if any(_is_number(name) for name in names):
        raise ValueError(f"{str(path)!r} has no header in line {numbered[0][0]}; begin it with the names, as in x,t,u")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{str(path)!r} has the column {twice[0]!r} twice; remove one")
    rows = []
    for number, line in numbered[1:]:
        values = next(csv.reader([line], delimiter=delimiter))
        if len(values) != len(names):
            raise ValueError(f"{str(path)!r}, line {number}: {len(values)} values, expected {len(names)}: {header}")
        wrong = [name for name, value in zip(names, values, strict=True) if not _is_number(value)]
        if wrong:
            value = values[names.index(wrong[0])].strip()
            what = f"{value!r}, not a finite number" if value else "empty"
            raise ValueError(f"{str(path)!r}, line {number}: {wrong[0]} is {what}; remove the line")
        rows.append([float(value) for value in values])
    if not rows:
        raise ValueError(f"{str(path)!r} has a header and no points; add a line per point")
    return dict(zip(names, np.array(rows).T, strict=True))


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
