"""An unknown initial field on periodic axes, from scattered readings and a smoothness prior.

    min over ξ of  ½ Σ ((y_i(u₀) − u_i)/σ_i)² + ½ ‖ξ‖²,    u₀ = S ξ

S filters white noise to a Gaussian field of a given deviation and correlation length, so that ξ is of order one and
the prior is a plain sum of squares. L-BFGS with gradients through the solves; the maximum a posteriori is returned.

Source: A. Stuart, "Inverse problems: a Bayesian perspective" (2010), doi:10.1017/S0962492910000061 (whitening);
J. Nocedal, S. Wright, "Numerical Optimization" (2006), 7.2.
"""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from scipy.optimize import minimize
from torch import Tensor

from ..text import number
from .correction import classical_values_of
from .measurements import Experiment
from .readings import Readings
from .unknowns import INITIAL
from .verdict import residual_faults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..prediction.prediction import Prediction

_LEAST_POINTS = 32  # per axis
_NEGLIGIBLE = 1e-3  # deviation of a mode over the largest
_TOLERANCE = 1e-6  # relative decrease of the objective
_START = 0.05  # of the prior
_NOTICED = 0.3  # sigma


class SmoothField:
    """ξ ↦ u₀: white noise on a periodic grid, filtered to the covariance s² exp(−d²/(2ℓ²)), periodically continued.

    Args:
        axes: periodic axes by name.
        length_scale: ℓ, in the axes' unit.
        deviation: s.
        has_mean: whether the mean is free; else it is zero.
        num_points: per axis; default: as many as the modes that matter need, at least 32.
    """

    def __init__(self, axes: dict[str, Any], length_scale: float, deviation: float, has_mean: bool, num_points=None):
        self.points, squares = {}, np.zeros(())
        for i, (name, axis) in enumerate(axes.items()):
            if num_points is None:
                cut = np.sqrt(-4 * np.log(_NEGLIGIBLE)) * axis.length / (2 * np.pi * length_scale)
                count = max(_LEAST_POINTS, 2 * int(np.ceil(cut)) + 2)
            else:
                count = num_points
            self.points[name] = axis.sized(count).nodes
            is_last = i == len(axes) - 1
            k = np.fft.rfftfreq(count, 1 / count) if is_last else np.fft.fftfreq(count, 1 / count)
            squares = squares[..., None] + (2 * np.pi * k / axis.length) ** 2
        self.shape = tuple(len(own) for own in self.points.values())
        variances = np.exp(-0.5 * squares * length_scale**2)
        if not has_mean:
            variances[(0,) * variances.ndim] = 0.0
        twice = np.full(variances.shape[-1], 2.0)  # modes of a real transform stand for two
        twice[0] = 1.0
        twice[-1] = 1.0 if self.shape[-1] % 2 == 0 else 2.0
        factor = deviation**2 * np.prod(self.shape) / (variances * twice).sum()
        self.filter = torch.as_tensor(np.sqrt(factor * variances))

    def __call__(self, xi: Tensor) -> Tensor:
        """(n,) ↦ (*space,)."""
        dims = tuple(range(len(self.shape)))
        modes = torch.fft.rfftn(xi.reshape(self.shape), dim=dims)
        return torch.fft.irfftn(modes * self.filter.to(xi.device), s=self.shape, dim=dims)


@dataclasses.dataclass
class Recovered:
    """What `recover` found: the field, the readings of it, and how.

    Attributes:
        u0: (*space,).
        fitted: (m,).
        objective: at the end.
        num_gradients: passes forwards and backwards.
        is_converged: whether the objective no longer falls.
    """

    u0: np.ndarray
    fitted: np.ndarray
    objective: float
    num_gradients: int
    is_converged: bool


