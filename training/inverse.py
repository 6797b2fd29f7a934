"""An initial vorticity from noisy sensors: by a surrogate, and by a differentiable pseudo-spectral solver.

    python -m training.inverse [--model navier-stokes-2d.re1e4]

The same readings (64 sensors at 8 times, 5 % noise), prior and method; only the solver differs. Prints error, the
size of the standardised error, and CPU seconds of one thread; the pseudo-spectral solver on several grids and steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pihc_zoo as pz
from pihc_zoo.calibration.smooth_field import SmoothField, recover
from pihc_zoo.cli.arguments import Parser
from pihc_zoo.evaluation.clocks import one_thread
from pihc_zoo.families import PeriodicGaussianProcess
from pihc_zoo.reference import truth_solver
from pihc_zoo.reference.fourier import resized
from pihc_zoo.reference.semi_discrete import FourierSemiDiscrete
from pihc_zoo.solvers.runge_kutta import integrating_factor_step

from .console import guarded, integer

SENSORS, TIMES, NOISE, LENGTH_SCALE = 64, np.linspace(0.625, 5.0, 8), 0.05, 0.8


class DifferentiableSpectral:
    """Readings by a dealiased pseudo-spectral method of constant steps, in autograd.

    Args:
        problem: on periodic axes.
        nodes: per axis.
        steps: between two times.
        points: (sensor,) positions by axis.
        parameters: of the problem.
        dtype: of the computation.
    """

    def __init__(self, problem, nodes: int, steps: int, points: dict[str, np.ndarray], parameters: dict, dtype):
        axes = problem.output_space
        space = {name: replace(axis, num_nodes=nodes, dealiasing=1.5) for name, axis in axes.items()}
        self.model = FourierSemiDiscrete(problem, space, dtype, "cpu")
        c = problem.as_tensors(parameters).to(dtype)
        self.nodes, self.dtype = nodes, dtype
        self.band = [axis.band for axis in space.values()]
        self.rates, self.size, self.steps = self.model.with_parameters(c), float(TIMES[0]) / steps, steps
        complex_type = self.model.features.modes_dtype
        self.half = torch.exp(-self.rates.symbol * (self.size / 2)).to(complex_type)
        own = [axis.interpolation(points[name]) for name, axis in space.items()]
        self.matrices = [torch.as_tensor(matrix, dtype=dtype) for matrix in own]

    def __call__(self, u0: Tensor) -> Tensor:
        """(rows, n, n) ↦ (rows, time · sensor)."""
        shape = (self.nodes,) * 2
        modes = torch.fft.rfftn(u0.to(self.dtype), dim=(-2, -1), norm="forward")[:, None]
        modes = resized(modes, tuple(u0.shape[1:]), self.model.features.shape, self.band)
        parts = []
        for _ in TIMES:
            for _ in range(self.steps):
                modes = integrating_factor_step(modes, self.rates, self.half, self.size)
            values = self.model.features.to_values(resized(modes, self.model.features.shape, shape, self.band), shape)
            parts.append(torch.einsum("rxy,sx,sy->rs", values, *self.matrices))
        return torch.cat(parts, dim=1).double()


def main(arguments: list[str] | None = None) -> int:
    """Command line; errors are one line and exit code 2."""
    parser = Parser(prog="python -m training.inverse", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="navier-stokes-2d.re1e4")
    parser.add_argument("--seed", type=integer(0), default=5)
    parser.add_argument("--plot", type=Path)
    return guarded(lambda: _run(parser.parse_args(arguments)), "run the same command again")


def _run(options: argparse.Namespace) -> None:
    """Makes the data, recovers the field by every solver, prints a table."""
    model = pz.from_pretrained(options.model)
    problem, rng = model.problem, np.random.default_rng(options.seed)
    nodes = np.arange(32) / 32
    truth = PeriodicGaussianProcess(length_scale=LENGTH_SCALE).sample(1, [nodes, nodes], rng)[0]
    points = dict(zip(("x", "y"), rng.uniform(0, 1, (2, SENSORS)), strict=True))
    (x, i), (y, j) = (np.unique(points[key], return_inverse=True) for key in ("x", "y"))
    u = truth_solver(problem)(truth, x={"x": x, "y": y}, times=TIMES)[:, i, j].ravel()
    sigma = NOISE * u.std()
    data = {key: np.tile(own, len(TIMES)) for key, own in points.items()}
    data |= {"t": np.repeat(TIMES, SENSORS), "u": u + sigma * rng.standard_normal(len(u)), "sigma": sigma}

    def show(name: str, u0: np.ndarray, spread: np.ndarray, steps: int, seconds: float) -> None:
        error = np.linalg.norm(u0 - truth) / np.linalg.norm(truth)
        size = np.sqrt(np.mean(((u0 - truth) / spread) ** 2))
        print(
            f"{name:48s} error {100 * error:6.2f} %   {size:.2f} standard errors   {steps} Jacobians {seconds:6.1f} s"
        )

    with one_thread():
        begin = time.process_time()
        fit = pz.calibrate(model, data, ["u0"], length_scale=LENGTH_SCALE)
        show(model.name, fit.u0, fit.standard_error, fit.num_jacobians, time.process_time() - begin)
        print(fit.summary())
        if options.plot is not None:
            fit.plot(options.plot, truth)
        for count, steps, dtype in ((32, 8, torch.float32), (32, 12, torch.float64)):
            begin = time.process_time()
            solver = DifferentiableSpectral(problem, count, steps, points, {}, dtype)
            field = SmoothField(problem.output_space, LENGTH_SCALE, float(np.sqrt(np.mean(data["u"] ** 2))), False)
            found = recover(solver, field, data["u"], np.full(len(u), sigma))
            name = f"pseudo-spectral {count}², {steps * len(TIMES)} steps, {str(dtype).removeprefix('torch.')}"
            show(name, found.u0, found.standard_error, found.steps, time.process_time() - begin)


if __name__ == "__main__":
    sys.exit(main())
