"""Grids as tensor products of axes, and the table of axes: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..config import ConfigError, build, lookup
from ..registration import registrar
from ..text import nearest
from .axis import Axis
from .bounded import CellAxis, GradedAxis, UniformAxis
from .fourier import FourierAxis
from .instant import InstantAxis
from .radau import RadauAxis

MAX_AXIS_NODES = 4096  # matrices along an axis are dense
MAX_GRID_NODES = 2**24

AXES: dict[str, type[Axis]] = {
    "graded": GradedAxis,
    "uniform": UniformAxis,
    "cells": CellAxis,
    "radau": RadauAxis,
    "instant": InstantAxis,
    "fourier": FourierAxis,
}
_Class = TypeVar("_Class", bound=type[Axis])


def register_axis(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_axis("my-axis")``: a decorator that makes a kind of axis known by its name.

    Configurations and model folders may use it then. Entering the same class again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("axis", AXES, name, Axis)


@dataclass(frozen=True)
class Grid:
    """A tensor product of a time axis and named space axes."""

    time: Axis
    space: dict[str, Axis]

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Grid:
        """The grid that a configuration describes: {"time": axis, "space": {name: axis}}.

        Raises:
            ConfigError: unknown names or settings, or more nodes than fit; none has been made then.
        """
        for key in spec:
            if key not in ("time", "space"):
                raise ConfigError(f"grid: unknown setting {key!r}; {nearest(key, ('time', 'space'))}")
        axes, total = {}, 1
        for name, own in {"t": spec["time"], **spec["space"]}.items():
            axis_class, settings = lookup("grid", own, AXES)
            axes[name] = build("grid", axis_class, settings)
            count = axes[name].num_nodes
            if not isinstance(count, int) or not 1 <= count <= MAX_AXIS_NODES:
                raise ConfigError(f"grid: axis {name!r} asks for {count} nodes; expected 1 to {MAX_AXIS_NODES}")
            total *= count
        if total > MAX_GRID_NODES:
            raise ConfigError(f"grid: {total} nodes in all; expected at most {MAX_GRID_NODES}: take fewer per axis")
        return cls(axes.pop("t"), axes)

    @property
    def axes(self) -> dict[str, Axis]:
        """All axes by name, time ("t") first: the order of array dimensions."""
        return {"t": self.time, **self.space}

    @property
    def key(self) -> tuple:
        """What tells grids apart, hashable."""
        return tuple(self.axes.items())

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, *space): the number of nodes along each axis."""
        return tuple(len(axis.nodes) for axis in self.axes.values())

    @property
    def collocation_shape(self) -> tuple[int, ...]:
        """(time, *space): the number of collocation points along each axis."""
        return tuple(len(axis.collocation_points) for axis in self.axes.values())

    @property
    def weights(self) -> np.ndarray:
        """(time, *space) quadrature weights, normalised to sum 1."""
        product = np.ones(())
        for axis in self.axes.values():
            product = product[..., None] * axis.weights
        return product / product.sum()

    def refined(self, factor: float) -> Grid:
        """The grid with about ``factor`` times the nodes along each axis."""
        return Grid(self.time.refined(factor), {name: axis.refined(factor) for name, axis in self.space.items()})

    @property
    def can_zoom(self) -> bool:
        """Whether every axis has a `zoomed` form."""
        return all(type(axis).zoomed is not Axis.zoomed for axis in self.axes.values())

    def zoomed(self, factor: float) -> Grid:
        """The grid for a duration ``factor`` times shorter, see `Axis.zoomed`."""
        return Grid(self.time.zoomed(factor), {name: axis.zoomed(factor) for name, axis in self.space.items()})
