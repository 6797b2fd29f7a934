"""Processes that train together: what they tell each other, and how they end.

`torch.distributed` as it is, NCCL on GPUs and gloo on CPUs. With one process every method is the identity.
"""

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

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from pihc_zoo.learning.interruption import Signals, Terminated

from .mesh import Mesh, Place

BACKENDS = ("gloo", "nccl")
_PATIENCE = 3.0  # seconds that the others are given to end
_POLL = 0.02  # seconds between looks at the store
_KEPT = "what was saved before stays: run the same command again to continue"


class PeerLostError(OSError):
    """Another process ended, or cannot be reached."""


class Team:
    """Who shares the experts of one batch: `solvers.share.Group`."""

    def __init__(self, processes: Processes, index: int, size: int, group: Any):
        self.processes, self.index, self.size, self.group = processes, index, size, group

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all, concatenated in their order along the first dimension."""
        whole = part.new_empty(self.size * len(part), *part.shape[1:])
        with self.processes.contact("all_gather", part):
            dist.all_gather(list(whole.split(len(part))), part.contiguous(), group=self.group)
        return whole

    def reduce(self, value: Tensor) -> Tensor:
        """The sum over all."""
        value = value.clone()
        with self.processes.contact("all_reduce", value):
            dist.all_reduce(value, group=self.group)
        return value


class Processes:
    """The processes of a run.

    Args:
        place: which of them this is.
        mesh: how they share the work.
        device: of this process.
        backend: "gloo" or "nccl".
        timeout: seconds after which a peer that does not answer is lost.

    Attributes:
        team: who shares the experts of this process' batch; None alone.
        payload: bytes handed to each collective so far, by its name.
        waited: seconds spent in collectives; on a GPU those to start them.

    Raises:
        ValueError: a device that does not exist, or that the backend does not connect.
    """

    def __init__(self, place: Place, mesh: Mesh, device: str = "cpu", backend: str | None = None, timeout: float = 600):
        self.place, self.mesh, self.timeout = place, mesh, timeout
        self.signals: Signals | None = None
        self.data_index, self.expert_index = divmod(place.rank, mesh.expert)
        self.team: Team | None = None
        self.payload: dict[str, int] = {}
        self.waited = 0.0
        self._turn = 0
        self._store: Any = None  # of this attempt
        self._agent: Any = None  # of all attempts: torchrun's
        self._spoken_key = ""
        try:
            is_cuda = torch.device(device).type == "cuda"
        except RuntimeError as error:
            raise ValueError(f"cannot use device {device!r}: {str(error).splitlines()[0]}; use --device cpu") from None
        self.backend = backend or ("nccl" if is_cuda else "gloo")
        if self.backend == "nccl" and not is_cuda:
            raise ValueError(f"NCCL connects GPUs, and --device is {device}: choose --backend gloo, or --device cuda")
        self.device = f"cuda:{place.local_rank}" if is_cuda and place.world > 1 else device

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.place.world

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, logs and speaks."""
        return self.place.rank == 0

    def connect(self) -> None:
        """Meets the others.

        Raises:
            ValueError: no such device here.
            PeerLostError: the others do not come within the timeout.
        """
        place, span = self.place, timedelta(seconds=self.timeout)
        if place.world == 1:
            return self._check_device()
        with self._contact("could not meet the other processes"):
            self._meet(span)
            store = self._store
            self._check_device()
            dist.init_process_group(self.backend, store=store, rank=place.rank, world_size=place.world, timeout=span)
            for first in range(0, self.world, self.mesh.expert) if self.mesh.expert > 1 else ():
                ranks = list(range(first, first + self.mesh.expert))
                group = dist.new_group(ranks, timeout=span)
                if place.rank in ranks:
                    self.team = Team(self, self.expert_index, self.mesh.expert, group)
            dist.barrier()

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

    def _check_device(self) -> None:
        if torch.device(self.device).type != "cuda":
            return
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"cannot use device {self.device!r}: there is no CUDA device; use --device cpu")
        if self.place.local_world > count and self.world > 1:
            raise ValueError(
                f"{self.place.local_world} processes on this machine and {count} GPU{'s' if count > 1 else ''}: start "
                f"torchrun with --nproc-per-node {count}"
            )
        torch.cuda.set_device(self.device)

    # ------------------------------------------------------------------ collectives

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

    @contextmanager
    def contact(self, name: str, payload: Tensor) -> Iterator[None]:
        """Around a collective: counts its bytes, turns its errors into `PeerLostError`."""
        self.payload[name] = self.payload.get(name, 0) + payload.numel() * payload.element_size()
        with self._contact("lost contact with another process"):
            yield

    def _silent(self, who: str) -> PeerLostError:
        return PeerLostError(f"lost contact with {who} (no sign for {self.timeout:g} s); {_KEPT}")

    def reduce(self, buffer: Tensor) -> None:
        """The sum over all processes, in place; the same bits everywhere."""
        if self.world > 1:
            with self.contact("all_reduce", buffer):
                dist.all_reduce(buffer)

    def look(self, values: Tensor) -> list[float]:
        """The numbers of a tensor; on a GPU no longer than the timeout."""
        if values.is_cuda and self.world > 1:
            event, begin = torch.cuda.Event(), time.monotonic()
            event.record()
            while not event.query():
                if time.monotonic() - begin > self.timeout:
                    raise PeerLostError(
                        f"lost contact with another process (no answer for {self.timeout:g} s); {_KEPT}"
                    )
                time.sleep(1e-4)
        return values.tolist()

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Makes everybody's tensors the first process', in place."""
        if self.world == 1:
            return
        for tensor in tensors:
            own = tensor.detach() if tensor.is_contiguous() and self._speaks(tensor) else self._spoken(tensor)
            with self.contact("broadcast", own):
                dist.broadcast(own, 0)
            if own.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(own)

    def _speaks(self, tensor: Tensor) -> bool:
        return self.backend == "gloo" or tensor.is_cuda

    def _spoken(self, tensor: Tensor) -> Tensor:
        """A contiguous tensor on the device that the backend takes."""
        return tensor.detach().to("cpu" if self.backend == "gloo" else self.device).contiguous()

    def gather_places(self, part: Tensor, batch: int) -> Tensor:
        """Rows of own places ↦ rows of all ``batch`` places on the first process; elsewhere the own ones."""
        if self.world == 1:
            return part
        if not self.is_first:
            if self.expert_index == 0:
                with self.contact("send", part):
                    dist.send(self._spoken(part), 0)
            return part
        parts = [part]
        for index in range(1, self.mesh.data):
            count = len(self.mesh.share(batch, index))
            other = self._spoken(part.new_empty(count, *part.shape[1:]))
            with self.contact("receive", other):
                dist.recv(other, index * self.mesh.expert)
            parts.append(other.to(part))
        return torch.cat(parts)

    def scatter_places(self, whole: Tensor | None, own: Tensor, batch: int) -> None:
        """The inverse of `gather_places`: rows of all places, on the first process, into ``own`` of each."""
        if self.world == 1 or self.is_first:
            rows = self.mesh.share(batch, self.data_index)
            own.copy_(whole[rows.start : rows.stop])
        if self.world == 1:
            return
        if not self.is_first:
            part = self._spoken(own)
            with self.contact("receive", part):
                dist.recv(part, 0)
            own.copy_(part)
            return
        for rank in range(1, self.world):
            rows = self.mesh.share(batch, rank // self.mesh.expert)
            part = self._spoken(whole[rows.start : rows.stop].to(own.dtype))
            with self.contact("send", part):
                dist.send(part, rank)

    # ------------------------------------------------------------------ words

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
                        raise PeerLostError(
                            f"lost contact with the first process (no sign for {self.timeout:g} s); {_KEPT}"
                        )
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

    def close(self) -> None:
        """After everything went well."""
        if self.world > 1:
            with self._contact("lost contact with another process"):
                dist.barrier()
            dist.destroy_process_group()

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
