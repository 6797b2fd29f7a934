"""Tensors that outlive the call that makes them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Made = TypeVar("Made")
_is_recorded = ContextVar("is_recorded", default=False)


@contextmanager
def constants() -> Iterator[None]:
    """Within, tensors are ordinary ones without gradients, fit to be kept: also inside ``torch.inference_mode``.

    Raises:
        RuntimeError: inside `no_new_constants`.
    """
    if _is_recorded.get():
        raise RuntimeError("a constant would be made of what is recorded, and does not exist before that runs")
    with torch.inference_mode(False), torch.no_grad():  # the first one alone would turn gradients on
        yield


@contextmanager
def no_new_constants() -> Iterator[None]:
    """Within, operations are recorded and do not run: what is made of them is not to be kept."""
    before = _is_recorded.set(True)
    try:
        yield
    finally:
        _is_recorded.reset(before)


def kept(latest: dict[Hashable, Made], key: Hashable, make: Callable[[], Made], count: int = 8) -> Made:
    """``latest[key]``, made within `constants` where it is not there; the latest ``count`` are kept."""
    if key not in latest:
        while len(latest) >= count:
            latest.pop(next(iter(latest)))
        with constants():
            latest[key] = make()
    return latest[key]
