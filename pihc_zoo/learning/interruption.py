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
