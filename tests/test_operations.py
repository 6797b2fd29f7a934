"""How many operations a pass of every shipped model dispatches: on a GPU each one that is no view is a launch.

Counted as on a GPU: transforms are products with matrices, activations are fused, and solves take as many steps as they
do where nothing is read back from the device. ``pytest -s`` prints the counts.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pihc_zoo as pz
from pihc_zoo.discretisation import axes
from pihc_zoo.networks import cosine_operator, fourier_operator

MOST = {  # operations of a pass, and those of them that are no views
    "allen-cahn-1d.general": (6_800, 4_100),
    "burgers-1d.viscous": (45_000, 34_500),
    "column-transport.freundlich": (9_600, 3_450),
    "darcy-2d.lognormal": (4_200, 1_600),
    "diffusion-sorption.general": (1_850, 1_020),
    "diffusion-sorption.parametric": (3_100, 1_400),
    "diffusion-sorption.pdebench": (1_850, 1_020),
    "korteweg-de-vries-1d.periodic": (99_200, 55_500),
    "navier-stokes-2d.re1e4": (9_300, 5_100),
    "navier-stokes-2d.viscous": (15_600, 8_550),
    "reaction-diffusion-2d.fitzhugh-nagumo": (46_600, 17_800),
}


class Counted(TorchDispatchMode):
    """Counts operations, and views among them."""

    def __init__(self):
        super().__init__()
        self.total = self.views = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.total += 1
        self.views += bool(getattr(function, "is_view", False))
        return function(*arguments, **(options or {}))


def all_steps(model):
    """The model with a solver that looks at nothing."""
    model.constraint.solver = dataclasses.replace(model.constraint.solver, check_every=0)
    return model


def counted(model, batch):
    """The counts of one pass; what is made once per model is not in them."""
    u0, parameters = pz.sample(model, batch)
    model.predict(u0, parameters=parameters)
    with Counted() as counted:
        model.predict(u0, parameters=parameters)
    return counted


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", pz.list_models())
def test_a_pass_takes_few_operations(name, monkeypatch):
    monkeypatch.setattr(axes, "_FAST", 10**9)
    for network in (cosine_operator, fourier_operator):
        monkeypatch.setattr(network, "gelu", partial(torch.nn.functional.gelu, approximate="tanh"))
    found = counted(all_steps(pz.from_pretrained(name)), 1)
    launched = found.total - found.views
    print(f"\n{name}: {found.total} operations, {launched} without views")
    assert found.total <= MOST[name][0] and launched <= MOST[name][1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_their_number_does_not_grow_with_the_batch():
    model = all_steps(pz.from_pretrained("diffusion-sorption.general"))
    assert np.ptp([counted(model, batch).total for batch in (2, 5)]) <= 100  # polish aside
