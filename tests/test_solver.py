"""Laws of the batched Levenberg–Marquardt solver, without any PDE."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pihc_zoo.solvers.levenberg_marquardt import LevenbergMarquardt
from pihc_zoo.status import Status, is_converged

EXACT = LevenbergMarquardt(max_steps=50, rtol=1e-12, atol=1e-13)


class Residuals:
    """½‖r(w)‖² + ½λ‖w‖² from a residual and its Jacobian, written out."""

    def __init__(self, residual, jacobian, ridge=0.0):
        self.residual, self.jacobian, self.ridge = residual, jacobian, ridge
        self.num_normal_matrices = 0

    def evaluate(self, w):
        self.num_problems = w.shape[0]
        r, jacobian = self.residual(w), self.jacobian(w)
        cost = 0.5 * r.square().sum(dim=1) + 0.5 * self.ridge * w.square().sum(dim=1)
        return cost, (jacobian.transpose(1, 2) @ r[..., None])[..., 0] + self.ridge * w

    def normal_matrix(self, w):
        self.num_normal_matrices += 1
        jacobian = self.jacobian(w)
        identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        return jacobian.transpose(1, 2) @ jacobian + self.ridge * identity

    def expand(self, w):
        return *self.evaluate(w), self.normal_matrix(w)

    def take(self, rows):
        return Part(self, rows)


class Part:
    """Some problems of a batch: the whole batch is evaluated, with these coefficients in their places."""

    def __init__(self, whole, rows):
        self.whole, self.rows = whole, rows

    def _whole(self, w):
        return w[:1].repeat(self.whole.num_problems, 1).index_copy(0, self.rows, w)

    def evaluate(self, w):
        return tuple(part[self.rows] for part in self.whole.evaluate(self._whole(w)))

    def normal_matrix(self, w):
        return self.whole.normal_matrix(self._whole(w))[self.rows]

    def take(self, rows):
        return Part(self.whole, self.rows[rows])


def linear(a, b, ridge=0.0):
    return Residuals(lambda w: (a @ w[..., None])[..., 0] - b, lambda w: a, ridge)


def rosenbrock(scales):
    """r = (s(w₂ − w₁²), 1 − w₁), minimum 0 at (1, 1)."""

    def residual(w):
        return torch.stack([scales * (w[:, 1] - w[:, 0] ** 2), 1 - w[:, 0]], dim=1)

    def jacobian(w):
        one, zero = torch.ones_like(w[:, 0]), torch.zeros_like(w[:, 0])
        rows = [torch.stack([-2 * scales * w[:, 0], scales * one], 1), torch.stack([-one, zero], 1)]
        return torch.stack(rows, dim=1)

    return Residuals(residual, jacobian)


def exponential(y, t):
    """r = a·exp(−b t) − y."""

    def parts(w):
        decay = torch.exp(-w[:, 1:] * t)
        return decay, w[:, :1] * decay

    def jacobian(w):
        decay, value = parts(w)
        return torch.stack([decay, -t * value], dim=2)

    return Residuals(lambda w: parts(w)[1] - y, jacobian)


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(11)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


def test_a_linear_problem_equals_lstsq(random):
    a, b = random(5, 30, 4), random(5, 30)
    solution = EXACT.solve(linear(a, b), random(5, 4))
    assert_close(solution.coefficients, torch.linalg.lstsq(a, b[..., None]).solution[..., 0], rtol=1e-10, atol=1e-12)
    assert (solution.status == Status.CONVERGED).all()


def test_a_ridge_equals_augmented_rows(random):
    a, b, ridge = random(3, 10, 4), random(3, 10), 0.3
    solution = EXACT.solve(linear(a, b, ridge), random(3, 4))
    extra = ridge**0.5 * torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    augmented, target = torch.cat([a, extra], dim=1), torch.cat([b, torch.zeros(3, 4, dtype=torch.float64)], dim=1)
    expected = torch.linalg.lstsq(augmented, target[..., None]).solution[..., 0]
    assert_close(solution.coefficients, expected, rtol=1e-10, atol=1e-12)


def test_badly_scaled_columns_do_not_matter(random):
    a, b = random(1, 30, 3), random(1, 30)
    scales = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)
    expected = torch.linalg.lstsq(a, b[..., None]).solution[..., 0]
    solution = EXACT.solve(linear(a * scales, b), torch.zeros(1, 3, dtype=torch.float64))
    assert_close(solution.coefficients * scales, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("refresh_every", [1, 2, 3])
def test_rosenbrock_is_minimised(refresh_every):
    """From the classical start, at several scales, whatever the refresh of the normal matrix."""
    scales = torch.tensor([1.0, 3.0], dtype=torch.float64)
    start = torch.tensor([[-1.2, 1.0]], dtype=torch.float64).repeat(2, 1)
    solver = dataclasses.replace(EXACT, refresh_every=refresh_every, max_steps=400)
    solution = solver.solve(rosenbrock(scales), start)
    assert_close(solution.coefficients, torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_exponential_fits_recover_their_parameters():
    true = torch.tensor([[1.0, 0.3], [2.0, 1.0], [0.5, 2.0]], dtype=torch.float64)
    t = torch.linspace(0, 3, 25, dtype=torch.float64)
    y = true[:, :1] * torch.exp(-true[:, 1:] * t)
    solution = EXACT.solve(exponential(y, t), torch.ones(3, 2, dtype=torch.float64))
    assert_close(solution.coefficients, true, rtol=0, atol=1e-8)
    assert (solution.status == Status.CONVERGED).all()


def test_tight_tolerances_are_reached_although_the_residual_is_large(random):
    """Near the minimum the cost is flat to rounding; the gradient then decides what is better."""
    t = torch.linspace(0, 3, 25, dtype=torch.float64)
    y = 2 * torch.exp(-t) + random(16, 25)
    solution = LevenbergMarquardt(max_steps=300, rtol=1e-13, atol=0).solve(
        exponential(y, t), torch.ones(16, 2, dtype=torch.float64)
    )
    assert (solution.status == Status.CONVERGED).all()


def test_a_lazily_refreshed_matrix_is_computed_less_and_ends_at_the_same_minimum(random):
    t = torch.linspace(0, 3, 25, dtype=torch.float64)
    y = 2 * torch.exp(-t).expand(4, -1) + 0.05 * random(4, 25)
    start = torch.ones(4, 2, dtype=torch.float64)
    every, lazy = exponential(y, t), exponential(y, t)
    solver = LevenbergMarquardt(max_steps=60, rtol=1e-11)
    first = solver.solve(every, start)
    second = dataclasses.replace(solver, refresh_every=3).solve(lazy, start)
    assert_close(first.coefficients, second.coefficients, rtol=0, atol=1e-8)
    assert lazy.num_normal_matrices <= -(-int(second.iterations.max()) // 3)


def test_the_cost_never_rises(random):
    """Accept/reject: more steps never end at a higher objective."""
    scales, start = torch.tensor([10.0, 30.0], dtype=torch.float64), 2 * random(2, 2)
    costs = [
        LevenbergMarquardt(max_steps=k, rtol=0, atol=0).solve(rosenbrock(scales), start).cost for k in range(0, 25, 3)
    ]
    for before, after in itertools.pairwise(costs):
        assert (after <= before).all()
    assert (costs[-1] < 0.5 * costs[0]).all()


def test_a_batch_equals_a_loop(random):
    t = torch.linspace(0, 3, 25, dtype=torch.float64)
    y = torch.rand(6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * torch.exp(-t)
    start = torch.ones(6, 2, dtype=torch.float64)
    solver = LevenbergMarquardt(max_steps=5, rtol=1e-9)
    batch = solver.solve(exponential(y, t), start)
    for i in range(6):
        single = solver.solve(exponential(y[i : i + 1], t), start[i : i + 1])
        assert_close(single.coefficients[0], batch.coefficients[i], rtol=1e-10, atol=1e-12)
        assert single.status[0] == batch.status[i] and single.iterations[0] == batch.iterations[i]


def test_one_nan_problem_leaves_the_others_unchanged(random):
    a, b, start = random(4, 20, 3), random(4, 20), random(4, 3)
    clean = EXACT.solve(linear(a, b), start)
    for poisoned in (torch.nan, torch.inf):
        bad = b.clone()
        bad[2, 5] = poisoned
        solution = EXACT.solve(linear(a, bad), start)
        others = [0, 1, 3]
        assert torch.equal(solution.coefficients[others], clean.coefficients[others])
        assert torch.equal(solution.status[others], clean.status[others])
        assert solution.status[2] == Status.NOT_FINITE
        assert torch.equal(solution.coefficients[2], start[2])


def test_no_steps_keep_the_start_and_say_so(random):
    start = random(3, 4)
    b = random(3, 9)
    b[1] = torch.nan
    solution = LevenbergMarquardt(max_steps=0).solve(linear(random(3, 9, 4), b), start)
    assert torch.equal(solution.coefficients, start)
    assert solution.status.tolist() == [Status.NOT_SOLVED, Status.NOT_FINITE, Status.NOT_SOLVED]
    assert (solution.iterations == 0).all()


def test_every_problem_has_its_own_status():
    """Solved at the start, converged, out of steps: in one batch."""
    scales = torch.tensor([1.0, 1.0, 100.0], dtype=torch.float64)
    start = torch.tensor([[1.0, 1.0], [0.99, 0.98], [-1.2, 1.0]], dtype=torch.float64)
    solution = LevenbergMarquardt(max_steps=4, rtol=1e-6).solve(rosenbrock(scales), start)
    assert solution.status.tolist() == [Status.CONVERGED, Status.CONVERGED, Status.MAX_STEPS]
    assert solution.iterations[0] == 0 and solution.iterations[2] == 4


def test_a_problem_without_descent_stalls():
    """A gradient of the wrong sign: no step is accepted, and the start is kept."""

    class Wrong(Residuals):
        def evaluate(self, w):
            cost, gradient = super().evaluate(w)
            return cost, -gradient

    a = torch.eye(2, dtype=torch.float64)[None]
    start = torch.ones(1, 2, dtype=torch.float64)
    problem = linear(a, torch.zeros(1, 2, dtype=torch.float64))
    for xtol in (0.0, 1e-2):  # a short step that is not taken is no end
        solver = LevenbergMarquardt(max_steps=30, xtol=xtol)
        solution = solver.solve(Wrong(problem.residual, problem.jacobian), start)
        assert solution.status.tolist() == [Status.STALLED]
        assert torch.equal(solution.coefficients, start)


@pytest.mark.parametrize("check_every", [0, 1, 4])
def test_looking_for_convergence_changes_nothing(random, check_every):
    a, b, start = random(4, 20, 3), random(4, 20), random(4, 3)
    never = dataclasses.replace(EXACT, check_every=0).solve(linear(a, b), start)
    looking = dataclasses.replace(EXACT, check_every=check_every).solve(linear(a, b), start)
    assert torch.equal(never.coefficients, looking.coefficients)
    assert torch.equal(never.status, looking.status) and torch.equal(never.iterations, looking.iterations)


def test_singular_columns_do_not_spoil_the_solution(random):
    """Two equal basis functions: damping picks one of many minimisers; the cost is the minimum."""
    a, b = random(1, 20, 3), random(1, 20)
    doubled = torch.cat([a, a[..., :1]], dim=2)
    solution = EXACT.solve(linear(doubled, b), torch.zeros(1, 4, dtype=torch.float64))
    best = EXACT.solve(linear(a, b), torch.zeros(1, 3, dtype=torch.float64))
    assert_close(solution.cost, best.cost, rtol=1e-9, atol=0)


@pytest.mark.parametrize("max_steps", [0, 3])
def test_the_loop_never_waits_for_the_device(max_steps):
    """Fake tensors have no values: any data-dependent branch raises."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        a, b = torch.empty(4, 20, 3, dtype=torch.float64), torch.empty(4, 20, dtype=torch.float64)
        start = torch.zeros(4, 3, dtype=torch.float64)
        solver = LevenbergMarquardt(max_steps=max_steps, check_every=0, refresh_every=2)
        solution = solver.solve(linear(a, b), start)
        assert solution.coefficients.shape == (4, 3)
        assert solution.status.shape == solution.iterations.shape == solution.cost.shape == (4,)


