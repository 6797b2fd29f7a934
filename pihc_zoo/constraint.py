"""The hard constraint: ansatz, features, decomposition, residual map and solver, put together.

u₀, basis → lift → features (global) → windows → collocation → solve → combine → merge
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ansatz import Ansatz
from .decomposition import Decomposition
from .objective import CollocationObjective, ProblemResidual
from .operators.derivatives import Closure, FeatureOperator
from .residual_map import ResidualMap, RowMap
from .solvers.implicit import implicit_coefficients
from .solvers.levenberg_marquardt import LevenbergMarquardt
from .solvers.report import LeastSquaresSolution
from .status import Status


@dataclass
class Conditions:
    """What is known before any network runs.

    Attributes:
        u0: (batch, *space) initial values at the nodes.
        c: parameters, tensors of shape () or (batch,).
        closures: wall elimination by axis.
        lift: (batch, time, *space); ``lift_features`` (batch, feature, time, *space) its features.
        corrections: (batch, count, time, *space) the lift's first-order correction −A⁻¹ρ(u_L) and
            further Krylov directions of the linearised problem.
    """

    u0: Tensor
    c: dict[str, Tensor]
    closures: dict[str, Closure]
    lift: Tensor
    lift_features: Tensor
    corrections: Tensor


@dataclass
class ConstrainedField:
    """The outcome of a constraint: field, coefficients and what became of each solve.

    Attributes:
        u: (batch, time, *space) at the nodes.
        coefficients: (batch, subproblem, coefficient).
        cost: (batch, subproblem) objective, differentiable.
        solution: what the solver reports, flat over (batch · subproblem).
    """

    u: Tensor
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
    """

    def __init__(
        self,
        operator: FeatureOperator,
        ansatz: Ansatz,
        residual_map: ResidualMap,
        decomposition: Decomposition,
        solver: LevenbergMarquardt,
        ridge: float = 1e-10,
        initial_coefficient: float = 0.0,
    ):
        super().__init__()
        decomposition.check(operator.grid)
        self.operator, self.ansatz, self.residual_map = operator, ansatz, residual_map
        self.problem, self.grid = operator.problem, operator.grid
        self.decomposition, self.solver = decomposition, solver
        self.ridge, self.initial_coefficient = ridge, initial_coefficient
        self._windows: dict = {}

    def conditions(self, u0: Tensor, c: dict[str, Tensor]) -> Conditions:
        """Eliminates the walls and computes the lift.

        Args:
            u0: (batch, *space) initial values at the nodes, float64.
            c: parameters, tensors of shape () or (batch,).
        """
        closures = self.operator.closures(c)
        lift = self.ansatz.lift(u0, c, self.operator, closures)
        features = self.operator(lift[:, None], closures, u0[:, None])[:, 0]
        return Conditions(u0, c, closures, lift, features, self._corrections(features, closures, c))

    def _corrections(self, features: Tensor, closures: dict[str, Closure], c: dict[str, Tensor]) -> Tensor:
        """z₁ = −A⁻¹ρ(u_L), z₂ = A⁻¹J z₁ − z₁, …: where a Newton–Krylov step from the lift would look.

        J is the linearisation of ρ at the lift; where A = J every z but the first vanishes.
        """
        residual = self._pointwise(c, 1)
        homogeneous = {name: closure.homogeneous() for name, closure in closures.items()}
        value, partials = residual.forward_partials(features)
        directions = [self.ansatz.lift.correction(value, c)]
        for _ in range(1, self.ansatz.num_corrections):
            tangent = self.operator(directions[-1][:, None], homogeneous)[:, 0]
            image = (partials * tangent).sum(dim=1)
            directions.append(-self.ansatz.lift.correction(image, c) - directions[-1])
        return torch.stack(directions, dim=1)

    def inputs(self, conditions: Conditions) -> Tensor:
        """(batch, channel, time, *space) input fields of the network."""
        return self.ansatz.inputs(conditions.u0, conditions.lift, conditions.corrections[:, 0], conditions.c)

    def basis(self, output: Tensor, conditions: Conditions) -> Tensor:
        """Network output ↦ (batch, basis, time, *space) basis functions, float64."""
        return self.ansatz.basis(output, conditions.corrections, conditions.c)

    def rows(self, u: Tensor, conditions: Conditions) -> Tensor:
        """(batch, *grid) rows W P ρ(u) of any field, on the whole grid."""
        features = self.operator(u[:, None], conditions.closures, conditions.u0[:, None])[:, 0]
        row_map = self.residual_map(conditions.c, u.shape[0])
        return row_map.apply(self._pointwise(conditions.c, 1)(features)[:, None])[:, 0]

    def _pointwise(self, c: dict[str, Tensor], repeats: int) -> ProblemResidual:
        dims = [1] * len(self.grid.shape)
        broadcast = {
            key: (value.repeat_interleave(repeats) if value.dim() else value).reshape(-1, *dims)
            for key, value in c.items()
        }
        return ProblemResidual(self.problem, broadcast)

    def _split(self, decomposition: Decomposition, device) -> tuple:
        """Partition-of-unity fields (joint) or windows (independent); built once per decomposition."""
        key = (
            type(decomposition),
            tuple(sorted(vars(decomposition).items(), key=lambda item: item[0])).__repr__(),
            device,
        )
        if key not in self._windows:
            decomposition.check(self.grid)
            if decomposition.is_joint:
                psi = torch.as_tensor(decomposition.partition_of_unity(self.grid), device=device)
                self._windows[key] = psi, None
            else:
                is_whole = decomposition.num_experts == 1
                self._windows[key] = None, None if is_whole else decomposition.windows(self.grid).to(device)
        return self._windows[key]

    def partition(self, decomposition: Decomposition) -> Tensor:
        """(K, time, *space) partition of unity of a decomposition."""
        weights = decomposition.partition_of_unity(self.grid)
        return torch.as_tensor(weights, device=self.residual_map.weights.device)

    def forward(
        self,
        basis: Tensor,
        conditions: Conditions,
        decomposition: Decomposition | None = None,
        solver: LevenbergMarquardt | None = None,
        gradient: str = "implicit",
    ) -> ConstrainedField:
        """Solves for the coefficients and combines.

        Args:
            basis: (batch, basis, time, *space) mollified basis functions, float64.
            conditions: from `conditions`.
            decomposition, solver: override the defaults.
            gradient: "implicit" gives coefficients the exact adjoint. "envelope" detaches them,
                exact only for a loss that is a function of ``cost`` alone.
        """
        if gradient not in ("implicit", "envelope"):
            raise ValueError(f"gradient must be 'implicit' or 'envelope', not {gradient!r}")
        decomposition, solver = decomposition or self.decomposition, solver or self.solver
        batch = basis.shape[0]
        psi, windows = self._split(decomposition, basis.device)
        if psi is not None:
            basis = (basis[:, None] * psi[:, None]).flatten(1, 2)  # (batch, expert·basis, time, *space)
        num_windows = 1 if windows is None else windows.num_windows
        homogeneous = {name: closure.homogeneous() for name, closure in conditions.closures.items()}
        lift_features = conditions.lift_features
        basis_features = self.operator(basis, homogeneous)
        if windows is not None:
            lift_features, basis_features = windows.take(lift_features), windows.take(basis_features)

        keys = list(conditions.c)

        def build(lift: Tensor, functions: Tensor, *values: Tensor) -> CollocationObjective:
            c = dict(zip(keys, values, strict=True))
            row_map: RowMap = self.residual_map(c, batch, windows)
            return CollocationObjective(self._pointwise(c, num_windows), lift, functions, row_map, self.ridge)

        tensors = (lift_features, basis_features, *conditions.c.values())
        with torch.no_grad():
            objective = build(*(tensor.detach() for tensor in tensors))
            start = torch.full(
                basis_features.shape[:2], self.initial_coefficient, dtype=basis.dtype, device=basis.device
            )
            solution = solver.solve(objective, start)
        w = solution.coefficients
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            if gradient == "implicit" and solver.max_steps > 0:
                is_solved = solution.status == int(Status.CONVERGED)
                w = implicit_coefficients(build, w, tensors, is_solved)
            cost = build(*tensors).cost(w)
        else:
            cost = solution.cost
        u = self._merge(w, basis, conditions.lift, windows)
        return ConstrainedField(
            u, w.unflatten(0, (batch, num_windows)), cost.unflatten(0, (batch, num_windows)), solution
        )

    def _merge(self, w: Tensor, basis: Tensor, lift: Tensor, windows) -> Tensor:
        if windows is None:
            return lift + (w[:, None] @ basis.flatten(2)).reshape(lift.shape)
        local_basis = windows.take(basis)  # (subproblem, basis, *local)
        local = (w[:, None] @ local_basis.flatten(2)).reshape(w.shape[0], *windows.local_shape)
        return lift + windows.merge(local)
