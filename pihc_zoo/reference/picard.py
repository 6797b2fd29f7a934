"""The fastest classical solver known for mildly nonlinear parabolic problems: Picard iteration

    u ← u − A⁻¹ρ(u),   u = lift at first,

with the linearised operator A inverted by fast diagonalisation on a space-time grid of its own,
batched. It is the baseline that a surrogate has to stand up to.
"""

from __future__ import annotations

import numpy as np
import torch

from ..discretisation import Discretisation, Field, Readout, linear_operator
from ..discretisation.lifts import LinearisedLift
from ..grid import GradedAxis, Grid, RadauAxis
from ..grid.stencils import stencil_matrix
from ..objective import ProblemResidual
from ..residual_map import ResidualMap
from .equations import coefficient_names


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
        self.discretisation = Discretisation(problem, self.grid).to(device)
        linearised = linear_operator(problem, self.discretisation).to(device)
        nodes = {"t": torch.as_tensor(self.grid.time.nodes)[:, None], name: torch.as_tensor(space.nodes)}
        self.at = {key: nodes[key].to(device) for key in problem.coordinates}
        self.assemble = ResidualMap(self.discretisation)(problem.as_tensors({}), 1).assemble
        self.lift = LinearisedLift(self.discretisation, linearised)
        self.input = torch.as_tensor(stencil_matrix(axis.nodes, space.nodes, 0, 6), device=device)
        self.readout = Readout(self.discretisation, problem.output_times, {name: axis.nodes}).to(device)

    @classmethod
    def serves(cls, problem) -> bool:
        """Whether it solves a problem: one field, one bounded axis, a linearised operator that can be inverted."""
        if (
            problem.is_system
            or problem.duration is None
            or len(problem.output_space) != 1
            or coefficient_names(problem)
        ):
            return False
        try:
            cls(problem, steps=0, num_nodes=8, elements=1, stages=2)
        except (ValueError, NotImplementedError):
            return False
        return True

    @torch.no_grad()
    def __call__(self, u0: np.ndarray, parameters: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """u0 (batch, n) on the native grid ↦ (batch, time, n) on the output grid."""
        u0 = torch.as_tensor(u0, device=self.device)
        c = self.problem.as_tensors(parameters or {}).to(self.device)
        initial = u0 @ self.input.T
        walls, inverse = self.discretisation.walls(c), self.lift.inverse(c, len(initial))
        u = self.lift(initial, c, walls, inverse).u
        broadcast = c.like(u)
        residual = ProblemResidual(
            self.problem, broadcast, self.problem.storage({"u": initial[:, None]}, broadcast), self.at
        )
        for _ in range(self.steps):
            features = self.discretisation(Field(u, walls, initial))
            u = u + self.lift.correction(self.assemble(residual.parts(features)), inverse)
        out = self.readout(Field(u, walls, initial))
        out[:, 0] = u0
        return out.cpu().numpy()
