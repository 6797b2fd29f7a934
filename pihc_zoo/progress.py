"""Progress of long loops: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

SECONDS_PER_LINE = 10.0  # where stderr is a file or a pipe


class Lines:
    """Progress as whole lines on stderr, at most one in `SECONDS_PER_LINE`: what a log file can hold.

    The part of tqdm's interface that our loops use.
    """

    def __init__(self, iterable: Iterable, description: str, start: int, total: int):
        self.iterable, self.description, self.start, self.total = iterable, description, start, total
        self.note = ""

    def __iter__(self) -> Iterator:
        begin = last = time.monotonic()
        for done, item in enumerate(self.iterable, start=self.start):
            yield item
            now = time.monotonic()
            if now - last >= SECONDS_PER_LINE:
                note = f", {self.note}" if self.note else ""
                left = (now - begin) / (done + 1 - self.start) * (self.total - done - 1)
                print(
                    f"{self.description}: {done + 1}/{self.total} after {now - begin:.0f} s, {left:.0f} s left{note}",
                    file=sys.stderr,
                )
                last = now

    def set_postfix_str(self, note: str) -> None:
        """What the next line ends with."""
        self.note = note


def progress(
    items: Iterable, description: str, *, start: int = 0, total: int, quiet: bool = False, leave: bool = True
) -> Any:
    """``items`` with their progress shown on stderr.

    Args:
        items: what is left to do.
        description: what a bar or line begins with.
        start, total: how many items were done before, and how many there are with them.
        quiet: show nothing.
        leave: whether a bar stays on the terminal when it is full.

    Returns:
        an iterable with the method ``set_postfix_str``.
    """
    if quiet or sys.stderr.isatty():
        return tqdm(items, description, initial=start, total=total, disable=quiet, leave=leave)
    return Lines(items, description, start, total)
