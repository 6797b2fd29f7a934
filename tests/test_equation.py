"""Laws of problems as text: they are the ones that Python spells, in any order, and whatever is wrong is said."""

from __future__ import annotations

import copy
import itertools
import json
import pickle

import numpy as np
import pytest
import text_problems as texts
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.config import ConfigError
from pihc_zoo.problems import (
    PROBLEMS,
    AllenCahn,
    Burgers,
    ColumnTransport,
    Darcy2D,
    Derivative,
    DiffusionSorption,
    FitzHughNagumo2D,
    KortewegDeVries,
    NavierStokes2D,
    TextProblem,
    WallCondition,
    problem_of,
)
from pihc_zoo.problems.constants import changed_table, constants_of
from pihc_zoo.solvers.dual import Dual

SHIPPED = [
    (texts.DIFFUSION_SORPTION, DiffusionSorption),
    (texts.BURGERS, Burgers),
    (texts.NAVIER_STOKES, NavierStokes2D),
    (texts.COLUMN, ColumnTransport),
    (texts.ALLEN_CAHN, AllenCahn),
    (texts.KORTEWEG_DE_VRIES, KortewegDeVries),
    (texts.FITZHUGH_NAGUMO, FitzHughNagumo2D),
    (texts.DARCY, Darcy2D),
]
BY_NAME = {spec["name"]: spec for spec in texts.ALL}


def changed(spec, **changes):
    """A copy with some keys set, or left out where they are None; "fields.u.range" leads into tables."""
    spec = copy.deepcopy(spec)
    for path, value in changes.items():
        *parents, last = path.split("__")
        own = spec
        for parent in parents:
            own = own[parent]
        own.pop(last, None)
        if value is not None:
            own[last] = value
    return spec


def drawn(problem, seed=0, shape=(2, 40)):
    """Values of features, fields inside their ranges, of coordinates and of coefficient fields."""
    generator = torch.Generator().manual_seed(seed)
    f = {}
    for name, feature in problem.features.items():
        own, values = problem.fields[feature.field], torch.rand(shape, dtype=torch.float64, generator=generator)
        is_field = not feature.orders and not feature.laplacian
        f[name] = own.low + (own.high - own.low) * values if is_field else 4 * values - 2
    names = (*problem.coordinates, *problem.coefficients, *problem.coefficient_features)
    at = {name: 0.1 + torch.rand(shape, dtype=torch.float64, generator=generator) for name in names}
    return f, at


def own_names(text, python):
    """Features of the Python form ↦ those of the text."""
    return {name: next(k for k, v in text.features.items() if v == own) for name, own in python.features.items()}


def listed(problem, result):
    return result if problem.is_system else (result,)


@pytest.fixture(params=BY_NAME)
def problem(request):
    return TextProblem(BY_NAME[request.param])


# ------------------------------------------------------------------ text and Python agree


@pytest.mark.parametrize(("spec", "kind"), SHIPPED)
def test_shipped_problems_as_text_have_the_residual_of_their_python_form(spec, kind):
    text, python = TextProblem(spec), kind()
    assert len(text.features) == len(python.features)
    assert list(text.fields.values()) == list(python.fields.values())
    assert text.coefficients == python.coefficients and text.coefficient_features == python.coefficient_features
    assert text.coefficient_families == python.coefficient_families
    own = own_names(text, python)
    ranges = {key: np.linspace(p.low, p.high, 2).reshape(2, 1) for key, p in python.parameters.items()}
    c = {key: torch.as_tensor(value) for key, value in ranges.items()}
    f, at = drawn(python)
    expected = listed(python, python.residual(f, c, at))
    found = listed(text, text.residual({own[name]: value for name, value in f.items()}, c, at))
    places = {name: value.numpy() for name, value in at.items()}
    numbers = listed(text, text.residual({own[name]: value.numpy() for name, value in f.items()}, ranges, places))
    for one, other, number in zip(found, expected, numbers, strict=True):
        assert_close(one, other, rtol=1e-13, atol=1e-14)
        assert_allclose(number, other, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("spec", "kind"), SHIPPED)
