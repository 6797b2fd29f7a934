"""The classical solvers that a surrogate is measured against, each family at increasing accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .method_of_lines import MethodOfLines

PICARD_GRIDS = ((48, 5, 4), (64, 5, 5), (96, 6, 5))  # (nodes, elements, stages)
PICARD_STEPS = (0, 1, 2, 3)
PICARD_BATCHES = (8, 64)
LSODA_TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6, 1e-7)
SPECTRAL_NODES = (24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # per axis
SPECTRAL_POINTS = 10_000  # in all: a larger grid is no baseline
SPECTRAL_STEPS = (1.0, 1.5, 2.0, 3.0, 4.5)  # over the duration, per node: the stability limit falls with the grid
SPECTRAL_RTOL = 1e-3  # in time, where stability and accuracy choose the steps
SPECTRAL_DEALIASING = (1.0, 1.5)
SPECTRAL_BATCHES = (16, 64)


@dataclass(frozen=True)
class Baseline:
    """A classical solver with its settings.

    Attributes:
        name: for tables.
        settings: of the solver, JSON types.
        build: device ↦ solver, which maps u0 (batch, *space) and parameters of shape () or (batch,) to
            float64 arrays (batch, time, *space) on the problem's output times and the grid of u0.
        batches: numbers of trajectories a pass to try; the fastest counts.
    """

    name: str
    settings: dict[str, Any]
    build: Callable[[Any], Callable[[np.ndarray, dict[str, Any]], np.ndarray]]
    batches: tuple[int, ...]


def baselines(problem) -> dict[str, list[Baseline]]:
    """Classical solvers by family, from cheapest to most expensive.

    Bounded axes have "picard" and "lsoda" (one trajectory at a time, on the CPU whatever the device);
    periodic ones "pseudo-spectral" in float32, with steps of their own choice or a fixed number, where
    too few are unstable and answer NaN.
    """
    from . import is_periodic

    if is_periodic(problem):
        return {"pseudo-spectral": _pseudo_spectral(problem)}
    return {"picard": _picard(problem), "lsoda": _lsoda(problem)}


def steps_from_the_lift(problem, device: Any = "cpu") -> dict[str, Callable[..., np.ndarray]]:
    """What a few classical steps from a surrogate's own lift reach, where there are such; by name."""
    if "picard" not in baselines(problem):
        return {}
    names = {0: "lift alone", 1: "lift + 1 Picard step"}
    return {
        names.get(steps, f"lift + {steps} Picard steps"): _fast(problem, {"steps": steps})(device)
        for steps in PICARD_STEPS
    }


def _fast(problem, settings: dict[str, Any]) -> Callable[[Any], Any]:
    def build(device: Any = "cpu"):
        from . import fast_solver

        return fast_solver(problem, **settings, device=device)

    return build


def _picard(problem) -> list[Baseline]:
    found = []
    for nodes, elements, stages in PICARD_GRIDS:
        for steps in PICARD_STEPS:
            settings = {"steps": steps, "num_nodes": nodes, "elements": elements, "stages": stages}
            name = f"Picard, {steps} step{'s' * (steps != 1)}, {nodes} × {elements * stages} nodes"
            found.append(Baseline(name, settings, _fast(problem, settings), PICARD_BATCHES))
    return sorted(found, key=lambda b: (1 + b.settings["steps"]) * b.settings["num_nodes"] * b.settings["elements"])


def _lsoda(problem) -> list[Baseline]:
    (axis,) = problem.output_space.values()
    found = []
    for tolerance in LSODA_TOLERANCES:
        settings = {"rtol": tolerance, "atol": tolerance}

        def build(device: Any = "cpu", settings: dict[str, float] = settings):
            return MethodOfLines(problem, **settings)

        found.append(Baseline(f"LSODA, tolerance {tolerance:.0e}, {len(axis.nodes)} cells", settings, build, (1,)))
    return found


def _pseudo_spectral(problem) -> list[Baseline]:
    found = []
    for nodes in SPECTRAL_NODES:
        if nodes ** len(problem.output_space) > SPECTRAL_POINTS:
            break
        for ratio in (None, *SPECTRAL_STEPS):
            for dealiasing in SPECTRAL_DEALIASING:
                steps = {"steps": None, "rtol": SPECTRAL_RTOL} if ratio is None else {"steps": round(ratio * nodes)}
                settings = {"num_nodes": nodes, "dealiasing": dealiasing, **steps}
                size = " × ".join([str(nodes)] * len(problem.output_space))
                name = f"pseudo-spectral, {size} nodes, {steps['steps'] or 'adaptive'} steps"
                name += ", dealiased" * (dealiasing > 1)
                found.append(Baseline(name, settings, _fast(problem, settings), SPECTRAL_BATCHES))
    dims, usual = len(problem.output_space), float(np.median(SPECTRAL_STEPS))

    def cost(baseline: Baseline) -> float:
        nodes, steps = baseline.settings["num_nodes"], baseline.settings["steps"]
        return (steps or usual * nodes) * (nodes * baseline.settings["dealiasing"]) ** dims

    return sorted(found, key=cost)
