"""Laws of the Fourier operator: transforms, translation equivariance, time polynomials, input scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from pihc_zoo.grid import FourierAxis, GradedAxis, Grid, RadauAxis
from pihc_zoo.networks.fourier_operator import FourierOperator, _Transforms

TIME = RadauAxis(0.7, elements=1, stages=5, grading=1.0, power=1.0)
GRID = Grid(TIME, {"x": FourierAxis(16), "y": FourierAxis(12)})


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(5)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FourierOperator(GRID, num_inputs=3, num_basis=7, width=6, num_layers=2, modes=(4, 5), degree=5)


@pytest.mark.parametrize(("sizes", "modes"), [((12,), (4,)), ((12, 10), (3, 5)), ((8, 6, 10), (3, 2, 4))])
def test_transforms_are_truncated_fast_fourier_transforms(random, sizes, modes):
    transforms = _Transforms(sizes, modes).double()
    for buffer in transforms.buffers():  # stored in single precision
        assert buffer.dtype == torch.float64
    v = random(2, 3, *sizes)
    dims = tuple(range(-len(sizes), 0))
    whole = torch.fft.rfftn(v, dim=dims, norm="forward")
    kept = [np.arange(1 - count, count) for count in modes[:-1]] + [np.arange(modes[-1])]
    picked = whole[(slice(None), slice(None), *np.ix_(*kept))]
    real, imaginary = transforms(v)
    assert_close(torch.complex(real, imaginary), picked, rtol=0, atol=1e-6)
    truncated = torch.zeros_like(whole)
    truncated[(slice(None), slice(None), *np.ix_(*kept))] = picked
    expected = torch.fft.irfftn(truncated, s=sizes, dim=dims, norm="forward")
    assert_close(transforms.inverse(torch.stack([real, imaginary])), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-6)])
@pytest.mark.parametrize("dim", [-1, -2])
@pytest.mark.parametrize("shift", [1, 5])
def test_shifted_inputs_give_shifted_outputs(network, random, dim, shift, dtype, tolerance):
    network, inputs = network.to(dtype), random(2, 3, 16, 12).to(dtype)
    with torch.no_grad():
        out, shifted = network(inputs), network(inputs.roll(shift, dim))
    assert_close(shifted, out.roll(shift, dim), rtol=0, atol=tolerance * float(out.abs().max()))
    assert (out - out.roll(1, dim)).abs().max() > 0.01 * out.abs().max()


def test_function_i_has_the_chebyshev_degree_1_plus_i_modulo_degree(network):
    s = 2 * TIME.nodes / 0.7 - 1
    for i, (values, rate) in enumerate(zip(network.time.numpy(), network.rate.numpy(), strict=True)):
        p = 1 + i % 5
        chebyshev = np.polynomial.Chebyshev.basis(p)
        assert_allclose(values, chebyshev(s) - (-1) ** p, rtol=0, atol=1e-14)
        assert_allclose(rate, chebyshev.deriv()(s) * 2 / 0.7, rtol=1e-13, atol=1e-12)


def test_after_calibration_the_unit_of_the_inputs_does_not_count(network, random):
    inputs = random(4, 3, 16, 12).float() * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]
    network.calibrate(inputs)
    assert_close(network.input_scale, inputs.square().mean(dim=(0, 2, 3)).sqrt())
    before = network(inputs)
    network.calibrate(7 * inputs)
    assert_close(network(7 * inputs), before, rtol=1e-5, atol=1e-6)


def test_a_channel_without_values_keeps_its_unit(network, random):
    inputs = random(2, 3, 16, 12).float()
    inputs[:, 1] = 0
    network.calibrate(inputs)
    assert network.input_scale[1] == 1 and torch.isfinite(network(inputs)).all()


def test_the_input_scale_is_stored_and_loaded(network, random):
    network.calibrate(3 * random(2, 3, 16, 12).float())
    other = FourierOperator(GRID, 3, 7, width=6, num_layers=2, modes=(4, 5), degree=5)
    other.load_state_dict(network.state_dict())
    inputs = random(1, 3, 16, 12).float()
    assert_close(other(inputs), network(inputs), rtol=0, atol=0)


def test_with_and_without_gradients_it_is_the_same_function(network, random):
    inputs = random(2, 3, 16, 12).float()
    tracked = network(inputs)
    with torch.no_grad():
        assert_close(network(inputs), tracked.detach(), rtol=0, atol=1e-5 * float(tracked.abs().max()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": (9, 5)}, r"an axis with 16 nodes must lie in \[1, 8\], got 9"),
        ({"modes": (0, 5)}, r"an axis with 16 nodes must lie in \[1, 8\], got 0"),
        ({"modes": (4,)}, "one number per space axis"),
        ({"degree": 6}, r"degree must lie in \[1, 5\]"),
        ({"degree": 0}, r"degree must lie in \[1, 5\]"),
    ],
)
def test_what_the_grid_does_not_carry_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FourierOperator(GRID, 3, 4, **{"modes": (4, 5), "degree": 5, **settings})


def test_bounded_axes_are_refused():
    with pytest.raises(ValueError, match="needs periodic axes; 'x' is bounded: choose 'cosine_operator'"):
        FourierOperator(Grid(TIME, {"x": GradedAxis(16, 0.0, 1.0)}), 3, 4, modes=(4,))