def test_shipped_problems_as_text_have_the_partials_of_their_python_form_as_linear_terms(spec, kind):
    """At the middle of the fields' ranges, coefficient fields uniform."""
    text, python = TextProblem(spec), kind()
    own = own_names(text, python)
    ends = {key: np.array([p.low, p.high]) for key, p in (python.parameters | python.coefficients).items()}
    for values in ({key: own.default + np.zeros(2) for key, own in python.coefficients.items()}, ends):
        numbers = python.defaults() | values
        c = {key: torch.as_tensor(value, dtype=torch.float64).expand(2) for key, value in numbers.items()}
        f = {}
        for name, feature in python.features.items():
            field = python.fields[feature.field]
            is_field = not feature.orders and not feature.laplacian
            f[name] = torch.full((2,), 0.5 * (field.low + field.high) * is_field, dtype=torch.float64)
            f[name].requires_grad_()
        at = {name: c[name] for name in python.coefficients} | dict.fromkeys(python.coefficient_features, 0 * f[name])
        forms = listed(text, text.linearised(c))
        for form, equation in zip(forms, listed(python, python.residual(f, c, at)), strict=True):
            partials = torch.autograd.grad(equation.sum(), list(f.values()), allow_unused=True, retain_graph=True)
            for name, partial in zip(f, partials, strict=True):
                expected = 0.0 if partial is None else partial
                assert_allclose(form.get(own[name], 0.0) + np.zeros(2), expected + np.zeros(2), rtol=1e-13)


@pytest.mark.parametrize(("spec", "kind"), SHIPPED)
def test_shipped_problems_as_text_have_the_walls_of_their_python_form(spec, kind):
    """But for where diffusion–sorption takes its right slope: a cell before the wall, and here at it."""
    text, python = TextProblem(spec), kind()
    c = python.as_tensors({key: np.array([p.low, p.high]) for key, p in python.parameters.items()})
    found, expected = text.walls(c), python.walls(c)
    assert set(found) == set(expected)
    pairs = [
        (one, other)
        for axis, walls in expected.items()
        for field in (python.fields if python.is_system else [None])
        for one, other in zip(*((w if field is None else w[field]) for w in (found[axis], walls)), strict=True)
    ]
    assert bool(pairs) != all(axis.is_periodic for axis in python.output_space.values())
    for own, wall in pairs:
        assert own.at is None and wall.at in (None, 1 - 1 / 1024)
        for one, other in ((own.value, wall.value), (own.slope, wall.slope), (own.target, wall.target)):
            assert_allclose(one, other, rtol=1e-14, atol=0)
    assert (text.conserves_mean, text.can_continue) == (python.conserves_mean, python.can_continue)
    assert text.duration == python.duration and np.array_equal(text.output_times, python.output_times)


def test_shipped_problems_as_text_take_the_same_parameters():
    text, python = TextProblem(texts.DIFFUSION_SORPTION), DiffusionSorption()
    assert text.inputs == ("D", "phi", "n_f")
    for key, own in python.parameters.items():
        assert (text.parameters[key].default, text.parameters[key].low, text.parameters[key].high) == (
            own.default, own.low, own.high
        )  # fmt: skip
        assert text.parameters[key].is_logarithmic == own.is_logarithmic
    assert text.units["x"] == "m" and text.units["t"] == "s"


# ------------------------------------------------------------------ laws of every problem


def test_partials_by_dual_numbers_are_those_of_automatic_differentiation(problem):
    f, at = drawn(problem)
    f = {name: value.requires_grad_() for name, value in f.items()}
    c, names = problem.as_tensors({}), list(f)
    results = listed(problem, problem.residual(f, c, at))
    duals = listed(problem, problem.residual({n: Dual(f[n].detach(), {i: 1.0}) for i, n in enumerate(names)}, c, at))
    for result, dual in zip(results, duals, strict=True):
        expected = torch.autograd.grad(result.sum(), list(f.values()), create_graph=True, allow_unused=True)
        assert_close(dual.value, result.detach(), rtol=1e-14, atol=0)
        for i, own in enumerate(expected):
            zero = torch.zeros_like(result)
            found = dual.partials.get(i, 0.0) + zero
            assert_close(found.detach(), zero if own is None else own.detach(), rtol=1e-12, atol=1e-14)


