"""`Trajectories`: initial conditions and what is known of their solutions, on a grid or at scattered points."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from ..prediction.prediction_file import PARAMETER
from ..prediction.request import real_array

SAME_START = 0.01  # relative L2 distance of u at t = 0 from u0, beyond which they are not one trajectory


@dataclass
class Scattered:
    """Values at points of their own.

    Attributes:
        trajectory: (m,) which trajectory a value belongs to, from 0.
        t, u: (m,) times after the start and values.
        points: (m,) positions by axis name.
    """

    trajectory: np.ndarray
    t: np.ndarray
    points: dict[str, np.ndarray]
    u: np.ndarray

    def __len__(self) -> int:
        return len(self.u)

    def of(self, rows: np.ndarray) -> Scattered:
        """The values of the trajectories ``rows``, which are numbered in that order."""
        place = np.full(max(int(self.trajectory.max()), int(np.max(rows))) + 1, -1)
        place[rows] = np.arange(len(rows))
        own = place[self.trajectory]
        kept = own >= 0
        return Scattered(own[kept], self.t[kept], {key: x[kept] for key, x in self.points.items()}, self.u[kept])


@dataclass
class Trajectories:
    """Initial conditions and, if known, their solutions: on the grid of u0 or at scattered points.

    Attributes:
        u0: (batch, *space[, field]) at ``points``, positions by axis name; ``x`` is that of the axis "x".
        u: (batch, time, *space[, field]) at times t, or None.
        parameters: (batch,) by symbol.
        scattered: solutions at points of their own, or None.
    """

    u0: np.ndarray
    points: dict[str, np.ndarray]
    t: np.ndarray
    u: np.ndarray | None
    parameters: dict[str, np.ndarray]
    scattered: Scattered | None = None

    def __len__(self) -> int:
        return len(self.u0)

    @property
    def x(self) -> np.ndarray:
        """(n,) positions along the axis "x"."""
        return self.points["x"]

    @property
    def has_solutions(self) -> bool:
        """Whether anything is known beside the initial conditions."""
        return self.u is not None or self.scattered is not None

    def own(self, rows: Any) -> dict[str, np.ndarray]:
        """The parameters of the trajectories ``rows``."""
        return {key: value[rows] for key, value in self.parameters.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name, as for a digest."""
        arrays = {"u0": self.u0, "t": self.t, **self.points}
        arrays |= {f"parameter_{key}": value for key, value in self.parameters.items()}
        arrays |= {} if self.u is None else {"u": self.u}
        if self.scattered is not None:
            own = self.scattered
            arrays |= {"scattered_trajectory": own.trajectory, "scattered_t": own.t, "scattered_u": own.u}
            arrays |= {f"scattered_{key}": value for key, value in own.points.items()}
        return arrays

    def describe(self) -> str:
        """What it is, in a few words."""
        text = f"{len(self)} {'trajectory' if len(self) == 1 else 'trajectories'}"
        if self.scattered is not None:
            return f"{text}, {len(self.scattered)} scattered values"
        return f"{text}, {'initial conditions only' if self.u is None else f'solutions at {len(self.t)} times'}"


def order_message(shape: tuple[int, ...], expected: tuple[int, ...], axes: tuple[str, ...], array: str = "u") -> str:
    """What to do about an ``array`` whose axes are in another order; "" where no order of them fits."""
    if len(shape) != len(expected):
        return ""
    for order in permutations(range(len(shape))):
        if tuple(shape[i] for i in order) == expected:
            names = [axes[order.index(i)] for i in range(len(shape))]
            return f"; its axes are ({', '.join(names)}): pass {array}.transpose{order}, which are ({', '.join(axes)})"
    return ""


def check_solutions(data: Trajectories) -> None:
    """Checks that the solutions are of these initial conditions, at these times.

    Raises:
        ValueError: times that do not increase, another shape, values that are not finite, no time after the start,
            a trajectory of zeros, or one that does not start at its initial condition.
    """
    t, u = data.t, data.u
    if t.ndim != 1 or (np.diff(t) <= 0).any():
        raise ValueError("t must be one row of strictly increasing times; sort t, and u with it")
    if data.scattered is not None:
        _check_scattered(data.scattered, len(data))
    if u is None:
        return
    expected = (len(data.u0), len(t), *data.u0.shape[1:])
    if u.shape != expected:
        last = ("field",) if data.u0.ndim > 1 + len(data.points) else ()
        axes = ("trajectory", "t", *data.points, *last)
        raise ValueError(
            f"u must have the shape {expected} of (u0, t, {', '.join(axes[2:])}), got {u.shape}"
            + order_message(u.shape, expected, axes)
        )
    if t[-1] <= 0:
        raise ValueError("u has no time after the start (t = 0 only): there is nothing to learn from; add later times")
    is_bad = ~np.isfinite(u).reshape(len(u), -1).all(axis=1)
    if is_bad.any():
        raise ValueError(
            f"u has values that are not finite in {is_bad.sum()} of {len(u)} trajectories, the first is "
            f"{np.argmax(is_bad)}; leave those trajectories out"
        )
    size = np.linalg.norm(u.reshape(len(u), -1), axis=1) / np.sqrt(len(t))  # of a snapshot, on average
    if (size == 0).any():
        raise ValueError(f"trajectory {np.argmin(size)} of u is zero at all times: it has no relative error")
    if t[0] == 0:
        start = np.linalg.norm((u[:, 0] - data.u0).reshape(len(u), -1), axis=1)
        distance = start / np.maximum(size, np.linalg.norm(data.u0.reshape(len(u), -1), axis=1))
        far = np.flatnonzero(~(distance <= SAME_START))
        if len(far):
            worst = far[np.argmax(distance[far])]
            raise ValueError(
                f"u does not start at u0: at t = 0 {len(far)} of {len(u)} trajectories differ from u0, trajectory "
                f"{worst} by {100 * distance[worst]:.3g} %; is u in another order or unit, or on another grid?"
            )


def _check_scattered(data: Scattered, count: int) -> None:
    for name, values in {"t": data.t, "u": data.u, **data.points}.items():
        is_bad = ~np.isfinite(values)
        if is_bad.any():
            raise ValueError(f"{name} of point {np.argmax(is_bad)} is not finite; leave that point out")
    squares = np.bincount(data.trajectory, weights=data.u**2, minlength=count)
    if (squares == 0).any():
        first = np.argmin(squares)
        has_none = not (data.trajectory == first).any()
        what = "has no point after the start" if has_none else "is zero at all its points: it has no relative error"
        raise ValueError(f"trajectory {first} {what}; leave it out")


def parameters_of(arrays: dict[str, Any], problem, batch: int) -> dict[str, np.ndarray]:
    """Values by symbol of the keys parameter_<symbol>: (batch,), of fields and series (batch, *own).

    Raises:
        ValueError: another shape.
    """
    parameters = {}
    for name, value in arrays.items():
        if name.startswith(PARAMETER):
            key, value = name.removeprefix(PARAMETER), real_array(value, name)
            own = problem.coefficient_shape(key) if key in problem.coefficients else ()
            if value.ndim and value.shape not in (own, (1, *own), (batch, *own)):
                wanted = " or ".join(str(shape) for shape in (own, (batch, *own)) if shape)
                raise ValueError(f"{name} must be a number or have the shape {wanted}, got {value.shape}")
            parameters[key] = np.broadcast_to(value, (batch, *own)).copy()
    return parameters
