"""The classical solvers that a surrogate is measured against, each family from coarse to fine.

A family is a list of grids; on each, steps or tolerances are refined until the answer is as good as asked for, or
no longer improves. So a solver is never called slow because the step that would have done was not in a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .method_of_lines import MethodOfLines

PICARD_GRIDS = ((48, 5, 4), (64, 5, 5), (96, 6, 5))  # (nodes, elements, stages)
PICARD_BATCHES = (8, 64)
MOST_PICARD_STEPS = 3
LSODA_NODES = (48, 96, 192, 384, 768, 1536)
LOOSEST, TIGHTEST = 1e-2, 1e-8
TENSOR_NODES = (24, 32, 48, 64, 96, 128, 192)  # per axis
STEADY_NODES = (8, 12, 16, 24, 32, 48, 64, 96, 128)
SPECTRAL_NODES = (24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # per axis
SPECTRAL_POINTS = 10_000  # in all: a larger grid is no baseline
FEWEST_STEPS, MOST_STEPS = 8, 2**14  # over the duration
SPECTRAL_DEALIASING = (1.0, 1.5)
SPECTRAL_METHODS = ("etdrk4", "ifrk4")
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
        refined: factor ↦ the same with steps as many times smaller, None where there is no such.
        cost: about proportional to the time it takes.
    """

    name: str
    settings: dict[str, Any]
    build: Callable[[Any], Callable[[np.ndarray, dict[str, Any]], np.ndarray]]
    batches: tuple[int, ...]
    refined: Callable[[float], Baseline | None] = lambda factor: None
    cost: float = 1.0


def baselines(problem) -> dict[str, list[Baseline]]:
    """Classical solvers by family, a first baseline per grid, from the coarsest to the finest.

    One bounded axis has "picard", where that serves the problem, and "lsoda" (one trajectory at a time, on the CPU
    whatever the device); periodic ones "pseudo-spectral" in float32 with a fixed number of steps, where too few are
    unstable and answer NaN; several axes of which some are bounded "spectral"; steady problems "sparse-direct". Solvers
    of one's own, `Problem.reference_solvers`, are families of one.
    """
    from . import kind_of
    from .picard import PicardSolver

    own = {
        name: [Baseline(name, {}, lambda device="cpu", solve=solve: solve, (1,))]
        for name, solve in problem.reference_solvers().items()
        if name != "truth"
    }
    kind = kind_of(problem)
    if kind == "periodic":
        return {"pseudo-spectral": _pseudo_spectral(problem), **own}
    if kind == "tensor":
        return {"spectral": _tensor(problem), **own}
    if kind == "steady":
        return {"sparse-direct": _steady(problem), **own}
    picard = {"picard": _picard(problem)} if PicardSolver.serves(problem) else {}
    return {**picard, "lsoda": _lsoda(problem), **own}


def steps_from_the_lift(problem, device: Any = "cpu") -> dict[str, Callable[..., np.ndarray]]:
    """What a few classical steps from a surrogate's own lift reach, where there are such; by name."""
    if "picard" not in baselines(problem):
        return {}
    names = {0: "lift alone", 1: "lift + 1 Picard step"}
    return {
        names.get(steps, f"lift + {steps} Picard steps"): _fast(problem, {"steps": steps})(device)
        for steps in range(MOST_PICARD_STEPS + 1)
    }


def _fast(problem, settings: dict[str, Any]) -> Callable[[Any], Any]:
    def build(device: Any = "cpu"):
        from . import fast_solver

        return fast_solver(problem, **settings, device=device)

    return build


def _picard(problem) -> list[Baseline]:
    def baseline(nodes: int, elements: int, stages: int, steps: int) -> Baseline:
        settings = {"steps": steps, "num_nodes": nodes, "elements": elements, "stages": stages}
        name = f"Picard, {steps} step{'s' * (steps != 1)}, {nodes} × {elements * stages} nodes"

        def refined(factor: float) -> Baseline | None:
            is_next = factor > 1 and steps < MOST_PICARD_STEPS
            return baseline(nodes, elements, stages, steps + 1) if is_next else None

        cost = float((1 + steps) * nodes * elements * stages)
        return Baseline(name, settings, _fast(problem, settings), PICARD_BATCHES, refined, cost)

    return [baseline(*grid, 0) for grid in PICARD_GRIDS]


def _lsoda(problem) -> list[Baseline]:
    (axis,) = problem.output_space.values()

    def baseline(nodes: int | None, tolerance: float) -> Baseline:
        settings: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
        if nodes is not None:
            settings["num_nodes"] = nodes

        def build(device: Any = "cpu"):
            return MethodOfLines(problem, **settings)

        def refined(factor: float) -> Baseline | None:
            finer = float(f"{tolerance * factor**-1.66:.1e}")
            return baseline(nodes, finer) if TIGHTEST <= finer <= LOOSEST else None

        size = len(axis.nodes) if nodes is None else nodes
        name = f"LSODA, tolerance {tolerance:.0e}, {size} {'cells' if nodes is None else 'nodes'}"
        cost = size * (1.0 - np.log10(tolerance))
        return Baseline(name, settings, build, (1,), refined, cost)

    grids = (None,) if problem.is_defined_on_cells else LSODA_NODES
    return [baseline(nodes, LOOSEST) for nodes in grids]


def _tensor(problem) -> list[Baseline]:
    dims = len(problem.output_space)

    def baseline(nodes: int, steps: int) -> Baseline:
        settings = {"num_nodes": nodes, "steps": steps}
        name = f"spectral, {' × '.join([str(nodes)] * dims)} nodes, {steps} steps of ETDRK4"

        def refined(factor: float) -> Baseline | None:
            finer = round(steps * factor)
            return baseline(nodes, finer) if 1 <= finer <= MOST_STEPS else None

        return Baseline(name, settings, _fast(problem, settings), (1,), refined, float(steps * nodes ** (dims + 1)))

    return [baseline(nodes, FEWEST_STEPS) for nodes in TENSOR_NODES]


def _steady(problem) -> list[Baseline]:
    dims = len(problem.output_space)
    found = []
    for nodes in STEADY_NODES:
        size = " × ".join([str(nodes)] * dims)
        settings = {"num_nodes": nodes}
        name = f"finite differences and sparse LU, {size} nodes"
        found.append(Baseline(name, settings, _fast(problem, settings), (1,), cost=float(nodes ** (1.5 * dims))))
    return found


def _pseudo_spectral(problem) -> list[Baseline]:
    dims = len(problem.output_space)

    def baseline(nodes: int, dealiasing: float, method: str, steps: int) -> Baseline:
        settings = {"num_nodes": nodes, "dealiasing": dealiasing, "method": method, "steps": steps}
        size = " × ".join([str(nodes)] * dims)
        name = f"pseudo-spectral, {size} nodes, {steps} steps of {method.upper()}" + ", dealiased" * (dealiasing > 1)

        def refined(factor: float) -> Baseline | None:
            finer = round(steps * factor)
            return baseline(nodes, dealiasing, method, finer) if 1 <= finer <= MOST_STEPS else None

        cost = steps * (nodes * dealiasing) ** dims
        return Baseline(name, settings, _fast(problem, settings), SPECTRAL_BATCHES, refined, cost)

    return [
        baseline(nodes, dealiasing, method, FEWEST_STEPS)
        for nodes in SPECTRAL_NODES
        if nodes**dims <= SPECTRAL_POINTS
        for dealiasing in SPECTRAL_DEALIASING
        for method in SPECTRAL_METHODS
    ]