def test_the_residual_is_affine_in_the_derivatives_that_its_linear_terms_name(problem):
    """Around the middle of the ranges, at the centre, it is Σ coefficient · feature to first order."""
    c = problem.as_tensors({})
    middle = {name: 0.5 * (own.low + own.high) for name, own in problem.fields.items()}
    at = {name: torch.tensor(0.5 * (a.start + a.stop)) for name, a in problem.output_space.items()}
    at["t"] = torch.tensor(0.5 * (problem.duration or 0.0))
    at = {name: value.double() for name, value in at.items()} | {name: c[name] for name in problem.coefficients}
    at |= {name: torch.zeros(()).double() for name in problem.coefficient_features}
    f = {
        name: torch.tensor(0.0 if v.orders or v.laplacian else middle[v.field], dtype=torch.float64).requires_grad_()
        for name, v in problem.features.items()
    }
    for result, own in zip(
        listed(problem, problem.residual(f, c, at)), listed(problem, problem.linearised(c)), strict=True
    ):
        partials = torch.autograd.grad(result, list(f.values()), allow_unused=True)
        for name, partial in zip(f, partials, strict=True):
            assert_close(
                torch.as_tensor(own.get(name, 0.0)).double(),
                torch.zeros(()).double() if partial is None else partial,
                rtol=1e-13, atol=1e-15,
            )  # fmt: skip


def test_linear_terms_and_walls_take_batches_of_parameters(problem):
    values = {key: np.array([p.low, p.default, p.high]) for key, p in problem.parameters.items()}
    batch = problem.as_tensors(values)
    for i in range(3):
        alone = problem.as_tensors({key: value[i] for key, value in values.items()})
        pairs = zip(*(listed(problem, problem.linearised(c)) for c in (batch, alone)), strict=True)
        for many, one in pairs:
            assert list(many) == list(one)
            for name in many:
                assert_close(
                    (torch.as_tensor(many[name]) + torch.zeros(3))[i].double(), torch.as_tensor(one[name]).double()
                )
        for many, one in zip(_conditions(problem, batch), _conditions(problem, alone), strict=True):
            for part in ("value", "slope", "target"):
                own = torch.as_tensor(getattr(many, part)) + torch.zeros(3)
                assert_close(own[i].double(), torch.as_tensor(getattr(one, part)).double())


def _conditions(problem, c):
    for walls in problem.walls(c).values():
        for pair in walls.values() if problem.is_system else [walls]:
            yield from pair


def test_walls_are_those_of_bounded_axes_and_layers_grow_from_them(problem):
    c = problem.as_tensors({})
    bounded = {name for name, axis in problem.output_space.items() if not axis.is_periodic}
    assert set(problem.walls(c)) == bounded
    for name in bounded:
        nodes = problem.output_space[name].closed_nodes
        assert (nodes[0], nodes[-1]) == (problem.output_space[name].start, problem.output_space[name].stop)
    if bounded and problem.duration:
        widths = problem.layer_width(torch.as_tensor(problem.output_times), c)
        assert widths[0] == 0 and (widths.diff() > 0).all()


