"""The surrogate: network + hard constraint → `Prediction`."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .ansatz import LIFTS, Ansatz
from .assembly import assemble
from .constraint import ConstrainedField, HardConstraint
from .decomposition import DECOMPOSITIONS, Decomposition
from .estimate import ErrorEstimator, Readout
from .grid import AXES, Grid
from .inputs import check_request, check_values
from .networks import NETWORKS
from .operators.derivatives import FeatureOperator
from .operators.finite_difference import stencil_matrix
from .operators.linearised import LinearisedOperator
from .prediction import Prediction, Trust, to_numpy
from .problems import PROBLEMS, Problem
from .residual_map import RESIDUAL_MAPS
from .solvers.levenberg_marquardt import LevenbergMarquardt
from .zoo import config as configuration

_INPUT_STENCIL = 6  # width of the interpolation of initial conditions to the nodes
_CPU_CHUNK = 16  # trajectories per pass on a CPU: the working set stays in cache


class Surrogate(nn.Module):
    """A network under a hard constraint.

    Args:
        network: basis functions from input fields.
        constraint: the expert solves.
        config: as `zoo.config` describes it; stored with the weights.

    Calling it, ``model(u0, parameters)``, is an ordinary differentiable call; `predict` checks its
    input, takes numpy or torch, evaluates where asked and reports what to trust.
    """

    def __init__(self, network: nn.Module, constraint: HardConstraint, config: dict[str, Any]):
        super().__init__()
        self.network, self.constraint, self.config = network, constraint, config
        self.problem: Problem = constraint.problem
        self.name = ""
        self.trust: Trust = configuration.build("trust", Trust, config["trust"])
        self.estimator = ErrorEstimator(self.problem, constraint.operator, self.trust.refinement, self.trust.krylov)
        self._interpolations: dict = {}
        self._readouts: dict = {}

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Surrogate:
        """Builds an untrained surrogate.

        Raises:
            ConfigError: unknown names or settings.
        """
        config = copy.deepcopy(configuration.check_keys(config))
        problem_class, settings = configuration.lookup("problem", config["problem"], PROBLEMS)
        inputs = tuple(settings.pop("inputs", ()))
        problem = configuration.build("problem", problem_class, settings)
        for key in inputs:
            if key not in problem.parameters:
                raise configuration.ConfigError(
                    f"problem: no parameter {key!r}; {configuration.nearest(key, problem.parameters)}"
                )
        axes = {}
        for name, spec in {"t": config["grid"]["time"], **config["grid"]["space"]}.items():
            axis_class, settings = configuration.lookup("grid", spec, AXES)
            axes[name] = configuration.build("grid", axis_class, settings)
        grid = Grid(axes.pop("t"), axes)
        operator = FeatureOperator(problem, grid)
        linearised = LinearisedOperator(problem, operator)
        lift_class, settings = configuration.lookup("ansatz", config["ansatz"], LIFTS)
        lift = lift_class(operator, linearised)
        ansatz = configuration.build("ansatz", Ansatz, settings, operator=operator, lift=lift, parameter_inputs=inputs)
        network_class, settings = configuration.lookup("network", config["network"], NETWORKS)
        network = configuration.build("network", network_class, settings, grid=grid, num_inputs=ansatz.num_inputs)
        map_class, settings = configuration.lookup("residual_map", config["residual_map"], RESIDUAL_MAPS)
        residual_map = configuration.build(
            "residual_map", map_class, settings, operator=operator, linearised=linearised
        )
        decomposition_class, settings = configuration.lookup("decomposition", config["decomposition"], DECOMPOSITIONS)
        decomposition = configuration.build("decomposition", decomposition_class, settings)
        solver_class, settings = configuration.lookup(
            "solver", config["solver"], {"levenberg_marquardt": LevenbergMarquardt}
        )
        extra = {key: settings.pop(key) for key in ("ridge", "initial_coefficient") if key in settings}
        solver = configuration.build("solver", solver_class, settings)
        constraint = HardConstraint(operator, ansatz, residual_map, decomposition, solver, **extra)
        return cls(network, constraint, config)

    # ------------------------------------------------------------------ the differentiable call

    @property
    def device(self) -> torch.device:
        """Where weights and buffers are."""
        return self.constraint.ansatz.t.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network; solves are in float64 always."""
        return next(self.network.parameters()).dtype

    @property
    def parameter_inputs(self) -> tuple[str, ...]:
        """Parameters that the network was trained over."""
        return self.constraint.ansatz.parameter_inputs

    def with_network_dtype(self, dtype: torch.dtype) -> Surrogate:
        """The model with its network in ``dtype`` (float32 or float64); solves stay in float64."""
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, not {dtype}")
        self.network.to(dtype)
        return self

    def _matrix(self, source: np.ndarray, target: np.ndarray) -> Tensor:
        """(target, source) interpolation between positions on the one space axis; cached."""
        key = (source.tobytes(), target.tobytes(), self.device)
        if key not in self._interpolations:
            while len(self._interpolations) >= 16:
                self._interpolations.pop(next(iter(self._interpolations)))
            matrix = stencil_matrix(source, target, 0, _INPUT_STENCIL)
            self._interpolations[key] = torch.as_tensor(matrix, device=self.device)
        return self._interpolations[key]

    def _readout(self, operator: FeatureOperator, times: np.ndarray, points: dict[str, np.ndarray]) -> Readout:
        key = (id(operator), times.tobytes(), *(p.tobytes() for p in points.values()), self.device)
        if key not in self._readouts:
            while len(self._readouts) >= 8:
                self._readouts.pop(next(iter(self._readouts)))
            self._readouts[key] = Readout(operator, times, points).to(self.device)
        return self._readouts[key]

    def at_nodes(self, u0: Tensor, positions: np.ndarray, grid: Grid | None = None) -> Tensor:
        """(batch, n) initial values at ``positions`` ↦ (batch, nodes) of the surrogate's grid, float64."""
        (axis,) = (grid or self.constraint.grid).space.values()
        return u0.double() @ self._matrix(positions, axis.nodes).T

    def unresolved(self, u0: Tensor, initial: Tensor, positions: np.ndarray) -> Tensor:
        """(batch,) relative L2 part of u0 at ``positions`` that its values at the nodes do not carry."""
        (axis,) = self.constraint.grid.space.values()
        lost = u0 - initial @ self._matrix(axis.nodes, positions).T
        return lost.norm(dim=1) / u0.norm(dim=1).clamp(min=torch.finfo(u0.dtype).tiny)

    def constrained(self, u0: Tensor, c: dict[str, Tensor], **options: Any) -> ConstrainedField:
        """Initial values at the nodes (batch, *space) ↦ constrained field there, differentiable.

        Args:
            u0: float64.
            c: parameters, tensors of shape () or (batch,).
            options: decomposition, solver, gradient of `HardConstraint`.
        """
        conditions = self.constraint.conditions(u0, c)
        return self.constraint(self.basis(conditions), conditions, **options)

    def basis(self, conditions) -> Tensor:
        """(batch, basis, time, *space) mollified basis functions, float64."""
        inputs = self.constraint.inputs(conditions)
        return self.constraint.basis(self.network(inputs.to(self.dtype)), conditions)

    def tensors(self, parameters: dict[str, Any] | None) -> dict[str, Tensor]:
        """All parameters as float64 tensors of shape () or (batch,), defaults filled in."""
        c = self.problem.as_tensors(parameters or {})
        return {key: value.to(self.device) for key, value in c.items()}

    def forward(self, u0: Tensor, parameters: dict[str, Any] | None = None) -> Tensor:
        """u on the problem's output grid, differentiable in u0, the parameters and the weights.

        Args:
            u0: (batch, *space) at the native grid's points.
            parameters: symbol → number or (batch,) tensor; defaults where left out.

        Returns:
            (batch, time, *space), float64.
        """
        (axis,) = self.problem.output_space.values()
        times = self.problem.output_times
        c = self.tensors(parameters)
        initial = self.at_nodes(u0, axis.nodes)
        u = self.read_out(self.constrained(initial, c).u, initial, c, times, axis.nodes)
        return torch.cat([u0.double()[:, None], u[:, 1:]], dim=1) if times[0] == 0 else u

    def read_out(self, u: Tensor, initial: Tensor, c: dict[str, Tensor], times: np.ndarray, x: np.ndarray) -> Tensor:
        """A constrained field (batch, time, *space) and its initial values ↦ its values at times × x."""
        operator = self.constraint.operator
        (name,) = operator.space_names
        return self._readout(operator, times, {name: x})(u, initial, operator.closures(c))

    # ------------------------------------------------------------------ saving

    def save_pretrained(self, folder, max_shard_size: int | None = None):
        """Writes configuration, weights and a card; returns the folder. See `zoo.exporting`."""
        from .zoo.exporting import save_pretrained

        return save_pretrained(self, folder, max_shard_size)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Pushes the complete model folder; returns its address.

        Args:
            repo_id: ``"org/name"``; created if it does not exist.
            options: private, branch, create_pr, tag, commit_message, token of `zoo.publish.push`.
        """
        from .zoo.publish import push_to_hub

        return push_to_hub(self, repo_id, **options)

    # ------------------------------------------------------------------ prediction

    def predict(
        self,
        u0: Any,
        x: Any = None,
        times: Any = None,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: Any = None,
        experts: int | dict[str, int] | Decomposition | None = None,
        max_steps: int | None = None,
        rtol: float | None = None,
        on_failure: str = "warn",
    ) -> Prediction:
        """Solves for new initial conditions.

        Args:
            u0: (batch, n) or (n,) initial conditions, numpy or torch, at ``input_x``.
            x: output positions; default the problem's native grid.
            times: output times in [0, duration]; default the problem's own.
            parameters: symbol → number or (batch,); defaults where left out.
            input_x: positions of u0; default the native grid's.
            experts: number of experts along the default axis, counts by axis, or a Decomposition.
            max_steps, rtol: override the solver's.
            on_failure: "warn" (failed trajectories are NaN), "raise", or "fallback" (the classical
                solver, said in ``messages``).

        Raises:
            ValueError: input of wrong shape or outside what the model was trained for; with
                on_failure="raise" also values that are not finite or not admissible, and failed
                solves.
        """
        is_torch = isinstance(u0, Tensor)
        request = check_request(self.problem, self.parameter_inputs, u0, x, times, parameters, input_x, on_failure)
        values, times, c = request.values, request.times, request.c
        (axis_name,) = self.problem.output_space
        input_x, x = request.input_points[axis_name], request.points[axis_name]
        decomposition = self._decomposition(experts)
        changes = {key: value for key, value in {"max_steps": max_steps, "rtol": rtol}.items() if value is not None}
        solver = dataclasses.replace(self.constraint.solver, **changes)

        messages = check_values(self.problem, values, on_failure)
        good = np.flatnonzero([not message for message in messages])

        parts = []
        chunk = _CPU_CHUNK if self.device.type == "cpu" else 512
        with torch.no_grad():
            for first in range(0, len(good), chunk):
                rows = good[first : first + chunk]
                part_c = {key: value if np.ndim(value) == 0 else value[rows] for key, value in c.items()}
                parts.append(self._predict_chunk(values[rows], part_c, input_x, x, times, decomposition, solver))

        def read_field(key: str, part: dict[str, Any]) -> np.ndarray:
            nodes, initial, operator, part_c = part[f"{key}_nodes"]
            closures = {n: closure.homogeneous() for n, closure in operator.closures(part_c).items()}
            with torch.no_grad():
                return to_numpy(self._readout(operator, times, {axis_name: x})(nodes, initial, closures))

        return assemble(
            self.problem,
            request,
            messages,
            parts,
            read_field,
            num_subproblems=1 if decomposition.is_joint else decomposition.num_experts,
            num_experts=decomposition.num_experts,
            trust=self.trust,
            name=self.name,
            on_failure=on_failure,
            like_input=torch.as_tensor if is_torch else lambda array: array,
        )

    def _predict_chunk(self, values, c, input_x, x, times, decomposition, solver) -> dict[str, Any]:
        u0 = torch.as_tensor(values, device=self.device)
        c = self.tensors(c)
        constraint = self.constraint
        initial = self.at_nodes(u0, input_x)
        conditions = constraint.conditions(initial, c)
        field = constraint(self.basis(conditions), conditions, decomposition, solver)
        (axis_name,) = self.problem.output_space
        readout = self._readout(constraint.operator, times, {axis_name: x})
        u = readout(field.u, initial, conditions.closures)
        for row in np.flatnonzero(times == 0):
            u[:, row] = u0 if np.array_equal(x, input_x) else u0 @ self._matrix(input_x, x).T
        fine_initial = self.at_nodes(u0, input_x, self.estimator.grid)
        estimated, error = self.estimator(field.u, initial, fine_initial, conditions.closures, c)
        rows = constraint.rows(field.u, conditions)
        weights = constraint.residual_map.weights
        norm = (field.u * weights).flatten(1).norm(dim=1)
        psi = constraint.partition(decomposition)
        per_expert = (rows[:, None].square() * psi).flatten(2).sum(dim=2).sqrt() / norm[:, None]
        shape = (u0.shape[0], -1)
        return {
            "u": u,
            "coefficients": field.coefficients,
            "status": field.solution.status.reshape(shape),
            "iterations": field.solution.iterations.reshape(shape),
            "residual": rows.flatten(1).norm(dim=1) / norm,
            "residual_per_expert": per_expert,
            "estimated_error": estimated,
            "unresolved": self.unresolved(u0, initial, input_x),
            "u_nodes": (field.u, initial, constraint.operator, c),
            "residual_nodes": (rows / weights, torch.zeros_like(initial), constraint.operator, c),
            "estimated_error_nodes": (error, torch.zeros_like(fine_initial), self.estimator.fine, c),
        }

    # ------------------------------------------------------------------ checks of input

    def _decomposition(self, experts: Any) -> Decomposition:
        if experts is None:
            return self.constraint.decomposition
        if isinstance(experts, Decomposition):
            decomposition = experts
        else:
            default = self.constraint.decomposition
            counts = experts if isinstance(experts, dict) else {self.problem.default_axis: experts}
            decomposition = dataclasses.replace(default, counts=dict(counts))
        decomposition.check(self.constraint.grid)
        return decomposition
