"""Decompositions: how the domain is shared among experts.

An *expert* is a subdomain with its own least-squares solve. ``Disjoint`` is the paper's:
subdomains are solved apart and concatenated. ``Overlapping`` ones are solved apart and blended
by a partition of unity ψ_k. ``Joint`` multiplies the basis by its members, u = u_L + Σ_k Σ_i w_ki
ψ_k b_i, and finds all coefficients in one coupled solve.

Source: N. Chalapathi, Y. Du, A. Krishnapriyan, "Scaling physics-informed hard constraints with
mixture-of-experts" (ICLR 2024), arXiv:2402.13412; partition of unity: I. Babuška, J. Melenk (1997),
doi:10.1002/(SICI)1097-0207(19970228)40:4<727::AID-NME86>3.0.CO;2-N.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np

from .discretisation import Subdomains
from .grid import Grid
from .registration import registrar


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 for x ≤ 0, 1 for x ≥ 1, twice continuously differentiable between."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10 - 15 * x + 6 * x**2)


@dataclass(frozen=True)
class Decomposition:
    """Base: ``counts`` experts by axis name; axes left out are not split."""

    counts: dict[str, int] = field(default_factory=dict)

    is_joint: ClassVar[bool] = False

    @property
    def num_experts(self) -> int:
        """K, the product of the counts."""
        return int(np.prod([1, *self.counts.values()]))

    def transition(self, num_nodes: int, count: int) -> float:
        """Nodes over which neighbours blend; 0 for a sharp cut."""
        return 0.0

    def check(self, grid: Grid) -> None:
        """Raises ValueError if the grid cannot be split so."""
        for name, count in self.counts.items():
            if name not in grid.axes:
                raise ValueError(f"no axis {name!r} to decompose; the grid has {', '.join(grid.axes)}")
            nodes = len(grid.axes[name].nodes)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"axis {name!r}: the number of experts must be a positive integer, not {count!r}")
            if nodes % count:
                raise ValueError(
                    f"axis {name!r} has {nodes} points, not divisible into {count} subdomains; "
                    f"choose a divisor of {nodes}"
                )

    def bumps(self, num_nodes: int, count: int, is_periodic: bool = False) -> np.ndarray:
        """(count, num_nodes) partition of unity along one axis: ψ_k = S_k − S_(k+1), S a step at a face."""
        position = np.arange(num_nodes) + 0.5
        faces = num_nodes * np.arange(count) / count
        width = self.transition(num_nodes, count)

        def step(distance: np.ndarray) -> np.ndarray:
            return smooth_step(distance / width + 0.5) if width else (distance > 0).astype(float)

        if is_periodic and count > 1:
            distance = position - faces[:, None]
            images = [distance + shift * num_nodes for shift in (-1, 0, 1)]
            return sum(step(image) - step(image - num_nodes / count) for image in images)
        steps = np.concatenate([np.ones((1, num_nodes)), step(position - faces[1:, None]), np.zeros((1, num_nodes))])
        return steps[:-1] - steps[1:]

    def partition_of_unity(self, grid: Grid) -> np.ndarray:
        """(K, time, *space) weights that sum to one."""
        self.check(grid)
        weights = np.ones((1,))
        for name, axis in grid.axes.items():
            bumps = self.bumps(len(axis.nodes), self.counts.get(name, 1), axis.is_periodic)
            weights = weights[:, None, ..., None] * bumps.reshape(1, len(bumps), *[1] * (weights.ndim - 1), -1)
            weights = weights.reshape(-1, *weights.shape[2:])
        return weights

    def subdomains(self, grid: Grid, has_components: bool = False) -> Subdomains:
        """Index boxes and blending weights of independent experts."""
        blending = self.partition_of_unity(grid)
        indices = []
        for name, axis in grid.axes.items():
            nodes, count = len(axis.nodes), self.counts.get(name, 1)
            margin = int(np.ceil(self.transition(nodes, count) / 2)) if count > 1 else 0
            size = min(nodes, nodes // count + 2 * margin)
            starts = np.arange(count) * (nodes // count) - margin
            if not axis.is_periodic:
                starts = np.clip(starts, 0, nodes - size)
            indices.append((starts[:, None] + np.arange(size)) % nodes)
        return Subdomains(list(grid.axes), grid.shape, indices, blending, has_components)


@dataclass(frozen=True)
class Independent(Decomposition):
    """Base of experts that are solved apart.

    A non-local feature, such as velocity from vorticity, sees the whole domain, where an expert knows its
    own coefficients only. Experts take it frozen from the previous blend: the lift in the first sweep, the
    blended field of sweep s in sweep s + 1. Gradients pass all sweeps.
    """

    sweeps: int = field(default=1, kw_only=True)

    def check(self, grid: Grid) -> None:
        super().check(grid)
        if not isinstance(self.sweeps, int) or self.sweeps < 1:
            raise ValueError(f"sweeps must be a positive integer, not {self.sweeps!r}")


@dataclass(frozen=True)
class Disjoint(Independent):
    """The paper's experts: apart, then concatenated. No condition holds at the faces."""


@dataclass(frozen=True)
class Overlapping(Independent):
    """Experts on subdomains that overlap by ``overlap`` nodes to each side of a face, then blended.

    Where features are non-local, ``sweeps`` says how often experts are solved, each time with those
    features of the blend before; see `Independent`.
    """

    overlap: int = 6

    def transition(self, num_nodes: int, count: int) -> float:
        return float(2 * self.overlap)

    def check(self, grid: Grid) -> None:
        super().check(grid)
        if not isinstance(self.overlap, int) or self.overlap < 1:
            raise ValueError(f"overlap must be a positive number of nodes, not {self.overlap!r}")
        for name, count in self.counts.items():
            size = len(grid.axes[name].nodes) // count
            if count > 1 and 2 * self.overlap > size:
                raise ValueError(
                    f"axis {name!r}: an overlap of {self.overlap} nodes to each side exceeds subdomains of {size}; "
                    f"choose at most {size // 2}"
                )


@dataclass(frozen=True)
class Joint(Decomposition):
    """One coupled solve over subdomains × basis functions; neighbours blend over a whole subdomain."""

    is_joint: ClassVar[bool] = True

    def transition(self, num_nodes: int, count: int) -> float:
        return num_nodes / count


DECOMPOSITIONS: dict[str, type[Decomposition]] = {
    "disjoint": Disjoint,
    "overlapping": Overlapping,
    "joint": Joint,
}
_Class = TypeVar("_Class", bound=type[Decomposition])


def register_decomposition(name: str) -> Callable[[_Class], _Class]:
    """``@pz.register_decomposition("my-decomposition")``: a decorator that makes a decomposition known by its name.

    Configurations and model folders may use it then. Entering the same class again, reloaded, is no clash.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    return registrar("decomposition", DECOMPOSITIONS, name, Decomposition, ("counts",))