def test_the_text_is_what_is_stored(problem):
    """Through JSON and back the same problem comes of it; it survives copying and pickling."""
    spec = json.loads(json.dumps(problem.spec))
    assert spec == problem.spec == BY_NAME[problem.name]
    f, at = drawn(problem)
    c = problem.as_tensors({})
    for again in (TextProblem(spec), copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert again.features == problem.features and again.parameters == problem.parameters
        for one, other in zip(
            listed(problem, again.residual(f, c, at)), listed(problem, problem.residual(f, c, at)), strict=True
        ):
            assert_close(one, other, rtol=0, atol=0)


def test_its_text_is_typeset_and_listed(problem):
    assert problem.equation.count("{") == problem.equation.count("}")
    assert problem.text[: len(problem.fields)] == tuple(problem.spec["equations"])
    assert len(problem.wall_text) == 2 * len(problem.walls(problem.defaults()))


def test_initial_conditions_in_their_ranges_are_accepted_and_others_are_named(problem):
    shape = [len(axis.nodes) for axis in problem.output_space.values()]
    wave = np.sin(2 * np.pi * np.arange(np.prod(shape)) / np.prod(shape)).reshape(shape)
    low, high = (np.array([getattr(own, end) for own in problem.fields.values()]) for end in ("low", "high"))
    fields = 0.5 * (low + high) + 0.5 * (high - low) * wave[..., None] * (1 + 1e-8)
    for i, name in enumerate(problem.fields):
        batch = np.stack([fields, fields, fields])
        batch[1, ..., i] += 0.1 * (high - low)[i]
        batch[2, ..., i] -= 0.1 * (high - low)[i]
        first, above, below = problem.check_initial_condition(batch if problem.is_system else batch[..., 0])
        assert first is None
        assert f"{name} reaches" in above and f"{name} falls to" in below
        unit = problem.fields[name].unit
        assert unit == "dimensionless" or unit in above


# ------------------------------------------------------------------ systems, walls, features


def test_equations_are_ordered_by_the_field_whose_rate_they_hold():
    problem = TextProblem(texts.FITZHUGH_NAGUMO)
    f, at = drawn(problem)
    c = {"D_u": 1e-3, "D_v": 5e-3, "k": 5e-3}
    first, second = problem.residual(f, c, at)
    u, v = f["u"], f["v"]
    assert_close(first, f["u_t"] - 1e-3 * (f["u_xx"] + f["u_yy"]) - u + u**3 + 5e-3 + v, rtol=1e-13, atol=1e-14)
    assert_close(second, f["v_t"] - 5e-3 * (f["v_xx"] + f["v_yy"]) - u + v, rtol=1e-13, atol=1e-14)
    a, b = problem.linearised(c)
    assert a == {"u": -1.0, "v": 1.0, "u_t": 1.0, "u_xx": -1e-3, "u_yy": -1e-3}
    assert b == {"u": -1.0, "v": 1.0, "v_t": 1.0, "v_xx": -5e-3, "v_yy": -5e-3}
    assert list(problem.features)[:2] == ["u", "v"]
    for walls in problem.walls(c).values():
        assert list(walls) == ["u", "v"]
        assert all(own == WallCondition(0.0, 1.0, 0.0) for pair in walls.values() for own in pair)


def test_terms_may_stand_on_either_side():
    spellings = ["u_t = D*u_xx - v*u_x", "u_t - D*u_xx = -v*u_x", "0 = D*u_xx - v*u_x - u_t", "D*u_xx - u_t = u_x*v"]
    results = []
    for text in spellings:
        spec = changed(texts.COLUMN, equations=[text], definitions=None)
        problem = TextProblem(spec)
        f, at = drawn(problem)
        f = {name: torch.sin(len(name) + torch.arange(5.0, dtype=torch.float64)) for name in f}
        results.append(problem.residual(f, problem.defaults(), at))
        assert problem.linearised(problem.defaults()) == {"u_t": 1.0, "u_xx": -5e-3, "u_x": 0.1}
    for own in results[1:]:
        assert_close(own, results[0], rtol=1e-14, atol=1e-16)


ROBIN = {  # text: (value, slope, target) at D = 5e-3, v = .1, c_in = .5
    "v*u - D*u_x = v*c_in": (0.1, -5e-3, 0.05),
    "D*u_x = v*(u - c_in)": (0.1, -5e-3, 0.05),
    "u = 1": (1.0, 0.0, 1.0),
    "1 = u": (1.0, 0.0, 1.0),
    "u_x = 0": (0.0, 1.0, 0.0),
    "0 = -u_x": (0.0, 1.0, 0.0),
    "u_x + 2*u = 1 + exp(-k)": (2.0, 1.0, 1 + np.exp(-1.0)),
    "u/2 = pi": (0.5, 0.0, np.pi),
    "(u + u_x)*v = 0": (0.1, 0.1, 0.0),
    "q = v*c_in": (0.1, -5e-3, 0.05),
}


@pytest.mark.parametrize("text", ROBIN)
def test_any_linear_form_is_a_wall(text):
    spec = changed(texts.COLUMN, space__x__left=text)
    spec["definitions"]["q"] = "v*u - D*u_x"
    problem = TextProblem(spec)
    left, right = problem.walls(problem.defaults())["x"]
    assert_allclose([left.value, left.slope, left.target], ROBIN[text], rtol=1e-14)
    assert right == WallCondition(0.0, 1.0, 0.0)
    c = problem.as_tensors({"v": torch.tensor(0.1, dtype=torch.float64, requires_grad=True)})
    left, _ = problem.walls(c)["x"]
    if "v" in text or "q" in text:
        (slope,) = torch.autograd.grad(left.target + left.value, c["v"])
        assert slope.isfinite()


def features_of(equation, definitions=None, kind=texts.PERIODIC, axes=("x", "y")):
    space = {name: kind for name in axes}
    spec = {"name": "own", "equations": [equation], "duration": 1.0, "fields": {"u": {"range": [-1.0, 1.0]}}}
    spec |= {"space": space, "definitions": definitions or {}, "parameters": {"D": {"default": 2.0}}}
    return TextProblem(spec)


def held(problem):
    return sorted(
        "".join(axis * n for axis, n in own.orders.items()) + str(own.laplacian or "")
        for own in problem.features.values()
    )


def test_derivatives_of_any_spelling_are_one_feature():
    problem = features_of("u_t = u_xy - u_yx + u_xxx + u_yyyy*u")
    assert list(problem.features.values()) == [
        Derivative("u"), Derivative("u", t=1), Derivative("u", x=1, y=1), Derivative("u", x=3), Derivative("u", y=4)
    ]  # fmt: skip


def test_the_laplacian_is_one_feature_on_periodic_axes_and_a_sum_beside_walls():
    wall = {"kind": "bounded", "points": 16, "left": "u = 0", "right": "u = 0"}
    assert held(features_of("u_t = laplacian(u)")) == ["1", "t"]
    assert held(features_of("u_t = laplacian(laplacian(u))")) == ["2", "t"]
    assert held(features_of("u_t = laplacian(u)", axes=("x",))) == ["t", "xx"]
    walled = TextProblem(changed(features_of("u_t = laplacian(laplacian(u))").spec, space={
        "x": wall, "y": {**wall, "left": "u_y = 0"}}))  # fmt: skip
    assert held(walled) == ["t", "xxxx", "xxyy", "yyyy"]
    assert walled.linearised({"D": 2.0})["u_xxyy"] == -2.0


def test_definitions_that_are_linear_operators_have_derivatives():
    """Also with constant factors, of one another, and through both operators."""
    problem = features_of(
        "u_t = psi_x + q_yy + r", {"psi": "-inverse_laplacian(D*u)", "q": "u_x/4 + u*D - 1", "r": "laplacian(psi)*u"}
    )
    c, f = {"D": 2.0}, {name: np.array([1.0 + i, 2.0]) for i, name in enumerate(problem.features)}
    by = {(*own.orders.items(), own.laplacian): f[name] for name, own in problem.features.items()}
    u = by[(0,)]
    expected = (
        by[("t", 1), 0] + 2 * by[("x", 1), -1] - 0.25 * by[("x", 1), ("y", 2), 0] - 2 * by[("y", 2), 0] + 2 * u * u
    )
    assert_allclose(problem.residual(f, c, {}), expected, rtol=1e-14)


def test_fields_of_mean_zero_are_asked_for_where_the_laplacian_is_inverted():
    problem = TextProblem(texts.NAVIER_STOKES)
    fields = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64))
    fields[0] -= fields[0].mean()
    fields[1] += 0.1 - fields[1].mean()
    first, second = problem.check_initial_condition(fields)
    assert first is None and "w has the mean 0.1" in second
    assert problem.diagnostics == {"psi": (1.0, Derivative("w", laplacian=-1))}