def recover(
    readings: Callable[[Tensor], Tensor],
    field: SmoothField,
    target: np.ndarray,
    sigma: np.ndarray,
    max_steps: int = 100,
    seed: int = 0,
) -> Recovered:
    """The most probable field, for any differentiable solver.

    Args:
        readings: (*space,) ↦ (m,).
        field: the prior.
        target, sigma: (m,) data and their standard deviations.
        max_steps: of L-BFGS.
        seed: of the small noise that it starts from, since a field of zeros has no relative tolerances.
    """
    measured, weights = torch.as_tensor(target), torch.as_tensor(1 / sigma)
    count, last = 0, {}

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        xi = torch.as_tensor(values.copy()).requires_grad_()
        y = readings(field(xi)).cpu()
        total = 0.5 * ((y - measured) * weights).square().sum() + 0.5 * xi.square().sum()
        if not bool(torch.isfinite(total)):
            return 1e30, np.zeros_like(values)  # the line search comes back
        (gradient,) = torch.autograd.grad(total, xi)
        value = float(total.detach())
        last[value] = y.detach().numpy()
        return value, gradient.numpy()

    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "ftol": _TOLERANCE, "gtol": 1e-8, "maxcor": 20}
    start = _START * np.random.default_rng(seed).standard_normal(int(np.prod(field.shape)))
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    if found.fun >= 1e30:
        raise ValueError("the model has no answer for a weak random field: its solves fail")
    u0 = field(torch.as_tensor(found.x)).numpy()
    return Recovered(u0, last[float(found.fun)], float(found.fun), count, bool(found.success))


