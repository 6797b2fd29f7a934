"""What the command lines of training share: one line and exit code 2 for what a user can do wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from pihc_zoo.learning.interruption import Terminated, terminable


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors."""

    def error(self, message: str):
        raise ValueError(f"{message}; see: {self.prog} --help")


def integer(least: int) -> Callable[[str], int]:
    """An argument's type: integers of at least ``least``."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
        return int(text)

    return convert


def guarded(command: Callable[[], None], on_interrupt: str) -> int:
    """Runs ``command``; returns its exit code: 0, 2 after an error, 130 after Ctrl-C, 143 after SIGTERM."""
    try:
        with terminable():
            command()
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2
    except Terminated:
        print(f"terminated; {on_interrupt}", file=sys.stderr)
        return Terminated.exit_code
    except KeyboardInterrupt:
        print(f"interrupted; {on_interrupt}", file=sys.stderr)
        return 130
    return 0
