"""Laws of formulas as text: values and partials of every kind, what is refused and where, typesetting."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.config import ConfigError
from pihc_zoo.problems.expression import MAX_CHARACTERS, Place, Reader, sides
from pihc_zoo.problems.graph import Graph
from pihc_zoo.problems.typesetting import equality, formula
from pihc_zoo.solvers import functions
from pihc_zoo.solvers.dual import Dual

FORMULAS = {
    "u*v - 2*u/v + 3": lambda u, v: u * v - 2 * u / v + 3,
    "-u**2 + u**-1.5 - +v": lambda u, v: -(u**2) + u**-1.5 - v,
    "exp(-u*u) + log(v)*sqrt(u)": lambda u, v: np.exp(-u * u) + np.log(v) * np.sqrt(u),
    "sin(2*u) - cos(v) + tanh(u*v)": lambda u, v: np.sin(2 * u) - np.cos(v) + np.tanh(u * v),
    "abs(u - v)*minimum(u, v**2) + maximum(u, 0.5) - minimum(0.7, v)": lambda u, v: (
        np.abs(u - v) * np.minimum(u, v**2) + np.maximum(u, 0.5) - np.minimum(0.7, v)
    ),
    "u**v + 2**u": lambda u, v: u**v + 2**u,
    "(u + v)**3 - (u + v)**3/2": lambda u, v: (u + v) ** 3 / 2,
}


def read(text):
    """(graph, node) of a formula of the names that it has."""
    graph = Graph()
    reader = Reader(graph, lambda name, refuse: graph.name(name), lambda own, node, refuse: graph.apply(own, node))
    return graph, reader.read(text, Place("formula"))


def value(text, **values):
    graph, node = read(text)
    return graph.evaluate([node], values.__getitem__)[0]


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(3)
    return [0.1 + 1.5 * torch.rand(2, 7, dtype=torch.float64, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("text", FORMULAS)
def test_numbers_arrays_and_tensors_of_any_shape_have_the_same_values(text, points):
    u, v = points
    expected = FORMULAS[text](u.numpy(), v.numpy())
    assert_allclose(value(text, u=u.numpy(), v=v.numpy()), expected, rtol=1e-14)
    assert_allclose(value(text, u=u, v=v).numpy(), expected, rtol=1e-14)
    number = value(text, u=float(u[0, 0]), v=float(v[0, 0]))
    assert isinstance(number, float) and math.isclose(number, expected[0, 0], rel_tol=1e-14)
    assert_allclose(value(text, u=u[:, None], v=v[0]), FORMULAS[text](u.numpy()[:, None], v.numpy()[0]), rtol=1e-14)


@pytest.mark.parametrize("text", FORMULAS)
def test_partials_by_dual_numbers_are_those_of_automatic_differentiation(text, points):
    """Of tensors and of arrays; a parameter that is a plain tensor or a dual without partials changes nothing."""
    u, v = (own.clone().requires_grad_() for own in points)
    result = value(text, u=u, v=v)
    partials = torch.autograd.grad(result.sum(), [u, v])
    for convert in (lambda own: own.detach(), lambda own: own.detach().numpy()):
        dual = value(text, u=Dual(convert(u), {0: 1.0}), v=Dual(convert(v), {1: 1.0}))
        assert_allclose(dual.value, result.detach(), rtol=1e-14)
        for i, own in enumerate(partials):
            assert_allclose(np.asarray(dual.partials[i]) * np.ones((2, 7)), own, rtol=1e-12)
        for constant in (convert(v), Dual(convert(v))):
            alone = value(text, u=Dual(convert(u), {0: 1.0}), v=constant)
            assert_allclose(np.asarray(alone.partials[0]) * np.ones((2, 7)), partials[0], rtol=1e-12)
            assert set(alone.partials) == {0}


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_twice_differentiable(text, points):
    smooth = [own[:1, :3].clone().requires_grad_() for own in points]
    assert torch.autograd.gradgradcheck(lambda u, v: value(text, u=u, v=v), smooth)


@pytest.mark.parametrize("text", ["u**2", "u**3", "u**1", "maximum(u, 0)", "minimum(u, 0)", "abs(u)", "u**n", "2**u"])
def test_partials_at_zero_are_finite_and_those_of_automatic_differentiation(text):
    u = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    n = torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64)
    (expected,) = torch.autograd.grad(value(text, u=u, n=n).sum(), u)
    partial = value(text, u=Dual(u.detach(), {0: 1.0}), n=Dual(n)).partials[0]
    assert torch.isfinite(expected).all()
    assert_close(partial * torch.ones(3, dtype=torch.float64), expected, rtol=0, atol=0)


def test_precision_is_that_of_the_tensors(points):
    u, v = (own.float() for own in points)
    assert all(value(text, u=u, v=v).dtype == torch.float32 for text in FORMULAS)


def test_functions_have_the_names_that_formulas_use():
    assert set(functions.FUNCTIONS) == {*("exp", "log", "sqrt", "sin", "cos", "tanh", "abs", "minimum", "maximum")}


def test_constants_are_folded_and_equal_parts_are_shared():
    graph, node = read("2*3 + 4**0.5")
    assert graph.constant(node) == 8.0
    graph, node = read("(u + 1)*exp(u + 1) + (u + 1)*1 - 0")
    assert sum(own[0] == "+" for own in graph.nodes) == 2  # u + 1 once, and the sum
    assert read("u*1/1 + 0 - 0")[0].nodes[read("u*1/1 + 0 - 0")[1]] == ("name", "u")


def test_the_degree_in_some_names_is_found():
    for text, degree in {
        "a*u_t + u**2": 1, "u_t*u_t": 2, "exp(u_t)": 2, "u_t/u": 1, "u/u_t": 2, "u": 0, "(u_t + u)*3 - u_t": 1
    }.items():  # fmt: skip
        graph, node = read(text)
        assert graph.degrees(lambda name: name == "u_t")[node] == degree, text


REFUSED = {  # formula: (column, words of the message)
    "__import__('os').system('true')": (1, "a call of something that is no function"),
    "__import__('os')": (1, "__import__ is no function"),
    "u*v.real": (3, "an attribute"),
    "u + v[0]": (5, "an index in brackets"),
    "2*(lambda: 1)": (4, "a lambda"),
    "(lambda: 1)()": (1, "no function"),
    "[u for u in v]": (1, "a comprehension"),
    "exp(u for u in v)": (4, "a comprehension"),
    "u if v else 2": (1, "an if"),
    "u + (v := 3)": (6, "an assignment"),
    "u := 3": (3, "syntax error"),
    "u == v": (1, "a comparison"),
    "u + (v < 2)": (6, "a comparison"),
    "u and v": (1, "and / or"),
    "u + 'v'": (5, "is no real number"),
    "f'{u}'": (1, "a text in quotes"),
    "u + 1j": (5, "is no real number"),
    "u*True": (3, "is no real number"),
    "u + ...": (5, "is no real number"),
    "9**9**9": (1, "exponent"),
    "u + v**(8*8)": (5, "the exponent 64 is beyond"),
    "2 + u**-33": (5, "exponent"),
    "1e999*u": (1, "a number beyond"),
    "u + 1/0": (5, "no finite real number"),
    "u*(-1)**0.5": (3, "no finite real number"),
    "log(0) + u": (1, "no finite real number"),
    "(9**9)**(9*3)*(9**9)**30": (1, "no finite real number"),
    "exp(u, v)": (1, "exp takes one argument"),
    "u + maximum(u)": (5, "maximum takes two arguments"),
    "exp(x=u)": (1, "exp takes one argument"),
    "exp(*u)": (5, "a star"),
    "u + sinh(v)": (5, "sinh is no function; did you mean 'sin'"),
    "eval('1')": (1, "eval is no function"),
    "u +* 2": (4, "syntax error"),
    "3 + (u": (5, "never closed"),
    "u v": (3, "syntax error"),
    "u # v": (3, "'#' does not belong"),
    "2*ν": (3, "'ν' does not belong"),
    "u // v": (1, "// is not allowed"),
    "u ^ v": (1, "^ (a power is **)"),
    "~u": (1, "an operator"),
    "u, v": (1, "a comma"),
    "{}": (1, "a table"),
    "\u0000u": (1, "does not belong"),
    "u = v": (3, "syntax error"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_whatever_is_no_plain_formula_is_refused_in_one_line_with_its_column(text):
    column, words = REFUSED[text]
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        read(text)
    message = str(refused.value)
    assert message.startswith(f"formula, column {column}: "), message
    assert "\n" not in message and len(message) < 250


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-" * 3000 + "u", "nested too deep"),
        ("(" * 300 + "u" + ")" * 300, "too many nested"),
        ("exp(" * 90 + "u" + ")" * 90, "nested too deep"),
        ("2**" * 2000 + "u", "nested too deep"),
        ("+".join(["u"] * 3900), "too large|nested too deep"),
        ("u*" * (MAX_CHARACTERS // 2) + "u", "too long"),
        (("u" + "\n" * 10) * 1000, "too long"),
        ("9" * 5000, "syntax error"),
        ("", "must be a formula"),
        (3, "must be a formula"),
    ],
)
def test_hostile_sizes_and_kinds_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        read(text)


def test_long_sums_are_no_deep_nesting():
    terms = [f"{k}*u" for k in range(1, 400)]
    assert value(" + ".join(terms), u=1.0) == sum(range(1, 400))


def test_doubling_definitions_cost_what_they_say():
    """Each power is one operation, however often it is used."""
    graph = Graph()
    node = graph.name("u")
    for _ in range(60):
        node = graph.apply("*", node, node)
    assert len(graph.nodes) == 61
    assert graph.evaluate([node], {"u": 1.0}.__getitem__) == [1.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("u_t", "an equality with one ="),
        ("u_t = v = 2", "an equality with one ="),
        ("u_t == v", "column 5: '=='"),
        ("u_t := v", "column 5: ':='"),
        ("u_t <= v", "column 5: '<='"),
        (" = v", "column 1: nothing on the left"),
        ("u_t = ", "column 6: nothing on the right"),
        (7, "must be an equality"),
    ],
)
def test_an_equality_has_one_plain_sign_between_two_formulas(text, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        sides(text, Place("equation 1"))


def test_columns_of_the_right_side_count_from_the_start_of_the_line():
    left, right, place = sides("u_t =\n  D*u[0]", Place("equation 2"))
    assert left == "u_t "
    with pytest.raises(ConfigError, match="equation 2, column 11: an index"):
        graph = Graph()
        Reader(graph, lambda name, refuse: graph.name(name), None).read(right, place)


TYPESET = {
    "u_t = D*u_xx + r*u*(1 - u/K)": r"u_t = D\,u_{xx} + r\,u\,\left(1 - \frac{u}{K}\right)",
    "u_t + u*u_x = nu*u_xx": r"u_t + u\,u_x = \nu\,u_{xx}",
    "u_t + u*u_x + delta**2*u_xxx = 0": r"u_t + u\,u_x + \delta^2\,u_{xxx} = 0",
    "w_t - psi_y*w_x + psi_x*w_y = nu*laplacian(w)": r"w_t - \psi_y\,w_x + \psi_x\,w_y = \nu\,\Delta w",
    "psi = inverse_laplacian(w)": r"\psi = \Delta^{-1} w",
    "v*u - D_u*u_x = v*c_in": r"v\,u - D_u\,u_x = v\,c_{\mathrm{in}}",
    "u_t = -laplacian(u**2)": r"u_t = -\Delta (u^2)",
    "a = (u + 1e-6)**(n_f - 1)": r"a = (u + 10^{-6})^{n_f - 1}",
    "a = 2*3*u - (u - v)*3 + u*-2": r"a = 6\,u - (u - v) \cdot 3 + u\,(-2)",
    "a = sqrt(u)/abs(u_x) + exp(-u**2)": r"a = \frac{\sqrt{u}}{\left|u_x\right|} + \exp(-u^2)",
    "a = maximum(u, 0)**2.5*2.5e-3": r"a = (\max(u, 0))^{2.5} \cdot 0.0025",
    "a = u - (v - w) + (v + -w)": r"a = u - (v - w) + v - w",
    "a = (-u)**2*rho1": r"a = (-u)^2\,\rho_1",
    "a = 1e12*u": r"a = 10^{12}\,u",
    "a = 2.5e12/u*speed": r"a = \frac{2.5 \cdot 10^{12}}{u}\,\mathrm{speed}",
}


@pytest.mark.parametrize("text", TYPESET)
def test_formulas_are_typeset_as_one_would_write_them(text):
    def is_derivative(name):
        return re.fullmatch(r"(u|v|w|psi)_[txy]+", name) is not None

    assert equality(text, is_derivative) == TYPESET[text]


def test_typesetting_balances_its_brackets():
    """Of formulas from random trees; and what is typeset is what was read: no part is lost."""
    rng = np.random.default_rng(0)
    templates = itertools.cycle(["({a} + {b})*{a}", "{a}/({b})", "-({a})**2", "sqrt({a} - {b})", "{a} - ({b})"])
    parts = ["u", "v_xx", "nu"]
    for template in itertools.islice(templates, 40):
        a, b = rng.choice(parts, 2)
        text = template.format(a=a, b=b)
        latex = formula(text, lambda name: name == "v_xx")
        assert latex.count("{") == latex.count("}") and latex.count("(") == latex.count(")")
        assert ("u_{xx}" in latex.replace("v", "u")) == ("v_xx" in text)
        if len(text) < 60:
            parts.append(text)
