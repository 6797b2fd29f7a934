"""The linearised operator A of a problem and its inverse by fast diagonalisation.

A = a_t D_t ⊗ I + a_L I ⊗ L with the problem's constant coefficients a, the time matrix D_t with zero
initial value, and one spatial operator L with its wall conditions eliminated at the default
parameters. L is diagonalised once; each of its modes leaves one small matrix in time, inverted once
per set of parameters.

Source: R. Lynch, J. Rice, D. Thomas, "Direct solution of partial difference equations by tensor
product methods", Numer. Math. 6 (1964), doi:10.1007/BF01386067.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parameters import Parameters, column
from ..problems.base import Problem
from .constants import constants, kept
from .discretisation import Discretisation
from .subdomains import Subdomains


class ComplexEigenvaluesError(ValueError):
    """An operator that has no real modes."""


@dataclass
class TimeBlocks:
    """Inverses of block lower triangular time matrices, each element fed by the one before it.

    y_k = B_k f_k + g_k · last(y_(k−1)): one product per element and a recursion over last values.

    Modes are the last dimension everywhere, so that each product runs over contiguous modes.

    Attributes:
        blocks: B (subproblem, element, stage out, stage in, mode).
        inflow: g (subproblem, element, stage, mode).
    """

    blocks: Tensor
    inflow: Tensor

    def dense(self) -> Tensor:
        """(subproblem, mode, time, time)."""
        blocks, inflow = self.blocks.movedim(-1, -4), self.inflow.movedim(-1, -3)
        rows: list[Tensor] = []
        num_elements, stages = inflow.shape[-2:]
        for k in range(num_elements):
            block = blocks[..., k, :, :]
            after = torch.zeros_like(block[..., :1]).expand(*block.shape[:-1], (num_elements - k - 1) * stages)
            before = [inflow[..., k, :, None] * rows[-1][..., -1:, : k * stages]] if k else []
            rows.append(torch.cat([*before, block, after], dim=-1))
        return torch.cat(rows, dim=-2)

    def take(self, indices: Tensor) -> TimeBlocks:
        """Those of some subproblems."""
        return TimeBlocks(self.blocks[indices], self.inflow[indices])

    def apply(self, f: Tensor) -> Tensor:
        """(subproblem, column, time, mode) ↦ the same shape."""
        num_elements, stages = self.inflow.shape[1:3]
        f = f.unflatten(2, (num_elements, stages))  # (subproblem, column, element, stage, mode)
        y = self.blocks[:, None, :, :, 0] * f[:, :, :, :1]
        for i in range(1, stages):
            y = torch.addcmul(y, self.blocks[:, None, :, :, i], f[:, :, :, i : i + 1])
        last = [y[:, :, 0, -1]]
        for k in range(1, num_elements):
            last.append(torch.addcmul(y[:, :, k, -1], self.inflow[:, None, k, -1], last[-1]))
        before = torch.stack([torch.zeros_like(last[0]), *last[:-1]], dim=2)  # (…, element, mode)
        return torch.addcmul(y, before[:, :, :, None], self.inflow[:, None]).flatten(2, 3)

    def apply_transpose(self, r: Tensor) -> Tensor:
        """Transpose of `apply`."""
        num_elements, stages = self.inflow.shape[1:3]
        r = r.unflatten(2, (num_elements, stages))
        fed = (r * self.inflow[:, None]).sum(dim=3)  # (subproblem, column, element, mode): gᵀr
        carried = [torch.zeros_like(fed[:, :, 0])]  # what later elements ask of last(y_k), from the end
        for k in range(num_elements - 1, 0, -1):
            carried.append(torch.addcmul(fed[:, :, k], self.inflow[:, None, k, -1], carried[-1]))
        ends = torch.stack(carried[::-1], dim=2)
        total = self.blocks[:, None, :, -1] * (r[:, :, :, -1] + ends)[:, :, :, None]
        for i in range(stages - 1):
            total = torch.addcmul(total, self.blocks[:, None, :, i], r[:, :, :, i : i + 1])
        return total.flatten(2, 3)


@dataclass
class Inverse:
    """A⁻¹ diag(row scale) of a batch of subproblems, applied to (subproblem, column, time, x).

    Attributes:
        time: (1, mode, time, time) matrices that all subproblems share, or each one's blocks.
        vectors, vectors_inverse: (subproblem or 1, x, mode) and (subproblem or 1, mode, x).
    """

    time: Tensor | TimeBlocks
    vectors: Tensor
    vectors_inverse: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """A⁻¹ rows."""
        if isinstance(self.time, TimeBlocks):
            return _through_own_modes(rows, self.vectors_inverse, self.time.apply, self.vectors)
        return _through_shared_modes(rows, self.vectors_inverse[0], self.time[0], self.vectors[0])

    def transpose(self, rows: Tensor) -> Tensor:
        """A⁻ᵀ rows."""
        into, out_of = self.vectors.transpose(-1, -2), self.vectors_inverse.transpose(-1, -2)
        if isinstance(self.time, TimeBlocks):
            return _through_own_modes(rows, into, self.time.apply_transpose, out_of)
        return _through_shared_modes(rows, into[0], self.time[0].transpose(-1, -2), out_of[0])

    def take(self, indices: Tensor) -> Inverse:
        """That of some subproblems."""
        vectors, vectors_inverse = (
            part if part.shape[0] == 1 else part[indices] for part in (self.vectors, self.vectors_inverse)
        )
        return Inverse(
            self.time.take(indices) if isinstance(self.time, TimeBlocks) else self.time, vectors, vectors_inverse
        )


def _through_shared_modes(rows: Tensor, into: Tensor, time: Tensor, out_of: Tensor) -> Tensor:
    """The same matrices for all subproblems: three dense products, no copies."""
    problems, columns, times, points = rows.shape
    modes = (into @ rows.reshape(-1, points).T).view(-1, problems * columns, times)
    solved = torch.bmm(modes, time.transpose(-1, -2))  # (mode, subproblem·column, time)
    return (solved.flatten(1).T @ out_of.T).view(rows.shape)


def _through_own_modes(rows: Tensor, into: Tensor, solve_in_time: Callable[[Tensor], Tensor], out_of: Tensor) -> Tensor:
    """Each subproblem brings its own matrices in time, and in space unless they are shared."""
    return _along_space(solve_in_time(_along_space(rows, into)), out_of)


def _along_space(fields: Tensor, matrices: Tensor) -> Tensor:
    """matrices (subproblem or 1, m, n) along the last dimension of fields (subproblem, column, time, n)."""
    if matrices.shape[0] == 1:
        return fields @ matrices[0].T
    return (fields.flatten(1, 2) @ matrices.transpose(1, 2)).unflatten(1, fields.shape[1:3])


class DiagonalisedOperator(nn.Module):
    """A of a problem on a grid with one space axis.

    Raises:
        ValueError: more than one space axis; a linearisation other than one time and one space
            derivative; a grid on which L has complex eigenvalues.
    """

    def __init__(self, problem: Problem, discretisation: Discretisation):
        super().__init__()
        self.problem = problem
        grid = discretisation.grid
        if len(grid.space) != 1:
            raise ValueError(f"the linearised operator is inverted for one space axis, not {len(grid.space)}")
        (self.axis_name,) = grid.space
        defaults = problem.as_tensors({})
        terms = list(problem.linearised(defaults))
        by_axis = {tuple(problem.features[name].orders): name for name in terms}
        if set(by_axis) != {("t",), (self.axis_name,)} or len(terms) != 2:
            raise ValueError(f"the linearised operator holds one time and one space derivative, not {', '.join(terms)}")
        self.time_feature, self.space_feature = by_axis[("t",)], by_axis[(self.axis_name,)]
        order = problem.features[self.space_feature].orders[self.axis_name]
        closure = discretisation.walls(defaults)[self.axis_name]
        matrix = discretisation.space.axes[self.axis_name].eliminated(order, closure)[0][0]
        self.register_buffer("space_matrix", matrix.clone(), persistent=False)
        self.register_buffer("row_scale", torch.as_tensor(grid.time.row_scale), persistent=False)
        self._factorise_time(*discretisation.time_elements())
        self._eigensystems: dict = {}
        self._inverses: dict = {}
        self._eigensystem(None)

    def _factorise_time(self, blocks: Tensor, inflow: Tensor) -> None:
        """Eigensystems of the diagonal blocks of D_t, and the columns through which blocks are coupled."""
        spectrum, synthesis = [], []
        for block in blocks:
            values, vectors = torch.linalg.eig(block)
            outer = torch.einsum("ai,ib->iab", vectors, torch.linalg.inv(vectors)).flatten(1)
            spectrum.append(torch.stack([values.real, values.imag]))
            synthesis.append(torch.cat([outer.real, -outer.imag]))
        self.register_buffer("block_spectrum", torch.stack(spectrum, dim=1), persistent=False)  # (2, block, stage)
        self.register_buffer("block_synthesis", torch.stack(synthesis), persistent=False)  # (block, 2·stage, stage²)
        self.register_buffer("block_inflow", inflow, persistent=False)  # (block, stage)

    def _eigensystem(self, subdomains: Subdomains | None) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues (K, mode), vectors (K, x, mode) and their inverse, of L or its blocks on subdomains."""
        device, dtype = self.space_matrix.device, self.space_matrix.dtype
        key = subdomains and subdomains.key, device, dtype
        if key not in self._eigensystems:
            with constants():
                matrix = self.space_matrix.cpu().double()
                indices = [slice(None)] if subdomains is None else subdomains.indices[self.axis_name]
                blocks = torch.stack([matrix[i][:, i] for i in indices])
                values, vectors = torch.linalg.eig(blocks)
                if values.imag.abs().max() > 1e-8 * values.abs().max():
                    raise ComplexEigenvaluesError(
                        "the space operator has complex eigenvalues on this grid; choose a lower stencil or more nodes"
                    )
                system = values.real, vectors.real, torch.linalg.inv(vectors.real)
                self._eigensystems[key] = tuple(part.contiguous().to(device, dtype) for part in system)
        return self._eigensystems[key]

    def _time_inverse(self, eigenvalues: Tensor, c: Parameters) -> TimeBlocks:
        """(batch or 1, K, …, mode) inverses of a_t D_t + a_L λ I, rows scaled by dt/ds.

        D_t is block lower triangular, and an element sees the one before it through its last node only.
        Diagonal blocks are inverted by their eigensystem, (a_t D_k + zI)⁻¹ = Re V (a_t Λ + z)⁻¹ V⁻¹.
        """
        coefficients = self.problem.linearised(c)
        names = self.time_feature, self.space_feature
        a_time, a_space = (column(coefficients[name], 2, eigenvalues) for name in names)
        shift, _ = torch.broadcast_tensors(a_space * eigenvalues, a_time)
        a_time, shift = a_time[..., None, None], shift[..., None, None, :]
        real = a_time * self.block_spectrum[0][..., None] + shift  # (batch or 1, K, block, stage, mode)
        imaginary = a_time * self.block_spectrum[1][..., None]
        size = real.square() + imaginary.square()
        inverted = torch.cat([real / size, -imaginary / size], dim=-2)
        stages = self.block_inflow.shape[1]
        blocks = (self.block_synthesis.transpose(1, 2) @ inverted).unflatten(-2, (stages, stages))
        inflow = -a_time * (blocks * self.block_inflow[:, None, :, None]).sum(dim=-2)
        return TimeBlocks(blocks / self.row_scale.reshape(-1, 1, stages, 1), inflow)

    def inverse(self, c: Parameters, batch: int = 1, subdomains: Subdomains | None = None) -> Inverse:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)), on the grid or on subdomains of it.

        It expects rows already multiplied by the grid's ``row_scale``.
        """
        eigenvalues, vectors, vectors_inverse = self._eigensystem(subdomains)
        key = subdomains and subdomains.key, eigenvalues.device, eigenvalues.dtype, c.fixed
        if c.fixed is None:
            time = self._time_inverse(eigenvalues, c)
        elif subdomains is None:  # the usual case: inverted once
            dense = kept(self._inverses, key, lambda: self._time_inverse(eigenvalues, c).dense()[:, 0])
            return Inverse(dense, vectors, vectors_inverse)
        else:
            time = kept(self._inverses, key, lambda: self._time_inverse(eigenvalues, c))
        own = (part.expand(batch, *part.shape[1:]).flatten(0, 1) for part in (time.blocks, time.inflow))
        if subdomains is not None:
            vectors, vectors_inverse = vectors.repeat(batch, 1, 1), vectors_inverse.repeat(batch, 1, 1)
        return Inverse(TimeBlocks(*own), vectors, vectors_inverse)
