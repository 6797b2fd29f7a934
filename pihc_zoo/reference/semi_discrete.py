"""A problem on periodic axes as ordinary differential equations for the modes of its fields:

û_t = −(σ û + n(u, t)),    σ diagonal and possibly complex, n formed point by point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..grid import FourierAxis
from ..parameters import Parameters, column
from .equations import Equations, coefficient_names
from .fourier import FourierFeatures

Rows = list[list[Any]]  # equations × fields, None for nothing


class FourierSemiDiscrete(nn.Module):
    """The equations for the modes of a problem's fields, parameters left open.

    σ holds, exactly, what is linear with constant coefficients in a field's own equation, odd and mixed derivatives
    included; couplings between fields, and all that varies over space or with the fields, are in n. Where a
    coefficient varies, σ takes what the problem offers as its linearisation and n the rest. Constant coefficients
    of several time derivatives, also mixed ones such as u_xxt, are inverted mode by mode; coefficients that vary,
    such as R(u) u_t, point by point.

    Args:
        problem: of first order in time.
        space: periodic axes by name.
        dtype, device: of values.

    Raises:
        ValueError: a field without time derivative, or a mixed one whose coefficient varies.
    """

    def __init__(self, problem, space: dict[str, FourierAxis], dtype: torch.dtype, device: Any):
        super().__init__()
        self.problem, self.features = problem, FourierFeatures(problem, space, dtype, device)
        self.equations = self.features.equations
        self.equations.check_rates()
        rates = self.equations.rates
        known = self.constants(problem.as_tensors({}))
        self.has_constant_mass = all(own.get(name, 0.0) is not None for own in known for name in rates)
        mixed = [name for name in rates if problem.features[name].laplacian or len(problem.features[name].orders) > 1]
        if mixed and not self.has_constant_mass:
            raise ValueError(f"the coefficient of {mixed[0]!r} varies; mixed derivatives need a constant one")
        is_exact = {n: all(own.get(n, 0.0) is not None for own in known) for n in self.equations.static}
        self.skip = frozenset(n for n, exact in is_exact.items() if exact and self.has_constant_mass)
        self.is_linear = len(self.skip) == len(self.equations.static) and not self._has_source()
        names, multipliers = self.features.multipliers(self.skip)
        outer = torch.zeros((), device=device, dtype=torch.bool)
        for name, axis in space.items():
            k = getattr(self.features, f"k_{name}").abs() * axis.length / (2 * torch.pi)
            outer = outer[..., None] | (k > 0.75 * axis.band)
        self.outer = outer.to(dtype)  # (*spectrum) 1 on modes in the outer quarter of the band of any axis
        self.largest = {name: float(own.abs().max()) for name, own in zip(names, multipliers, strict=True)}

    def constants(self, c: Parameters) -> list[dict[str, Any]]:
        """Per equation and feature: its coefficient, a number or (batch or 1, 1), or None where it varies."""
        return self.equations.constant(c.against(1), self.features.squares.new_ones(1, 2))

    def _has_source(self) -> bool:
        """Whether the residual does not vanish for fields that do."""
        zero = self.features.squares.new_zeros(1, 2)
        at = dict.fromkeys(("t", *self.features.names, *coefficient_names(self.problem)), zero + 0.3)
        c = self.problem.as_tensors({}).against(1)
        found = self.equations.residuals(dict.fromkeys(self.problem.features, zero), c, at)
        return any(bool((torch.as_tensor(own) != 0).any()) for own in found)

    def with_parameters(
        self, c: Parameters, given: dict[str, Tensor] | None = None, series: Callable[[float], dict] | None = None
    ) -> Rates:
        """The equations for parameters that stay the same.

        Args:
            c: parameters.
            given: coefficient fields at collocation points, (batch or 1, *collocation) by name.
            series: time ↦ (batch or 1,) values of series by name.
        """
        return Rates(self, c, given or {}, series or (lambda t: {}))

    def symbol(self, c: Parameters) -> Tensor:
        """(batch or 1, field, *spectrum) σ."""
        return self.with_parameters(c).symbol


class Rates:
    """σ and n(u, t) for given parameters: call it with modes (batch, field, *spectrum) and a time.

    Attributes:
        symbol: (batch or 1, field, *spectrum) σ, real where all of it is.
    """

    def __init__(self, model: FourierSemiDiscrete, c: Parameters, given: dict[str, Tensor], series: Callable):
        self.model, self.features, self.equations = model, model.features, model.equations
        self.series = series
        self.c, self.at = c.against(len(self.features.names)), {**self.features.at, **given}
        self.coefficients = self._linear_part(c)
        self.symbol, self.coupling, self.inverse = self._split()

    def _linear_part(self, c: Parameters) -> list[dict[str, Any]]:
        """Per equation: the coefficients of its linear part, exact or, where they vary, the problem's own.

        Where the coefficient of the time derivative varies, they are divided by what the problem offers for it.
        """
        parts, rates = [], self.equations.rates
        for i, (exact, offered) in enumerate(zip(self.model.constants(c), self.equations.linearised(c), strict=True)):
            if self.model.has_constant_mass:
                own = {name: offered.get(name) if value is None else value for name, value in exact.items()}
            else:
                weight = next((offered[n] for n in rates if n in offered and self.equations.place[n] == i), 1.0)
                own = {name: value / weight for name, value in offered.items() if name not in rates}
            num_dims, like = len(self.features.names), self.features.squares
            parts.append({name: column(value, num_dims, like) for name, value in own.items() if value is not None})
        return parts

    def _matrix(self, names: list[str]) -> Rows:
        """Σ coefficient · symbol (batch or 1, *spectrum) over the features ``names``."""
        count = len(self.equations.fields)
        rows: Rows = [[None] * count for _ in range(count)]
        for row, own in zip(rows, self.coefficients, strict=True):
            for name in names:
                if name in own:
                    term = own[name] * self.features.symbol(self.features.problem.features[name])
                    j = self.equations.place[name]
                    row[j] = term if row[j] is None else row[j] + term
        return rows

    def _split(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """σ; couplings of fields (batch or 1, field, field, *spectrum), M⁻¹ likewise, None where there are none."""
        spread, count = self._matrix(self.equations.static), len(self.equations.fields)
        inverse = self._inverse_mass() if self.model.has_constant_mass else None
        if inverse is not None:
            pair = torch.broadcast_tensors(inverse[:, :, :, None], self._filled(spread)[:, None])
            whole = (pair[0] * pair[1]).sum(dim=2)
            spread = [list(row.unbind(dim=1)) for row in whole.unbind(dim=1)]
        zero = torch.zeros_like(self.features.squares, dtype=torch.complex128)[None]
        own = [zero if spread[i][i] is None else spread[i][i] for i in range(count)]
        sigma = torch.stack(torch.broadcast_tensors(*own), dim=1)
        others = [[None if i == j else spread[i][j] for j in range(count)] for i in range(count)]
        has_others = any(part is not None and bool((part != 0).any()) for row in others for part in row)
        coupling = self._filled(others).to(self.features.modes_dtype) if has_others else None
        inverse = None if inverse is None else inverse.to(self.features.modes_dtype)
        return (sigma if bool(sigma.imag.any()) else sigma.real), coupling, inverse

    def _inverse_mass(self) -> Tensor | None:
        """M⁻¹ on the modes inside the band; None where M is the identity."""
        mass = self._filled(self._matrix(self.equations.rates))
        count, inside = mass.shape[1], self.features.mask
        identity = torch.eye(count, dtype=mass.dtype, device=mass.device).reshape(1, count, count, *[1] * inside.dim())
        mass = mass * inside + identity * (1 - inside)
        if bool((mass == identity).all()):
            return None
        moved = mass.movedim((1, 2), (-2, -1))
        return torch.linalg.solve(moved, identity.movedim((1, 2), (-2, -1)).expand_as(moved)).movedim((-2, -1), (1, 2))

    def _filled(self, rows: Rows) -> Tensor:
        zero = torch.zeros_like(self.features.squares, dtype=torch.complex128)[None]
        parts = torch.broadcast_tensors(*(zero if own is None else own for row in rows for own in row))
        return torch.stack(parts, dim=1).unflatten(1, (len(rows), len(rows)))

    def __call__(self, modes: Tensor, t: float = 0.0) -> Tensor:
        """n: modes (batch, field, *spectrum) ↦ the same modes."""
        if self.model.is_linear:
            return torch.zeros_like(modes) if self.coupling is None else _times(self.coupling, modes)
        shape, like = (modes.shape[0], *self.features.shape), self.features.mask
        parts = self._pointwise(self.features(modes, skip=self.model.skip), t)
        parts = [torch.as_tensor(part, dtype=like.dtype, device=like.device).expand(shape) for part in parts]
        found = self.features.project(torch.stack(parts, dim=1))
        if self.inverse is not None:
            found = _times(self.inverse, found)
        return found if self.coupling is None else found + _times(self.coupling, modes)

    def _pointwise(self, fields: dict[str, Tensor], t: float) -> list[Any]:
        """r of each equation, or M⁻¹ r where M varies, less the linear part, at points."""
        zero, dims = self.features.mask.new_zeros(()), len(self.features.names)
        at = {**self.at, **{key: column(own, dims, zero) for key, own in self.series(t).items()}, "t": t}
        still = {**fields, **dict.fromkeys((*self.model.skip, *self.equations.rates), zero)}
        if self.model.has_constant_mass:
            parts = list(self.equations.residuals(still, self.c, at))
        else:
            parts = solved(*self.equations.partials(still, self.c, at, self.equations.rates), self.equations)
        for i, own in enumerate(self.coefficients):
            for name, value in own.items():
                if name in fields:
                    parts[i] = parts[i] - value.to(zero.dtype) * fields[name]
        return parts

    def fastest(self, modes: Tensor, t: float = 0.0) -> Tensor:
        """(batch,) λ = max over points and equations of Σ_j |∂n/∂f_j| · largest multiplier of the feature f_j."""
        batch, total = modes.shape[0], self.features.mask.new_zeros(len(modes))
        if self.model.largest:
            with torch.enable_grad():
                fields = self.features(modes.detach(), self.model.skip)
                fields = {name: field.detach().requires_grad_() for name, field in fields.items()}
                for part in self._pointwise(fields, t):
                    if isinstance(part, Tensor) and part.requires_grad:
                        own = torch.autograd.grad(
                            part.sum(), list(fields.values()), retain_graph=True, allow_unused=True
                        )
                        pairs = zip(fields, own, strict=True)
                        row = sum(p.abs() * self.model.largest[name] for name, p in pairs if p is not None)
                        total = torch.maximum(total, row.flatten(1).amax(dim=1).expand(batch))
            if self.inverse is not None:
                total = total * float(self.inverse.abs().sum(dim=2).max())
        if self.coupling is not None:
            total = total + self.coupling.abs().sum(dim=2).flatten(1).amax(dim=1).to(total)
        return total


def solved(rest: list[Any], partials: list[dict[str, Any]], equations: Equations) -> list[Any]:
    """M⁻¹ r point by point; M_ij is the coefficient of the time derivative of field j in equation i."""
    count = len(rest)
    mass: Rows = [[None] * count for _ in range(count)]
    for i, own in enumerate(partials):
        for name, value in own.items():
            mass[i][equations.place[name]] = value
    if all(mass[i][j] is None for i in range(count) for j in range(count) if i != j):
        return [own / mass[i][i] for i, own in enumerate(rest)]
    given = [own for row in mass for own in row if own is not None]
    like = next(own for own in (*rest, *given) if isinstance(own, Tensor))
    shape = torch.broadcast_shapes(*(torch.as_tensor(own).shape for own in (*rest, *given)))

    def whole(own: Any) -> Tensor:
        return like.new_zeros(shape) + (0.0 if own is None else own)

    matrix = torch.stack([torch.stack([whole(own) for own in row], dim=-1) for row in mass], dim=-2)
    right = torch.stack([whole(own) for own in rest], dim=-1)
    return list(torch.linalg.solve(matrix, right).unbind(dim=-1))


def _times(matrix: Tensor, modes: Tensor) -> Tensor:
    """(batch or 1, field, field, *spectrum) · (batch, field, *spectrum)."""
    return (matrix * modes[:, None]).sum(dim=2)
