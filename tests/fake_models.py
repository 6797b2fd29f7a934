"""A model of Navier–Stokes without a network: vorticity decays like Taylor–Green vortices, w(t) = w(0) exp(−8π²νt)."""

from __future__ import annotations

import numpy as np

from pihc_zoo.grid import FourierAxis
from pihc_zoo.prediction.answer import Answer
from pihc_zoo.prediction.assembly import assemble
from pihc_zoo.prediction.initial_values import check_values
from pihc_zoo.prediction.request import check_request
from pihc_zoo.prediction.trust import Trust
from pihc_zoo.problems import NavierStokes2D
from pihc_zoo.status import Status


def taylor_green(n: int = 32, amplitude: float = 1.0, waves: int = 1) -> np.ndarray:
    """(n, n) w = a sin(2πkx) sin(2πky), a steady flow without viscosity: ψ = −w / (8π²k²)."""
    s = np.sin(2 * np.pi * waves * np.arange(n) / n)
    return amplitude * np.outer(s, s)


class DecayingVortices:
    """Takes part in ``predict`` as real models do, in windows of one time unit.

    Args:
        failure_times: by trajectory, where a roll-out fails.
    """

    problem = NavierStokes2D()
    parameter_inputs = ("nu",)

    def __init__(self, failure_times: dict[int, float] | None = None):
        self.failure_times = failure_times or {}

    def predict(
        self,
        u0,
        x=None,
        times=None,
        parameters=None,
        *,
        input_x=None,
        on_failure="warn",
        like_input=np.asarray,
    ):
        request = check_request(self.problem, self.parameter_inputs, u0, x, times, parameters, input_x, on_failure)
        messages = check_values(self.problem, request.values, on_failure)
        good = np.flatnonzero([not message for message in messages])
        num_windows = max(1, int(np.ceil(request.times.max())))
        answers = [self._answer(request, good[i : i + 2], num_windows) for i in range(0, len(good), 2)]
        return assemble(
            self.problem,
            request,
            messages,
            answers,
            num_subproblems=num_windows,
            num_experts=1,
            trust=Trust(state_range=(-3.0, 3.0), threshold=0.05),
            name="decaying-vortices",
            on_failure=on_failure,
            like_input=like_input,
        )

    def _answer(self, request, rows, num_windows):
        nu = np.broadcast_to(request.c["nu"], (len(request.values),))[rows]
        decay = np.exp(-8 * np.pi**2 * nu[:, None] * request.times)
        start = request.values[rows]
        for i, (name, points) in enumerate(request.points.items()):
            matrix = FourierAxis(len(request.input_points[name])).interpolation(points)
            start = np.moveaxis(np.moveaxis(start, i + 1, -1) @ matrix.T, -1, i + 1)
        status = np.full((len(rows), num_windows), int(Status.CONVERGED))
        failure_time = np.array([self.failure_times.get(int(row), np.nan) for row in rows])
        for own, at in zip(status, failure_time, strict=True):
            if np.isfinite(at):
                own[int(at)], own[int(at) + 1 :] = int(Status.MAX_STEPS), int(Status.NOT_SOLVED)
        u = decay[:, :, None, None] * start[:, None]
        return Answer(
            u=u,
            coefficients=np.zeros((len(rows), num_windows, 3)),
            status=status,
            iterations=np.ones_like(status),
            residual=np.full(len(rows), 1e-3),
            residual_per_expert=np.full((len(rows), 1), 1e-3),
            estimated_error=np.full(len(rows), 0.01),
            unresolved=np.zeros(len(rows)),
            read_field=lambda key: 0.01 * u,
            failure_time=failure_time if self.failure_times else None,
        )
