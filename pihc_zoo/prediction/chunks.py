"""A request answered a few trajectories at a time: memory stays bounded, whatever the batch is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arrays import to_numpy
from ..discretisation import constants
from ..progress import progress
from .answer import Answer
from .predict import Inference

_CPU_CHUNKS = 8, 64  # trajectories per pass on a CPU, at least and at most
_CACHE = 2**24  # bytes of what a pass works on, about, which its caches hold
_CHUNK = 8192  # elsewhere, at most


class Chunks:
    """The passes of an inference.

    Args:
        inference: the request, put to a surrogate.
        batch_size: trajectories a pass at most; None: by the device and its free memory.
        u0: the request's initial conditions, where the caller gave a tensor.

    Attributes:
        u: (batch, time, *space) the answers, NaN where there is none: an array, or a tensor on the device of ``u0``.
    """

    def __init__(self, inference: Inference, batch_size: int | None = None, u0: Tensor | None = None):
        self.inference, self.batch_size, self.u0 = inference, batch_size, u0
        self.u: Any = None

    def answers(self, indices: np.ndarray, dtype: Any = np.float64, is_shown: bool = False) -> list[Answer]:
        """Those of the request's trajectories ``indices``, a few at a time; their values are in ``u``.

        Where a GPU has too little memory for so many, it is tried again with half of them.

        Args:
            dtype: of ``u``.
            is_shown: whether progress is.
        """
        shape = (len(self.inference.request.values), *self.inference.request.shape)
        is_partial = len(indices) < len(self.inference.request.values)
        if self.u0 is not None and self.u0.device.type != "cpu":
            own = torch.from_numpy(np.empty(0, dtype)).dtype
            self.u = torch.full(shape, torch.nan, dtype=own, device=self.u0.device)
        else:
            self.u = np.full(shape, np.nan, dtype) if is_partial else np.empty(shape, dtype)
        size = self.batch_size or self._default_size()
        parts = self._parts(indices, size)
        with constants():
            count = -(-len(indices) // size)
            return list(progress(parts, "predict", total=count, quiet=not is_shown, leave=False))

    def _parts(self, indices: np.ndarray, size: int) -> Iterator[Answer]:
        first = 0
        while first < len(indices):
            own = indices[first : first + size]
            c = {key: value if np.ndim(value) == 0 else value[own] for key, value in self.inference.request.c.items()}
            try:
                values, answer = self.inference.answer(self._given(own), c)
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
                values = answer = None
            if answer is None:  # here the exception holds no tensors any more
                size = -(-size // 2)
                self.inference.model.graphs.forget()
                torch.cuda.empty_cache()
                continue
            rows = slice(own[0], own[-1] + 1) if own[-1] - own[0] == len(own) - 1 else own
            self.u[rows] = values if isinstance(self.u, Tensor) else to_numpy(values)
            first += len(own)
            yield answer

    def _given(self, own: np.ndarray) -> Tensor:
        """Initial conditions of the trajectories ``own``, on the model's device."""
        device = self.inference.model.device
        if self.u0 is None or self.u0.device != device:
            return torch.as_tensor(self.inference.request.values[own], device=device)
        return self.u0.detach().double()[torch.as_tensor(own, device=device)]

    def _default_size(self) -> int:
        """Trajectories a pass: few enough for a CPU's cache, or for the free memory of a device."""
        model, inference = self.inference.model, self.inference
        nodes, features = int(np.prod(model.constraint.grid.shape)), len(model.problem.features)
        functions = getattr(model.network, "num_basis", 1) * inference.options["decomposition"].num_experts
        if model.device.type != "cuda":
            ansatz = model.constraint.ansatz
            numbers = nodes * (1 + ansatz.num_corrections) + int(np.prod(ansatz.basis_shape)) * functions
            return int(
                np.clip(_CACHE // (numbers * (features + 2) * model.constraint.precision.itemsize), *_CPU_CHUNKS)
            )
        numbers = nodes * (2 * features * functions + 32 * inference.num_windows)
        numbers += 3 * int(np.prod(inference.request.shape))
        free, _ = torch.cuda.mem_get_info(model.device)
        return int(np.clip(free // 2 // (8 * numbers), 1, _CHUNK))
