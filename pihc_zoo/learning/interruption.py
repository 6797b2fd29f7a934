"""Interrupts (Ctrl-C) and SIGTERM, at moments where the state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what is to be done on an interrupt, asked for by a scheduler or the system."""

    exit_code = 128 + signal.SIGTERM


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()  # others cannot set handlers


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` inside the block."""

    def terminate(number, frame):
        raise Terminated

    if not _is_main():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds signals back until the block ends, so that an update is done as a whole or not at all."""
    if not _is_main():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, frame: came.append(n)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


class Signals:
    """Context that notes signals instead of raising, so that a loop ends between two steps, everywhere the same.

    Attributes:
        came: the numbers of those that came.
    """

    def __init__(self):
        self.came: list[int] = []
        self._before: dict = {}

    def __enter__(self) -> Signals:
        if _is_main():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind, value, traceback) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number, frame) -> None:
        self.came.append(number)

    @property
    def has_come(self) -> bool:
        """Whether any came."""
        return bool(self.came)

    def raise_first(self) -> None:
        """Raises what the first that came stands for."""
        raise Terminated if self.came[0] == signal.SIGTERM else KeyboardInterrupt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Signals raise at once inside the block: it may take long, and its state is saved."""
        if self.came:
            self.raise_first()
        if not self._before:
            yield
            return
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        try:
            yield
        finally:
            for number in self._before:
                signal.signal(number, self._note)
