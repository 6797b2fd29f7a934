"""A of any problem whose terms separate by axis, and its inverse: one small system per group of modes.

A = Σ_terms a · (∂_t or 1) ⊗ ∂_x^p ⊗ ∂_y^q …, an equation per field. A periodic axis has its modes, of which cos kx
and sin kx are a pair where an odd derivative turns one into the other. A bounded axis has the eigenvectors of its one
derivative, walls at default parameters; real and imaginary parts of complex ones are a pair. What is left per group,
all fields and an element's stages together, is a dense matrix, inverted once per set of parameters. An element is fed
by the one before it through its last stage.

Source: R. Lynch, J. Rice, D. Thomas, "Direct solution of partial difference equations by tensor
product methods", Numer. Math. 6 (1964), doi:10.1007/BF01386067.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parameters import Parameters
from ..problems.base import Problem
from ..solvers.dense import solve
from .axes import along
from .constants import kept
from .discretisation import Discretisation
from .subdomains import Subdomains
from .terms import assembled, linear_terms


@dataclass
class ModalInverse:
    """A⁻¹ diag(row scale) of a batch of subproblems, applied to (subproblem, column, time, [field], *space).

    Attributes:
        operator: its transforms.
        blocks: (subproblem or 1, element, group, m, m) with m = stages · components.
        inflow: (subproblem or 1, element, group, m, components), of the state before an element.
    """

    operator: ModalOperator
    blocks: Tensor
    inflow: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """A⁻¹ rows."""
        components = self.inflow.shape[-1]
        own = self.operator.analysed(rows, self._is_shared) @ self.blocks.transpose(-1, -2)
        solved = [own[:, 0]]
        for k in range(1, own.shape[1]):
            solved.append(own[:, k] + solved[-1][..., -components:] @ self.inflow[:, k].transpose(-1, -2))
        return self.operator.synthesised(torch.stack(solved, dim=1), rows)

    def transpose(self, rows: Tensor) -> Tensor:
        """A⁻ᵀ rows."""
        r = self.operator.analysed(rows, self._is_shared, is_transposed=True)
        components, later = self.inflow.shape[-1], None
        total: list[Tensor] = []
        for k in range(r.shape[1] - 1, -1, -1):
            own = r[:, k]
            if later is not None:
                fed = later @ self.inflow[:, k + 1]
                own = torch.cat([own[..., :-components], own[..., -components:] + fed], dim=-1)
            total.append(own)
            later = own
        solved = torch.stack(total[::-1], dim=1) @ self.blocks
        return self.operator.synthesised(solved, rows, is_transposed=True)

    @property
    def _is_shared(self) -> bool:
        """Whether the matrices are the same for all subproblems, whose rows then are those of one product."""
        return self.blocks.shape[0] == 1

    def take(self, indices: Tensor) -> ModalInverse:
        """That of some subproblems."""
        parts = (part if part.shape[0] == 1 else part[indices] for part in (self.blocks, self.inflow))
        return ModalInverse(self.operator, *parts)


class ModalOperator(nn.Module):
    """A of a problem on a grid, see above.

    Raises:
        ValueError: a term that does not separate so, by name.
    """

    def __init__(self, problem: Problem, discretisation: Discretisation):
        super().__init__()
        self.problem, self.features, self.grid = problem, discretisation.space, discretisation.grid
        self.num_fields = len(problem.fields)
        time = self.grid.time
        self.register_buffer("row_scale", torch.as_tensor(time.row_scale), persistent=False)
        self.stages = time.block_size
        blocks, inflow = discretisation.time_elements()
        self.register_buffer("time_blocks", blocks, persistent=False)
        self.register_buffer("time_inflow", inflow, persistent=False)
        defaults = problem.as_tensors({})
        names = dict.fromkeys(name for terms in linear_terms(problem, defaults) for name in terms)
        self.walls = discretisation.walls(defaults)
        self.is_paired = [self._register_modes(key, list(names)) for key in self.grid.space]
        self.num_components = self.num_fields * 2 ** sum(self.is_paired)
        for name in names:
            if "t" not in problem.features[name].orders:
                self.register_buffer(f"symbol_{name}", self._symbol(name), persistent=False)
        self._inverses: dict = {}

    # ------------------------------------------------------------------ modes

    def _register_modes(self, key: str, names: list[str]) -> bool:
        """Matrices into and out of an axis' modes; returns whether modes come in pairs, side by side."""
        axis = self.features.axes[key]
        if axis.axis.is_periodic:
            is_paired = any(self.problem.features[name].orders.get(key, 0) % 2 for name in names)
            into, out_of = axis.analysis, axis.nodes
            if is_paired:
                order = torch.arange(axis.axis.band + 1)
                order = torch.stack([order, order + axis.axis.band], dim=1)  # cos kx, sin kx
                order[0, 1] = len(into)  # there is no sin 0
                into = nn.functional.pad(into, (0, 0, 0, 1))[order.flatten()]
                out_of = nn.functional.pad(out_of, (0, 1))[:, order.flatten()]
        else:
            values, vectors = torch.linalg.eig(self._bounded_matrix(key, names))
            is_paired = bool(values.imag.abs().max() > 1e-8 * values.abs().max())
            symbol, out_of = _real_modes(values, vectors) if is_paired else (values.real[:, None, None], vectors.real)
            into = torch.linalg.inv(out_of) if out_of.shape[0] == out_of.shape[1] else torch.linalg.pinv(out_of)
            self.register_buffer(f"values_{key}", symbol.contiguous(), persistent=False)
        self.register_buffer(f"into_{key}", into.contiguous(), persistent=False)
        self.register_buffer(f"out_of_{key}", out_of.contiguous(), persistent=False)
        return is_paired

    def _bounded_matrix(self, key: str, names: list[str]) -> Tensor:
        """(n, n) the one derivative that all terms take along a bounded axis, its walls eliminated."""
        orders = {self.problem.features[name].orders.get(key, 0) for name in names} - {0}
        axis = self.features.axes[key]
        if not orders:
            return torch.eye(len(axis.axis.nodes), dtype=torch.float64)
        if len(orders) > 1 or any(order % 2 for order in orders):
            named = ", ".join(name for name in names if self.problem.features[name].orders.get(key, 0))
            raise ValueError(f"A takes one even derivative along the bounded axis {key!r}, not {named} together")
        (order,) = orders
        matrices = [axis.eliminated(order, self.walls.of(i)[key])[0][0] for i in range(self.num_fields)]
        size = float(matrices[0].abs().max())
        if not all(torch.allclose(own, matrices[0], rtol=1e-12, atol=1e-12 * size) for own in matrices):
            raise ValueError(f"A takes the same kind of walls for all fields along {key!r}")
        return matrices[0]

    def _symbol(self, name: str) -> Tensor:
        """(group, p, p) matrix of a feature on the pairs of a group; p = 1 where no axis is paired."""
        feature = self.problem.features[name]
        total = torch.ones(1, 1, 1, dtype=torch.float64)
        squares = torch.zeros(1, dtype=torch.float64)  # |k|², of periodic axes
        for key, is_paired in zip(self.grid.space, self.is_paired, strict=True):
            order, axis = feature.orders.get(key, 0), self.features.axes[key]
            if not axis.axis.is_periodic:
                values = getattr(self, f"values_{key}")
                k = torch.zeros(len(values), dtype=torch.float64)
                own = values if order else torch.eye(values.shape[-1], dtype=torch.float64).expand_as(values)
            elif is_paired:
                k = axis.wave_numbers[: axis.axis.band + 1]
                turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
                own = k[:, None, None] ** order * torch.linalg.matrix_power(turn, order)
            else:
                k = axis.wave_numbers
                own = ((-1.0) ** (order // 2) * k**order)[:, None, None]
            squares = (squares[:, None] + k**2).flatten()
            size = total.shape[-1] * own.shape[-1]
            total = torch.einsum("gab,hcd->ghacbd", total, own).reshape(-1, size, size)
        if feature.laplacian:
            power = torch.where(squares > 0, -squares, 1.0) ** feature.laplacian
            total = total * torch.where(squares > 0, power, 0.0)[:, None, None]
        return total

    # ------------------------------------------------------------------ transforms

    def analysed(
        self, rows: Tensor, is_shared: bool = False, is_transposed: bool = False, stages: int | None = None
    ) -> Tensor:
        """(subproblem, column, time, [field], *space) ↦ (subproblem, element, group, column, stage·component).

        Args:
            rows: at the nodes.
            is_shared: all subproblems' columns together instead, (1, element, group, subproblem·column, …).
            is_transposed: the transpose of `synthesised` instead.
            stages: times that go together; default: an element's.
        """
        stages = stages or self.stages
        if not self.features.is_system:
            rows = rows.unsqueeze(self.features.component_dim)
        for i, key in enumerate(self.features.names):
            matrix = getattr(self, f"out_of_{key}").t() if is_transposed else getattr(self, f"into_{key}")
            rows = along(rows, matrix, i - len(self.features.names))
        batch, columns, _, fields = rows.shape[:4]
        shape = []
        for is_paired, count in zip(self.is_paired, rows.shape[4:], strict=True):
            shape += [count // 2, 2] if is_paired else [count, 1]
        rows = rows.reshape(batch, columns, -1, stages, fields, *shape)
        groups = [5 + 2 * i for i in range(len(self.is_paired))]
        pairs = [6 + 2 * i for i in range(len(self.is_paired))]
        lead = [2, *groups, 0, 1] if is_shared else [0, 2, *groups, 1]
        own = rows.permute(*lead, 3, 4, *pairs).contiguous()  # batches of products take no other strides
        size, elements = stages * self.num_components, rows.shape[2]
        if is_shared:
            return own.reshape(1, elements, -1, batch * columns, size)
        return own.reshape(batch, elements, -1, columns, size)

    def synthesised(self, solved: Tensor, like: Tensor, is_transposed: bool = False) -> Tensor:
        """The inverse of `analysed`, in the shape of ``like``."""
        is_shared, elements, size = solved.shape[0] == 1, solved.shape[1], solved.shape[-1]
        batch, columns = like.shape[:2]
        counts = [len(getattr(self, f"into_{key}")) for key in self.features.names]
        groups = [count // 2 if is_paired else count for is_paired, count in zip(self.is_paired, counts, strict=True)]
        pairs = [2 if is_paired else 1 for is_paired in self.is_paired]
        last, n = (size // self.num_components, self.num_fields, *pairs), len(groups)
        if is_shared:
            own = solved.reshape(elements, *groups, batch, columns, *last).movedim(n + 1, 0)
        else:
            own = solved.reshape(batch, elements, *groups, columns, *last)
        order = [0, 2 + n, 1, 3 + n, 4 + n]
        for i in range(n):
            order += [2 + i, 5 + n + i]
        own = own.permute(order).reshape(batch, columns, -1, self.num_fields, *counts)
        for i, key in enumerate(self.features.names):
            matrix = getattr(self, f"into_{key}").t() if is_transposed else getattr(self, f"out_of_{key}")
            own = along(own, matrix, i - len(self.features.names))
        return own.reshape(like.shape)

    def state(self, u: Tensor) -> Tensor:
        """(batch, [field], *space) at one time ↦ (batch, group, component, 1)."""
        return self.analysed(u[:, None, None], stages=1)[:, 0].transpose(-1, -2)

    def values(self, state: Tensor, like: Tensor) -> Tensor:
        """The inverse of `state`."""
        return self.synthesised(state.transpose(-1, -2)[:, None], like[:, None])[:, 0]

    def generator(self, c: Parameters) -> Tensor:
        """(batch or 1, group, component, component) M⁻¹S: without the rest of the equation u_t = −M⁻¹S u."""
        mass, stiffness = self._assembled(c)
        return solve(mass[:, None].expand_as(stiffness), stiffness)

    # ------------------------------------------------------------------ the inverse

    def _assembled(self, c: Parameters) -> tuple[Tensor, Tensor]:
        """M (batch or 1, component, component) of time derivatives, S (batch or 1, group, component, component)."""
        size, like = self.num_components // self.num_fields, self.time_blocks
        identity = torch.eye(size, dtype=like.dtype, device=like.device)[None]

        def matrix(name: str) -> Tensor:
            return identity if "t" in self.problem.features[name].orders else getattr(self, f"symbol_{name}")[None]

        zero = torch.zeros_like(identity)
        return assembled(self.problem, c, matrix, (zero, zero[:, None]))

    def _blocks(self, c: Parameters) -> tuple[Tensor, Tensor]:
        mass, stiffness = self._assembled(c)
        m, size = self.stages * self.num_components, self.num_components
        mass, stiffness = mass[:, None, None], stiffness[:, None]  # (batch or 1, element, group, …)
        identity = torch.eye(self.stages, dtype=mass.dtype, device=mass.device)
        in_time = self.time_blocks[:, None, :, None, :, None] * mass[:, :, :, None, :, None, :]
        matrices = in_time + identity[:, None, :, None] * stiffness[:, :, :, None, :, None, :]
        matrices = matrices.reshape(*matrices.shape[:3], m, m)
        scale = (1 / self.row_scale).reshape(-1, 1, self.stages, 1).expand(-1, 1, self.stages, size)
        right = torch.diag_embed(scale.reshape(-1, 1, m))  # (element, 1, m, m)
        inflow = (self.time_inflow[:, None, :, None, None] * mass[:, :, :, None]).reshape(mass.shape[0], -1, 1, m, size)
        both = torch.cat([right.expand(*matrices.shape), -inflow.expand(*matrices.shape[:3], m, size)], dim=-1)
        solved = solve(matrices, both)
        return solved[..., :m].clone(), solved[..., m:].clone()  # export shares no memory

    def inverse(self, c: Parameters, batch: int = 1, subdomains: Subdomains | None = None) -> ModalInverse:
        """A⁻¹ for the parameters ``c`` (shape () or (batch,)).

        It expects rows already multiplied by the grid's ``row_scale``.
        """
        if subdomains is not None:
            raise ValueError("independent experts take a pointwise residual map here: quadrature_weights")
        if c.fixed is None:
            return ModalInverse(self, *self._blocks(c))
        key = c.fixed, self.row_scale.device, self.row_scale.dtype
        return ModalInverse(self, *kept(self._inverses, key, lambda: self._blocks(c)))


def _real_modes(values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Symbols (pair, 2, 2) and vectors (n, 2·pair) of complex eigenvectors as their real and imaginary parts.

    Real ones are put side by side; one that is left alone has a zero beside it.
    """
    size = values.abs().max()
    upper = (values.imag > 1e-12 * size).nonzero()[:, 0].tolist()
    real = (values.imag.abs() <= 1e-12 * size).nonzero()[:, 0].tolist()
    symbols, columns = [], []
    for i in upper:  # A (a + ib) = (α + iβ)(a + ib)
        alpha, beta = values[i].real, values[i].imag
        symbols.append(torch.stack([torch.stack([alpha, beta]), torch.stack([-beta, alpha])]))
        columns += [vectors[:, i].real, vectors[:, i].imag]
    for pair in (real[i : i + 2] for i in range(0, len(real), 2)):
        own = [values[i].real for i in pair] + [values.real[0]] * (2 - len(pair))
        symbols.append(torch.diag(torch.stack(own)))
        columns += [vectors[:, i].real for i in pair] + [torch.zeros_like(vectors[:, 0].real)] * (2 - len(pair))
    return torch.stack(symbols), torch.stack(columns, dim=1)
