"""A and its inverse on periodic axes: a multiplier of every mode, the time axis by its eigensystem."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parameters import Parameters, column
from ..problems.base import Problem
from .discretisation import Discretisation
from .space import SpaceFeatures
from .subdomains import Subdomains


@dataclass
class SpectralInverse:
    """A⁻¹ on modes: (a_t D_t + σ)⁻¹ by the eigensystem of D_t, σ the symbol of the linear part.

    D_t is real: of two conjugate eigenvalues one is kept, and counts twice.

    Attributes:
        features: transforms.
        analysis, synthesis: (2·p, time) and (time, 2·p) real forms of V⁻¹ and V, D_t = V Λ V⁻¹, of p eigenvalues.
        real: (subproblem or 1, 1, 1, p, *modes) of (a_t Λ + σ)⁻¹.
        imaginary: (subproblem or 1, 1, 2, p, *modes) likewise: what a field's imaginary part gives to the real one, and
            its real part to the imaginary one.
    """

    features: SpaceFeatures
    analysis: Tensor
    synthesis: Tensor
    real: Tensor
    imaginary: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """(subproblem, column, time, *space) ↦ A⁻¹ rows."""
        return self.features.to_nodes(self.of_modes(self.features.to_coefficients(rows)))

    def transpose(self, rows: Tensor) -> Tensor:
        """A⁻ᵀ rows. Transforms between nodes and modes are orthogonal up to a factor that cancels."""
        return self.features.to_nodes(self.transpose_of_modes(self.features.to_coefficients(rows)))

    def of_modes(self, modes: Tensor) -> Tensor:
        """`apply` between modes."""
        return self._solve(modes, self.analysis, self.synthesis, 1)

    def transpose_of_modes(self, modes: Tensor) -> Tensor:
        """`transpose` between modes."""
        return self._solve(modes, self.synthesis.T, self.analysis.T, -1)

    def take(self, indices: Tensor) -> SpectralInverse:
        """The inverses of some subproblems."""
        real, imaginary = (part if part.shape[0] == 1 else part[indices] for part in (self.real, self.imaginary))
        return SpectralInverse(self.features, self.analysis, self.synthesis, real, imaginary)

    def _solve(self, modes: Tensor, into: Tensor, out_of: Tensor, sign: int) -> Tensor:
        problems, columns, times, *space = modes.shape
        parts = _in_time(into, modes.view(problems * columns, times, -1))
        pairs = parts.view(problems, columns, 2, -1, *space)  # real and imaginary
        solved = torch.addcmul(self.real * pairs, self.imaginary, pairs.flip(2), value=sign)
        return _in_time(out_of, solved.view(parts.shape)).view(modes.shape)


def _in_time(matrix: Tensor, fields: Tensor) -> Tensor:
    """matrix (m, time) applied to fields (n, time, points)."""
    return torch.bmm(matrix.expand(len(fields), -1, -1), fields)


class SpectralOperator(nn.Module):
    """A = a_t D_t + Σ_j a_j ∂_j of a problem's constant coefficients on a periodic grid.

    Raises:
        ValueError: a time axis of several elements, or odd space derivatives.
    """

    def __init__(self, problem: Problem, discretisation: Discretisation):
        super().__init__()
        self.problem, self.features = problem, discretisation.space
        time = discretisation.grid.time
        if time.block_size != len(time.nodes):
            raise ValueError(f"a periodic grid takes a time axis of one element, not {len(time.nodes)} nodes in blocks")
        values, vectors = torch.linalg.eig(torch.as_tensor(time.differentiation(1)[:, 1:]))
        inverse, kept = torch.linalg.inv(vectors), values.imag >= 0
        twice = 1.0 + (values.imag > 0)
        values, vectors, inverse = values[kept], (vectors * twice)[:, kept], inverse[kept]
        self.register_buffer("row_scale", torch.as_tensor(time.row_scale), persistent=False)
        self.register_buffer("spectrum", torch.stack([values.real, values.imag]), persistent=False)
        self.register_buffer("analysis", torch.cat([inverse.real, inverse.imag]), persistent=False)
        self.register_buffer("synthesis", torch.cat([vectors.real, -vectors.imag], dim=1), persistent=False)

    def symbol(self, c: Parameters) -> tuple[Tensor, Tensor]:
        """a_t, and σ = Σ_j a_j · symbol of feature j, (batch or 1, *modes)."""
        num_dims, like = len(self.features.names), self.features.squares
        rate, symbol = None, torch.zeros_like(like)[None]
        for name, value in self.problem.linearised(c).items():
            feature, own = self.problem.features[name], column(value, num_dims, like)
            if "t" in feature.orders:
                rate = own
            else:
                symbol = symbol + own * self.features.symbol(name)
        if rate is None:
            raise ValueError("the linearised operator needs a time derivative")
        return rate, symbol

    def inverse(self, c: Parameters, batch: int = 1, subdomains: Subdomains | None = None) -> SpectralInverse:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)).

        It expects rows already multiplied by the grid's ``row_scale``.
        """
        if subdomains is not None:
            raise ValueError("independent experts on a periodic grid take a pointwise residual map: quadrature_weights")
        rate, symbol = self.symbol(c)
        dims = [1] * len(self.features.names)
        real = rate[:, None] * self.spectrum[0].reshape(-1, *dims) + symbol[:, None]
        imaginary = (rate[:, None] * self.spectrum[1].reshape(-1, *dims)).expand_as(real)
        size = real.square() + imaginary.square()
        analysis = self.analysis / self.row_scale
        real, imaginary = (real / size)[:, None, None], (imaginary / size)[:, None]
        return SpectralInverse(
            self.features, analysis, self.synthesis, real, torch.stack([imaginary, -imaginary], dim=2)
        )
