"""The surrogate: network + hard constraint → `Prediction`.

Longer than other files for the sake of what users read: the signatures and docstrings of the public methods. The work
is done in `constraint`, `rollout`, `prediction` and `zoo`.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from . import config as configuration
from .ansatz import Conditions
from .basis import Basis
from .building import build_parts
from .constraint import ConstrainedField, HardConstraint
from .decomposition import Decomposition
from .estimate import error_estimator
from .graphs import Graphs
from .grid import Grid
from .networks import through_finite
from .parameters import Parameters
from .polish import Polish
from .positions import Positions
from .prediction.assembly import assemble
from .prediction.call import check_call, check_dtype, check_options
from .prediction.chunks import Chunks
from .prediction.initial_values import check_values
from .prediction.predict import Inference
from .prediction.prediction import Prediction
from .prediction.request import check_parameters, check_request, parameter_range, starts
from .prediction.trust import Trust
from .problems import Problem
from .rollout import Rollout, Window


class Surrogate(nn.Module):
    """A network under a hard constraint.

    Args:
        network: basis functions from input fields.
        constraint: the expert solves.
        config: as `config` describes it; stored with the weights.

    Attributes:
        graphs: on a GPU, what `predict` has recorded as CUDA graphs: from the second pass of the same shapes and
            settings on it is played again. ``graphs.is_on = False`` turns that off.

    Calling it, ``model(u0, parameters, times=…, x=…)``, is an ordinary differentiable call; `predict` takes
    numpy or torch and reports what to trust.
    """

    def __init__(self, network: nn.Module, constraint: HardConstraint, config: dict[str, Any]):
        super().__init__()
        self.network, self.constraint, self.config = network, constraint, config
        self.problem: Problem = constraint.problem
        self.name = ""
        self.folder: Path | None = None  # that it was loaded from
        self.history: Any = None  # of fine-tuning, see `learning.history`
        self.trust: Trust = configuration.build("trust", Trust, config["trust"])
        self.problem.trained_ranges(config["trust"])  # of its fields, or refused
        self.estimator = error_estimator(constraint.discretisation, self.trust).to(constraint.precision)
        self.positions = Positions(constraint)
        self.rollout = Rollout(constraint, self.positions)
        self.num_windows = self.rollout.num_windows
        self.polish = Polish.of(constraint)
        self.graphs = Graphs()

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_config(cls, config: dict[str, Any], check_network: Callable[[nn.Module], None] | None = None) -> Self:
        """Builds an untrained surrogate.

        Args:
            config: see `config`.
            check_network: is shown the network on torch's meta device, before its weights take memory.

        Raises:
            ConfigError: unknown names or settings.
        """
        config = copy.deepcopy(configuration.check_keys(config))
        return cls(*build_parts(config, check_network), config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        verify: bool = False,
    ) -> Self:
        """Loads a surrogate by name, folder or Hub id: `pihc_zoo.from_pretrained` with the torch backend.

        Args and errors are those of `pihc_zoo.from_pretrained`, its ``backend`` left out.
        """
        from .zoo.hub import load

        return load(
            cls,
            name_or_path,
            device=device,
            dtype=dtype,
            verify=verify,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
            subfolder=subfolder,
        )

    def _apply(self, fn: Callable, recurse: bool = True) -> Self:
        self.graphs.forget()  # bound to where tensors were
        return super()._apply(fn, recurse)

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

    def with_network_dtype(self, dtype: torch.dtype) -> Self:
        """The model with its network in ``dtype`` (float32 or float64); solves stay in float64."""
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the network's dtype must be torch.float32 or torch.float64, not {dtype}; solves are in float64 always"
            )
        self.network.to(dtype)
        return self

    def float(self) -> Self:
        """`with_network_dtype` of torch.float32."""
        return self.with_network_dtype(torch.float32)

    def double(self) -> Self:
        """`with_network_dtype` of torch.float64."""
        return self.with_network_dtype(torch.float64)

    def half(self) -> Self:
        """Refused: see `with_network_dtype`."""
        return self.with_network_dtype(torch.float16)

    def bfloat16(self) -> Self:
        """Refused: see `with_network_dtype`."""
        return self.with_network_dtype(torch.bfloat16)

    def type(self, dst_type: torch.dtype) -> Self:
        """`with_network_dtype`."""
        return self.with_network_dtype(dst_type)

    def to(self, *arguments: Any, **options: Any) -> Self:
        """As `torch.nn.Module.to`; a dtype is that of the network, see `with_network_dtype`."""
        device, dtype, is_non_blocking, _ = torch._C._nn._parse_to(*arguments, **options)
        if dtype is not None:
            self.with_network_dtype(dtype)
        return self if device is None else super().to(device, non_blocking=is_non_blocking)

    def at_nodes(self, u0: Tensor, points: dict[str, np.ndarray], grid: Grid | None = None) -> Tensor:
        """(batch, *points) initial values at ``points`` ↦ (batch, *space) at the surrogate's nodes, float64."""
        return self.positions.at_nodes(u0, points, grid)

    def constrained(self, u0: Tensor, c: Parameters, **options: Any) -> ConstrainedField:
        """Initial values at the nodes (batch, *space) ↦ constrained field of one time window, differentiable.

        Args:
            u0: float64.
            c: parameters, tensors of shape () or (batch,).
            options: decomposition, solver, gradient of `HardConstraint`.
        """
        conditions = self.constraint.conditions(u0, c)
        return self.constraint(self.basis(conditions), conditions, **options)

    def windows(
        self, initial: Tensor, c: Parameters, num_windows: int | None = None, **options: Any
    ) -> Iterator[Window]:
        """The roll-out: one constrained field per time window, each starting from the last one's end.

        Args:
            initial: (batch, *space) initial values at the nodes.
            c: parameters, tensors of shape () or (batch,).
            num_windows: default: as many as the problem's duration has.
            options: of `constrained`.
        """
        count = self.num_windows if num_windows is None else num_windows
        num_basis = getattr(self.network, "num_basis", None) if self.num_windows > 1 else None
        num_basis = num_basis and num_basis + self.constraint.ansatz.num_corrections
        return self.rollout.windows(self.basis, initial, c, count, num_basis, **options)

    def basis(self, conditions: Conditions) -> Basis:
        """Basis functions of the conditions, see `HardConstraint.basis`."""
        inputs = self.constraint.inputs(conditions).to(self.dtype)
        output = through_finite(self.network, inputs) if torch.is_grad_enabled() else self.network(inputs)
        return self.constraint.basis(self.network, output, conditions)

    def tensors(self, parameters: dict[str, Any] | None) -> Parameters:
        """All parameters as float64 tensors of shape () or (batch,), defaults filled in."""
        return self.problem.as_tensors(parameters or {}).to(self.device)

    def forward(
        self, u0: Tensor | None = None, parameters: dict[str, Any] | None = None, *, times: Any = None, x: Any = None
    ) -> Tensor:
        """u at any times and points, differentiable in u0, the parameters and the weights, to any order.

        The values of `predict` with ``polish=False``. Warns where solves did not converge: there values are not
        the equation's, and gradients lack the coefficients' part. `predict` says where.

        Args:
            u0: (batch, *space) at the native grid's points, of a system (batch, *space, field); none of a steady one.
            parameters: symbol → number or (batch,) tensor; defaults where left out.
            times: (m,) output times in any order, an array or a tensor, see `predict`; default the problem's own.
            x: output positions, an array or a tensor or, with several axes, a dict of them by axis; default the
                problem's native grid, on periodic axes u0's own.

        Returns:
            (batch, time, *space[, field]), float64; at t = 0 the initial condition.

        Raises:
            ValueError: wrong shapes, complex values, unknown parameters or values outside their range, times or
                positions outside theirs or with a gradient of their own; forward-mode derivatives and torch.func
                transforms.
        """
        if u0 is None and self.problem.duration is None:
            u0 = torch.as_tensor(starts(self.problem, u0, parameters), device=self.device)
        points, times, outputs = check_call(self.problem, u0, parameters, times, x)
        c = self._in_range(parameters, len(u0))
        return self.outward(self._at(self.inward(u0.double()), c, times, points, outputs))

    def inward(self, u0: Tensor) -> Tensor:
        """(batch, *space[, field]) as callers have initial values ↦ (batch, [field], *space)."""
        return u0.movedim(-1, 1) if self.problem.is_system else u0

    def outward(self, u: Tensor) -> Tensor:
        """(batch, time, [field], *space) ↦ (batch, time, *space[, field]) as callers have solutions."""
        return u.movedim(2, -1) if self.problem.is_system else u

    def _at(
        self, u0: Tensor, c: Parameters, times: np.ndarray, points: dict[str, Any], outputs: dict[str, Any]
    ) -> Tensor:
        """u0 (batch, [field], *points) ↦ (batch, time, [field], *outputs) at ``times`` in any order."""
        order = np.argsort(times, kind="stable")
        ordered = times[order]
        parts, later = [], ordered[ordered > 0]
        if len(later) < len(times):
            start = self.positions.resampled(u0, points, outputs)
            parts.append(start[:, None].expand(-1, len(times) - len(later), *start.shape[1:]))
        if len(later):
            parts.append(self.solution(self.at_nodes(u0, points), c, later, outputs))
        u = torch.cat(parts, dim=1)
        return u if np.array_equal(ordered, times) else u[:, np.argsort(order)]

    def _in_range(self, parameters: dict[str, Any] | None, batch: int) -> Parameters:
        """`tensors` of checked parameters, rounded into their range; gradients pass as if they were not."""
        check_parameters(self.problem, self.parameter_inputs, parameters, batch)
        ranges = {key: parameter_range(self.problem, self.parameter_inputs, key) for key in parameters or {}}
        values = dict(parameters or {})
        for key, (low, high) in ranges.items():
            if isinstance(values[key], int | float):
                values[key] = min(max(values[key], low), high)
            else:
                own = torch.as_tensor(values[key], dtype=torch.float64)
                values[key] = own + (own.detach().clamp(low, high) - own.detach())
        for key in self.problem.coefficients:
            native = self.problem.coefficient_shape(key)
            own = torch.as_tensor(values[key], dtype=torch.float64)
            own = own.expand(native) if own.dim() == 0 else own
            values[key] = own.expand(batch, *own.shape[-len(native) :])
        return self.tensors(values)

    def solution(self, initial: Tensor, c: Parameters, times: np.ndarray, points: dict, **options: Any) -> Tensor:
        """Initial values at the nodes ↦ (batch, time, *points) at increasing ``times`` > 0, differentiable.

        Here a system's fields are the dimension before space: (batch, field, *space) ↦ (batch, time, field, *points).
        Warns of solves that did not converge.
        """
        windows = self.windows(initial, c, self.rollout.count(times), **options)
        return self.rollout.solution(windows, times, points)

    def read(self, window: Window, times: np.ndarray, points: dict[str, np.ndarray]) -> Tensor:
        """(batch, time, *points) values at those of ``times`` > 0 that lie in the window."""
        return self.rollout.read(window, times, points)

    # ------------------------------------------------------------------ saving

    def save_pretrained(self, folder: str | os.PathLike, max_shard_size: int | None = None) -> Path:
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
        u0: Any = None,
        x: Any = None,
        times: Any = None,
        parameters: dict[str, Any] | None = None,
        *,
        input_x: Any = None,
        experts: int | dict[str, int] | Decomposition | None = None,
        max_steps: int | None = None,
        rtol: float | None = None,
        polish: bool | None = None,
        on_failure: str = "warn",
        batch_size: int | None = None,
        estimate: bool = True,
        dtype: Any = None,
        progress: bool = False,
    ) -> Prediction:
        """Solves for new initial conditions.

        Args:
            u0: (batch, *space) or (*space,) initial conditions, numpy or torch, at ``input_x``; of a system (batch,
                *space, field), and so is the answer, (batch, time, *space, field). A steady problem has none, and one
                output time.
            x: output positions, an array or, with several axes, a dict by axis; default the problem's native
                grid, on periodic axes u0's own.
            times: output times in [0, duration]; default the problem's own. Some problems can be continued
                beyond; such answers are not reliable and say so.
            parameters: symbol → number or (batch,); defaults where left out.
            input_x: positions of u0, as ``x``; default the grid that its shape implies.
            experts: number of experts along the default axis, counts by axis, or a Decomposition.
            max_steps, rtol: override the solver's.
            polish: on one bounded axis, go on by Newton's method for all nodal values where solves fail or the
                estimated error is above the model's threshold, and solve for times before the first default output
                time on grids of their own (``is_polished`` says where it did). Default: unless the solver's
                settings are overridden.
            on_failure: "warn" (failed trajectories are NaN), "raise", or "fallback" (the classical
                solver, said in ``messages``).
            batch_size: trajectories a pass at most. Default: 8 to 64 on a CPU, whose cache they fill, on a GPU as many
                as its free memory takes; where that runs out, it is tried again with half of them.
            estimate: whether to estimate errors. Without, ``estimated_error`` is NaN, no answer is reliable, and only
                failed solves are polished.
            dtype: of ``u`` and of the fields of residual and error, float32 or float64 of numpy or torch; default
                float64, in which all is computed but for what the model keeps in single precision.
            progress: show a bar, or on a file now and then a line, on stderr.

        A tensor on a GPU stays there, and the answer with it; the host reads a copy of u0 once, to check it.

        Raises:
            ValueError: input of wrong shape or outside what the model was trained for; with
                on_failure="raise" also values that are not finite or not admissible, and failed
                solves.
        """
        given = u0 if isinstance(u0, Tensor) else None
        check_options(batch_size, estimate, progress)
        kind = check_dtype(dtype)
        request = check_request(self.problem, self.parameter_inputs, u0, x, times, parameters, input_x, on_failure)
        decomposition = self._decomposition(experts)
        changes = {key: value for key, value in {"max_steps": max_steps, "rtol": rtol}.items() if value is not None}
        solver = dataclasses.replace(self.constraint.solver, **changes)

        messages = check_values(self.problem, request.values, on_failure, request.input_points)
        good = np.flatnonzero([not message for message in messages])

        if polish is None:
            polish = max_steps is None and rtol is None
        inference = Inference(self, request, decomposition, solver, polish, estimate)
        if given is not None:
            given = given.reshape(request.values.shape)
        chunks = Chunks(inference, batch_size, given)
        answers = chunks.answers(good, kind, progress)
        return assemble(
            self.problem,
            request,
            messages,
            answers,
            num_subproblems=inference.num_windows * (1 if decomposition.is_joint else decomposition.num_experts),
            num_experts=decomposition.num_experts,
            trust=self.trust,
            name=self.name,
            on_failure=on_failure,
            like_input=np.asarray if given is None else partial(torch.as_tensor, device=given.device),
            u=chunks.u,
            has_estimate=estimate,
            dtype=kind,
        )

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
