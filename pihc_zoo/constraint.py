"""The hard constraint: ansatz, features, decomposition, residual map and solver, put together.

u₀, basis → lift → features (global) → subdomains → collocation → solve → combine → merge
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .ansatz import Ansatz, Conditions, EvolutionAnsatz
from .basis import Basis, DenseBasis, DenseFeatures, combined
from .decomposition import Decomposition
from .discretisation import Discretisation, Field, Subdomains, constants
from .objective import CollocationObjective, ProblemResidual
from .parameters import Parameters
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
        discretisation: of the grid.
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
        discretisation: Discretisation,
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
        decomposition.check(discretisation.grid)
        self.discretisation, self.ansatz, self.residual_map = discretisation, ansatz, residual_map
        self.problem, self.grid = discretisation.problem, discretisation.grid
        self.decomposition, self.solver = decomposition, solver
        self.share = Whole()  # of the subproblems: those that this process solves
        self.ridge, self.initial_coefficient = ridge, initial_coefficient
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.precision, self.stride = _PRECISIONS[precision], stride
        self._subdomains: dict = {}
        is_non_local = [feature.laplacian < 0 for feature in self.problem.features.values()]
        self.register_buffer("non_local", torch.tensor(is_non_local), persistent=False)
        self.is_non_local = any(is_non_local)
        self.to(self.precision)

    def conditions(self, u0: Tensor, c: Parameters, start: float = 0.0, before: Conditions | None = None) -> Conditions:
        """Eliminates the walls and computes the lift.

        Args:
            u0: (batch, *space) initial values at the nodes, float64.
            c: parameters, tensors of shape () or (batch,).
            start: time at which the grid's begins.
            before: those of an earlier window with the same ``c``.

        Raises:
            ValueError: forward-mode tangents, which do not pass the solves.
        """
        refuse_transforms(u0, *Parameters(c).tensors)
        u0 = u0.to(self.precision)
        if before is None:
            c = Parameters(c).to(self.precision)
            walls, inverse = self.discretisation.walls(c), self.ansatz.lift.inverse(c, u0.shape[0])
        else:
            c, walls, inverse = before.c, before.walls, before.inverse
        lift = self.ansatz.lift(u0, c, walls, inverse, start)
        features = self.discretisation(lift)
        residual, corrections = self._corrections(features, Conditions(u0, c, walls, inverse, lift, start))
        return Conditions(u0, c, walls, inverse, lift, start, features, residual, corrections)

    def _corrections(self, features: Tensor, known: Conditions) -> tuple[Tensor, Tensor]:
        """ρ(u_L), and z₁ = −A⁻¹ρ(u_L), z₂ = A⁻¹J z₁ − z₁, …: where a Newton–Krylov step would look.

        J is the linearisation of ρ at the lift; where A = J every z but the first vanishes.
        """
        residual, lift, own = self.residual(known.c, known.u0, start=known.start), self.ansatz.lift, self.discretisation
        assemble = self._row_map(known).assemble
        if not self.ansatz.num_directions:
            value = own.project(assemble(residual.parts(features)))
            return value, value[:, None, :0]
        parts = residual.partials(features)
        value = own.project(assemble([value for value, _ in parts]))
        directions = [lift.correction(value, known.inverse)]
        for _ in range(1, self.ansatz.num_directions):
            tangent = own(Field.correction(directions[-1], known.walls), self.has_rates())
            image = own.project(assemble([residual.tangent(partials, tangent) for _, partials in parts]))
            directions.append(-lift.correction(image, known.inverse) - directions[-1])
        return value, torch.stack(directions, dim=1)

    def inputs(self, conditions: Conditions) -> Tensor:
        """Input fields of the network."""
        return self.ansatz.inputs(conditions)

    def basis(self, network: nn.Module, output: Tensor, conditions: Conditions) -> Basis:
        """Network output ↦ basis functions."""
        return self.ansatz.basis(network, output, conditions)

    def rows(self, u: Tensor, conditions: Conditions) -> Tensor:
        """(batch, time, *space) rows W P ρ(u) of any field, on the whole grid."""
        features = self.discretisation(conditions.field(u, self.discretisation), self.has_rates())
        return self._rows(features, conditions)

    def lift_rows(self, conditions: Conditions, stride: int = 1) -> Tensor:
        """(batch, time, *space) rows of the lift, at every ``stride``-th node along each space axis."""
        picked = (..., *[slice(None, None, stride)] * len(self.grid.space))
        return self._rows(conditions.lift_features[picked], conditions, stride)

    def _rows(self, features: Tensor, conditions: Conditions, stride: int = 1) -> Tensor:
        row_map = self._row_map(conditions).strided(stride)
        residual = self.residual(conditions.c, conditions.u0, start=conditions.start, stride=stride)
        return row_map.apply(row_map.assemble(residual.parts(features))[:, None])[:, 0]

    def _row_map(self, known: Conditions) -> RowMap:
        """W P on the whole grid."""
        return self.residual_map(known.c, known.u0.shape[0], inverse=known.inverse)

    def has_rates(self, subdomains: Subdomains | None = None) -> bool:
        """Whether the residual takes time derivatives, in whose place else the problem's storage is."""
        return not self.problem.is_conservative or (subdomains is not None and subdomains.is_split("t"))

    def residual(
        self,
        c: Parameters,
        u0: Tensor | None = None,
        subdomains: Subdomains | None = None,
        start: float = 0.0,
        stride: int = 1,
    ) -> ProblemResidual:
        """The problem's residual under the parameters ``c`` (shape () or (batch,)).

        With the initial values ``u0`` (batch, *space) a problem's storage is a part of its own, except on subdomains
        that are split in time, where it would need inflow.
        """
        own = c if subdomains is None else c.repeated(subdomains.num_subdomains)
        broadcast, initial = own.against(1 + self.discretisation.num_inner), None
        if u0 is not None and not self.has_rates(subdomains):
            state = u0[:, None]
            if subdomains is not None:
                state = subdomains.take(state.expand(-1, self.grid.shape[0], *state.shape[2:]))[:, :1]
            initial = self.problem.storage({"u": state}, broadcast)
        at = self._at(c, start, stride, subdomains, 1 if u0 is None else u0.shape[0])
        return ProblemResidual(self.problem, broadcast, initial, at)

    def _at(
        self, c: Parameters, start: float, stride: int, subdomains: Subdomains | None, batch: int
    ) -> dict[str, Tensor]:
        """Coordinates and coefficient fields that the residual depends on, at the points where it is taken."""
        at = self.discretisation.at(c, start)
        if stride > 1:
            picked = (..., *[slice(None, None, stride)] * len(self.grid.space))
            at = {name: own[picked] for name, own in at.items()}
        if subdomains is not None and at:
            shape = (self.grid.shape[0], *[1] * self.problem.is_system, *self.grid.shape[1:])
            at = {name: subdomains.take(own.expand(batch, *shape)) for name, own in at.items()}
        return at

    def subdomains(self, decomposition: Decomposition) -> Subdomains | None:
        """Those of independent experts, None for one or for joint ones; made once per decomposition."""
        decomposition.check(self.grid)
        if decomposition.is_joint or decomposition.num_experts == 1:
            return None
        key = repr(decomposition), self.device
        if key not in self._subdomains:
            with constants():
                self._subdomains[key] = decomposition.subdomains(self.grid, self.problem.is_system).to(self.device)
        return self._subdomains[key]

    def partition(self, decomposition: Decomposition) -> Tensor:
        """(K, time, *space) partition of unity of a decomposition; of a system (K, time, 1, *space)."""
        key = repr(decomposition), self.device, "partition"
        if key not in self._subdomains:
            with constants():
                weights = decomposition.partition_of_unity(self.grid)
                weights = weights[:, :, None] if self.problem.is_system else weights
                self._subdomains[key] = torch.as_tensor(weights, device=self.device, dtype=self.precision)
        return self._subdomains[key]

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self.residual_map.weights.device

    def forward(
        self,
        basis: Basis,
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
        refuse_transforms(basis.tensor)
        decomposition, solver = decomposition or self.decomposition, solver or self.solver
        subdomains = self.subdomains(decomposition)
        if decomposition.is_joint:
            basis = basis.windowed(self.partition(decomposition), has_mean=not self.problem.conserves_mean)
        num_subdomains = 1 if subdomains is None else subdomains.num_subdomains
        is_envelope = gradient == "envelope" and subdomains is None
        walls, c, has_rates = conditions.walls, conditions.c, self.has_rates(subdomains)
        picked = (..., *[slice(None, None, stride)] * len(self.grid.space))
        seen = basis.detach() if is_envelope else basis
        if subdomains is None:
            lift_features = conditions.lift_features[picked]
            features = seen.features(self.discretisation, walls, has_rates, stride)
        else:
            stride, basis = 1, basis.dense()
            lift_features, features = self._local(basis, conditions, decomposition, solver, subdomains)

        def build(lift: Tensor, functions: Tensor, u0: Tensor, *values: Tensor) -> CollocationObjective:
            own = c.replaced(values)
            inverse = None if c.requires_grad else conditions.inverse
            row_map: RowMap = self.residual_map(own, u0.shape[0], subdomains, inverse).strided(stride)
            residual = self.residual(own, u0, subdomains, conditions.start, stride)
            return CollocationObjective(residual, lift, features.rebuilt(functions), row_map, self.ridge)

        tensors = (lift_features, features.tensor, conditions.u0, *c.tensors)
        with torch.no_grad():
            objective = build(*(tensor.detach() for tensor in tensors))
            shape = lift_features.shape[0], objective.basis.num_basis
            start = torch.full(shape, self.initial_coefficient, dtype=torch.float64, device=self.device)
            solution = self.share.solve(solver, objective, start)
            rows = objective.rows(solution.coefficients) if subdomains is None and stride == 1 else None
        w, cost = solution.coefficients, solution.cost
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (basis.tensor, *tensors)):
            if is_envelope:  # the combined field alone passes the operators
                correction = Field.correction(basis.combined(w), walls)
                features = conditions.lift_features + self.discretisation(correction, has_rates)
                own = self._rows(features[picked], conditions, stride).to(w.dtype)
                cost = first_order(0.5 * own.flatten(1).square().sum(dim=1) + 0.5 * self.ridge * w.square().sum(dim=1))
            else:
                if gradient == "implicit" and solver.max_steps > 0:
                    w = self.share.coefficients(build, w, tensors, is_converged(solution.status))
                cost = self.share.cost(build(*tensors), w, cost)
                cost = first_order(cost) if gradient == "envelope" else cost
        u = basis.combined(w) if subdomains is None else subdomains.merge(combined(subdomains.take(basis.tensor), w))
        by_trajectory = (part.unflatten(0, (-1, num_subdomains)) for part in (w, cost))
        return ConstrainedField(conditions.lift.u + u, rows, *by_trajectory, solution)

    def _local(
        self,
        basis: DenseBasis,
        conditions: Conditions,
        decomposition: Decomposition,
        solver: LevenbergMarquardt,
        subdomains: Subdomains,
    ) -> tuple[Tensor, DenseFeatures]:
        """Features of lift and basis on the subdomains of independent experts."""
        lift, functions = (
            conditions.lift_features,
            self.discretisation(Field.correction(basis.tensor, conditions.walls), self.has_rates(subdomains)),
        )
        if self.is_non_local:
            lift = lift + self._frozen(basis, conditions, decomposition, solver)
            functions = functions * ~self._along_features(2)
        return subdomains.take(lift), DenseFeatures(subdomains.take(functions))

    def _along_features(self, dim: int) -> Tensor:
        """Which features are non-local, broadcasting against features at dimension ``dim``."""
        return self.non_local.reshape(*[1] * dim, -1, *[1] * (1 + self.discretisation.num_inner))

    def _frozen(self, basis: DenseBasis, conditions: Conditions, decomposition: Decomposition, solver) -> Tensor:
        """(batch, feature, time, *space) non-local features of the previous sweep's blend, less the lift's."""
        if decomposition.sweeps == 1:
            return torch.zeros_like(conditions.lift_features)
        before = replace(decomposition, sweeps=decomposition.sweeps - 1)
        u = self.forward(basis, conditions, before, solver).u
        difference = Field.correction(u - conditions.lift.u, conditions.walls)
        return self.discretisation(difference) * self._along_features(1)
