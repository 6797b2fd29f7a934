"""Functions of tensors that are recorded once and played again: CUDA graphs.

A pass of a surrogate is thousands of small operations that wait for nothing, so on a GPU launching them costs more
than they do. A CUDA graph launches all of them as one. Its operations are bound to addresses: inputs are copied to
where they were when it was recorded, results are copied out, and what it reads besides is kept alive. Weights that
change in place are seen. What cannot be recorded is computed as ever, with the same answers.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .discretisation import no_new_constants

MOST = 16  # functions that are remembered, by their shapes and settings
_CALLED_ONCE, _REFUSED = "called once", "refused"
_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass
class Recording:
    """A function as it was recorded.

    Attributes:
        inputs: where it reads its arguments.
        outputs: tensors that it writes, in what the function gave.
        play: computes ``outputs`` from ``inputs``.
        held: what it reads besides, and what must live as long as it.
    """

    inputs: tuple[Tensor, ...]
    outputs: Any
    play: Callable[[], None]
    held: Any = None

    def __call__(self, inputs: tuple[Tensor, ...]) -> Any:
        """Tensors of their own."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.play()
        return changed(self.outputs, torch.clone)


class Recorder(Protocol):
    """Records functions of tensors."""

    def can(self, inputs: tuple[Tensor, ...]) -> bool:
        """Whether it can where ``inputs`` are."""
        ...

    def __call__(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Recording:
        """The recorded function.

        Raises:
            RuntimeError: it does what cannot be recorded.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs. Their memory is one pool, since results are copied out before the next one is played."""

    def __init__(self) -> None:
        self._places: dict[torch.device, tuple[torch.cuda.Stream, Any]] = {}
        self._failed: list[torch.cuda.CUDAGraph] = []  # the allocator asks them whether they still record

    def can(self, inputs: tuple[Tensor, ...]) -> bool:
        """On a GPU, on its default stream: on several ones graphs could overlap."""
        device = inputs[0].device
        if device.type != "cuda" or torch.compiler.is_exporting():
            return False
        return torch.cuda.current_stream(device) == torch.cuda.default_stream(device)

    def __call__(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Recording:
        device = inputs[0].device
        if device not in self._places:
            self._places[device] = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        stream, pool = self._places[device]
        graph, own = torch.cuda.CUDAGraph(), tuple(value.clone() for value in inputs)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.device(device), torch.cuda.stream(stream):
            function(*own)  # handles, workspaces and constants are made here
            try:
                with (
                    no_new_constants(),
                    Reads() as reads,
                    torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
                ):
                    outputs = function(*own)
            except BaseException:
                self._failed.append(graph)
                raise
        torch.cuda.current_stream(device).wait_stream(stream)
        return Recording(own, outputs, graph.replay, (graph, reads.storages))


class Reads(TorchDispatchMode):
    """Within, keeps what operations read and have not written themselves.

    Attributes:
        storages: these by their address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, torch.UntypedStorage] = {}
        self._written: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        for value in tree_leaves((arguments, options)):
            if isinstance(value, Tensor) and (storage := value.untyped_storage()).data_ptr() not in self._written:
                self.storages[storage.data_ptr()] = storage
        result = function(*arguments, **(options or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and (address := value.untyped_storage().data_ptr()) not in self.storages:
                self._written.add(address)
        return result


class Graphs:
    """Calls functions of tensors, from the second call with the same shapes and settings on by what was recorded.

    Args:
        recorder: default: CUDA graphs.

    Attributes:
        is_on: whether anything is recorded.
    """

    def __init__(self, recorder: Recorder | None = None):
        self.recorder: Recorder = CudaRecorder() if recorder is None else recorder
        self.is_on = True
        self._known: OrderedDict[Hashable, Recording | str] = OrderedDict()
        self._weights: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def __reduce__(self):  # copies record anew
        return _again, (type(self), self.is_on)

    def __call__(
        self, key: Hashable, weights: Iterable[Tensor], function: Callable[..., Any], inputs: tuple[Tensor, ...]
    ) -> Any:
        """``function(*inputs)``, without gradients.

        Args:
            key: all that the function depends on besides.
            weights: tensors that it reads; what was recorded is forgotten when one is replaced by another.
        """
        if not self.is_on or not self.recorder.can(inputs):
            return function(*inputs)
        key = key, tuple((value.shape, value.dtype, value.device) for value in inputs)
        with self._lock:
            addresses = tuple(value.data_ptr() for value in weights)
            if addresses != self._weights:
                self._forget()
                self._weights = addresses
            known = self._known.pop(key, None)
            if known == _CALLED_ONCE:
                known = self._recorded(function, inputs)
            self._known[key] = _CALLED_ONCE if known is None else known
            while len(self._known) > MOST:
                self._known.popitem(last=False)
            if isinstance(known, Recording):
                return known(inputs)
        return function(*inputs)

    def _recorded(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Recording | str:
        try:
            with torch.no_grad():
                return self.recorder(function, inputs)
        except RuntimeError as error:
            if _REFUSED not in self._known.values():
                _LOGGER.debug("a pass is not recorded as a CUDA graph: %s", str(error).partition("\n")[0])
            return _REFUSED

    def forget(self) -> None:
        """Drops what was recorded, and its memory."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._known and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # nothing that is dropped is still being played
        self._known.clear()


def _again(kind: type[Graphs], is_on: bool) -> Graphs:
    graphs = kind()
    graphs.is_on = is_on
    return graphs


def changed(value: Any, change: Callable[[Tensor], Tensor], done: dict[int, Tensor] | None = None) -> Any:
    """Any nest of dataclasses, dicts, lists and tuples with its tensors changed, each once; all else as it is."""
    done = {} if done is None else done
    if isinstance(value, Tensor):
        if id(value) not in done:
            done[id(value)] = change(value)
        return done[id(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {own.name: changed(getattr(value, own.name), change, done) for own in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    if isinstance(value, dict):
        return {key: changed(own, change, done) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(changed(own, change, done) for own in value)
    return value
