"""From what a backend computed to a `Prediction` (numpy only): failures, messages and trust."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..problems.base import Problem
from ..status import Status, is_converged
from .answer import Answer
from .fields import LazyField
from .initial_values import undetermined
from .prediction import Prediction
from .request import Request
from .trust import Trust


def assemble(
    problem: Problem,
    request: Request,
    messages: list[str | None],
    answers: Sequence[Answer],
    *,
    num_subproblems: int,
    num_experts: int,
    trust: Trust,
    name: str,
    on_failure: str,
    like_input: Callable[[np.ndarray], Any] = np.asarray,
    u: Any = None,
    has_estimate: bool = True,
    dtype: Any = np.float64,
) -> Prediction:
    """Puts answers together, marks failed trajectories and says what to trust.

    Args:
        problem, request, on_failure: of the call.
        messages: per trajectory, what is wrong with its input; None where it was computed.
        answers: of the computed trajectories, in order.
        num_subproblems: solves per trajectory, of all time windows, the first window's first.
        num_experts: of the decomposition.
        trust: bounds of what the model may be trusted for.
        name: of the model.
        like_input: converts arrays to the caller's kind; picklable.
        u: (batch, time, *space) what was computed, where answers do not hold it: an array, or a tensor on a device.
        has_estimate: whether errors were estimated.
        dtype: of the residual's and the error's field.

    Raises:
        ValueError: a failed solve, with on_failure="raise".
    """
    values, times, c = request.values, request.times, request.c
    batch = len(values)
    is_good = np.array([not message for message in messages])
    good = np.flatnonzero(is_good)

    def spread(pieces: list[np.ndarray], fill: float, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if len(good) == batch:
            whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            return whole.astype(dtype, copy=False)
        out = np.full((batch, *shape), fill, dtype=dtype)
        if pieces:
            out[good] = np.concatenate(pieces)
        return out

    def gathered(key: str, fill: float, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
        return spread([getattr(answer, key) for answer in answers], fill, shape, dtype)

    firsts = np.cumsum([0, *map(len, answers)])  # of good trajectories, by answer

    def field_map(key: str) -> LazyField:
        def read(rows: np.ndarray) -> np.ndarray:
            fields = np.full((len(rows), *request.shape), np.nan, dtype=dtype)
            place = np.where(is_good[rows], np.cumsum(is_good)[rows] - 1, -1)  # among good trajectories
            for answer, first, stop in zip(answers, firsts, firsts[1:], strict=False):
                is_here = (place >= first) & (place < stop)
                if is_here.any():
                    fields[is_here] = answer.read_field(key)[place[is_here] - first]
            return _cut(fields, times, failure_time[rows])

        return LazyField(read, np.arange(batch), like_input)

    num_coefficients = answers[0].coefficients.shape[-1] if answers else 0
    u = gathered("u", np.nan, request.shape) if u is None else u
    status = gathered("status", int(Status.BAD_INPUT), (num_subproblems,), np.int64)
    estimated = gathered("estimated_error", np.nan, ())
    converged = is_converged(status)
    failure_time = gathered("failure_time", np.nan, ())
    has_stopped = np.isfinite(failure_time)
    for i in good:
        failed = np.flatnonzero(~converged[i])
        if has_stopped[i]:
            at = f"at t = {failure_time[i]:.3g}"
            reason = Status(int(status[i, failed[0]])).message if len(failed) else "values are no longer finite"
            messages[i] = f"solve {at}: {reason}"
        elif len(failed):
            messages[i] = _failure(Status(int(status[i, failed[0]])), failed, num_subproblems, num_experts)
            u[i] = np.nan
    for i in np.flatnonzero(has_stopped):
        u[i, np.flatnonzero(times >= failure_time[i])] = np.nan
    is_failed = ~converged.all(axis=1) | has_stopped
    is_unanswered = is_failed & ~is_good if on_failure == "fallback" else is_failed
    if on_failure == "fallback":
        _fall_back(problem, request, u, like_input, np.flatnonzero(is_failed & is_good), messages)
    if is_unanswered.any() and on_failure == "raise":
        raise ValueError(_summary(is_unanswered, messages, "trajectories failed"))
    unresolved = gathered("unresolved", np.nan, ())
    unresolved[good] += undetermined(problem, values[good], request.input_points)
    late = f"predicted beyond the trained duration ({problem.span:g}): t = {times.max():g}"
    for i in good:
        reasons = [messages[i]] if messages[i] else []
        error = float(estimated[i]) if has_estimate and not is_failed[i] else None
        reasons += trust.reasons(values[i], error, float(unresolved[i]))
        reasons += [] if has_estimate else ["its error was not estimated (estimate=False)"]
        messages[i] = "; ".join(reasons + ([late] if times.max() > problem.span else []))
    is_reliable = np.array([not message for message in messages])
    _warn(is_unanswered, is_reliable, messages)
    return Prediction(
        u=like_input(u),
        t=like_input(times),
        points={key: like_input(points) for key, points in request.points.items()},
        u0=like_input(values),
        parameters={
            key: like_input(np.broadcast_to(value, np.shape(value) or (batch,)).copy()) for key, value in c.items()
        },
        coefficients=like_input(gathered("coefficients", np.nan, (num_subproblems, num_coefficients))),
        residual=like_input(gathered("residual", np.nan, ())),
        residual_per_expert=like_input(gathered("residual_per_expert", np.nan, (num_experts,))),
        estimated_error=like_input(estimated),
        unresolved=like_input(unresolved),
        status=like_input(status),
        converged=like_input(converged),
        iterations=like_input(gathered("iterations", 0, (num_subproblems,), np.int64)),
        is_reliable=like_input(is_reliable),
        is_polished=like_input(gathered("is_polished", False, (), bool)),
        failure_time=like_input(failure_time),
        messages=[message or "" for message in messages],
        model=name,
        units={**{k: own.unit for k, own in (problem.parameters | problem.coefficients).items()}, **problem.units},
        symbol=problem.field,
        fields=tuple(problem.fields),
        signed_fields=tuple(key for key, own in problem.fields.items() if own.low < 0 < own.high),
        series=problem.series,
        periods={key: axis.stop - axis.start for key, axis in problem.output_space.items() if axis.is_periodic},
        diagnostics=dict(problem.diagnostics),
        field_maps={key: field_map(key) for key in ("residual", "estimated_error")},
    )


def _failure(status: Status, failed: np.ndarray, num_subproblems: int, num_experts: int) -> str:
    """The message of a trajectory some of whose solves ended in ``status``."""
    if status == Status.NOT_SOLVED:
        return status.message
    what = "experts" if num_subproblems == num_experts else "subproblems"
    which = "" if num_subproblems == 1 else f" ({what} {', '.join(map(str, failed[:8]))})"
    return f"solve{which}: {status.message}"


def _summary(is_meant: np.ndarray, messages: Sequence[str | None], what: str) -> str:
    first = int(np.argmax(is_meant))
    return f"{int(is_meant.sum())} of {len(is_meant)} {what}; trajectory {first}: {messages[first]}"


def _warn(is_unanswered: np.ndarray, is_reliable: np.ndarray, messages: Sequence[str | None]) -> None:
    """One warning for what failed and what is answered but not reliable."""
    is_doubtful = ~is_reliable & ~is_unanswered
    texts = []
    if is_unanswered.any():
        texts.append(_summary(is_unanswered, messages, "trajectories failed"))
    if is_doubtful.any():
        texts.append(_summary(is_doubtful, messages, "answers are not reliable"))
    if texts:
        warnings.warn("; ".join(texts), RuntimeWarning, stacklevel=4)


def _cut(fields: np.ndarray, times: np.ndarray, failure_time: np.ndarray) -> np.ndarray:
    """Fields (batch, time, *space) with NaN from the failure times (batch,) on."""
    is_after = times >= failure_time[:, None]  # False for NaN
    return (
        np.where(is_after.reshape(*is_after.shape, *[1] * (fields.ndim - 2)), np.nan, fields)
        if is_after.any()
        else fields
    )


def _fall_back(
    problem: Problem,
    request: Request,
    u: Any,
    like_input: Callable[[np.ndarray], Any],
    indices: np.ndarray,
    messages: list[str | None],
) -> None:
    """Replaces trajectories by the classical solver's."""
    from ..reference import reference_solver

    solve = reference_solver(problem)
    input_x, x = (
        next(iter(points.values())) if len(points) == 1 else points for points in (request.input_points, request.points)
    )
    for i in indices:
        own = {key: value if np.ndim(value) == 0 else value[i] for key, value in request.c.items()}
        try:
            u[i] = like_input(solve(request.values[i], input_x=input_x, x=x, times=request.times, parameters=own))
            messages[i] = f"{messages[i]}; replaced by the classical solver"
        except RuntimeError as error:
            messages[i] = f"{messages[i]}; {error}"
