"""What every registered axis, network, decomposition, residual map and lift promises."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo import config as configuration
from pihc_zoo.decomposition import DECOMPOSITIONS, Decomposition
from pihc_zoo.discretisation.lifts import Lift
from pihc_zoo.discretisation.stepped import LIFTS
from pihc_zoo.grid import AXES, Axis, FourierAxis, GradedAxis, Grid, RadauAxis
from pihc_zoo.networks import NETWORKS, BasisNetwork
from pihc_zoo.residual_map import RESIDUAL_MAPS, ResidualMap
from pihc_zoo.status import Status

TABLES = {
    "axis": (AXES, Axis),
    "network": (NETWORKS, BasisNetwork),
    "decomposition": (DECOMPOSITIONS, Decomposition),
    "residual map": (RESIDUAL_MAPS, ResidualMap),
    "lift": (LIFTS, Lift),
}
AXIS_SETTINGS = {"duration": 4.0, "num_nodes": 24, "start": 0.0, "stop": 2.0, "length": 2.0}


@pytest.mark.parametrize("part", TABLES)
def test_tables_hold_documented_classes_of_their_kind(part):
    table, base = TABLES[part]
    for name, cls in table.items():
        assert name == name.lower() and " " not in name
        assert issubclass(cls, base) and cls.__doc__


def test_every_status_says_what_it_means():
    assert all(status.message for status in Status)


# ------------------------------------------------------------------ axes


@pytest.fixture(params=AXES)
def axis(request):
    cls = AXES[request.param]
    return cls(**{key: AXIS_SETTINGS[key] for key in inspect.signature(cls).parameters if key in AXIS_SETTINGS})


def test_axes_have_consistent_sizes(axis):
    n, closed = len(axis.nodes), len(axis.closed_nodes)
    assert closed == n + axis.num_before + axis.num_after
    assert len(axis.weights) == len(axis.coordinates) == len(axis.row_scale) == n
    assert axis.differentiation(1).shape == (n, closed)
    assert axis.interpolation(axis.nodes[:3]).shape == (min(3, n), closed)


def test_axes_increase_and_their_weights_are_positive(axis):
    assert (np.diff(axis.closed_nodes) > 0).all() and (np.diff(axis.coordinates) > 0).all()
    assert (axis.weights > 0).all()
    assert_allclose(axis.weights.sum(), axis.stop - axis.start, rtol=1e-10)


def test_axes_differentiate_constants_and_what_is_simplest_after_them(axis):
    """Lines on bounded axes, the longest wave on periodic ones; on one node nothing changes."""
    constant = axis.differentiation(1) @ np.ones(len(axis.closed_nodes))
    assert_allclose(constant, 0, atol=1e-9)
    k = 2 * np.pi / (axis.stop - axis.start)
    u, slope = (lambda x: x, np.ones_like if len(axis.nodes) > 1 else np.zeros_like)
    if axis.is_periodic:
        u, slope = (lambda x: np.sin(k * x + 0.3), lambda x: k * np.cos(k * x + 0.3))
    assert_allclose(axis.differentiation(1) @ u(axis.closed_nodes), slope(axis.nodes), rtol=1e-8, atol=1e-11)
    assert_allclose(axis.interpolation(axis.nodes) @ u(axis.closed_nodes), u(axis.nodes), atol=1e-12)


def test_axes_collocate_at_the_nodes_or_project_onto_them(axis):
    points = axis.collocation_points
    assert (axis.projection is None) == (len(points) == len(axis.nodes))
    if axis.projection is not None:
        assert axis.projection.shape == (len(axis.nodes), len(points))
        there = axis.interpolation(points)
        assert_allclose(axis.projection @ there @ axis.projection, axis.projection, atol=1e-12)


def test_what_the_nodes_carry_is_gathered_from_them(axis):
    """Points of a finer axis of the same kind: a constant stays one, its values at the nodes are read back."""
    points = axis.refined(2.0).nodes
    assert_allclose(axis.gathering(points) @ np.ones(len(points)), 1, atol=1e-11)
    assert axis.resampling(points, axis.nodes[:3]).shape == (len(axis.nodes[:3]), len(points))


def test_axes_can_be_refined_described_and_built(axis):
    assert len(axis.refined(2.0).nodes) == (2 * len(axis.nodes) if len(axis.nodes) > 1 else 1)
    cls, settings = configuration.lookup("grid", configuration.describe(axis, AXES), AXES)
    assert configuration.build("grid", cls, settings) == axis


def test_axes_are_values(axis):
    """Frozen and comparable, so that they can be keys and be stored."""
    with pytest.raises(AttributeError):
        axis.num_nodes = 3
    assert axis == type(axis)(**{key: getattr(axis, key) for key in inspect.signature(type(axis)).parameters})


# ------------------------------------------------------------------ networks


GRID = Grid(RadauAxis(500.0, 2, 3), {"x": GradedAxis(16, 0.0, 1.0)})
PERIODIC = Grid(RadauAxis(2.5, 1, 4, power=1.0), {"x": FourierAxis(16, dealiasing=1.0), "y": FourierAxis(12)})
CHANNEL = Grid(RadauAxis(2.5, 1, 4, power=1.0), {"x": FourierAxis(16), "y": GradedAxis(12, 0.0, 1.0)})
GRIDS = {"bounded": GRID, "periodic": PERIODIC, "mixed": CHANNEL}
SMALL = {"width": 4, "num_layers": 1, "degree": 3}


def built(cls, grid):
    """A network with some modes per axis: those of space, or time's too."""
    known = {key: SMALL[key] for key in inspect.signature(cls).parameters if key in SMALL}
    for axes in (grid.space, grid.shape):
        try:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                own = {"modes": (3, 4, 4)[: len(axes)]} if "modes" in inspect.signature(cls).parameters else {}
                return cls(grid=grid, num_inputs=5, num_basis=3, **known, **own).double()
        except ValueError as error:
            refusal = error
            if "one number per axis" not in str(error):
                break
    raise refusal