@pytest.mark.parametrize(
    ("equation", "conserves"),
    [
        ("u_t + u*u_x = D*u_xx", True),
        ("u_t + 6*u**2*u_x + u_xxx = 0", True),
        ("u_t = D*laplacian(u) - 3*(u + 1)*D*u_y*exp(u)", True),
        ("-u_xx = u_t*2 - 0*u", True),
        ("u_t = D*u_xx + u", False),
        ("u_t = D*u_xx + 1", False),
        ("u_t = x*u_xx", False),
        ("u_t = u_x*u_y", False),
        ("u_t = u*u_xx", False),
        ("(1 + u)*u_t = u_xx", False),
        ("u_t = u_x**2", False),
    ],
)
def test_conservation_is_claimed_only_where_the_form_shows_it(equation, conserves):
    assert features_of(equation).conserves_mean is conserves


def test_a_roll_out_may_go_on_where_nothing_names_the_time_and_there_are_no_walls():
    assert features_of("u_t = u_xx*x").can_continue
    assert not features_of("u_t = u_xx*sin(t)").can_continue
    assert not TextProblem(texts.GROWTH).can_continue
    assert not TextProblem(texts.POISSON).can_continue


def test_only_the_coordinates_that_count_are_asked_for():
    assert TextProblem(texts.FORCED).coordinates == ("x", "t")
    assert TextProblem(texts.POISSON).coordinates == ("x", "y")
    assert TextProblem(texts.GROWTH).coordinates == ()


def test_the_mean_state_is_left_where_the_equation_has_no_slope_there():
    """u u_t = … has no rate at u = 0, log(u) no value, √(u_x²) no slope."""
    assert features_of("(u + D - 2)*u_t = u_xx").linearised({"D": 2.0})["u_t"] == pytest.approx(0.1)
    assert features_of("u_t = u_xx + log(abs(u))").linearised({"D": 2.0})["u"] == pytest.approx(-10)
    assert features_of("u_t = u_xx + sqrt(u_x**2)").linearised({"D": 2.0}) == {"u_t": 1.0, "u_xx": -1.0}


# ------------------------------------------------------------------ what is refused

