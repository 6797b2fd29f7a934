"""A and its inverse in every form: any terms, any axes, systems; laws."""

import numpy as np
import pytest
import torch

from pihc_zoo.discretisation import Discretisation, Field, linear_operator
from pihc_zoo.discretisation.diagonalised import DiagonalisedOperator
from pihc_zoo.discretisation.modal import ModalOperator
from pihc_zoo.discretisation.spectral import SpectralOperator
from pihc_zoo.discretisation.stagewise import StagewiseOperator
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis, UniformAxis
from pihc_zoo.objective import ProblemResidual
from pihc_zoo.problems.base import Derivative, Parameter, Problem, Variable, WallCondition

DIRICHLET, NO_FLUX = WallCondition(1.0, 0.0, 0.3), WallCondition(0.0, 1.0, 0.0)


class Linear(Problem):
    """A u = 0."""

    name = title = equation = "linear"
    parameters = {
        "D": Parameter(0.1, 0.01, 1.0, "1", "diffusivity"),
        "a": Parameter(1.0, 0.0, 2.0, "1", "speed"),
    }
    duration, output_times = 1.0, np.linspace(0, 1, 3)

    def residual(self, f, c, at):
        terms = self.by_equation(self.linearised(c))
        equations = tuple(sum(value * f[name] for name, value in own.items()) for own in terms)
        return equations if self.is_system else equations[0]


class One(Linear):
    fields = {"u": Variable(-1, 1)}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
        "u_xxx": Derivative("u", x=3),
    }


class Dispersive(One):
    def linearised(self, c):
        return {"u_t": 1.0, "u": 0.3, "u_x": c["a"], "u_xx": -0.01 * c["D"], "u_xxx": 1e-3 * c["D"]}


class Diffusive(One):
    features = {key: One.features[key] for key in ("u", "u_t", "u_xx")}

    def linearised(self, c):
        return {"u_t": c["a"], "u_xx": -c["D"]}

    def walls(self, c):
        return {"x": (DIRICHLET, DIRICHLET)}


class Column(One):
    features = {key: One.features[key] for key in ("u", "u_t", "u_x", "u_xx")}

    def linearised(self, c):
        return {"u_t": 1.0, "u_x": c["a"], "u_xx": -c["D"]}

    def walls(self, c):
        return {"x": (WallCondition(c["a"], -c["D"], 0.3 * c["a"]), NO_FLUX)}


class Channel(One):
    features = {key: One.features[key] for key in ("u", "u_t", "u_x", "u_xx")} | {"u_yy": Derivative("u", y=2)}

    def linearised(self, c):
        return {"u_t": 1.0, "u_x": c["a"], "u_xx": -c["D"], "u_yy": -c["D"]}

    def walls(self, c):
        return {"y": (DIRICHLET, NO_FLUX)}


class Two(Linear):
    fields = {"u": Variable(-1, 1), "v": Variable(-1, 1)}
    features = {
        f"{key}{suffix}": Derivative(key, **orders)
        for key in "uv"
        for suffix, orders in {"": {}, "_t": {"t": 1}, "_x": {"x": 1}, "_xx": {"x": 2}, "_yy": {"y": 2}}.items()
    }
    space_terms: tuple[str, ...] = ("_xx",)

    def linearised(self, c):
        first = {"u_t": 1.0, "v": c["a"]} | {f"u{key}": -c["D"] for key in self.space_terms}
        second = {"v_t": 2.0, "u": -0.3, "v": 1.0} | {f"v{key}": -0.5 * c["D"] for key in self.space_terms}
        return [first, second]


class TwoPeriodic(Two):
    features = {key: own for key, own in Two.features.items() if "y" not in own.orders}
    space_terms = ("_xx", "_x")


class TwoAlike(Two):
    features = {key: own for key, own in Two.features.items() if not own.orders.keys() & {"y"} and key[1:] != "_x"}

    def walls(self, c):
        return {"x": {"u": (NO_FLUX, NO_FLUX), "v": (NO_FLUX, NO_FLUX)}}


class TwoUnlike(TwoAlike):
    def walls(self, c):
        return {"x": {"u": (DIRICHLET, NO_FLUX), "v": (NO_FLUX, NO_FLUX)}}


class Plane(Two):
    features = {key: own for key, own in Two.features.items() if key[1:] != "_x"}
    space_terms = ("_xx", "_yy")

    def walls(self, c):
        both = {"u": (NO_FLUX, NO_FLUX), "v": (NO_FLUX, NO_FLUX)}
        return {"x": both, "y": both}


