"""What calibration reaches: error, coverage and cost of fits, beside the same fits by a classical solver.

    python -m training.calibration [--draws 120] [--model NAME]

Data are made by the converged classical solver at parameters drawn from the model's range, on 4 positions × 5 times.
Seconds are CPU time of one thread; on a machine whose cores are shared they still vary by a factor of two.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import pihc_zoo as pz
from pihc_zoo.calibration.correction import parameters_of
from pihc_zoo.calibration.unknowns import starting_points
from pihc_zoo.cli.arguments import Parser
from pihc_zoo.evaluation.clocks import one_thread
from pihc_zoo.problems import DiffusionSorption
from pihc_zoo.reference import MethodOfLines, truth_solver

from .console import guarded, integer

UNKNOWN, U0 = ["D", "n_f"], 0.02
POSITIONS = np.array([0.2, 0.4, 0.6, 0.8])


@dataclasses.dataclass(frozen=True)
class Case:
    """Experiments with a model.

    Attributes:
        times: of the readings.
        known: parameters that the fit is told.
        truth: of the fit whose time is measured.
        low, high: of the true values drawn, from the inner part of the model's range; D in its logarithm.
        num_nodes: of LSODA's grid; None: the problem's own cells.
    """

    model: str
    times: np.ndarray
    known: dict[str, float]
    truth: dict[str, float]
    low: tuple[float, float]
    high: tuple[float, float]
    num_nodes: int | None = None

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(20,) positions and times of the readings."""
        x, t = np.meshgrid(POSITIONS, self.times)
        return x.ravel(), t.ravel()

    def drawn(self, rng: np.random.Generator) -> dict[str, float]:
        """True parameters."""
        d = np.exp(rng.uniform(np.log(self.low[0]), np.log(self.high[0])))
        return {"D": float(d), "n_f": float(rng.uniform(self.low[1], self.high[1]))}


CASES = (
    Case(
        "diffusion-sorption.parametric",
        np.array([100.0, 200.0, 300.0, 400.0, 500.0]),
        {"phi": 0.3},
        {"D": 4e-4, "n_f": 0.8},
        (2.5e-4, 0.58),
        (8e-4, 0.9),
    ),
    Case(
        "column-transport.freundlich",
        np.array([2.0, 5.0, 10.0, 15.0, 20.0]),
        {"v": 0.1, "k": 1.0, "c_in": 0.5},
        {"D": 4e-3, "n_f": 0.8},
        (2.5e-3, 0.65),
        (8e-3, 0.9),
        256,
    ),
)
NOISES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "1 % of each reading": lambda u: 0.01 * u,
    "0.01, 1 % of the range": lambda u: np.full_like(u, 0.01),
}


class Langmuir(DiffusionSorption):
    """The same with R(u) = 1 + (1 − φ)/φ ρ_s K / (1 + L u)²."""

    affinity, capacity = 5.0, 2.2e-3  # L, dimensionless, and K, m³/kg

    def retardation_factor(self, u, c):
        """R(u), dimensionless."""
        sorbed = (1 - c["phi"]) / c["phi"] * c["rho_s"] * self.capacity
        return 1 + sorbed / (1 + self.affinity * u.clip(min=0)) ** 2


def exact(solver: Any, case: Case, truth: dict[str, float]) -> np.ndarray:
    """(20,) readings without noise."""
    count = len(solver.problem.output_space["x"].nodes)
    return solver(np.full(count, U0), {**truth, **case.known}, times=case.times, x=POSITIONS).ravel()


def measured(case: Case, u: np.ndarray, noise: Callable, rng: np.random.Generator) -> dict:
    """One experiment with its noise."""
    (x, t), sigma = case.points, noise(u)
    return {"u0": U0, "x": x, "t": t, "u": u + sigma * rng.standard_normal(len(u)), "sigma": sigma}


def coverage(model: Any, case: Case, truths: list, noise: Callable, has_sigma: bool) -> None:
    """Prints errors, coverage and verdicts of many fits.

    Args:
        truths: true parameters and exact readings of each.
    """
    inside, errors, bounds, trusted, profiles, polished, seconds = [], [], [], [], 0, 0, []
    for i, (truth, u) in enumerate(truths):
        data = measured(case, u, noise, np.random.default_rng([8, i]))
        if not has_sigma:
            del data["sigma"]
        begin = time.process_time()
        fit = pz.calibrate(model, data, UNKNOWN, case.known)
        seconds.append(time.process_time() - begin)
        inside.append([fit.interval[key][0] <= truth[key] <= fit.interval[key][1] for key in UNKNOWN])
        errors.append([abs(fit.parameters[key] / truth[key] - 1) for key in UNKNOWN])
        bounds.append([fit.standard_error[key] / fit.parameters[key] for key in UNKNOWN])
        trusted.append(fit.is_trustworthy)
        profiles += fit.interval_method == "profile"
        polished += fit.is_polished
    print(f"  {len(truths)} draws, u0 = {U0}, sigma {'given' if has_sigma else 'estimated'}:")
    for k, key in enumerate(UNKNOWN):
        median, expected = np.median([own[k] for own in errors]), np.nanmedian([own[k] for own in bounds])
        share = np.mean([own[k] for own in inside])
        print(
            f"    {key:4s} median error {100 * median:.2f} %, median standard error {100 * expected:.2f} %; "
            f"90 % intervals hold the truth in {100 * share:.0f} %"
        )
    print(
        f"    trustworthy {100 * np.mean(trusted):.0f} %, profile likelihood {profiles}, polished {polished}; "
        f"{np.median(seconds):.2f} s a fit (median), {max(seconds):.2f} s the slowest"
    )