G = texts.GROWTH
BAD = {  # what is wrong: (table, words of the message)
    "unknown name": (changed(G, equations=["u_t = D*u_xx + q*u"]), "equation 1, column 16: unknown name 'q'"),
    "misspelt derivative": (changed(G, equations=["u_t = D*u_xz"]), "column 9: unknown name 'u_xz'; did you mean"),
    "misspelt parameter": (changed(G, equations=["u_t = D*u_xx + d*u"]), "did you mean"),
    "axis that is not there": (changed(G, equations=["u_t = D*u_xx + y"]), "column 16: unknown name 'y'"),
    "syntax": (changed(G, equations=["u_t = D*u_xx +"]), "equation 1, column 15: syntax error: the formula ends"),
    "no equality": (changed(G, equations=["u_t - D*u_xx"]), "an equality with one ="),
    "attribute": (changed(G, equations=["u_t = D*u_xx.real"]), "column 9: an attribute"),
    "import": (changed(G, equations=["u_t = D*u_xx + __import__('os')"]), "column 16: __import__ is no function"),
    "huge power": (changed(G, equations=["u_t = D*u_xx + 9**9**9"]), "column 16: the exponent"),
    "no rate": (changed(G, equations=["0 = D*u_xx"]), "equation 1 has no time derivative"),
    "two rates": (
        changed(texts.FITZHUGH_NAGUMO, equations=["u_t + v_t = u", "v_t = u"]),
        "equation 1 holds u_t and v_t",
    ),
    "the same rate twice": (
        changed(texts.FITZHUGH_NAGUMO, equations=["u_t = u", "u_t = v"]),
        "equations 1 and 2 both hold u_t",
    ),
    "nonlinear rate": (changed(G, equations=["u_t**2 = D*u_xx"]), "is not linear in u_t"),
    "rate in a function": (changed(G, equations=["exp(u_t) = D*u_xx"]), "is not linear in u_t"),
    "second rate": (changed(G, equations=["u_tt = D*u_xx"]), "column 1: u_tt: derivatives in time are of first order"),
    "mixed rate": (changed(G, equations=["u_t = u_xxt"]), "u_xxt: derivatives in time are those of the fields"),
    "rate of a steady problem": (changed(G, duration=None), "u_t: a steady problem has no derivatives in time"),
    "time of a steady problem": (changed(texts.POISSON, equations=["u_xx = t"]), "t does not exist in a steady"),
    "too many equations": (changed(G, equations=["u_t = u", "v_t = u"]), "2 equations for 1 field"),
    "too few equations": (changed(texts.FITZHUGH_NAGUMO, equations=["u_t = v"]), "1 equation for 2 fields"),
    "no equation": (changed(G, equations=[]), "0 equations for 1 field"),
    "equations of another kind": (changed(G, equations=[3]), "equations must be a list of texts"),
    "no field in it": (changed(texts.POISSON, equations=["0 = x"]), "equation 1 holds no field"),
    "definition used too early": (
        changed(G, definitions={"a": "b*u", "b": "2"}),
        "definition a, column 1: b is defined",
    ),
    "definition of itself": (changed(G, definitions={"a": "a + 1"}), "definition a, column 1"),
    "derivative of a nonlinear definition": (
        changed(G, definitions={"q": "u**2"}, equations=["u_t = q_x"]),
        "column 7: q_x: q is not linear",
    ),
    "Laplacian of a product": (changed(G, equations=["u_t = laplacian(u*u)"]), "column 7: laplacian(…): its argument"),
    "inverse Laplacian beside walls": (
        changed(G, equations=["u_t = inverse_laplacian(u)"]),
        "inverse_laplacian needs periodic axes",
    ),
    "inverse Laplacian of what has a mean": (
        changed(texts.NAVIER_STOKES, fields__w__range=[1.0, 2.0]),
        "needs a mean of 0, which its range excludes",
    ),
    "a billion operations": (
        changed(
            G, definitions={"a0": "u", **{f"a{i}": f"a{i - 1}*a{i - 1}" for i in range(1, 31)}}, equations=["u_t = a30"]
        ),
        "too large with its definitions written out",
    ),
    "a long chain": (changed(G, equations=["u_t = " + "+".join(f"{k}*u" for k in range(600))]), "is too large"),
    "high derivative": (changed(G, equations=["u_t = u_" + "x" * 9]), "order up to 8"),
    "no walls": (changed(G, space__x__left=None, space__x__right=None), "axis x is bounded: give both walls"),
    "one wall": (changed(G, space__x__right=None), "axis x is bounded: give both walls"),
    "walls of a periodic axis": (changed(texts.BURGERS, space__x__left="u = 1"), "it has no walls"),
    "nonlinear wall": (changed(G, space__x__left="u*u_x = 1"), "axis x, left: 'u*u_x = 1' is not linear in u and u_x"),
    "nonlinear wall by a function": (changed(G, space__x__right="exp(u) = 1"), "right: 'exp(u) = 1' is not linear"),
    "wall with a curvature": (changed(G, space__x__left="u + u_xx = 1"), "left, column 5: u_xx: a condition at a wall"),
    "wall with a rate": (changed(G, space__x__left="u_t = 1"), "left, column 1: u_t: a condition at a wall"),
    "wall in time": (changed(G, space__x__left="u = sin(t)"), "left, column 9: t: a condition at a wall does not"),
    "wall without the field": (changed(G, space__x__left="r = 1"), "'r = 1' holds no field"),
    "wall that vanishes": (changed(G, space__x__left="(r - 2)*u = 1"), "holds neither u nor u_x at the default"),
    "wall of two fields": (
        changed(texts.FITZHUGH_NAGUMO, space__x__left=["u_x + v = 0", "v_x = 0"]),
        "left 1: 'u_x + v = 0' holds u and v",
    ),
    "wall of one field only": (
        changed(texts.FITZHUGH_NAGUMO, space__x__left="u_x = 0"),
        "axis x, left: no condition for v",
    ),
    "two conditions for one field": (
        changed(texts.FITZHUGH_NAGUMO, space__x__left=["u_x = 0", "u = 0"]),
        "left 2: a second condition for u",
    ),
    "unknown key": (changed(G, equation=["u_t = u"]), "unknown key 'equation'; did you mean 'equations'"),
    "unknown key of a field": (
        changed(G, fields__u__rnage=[0, 1]),
        "field u: unknown key 'rnage'; did you mean 'range'",
    ),
    "unknown key of a parameter": (changed(G, parameters__D__units="m"), "did you mean 'unit'"),
    "unknown key of an axis": (changed(G, space__x__lefft="u = 1"), "did you mean 'left'"),
    "no range": (changed(G, fields__u__range=None), "field u lacks 'range'"),
    "negative scale": (changed(G, fields__u__scale=-1.0), "scale must be positive, got -1"),
    "empty range": (changed(G, fields__u__range=[1.0, 1.0]), "range must be [low, high]"),
    "infinite range": (changed(G, fields__u__range=[0.0, float("inf")]), "range must be [low, high]"),
    "range of texts": (changed(G, fields__u__range=["0", "1"]), "range must be [low, high]"),
    "no fields": (changed(G, fields={}), "at least one field"),
    "fields in a list": (changed(G, fields=["u"]), "fields must be a table"),
    "field that is a number": (changed(G, fields__u=3), "field u must be a table"),
    "parameter that is a number": (changed(G, parameters__r=2.0), "parameter r must be a table"),
    "no default": (changed(G, parameters__r={}), "parameter r lacks 'default'"),
    "default out of its range": (changed(G, parameters__D__default=1.0), "its default 1 lies outside of its range"),
    "nan": (changed(G, parameters__r__default=float("nan")), "default must be a finite number"),
    "truth for a number": (changed(G, parameters__r__default=True), "default must be a finite number"),
    "parameters in a list": (changed(G, parameters=[1.0]), "parameters must be a table"),
    "logarithm of a negative range": (
        changed(G, parameters__r={"default": 0.0, "low": -1.0, "high": 1.0, "is_logarithmic": True}),
        "must be positive",
    ),
    "unphysical range": (changed(G, parameters__r__physical=[3.0, 4.0]), "leaves what is physical"),
    "unknown input": (changed(G, inputs=["d"]), "inputs name no parameter 'd'; did you mean 'D'"),
    "input without a range": (changed(G, inputs=["r"]), "parameter r is an input: give its range"),
    "negative duration": (changed(G, duration=-1.0), "duration must be positive"),
    "duration as text": (changed(G, duration="2"), "duration must be a finite number"),
    "times beyond the duration": (changed(G, times=[0.0, 1.0, 3.0]), "times must increase from 0 to the duration, 2"),
    "times of a steady problem": (changed(texts.POISSON, times=[0.0]), "a steady problem has no times"),
    "name": (changed(G, name="Growth 1"), "a name has lower-case letters"),
    "no name": (changed(G, name=None), "problem lacks 'name'"),
    "name of a path": (changed(G, name="../growth"), "a name has lower-case letters"),
    "title of two lines": (changed(G, title="a\nb"), "title must be one line"),
    "axis called r": (changed(G, space={"r": G["space"]["x"]}), "axes are called x, y and z"),
    "no axes": (changed(G, space={}), "one to three axes"),
    "kind of axis": (changed(G, space__x__kind="open"), "kind must be 'bounded' or 'periodic'"),
    "points": (changed(G, space__x__points=10**9), "points must be an integer from 8 to 4096"),
    "odd points": (changed(texts.BURGERS, space__x__points=65), "points must be an even number"),
    "start beyond stop": (changed(G, space__x__start=2.0), "start must lie below stop"),
    "too many points": (
        changed(texts.NAVIER_STOKES, space={k: {**texts.PERIODIC, "points": 512} for k in "xyz"}),
        "more than 16777216",
    ),
    "field called as an axis": (
        changed(G, fields={"x": {"range": [0, 1]}}, equations=["x_t = 1"]),
        "field 'x' has the name of an axis",
    ),
    "parameter called as a function": (changed(G, parameters__exp={"default": 1.0}), "'exp' has the name of"),
    "parameter called as a word": (changed(G, parameters__lambda={"default": 1.0}), "'lambda' has the name of"),
    "parameter called as a field": (changed(G, parameters__u={"default": 1.0}), "'u' has the name of a field"),
    "parameter read as a derivative": (
        changed(G, parameters__u_x={"default": 1.0}),
        "'u_x' would be read as a derivative of u",
    ),
    "parameter with a strange name": (
        changed(G, parameters={"k-f": {"default": 1.0}}, inputs=[]),
        "needs a name of up to 32 ASCII",
    ),
    "conservation beside walls": (changed(G, conserves_mean=True), "conserves_mean is for periodic axes"),
    "no table": ([], "problem must be a table"),
}


