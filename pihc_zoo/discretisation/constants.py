"""Tensors that outlive the call that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def constants() -> Iterator[None]:
    """Within, tensors are ordinary ones without gradients, fit to be kept: also inside ``torch.inference_mode``."""
    with torch.inference_mode(False), torch.no_grad():  # the first one alone would turn gradients on
        yield
