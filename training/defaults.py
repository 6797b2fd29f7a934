"""What a recipe leaves out, from its problem: grid, lift, network, maps, solver, trust, by measured trials.

A few initial fields of the recipe's family are solved classically. Then settings of increasing cost are tried,
untrained, until lift and corrections alone are within `GOAL` of these solutions. Everything is drawn from a fixed seed,
so that a recipe always means the same settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pihc_zoo import config as configuration
from pihc_zoo.config import ConfigError
from pihc_zoo.families import Family
from pihc_zoo.grid import Axis
from pihc_zoo.problems import Problem
from pihc_zoo.progress import progress
from pihc_zoo.reference import in_passes, truth_solver
from pihc_zoo.sampling import draw
from pihc_zoo.surrogate import Surrogate
from pihc_zoo.text import percent

GOAL = 5e-4  # mean relative error of the trials' solutions
WORTH = 0.7  # a dearer trial is taken if it leaves so much of the error
PROBES, SEED = 8, 7_000
SEEN = 256  # initial fields whose range the model is trusted for
TAIL = 1e-4  # relative norm of the modes that a grid may leave out
LEAST = 1e-6  # size of corrections relative to the fields
STEPS = 16  # of the lift in a window
_PERIODIC_NODES = {1: (32, 48, 64, 96, 128, 192, 256, 384, 512), 2: (16, 24, 32, 48, 64, 96, 128)}
_WINDOWS = (1, 2, 4, 5, 8, 10, 16, 20, 32, 40, 64, 80, 128)
# (nodes, elements, stages, sweeps of the lift, corrections) between walls, by number of axes
_BOUNDED = {
    1: ((48, 4, 4, 2, 4), (64, 5, 5, 2, 6), (64, 6, 5, 4, 8), (96, 6, 5, 6, 8), (128, 8, 5, 8, 8)),
    2: ((24, 1, 4, 3, 2), (32, 1, 4, 3, 2), (40, 1, 4, 4, 2), (48, 2, 3, 5, 2)),
}
_GRADINGS = (1.0, 2.0)
_BOUNDED_WINDOWS = {1: (1, 2, 5, 10), 2: (1, 5, 10, 20)}


def completed(
    config: dict[str, Any], training: dict[str, Any], problem: Problem, family: Family, quiet: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration with all parts, and settings of training; what is given stays as it is.

    Args:
        config: parts by name, at least the problem.
        training: settings by name.
        family: of initial conditions, of the trials.
        quiet: no progress bar.

    Raises:
        ConfigError: the problem has no classical solution to compare with, or axes for which there are no defaults.
    """
    trials = _Trials(config, problem, family, quiet)
    best: tuple[float, dict[str, Any]] | None = None
    candidates = list(trials.candidates())
    bar = progress(candidates, "settings", total=len(candidates), quiet=quiet)
    for candidate in bar:
        error = trials.error(candidate)
        bar.set_postfix_str(f"error {100 * error:.3g} %")
        if best is None or error < WORTH * best[0]:
            best = error, candidate
        if best[0] <= GOAL:
            break
    found = trials.scaled(best[1])
    return found, {**found.pop("training"), **training}


