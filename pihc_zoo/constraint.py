"""The hard constraint: ansatz, features, decomposition, residual map and solver, put together.

u₀, basis → lift → features (global) → windows → collocation → solve → combine → merge
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .ansatz import Ansatz, Conditions, EvolutionAnsatz
from .basis import DenseFeatures, SeparableBasis, SeparableFeatures, combined
from .decomposition import Decomposition
from .objective import CollocationObjective, ProblemResidual
from .operators.constants import constants
from .operators.derivatives import Closure, FeatureOperator
from .operators.windows import Windows
from .residual_map import ResidualMap, RowMap
from .solvers.implicit import first_order, refuse_transforms
from .solvers.levenberg_marquardt import LevenbergMarquardt
from .solvers.report import LeastSquaresSolution
from .solvers.share import Whole
from .status import is_converged

_PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


@dataclass
class ConstrainedField:
    """The outcome of a constraint: field, coefficients and what became of each solve.

    Attributes:
        u: (batch, time, *space) at the nodes.
        coefficients: (batch, subproblem, coefficient).
        rows: (batch, time, *space) rows W P ρ(u) on the whole grid, without gradients, where the solve
            has them; None with independent experts or a stride.
        cost: (batch, subproblem) objective, differentiable.
        solution: what the solver reports, flat over (batch · subproblem).
    """

    u: Tensor
    rows: Tensor | None
    coefficients: Tensor
    cost: Tensor
    solution: LeastSquaresSolution


class HardConstraint(nn.Module):
    """Finds the coefficients with which basis functions satisfy the equation.

    Args:
        operator: features on the grid.
        ansatz: lift and mollifier.
        residual_map: P and W.
        decomposition: the experts.
        solver: Levenberg–Marquardt settings.
        ridge: λ of ½λ‖w‖².
        initial_coefficient: where every solve starts; 1 with ``max_steps = 0`` and one basis
            function is a soft constraint (PI-SC).
        stride: solves take the residual at every stride-th node along each space axis; a few hundred points
            find a handful of coefficients as well as all. Training takes all of them.
        precision: of fields and features, "float64" or "float32"; coefficients, normal matrices and
            their solves are in float64 always.
    """

    def __init__(
        self,
        operator: FeatureOperator,
        ansatz: Ansatz | EvolutionAnsatz,
        residual_map: ResidualMap,
        decomposition: Decomposition,
        solver: LevenbergMarquardt,
        ridge: float = 1e-10,
        initial_coefficient: float = 0.0,
        precision: str = "float64",
        stride: int = 1,
    ):
        super().__init__()
        if precision not in _PRECISIONS:
            raise ValueError(f"precision must be 'float64' or 'float32', not {precision!r}")
        decomposition.check(operator.grid)
        self.operator, self.ansatz, self.residual_map = operator, ansatz, residual_map
        self.problem, self.grid = operator.problem, operator.grid
        self.decomposition, self.solver = decomposition, solver
        self.share = Whole()  # of the subproblems: those that this process solves
        self.ridge, self.initial_coefficient = ridge, initial_coefficient
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.precision, self.stride = _PRECISIONS[precision], stride
        self._windows: dict = {}
        is_non_local = [feature.laplacian < 0 for feature in self.problem.features.values()]
        self.register_buffer("non_local", torch.tensor(is_non_local), persistent=False)
        self.is_non_local = any(is_non_local)
        self.to(self.precision)

    def conditions(self, u0: Tensor, c: dict[str, Tensor]) -> Conditions:
        """Eliminates the walls and computes the lift.

        Args:
            u0: (batch, *space) initial values at the nodes, float64.
            c: parameters, tensors of shape () or (batch,).

        Raises:
            ValueError: forward-mode tangents, which do not pass the solves.
        """
        refuse_transforms(u0, *c.values())
        u0 = u0.to(self.precision)
        c = {key: value.to(self.precision) for key, value in c.items()}
        closures = self.operator.closures(c)
        evolution = self.ansatz.lift.evolve(u0, c, self.operator, closures)
        lift, rate = evolution.u, evolution.rate
        if evolution.modes is None:
            features = self.operator(lift[:, None], closures, u0[:, None])[:, 0]
        else:
            features = self.operator.from_modes(evolution.modes[:, :1], evolution.modes[:, 1:])[:, 0]
        residual, corrections = self._corrections(features, closures, c, u0)
        return Conditions(u0, c, closures, lift, features, rate, residual, corrections)

    def _corrections(
        self, features: Tensor, closures: dict[str, Closure], c: dict[str, Tensor], u0: Tensor
    ) -> tuple[Tensor, Tensor]:
        """ρ(u_L), and z₁ = −A⁻¹ρ(u_L), z₂ = A⁻¹J z₁ − z₁, …: where a Newton–Krylov step would look.

        J is the linearisation of ρ at the lift; where A = J every z but the first vanishes.
        """
        residual = self.residual(c, u0)
        assemble = self.residual_map(c, u0.shape[0]).assemble
        if not self.ansatz.num_directions:
            value = self.operator.project(assemble(residual.parts(features)))
            return value, value[:, None, :0]
        homogeneous = {name: closure.homogeneous() for name, closure in closures.items()}
        parts = residual.partials(features)
        value = self.operator.project(assemble([value for value, _ in parts]))
        directions = [self.ansatz.lift.correction(value, c)]
        for _ in range(1, self.ansatz.num_directions):
            tangent = self._features(directions[-1][:, None], homogeneous)[:, 0]
            image = self.operator.project(assemble([residual.tangent(partials, tangent) for _, partials in parts]))
            directions.append(-self.ansatz.lift.correction(image, c) - directions[-1])
        return value, torch.stack(directions, dim=1)

    def inputs(self, conditions: Conditions) -> Tensor:
        """Input fields of the network."""
        return self.ansatz.inputs(conditions)

    def basis(self, network: nn.Module, output: Tensor, conditions: Conditions) -> Tensor | SeparableBasis:
        """Network output ↦ basis functions, (batch, basis, time, *space) or separable."""
        return self.ansatz.basis(network, output, conditions)

    def rows(self, u: Tensor, conditions: Conditions) -> Tensor:
        """(batch, time, *space) rows W P ρ(u) of any field, on the whole grid."""
        if conditions.lift_rate is not None:
            rate = conditions.lift_rate + self.operator.rate((u - conditions.lift)[:, None])[:, 0]
            modes = self.operator.features.to_modes(torch.stack([u, rate]))
            fields = self.operator.fields(*modes)
            value = self.problem.residual(fields, self.residual(conditions.c).c)
            return self.residual_map(conditions.c, u.shape[0]).apply(value[:, None])[:, 0]
        homogeneous = {name: closure.homogeneous() for name, closure in conditions.closures.items()}
        difference = self._features((u - conditions.lift)[:, None], homogeneous)[:, 0]
        return self._rows(conditions.lift_features + difference, conditions.c, conditions.u0)

    def _rows(self, features: Tensor, c: dict[str, Tensor], u0: Tensor, stride: int = 1) -> Tensor:
        row_map = self.residual_map(c, features.shape[0]).strided(stride)
        return row_map.apply(row_map.assemble(self.residual(c, u0).parts(features))[:, None])[:, 0]

    def _is_stored(self, windows: Windows | None = None) -> bool:
        """Whether the problem's storage takes the place of its time term."""
        return self.operator.storage_rate is not None and not (windows is not None and windows.is_split("t"))

    def _features(self, u: Tensor, closures: dict[str, Closure], windows: Windows | None = None) -> Tensor:
        """Features of fields that vanish initially, as far as the residual takes them."""
        return self.operator(u, closures, has_rates=not self._is_stored(windows))

    def residual(self, c: dict[str, Tensor], u0: Tensor | None = None, windows: Windows | None = None):
        """The problem's residual under the parameters ``c`` (shape () or (batch,)).

        With the initial values ``u0`` (batch, *space) a problem's storage is a part of its own, except on windows
        that are split in time, where it would need inflow.
        """
        dims, repeats = [1] * len(self.grid.shape), 1 if windows is None else windows.num_windows
        broadcast = {
            key: (value.repeat_interleave(repeats) if value.dim() else value).reshape(-1, *dims)
            for key, value in c.items()
        }
        initial = None
        if u0 is not None and self._is_stored(windows):
            start = u0[:, None]
            if windows is not None:
                start = windows.take(start.expand(-1, self.grid.shape[0], *start.shape[2:]))[:, :1]
            initial = self.problem.storage({"u": start}, broadcast)
        return ProblemResidual(self.problem, broadcast, initial)

    def _split(self, decomposition: Decomposition, device) -> tuple:
        """Partition-of-unity fields (joint) or windows (independent); built once per decomposition."""
        key = (
            type(decomposition),
            tuple(sorted(vars(decomposition).items(), key=lambda item: item[0])).__repr__(),
            device,
        )
        if key not in self._windows:
            decomposition.check(self.grid)
            with constants():
                if decomposition.is_joint:
                    psi = self.partition(decomposition)
                    self._windows[key] = psi, None
                else:
                    is_whole = decomposition.num_experts == 1
                    self._windows[key] = None, None if is_whole else decomposition.windows(self.grid).to(device)
        return self._windows[key]

    def partition(self, decomposition: Decomposition) -> Tensor:
        """(K, time, *space) partition of unity of a decomposition."""
        weights = decomposition.partition_of_unity(self.grid)
        return torch.as_tensor(weights, device=self.residual_map.weights.device, dtype=self.precision)

    def forward(
        self,
        basis: Tensor | SeparableBasis,
        conditions: Conditions,
        decomposition: Decomposition | None = None,
        solver: LevenbergMarquardt | None = None,
        gradient: str = "implicit",
        stride: int | None = None,
    ) -> ConstrainedField:
        """Solves for the coefficients and combines.

        Args:
            basis: from `basis`.
            conditions: from `conditions`.
            decomposition, solver: override the defaults.
            gradient: "implicit" gives coefficients the exact adjoint. "envelope" detaches them,
                exact only for first derivatives of a loss that is a function of ``cost`` alone.
            stride: overrides the default; independent experts take all points.
        """
        stride = stride or self.stride
        if gradient not in ("implicit", "envelope"):
            raise ValueError(f"gradient must be 'implicit' or 'envelope', not {gradient!r}")
        refuse_transforms(basis.space if isinstance(basis, SeparableBasis) else basis)
        decomposition, solver = decomposition or self.decomposition, solver or self.solver
        batch, device = conditions.lift.shape[0], conditions.lift.device
        psi, windows = self._split(decomposition, device)
        if isinstance(basis, SeparableBasis) and (windows is not None or decomposition.counts.get("t", 1) > 1):
            basis = basis.dense()
        if isinstance(basis, SeparableBasis):
            if decomposition.num_experts > 1:
                basis = basis.windowed(psi[:, :1], has_mean=not self.problem.conserves_mean)
        elif psi is not None:
            basis = (basis[:, None] * psi[:, None]).flatten(1, 2)  # (batch, expert·basis, time, *space)
            if self.problem.conserves_mean:
                mean = basis.flatten(3).mean(dim=3)
                basis = basis - mean.reshape(*mean.shape, *[1] * len(self.grid.space))
        num_windows = 1 if windows is None else windows.num_windows
        stride = 1 if windows is not None else stride
        homogeneous = {name: closure.homogeneous() for name, closure in conditions.closures.items()}
        is_envelope = gradient == "envelope" and windows is None
        picked = (..., *[slice(None, None, stride)] * len(self.grid.space))
        lift_features = conditions.lift_features[picked]
        seen = basis.detach() if is_envelope else basis
        if isinstance(basis, SeparableBasis):
            basis_features, rebuild = _tensor_of(self.operator.separable(seen, stride))
        else:
            basis_features, rebuild = self._features(seen, homogeneous, windows)[picked], DenseFeatures
        if windows is not None:
            if self.is_non_local:
                frozen = self._frozen(basis, conditions, decomposition, solver)
                lift_features, basis_features = lift_features + frozen, basis_features * ~self._along_features(2)
            lift_features, basis_features = windows.take(lift_features), windows.take(basis_features)

        keys = list(conditions.c)

        def build(lift: Tensor, functions: Tensor, u0: Tensor, *values: Tensor) -> CollocationObjective:
            c = dict(zip(keys, values, strict=True))
            row_map: RowMap = self.residual_map(c, batch, windows).strided(stride)
            residual = self.residual(c, u0, windows)
            return CollocationObjective(residual, lift, rebuild(functions), row_map, self.ridge)

        tensors = (lift_features, basis_features, conditions.u0, *conditions.c.values())
        with torch.no_grad():
            objective = build(*(tensor.detach() for tensor in tensors))
            shape = batch * num_windows, objective.basis.num_basis
            start = torch.full(shape, self.initial_coefficient, dtype=torch.float64, device=device)
            solution = self.share.solve(solver, objective, start)
            rows = objective.rows(solution.coefficients) if windows is None and stride == 1 else None
        w, cost = solution.coefficients, solution.cost
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (basis, *tensors)):
            if is_envelope:  # the combined field alone passes the operators
                features = conditions.lift_features + self._features(combined(basis, w)[:, None], homogeneous)[:, 0]
                squares = (
                    self._rows(features[picked], conditions.c, conditions.u0, stride)
                    .to(w.dtype)
                    .flatten(1)
                    .square()
                    .sum(dim=1)
                )
                cost = 0.5 * squares + 0.5 * self.ridge * w.square().sum(dim=1)
            else:
                if gradient == "implicit" and solver.max_steps > 0:
                    is_solved = is_converged(solution.status)
                    w = self.share.coefficients(build, w, tensors, is_solved)
                cost = self.share.cost(build(*tensors), w, cost)
            cost = first_order(cost) if gradient == "envelope" else cost
        u = self._merge(w, basis, conditions.lift, windows)
        return ConstrainedField(
            u, rows, w.unflatten(0, (batch, num_windows)), cost.unflatten(0, (batch, num_windows)), solution
        )

    def _along_features(self, dim: int) -> Tensor:
        """Which features are non-local, broadcasting against features at dimension ``dim``."""
        return self.non_local.reshape(*[1] * dim, -1, *[1] * len(self.grid.shape))

    def _frozen(self, basis: Tensor, conditions: Conditions, decomposition: Decomposition, solver) -> Tensor:
        """(batch, feature, time, *space) non-local features of the previous sweep's blend, less the lift's."""
        if decomposition.sweeps == 1:
            return torch.zeros_like(conditions.lift_features)
        before = replace(decomposition, sweeps=decomposition.sweeps - 1)
        u = self.forward(basis, conditions, before, solver).u
        homogeneous = {name: closure.homogeneous() for name, closure in conditions.closures.items()}
        return self.operator((u - conditions.lift)[:, None], homogeneous)[:, 0] * self._along_features(1)

    def _merge(self, w: Tensor, basis: Tensor | SeparableBasis, lift: Tensor, windows) -> Tensor:
        if windows is None:
            return lift + combined(basis, w)
        return lift + windows.merge(combined(windows.take(basis), w))


def _tensor_of(features: SeparableFeatures) -> tuple[Tensor, Callable[[Tensor], SeparableFeatures]]:
    """The tensor that carries gradients, and how to put it back."""
    return features.space, lambda space: SeparableFeatures(space, features.time, features.is_rate)
