"""The most probable smooth periodic field, given readings of what a differentiable solver makes of it.

    min over ξ of  ½ Σ ((y_i(u₀) − u_i)/σ_i)² + ½ ‖ξ‖²,    u₀ = Σ_k ξ_k b_k

b_k are the waves of a periodic Gaussian field times their deviations, so that ξ is standard normal: the prior is a
plain sum of squares. Levenberg–Marquardt with all columns of the Jacobian in a batch: row k of it solves for the
same field, and its reverse pass is differentiated once more for ∂/∂ξ_k alone (see `readings`). The inverse of the
last normal matrix is the field's covariance, to first order.

Source: A. Stuart, "Inverse problems: a Bayesian perspective" (2010), doi:10.1017/S0962492910000061; J. Nocedal,
S. Wright, "Numerical Optimization" (2006), 10.3.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import ive
from torch import Tensor

_LEAST_POINTS = 32  # per axis
_NEGLIGIBLE = 1e-3  # deviation of a wave over the largest
_MOST_WAVES = 400
_DECREASE = 0.02  # of the objective: a smaller one changes nothing that the data can tell
_START = 0.05  # of the prior
_ROWS = 16  # of a pass on a CPU


class SmoothField:
    """ξ ↦ u₀ = Σ_k ξ_k b_k, the Gaussian process of `pihc_zoo.families.PeriodicGaussianProcess`.

    Args:
        axes: periodic axes by name.
        length_scale: l of that family, dimensionless; short distances correlate over l/π periods.
        deviation: standard deviation of the values.
        has_mean: whether the mean is free; else it is zero.
        num_points: per axis; default: as many as the waves need, at least 32.

    Attributes:
        points: positions by axis name.
        waves: (p, *space) the b_k.

    Raises:
        ValueError: more waves than are solved for.
    """

    def __init__(self, axes: dict[str, Any], length_scale: float, deviation: float, has_mean: bool, num_points=None):
        lengths = np.array([axis.length for axis in axes.values()])
        shape = 1 / (4 * length_scale**2)
        own = ive(np.arange(_MOST_WAVES), shape)  # variances of the waves of one axis
        highest = int(np.flatnonzero(own > _NEGLIGIBLE**2 * own[:2].max())[-1])
        every = itertools.product(range(-highest, highest + 1), repeat=len(axes))
        variance = {k: float(np.prod(own[np.abs(k)])) for k in every if k > (0,) * len(k)}
        half = [k for k, value in variance.items() if value > _NEGLIGIBLE**2 * max(variance.values())]
        if 2 * len(half) > _MOST_WAVES:
            raise ValueError(
                f"length_scale {length_scale:g} leaves {2 * len(half)} waves free, at most {_MOST_WAVES} are solved "
                "for; take a longer one"
            )
        counts = [num_points or max(_LEAST_POINTS, 2 * highest + 2)] * len(axes)
        nodes = [axis.sized(count).nodes for axis, count in zip(axes.values(), counts, strict=True)]
        self.points = dict(zip(axes, nodes, strict=True))
        grid = np.meshgrid(*nodes, indexing="ij")
        waves, variances = [], []
        for k in half:
            angular = 2 * np.pi * np.array(k) / lengths
            phase = sum(a * x for a, x in zip(angular, grid, strict=True))
            waves += [np.sqrt(2) * np.cos(phase), np.sqrt(2) * np.sin(phase)]
            variances += [variance[k]] * 2
        if has_mean or not half:
            waves.append(np.ones_like(grid[0]))
            variances.append(float(own[0] ** len(axes)))
        scale = deviation * np.sqrt(np.array(variances) / np.sum(variances))
        self.waves = torch.as_tensor(np.stack(waves) * scale.reshape(-1, *[1] * len(nodes)))

    def __call__(self, xi: Tensor) -> Tensor:
        """(rows, p) ↦ (rows, *space)."""
        return torch.tensordot(xi, self.waves, dims=1)


@dataclasses.dataclass
class Recovered:
    """What `recover` found.

    Attributes:
        u0, standard_error: (*space,) the most probable field and its standard error.
        fitted: (m,) readings of it.
        num_free: how many numbers the readings determine: the trace of the resolution matrix.
        steps: Jacobians that were computed.
        is_converged: whether the objective no longer falls.
    """

    u0: np.ndarray
    standard_error: np.ndarray
    fitted: np.ndarray
    num_free: float
    steps: int
    is_converged: bool


def recover(
    readings: Callable[[Tensor], Tensor],
    field: SmoothField,
    target: np.ndarray,
    sigma: np.ndarray,
    max_steps: int = 30,
    seed: int = 0,
) -> Recovered:
    """The most probable field, for any solver that is differentiable twice.

    Args:
        readings: (rows, *space) ↦ (rows, m), row by row.
        field: the prior.
        target, sigma: (m,) data and their standard deviations.
        max_steps: Jacobians at most.
        seed: of the weak random field that it starts from; one of zeros has no relative tolerances.

    Raises:
        ValueError: no readings at the start.
    """
    xi = _START * np.random.default_rng(seed).standard_normal(len(field.waves))
    damping, steps, is_converged = 1.0, 0, False
    values, jacobian = _columns(readings, field, xi)
    if not np.isfinite(values).all():
        raise ValueError("the model has no answer for a weak random field: its solves fail")
    steps += 1
    while True:
        residual, weighted = (values - target) / sigma, jacobian / sigma[:, None]
        normal = weighted.T @ weighted + np.eye(len(xi))
        gradient = weighted.T @ residual + xi
        objective = 0.5 * float(residual @ residual + xi @ xi)
        while True:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
            expected = -float(gradient @ step) - 0.5 * float(step @ normal @ step)
            if (expected <= _DECREASE and damping < 1e-2) or damping > 1e8:
                is_converged = damping <= 1e8
                break
            with torch.no_grad():
                trial = readings(field(torch.as_tensor(xi + step)[None]))[0].cpu().numpy()
            new = 0.5 * float(np.sum(((trial - target) / sigma) ** 2) + np.sum((xi + step) ** 2))
            if np.isfinite(new) and new < objective:
                damping = max(1e-6, 0.2 * damping)
                break
            damping *= 4
        if is_converged or damping > 1e8 or steps >= max_steps:
            break
        xi = xi + step
        values, jacobian = _columns(readings, field, xi)
        steps += 1
    covariance = np.linalg.inv(normal)
    waves = field.waves.numpy().reshape(len(xi), -1)
    spread = np.sqrt(np.einsum("ks,kl,ls->s", waves, covariance, waves, optimize=True))
    shape = field.waves.shape[1:]
    num_free = float(np.sum(covariance * (weighted.T @ weighted)))
    return Recovered((xi @ waves).reshape(shape), spread.reshape(shape), values, num_free, steps, is_converged)


def _columns(readings, field: SmoothField, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m,) readings and (m, p) their Jacobian; row k of a pass gives column k."""
    count, columns = len(xi), []
    for first in range(0, count, _ROWS):
        own = torch.arange(first, min(first + _ROWS, count))
        rows = torch.as_tensor(xi).expand(len(own), -1).clone().requires_grad_()
        y = readings(field(rows))
        v = torch.zeros_like(y, requires_grad=True)
        (g,) = torch.autograd.grad(y, rows, v, create_graph=True)
        (column,) = torch.autograd.grad(g[torch.arange(len(own)), own].sum(), v)
        columns.append(column.cpu().numpy())
    return y[0].detach().cpu().numpy(), np.concatenate(columns).T