@pytest.mark.parametrize("what", BAD)
def test_whatever_is_wrong_is_said_in_one_line(what):
    spec, words = BAD[what]
    with pytest.raises(ConfigError) as refused:
        TextProblem(spec)
    message = str(refused.value)
    assert words in message and message.startswith("problem") and "\n" not in message and len(message) < 300


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_name_of_a_problem_of_the_package_is_refused(name):
    with pytest.raises(ConfigError, match=f"the name '{name}' belongs to a problem of the package"):
        problem_of(changed(G, name=name))


def test_a_configuration_with_equations_gives_their_problem_and_its_inputs():
    problem, inputs = problem_of(G)
    assert isinstance(problem, TextProblem) and inputs == ("D",)
    assert problem.fields["u"].unit == problem.units["u"] == "1/m³"
    assert problem.parameters["D"].physical == (0.0, np.inf)
    assert len(problem.output_times) == 101


def test_new_constants_leave_the_normalisation_of_inputs_and_widen_the_others():
    problem, inputs = problem_of(G)
    constants = constants_of({"D": (1e-4, 1e-2), "r": 5.0}, problem.parameters, inputs)
    tables = changed_table(problem.parameters, G["parameters"], constants, inputs)
    D, r = (TextProblem(changed(G, parameters=tables)).parameters[key] for key in ("D", "r"))
    assert (D.low, D.high, D.default, D.normalised_over) == (1e-4, 1e-2, 1e-3, (3e-4, 3e-3))
    assert (r.low, r.high, r.default) == (2.0, 5.0, 5.0)
    with pytest.raises(ConfigError, match="parameter D is logarithmic: its values must be positive"):
        constants = constants_of({"D": (0.0, 1e-2)}, problem.parameters, inputs)
        TextProblem(changed(G, parameters=changed_table(problem.parameters, G["parameters"], constants, inputs)))


def test_random_damage_ends_in_one_line_or_a_problem():
    """Values of other kinds anywhere in the table never end in another error."""
    rng = np.random.default_rng(1)
    values = [None, True, -1, 1e300, "", "u", "x = 1", [], [1, 2], {}, {"a": 1}, "0"]
    paths = [path for spec in (G, texts.FITZHUGH_NAGUMO) for path in _paths(spec)]
    assert len(paths) > 30
    for path, value in itertools.product(paths, values):
        if rng.random() < 0.5:
            continue
        spec = copy.deepcopy(G if path in _paths(G) else texts.FITZHUGH_NAGUMO)
        own = spec
        for key in path[:-1]:
            own = own[key]
        own[path[-1]] = value
        try:
            TextProblem(spec)
        except ConfigError as error:
            assert "\n" not in str(error)


def _paths(table, before=()):
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from _paths(value, (*before, key))
