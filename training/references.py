"""References: converged classical solutions that training never sees."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pihc_zoo.learning.families import Family, sample_parameters
from pihc_zoo.prediction import save_npz
from pihc_zoo.reference import truth_solver


@dataclass
class ReferenceSet:
    """Initial conditions (batch, *space), parameters and their converged solutions."""

    u0: np.ndarray
    parameters: dict[str, np.ndarray]
    u: np.ndarray

    def errors(self, model, **options) -> np.ndarray:
        """(batch,) relative L2 errors of a model's predictions; NaN where it failed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            prediction = model.predict(self.u0, parameters=self.parameters, **options)
        return relative_error(prediction.u, self.u)


def relative_error(u: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(batch,) ‖u − truth‖ / ‖truth‖ over all times and points."""
    difference, scale = (a.reshape(len(a), -1) for a in (u - truth, truth))
    return np.linalg.norm(difference, axis=1) / np.linalg.norm(scale, axis=1)


def build(
    problem, family: Family, inputs: tuple[str, ...], count: int, seed: int, cache: Path | None = None
) -> ReferenceSet:
    """Draws ``count`` initial conditions and solves them to 1e-8 in time; cached as NPZ."""
    (axis,) = problem.output_space.values()
    rng = np.random.default_rng([seed, 2**31])
    u0 = family.sample(count, axis.nodes, rng)
    parameters = sample_parameters(problem, inputs, count, rng)
    if cache is not None and cache.exists():
        with np.load(cache) as stored:
            same = stored["u0"].shape == u0.shape and np.array_equal(stored["u0"], u0)
            if same and all(np.array_equal(stored[f"parameter_{k}"], v) for k, v in parameters.items()):
                return ReferenceSet(u0, parameters, stored["u"])
    solve = truth_solver(problem)
    solutions = []
    for i in tqdm(range(count), desc="references", leave=False):
        solutions.append(solve(u0[i], {key: float(value[i]) for key, value in parameters.items()}))
    result = ReferenceSet(u0, parameters, np.stack(solutions))
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_npz(cache, {"u0": u0, "u": result.u, **{f"parameter_{k}": v for k, v in parameters.items()}})
    return result
