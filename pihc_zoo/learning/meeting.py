"""How processes meet, agree and part: words through a store, beside the numbers of `learning.distributed`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from .interruption import Signals, Terminated
from .mesh import Place

_PATIENCE = 3.0  # seconds that the others are given to end
_POLL = 0.02  # seconds between looks at the store
_KEPT = "what was saved before stays: run the same command again to continue"


class PeerLostError(OSError):
    """Another process ended, or cannot be reached."""


class Meeting:
    """Processes that know each other's words.

    Args:
        place: which of them this is.
        timeout: seconds after which a peer that does not answer is lost.

    Attributes:
        signals: those noted by a loop, which end a wait.
        waited: seconds spent waiting for others; on a GPU those to start collectives.
    """

    def __init__(self, place: Place, timeout: float):
        self.place, self.timeout = place, timeout
        self.signals: Signals | None = None
        self.waited = 0.0
        self._turn = 0
        self._store: Any = None  # of this attempt
        self._agent: Any = None  # of all attempts: torchrun's
        self._spoken_key = ""

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.place.world

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, logs and speaks."""
        return self.place.rank == 0

    def _meet(self, span: timedelta) -> None:
        """Opens a store of this attempt: torchrun's own still holds what an attempt before it wrote."""
        host, rank = os.environ["MASTER_ADDR"], self.place.rank
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            self._store, _, _ = next(rendezvous("env://", rank, self.world, timeout=span))
            self._agent = self._store
        else:
            self._agent = dist.TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False, timeout=span)
            if rank == 0:
                self._store = dist.TCPStore(host, 0, is_master=True, timeout=span, wait_for_workers=False)
                self._agent.set("training/port", str(self._store.port))
            deadline = time.monotonic() + self.timeout
            while self._store is None:
                port = int(self._agent.get("training/port"))
                try:
                    self._store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=1))
                except RuntimeError:  # the port of an attempt before
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_POLL)
        self._store.set_timeout(span)
        self._spoken_key = f"training/spoken/{self._store.port if hasattr(self._store, 'port') else 0}"

    @contextmanager
    def _contact(self, what: str) -> Iterator[None]:
        """Turns the errors of torch.distributed into `PeerLostError`."""
        begin = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            said = re.sub(r"^\[\S*\]\s*", "", str(error)).split(". ")[0].strip() or type(error).__name__
            raise PeerLostError(f"{what} ({said.splitlines()[0]}); {_KEPT}") from None
        finally:
            self.waited += time.monotonic() - begin

    def _silent(self, who: str) -> PeerLostError:
        return PeerLostError(f"lost contact with {who} (no sign for {self.timeout:g} s); {_KEPT}")

    def first(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns on the first process (JSON), for all; its errors are everybody's.

        The others wait as long as it takes, while the first one shows that it lives.
        """
        if self.world == 1:
            return work()
        self._turn += 1
        key = f"turn/{self._turn}"
        if not self.is_first:
            return self._wait(key)
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.timeout / 8):
                self._store.add(f"{key}/alive", 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            answer = {"value": work()}
        except BaseException as error:
            answer = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
            raise
        finally:
            ended.set()
            thread.join()
            with self._contact("lost contact with the other processes"):
                self._store.set(key, json.dumps(answer))
        return answer["value"]

    def _wait(self, key: str) -> Any:
        alive, since, looked = 0, time.monotonic(), 0.0
        with self._contact("lost contact with the first process"):
            while not self._store.check([key]):
                if self.signals is not None and self.signals.has_come:
                    self.signals.raise_first()
                now = time.monotonic()
                if now - looked > self.timeout / 8:
                    beats, looked = self._store.add(f"{key}/alive", 0), now
                    if beats != alive:
                        alive, since = beats, now
                    if now - since > self.timeout:
                        raise self._silent("the first process")
                time.sleep(_POLL)
            answer = json.loads(self._store.get(key))
        if "error" not in answer:
            return answer["value"]
        kinds = {"KeyboardInterrupt": KeyboardInterrupt, "Terminated": Terminated, "OSError": OSError}
        kinds |= {"PeerLostError": PeerLostError, "FloatingPointError": FloatingPointError}
        raise kinds.get(answer["kind"], ValueError)(answer["error"])

    def agree(self, name: str, value: Any) -> None:
        """Refuses processes that hold something else than the first.

        Raises:
            ValueError: on those that do.
        """
        if self.world == 1:
            return
        digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
        first = self.first(lambda: digest)
        if first != digest:
            raise ValueError(
                f"process {self.place.rank} has {name} other than process 0; give all the same command and version"
            )

    def speaks(self) -> bool:
        """Whether this process says why all of them end: whoever knows first."""
        if self.world == 1:
            return True
        if self._store is None:
            return self.is_first
        try:
            return self._agent.add(self._spoken_key, 1) == 1
        except RuntimeError:  # the first process, which held the store, is gone
            return self.place.rank <= 1

    def leave(self, code: int) -> None:
        """Ends this process at once: after an error peers may never answer, and nothing here is left to be done.

        Who holds the store lets the others see first that the reason is said.
        """
        if self.is_first and self._agent is not None and self._agent is self._store:
            with suppress(RuntimeError):
                dist.destroy_process_group()
                deadline = time.monotonic() + _PATIENCE
                while self._agent.add(self._spoken_key, 0) < self.world and time.monotonic() < deadline:
                    time.sleep(_POLL)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
