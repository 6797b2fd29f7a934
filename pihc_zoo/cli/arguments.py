"""Arguments that commands share, and their types."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from pathlib import Path
from typing import Any

_SHARE = 1 / 4  # of the memory that the fields of an answer may take; a prediction holds a few copies
_UNKNOWN = 8 * 2**30  # bytes, where the system does not say


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, and that takes no abbreviations."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options, allow_abbrev=False)

    def error(self, message: str):
        raise ValueError(f"{message}; see: {self.prog} --help")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")


def add_imports(parser: argparse.ArgumentParser) -> None:
    """--import, for `registration.import_packages`."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers problems, networks, … of your own; may be repeated",
    )


def load_model(options: argparse.Namespace) -> Any:
    """The model that the options name."""
    from ..zoo.loading import from_pretrained

    return from_pretrained(options.model, device=options.device, backend=getattr(options, "backend", "torch"))


def check_count(count: int, shape: tuple[int, ...], what: str) -> None:
    """Refuses more trajectories (time, *space) of float64 than this machine's memory serves.

    Raises:
        ValueError: names the largest number that it serves.
    """
    largest = max(1, int(_SHARE * _memory() / (8 * max(1, math.prod(shape)))))
    if count > largest:
        size = f"{' x '.join(map(str, shape))} values each"
        raise ValueError(f"{what}: {count} trajectories of {size} do not fit in memory; at most {largest} at once")


def _memory() -> int:
    """Bytes of memory of this machine, or of the container's share of it."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ValueError, OSError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min((size for size in sizes if size > 0), default=_UNKNOWN)


def positive(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Zero or a positive integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected zero or a positive integer, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(number(part) for part in text.split(","))


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def expert_counts(text: str) -> int | dict[str, int]:
    """A number of experts, or numbers by axis such as x=2,y=2."""
    if "=" not in text:
        return positive(text)
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not axis.strip() for axis, _, _ in pairs):
        raise argparse.ArgumentTypeError(f"expected counts by axis such as x=2,y=2, got {text!r}")
    return {axis.strip(): positive(count.strip()) for axis, _, count in pairs}


def number_or_text(text: str) -> float | str:
    """A number, or what is none as it is, such as a path."""
    try:
        return float(text)
    except ValueError:
        return text


def assignment(text: str, option: str = "--set", example: str = "D=3e-4") -> tuple[str, float]:
    """NAME=NUMBER.

    Args:
        option, example: for the message.

    Raises:
        ValueError: something else.
    """
    key, separator, value = text.partition("=")
    with contextlib.suppress(ValueError):
        if key and separator:
            return key.strip(), float(value)
    raise ValueError(f"{option} expects NAME=NUMBER, for example {example}; got {text!r}")


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE of ``--set``, with a value of TOML, or a word.

    Raises:
        ValueError: another form.
    """
    import tomllib

    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"--set expects KEY=VALUE, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