class _Trials:
    def __init__(self, config: dict[str, Any], problem: Problem, family: Family, quiet: bool = False):
        self.given, self.problem, self.family = config, problem, family
        self.inputs = tuple(config["problem"].get("inputs", ()))
        self.space = problem.output_space
        if len(self.space) > 2:
            raise ConfigError("settings are derived for one or two axes; give a [grid]")
        self.is_periodic = all(axis.is_periodic for axis in self.space.values())
        self.u0, self.c = draw(problem, family, self.inputs, PROBES, SEED)
        try:
            solver = truth_solver(problem)
            passes = -(-PROBES // solver.pass_size)
            solutions = in_passes(solver, self.u0, self.c)
            self.truth = np.concatenate(list(progress(solutions, "classical solutions", total=passes, quiet=quiet)))
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"settings are derived by classical solutions, but there are none: {error}") from None
        self.size = np.linalg.norm(self.truth.reshape(PROBES, -1), axis=1)

    # ------------------------------------------------------------------ settings

    def candidates(self) -> Iterator[dict[str, Any]]:
        """Configurations, from cheap to dear."""
        yield from self._periodic() if self.is_periodic else self._bounded()

    def _only_one_where_series(self, windows: tuple[int, ...]) -> tuple[int, ...]:
        """Counts of windows to try: a series over time belongs to the whole duration."""
        return windows[:1] if self.problem.series else windows

    def _periodic(self) -> Iterator[dict[str, Any]]:
        nodes = self._resolution()
        space = {name: self._axis(axis, nodes[name]) for name, axis in self.space.items()}
        counts = {name: min(16, own // 4) for name, own in nodes.items()}
        for windows in self._only_one_where_series(_WINDOWS):
            yield self._config(
                time=self._time(windows, 1, 8, power=1.0),
                space=space,
                network={
                    "name": "fourier_operator",
                    "num_basis": 8 * len(self.problem.fields),
                    "width": 16,
                    "num_layers": 2,
                    "modes": list(counts.values()),
                    "degree": 4,
                },
                ansatz={"name": "stepped", "steps": STEPS},
                training={"steps": 120, "batch": 8, "learning_rate": 2e-3, "loss": "mean", "validate_every": 60},
            )

    def _bounded(self) -> Iterator[dict[str, Any]]:
        count = len(self.space)
        for windows in self._only_one_where_series(_BOUNDED_WINDOWS[count]):
            for nodes, elements, stages, sweeps, corrections in _BOUNDED[count]:
                for grading in _GRADINGS if windows == 1 and count == 1 else _GRADINGS[:1]:
                    space = {name: self._axis(axis, nodes, grading) for name, axis in self.space.items()}
                    is_whole = windows == 1
                    yield self._config(
                        time=self._time(windows, elements, stages, power=2.0 if is_whole else 1.0),
                        space=space,
                        network={
                            "name": "cosine_operator",
                            "num_basis": 2 * len(self.problem.fields),
                            "width": 16,
                            "num_layers": 2,
                            "modes": [min(6, elements * stages), *[12 // count] * count],
                        },
                        ansatz={"name": "linearised", "sweeps": sweeps, "num_corrections": corrections},
                        training={"steps": 200, "batch": 8, "learning_rate": 1e-3, "validate_every": 100},
                    )

    @staticmethod
    def _axis(axis: Axis, nodes: int, grading: float = 1.0) -> dict[str, Any]:
        """A periodic axis, or one between walls."""
        if axis.is_periodic:
            return {"name": "fourier", "num_nodes": nodes, "length": axis.stop - axis.start, "start": axis.start}
        ends = {"start": float(axis.closed_nodes[0]), "stop": float(axis.closed_nodes[-1])}
        return {"name": "graded", "num_nodes": nodes, **ends, "grading": grading}

    def _time(self, windows: int, elements: int, stages: int, power: float) -> dict[str, Any]:
        return {
            "name": "radau",
            "duration": self.problem.span / windows,
            "elements": elements,
            "stages": stages,
            "power": power,
            "grading": 1.5 if power > 1 else 1.0,
        }

    def _config(self, time: Any, space: Any, network: Any, ansatz: Any, training: Any) -> dict[str, Any]:
        own = {
            "grid": {"time": time, "space": space},
            "network": network,
            "ansatz": ansatz,
            "residual_map": {"name": "inverse_linearised"},
            "decomposition": {"name": "joint", "counts": {}},
            "solver": {"name": "levenberg_marquardt", "max_steps": 12, "rtol": 1e-3, "ftol": 1e-2},
            "trust": {"refinement": 1.5, "krylov": 5} if not self.is_periodic else {"refinement": 1.5},
            "training": training,
        }
        return {**own, **self.given}

    def _resolution(self) -> dict[str, int]:
        """Nodes per periodic axis that carry the solutions, by the tails of their spectra.

        Where the output's own points do not carry them, twice as many or more, which is said.
        """
        found, count = {}, len(self.space)
        for i, (name, axis) in enumerate(self.space.items()):
            modes = np.abs(np.fft.rfft(self.truth, axis=2 + i)) ** 2
            power = np.moveaxis(modes, 2 + i, -1).reshape(-1, modes.shape[2 + i]).sum(axis=0)
            tails = np.sqrt(power[::-1].cumsum()[::-1] / power.sum())  # of modes k and above
            sizes, native = _PERIODIC_NODES[count], len(axis.nodes)
            if tails[-1] < TAIL:
                found[name] = next((own for own in sizes if own <= native and tails[own // 2] < TAIL), native)
                continue
            warnings.warn(
                f"the solutions still have {percent(float(tails[-1]))} of their size in the highest mode that the "
                f"{native} points of axis {name} carry: give the axis more points",
                RuntimeWarning,
                stacklevel=2,
            )
            found[name] = next((own for own in sizes if own >= 2 * native), sizes[-1])
        return found

    # ------------------------------------------------------------------ trials

    def _model(self, candidate: dict[str, Any]) -> Surrogate:
        config = {key: value for key, value in candidate.items() if key != "training"}
        config |= {"format": configuration.FORMAT, "config_version": "{}.{}".format(*configuration.CONFIG_VERSION)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return Surrogate.from_config(config).eval()

    def error(self, candidate: dict[str, Any]) -> float:
        """Mean relative error of the untrained model; infinite where it has no answer."""
        model = self._model(candidate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = model.predict(self.u0, parameters=self.c, polish=False).u
        errors = np.linalg.norm((found - self.truth).reshape(PROBES, -1), axis=1) / self.size
        return float(errors.mean()) if np.isfinite(errors).all() else np.inf

    def scaled(self, candidate: dict[str, Any]) -> dict[str, Any]:
        """The configuration with the scales of its problem: of initial values, of corrections, of what was seen."""
        seen, _ = draw(self.problem, self.family, self.inputs, SEEN, SEED)

        def widened(name: str, own: np.ndarray) -> list[float]:
            field, low, high = self.problem.fields[name], float(own.min()), float(own.max())
            slack = 0.05 * (high - low) or 1.0
            return [_rounded(max(field.low, low - slack)), _rounded(min(field.high, high + slack))]

        candidate = dict(candidate)
        candidate["trust"] = {"state_range": self.problem.trained_on(seen, widened), **candidate["trust"]}
        if self.is_periodic:
            return candidate
        model = self._model(candidate)
        with torch.no_grad():
            initial = model.at_nodes(model.inward(torch.as_tensor(self.u0)), self._points())
            known = model.constraint.conditions(initial, model.tensors(self.c))
            correction = float(known.corrections[:, 0].square().mean().sqrt())
        size = float(np.sqrt(np.mean(self.u0**2))) or float(np.sqrt(np.mean(self.truth**2))) or 1.0
        correction = max(correction, LEAST * size)  # where the lift is exact
        scales = {
            "initial_scale": _rounded(size, 2),
            "correction_scale": _rounded(correction, 2),
            "basis_scale": _rounded(3 * correction, 2),
        }
        candidate["ansatz"] = {**scales, **candidate["ansatz"]}
        return candidate

    def _points(self) -> dict[str, np.ndarray]:
        return {name: axis.nodes for name, axis in self.space.items()}


def _rounded(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")
