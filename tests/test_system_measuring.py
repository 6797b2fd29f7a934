"""Laws of measuring and fine-tuning systems, and of what their lift is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from text_models import initial, model
from torch.testing import assert_close

import pihc_zoo as pz
from pihc_zoo import evaluation
from pihc_zoo.data import read_trajectories
from pihc_zoo.discretisation.stepped import by_products
from pihc_zoo.evaluation.ingredients import unsolved
from pihc_zoo.learning.distributed import Processes
from pihc_zoo.learning.mesh import Mesh, Place
from pihc_zoo.learning.targets import Targets
from pihc_zoo.learning.tuning_loss import Data

NAME = "gray-scott-small"


@pytest.fixture(scope="module")
def references():
    """Converged solutions of three draws."""
    own = model(NAME)
    family = next(iter(evaluation.default_families(own).values()))
    return evaluation.reference_set(own.problem, family, own.parameter_inputs, 3, 0, quiet=True)


def test_answers_without_a_solve_have_the_callers_axes(references):
    u = unsolved(model(NAME), references)
    assert u.shape == references.u.shape
    assert_allclose(u[:, 0], references.u0, rtol=0, atol=1e-12)
    assert (evaluation.relative_error(u, references.u) < 1e-2).all()


def test_quick_figures_of_a_system_are_by_field_too():
    own = model(NAME)
    families = dict(list(evaluation.default_families(own).items())[:1])
    report = pz.evaluate(own, families, count=2, quick=True, quiet=True)
    (row,) = report["results"].values()
    assert list(row["by_field"]) == ["u", "v"]
    errors = [part["error_max"] for part in row["by_field"].values()]
    assert row["failed"] == 0 and min(errors) <= row["max"] <= max(errors) < 1e-3


def test_the_distance_from_given_solutions_is_that_of_predictions():
    own, u0 = model(NAME), initial(NAME)
    out = own.predict(u0)
    data = read_trajectories(
        {"u0": u0, "t": out.t, "u": 1.01 * out.u * (out.t > 0)[:, None, None] + out.u * (out.t == 0)[:, None, None]},
        own.problem,
    )
    rows = np.arange(2)
    with torch.no_grad():
        loss = Data(own, data, rows, 1.0, Processes(Place(), Mesh())).loss(2, np.random.default_rng(0))
    assert_allclose(float(loss.exp()), 0.01 / 1.01, rtol=1e-6)
    common, noise = Targets(data, rows).shares(out.u[:, out.t > 0])
    assert (common > 0.5).all() and (noise < 0.5).all()  # smooth along space, whatever the fields


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e4])
def test_exponentials_by_products_are_exponentials(size):
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randn(2, 5, 4, 4, dtype=torch.float64, generator=generator)
    matrices = size * (matrices - matrices.mT) - size * torch.eye(4, dtype=torch.float64)  # normal, decaying
    assert_close(by_products(matrices), torch.linalg.matrix_exp(matrices), rtol=0, atol=1e-13 * max(1.0, size))
    general = torch.randn(3, 4, 4, dtype=torch.float64, generator=generator)
    assert_close(by_products(general), torch.linalg.matrix_exp(general), rtol=1e-12, atol=1e-12)
