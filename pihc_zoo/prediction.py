"""`Prediction`: what ``predict`` returns. Arrays are of the caller's kind, numpy or torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .files import save_npz
from .text import nearest

_REPORT = (
    "residual",
    "estimated_error",
    "unresolved",
    "status",
    "converged",
    "iterations",
    "is_reliable",
    "failure_time",
)


@dataclass(frozen=True)
class Trust:
    """How a model judges its own predictions: the estimator's settings and calibrated thresholds.

    Attributes:
        refinement: nodes of the estimator's grid over the model's, per axis.
        krylov: Krylov directions of the error estimate.
        growth: factor on the error estimate of a roll-out, measured.
        threshold: largest estimated error inside the trained family; None before calibration.
        unresolved: likewise, of the unresolved part of an initial condition.
        state_range: lowest and highest trained value.
    """

    refinement: float = 1.6
    krylov: int = 3
    growth: float = 1.0
    threshold: float | None = None
    unresolved: float | None = None
    state_range: tuple[float, float] | None = None

    def __post_init__(self):
        if not 1 <= self.refinement <= 4 or not 1 <= self.krylov <= 64:
            raise ValueError(
                f"trust: refinement must lie in [1, 4] and krylov in [1, 64], got {self.refinement} and {self.krylov}"
            )
        if self.state_range is not None and not (
            isinstance(self.state_range, list | tuple) and len(self.state_range) == 2
        ):
            raise ValueError(f"trust: state_range must be [lowest, highest], got {self.state_range!r}")

    def accepts(self, u0: np.ndarray, estimated_error: np.ndarray, unresolved: np.ndarray) -> np.ndarray:
        """(batch,) whether a trajectory lies where the model was calibrated; None is not checked.

        Args:
            u0: (batch, *space) initial conditions.
            estimated_error, unresolved: (batch,), see `Prediction`.
        """
        low, high = (-np.inf, np.inf) if self.state_range is None else self.state_range
        finite = np.where(np.isfinite(u0), u0, np.inf).reshape(len(u0), -1)
        is_accepted = (finite.min(axis=1) >= low) & (finite.max(axis=1) <= high)
        for value, limit in ((estimated_error, self.threshold), (unresolved, self.unresolved)):
            if limit is not None:
                is_accepted = is_accepted & (value <= limit)
        return is_accepted


@dataclass
class Prediction:
    """A solution with its trust report.

    Attributes:
        u: (batch, time, *space) solution, float64; NaN where it failed.
        t: (time,) output times.
        points: output positions by axis name, in the order of u's dimensions; ``x`` is that of the axis "x".
        u0: (batch, *space) the initial conditions as given.
        parameters: (batch,) values by symbol.
        coefficients: (batch, subproblem, coefficient) of the basis functions.
        residual: (batch,) relative L2 norm of the mapped residual, dimensionless.
        residual_per_expert: (batch, expert) its part in each expert's subdomain.
        estimated_error: (batch,) estimated relative L2 error, dimensionless, from the residual on a
            finer grid.
        status: (batch, subproblem) integers of `pihc_zoo.Status`; converged: likewise, booleans.
        iterations: (batch, subproblem) solver steps.
        messages: per trajectory, what is wrong with it; empty if nothing.
        unresolved: (batch,) relative L2 part of the initial condition that the model's grid does not
            carry, dimensionless.
        is_reliable: (batch,) converged, `Trust.accepts` it, and all times are within the trained duration.
        failure_time: (batch,) time from which on a roll-out has no values; NaN if it has all, or none.
        units: physical units of u, the coordinates and the parameters by name.
        symbol: the literature's letter for u.
        is_signed: whether states of both signs are in the problem's range.
        periods: lengths of the periodic axes by name.
        diagnostics: what `diagnostic` computes, name → (factor, derivative of u).
    """

    u: Any
    t: Any
    points: dict[str, Any]
    u0: Any
    parameters: dict[str, Any]
    coefficients: Any
    residual: Any
    residual_per_expert: Any
    estimated_error: Any
    unresolved: Any
    status: Any
    converged: Any
    iterations: Any
    is_reliable: Any
    failure_time: Any
    messages: list[str]
    model: str = ""
    units: dict[str, str] = field(default_factory=dict)
    symbol: str = "u"
    is_signed: bool = False
    periods: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, tuple[float, Any]] = field(default_factory=dict, repr=False)
    field_maps: dict[str, Callable[[], Any]] = field(default_factory=dict, repr=False)

    @property
    def x(self) -> Any:
        """(n,) output positions along the axis "x"."""
        return self.points["x"]

    @property
    def residual_field(self) -> Any:
        """(batch, time, *space) mapped residual at the output points, in the unit of u."""
        return self.field_maps["residual"]()

    @property
    def estimated_error_field(self) -> Any:
        """(batch, time, *space) estimated u − u_true at the output points."""
        return self.field_maps["estimated_error"]()

    def diagnostic(self, name: str) -> Any:
        """(batch, time, *space) a further field of the problem, such as the velocity, computed spectrally from u.

        Args:
            name: one of ``diagnostics``.

        Raises:
            ValueError: no such field, or output points that are no full equally spaced periodic grid.
        """
        from .spectra import check_periodic_grid, derivative

        if name not in self.diagnostics:
            if not self.diagnostics:
                raise ValueError(f"no diagnostic {name!r}; this problem has none")
            raise ValueError(f"no diagnostic {name!r}; {nearest(name, self.diagnostics)}")
        try:
            lengths = check_periodic_grid({key: to_numpy(value) for key, value in self.points.items()}, self.periods)
        except ValueError as error:
            raise ValueError(f"diagnostic {name!r}: {error}") from None
        factor, feature = self.diagnostics[name]
        orders = [feature.orders.get(key, 0) for key in self.points]
        u = to_numpy(self.u)
        result = np.empty(u.shape)
        for i, row in enumerate(u):  # one by one: transforms are twice as large
            result[i] = derivative(row, lengths, orders, feature.laplacian, factor)
        return self.u.new_tensor(result) if hasattr(self.u, "new_tensor") else result

    def save(self, path: str | os.PathLike, diagnostics: Sequence[str] = ()) -> Path:
        """Writes an NPZ, atomically: u0, positions by axis name, t, u, parameter_<name>, and the report.

        Args:
            path: a name that ends in .npz, which is added if it is missing.
            diagnostics: names of `diagnostic` to write as well.

        Raises:
            ValueError: the folder cannot be written, the path names another kind of file, or no such diagnostic.
        """
        arrays = {"u0": self.u0, **self.points, "t": self.t, "u": self.u}
        arrays |= {name: self.diagnostic(name) for name in diagnostics}
        arrays |= {f"parameter_{key}": value for key, value in self.parameters.items()}
        arrays |= {key: getattr(self, key) for key in _REPORT}
        return save_npz(path, {key: to_numpy(value) for key, value in arrays.items()})

    def plot(self, index: int = 0, path: str | os.PathLike | None = None, truth: Any = None):
        """Draws prediction and estimated error of one trajectory, beside the ``truth`` if given; saves it to ``path``.

        See `pihc_zoo.plotting.plot_prediction`.
        """
        from .plotting import plot_prediction

        return plot_prediction(self, index, path, truth)

    def animate(self, index: int = 0, path: str | os.PathLike | None = None, fps: int = 12) -> Path:
        """Writes one trajectory as a GIF, by default ``<model>.gif`` in the working folder; returns its path."""
        from .animation import animate_prediction

        return animate_prediction(self, index, path or f"{self.model.split('/')[-1] or 'prediction'}.gif", fps)


def to_numpy(value: Any) -> np.ndarray:
    """A numpy array of a tensor, an array or a number."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
