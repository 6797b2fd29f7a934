"""A of a problem with one bounded axis, walls at the actual parameters, and its inverse.

A = M ∂_t + L with any constant-coefficient terms in L, odd derivatives and couplings of fields included. Time is
diagonalised: an element's stages have D = V Λ V⁻¹, and each eigenvalue λ leaves (λ M + L)⁻¹, dense in space. Space is
not: the eigenvectors of advection are too ill-conditioned to be used. An element is fed by the one before it through
its last stage.

Source: E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II" (1996), IV.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parameters import Parameters
from ..problems.base import Problem
from ..solvers.dense import solve
from .constants import kept
from .discretisation import Discretisation
from .subdomains import Subdomains
from .terms import assembled, linear_terms


@dataclass
class StagewiseInverse:
    """A⁻¹ diag(row scale) of a batch of subproblems, applied to (subproblem, column, time, [field], x).

    Attributes:
        operator: its matrices in time.
        resolvents: for each length that elements have (subproblem or 1, eigenvalue, 2·n, n), real parts of
            (λM + L)⁻¹ above imaginary ones.
        mass: (subproblem or 1, n, n) M; n counts the nodes of all fields.
    """

    operator: StagewiseOperator
    resolvents: tuple[Tensor, ...]
    mass: Tensor

    def _through(self, k: int, rows: Tensor, is_transposed: bool) -> Tensor:
        """Σ over eigenvalues of Re(out · (λM + L)⁻¹ · into) for an element's rows (subproblem, stage, n, column)."""
        n, length = rows.shape[2], self.operator.length_of[k]
        own = self.resolvents[length]
        into, out_of = self.operator.analysis[length], self.operator.synthesis[length]
        if is_transposed:  # a real linear map: the transpose of Re(v G u) is Re(uᵀ Gᵀ vᵀ)
            into, out_of = out_of.T, into.T
        parts = (into @ rows.flatten(2)).unflatten(2, rows.shape[2:])  # real above imaginary: (…, 2·eigenvalue, n, col)
        pairs = torch.cat(parts.chunk(2, dim=1), dim=-1)  # (…, eigenvalue, n, 2·column)
        if is_transposed:
            real, imaginary = (half.transpose(-1, -2) @ pairs for half in own.split(n, dim=-2))
            halves = real, -imaginary
        else:
            halves = (own @ pairs).split(n, dim=-2)
        (rr, ri), (ir, ii) = (half.chunk(2, dim=-1) for half in halves)
        both = torch.cat([rr - ii, ri + ir], dim=1)  # real and imaginary parts
        return (out_of @ both.flatten(2)).unflatten(2, rows.shape[2:])

    def apply(self, rows: Tensor) -> Tensor:
        """A⁻¹ rows."""
        own, time = self.operator, self.operator.stages
        f = rows.flatten(3).permute(0, 2, 3, 1) / own.row_scale.reshape(-1, 1, 1)  # (subproblem, time, n, column)
        solved: list[Tensor] = []
        for k in range(f.shape[1] // time):
            part = f[:, k * time : (k + 1) * time]
            if k:
                fed = self.mass @ solved[-1][:, -1]
                part = part - own.time_inflow[k].reshape(-1, 1, 1) * fed[:, None]
            solved.append(self._through(k, part, False))
        return torch.cat(solved, dim=1).permute(0, 3, 1, 2).reshape(rows.shape)

    def transpose(self, rows: Tensor) -> Tensor:
        """A⁻ᵀ rows."""
        own, time = self.operator, self.operator.stages
        r = rows.flatten(3).permute(0, 2, 3, 1)
        solved: list[Tensor] = []
        carried = None
        for k in range(r.shape[1] // time - 1, -1, -1):
            part = r[:, k * time : (k + 1) * time]
            if carried is not None:
                part = torch.cat([part[:, :-1], part[:, -1:] + carried[:, None]], dim=1)
            solved.append(self._through(k, part, True))
            fed = (own.time_inflow[k].reshape(-1, 1, 1) * solved[-1]).sum(dim=1)
            carried = -(self.mass.transpose(-1, -2) @ fed)
        whole = torch.cat(solved[::-1], dim=1) / own.row_scale.reshape(-1, 1, 1)
        return whole.permute(0, 3, 1, 2).reshape(rows.shape)

    def take(self, indices: Tensor) -> StagewiseInverse:
        """That of some subproblems."""
        *resolvents, mass = (part if part.shape[0] == 1 else part[indices] for part in (*self.resolvents, self.mass))
        return StagewiseInverse(self.operator, tuple(resolvents), mass)


class StagewiseOperator(nn.Module):
    """A of a problem on a grid with one space axis, bounded; see above.

    Raises:
        ValueError: another kind of grid, or a term that is not a derivative along its axis.
    """

    def __init__(self, problem: Problem, discretisation: Discretisation):
        super().__init__()
        self.problem, self.discretisation = problem, discretisation
        grid = discretisation.grid
        if len(grid.space) != 1 or any(axis.is_periodic for axis in grid.space.values()):
            raise ValueError(f"A takes such terms on one bounded axis, not on {', '.join(grid.space)}")
        (self.axis_name,) = grid.space
        for terms in linear_terms(problem, problem.as_tensors({})):
            for name in terms:
                orders = problem.features[name].orders
                if "t" in orders and len(orders) > 1:
                    raise ValueError(f"A takes time derivatives of fields themselves, not {name!r}")
        time = grid.time
        self.register_buffer("row_scale", torch.as_tensor(time.row_scale), persistent=False)
        self.stages = time.block_size
        self._diagonalise(*discretisation.time_elements())
        self._inverses: dict = {}

    def _diagonalise(self, blocks: Tensor, inflow: Tensor) -> None:
        """Eigensystems of the elements' time matrices, one for each length; of conjugate pairs one is kept, twice.

        Lengths with fewer pairs than others repeat an eigenvalue, without weight.
        """
        systems, lengths = [], []
        self.length_of: list[int] = []  # by element
        for block in blocks:
            equal = [j for j, own in enumerate(lengths) if _is_equal(block, own)]
            self.length_of.append(equal[0] if equal else len(lengths))
            if equal:
                continue
            lengths.append(block)
            values, vectors = torch.linalg.eig(block)
            size = 1e-12 * values.abs().max()
            is_kept = values.imag > -size
            weight = torch.where(values.imag > size, 2.0, 1.0)[is_kept]
            systems.append((values[is_kept], vectors[:, is_kept] * weight, torch.linalg.inv(vectors)[is_kept]))
        most = max(len(values) for values, _, _ in systems)
        spectrum, into, out_of = [], [], []
        for values, vectors, inverse in systems:
            missing = most - len(values)
            spectrum.append(torch.cat([values, values[:1].expand(missing)]))
            vectors, inverse = nn.functional.pad(vectors, (0, missing)), nn.functional.pad(inverse, (0, 0, 0, missing))
            into.append(torch.cat([inverse.real, inverse.imag]))
            out_of.append(torch.cat([vectors.real, -vectors.imag], dim=1))
        spectra = torch.view_as_real(torch.stack(spectrum)).contiguous()
        self.register_buffer("spectrum", spectra, persistent=False)  # (length, eigenvalue, real or imaginary part)
        self.register_buffer("analysis", torch.stack(into), persistent=False)  # (length, 2·eigenvalue, stage)
        self.register_buffer("synthesis", torch.stack(out_of), persistent=False)  # (length, stage, 2·eigenvalue)
        self.register_buffer("time_inflow", inflow, persistent=False)

    def _assembled(self, c: Parameters) -> tuple[Tensor, Tensor]:
        """M and L, (batch or 1, n, n)."""
        fields, axis = list(self.problem.fields), self.discretisation.space.axes[self.axis_name]
        walls, like = self.discretisation.walls(c), self.row_scale
        identity = torch.eye(len(axis.axis.nodes), dtype=like.dtype, device=like.device)[None]

        def matrix(name: str) -> Tensor:
            feature = self.problem.features[name]
            order, closure = feature.orders.get(self.axis_name, 0), walls.of(fields.index(feature.field))
            return axis.eliminated(order, closure[self.axis_name])[0] if order else identity

        zero = torch.zeros_like(identity)
        return assembled(self.problem, c, matrix, (zero, zero))

    def _resolvents(self, c: Parameters) -> tuple[tuple[Tensor, ...], Tensor]:
        """(batch or 1, eigenvalue, 2n, n) of (λM + L)⁻¹ for each length, and M."""
        mass, stiffness = self._assembled(c)
        real, imaginary = self.spectrum[..., 0, None, None], self.spectrum[..., 1, None, None]
        a, b = real * mass[:, None, None] + stiffness[:, None, None], imaginary * mass[:, None, None]
        if torch.compiler.is_exporting():  # which has no complex numbers
            n = a.shape[-1]
            whole = torch.cat([torch.cat([a, -b.expand_as(a)], dim=-1), torch.cat([b.expand_as(a), a], dim=-1)], dim=-2)
            right = torch.eye(2 * n, dtype=a.dtype, device=a.device)[:, :n].expand(*a.shape[:-2], 2 * n, n)
            return solve(whole, right).unbind(1), mass
        inverses = torch.linalg.inv(torch.complex(a, b.expand_as(a))).unbind(1)
        return tuple(torch.cat([own.real, own.imag], dim=-2) for own in inverses), mass

    def inverse(self, c: Parameters, batch: int = 1, subdomains: Subdomains | None = None) -> StagewiseInverse:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)).

        It expects rows already multiplied by the grid's ``row_scale``.
        """
        if subdomains is not None:
            raise ValueError("independent experts take a pointwise residual map here: quadrature_weights")
        if c.fixed is None:
            return StagewiseInverse(self, *self._resolvents(c))
        key = c.fixed, self.row_scale.device
        return StagewiseInverse(self, *kept(self._inverses, key, lambda: self._resolvents(c)))


def _is_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two elements' time matrices are those of equal lengths, which share their eigenvalues."""
    return torch.allclose(one, other, rtol=1e-12, atol=0.0)
