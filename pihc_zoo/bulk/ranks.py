"""Processes that share chunks, as torchrun starts them: chunk k belongs to process k mod N.

They compute without a word to each other; a store of `torch.distributed` tells them that the first has prepared the
output, that all are alive, and that one has failed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

_BEAT = 0.5  # seconds between signs of life
_POLL = 0.05  # seconds between looks at the store
_KEPT = "--resume goes on from the finished chunks"
_PARTING, _HASTE = 10.0, 2.0  # seconds that the first process waits for the others to leave, in the end or interrupted


class PeerError(OSError):
    """Another process has failed or is gone.

    Args:
        message: what happened.
        is_said: whether it is another's error, which that one reports.
    """

    def __init__(self, message: str, is_said: bool = False):
        super().__init__(message)
        self.is_said = is_said


class Ranks:
    """The processes of a job.

    Args:
        rank, world: which of how many this is.
        timeout: seconds without a sign of life after which a process is lost.
    """

    def __init__(self, rank: int = 0, world: int = 1, timeout: float = 60.0):
        self.rank, self.world, self.timeout = rank, world, timeout
        self._store: Any = None
        self._turn = 0
        self._lost: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @classmethod
    def of_environment(cls, timeout: float = 60.0) -> Ranks:
        """As torchrun says in the environment.

        Raises:
            ValueError: the environment is half set.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls(timeout=timeout)
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} without {' and '.join(missing)}: start processes with torchrun"
            )
        try:
            return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), timeout)
        except ValueError:
            raise ValueError("RANK and WORLD_SIZE must be integers, as torchrun sets them") from None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prepares, shows progress and finishes."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[Ranks]:
        """Meets the others; an error inside the block ends all.

        Raises:
            PeerError: another process failed or is silent; ``is_said`` for all but one of those that fail, and an
                attribute of interrupts as well.
        """
        if self.world == 1:
            yield self
            return
        self._meet()
        try:
            yield self
            self._part(_PARTING)
        except PeerError:
            self._tell()
            self._part(0.0)
            raise
        except KeyboardInterrupt as interrupt:
            interrupt.is_said = not self._tell()  # type: ignore[attr-defined]
            self._part(_HASTE)
            raise
        except Exception as error:
            is_said = not self._tell()
            self._part(_PARTING)
            if is_said:
                raise PeerError(str(error), is_said=True) from error
            raise
        finally:
            self._ended.set()
            self._thread.join()

    def _meet(self) -> None:
        from torch.distributed.rendezvous import rendezvous

        try:
            span = timedelta(seconds=self.timeout)
            self._store, _, _ = next(rendezvous("env://", self.rank, self.world, timeout=span))
            self._store.set_timeout(span)
        except RuntimeError as error:
            raise PeerError(f"could not meet the other processes ({str(error).splitlines()[0]})") from None
        self._thread.start()

    def _tell(self) -> bool:
        """Tells the others that this process fails; whether it is the first to do so."""
        try:
            return self._store.add("failed", 1) == 1
        except RuntimeError:
            return True

    def _beat(self) -> None:
        """Signs of life, and whether the others give theirs."""
        others = [rank for rank in range(self.world) if rank != self.rank] if self.is_first else [0]
        seen = {rank: (0, time.monotonic()) for rank in others}
        while not self._ended.wait(_BEAT):
            try:
                self._store.add(f"alive/{self.rank}", 1)
                beats = {rank: self._store.add(f"alive/{rank}", 0) for rank in others}
            except RuntimeError:
                self._lost = "the first process"
                return
            now = time.monotonic()
            for rank, count in beats.items():
                if count != seen[rank][0]:
                    seen[rank] = count, now
                elif now - seen[rank][1] > self.timeout:
                    self._lost = f"process {rank}"
                    return

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Around what is asked of the store, which the first process or torchrun keeps."""
        try:
            yield
        except RuntimeError:
            raise PeerError(f"lost contact with the first process; {_KEPT}") from None

    def check(self) -> None:
        """Raises PeerError if another process has failed or is lost."""
        if self.world == 1:
            return
        with self._reaching():
            if self._lost is None and self._store.add("failed", 0):
                raise PeerError("another process failed", is_said=True)
        if self._lost is not None:
            raise PeerError(f"lost contact with {self._lost}; {_KEPT}")

    def first(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns on the first process (JSON), on all."""
        if self.world == 1:
            return work()
        self._turn += 1
        key = f"turn/{self._turn}"
        if self.is_first:
            answer = work()
            self._store.set(key, json.dumps(answer))
            return answer
        while True:
            with self._reaching():
                if self._store.check([key]):
                    return json.loads(self._store.get(key))
            self.check()
            time.sleep(_POLL)

    def _part(self, seconds: float) -> None:
        """The first process leaves last, if the others leave in time: the store may be its own."""
        deadline = time.monotonic() + seconds
        with suppress(RuntimeError):
            self._store.add("left", 1)
            while self.is_first and self._store.add("left", 0) < self.world and time.monotonic() < deadline:
                time.sleep(_POLL)
