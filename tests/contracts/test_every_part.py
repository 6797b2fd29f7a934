"""What every registered axis, network, decomposition, residual map and lift promises."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.ansatz import LIFTS
from pihc_zoo.decomposition import DECOMPOSITIONS, Decomposition
from pihc_zoo.grid import AXES, Axis, GradedAxis, Grid, RadauAxis
from pihc_zoo.networks import NETWORKS, BasisNetwork
from pihc_zoo.residual_map import RESIDUAL_MAPS, ResidualMap
from pihc_zoo.status import Status
from pihc_zoo.zoo import config as configuration

TABLES = {
    "axis": (AXES, Axis),
    "network": (NETWORKS, BasisNetwork),
    "decomposition": (DECOMPOSITIONS, Decomposition),
    "residual map": (RESIDUAL_MAPS, ResidualMap),
    "lift": (LIFTS, torch.nn.Module),
}
AXIS_SETTINGS = {"duration": 4.0, "num_nodes": 24, "start": 0.0, "stop": 2.0}


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
    assert axis.interpolation(axis.nodes[:3]).shape == (3, closed)


def test_axes_increase_and_their_weights_are_positive(axis):
    assert (np.diff(axis.closed_nodes) > 0).all() and (np.diff(axis.coordinates) > 0).all()
    assert (axis.weights > 0).all()
    assert_allclose(axis.weights.sum(), axis.stop - axis.start, rtol=1e-10)


def test_axes_differentiate_constants_and_lines(axis):
    constant = axis.differentiation(1) @ np.ones(len(axis.closed_nodes))
    assert_allclose(constant, 0, atol=1e-9)
    assert_allclose(axis.differentiation(1) @ axis.closed_nodes, 1, rtol=1e-8)
    assert_allclose(axis.interpolation(axis.nodes) @ axis.closed_nodes, axis.nodes, atol=1e-12)


def test_axes_can_be_refined_described_and_built(axis):
    assert len(axis.refined(2.0).nodes) == 2 * len(axis.nodes)
    cls, settings = configuration.lookup("grid", configuration.describe(axis, AXES), AXES)
    assert configuration.build("grid", cls, settings) == axis


def test_axes_are_values(axis):
    """Frozen and comparable, so that they can be keys and be stored."""
    with pytest.raises(AttributeError):
        axis.num_nodes = 3
    assert axis == type(axis)(**{key: getattr(axis, key) for key in inspect.signature(type(axis)).parameters})


# ------------------------------------------------------------------ networks


GRID = Grid(RadauAxis(500.0, 2, 3), {"x": GradedAxis(16, 0.0, 1.0)})
SMALL = {"width": 4, "num_layers": 1, "modes": (3, 4)}


@pytest.fixture(params=NETWORKS)
def network(request):
    cls = NETWORKS[request.param]
    known = {key: SMALL[key] for key in inspect.signature(cls).parameters if key in SMALL}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(grid=GRID, num_inputs=5, num_basis=3, **known).double()


@pytest.fixture
def inputs():
    return torch.randn(4, 5, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_networks_map_channels_to_basis_functions(network, inputs):
    out = network(inputs)
    assert out.shape == (4, network.num_basis, *GRID.shape) and network.num_basis == 3
    assert torch.isfinite(out).all()


def test_networks_treat_trajectories_apart(network, inputs):
    whole = network(inputs)
    for i in range(4):
        assert_close(network(inputs[i : i + 1])[0], whole[i], rtol=1e-12, atol=1e-13)


def test_networks_depend_on_every_input_channel(network, inputs):
    tracked = inputs.clone().requires_grad_()
    network(tracked).square().sum().backward()
    assert (tracked.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_networks_train_all_their_parameters(network, inputs):
    network(inputs).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_networks_save_real_parameters_only(network):
    """Weights must fit safetensors and ONNX; derived matrices are not stored."""
    state = network.state_dict()
    assert set(state) == {name for name, _ in network.named_parameters()}
    assert not any(value.is_complex() for value in state.values())


# ------------------------------------------------------------------ decompositions


@pytest.fixture(params=DECOMPOSITIONS)
def decomposition(request):
    cls = DECOMPOSITIONS[request.param]
    options = {"overlap": 1} if "overlap" in inspect.signature(cls).parameters else {}
    return lambda counts: cls(counts, **options)


@pytest.mark.parametrize("counts", [{}, {"x": 2}, {"x": 4}, {"t": 2, "x": 2}])
def test_decompositions_partition_unity_and_merge_what_they_took(decomposition, counts):
    split = decomposition(counts)
    psi = split.partition_of_unity(GRID)
    assert psi.shape == (split.num_experts, *GRID.shape)
    assert_allclose(psi.sum(axis=0), 1, atol=1e-15)
    field = torch.randn(2, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    windows = split.windows(GRID)
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


@pytest.mark.parametrize("lift", LIFTS)
@pytest.mark.parametrize("residual_map", RESIDUAL_MAPS)
@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_every_combination_solves_and_predicts(tiny_model, fields, name, residual_map, lift):
    """Every lift × residual map × decomposition: solved or flagged, finite where solved, differentiable."""
    split = {"name": name, "counts": {"x": 2}} | ({"overlap": 2} if name == "overlapping" else {})
    model = tiny_model(
        decomposition=split,
        residual_map={"name": residual_map},
        ansatz={"name": lift},
        solver={"max_steps": 40, "rtol": 1e-3},
    )
    out = model.predict(fields(2))
    assert out.converged.all() and np.isfinite(out.u).all()
    u0 = torch.as_tensor(fields(1)).requires_grad_()
    (gradient,) = torch.autograd.grad(model(u0)[:, 1:].square().mean(), u0)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