def classical_fit(fit: Any, solver: MethodOfLines, step: float, starts: np.ndarray, descents: int) -> tuple:
    """The same fit by finite differences of a classical solver: values of the unknowns, and solves."""
    readings, (experiment,) = fit.readings, fit.experiments
    times = np.unique(experiment.t)
    count = 0

    def residual(shifted: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        own = parameters_of(readings, shifted - 3, 0)
        return (solver(experiment.u0, own, times=times, x=POSITIONS).ravel() - experiment.u) / experiment.sigma

    if len(starts) > descents:
        costs = [float(np.sum(residual(start + 3) ** 2)) for start in starts]
        starts = starts[np.argsort(costs)[:descents]]
    # unknowns are shifted to [2, 4], since SciPy's difference steps are relative
    found = [
        least_squares(residual, z + 3, bounds=(2, 4), diff_step=step / 3, xtol=1e-4, ftol=1e-4, gtol=1e-8)
        for z in starts
    ]
    best = min(found, key=lambda own: own.cost)
    return parameters_of(readings, best.x - 3, 0), count


def speed(model: Any, case: Case, solver: Any, repeats: int = 5) -> None:
    """Prints times of one fit, by the surrogate and by LSODA at several tolerances, in one run."""
    data = measured(case, exact(solver, case, case.truth), NOISES["1 % of each reading"], np.random.default_rng(3))
    fit = pz.calibrate(model, data, UNKNOWN, case.known)  # warm
    rows = []
    for starts in (16, 1):
        times = []
        for _ in range(repeats):
            begin = time.process_time()
            fit = pz.calibrate(model, data, UNKNOWN, case.known, starts=starts)
            times.append(time.process_time() - begin)
        first, what = min(times), f"{starts} start{'s, the best 3 descended' if starts > 1 else ''}"
        rows.append((f"surrogate, {what}", first, fit.num_solves, fit.parameters, 1.0))
        for tolerance in (1e-10, 1e-8, 1e-6, 1e-5):
            own = MethodOfLines(model.problem, tolerance, tolerance, case.num_nodes)
            begin = time.process_time()
            values, count = classical_fit(fit, own, 1e-3, starting_points(starts, len(UNKNOWN), 0), 3)
            seconds = time.process_time() - begin
            rows.append((f"LSODA at {tolerance:g}, {what}", seconds, count, values, seconds / first))
    for name, seconds, count, values, ratio in rows:
        shown = ", ".join(f"{key} {values[key]:.6g}" for key in UNKNOWN)
        off = max(abs(values[key] - fit.parameters[key]) / fit.standard_error[key] for key in UNKNOWN)
        print(
            f"  {name:46s} {seconds:7.2f} s {count:4d} solves  {ratio:6.1f}×   {shown}   {off:.3f} standard errors off"
        )
    begin = time.process_time()
    posterior = fit.sample(2000, 32)
    print(f"  {time.process_time() - begin:.1f} s: {posterior.summary()}")
    model_solves = 64_000
    begin = time.process_time()
    lines = MethodOfLines(model.problem, 1e-5, 1e-5, case.num_nodes)
    lines(fit.experiments[0].u0, parameters_of(fit.readings, fit.z, 0))
    one = time.process_time() - begin
    print(f"  {model_solves} likelihoods by LSODA at 1e-5 would take {model_solves * one / 60:.0f} min")


def other_physics(model: Any, case: Case, draws: int) -> None:
    """Prints how often data with Langmuir sorption are called trustworthy."""
    print("Data with Langmuir sorption, fitted with Freundlich's:")
    for affinity, capacity in ((2.0, 9.2e-4), (5.0, 2.2e-3), (10.0, 5e-3)):
        problem = Langmuir()
        problem.affinity, problem.capacity = affinity, capacity
        solver = truth_solver(problem)
        u = exact(solver, case, {"D": 4e-4})
        for name, noise in NOISES.items():
            fits = []
            for i in range(draws):
                data = measured(case, u, noise, np.random.default_rng([9, i]))
                fits.append(pz.calibrate(model, data, UNKNOWN, case.known, intervals="covariance", polish=False))
            chi2 = np.median([fit.reduced_chi2 for fit in fits])
            flagged = sum(not fit.is_trustworthy for fit in fits)
            print(f"  L = {affinity:g}, sigma {name}: flagged {flagged} of {draws}, reduced chi² {chi2:.2f} (median)")


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    parser = Parser(prog="python -m training.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=integer(1), default=120, help="fits per row of the table (default 120)")
    parser.add_argument("--model", choices=[case.model for case in CASES], help="one of the models alone")
    return guarded(lambda: _run(parser.parse_args(arguments)), "run the same command again")


def _run(options: argparse.Namespace) -> None:
    """Runs all of it."""
    for case in CASES:
        if options.model in (None, case.model):
            with one_thread():
                _case(case, options.draws)


def _case(case: Case, draws: int) -> None:
    model = pz.from_pretrained(case.model)
    solver = truth_solver(model.problem)
    print(f"{case.model}: one fit, 20 readings, one thread:")
    speed(model, case, solver)
    truths = []
    for i in range(draws):
        truth = case.drawn(np.random.default_rng([7, i]))
        truths.append((truth, exact(solver, case, truth)))
    for name, noise in NOISES.items():
        print(f"Fits, sigma {name}:", flush=True)
        coverage(model, case, truths, noise, has_sigma=True)
    print("Fits, sigma 0.003, not told:", flush=True)
    coverage(model, case, truths, lambda u: np.full_like(u, 0.003), has_sigma=False)
    if isinstance(model.problem, DiffusionSorption):
        other_physics(model, case, max(3, draws // 12))


if __name__ == "__main__":
    sys.exit(main())
