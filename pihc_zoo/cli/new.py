"""``pihc new``: a commented recipe for an equation of one's own."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..files import write_text
from ..problems import PROBLEMS

TEMPLATE = Path(__file__).with_name("template.toml")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}(\.[a-z0-9][a-z0-9_.-]{0,63})?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc new``."""
    parser.add_argument("name", help="of the problem, such as growth-1d, or of the model, such as growth-1d.demo")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default NAME.toml")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(options: argparse.Namespace) -> int:
    """Writes the recipe; it trains as it is."""
    if not _NAME.fullmatch(options.name):
        raise ValueError(
            f"a name has lower-case letters, digits, - and _, such as growth-1d.demo; got {options.name!r}"
        )
    problem, _, variant = options.name.partition(".")
    if problem in PROBLEMS:
        raise ValueError(f"the name {problem!r} belongs to a problem of the package; call yours otherwise")
    path = options.output or Path(f"{options.name}.toml")
    if path.suffix != ".toml":
        raise ValueError(f"expected a name that ends in .toml, got {str(path)!r}")
    if path.exists() and not options.overwrite:
        raise ValueError(f"{str(path)!r} exists; choose another --output, or replace it with --overwrite")
    text = TEMPLATE.read_text(encoding="utf-8")
    write_text(path, text.replace("PROBLEM", problem).replace("VARIANT", variant or "demo"))
    print(f"{path}: look at it with: pihc info {path}; train it with: python -m training {path}")
    return 0