@pytest.fixture(params=[(name, kind) for name in NETWORKS for kind in GRIDS], ids="-".join)
def network(request):
    """A network, and a grid with axes of a kind that it is for."""
    name, kind = request.param
    try:
        network = built(NETWORKS[name], GRIDS[kind])
    except ValueError as error:
        assert "needs periodic axes" in str(error) and kind != "periodic"
        pytest.skip(str(error))
    network.grid = GRIDS[kind]
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_serve_some_kind_of_axes(name):
    refusals = 0
    for grid in GRIDS.values():
        try:
            built(NETWORKS[name], grid)
        except ValueError:
            refusals += 1
    assert refusals < len(GRIDS)


def is_over_space(network):
    """Whether it gives fields c_i of basis functions c_i(x) φ_i(t), φ in its attribute ``time``."""
    return hasattr(network, "time")


@pytest.fixture
def inputs(network):
    shape = network.grid.shape[1:] if is_over_space(network) else network.grid.shape
    return torch.randn(4, 5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_networks_map_channels_to_basis_functions(network, inputs):
    out = network(inputs)
    assert out.shape == (4, network.num_basis, *inputs.shape[2:]) and network.num_basis == 3
    assert torch.isfinite(out).all()


def test_time_modes_vanish_at_the_start_and_know_their_derivative(network):
    if not is_over_space(network):
        pytest.skip("over space and time")
    time = network.grid.time
    assert network.time.shape == network.rate.shape == (network.num_basis, len(time.nodes))
    closed = np.concatenate([np.zeros((network.num_basis, 1)), network.time.numpy()], axis=1)
    assert_allclose(closed @ time.differentiation(1).T, network.rate.numpy(), rtol=0, atol=1e-12)


def test_networks_treat_trajectories_apart(network, inputs):
    whole = network(inputs)
    for i in range(4):
        assert_close(network(inputs[i : i + 1])[0], whole[i], rtol=1e-12, atol=1e-13)


def test_networks_depend_on_every_input_channel(network, inputs):
    tracked = inputs.clone().requires_grad_()
    network(tracked).square().sum().backward()
    assert (tracked.grad.transpose(0, 1).flatten(1).abs().amax(dim=1) > 0).all()


def test_networks_train_all_their_parameters(network, inputs):
    network(inputs).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_networks_save_real_parameters_and_what_normalises_their_inputs(network, inputs):
    """Weights must fit safetensors and ONNX; derived matrices are not stored, measured ones are."""
    state = network.state_dict()
    measured = {"input_scale"} if hasattr(network, "calibrate") else set()
    assert set(state) == {name for name, _ in network.named_parameters()} | measured
    assert not any(value.is_complex() for value in state.values())
    if measured:
        before = {key: value.clone() for key, value in state.items()}
        network.calibrate(3 * inputs)
        changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
        assert changed == measured


# ------------------------------------------------------------------ decompositions


@pytest.fixture(params=DECOMPOSITIONS)
def decomposition(request):
    cls = DECOMPOSITIONS[request.param]
    options = {"overlap": 1} if "overlap" in inspect.signature(cls).parameters else {}
    return lambda counts: cls(counts, **options)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("bounded", counts) for counts in ({}, {"x": 2}, {"x": 4}, {"t": 2, "x": 2})]
    + [("periodic", counts) for counts in ({}, {"x": 2, "y": 3}, {"t": 2, "y": 2})],
)
def test_decompositions_partition_unity_and_merge_what_they_took(decomposition, kind, counts):
    split, grid = decomposition(counts), GRIDS[kind]
    psi = split.partition_of_unity(grid)
    assert psi.shape == (split.num_experts, *grid.shape)
    assert_allclose(psi.sum(axis=0), 1, atol=1e-15)
    field = torch.randn(2, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    windows = split.subdomains(grid)
    assert_close(windows.merge(windows.take(field)), field, rtol=0, atol=1e-14)


def test_decompositions_refuse_what_they_cannot_split(decomposition):
    for counts, words in (({"x": 5}, "choose a divisor of 16"), ({"z": 2}, "no axis 'z'"), ({"x": 0}, "positive")):
        with pytest.raises(ValueError, match=words):
            decomposition(counts).check(GRID)


def test_decompositions_are_described_and_built(decomposition):
    split = decomposition({"x": 4})
    cls, settings = configuration.lookup("decomposition", configuration.describe(split, DECOMPOSITIONS), DECOMPOSITIONS)
    assert configuration.build("decomposition", cls, settings) == split


# ------------------------------------------------------------------ all together


def refusal(kind, name, residual_map, lift, dealiasing):
    """Why a combination cannot work by design, or None."""
    if kind == "bounded":
        return "needs periodic axes" if lift == "integrated" else None
    if not LIFTS[lift].has_rate:
        return "needs bounded axes"
    if not DECOMPOSITIONS[name].is_joint:
        if residual_map == "inverse_linearised":
            return "take a pointwise residual map|joint experts"
        return "dealiasing to 1, or use joint experts" if dealiasing > 1 else None
    return None


def check_combination(make, u0, refused):
    """Refused by name, or: solved, finite and differentiable."""
    if refused:
        with pytest.raises(ValueError, match=refused):
            make().predict(u0)
        return
    model = make()
    out = model.predict(u0)
    assert out.converged.all() and np.isfinite(out.u).all()
    assert out.coefficients.shape[1] == model.num_windows * (
        1 if model.constraint.decomposition.is_joint else model.constraint.decomposition.num_experts
    )
    u0 = torch.as_tensor(u0[:1]).requires_grad_()
    (gradient,) = torch.autograd.grad(model(u0)[:, 1:].square().mean(), u0)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("lift", LIFTS)
@pytest.mark.parametrize("residual_map", RESIDUAL_MAPS)
@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_every_combination_solves_and_predicts(tiny_model, fields, name, residual_map, lift):
    """Every lift × residual map × decomposition on bounded axes: solved and differentiable, or refused by design."""
    check_combination(
        lambda: tiny_model(
            decomposition={"name": name, "counts": {"x": 2}} | ({"overlap": 2} if name == "overlapping" else {}),
            residual_map={"name": residual_map},
            ansatz={"name": lift},
            solver={"max_steps": 40, "rtol": 1e-3},
        ),
        fields(2),
        refusal("bounded", name, residual_map, lift, 1.0),
    )


@pytest.mark.parametrize("dealiasing", [1.0, 1.5])
@pytest.mark.parametrize("lift", LIFTS)
@pytest.mark.parametrize("residual_map", RESIDUAL_MAPS)
@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_every_combination_rolls_out(tiny_rollout, vorticity, name, residual_map, lift, dealiasing):
    """The same on periodic axes, over two time windows."""
    check_combination(
        lambda: tiny_rollout(
            n=12,
            dealiasing=dealiasing,
            decomposition={"name": name, "counts": {"x": 2, "y": 2}}
            | ({"overlap": 2} if name == "overlapping" else {}),
            residual_map={"name": residual_map},
            ansatz={"name": lift} | ({"band": 5, "steps": 12} if lift == "integrated" else {}),
            solver={"max_steps": 40, "rtol": 1e-3},
        ),
        vorticity(2),
        refusal("periodic", name, residual_map, lift, dealiasing),
    )
