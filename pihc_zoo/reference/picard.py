"""The fastest classical solver known for mildly nonlinear parabolic problems: Picard iteration

    u ← u − A⁻¹ρ(u),   u = lift at first,

with the linearised operator A inverted by fast diagonalisation on a space-time grid of its own,
batched. It is the baseline that a surrogate has to stand up to.
"""

from __future__ import annotations

import numpy as np
import torch

from ..ansatz import LinearisedLift
from ..estimate import Readout
from ..grid import GradedAxis, Grid, RadauAxis
from ..grid.stencils import stencil_matrix
from ..objective import ProblemResidual
from ..operators.derivatives import FeatureOperator
from ..operators.linearised import LinearisedOperator
from ..residual_map import ResidualMap


class PicardSolver:
    """Lift + ``steps`` Picard iterations on a graded × Radau grid.

    Args:
        problem: one space axis, a linearisation.
        steps: iterations after the lift.
        num_nodes, elements, stages: size of the grid.
        device: where it computes; answers come back as numpy arrays.
    """

    def __init__(self, problem, steps: int = 2, num_nodes: int = 64, elements: int = 5, stages: int = 5, device="cpu"):
        self.problem, self.steps, self.device = problem, steps, device
        ((name, axis),) = problem.output_space.items()
        space = GradedAxis(num_nodes, axis.closed_nodes[0], axis.closed_nodes[-1])
        self.grid = Grid(RadauAxis(problem.duration, elements, stages), {name: space})
        self.operator = FeatureOperator(problem, self.grid).to(device)
        self.linearised = LinearisedOperator(problem, self.operator).to(device)
        self.assemble = ResidualMap(self.operator)({}, 1).assemble
        self.lift = LinearisedLift(self.operator, self.linearised)
        self.input = torch.as_tensor(stencil_matrix(axis.nodes, space.nodes, 0, 6), device=device)
        self.readout = Readout(self.operator, problem.output_times, {name: axis.nodes}).to(device)

    @torch.no_grad()
    def __call__(self, u0: np.ndarray, parameters: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """u0 (batch, n) on the native grid ↦ (batch, time, n) on the output grid."""
        u0 = torch.as_tensor(u0, device=self.device)
        c = {key: value.to(self.device) for key, value in self.problem.as_tensors(parameters or {}).items()}
        initial = u0 @ self.input.T
        closures = self.operator.closures(c)
        u = self.lift(initial, c, self.operator, closures)
        broadcast = {key: value.reshape(-1, 1, 1) for key, value in c.items()}
        residual = ProblemResidual(self.problem, broadcast, self.problem.storage({"u": initial[:, None]}, broadcast))
        for _ in range(self.steps):
            f = self.operator(u[:, None], closures, initial[:, None])[:, 0]
            u = u + self.lift.correction(self.assemble(residual.parts(f)), c)
        out = self.readout(u, initial, closures)
        out[:, 0] = u0
        return out.cpu().numpy()