@dataclasses.dataclass(repr=False)
class FieldFit:
    """An initial field found from readings.

    Attributes:
        u0: (*space,) the most probable initial field, at ``points``.
        points: positions by axis name.
        sigma: (m,) of the readings.
        fitted: (m,) values of the fit at the readings.
        residual: (m,) fitted − measured over sigma.
        reduced_chi2: chi² over the number of readings; a field with many free modes leaves less than 1.
        surrogate_error: (m,) the surrogate's distance from the classical solver at the fit, over sigma.
        messages: all there is to say, reasons against the fit first.
        is_trustworthy: whether there is no such reason.
        num_gradients: passes of the surrogate forwards and backwards.
        seconds: it took.
    """

    u0: np.ndarray
    points: dict[str, np.ndarray]
    sigma: np.ndarray
    fitted: np.ndarray
    residual: np.ndarray
    reduced_chi2: float
    surrogate_error: np.ndarray
    messages: list[str]
    is_trustworthy: bool
    num_gradients: int
    seconds: float
    readings: Readings
    known: dict[str, float]

    def __repr__(self) -> str:
        return f"FieldFit({' x '.join(map(str, self.u0.shape))} from {len(self.fitted)} readings)"

    @cached_property
    def prediction(self) -> Prediction:
        """The surrogate's solution from the field."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return self.readings.model.predict(self.u0[None], parameters=self.known)

    def summary(self) -> str:
        """A few lines for people."""
        size = " x ".join(map(str, self.u0.shape))
        error = float(np.sqrt(np.mean(self.surrogate_error**2)))
        lines = [
            f"initial field on {size} points from {len(self.fitted)} readings, chi² per reading "
            f"{number(self.reduced_chi2)}; the surrogate is {number(error, 2)} sigma off the classical solver",
            f"{self.num_gradients} gradients in {self.seconds:.1f} s",
            "trustworthy" if self.is_trustworthy else "NOT trustworthy",
        ]
        return "\n".join(lines + [f"  - {message}" for message in self.messages])

    def plot(self, path: str | os.PathLike | None = None, truth: np.ndarray | None = None) -> Figure:
        """Draws the field with the sensors, beside the truth at the same points where it is known."""
        from .plot import plot_field

        return plot_field(self, path, truth)


def calibrate_field(
    model: Any,
    experiments: list[Experiment],
    names: list[str],
    known: dict[str, Any],
    *,
    length_scale: float | None = None,
    deviation: float | None = None,
    points: int | None = None,
    max_steps: int = 100,
    seed: int = 0,
) -> FieldFit:
    """Finds the initial field of one experiment on periodic axes.

    Args:
        model: a surrogate.
        experiments: one, with sigma.
        names: of the unknowns: "u0" alone.
        known: parameters.
        length_scale: correlation length of the prior, in the axes' unit; default a quarter of the first axis.
        deviation: standard deviation of the prior; default the readings' root mean square.
        points: per axis of the field's grid; default: as many as the prior needs.
        max_steps: of L-BFGS.
        seed: of the start.

    Raises:
        ValueError: further unknowns, several experiments, no sigma, or a prior of no size.
    """
    begin = time.perf_counter()
    axes = model.problem.output_space
    if names != [INITIAL]:
        raise ValueError("an initial field is found alone: make the parameters known, or u0")
    if len(experiments) != 1 or experiments[0].sigma is None:
        raise ValueError("an initial field is found from one experiment whose sigma is given")
    (experiment,) = experiments
    if not all(axis.is_periodic for axis in axes.values()):
        raise ValueError("an initial field is found on periodic axes only; elsewhere u0 is a constant initial value")
    length = next(iter(axes.values())).length
    length_scale = 0.25 * length if length_scale is None else float(length_scale)
    deviation = float(np.sqrt(np.mean(experiment.u**2))) if deviation is None else float(deviation)
    if not (length_scale > 0 and deviation > 0):
        raise ValueError(f"length_scale and deviation must be positive, got {length_scale:g} and {deviation:g}")
    has_mean = all(feature.laplacian >= 0 for feature in model.problem.features.values())
    field = SmoothField(axes, length_scale, deviation, has_mean, points)
    readings = Readings(model, experiments, [], known)
    c = model.tensors({key: torch.as_tensor(np.array(value)) for key, value in readings.known.items()})

    def values(u0: Tensor) -> Tensor:
        u0 = u0[None].to(model.device)
        start = [
            _at(model, u0, field.points, readings, j) if time == 0 else u0.new_zeros(())
            for j, time in enumerate(readings.t)
        ]
        return readings.of(model.at_nodes(u0, field.points), torch.stack(start)[None], c, 1)[0]

    found = recover(values, field, experiment.u, experiment.sigma, max_steps, seed)
    residual = (found.fitted - experiment.u) / experiment.sigma
    numbers = {key: float(np.ravel(value)[0]) for key, value in known.items()}
    classical = classical_values_of(readings, found.u0, field.points, numbers)
    error = (found.fitted - classical) / experiment.sigma
    faults, remarks = [], []
    if stats.chi2.sf(float(residual @ residual), len(residual)) < 1e-3:
        faults.append(f"residuals are larger than sigma explains: chi² per reading {number(np.mean(residual**2))}")
    faults += residual_faults(residual, {"t": readings.t, **readings.points}, readings.owner, 0, False)[0]
    if not found.is_converged:
        faults.append(f"not converged within {max_steps} steps; raise max_steps")
    if np.sqrt(np.mean(error**2)) > _NOTICED:
        faults.append(f"the surrogate errs by {number(np.sqrt(np.mean(error**2)), 2)} sigma at the readings")
    remarks.append("the most probable field only: intervals of a field are not computed")
    return FieldFit(
        u0=found.u0, points=field.points, sigma=experiment.sigma, fitted=found.fitted, residual=residual,
        reduced_chi2=float(np.mean(residual**2)), surrogate_error=error, messages=faults + remarks,
        is_trustworthy=not faults, num_gradients=found.num_gradients, seconds=time.perf_counter() - begin,
        readings=readings, known=numbers,
    )  # fmt: skip


def _at(model: Any, u0: Tensor, points: dict[str, np.ndarray], readings: Readings, j: int) -> Tensor:
    """The initial value at a reading's point."""
    target = {key: values[j : j + 1] for key, values in readings.points.items()}
    return model.positions.resampled(u0, points, target).reshape(())
