"""A of a problem with one bounded axis, walls at the actual parameters, and its inverse.

A = M ∂_t + L with any constant-coefficient terms in L, odd derivatives and couplings of fields included. Time is
diagonalised: an element's stages have D = V Λ V⁻¹, and each eigenvalue λ leaves (λ M + L)⁻¹, dense in space; of a
conjugate pair one is kept. Space is not: the eigenvectors of advection are too ill-conditioned to be used. An element
is fed by the one before it through its last stage.

Source: E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II" (1996), IV.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..parameters import Parameters
from ..problems.base import Problem
from ..solvers.banded import Banded
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
        real: for each length that elements have (subproblem or 1, real eigenvalue, n, n) of (λM + L)⁻¹.
        pairs: likewise (subproblem or 1, pair, 2·n, n), real parts above imaginary ones.
        mass: (subproblem or 1, n, n) M; n counts the nodes of all fields.
    """

    operator: StagewiseOperator
    real: tuple[Tensor, ...]
    pairs: tuple[Tensor, ...]
    mass: Tensor

    def _through(self, k: int, rows: Tensor, is_transposed: bool) -> Tensor:
        """Σ over eigenvalues of Re(out · (λM + L)⁻¹ · into) for an element's rows (subproblem, stage, column, n).

        Fields are rows of products, whose few columns would take several times as long.
        """
        n, length = rows.shape[3], self.operator.length_of[k]
        real, pairs = self.real[length], self.pairs[length]
        into, out_of = self.operator.analysis[length], self.operator.synthesis[length]
        if is_transposed:  # a real linear map: the transpose of Re(v G u) is Re(uᵀ Gᵀ vᵀ)
            into, out_of = out_of.T, into.T
        parts = (into @ rows.flatten(2)).unflatten(2, rows.shape[2:])
        alone, *both = parts.split([real.shape[1], pairs.shape[1], pairs.shape[1]], dim=1)
        solved = [alone @ (real if is_transposed else real.transpose(-1, -2))] if real.shape[1] else []
        if pairs.shape[1]:
            beside = torch.cat(both, dim=-2)  # (…, pair, 2·column, n)
            if is_transposed:
                re, im = (beside @ half for half in pairs.split(n, dim=-2))
                halves = re, -im
            else:
                halves = (beside @ pairs.transpose(-1, -2)).split(n, dim=-1)
            (rr, ri), (ir, ii) = (half.chunk(2, dim=-2) for half in halves)
            solved += [rr - ii, ri + ir]
        return (out_of @ torch.cat(solved, dim=1).flatten(2)).unflatten(2, rows.shape[2:])

    def apply(self, rows: Tensor) -> Tensor:
        """A⁻¹ rows."""
        own, time = self.operator, self.operator.stages
        f = rows.flatten(3).transpose(1, 2) / own.row_scale.reshape(-1, 1, 1)  # (subproblem, time, column, n)
        solved: list[Tensor] = []
        for k in range(f.shape[1] // time):
            part = f[:, k * time : (k + 1) * time]
            if k:
                fed = solved[-1][:, -1] @ self.mass.transpose(-1, -2)
                part = part - own.time_inflow[k].reshape(-1, 1, 1) * fed[:, None]
            solved.append(self._through(k, part, False))
        return torch.cat(solved, dim=1).transpose(1, 2).reshape(rows.shape)

    def transpose(self, rows: Tensor) -> Tensor:
        """A⁻ᵀ rows."""
        own, time = self.operator, self.operator.stages
        r = rows.flatten(3).transpose(1, 2)
        solved: list[Tensor] = []
        carried = None
        for k in range(r.shape[1] // time - 1, -1, -1):
            part = r[:, k * time : (k + 1) * time]
            if carried is not None:
                part = torch.cat([part[:, :-1], part[:, -1:] + carried[:, None]], dim=1)
            solved.append(self._through(k, part, True))
            fed = (own.time_inflow[k].reshape(-1, 1, 1) * solved[-1]).sum(dim=1)
            carried = -(fed @ self.mass)
        whole = torch.cat(solved[::-1], dim=1) / own.row_scale.reshape(-1, 1, 1)
        return whole.transpose(1, 2).reshape(rows.shape)

    def take(self, indices: Tensor) -> StagewiseInverse:
        """That of some subproblems."""
        real, pairs, (mass,) = (
            tuple(part if part.shape[0] == 1 else part[indices] for part in parts)
            for parts in (self.real, self.pairs, (self.mass,))
        )
        return StagewiseInverse(self.operator, real, pairs, mass)


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
        mass, stiffness = self._assembled(problem.as_tensors({}))
        self.cuts = Banded.of(((mass != 0) | (stiffness != 0)).any(dim=0))
        self._inverses: dict = {}

    def _diagonalise(self, blocks: Tensor, inflow: Tensor) -> None:
        """Eigensystems of the elements' time matrices, one for each length.

        All have the same number of real eigenvalues apart: where lengths differ in that, some are pairs of their own.
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
            order = values.imag[is_kept].argsort()  # the real ones first
            weight = torch.where(values.imag > size, 2.0, 1.0)[is_kept]
            own = values[is_kept], (vectors[:, is_kept] * weight).T, torch.linalg.inv(vectors)[is_kept]
            systems.append([part[order] for part in own])
        num_real = min(2 * len(values) - len(blocks[0]) for values, _, _ in systems)
        most = max(len(values) for values, _, _ in systems)
        real, pairs, into, out_of = [], [], [], []
        for system in systems:
            values, vectors, inverse = (pad(own, (0, 0) * (own.dim() - 1) + (0, most - len(own))) for own in system)
            values[len(system[0]) :] = values[0]  # without weight
            real.append(values[:num_real].real)
            pairs.append(values[num_real:])
            into.append(torch.cat([inverse.real, inverse.imag[num_real:]]))
            out_of.append(torch.cat([vectors.real, -vectors.imag[num_real:]]).T)
        self.register_buffer("real_values", torch.stack(real), persistent=False)  # (length, real eigenvalue)
        parts = torch.view_as_real(torch.stack(pairs)).movedim(-1, 1)
        self.register_buffer("pair_values", parts.contiguous(), persistent=False)  # (length, part, pair)
        self.register_buffer("analysis", torch.stack(into), persistent=False)  # (length, row, stage)
        self.register_buffer("synthesis", torch.stack(out_of), persistent=False)  # (length, stage, row)
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

    def _resolvents(self, c: Parameters) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """`StagewiseInverse.real`, ``pairs`` and ``mass``."""
        mass, stiffness = self._assembled(c)
        own = mass[:, None], stiffness[:, None]
        real = [self.cuts.inverse(value * own[0] + own[1]) for value in self.real_values[..., None, None]]
        pairs = [self._pairs(*values, *own) for values in self.pair_values[..., None, None]]
        return tuple(real), tuple(pairs), mass

    def _pairs(self, real: Tensor, imaginary: Tensor, mass: Tensor, stiffness: Tensor) -> Tensor:
        """(λM + L)⁻¹ of complex λ, given by their parts (eigenvalue, 1, 1): its real parts above imaginary ones."""
        a, b = real * mass + stiffness, imaginary * mass
        if torch.compiler.is_exporting():  # which has no complex numbers
            n = a.shape[-1]
            whole = torch.cat([torch.cat([a, -b.expand_as(a)], dim=-1), torch.cat([b.expand_as(a), a], dim=-1)], dim=-2)
            right = torch.eye(2 * n, dtype=a.dtype, device=a.device)[:, :n].expand(*a.shape[:-2], 2 * n, n)
            return solve(whole, right)
        own = self.cuts.inverse(torch.complex(a, b.expand_as(a)))
        return torch.cat([own.real, own.imag], dim=-2)

    def inverse(self, c: Parameters, batch: int = 1, subdomains: Subdomains | None = None) -> StagewiseInverse:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)).

        It expects rows already multiplied by the grid's ``row_scale``.
        """
        if subdomains is not None:
            raise ValueError("independent experts take a pointwise residual map here: quadrature_weights")
        if c.fixed is None:
            return StagewiseInverse(self, *self._resolvents(c))
        key = c.fixed, self.row_scale.device, self.row_scale.dtype
        return StagewiseInverse(self, *kept(self._inverses, key, lambda: self._resolvents(c)))


def _is_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two elements' time matrices are those of equal lengths, which share their eigenvalues."""
    return torch.allclose(one, other, rtol=1e-12, atol=0.0)