ONE, MANY = RadauAxis(1.0, 1, 4, power=1.0), RadauAxis(1.0, 3, 3)
PERIODIC, WALLED = {"x": FourierAxis(16, 2.0)}, {"x": GradedAxis(14, 0.0, 1.0)}
FINE = {"x": GradedAxis(33, 0.0, 1.0)}
CASES = {
    "dispersive, one element": (Dispersive, PERIODIC, ONE, ModalOperator),
    "dispersive, elements": (Dispersive, PERIODIC, MANY, ModalOperator),
    "even, walled": (Diffusive, {"x": UniformAxis(14, 0.0, 1.0, stencil=3)}, MANY, DiagonalisedOperator),
    "even, periodic": (type("Free", (Diffusive,), {"walls": Problem.walls}), PERIODIC, ONE, SpectralOperator),
    "advection between walls": (Column, WALLED, MANY, StagewiseOperator),
    "advection, elements alike": (Column, FINE, RadauAxis(1.0, 4, 4, 2.0, 1.0, repeat=2), StagewiseOperator),
    "advection, one stage": (Column, FINE, RadauAxis(1.0, 3, 1), StagewiseOperator),
    "channel": (Channel, {"x": FourierAxis(12), "y": GradedAxis(10, 0.0, 1.0)}, MANY, ModalOperator),
    "two, periodic": (TwoPeriodic, PERIODIC, MANY, ModalOperator),
    "two, walls alike": (TwoAlike, WALLED, MANY, ModalOperator),
    "two, walls unlike": (TwoUnlike, WALLED, MANY, StagewiseOperator),
    "two, plane": (Plane, {"x": GradedAxis(9, -1.0, 1.0), "y": UniformAxis(8, -1.0, 1.0)}, MANY, ModalOperator),
}
VALUES = {"defaults": {}, "each its own": {"D": torch.tensor([0.05, 0.2]), "a": torch.tensor([0.5, 1.5])}}


@pytest.fixture(params=CASES)
def case(request):
    cls, space, time, form = CASES[request.param]
    problem, grid = cls(), Grid(time, space)
    discretisation = Discretisation(problem, grid)
    operator = linear_operator(problem, discretisation)
    assert type(operator) is form
    return problem, discretisation, operator


def fields(discretisation, *batch):
    """Random ones that the nodes carry."""
    generator = torch.Generator().manual_seed(0)
    problem, (times, *space) = discretisation.problem, discretisation.grid.shape
    inner = [len(problem.fields)] * problem.is_system + space
    u = torch.randn(*batch, times, *inner, generator=generator, dtype=torch.float64)
    return discretisation.space.to_nodes(discretisation.space.to_coefficients(u))


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_inverse_undoes_every_term(case, values):
    """A⁻¹ρ(u) = u for every correction u of a linear problem, walls at these parameters or at the defaults."""
    problem, discretisation, operator = case
    c, u = problem.as_tensors(values), fields(discretisation, 2, 3)
    features = discretisation(Field.correction(u, discretisation.walls(c)))
    broadcast = c.against(discretisation.num_inner + 1)
    rho = torch.stack([ProblemResidual(problem, broadcast)(features[:, i]) for i in range(3)], dim=1)
    scale = operator.row_scale.reshape(-1, *[1] * discretisation.num_inner)
    found = operator.inverse(c, 2).apply(discretisation.project(rho) * scale)
    torch.testing.assert_close(found, u, rtol=0, atol=1e-11)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_transpose_is_the_transpose(case, values):
    problem, discretisation, operator = case
    inverse = operator.inverse(problem.as_tensors(values), 2)
    a, b = fields(discretisation, 2, 3), fields(discretisation, 2, 3).flip(0)
    torch.testing.assert_close((inverse.apply(a) * b).sum(), (a * inverse.transpose(b)).sum(), rtol=1e-10, atol=1e-12)


def test_a_part_of_the_batch_is_that_part(case):
    problem, discretisation, operator = case
    inverse, rows = operator.inverse(problem.as_tensors(VALUES["each its own"]), 2), fields(discretisation, 2, 3)
    second = torch.tensor([1])
    found = inverse.take(second).apply(rows[1:])
    torch.testing.assert_close(found, inverse.apply(rows)[1:], rtol=1e-13, atol=1e-15)


def test_elements_of_one_length_share_what_is_inverted():
    """Of every length there is one set of resolvents, for the real eigenvalue and for the pairs of conjugate ones."""
    time = RadauAxis(1.0, 6, 5, 2.0, 1.0, repeat=3)
    problem = Column()
    operator = StagewiseOperator(problem, Discretisation(problem, Grid(time, FINE)))
    inverse = operator.inverse(problem.as_tensors({}))
    assert operator.length_of == [0, 0, 0, 1, 1, 1] and operator.cuts.count == 3
    assert [own.shape[1:] for own in inverse.real] == [(1, 33, 33)] * 2
    assert [own.shape[1:] for own in inverse.pairs] == [(2, 66, 33)] * 2


def test_terms_that_no_form_holds_are_named():
    class Mixed(Channel):
        features = Channel.features | {"u_y": Derivative("u", y=1)}

        def linearised(self, c):
            return super().linearised(c) | {"u_y": 1.0}

    grid = Grid(MANY, {"x": FourierAxis(12), "y": GradedAxis(10, 0.0, 1.0)})
    with pytest.raises(ValueError, match="one even derivative along the bounded axis 'y', not u_yy, u_y together"):
        linear_operator(Mixed(), Discretisation(Mixed(), grid))
    unknown = type("Unknown", (Column,), {"linearised": lambda self, c: {"u_t": 1.0, "u_zz": 1.0}})()
    with pytest.raises(ValueError, match="'u_zz', which is no feature"):
        linear_operator(unknown, Discretisation(unknown, Grid(MANY, WALLED)))
