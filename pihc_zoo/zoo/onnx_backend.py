"""The ONNX backend: predictions with numpy and onnxruntime alone; torch is never imported."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as configuration
from ..grid import Axis, Grid
from ..prediction.answer import Answer
from ..prediction.assembly import assemble
from ..prediction.initial_values import check_values
from ..prediction.prediction import Prediction
from ..prediction.request import Request, check_request
from ..prediction.trust import Trust
from ..problems import Problem, problem_of
from ..text import nearest
from .folder import ONNX_DATA_FILES, ONNX_FILE, check_file, read_config

_CHUNK = 8  # trajectories per run: the working set stays in cache


class OnnxSurrogate:
    """A model folder's graph with the ``predict`` of `Surrogate`.

    The graph solves on its own grid, with its own experts and solver settings. Any output points and
    times are read from its nodes by the interpolation that the torch backend uses; initial
    conditions on other points are first brought to the native ones.

    Args:
        folder: holds config.json and model.onnx.
        providers: onnxruntime's execution providers, in order of preference.

    Raises:
        ConfigError: config.json is missing, foreign or newer.
        ValueError: onnxruntime is not installed, or model.onnx is missing, damaged or another model's.
    """

    def __init__(self, folder: str | os.PathLike, providers: Sequence[str] = ("CPUExecutionProvider",)):
        folder = Path(folder)
        self.config: dict[str, Any] = read_config(folder)
        self.problem: Problem
        self.parameter_inputs: tuple[str, ...]
        self.problem, self.parameter_inputs = problem_of(self.config["problem"])
        self.trust: Trust = configuration.build("trust", Trust, self.config["trust"])
        self.grid = Grid.from_spec(self.config["grid"])
        self.decomposition = {"counts": {}, **self.config["decomposition"]}
        path = folder / ONNX_FILE
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} has no {ONNX_FILE}; make one with: pihc export {folder} --to DIR --onnx")
        for name in (ONNX_FILE, *ONNX_DATA_FILES):
            check_file(folder, name, self.config)
        self.session = create_session(path, providers)
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        self.name = self.metadata.get("model") or folder.resolve().name
        self._check_graph(path)

    def _check_graph(self, path: Path) -> None:
        digest = json.dumps(self.config.get("weights_sha256"))
        if self.metadata.get("format") != configuration.FORMAT:
            raise ValueError(f"{str(path)!r} is not a pihc_zoo graph; make one with: pihc export MODEL --to DIR --onnx")
        if self.metadata.get("weights_sha256") != digest:
            raise ValueError(
                f"{str(path)!r} was made from other weights than its config.json names; export the model again"
            )

    @property
    def provider(self) -> str:
        """The execution provider that is really active."""
        return self.session.get_providers()[0]

    def predict(
        self,
        u0: Any = None,
        x: Any = None,
        times: Any = None,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: Any = None,
        experts: Any = None,
        max_steps: int | None = None,
        rtol: float | None = None,
        polish: bool | None = None,
        on_failure: str = "warn",
    ) -> Prediction:
        """Solves for new initial conditions; arguments and result are those of `Surrogate.predict`.

        Raises:
            ValueError: as there, for experts, max_steps and rtol other than the graph's, and for polish=True.
        """
        if polish:
            raise ValueError("the graph does not polish; leave polish out, or load the model with backend='torch'")
        request = check_request(self.problem, self.parameter_inputs, u0, x, times, parameters, input_x, on_failure)
        self._check_options(experts, max_steps, rtol)
        messages = check_values(self.problem, request.values, on_failure, request.input_points)
        good = np.flatnonzero([not message for message in messages])

        native = {name: axis.nodes for name, axis in self.problem.output_space.items()}
        input_points, points = request.input_points, request.points
        values = request.values[good]
        inputs = {"u0": self._resampled(values, input_points, native), **self._parameters(request, good, native)}
        taken = [given.name for given in self.session.get_inputs()]
        is_native = all(np.array_equal(points[name], native[name]) for name in native)
        is_native = is_native and np.array_equal(request.times, self.problem.output_times)
        names = [output.name for output in self.session.get_outputs()]
        wanted = [name for name in names if name != "u" or is_native]

        answers = []
        for first in range(0, len(good), _CHUNK):
            rows = slice(first, first + _CHUNK)
            feed = {name: np.ascontiguousarray(inputs[name][rows]) for name in taken}
            part = dict(zip(wanted, self.session.run(wanted, feed), strict=True))
            if not is_native:
                part["u"] = self._read(part["u_nodes"], self.grid, request.times, points)
            for row in np.flatnonzero(request.times == 0):
                part["u"][:, row] = self._resampled(values[rows], input_points, points)
            if not request.is_default:
                part["estimated_error"] = self._estimate(part, request)
            figures = {field.name: part[field.name] for field in fields(Answer) if field.name in part}
            answers.append(Answer(**figures, read_field=partial(self._read_field, part, request.times, points)))

        counts = self.decomposition["counts"]
        num_experts = int(np.prod([1, *counts.values()]))
        return assemble(
            self.problem,
            request,
            messages,
            answers,
            num_subproblems=1 if self.decomposition["name"] == "joint" else num_experts,
            num_experts=num_experts,
            trust=self.trust,
            name=self.name,
            on_failure=on_failure,
        )

    def _parameters(self, request: Request, good: np.ndarray, native: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """(batch,) numbers and fields at the native points and series, of the usable trajectories."""
        found = {key: np.broadcast_to(request.c[key], len(request.values))[good] for key in self.parameter_inputs}
        for key in self.problem.series:
            found[key] = request.c[key][good]
        for key in self.problem.coefficient_fields:
            values = request.c[key][good]
            found[key] = self._resampled(values, self.problem.native_points(values.shape[1:]), native)
        return found

    def _read_field(
        self, part: dict[str, np.ndarray], times: np.ndarray, points: dict[str, np.ndarray], key: str
    ) -> np.ndarray:
        return self._read(part[f"{key}_nodes"], self._fine if key == "estimated_error" else self.grid, times, points)

    def _resampled(
        self, values: np.ndarray, source: dict[str, np.ndarray], target: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Initial conditions (batch, *source[, field]) ↦ (batch, *target[, field])."""
        for dim, (name, axis) in enumerate(self.problem.output_space.items(), start=1):
            if not np.array_equal(source[name], target[name]):
                values = _along(values, _resampling(axis, source[name].tobytes(), target[name].tobytes()), dim)
        return values

    @property
    def _fine(self) -> Grid:
        """The estimator's grid."""
        return self.grid.refined(self.trust.refinement)

    def _estimate(self, part: dict[str, np.ndarray], request: Request) -> np.ndarray:
        """(batch,) estimated error at the times and points of a request; NaN where times precede the graph's estimate.

        The graph gives the explained error at nodes and the whole estimate over its own output; the share of what
        is not explained is taken to be the same everywhere.
        """
        first = self.problem.output_times[self.problem.output_times > 0].min()
        times = request.times[request.times > 0]
        if not len(times):
            return np.zeros(len(part["u_nodes"]))
        if times.min() < first * (1 - 1e-9):
            return np.full(len(part["u_nodes"]), np.nan)

        def squares(key: str, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            """(batch, time) mean squares over space at the times asked for, (batch,) over the default ones."""
            own = np.square(part[f"{key}_nodes"])
            for axis in grid.space.values():
                inner = np.moveaxis(own, 2, -1)[..., axis.num_before : axis.num_before + len(axis.nodes)]
                own = inner @ (axis.weights / axis.weights.sum())
            own = own.reshape(*own.shape[:2], -1).mean(axis=2)  # (batch, closed time)
            covered = grid.time.closed_nodes >= first
            at = np.stack([np.interp(times, grid.time.closed_nodes[covered], row[covered]) for row in own])
            share = grid.time.weights[covered[1:]]
            return at, own[:, 1:][:, covered[1:]] @ share / share.sum()

        (error, error_default), (u, u_default) = squares("estimated_error", self._fine), squares("u", self.grid)
        share = np.maximum(1.0, part["estimated_error"] / np.sqrt(error_default / u_default))
        if request.has_own_points:
            points, space = request.points, tuple(range(2, part["u_nodes"].ndim))
            near = np.square(self._read(part["estimated_error_nodes"], self._fine, times, points)).mean(axis=space)
            error = np.maximum(error, near)
            u = np.square(self._read(part["u_nodes"], self.grid, times, points)).mean(axis=space)
        return share * np.sqrt(error.sum(axis=1) / u.sum(axis=1))

    @staticmethod
    def _read(closed: np.ndarray, grid: Grid, times: np.ndarray, points: dict[str, np.ndarray]) -> np.ndarray:
        """(batch, closed time, *closed space[, field]) values at nodes ↦ (batch, time, *points[, field])."""
        values = _along(closed, grid.time.interpolation(times), 1)
        for dim, (name, axis) in enumerate(grid.space.items(), start=2):
            values = _along(values, axis.interpolation(points[name]), dim)
        return values

    def _check_options(self, experts: Any, max_steps: int | None, rtol: float | None) -> None:
        counts = self.decomposition["counts"]
        if experts is not None:
            asked = experts if isinstance(experts, dict) else {self.problem.default_axis: experts}
            if asked != counts:
                raise ValueError(
                    f"the graph has experts {counts or 1} built in, not {experts!r}; "
                    "leave experts out, or load the model with backend='torch'"
                )
        built_in = self.config["solver"] | {"max_steps": json.loads(self.metadata["max_steps"])}
        for key, value in {"max_steps": max_steps, "rtol": rtol}.items():
            if value is not None and value != built_in.get(key):
                raise ValueError(
                    f"{key} is built into the graph and cannot be {value!r}; "
                    f"leave it out, or load the model with backend='torch'"
                )


def create_session(path: str | os.PathLike, providers: Sequence[str] = ("CPUExecutionProvider",)) -> Any:
    """An onnxruntime session that keeps to OMP_NUM_THREADS.

    Raises:
        ValueError: onnxruntime is not installed, a provider is unknown, or the file is not a graph.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("the ONNX backend needs onnxruntime; install: pip install 'pihc_zoo[onnx]'") from None
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            raise ValueError(f"onnxruntime has no {provider!r} here; {nearest(provider, available)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        options.intra_op_num_threads = int(threads)
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=list(providers))
    except Exception as error:  # onnxruntime raises its own types; the cause is in their text
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{os.fspath(path)!r} cannot be run ({cause}); download or export it again") from None


def _along(values: np.ndarray, matrix: np.ndarray, dim: int) -> np.ndarray:
    """Values taken along one dimension by a matrix."""
    return np.moveaxis(np.moveaxis(values, dim, -1) @ matrix.T, -1, dim)


@lru_cache(maxsize=16)
def _resampling(axis: Axis, source: bytes, target: bytes) -> np.ndarray:
    """(target, source) interpolation between positions on an axis, given as the bytes of float64 arrays."""
    return axis.resampling(np.frombuffer(source), np.frombuffer(target))
