"""`Fit`: what `pz.calibrate` returns."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import write_text
from ..text import number, percent
from .correction import initial_of, parameters_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..prediction.prediction import Prediction
    from .posterior import Posterior
    from .readings import Readings


@dataclasses.dataclass(repr=False)
class Fit:
    """Unknowns found from measurements, with their intervals and whether to believe them.

    Arrays over readings, (m,), hold those of all experiments, one after the other.

    Attributes:
        parameters: value by name of unknown, in its own unit.
        interval: (low, high) by name, at ``level``; the whole range of the model where it is not determined.
        standard_error: by name, of linear theory; NaN where that goes beyond the model's range.
        covariance: (p, p) of the values, in the order of ``parameters``; NaN where the standard error is, 0 at a bound.
        level: probability of the intervals.
        interval_method: "covariance", or "profile" (likelihood).
        nonlinearity: by what factor chi² at the covariance's ends is off the linear theory; 1 in a linear problem,
            NaN where it was not looked at.
        is_determined: by name, whether the data tell more of it than the model's range does.
        reduced_chi2: chi² over degrees of freedom; about 1. NaN where sigma was estimated or none is left.
        dof: degrees of freedom, m − p.
        sigma: (m,) standard deviations, given or estimated.
        has_sigma: whether they were given.
        fitted: (m,) values of the fit at the readings.
        residual: (m,) fitted − measured over sigma.
        surrogate_error: (m,) the surrogate's estimated error at the readings over sigma.
        surrogate_shift: by name, by how many standard errors that error moves the value, estimated.
        surrogate_parameters: by name, the surrogate's own optimum where the classical solver polished it; else None.
        minima: of every descent from a start, the values by name and "chi2", the best first.
        messages: all there is to say, the reasons against the fit first.
        is_trustworthy: whether there is no such reason.
        num_solves, num_classical: trajectories solved by the surrogate and by the classical solver.
        seconds: it took.
    """

    parameters: dict[str, float]
    interval: dict[str, tuple[float, float]]
    standard_error: dict[str, float]
    covariance: np.ndarray
    level: float
    interval_method: str
    nonlinearity: float
    is_determined: dict[str, bool]
    reduced_chi2: float
    dof: int
    sigma: np.ndarray
    has_sigma: bool
    fitted: np.ndarray
    residual: np.ndarray
    surrogate_error: np.ndarray
    surrogate_shift: dict[str, float]
    surrogate_parameters: dict[str, float] | None
    minima: list[dict[str, float]]
    messages: list[str]
    is_trustworthy: bool
    num_solves: int
    num_classical: int
    seconds: float
    readings: Readings
    z: np.ndarray  # scaled unknowns
    scaled_covariance: np.ndarray  # whatever the bounds

    def __repr__(self) -> str:
        values = ", ".join(f"{name} = {self._spelled(name)}" for name in self.parameters)
        return f"Fit({values}; {'trustworthy' if self.is_trustworthy else 'NOT trustworthy'})"

    @property
    def model(self) -> Any:
        """The surrogate."""
        return self.readings.model

    @property
    def experiments(self) -> list[Any]:
        """The measurements, see `measurements.Experiment`."""
        return self.readings.experiments

    @property
    def is_polished(self) -> bool:
        """Whether the classical solver had the last word."""
        return self.surrogate_parameters is not None

    @cached_property
    def prediction(self) -> Prediction:
        """The surrogate's solution with the fitted values on its default output, a trajectory per experiment."""
        model, parts = self.model, []
        for i in range(len(self.experiments)):
            u0, points = initial_of(self.readings, self.z, i)
            parts.append((u0, points, parameters_of(self.readings, self.z, i)))
        same = all(all(np.array_equal(points[key], parts[0][1][key]) for key in points) for _, points, _ in parts)
        if not same:
            raise ValueError("initial conditions are given at different points: predict experiment by experiment")
        c = {key: np.array([own[key] for *_, own in parts]) for key in parts[0][2]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the messages say it
            return model.predict(np.stack([u0 for u0, *_ in parts]), parameters=c, input_x=parts[0][1])

    # ------------------------------------------------------------------ words and files

    def _spelled(self, name: str) -> str:
        (unknown,) = (own for own in self.readings.unknowns if own.name == name)
        if not self.is_determined[name]:
            return f"{number(self.parameters[name], 3)}{unknown.suffix}, not determined"
        low, high = self.interval[name]
        return f"{number(self.parameters[name], 4)} [{number(low, 4)}, {number(high, 4)}]{unknown.suffix}"

    def summary(self) -> str:
        """A few lines for people."""
        shown = f"{percent(self.level, digits=3)} intervals by {_METHODS[self.interval_method]}"
        lines = [f"{len(self.residual)} readings of {_experiments(len(self.experiments))}, {shown}"]
        for name in self.parameters:
            lines.append(f"  {name} = {self._spelled(name)}")
            if self.surrogate_parameters is not None:
                lines[-1] += f"  (surrogate alone: {number(self.surrogate_parameters[name], 4)})"
        if self.has_sigma:
            chi2 = "" if math.isnan(self.reduced_chi2) else f"reduced chi² {number(self.reduced_chi2)}; "
        else:
            chi2 = f"sigma estimated: {number(self.sigma[0])}; "
        error = float(np.sqrt(np.mean(self.surrogate_error**2)))
        lines.append(f"{chi2}the surrogate's estimated error is {number(error, 2)} sigma")
        classical = f" and {self.num_classical} by the classical solver" if self.num_classical else ""
        lines.append(f"{self.num_solves} solves{classical} in {self.seconds:.2f} s")
        lines.append("trustworthy" if self.is_trustworthy else "NOT trustworthy")
        return "\n".join(lines + [f"  - {message}" for message in self.messages])

    def to_dict(self) -> dict[str, Any]:
        """Everything but arrays over readings and the model, in plain numbers; what is not finite is None."""
        keys = ("parameters", "interval", "standard_error", "covariance", "level", "interval_method", "nonlinearity",
                "is_determined", "reduced_chi2", "dof", "has_sigma", "surrogate_shift", "surrogate_parameters",
                "minima", "messages", "is_trustworthy", "num_solves", "num_classical", "seconds")  # fmt: skip
        own = {key: getattr(self, key) for key in keys}
        own["model"] = self.model.name
        own["known"] = {key: value.tolist() for key, value in self.readings.known.items()}
        own["sigma_estimated"] = None if self.has_sigma else float(self.sigma[0])
        return _plain(own)

    def save(self, path: str | os.PathLike) -> Path:
        """Writes `to_dict` as JSON, atomically."""
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return Path(path)

    # ------------------------------------------------------------------ figures and posterior

    def plot(self, path: str | os.PathLike | None = None, experiment: int = 0) -> Figure:
        """Draws one experiment's readings on the fit, all residuals, and the unknowns' joint regions.

        See `calibration.plot.plot_fit`.
        """
        from .plot import plot_fit

        return plot_fit(self, path, experiment)

    def sample(self, draws: int = 2000, walkers: int = 32, **options: Any) -> Posterior:
        """Draws from the posterior by an ensemble sampler; see `calibration.posterior.sample_posterior`."""
        from .posterior import sample_posterior

        return sample_posterior(self, draws, walkers, **options)


_METHODS = {"covariance": "covariance", "profile": "profile likelihood"}


def _experiments(count: int) -> str:
    return "1 experiment" if count == 1 else f"{count} experiments"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
