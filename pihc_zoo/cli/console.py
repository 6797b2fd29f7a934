"""What all commands share: choosing one, one-line errors and warnings, exit codes.

What a user can do wrong ends in one line on stderr, ``error: …``, and exit code 2; an interrupt in
130. Warnings are one line each, ``warning: …``. Characters that the terminal does not know are spelled in
ASCII. A command is a module of this package with
``add_arguments(parser)`` and ``run(options)``, imported when it is chosen; torch loads inside ``run``.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import os
import sys
import unicodedata
import warnings
from types import ModuleType
from typing import Any

from .. import __version__
from ..registration import import_packages
from ..text import nearest, one_line
from .arguments import Parser, add_imports
from .printing import warn

COMMANDS = {  # the name of the module: help
    "list": "names, equations and measured errors of the shipped models",
    "info": "everything about one model, or the problem of a recipe",
    "new": "write a recipe for an equation of your own",
    "predict": "solve for initial conditions",
    "evaluate": "measure error, speed and trust of a model",
    "demo": "predict, compare with the truth and draw, offline",
    "finetune": "tune a model on your own data",
    "calibrate": "find unknown parameters from measurements",
    "export": "write a complete model folder",
    "doctor": "check the installation",
    "push": "publish a model on the Hub",
}


_ASCII = {
    "–": "-",
    "−": "-",
    "─": "-",
    "×": "x",
    "·": "*",
    "∇": "nabla ",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "²": "^2",
    "³": "^3",
}
_ENCODING = "pihc_zoo.ascii"


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """For `codecs.register_error`: dashes, Greek letters and accents in ASCII, a question mark for the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    words = unicodedata.name(character, "").split()
    if character in _ASCII:
        return _ASCII[character]
    if words[:1] == ["GREEK"]:  # as in GREEK CAPITAL LETTER DELTA
        return words[-1].capitalize() if "CAPITAL" in words else words[-1].lower()
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    codecs.register_error(_ENCODING, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ENCODING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", RuntimeWarning)
            try:
                options = _options(arguments)
            except ValueError as error:  # of several processes, which all say the same, the first one speaks
                return _fail(error) if os.environ.get("RANK", "0") == "0" else 2
            return options if isinstance(options, int) else _module(options.command).run(options) or 0
    except BrokenPipeError:  # the reader of our output has left, as in: pihc list | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (nothing to flush at exit)
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        return _fail("not enough memory; predict fewer trajectories, times or points at once")
    except (ValueError, OSError) as error:
        return _fail(error)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return _fail("not enough memory on the device; predict fewer trajectories at once or use --device cpu")


def _options(arguments: list[str]) -> argparse.Namespace | int:
    """What a command is called with, or the exit code where there is nothing to run."""
    parser = Parser(prog="pihc", description="Pretrained, physics-constrained PDE surrogates.")
    parser.add_argument("--version", action="version", version=f"pihc_zoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise ValueError(f"no command {chosen!r}; {nearest(chosen, COMMANDS)}")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            _module(name).add_arguments(command)
            add_imports(command)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    if options.command is None:
        parser.print_help()
        return 0
    import_packages(options.imports)
    return options


def _module(command: str) -> ModuleType:
    return importlib.import_module(f".{command}", __package__)


def _fail(error: Any) -> int:
    print(f"error: {one_line(error) or type(error).__name__}", file=sys.stderr)
    return 2


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    warn(message)
