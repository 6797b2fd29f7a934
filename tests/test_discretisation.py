"""Laws of discretisations composed axis by axis: channels, two walled axes, fields that know their start and rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.discretisation import Discretisation, Field, Readout
from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis
from pihc_zoo.parameters import Parameters
from pihc_zoo.problems.base import Derivative, Parameter, Problem, Variable, WallCondition


class Flow(Problem):
    """u_t + a u_x = D (u_xx + u_yy), walls at y = 0 (u = D) and y = 1 (u_y = 0)."""

    name = title = "flow"
    equation = ""
    fields = {"u": Variable(-1.0, 1.0)}
    features = {
        "u": Derivative("u"),
        "u_t": Derivative("u", t=1),
        "u_x": Derivative("u", x=1),
        "u_xx": Derivative("u", x=2),
        "u_yy": Derivative("u", y=2),
        "u_xy": Derivative("u", x=1, y=1),
    }
    parameters = {"D": Parameter(0.1, 0.01, 1.0, "1", "diffusivity"), "a": Parameter(1.0, 0.0, 2.0, "1", "speed")}

    def residual(self, f, c, at):
        return f["u_t"] + c["a"] * f["u_x"] - c["D"] * (f["u_xx"] + f["u_yy"])

    def linearised(self, c):
        return {"u_t": 1.0, "u_xx": -c["D"], "u_yy": -c["D"]}

    def walls(self, c):
        conditions = {"y": (WallCondition(1.0, 0.0, c["D"]), WallCondition(0.0, 1.0, 0.0))}
        return {**conditions, **self.sides}

    sides = {}


class Room(Flow):
    """The same between walls at x as well, u = D and u_x = 0 there."""

    sides = {"x": (WallCondition(1.0, 0.0, 0.1), WallCondition(0.0, 1.0, 0.0))}


K = np.pi / 2


def exact(x, y, t, D):
    """A field that meets the conditions in y; per D (batch, 1, 1, 1)."""
    g = torch.sin(2 * torch.pi * x)
    return D + (1 + t) * (2 + g) * torch.sin(K * y)


@pytest.fixture(params=[1.0, 1.5], ids=["nodes", "dealiased"])
def channel(request):
    space = {"x": FourierAxis(16, dealiasing=request.param), "y": GradedAxis(48, 0.0, 1.0, stencil=5)}
    return Discretisation(Flow(), Grid(RadauAxis(1.0, 1, 3), space))


def axes_of(own, is_collocation=False):
    grid = own.grid
    kinds = [a.collocation_points if is_collocation else a.nodes for a in grid.space.values()]
    x, y = (torch.as_tensor(np.array(points)) for points in kinds)
    return x[:, None], y[None, :], torch.as_tensor(grid.time.nodes.copy())[:, None, None]


def field_of(own, function, c):
    D = c["D"].reshape(-1, 1, 1, 1)
    x, y, t = axes_of(own)
    return Field(function(x, y, t, D), own.walls(c), function(x, y, torch.zeros(1, 1, 1).double(), D)[:, 0])


def test_a_channel_has_the_features_of_its_two_kinds_of_axes(channel):
    c = Parameters({"D": np.array([0.1, 0.7]), "a": 1.0})
    f = dict(zip(Flow.features, channel(field_of(channel, exact, c)).unbind(1), strict=True))
    x, y, t = axes_of(channel, is_collocation=True)
    g, h = 2 + torch.sin(2 * torch.pi * x), torch.sin(K * y)
    gx, gxx = 2 * torch.pi * torch.cos(2 * torch.pi * x), -((2 * torch.pi) ** 2) * torch.sin(2 * torch.pi * x)
    expected = {
        "u_t": g * h + 0 * t,
        "u_x": (1 + t) * gx * h,
        "u_xx": (1 + t) * gxx * h,
        "u_yy": -(K**2) * (1 + t) * g * h,
        "u_xy": (1 + t) * gx * K * torch.cos(K * y),
    }
    for name, value in expected.items():
        tolerance = 2e-4 if "y" in name else 1e-9
        assert_close(f[name], value.expand_as(f[name]), rtol=0, atol=tolerance * float(value.abs().max()))


def test_derivatives_across_a_channel_converge_at_the_order_of_the_stencil():
    errors, c = [], Parameters({"D": 0.1, "a": 1.0})
    for count in (24, 48, 96):
        space = {"x": FourierAxis(8), "y": GradedAxis(count, 0.0, 1.0, stencil=5)}
        own = Discretisation(Flow(), Grid(RadauAxis(1.0, 1, 2), space))
        found = own(field_of(own, exact, c))[0, list(Flow.features).index("u_yy")]
        x, y, t = axes_of(own, is_collocation=True)
        truth = -(K**2) * (1 + t) * (2 + torch.sin(2 * torch.pi * x)) * torch.sin(K * y)
        errors.append(float((found - truth).abs().max()))
    assert (np.log2(np.divide(errors[:-1], errors[1:])) > 2.5).all(), errors


def test_two_walled_axes_are_closed_differentiated_and_read():
    def quadratic(x, y, t, D):
        return D + (1 + t) * (x - x**2 / 2) * (y - y**2 / 2)

    space = {name: GradedAxis(12, 0.0, 1.0, stencil=5) for name in ("x", "y")}
    own, c = Discretisation(Room(), Grid(RadauAxis(1.0, 1, 3), space)), Parameters({"D": 0.1, "a": 1.0})
    field = field_of(own, quadratic, c)
    f = dict(zip(Room.features, own(field).unbind(1), strict=True))
    x, y, t = axes_of(own)
    assert_close(f["u_xx"][0], -(1 + t) * (y - y**2 / 2).expand(12, 12), rtol=0, atol=1e-9)
    assert_close(f["u_xy"][0], (1 + t) * (1 - x) * (1 - y), rtol=0, atol=1e-9)
    closed = own.closed(field)
    assert closed.shape == (1, 4, 14, 14)
    assert_close(closed[0, :, 0], torch.full((4, 14), 0.1, dtype=torch.float64), rtol=0, atol=1e-12)
    points = {"x": np.array([0.0, 0.31]), "y": np.array([0.2, 0.9, 1.0])}
    read = Readout(own, np.array([0.25, 1.0]), points)(field)[0]
    px, py = (torch.as_tensor(own) for own in points.values())
    at = torch.tensor([0.25, 1.0]).double()[:, None, None]
    assert_close(read, quadratic(px[:, None], py[None], at, 0.1), rtol=0, atol=1e-10)


def test_a_field_of_known_rate_is_not_differentiated_in_time(channel):
    c = Parameters({"D": 0.1, "a": 1.0})
    field = field_of(channel, exact, c)
    marked = Field(field.u, field.walls, field.initial, rate=torch.full_like(field.u, 7.0))
    index = list(Flow.features).index("u_t")
    assert_close(channel(marked)[:, index], torch.full_like(channel(field)[:, index], 7.0), rtol=0, atol=1e-9)


def test_a_correction_has_zero_targets_and_starts_at_zero(channel):
    c = Parameters({"D": 0.1, "a": 1.0})
    field = field_of(channel, exact, c)
    other = Field(1.3 * field.u, field.walls, 1.3 * field.initial)
    correction = Field.correction(0.3 * field.u, field.walls)
    from_zero = channel(correction) - channel(Field(torch.zeros_like(field.u), field.walls.homogeneous()))
    assert_close(channel(correction), from_zero, rtol=0, atol=1e-12)
    closed = channel.closed(correction)
    assert closed[:, 0].abs().max() == 0 and closed[:, 1:, :, 0].abs().max() < 1e-14
    assert not torch.allclose(channel.closed(other)[:, 1:, :, 0], closed[:, 1:, :, 0])
