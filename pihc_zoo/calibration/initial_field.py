"""An unknown initial field on periodic axes, from scattered readings and a smoothness prior: see `smooth_field`."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ..text import number
from .correction import classical_values_of
from .measurements import Experiment
from .readings import Readings
from .smooth_field import SmoothField, recover
from .unknowns import INITIAL
from .verdict import residual_faults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..prediction.prediction import Prediction

_NOTICED = 0.3  # sigma


@dataclasses.dataclass(repr=False)
class FieldFit:
    """An initial field found from readings.

    Attributes:
        u0: (*space,) the most probable initial field, at ``points``.
        standard_error: (*space,) of it, to first order; the prior's where no reading tells.
        points: positions by axis name.
        sigma: (m,) of the readings.
        fitted: (m,) values of the fit at the readings.
        residual: (m,) fitted − measured over sigma.
        num_free: how many numbers the readings determine of the field.
        reduced_chi2: chi² over the number of readings less those; about 1.
        surrogate_error: (m,) the surrogate's distance from the classical solver at the fit, over sigma.
        messages: all there is to say, reasons against the fit first.
        is_trustworthy: whether there is no such reason.
        num_jacobians: that the surrogate made.
        seconds: it took.
    """

    u0: np.ndarray
    standard_error: np.ndarray
    points: dict[str, np.ndarray]
    sigma: np.ndarray
    fitted: np.ndarray
    residual: np.ndarray
    num_free: float
    reduced_chi2: float
    surrogate_error: np.ndarray
    messages: list[str]
    is_trustworthy: bool
    num_jacobians: int
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
            f"initial field on {size} points from {len(self.fitted)} readings, which determine "
            f"{number(self.num_free)} numbers of it",
            f"reduced chi² {number(self.reduced_chi2)}; the surrogate is {number(error, 2)} sigma off the classical "
            "solver",
            f"{self.num_jacobians} Jacobians in {self.seconds:.1f} s",
            "trustworthy" if self.is_trustworthy else "NOT trustworthy",
        ]
        return "\n".join(lines + [f"  - {message}" for message in self.messages])

    def plot(self, path: str | os.PathLike | None = None, truth: np.ndarray | None = None) -> Figure:
        """Draws the field with the sensors, beside the truth at the same points where it is known."""
        from .field_plot import plot_field

        return plot_field(self, path, truth)


def calibrate_field(
    model: Any,
    experiments: list[Experiment],
    names: list[str],
    known: dict[str, Any],
    *,
    length_scale: float = 0.8,
    deviation: float | None = None,
    points: int | None = None,
    max_steps: int = 30,
    seed: int = 0,
) -> FieldFit:
    """Finds the initial field of one experiment on periodic axes.

    Args:
        model: a surrogate.
        experiments: one, with sigma.
        names: of the unknowns: "u0" alone.
        known: parameters.
        length_scale: of the prior, see `SmoothField`.
        deviation: standard deviation of the prior; default the readings' root mean square.
        points: per axis of the field's grid; default: as many as the prior needs.
        max_steps: Jacobians at most.
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
    deviation = float(np.sqrt(np.mean(experiment.u**2))) if deviation is None else float(deviation)
    if not (length_scale > 0 and deviation > 0):
        raise ValueError(f"length_scale and deviation must be positive, got {length_scale:g} and {deviation:g}")
    has_mean = not model.problem.zero_mean_fields
    field = SmoothField(axes, length_scale, deviation, has_mean, points)
    readings = Readings(model, experiments, [], known)
    c = model.tensors({key: torch.as_tensor(np.array(value)) for key, value in readings.known.items()})

    def values(u0: Tensor) -> Tensor:
        u0 = u0.to(model.device)
        own = {key: value.expand(len(u0)) for key, value in c.items()}
        return readings.of(model.at_nodes(u0, field.points), _at_start(readings, u0, field.points), own, len(u0))

    found = recover(values, field, experiment.u, experiment.sigma, max_steps, seed)
    residual = (found.fitted - experiment.u) / experiment.sigma
    numbers = {key: float(np.ravel(value)[0]) for key, value in known.items()}
    classical = classical_values_of(readings, found.u0, field.points, numbers)
    error = (found.fitted - classical) / experiment.sigma
    faults = []
    dof = max(len(residual) - found.num_free, 1.0)
    reduced = float(residual @ residual) / dof
    if stats.chi2.sf(reduced * dof, dof) < 1e-3:
        faults.append(
            f"residuals are larger than sigma explains: reduced chi² {number(reduced)}, and noise has about 1"
        )
    faults += residual_faults(residual, {"t": readings.t, **readings.points}, readings.owner, 0, False)[0]
    if not found.is_converged:
        faults.append(f"not converged within {max_steps} steps; raise max_steps")
    if np.sqrt(np.mean(error**2)) > _NOTICED:
        faults.append(f"the surrogate errs by {number(np.sqrt(np.mean(error**2)), 2)} sigma at the readings")
    return FieldFit(
        u0=found.u0,
        standard_error=found.standard_error,
        points=field.points,
        sigma=experiment.sigma,
        fitted=found.fitted,
        residual=residual,
        num_free=found.num_free,
        reduced_chi2=reduced,
        surrogate_error=error,
        messages=faults,
        is_trustworthy=not faults,
        num_jacobians=found.steps,
        seconds=time.perf_counter() - begin,
        readings=readings,
        known=numbers,
    )


def _at_start(readings: Readings, u0: Tensor, points: dict[str, np.ndarray]) -> Tensor:
    """(rows, m) initial values at the points of readings at t = 0; zero elsewhere."""
    values = [u0.new_zeros(len(u0))] * len(readings.t)
    for j in np.flatnonzero(readings.t == 0):
        target = {key: own[j : j + 1] for key, own in readings.points.items()}
        values[j] = readings.model.positions.resampled(u0, points, target).reshape(len(u0))
    return torch.stack(values, dim=1)
