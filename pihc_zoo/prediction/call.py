"""Checks of the differentiable call, ``model(u0)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ..problems.base import Problem
from ..solvers.implicit import refuse_transforms
from .request import by_axis, check_field, check_outputs, check_times


def check_call(
    problem: Problem, u0: Any, parameters: Any, times: Any, x: Any
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Positions of u0, times and output positions; the parameters' values are not looked at.

    Raises:
        ValueError: see `Surrogate.forward`.
    """
    axes = problem.output_space
    if not isinstance(u0, Tensor):
        raise ValueError(f"model(u0) takes a torch tensor, got {type(u0).__name__}; predict takes arrays as well")
    if u0.is_complex():
        raise ValueError(f"u0 must be real numbers, got the type {u0.dtype}; pass its real part")
    num_axes = len(axes) + problem.is_system
    if u0.dim() != 1 + num_axes or len(u0) == 0:
        one = "; add the batch axis: model(u0[None])" if u0.dim() == num_axes else ""
        expected = ", ".join(f"n_{name}" if axis.is_periodic else str(len(axis.nodes)) for name, axis in axes.items())
        expected += f", {len(problem.fields)}" if problem.is_system else ""
        raise ValueError(f"u0 must have the shape (batch, {expected}), got {tuple(u0.shape)}{one}")
    refuse_transforms(u0, *(parameters.values() if isinstance(parameters, dict) else ()))
    for name, value in {"times": times, **by_axis(x, "x", problem)}.items():
        if isinstance(value, Tensor) and value.requires_grad:
            raise ValueError(f"model(u0) has no gradient in {name}; pass {name}.detach()")
    points = check_field(problem, u0, {})
    outputs = check_outputs(problem, x, points)
    return points, check_times(problem, times), outputs


def check_options(batch_size: Any, estimate: Any, progress: Any) -> None:
    """Checks how ``predict`` is to compute.

    Raises:
        ValueError: a batch size that is no positive integer, or a switch that is neither True nor False.
    """
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
    for name, value in (("estimate", estimate), ("progress", progress)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def check_dtype(dtype: Any) -> np.dtype:
    """The dtype of answers, float64 where None is given.

    Raises:
        ValueError: other than float32 and float64.
    """
    name = "float64" if dtype is None else str(dtype).removeprefix("torch.")
    name = dtype.__name__ if isinstance(dtype, type) else name
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, of numpy or torch, got {dtype!r}")
    return np.dtype(name)
