"""What the command lines of training share: one line and exit code 2 for what a user can do wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from pihc_zoo.learning.interruption import Terminated, terminable
from pihc_zoo.text import one_line


def integer(least: int) -> Callable[[str], int]:
    """An argument's type: integers of at least ``least``."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
        return int(text)

    return convert


def seconds(text: str) -> float:
    """An argument's type: a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return value


def guarded(command: Callable[[], None], on_interrupt: str, speaks: Callable[[], bool] = lambda: True) -> int:
    """Runs ``command``; returns its exit code: 0, 2 after an error, 130 after Ctrl-C, 143 after SIGTERM.

    Args:
        on_interrupt: what an interrupted command's line says.
        speaks: whether to print a line; of several processes one does.
    """

    def say(line: str) -> None:
        if speaks():
            print(line, file=sys.stderr, flush=True)

    try:
        with terminable():
            command()
    except (ValueError, FloatingPointError, OSError) as error:
        say(f"error: {one_line(error) or type(error).__name__}")
        return 2
    except Terminated:
        say(f"terminated; {on_interrupt}")
        return Terminated.exit_code
    except KeyboardInterrupt:
        say(f"interrupted; {on_interrupt}")
        return 130
    return 0
