"""Tensors that outlive the call that makes them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Made = TypeVar("Made")


@contextmanager
def constants() -> Iterator[None]:
    """Within, tensors are ordinary ones without gradients, fit to be kept: also inside ``torch.inference_mode``."""
    with torch.inference_mode(False), torch.no_grad():  # the first one alone would turn gradients on
        yield


def kept(latest: dict[Hashable, Made], key: Hashable, make: Callable[[], Made], count: int = 8) -> Made:
    """``latest[key]``, made within `constants` where it is not there; the latest ``count`` are kept."""
    if key not in latest:
        while len(latest) >= count:
            latest.pop(next(iter(latest)))
        with constants():
            latest[key] = make()
    return latest[key]
