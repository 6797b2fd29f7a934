"""How many operations a pass of every shipped model dispatches: on a GPU each one that is no view is a launch.

Solves take all of their steps, as they do where nothing is read back from the device. ``pytest -s`` prints the counts.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

import pihc_zoo as pz

MOST = {  # operations of a pass, views included
    "allen-cahn-1d.general": 7_500,
    "column-transport.freundlich": 7_600,
    "darcy-2d.lognormal": 4_250,
    "korteweg-de-vries-1d.periodic": 108_500,
    "reaction-diffusion-2d.fitzhugh-nagumo": 49_000,
    "burgers-1d.viscous": 63_500,
    "diffusion-sorption.general": 1_950,
    "diffusion-sorption.parametric": 3_200,
    "diffusion-sorption.pdebench": 1_950,
    "navier-stokes-2d.re1e4": 13_200,
    "navier-stokes-2d.viscous": 23_200,
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
def test_a_pass_takes_few_operations(name):
    found = counted(all_steps(pz.from_pretrained(name)), 1)
    print(f"\n{name}: {found.total} operations, {found.total - found.views} without views")
    assert found.total <= MOST[name]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_their_number_does_not_grow_with_the_batch():
    model = all_steps(pz.from_pretrained("diffusion-sorption.general"))
    assert np.ptp([counted(model, batch).total for batch in (2, 5)]) <= 100  # polish aside
