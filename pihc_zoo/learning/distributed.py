"""Processes that train or tune together: what they tell each other, and how they end.

`torch.distributed` as it is, NCCL on GPUs and gloo on CPUs. With one process every method is the identity.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .meeting import Meeting
from .mesh import Mesh, Place

BACKENDS = ("gloo", "nccl")


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


class Processes(Meeting):
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

    Raises:
        ValueError: a device that does not exist, or that the backend does not connect.
    """

    def __init__(self, place: Place, mesh: Mesh, device: str = "cpu", backend: str | None = None, timeout: float = 600):
        super().__init__(place, timeout)
        self.mesh = mesh
        self.data_index, self.expert_index = divmod(place.rank, mesh.expert)
        self.team: Team | None = None
        self.payload: dict[str, int] = {}
        try:
            is_cuda = torch.device(device).type == "cuda"
        except RuntimeError as error:
            raise ValueError(f"cannot use device {device!r}: {str(error).splitlines()[0]}; use --device cpu") from None
        self.backend = backend or ("nccl" if is_cuda else "gloo")
        if self.backend == "nccl" and not is_cuda:
            raise ValueError(f"NCCL connects GPUs, and --device is {device}: choose --backend gloo, or --device cuda")
        self.device = f"cuda:{place.local_rank}" if is_cuda and place.world > 1 else device

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
            self._check_device()
            store = dist.PrefixStore("group", self._store)
            dist.init_process_group(self.backend, store=store, rank=place.rank, world_size=place.world, timeout=span)
            for first in range(0, self.world, self.mesh.expert) if self.mesh.expert > 1 else ():
                ranks = list(range(first, first + self.mesh.expert))
                group = dist.new_group(ranks, timeout=span)
                if place.rank in ranks:
                    self.team = Team(self, self.expert_index, self.mesh.expert, group)
            dist.barrier()

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
    def contact(self, name: str, payload: Tensor) -> Iterator[None]:
        """Around a collective: counts its bytes, turns its errors into `PeerLostError`."""
        self.payload[name] = self.payload.get(name, 0) + payload.numel() * payload.element_size()
        with self._contact("lost contact with another process"):
            yield

    def reduce(self, buffer: Tensor) -> None:
        """The sum over all processes, in place; the same bits everywhere."""
        if self.world > 1:
            with self.contact("all_reduce", buffer):
                dist.all_reduce(buffer)

    def total(self, part: Tensor) -> Tensor:
        """The sum over all processes of a part that each has; its gradient is that of the own part."""
        if self.world == 1:
            return part
        whole = part.detach().clone()
        self.reduce(whole)
        return part + (whole - part.detach())

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Adds up the gradients of all processes, in place; one that is not there counts as zero."""
        if self.world == 1:
            return
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        whole = torch.cat([p.grad.flatten() for p in parameters])
        self.reduce(whole)
        for p, own in zip(parameters, whole.split([p.numel() for p in parameters]), strict=True):
            p.grad.copy_(own.view_as(p))

    def share(self, count: int) -> slice:
        """Which of ``count`` things are done here."""
        own = self.mesh.share(count, self.data_index)
        return slice(own.start, own.stop)

    def look(self, values: Tensor) -> list[float]:
        """The numbers of a tensor; on a GPU no longer than the timeout."""
        if values.is_cuda and self.world > 1:
            event, begin = torch.cuda.Event(), time.monotonic()
            event.record()
            while not event.query():
                if time.monotonic() - begin > self.timeout:
                    raise self._silent("another process")
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

    def close(self) -> None:
        """After everything went well."""
        if self.world > 1:
            with self._contact("lost contact with another process"):
                dist.barrier()
            dist.destroy_process_group()