def test_fake_tensors_do_catch_a_synchronisation():
    """The previous test can fail: looking at convergence is data-dependent."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        a, b = torch.empty(4, 20, 3, dtype=torch.float64), torch.empty(4, 20, dtype=torch.float64)
        start = torch.zeros(4, 3, dtype=torch.float64)
        LevenbergMarquardt(max_steps=3, check_every=1).solve(linear(a, b), start)


def test_by_default_only_a_cpu_looks_at_convergence():
    """Elsewhere (here the meta device, which has no values) the number of steps is fixed."""
    a = torch.empty(4, 20, 3, dtype=torch.float64, device="meta")
    problem = linear(a, a[..., 0])
    LevenbergMarquardt(max_steps=5).solve(problem, torch.zeros(4, 3, dtype=torch.float64, device="meta"))
    assert problem.num_normal_matrices == 5


@pytest.mark.parametrize("setting", ["max_steps", "rtol", "atol", "ftol", "xtol", "damping"])
def test_negative_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting} must not be negative"):
        LevenbergMarquardt(**{setting: -1})


def test_refresh_every_is_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        LevenbergMarquardt(refresh_every=0)


@pytest.mark.gpu
def test_on_a_gpu_the_loop_never_synchronises(random):
    a, b, start = (tensor.cuda() for tensor in (random(4, 20, 3), random(4, 20), random(4, 3)))
    solver = LevenbergMarquardt(max_steps=4)
    solver.solve(linear(a, b), start)  # warm up: handles and workspaces are created once
    torch.cuda.set_sync_debug_mode("error")
    try:
        solution = solver.solve(linear(a, b), start)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (solution.status == Status.CONVERGED).all()


# ------------------------------------------------------------------ ends by cost and by step


def kinked(corner, offset):
    """r = (|w₁ − corner| + offset, w₂ − 1): its minimum ½ offset² lies at a kink, where no gradient vanishes."""

    def residual(w):
        return torch.stack([(w[:, 0] - corner).abs() + offset, w[:, 1] - 1], dim=1)

    def jacobian(w):
        zero = torch.zeros_like(w[:, 0])
        rows = [torch.stack([torch.sign(w[:, 0] - corner), zero], 1), torch.stack([zero, zero + 1], 1)]
        return torch.stack(rows, dim=1)

    return Residuals(residual, jacobian)


CORNERS, OFFSETS = torch.tensor([0.3, -2.0, 0.05]).double(), torch.tensor([1.0, 0.01, 3.0]).double()
START = torch.tensor([[0.0, 1.0]], dtype=torch.float64).repeat(3, 1)
BY_COST = LevenbergMarquardt(max_steps=100, rtol=1e-6, atol=0.0, ftol=1e-4)


def test_a_kink_of_the_objective_is_an_end():
    """Where the gradient cannot vanish the cost stops to fall: converged, at an answer as good as ftol asks."""
    solution = BY_COST.solve(kinked(CORNERS, OFFSETS), START)
    assert solution.status.tolist() == [Status.SMALL_REDUCTION] * 3
    assert is_converged(solution.status).all() and Status.SMALL_REDUCTION.is_converged
    best = 0.5 * OFFSETS.square()
    assert (solution.cost >= best).all() and (solution.cost <= (1 + 5 * BY_COST.ftol) * best).all()
    assert (solution.iterations < 40).all()


def test_without_ftol_and_xtol_a_kink_is_a_failure_as_ever():
    solver = dataclasses.replace(BY_COST, ftol=0.0)
    solution = solver.solve(kinked(CORNERS, OFFSETS), START)
    assert not is_converged(solution.status).any()
    assert set(solution.status.tolist()) <= {Status.MAX_STEPS, Status.STALLED}


@pytest.mark.parametrize("tolerances", [{"ftol": 1e-3}, {"ftol": 1e-8}, {"xtol": 1e-2}, {"ftol": 1e-6, "xtol": 1e-6}])
def test_they_end_a_solve_and_change_nothing_else(tolerances):
    """The coefficients are those that the same number of steps find without them."""
    scales = torch.tensor([1.0, 10.0, 40.0], dtype=torch.float64)
    start = torch.tensor([[-1.2, 1.0]], dtype=torch.float64).repeat(3, 1)
    plain = LevenbergMarquardt(max_steps=60, rtol=1e-9, atol=0.0)
    for objective in (rosenbrock(scales), kinked(CORNERS, OFFSETS)):
        ended = dataclasses.replace(plain, **tolerances).solve(objective, start)
        for i, count in enumerate(ended.iterations.tolist()):
            same = dataclasses.replace(plain, max_steps=count).solve(objective, start)
            assert torch.equal(same.coefficients[i], ended.coefficients[i])
        assert (ended.iterations <= plain.solve(objective, start).iterations).all()


def test_a_small_step_is_an_end(random):
    """Steps by an old matrix shrink by some factor each; with xtol they end once they are that small."""
    t = torch.linspace(0, 3, 25, dtype=torch.float64)
    y, start = 2 * torch.exp(-t).expand(4, -1) + 0.3 * random(4, 25), torch.ones(4, 2, dtype=torch.float64)
    exact = LevenbergMarquardt(max_steps=200, rtol=1e-12, atol=0.0).solve(exponential(y, t), start).coefficients
    distances = []
    for xtol in (1e-2, 1e-4, 1e-6):
        solver = LevenbergMarquardt(max_steps=200, rtol=0.0, atol=0.0, xtol=xtol, refresh_every=3)
        solution = solver.solve(exponential(y, t), start)
        assert (solution.status == Status.SMALL_STEP).all() and Status.SMALL_STEP.is_converged
        distances.append(((solution.coefficients - exact).norm(dim=1) / exact.norm(dim=1)).max())
        assert distances[-1] < xtol
    assert distances[0] > distances[1] > distances[2]


@pytest.mark.parametrize("check_every", [0, 1])
def test_a_batch_of_different_outcomes_equals_a_loop(check_every):
    """A kink, a smooth minimum, no minimum in reach, no finite start, a start that is the minimum."""
    kind = torch.arange(5)
    corners = torch.tensor([0.3, 0, 0, torch.nan, 0]).double()
    start = torch.tensor([[0.0, 1.0], [-1.2, 1.0], [-1.2, 1.0], [0.0, 1.0], [1.0, 1.0]]).double()
    scales = torch.tensor([1.0, 1.0, 100.0, 1.0, 1.0]).double()

    def mixed(rows):
        own, is_kinked = kinked(corners[rows], torch.ones(len(rows)).double()), (kind[rows] % 3 == 0)
        smooth = rosenbrock(scales[rows])
        pick = is_kinked[:, None]
        return Residuals(
            lambda w: torch.where(pick, own.residual(w), smooth.residual(w)),
            lambda w: torch.where(pick[..., None], own.jacobian(w), smooth.jacobian(w)),
        )

    solver = dataclasses.replace(BY_COST, max_steps=50, check_every=check_every)
    batch = solver.solve(mixed(kind), start)
    expected = [Status.SMALL_REDUCTION, Status.CONVERGED, Status.MAX_STEPS, Status.NOT_FINITE, Status.CONVERGED]
    assert batch.status.tolist() == expected
    for i in range(5):
        single = solver.solve(mixed(kind[i : i + 1]), start[i : i + 1])
        assert_close(single.coefficients[0], batch.coefficients[i], rtol=1e-12, atol=1e-14)
        assert single.status[0] == batch.status[i] and single.iterations[0] == batch.iterations[i]


def test_convergence_is_told_of_every_status_alike():
    """Of one status, of an array and of a tensor; failures say what to do."""
    values = list(Status)
    expected = [status.is_converged for status in values]
    assert is_converged(np.array(values)).tolist() == is_converged(torch.tensor(values)).tolist() == expected
    good = {Status.CONVERGED, Status.SMALL_REDUCTION, Status.SMALL_STEP, Status.POLISHED}
    assert {status for status in values if status.is_converged} == good
    assert all(status.message for status in values)
