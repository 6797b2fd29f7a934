"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np


class atomic_path:  # noqa: N801 (used like a function)
    """Context: a temporary path beside ``path``, moved onto it when the block succeeds."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=self.path.suffix, dir=self.path.parent)
        except OSError as error:
            raise ValueError(
                f"cannot write {str(self.path)!r}: {error.strerror or error}; choose a writable folder that exists"
            ) from None
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind, value, traceback) -> None:
        if kind is None:
            try:
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(self.temporary, 0o666 & ~umask)
                os.replace(self.temporary, self.path)
            except OSError as error:
                self.temporary.unlink(missing_ok=True)
                raise ValueError(f"cannot write {str(self.path)!r}: {error.strerror or error}") from None
        else:
            self.temporary.unlink(missing_ok=True)


def npz_path(path: str | os.PathLike) -> Path:
    """``path`` with .npz added if it names no kind of file; digits after a point, as in run_D=0.5, name none.

    Raises:
        ValueError: it names another kind.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind == "npz":
        return path
    if kind and not kind.isdigit():
        raise ValueError(f"expected a name that ends in .npz, got {str(path)!r}; only NPZ files are written")
    return path.with_name(path.name + ".npz")


def save_npz(path: str | os.PathLike, arrays: dict[str, np.ndarray], compress: bool = True) -> Path:
    """Writes an NPZ to `npz_path`, through a temporary file in the same folder, so that no half file remains."""
    path = npz_path(path)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)
    return path


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ValueError: no such file, or not valid TOML; one line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}") from None


def copy_file(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copies a file's content, atomically."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def check_writable(path: Path) -> Path:
    """``path`` if a file can be written there.

    Raises:
        ValueError: its folder does not exist or is not writable, or it is a folder itself.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {str(path)!r}: it is a folder; give the name of a file")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}."):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write {str(path)!r}: {error.strerror or error}; choose a writable folder that exists"
        ) from None
    return path


def make_folder(path: str | os.PathLike) -> Path:
    """The folder, made if need be.

    Raises:
        ValueError: it cannot be made, or no file can be written into it.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create {str(path)!r}: {error.strerror}; choose a writable folder") from None
    check_writable(path / "config.json")
    return path


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
