"""Prediction of many trajectories: chunk by chunk, at constant memory, from where a killed process stopped."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..arrays import to_numpy
from ..prediction.request import check_request
from ..progress import progress
from .ranks import Ranks
from .source import Source, digest, open_source
from .store import FORMAT, Output, require_zarr

_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}  # of a chunk's answer
_LARGEST = {"cpu": 64, "cuda": 512}  # trajectories: the solves of a chunk take memory as well
_PASS = 16  # trajectories that a CPU takes at once: chunks are multiples, and equal one large call bit by bit


@dataclass(frozen=True)
class Summary:
    """What was predicted.

    Attributes:
        path: the store.
        count, failed, reliable: trajectories, of them without a converged answer, of them to be trusted.
        first_failure: number and message of the first that failed; None without one.
        computed: trajectories that were computed this time, by all processes, in ``seconds``.
    """

    path: Path
    count: int
    failed: int
    reliable: int
    first_failure: tuple[int, str] | None
    computed: int
    seconds: float


def predict_many(
    model: Any,
    source: Any,
    output: Any,
    *,
    x: Any = None,
    times: Any = None,
    parameters: dict[str, Any] | None = None,
    input_x: Any = None,
    batch_size: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    compress: bool = False,
    diagnostics: Sequence[str] = (),
    quiet: bool = False,
    ranks: Ranks | None = None,
    **options: Any,
) -> Summary:
    """Predicts more trajectories than memory holds into a Zarr store, which ``xarray.open_zarr`` opens.

    The store has what `Prediction.to_xarray` has, coefficients left out: u (batch, time, *space), u0, parameters and
    the trust report, with units; trajectories that failed are NaN and say why in ``status`` and ``messages``. A run
    that was killed leaves ``<output>.partial``, from which ``resume`` goes on without computing a finished chunk
    again; the store is that of an unbroken run, bit by bit. Under torchrun the processes share the chunks.

    Args:
        model: what `pihc_zoo.from_pretrained` gives.
        source: an NPZ, netCDF, Zarr or HDF5 file, a mapping of arrays or an xarray Dataset, with u0 (batch, *space)
            and optionally positions by axis name, t (output times) and parameter_<name>; read by slices.
        output: the store, a folder.
        x, times: output positions and times, see `Surrogate.predict`; default those of the source or the problem.
        parameters: symbol → number or (batch,), before those of the source.
        input_x: positions of u0, before those of the source.
        batch_size: trajectories of a chunk, which are computed and written together; default: what 64 MiB hold (256
            on a GPU), 64 at most (512).
        resume: go on where a run of the same model, input and settings stopped; begin if there is none.
        overwrite: replace an existing store, when the new one is complete.
        compress: a smaller store, at several times the time to write it.
        diagnostics: names of further fields to write.
        quiet: show no progress.
        ranks: processes that have met; default: those that torchrun started.
        options: experts, max_steps, rtol, polish, on_failure of `Surrogate.predict`; "raise" is refused.

    Raises:
        ValueError: wrong input; a store that exists, or was begun with another model, weights, input or settings;
            xarray or zarr is not installed; a full disk.
    """
    if ranks is None:
        with Ranks.of_environment().together() as ranks:
            return predict_many(
                model, source, output, x=x, times=times, parameters=parameters, input_x=input_x, batch_size=batch_size,
                resume=resume, overwrite=overwrite, compress=compress, diagnostics=diagnostics, quiet=quiet,
                ranks=ranks, **options,
            )  # fmt: skip
    if options.get("on_failure") == "raise":
        raise ValueError("on_failure='raise' is not for many trajectories: failures are listed in the output")
    if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
    require_zarr()
    with open_source(source, model.problem) as opened:
        opened.parameters |= {key: np.asarray(to_numpy(value)) for key, value in (parameters or {}).items()}
        opened.check_parameters(model.problem, model.parameter_inputs)
        options |= {"x": x, "times": opened.times if times is None else times}
        options["input_x"] = input_x if input_x is not None else opened.positions or None
        job = _Job(model, opened, Output(output), options, tuple(diagnostics))
        begin = time.perf_counter()
        state = ranks.first(lambda: job.prepare(batch_size, resume, overwrite, compress))
        job.chunk, before = state["chunk"], state["done"]
        if not state["is_finished"]:
            job.compute(ranks, before, quiet)
            ranks.first(lambda: job.finish(state["request"]))
        summary = ranks.first(job.summary)
    computed = 0 if state["is_finished"] else opened.count - state["computed"]
    first = summary.pop("first_failure")
    return Summary(
        job.output.path, opened.count, **summary, first_failure=first and tuple(first), computed=computed,
        seconds=time.perf_counter() - begin,
    )  # fmt: skip


class _Job:
    """What is to be computed of a source, and where it goes."""

    def __init__(self, model: Any, source: Source, output: Output, options: dict[str, Any], diagnostics: tuple):
        self.model, self.source, self.output = model, source, output
        self.options, self.diagnostics, self.chunk = options, diagnostics, 1

    @property
    def num_chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.source.count // self.chunk)

    def _span(self, index: int) -> tuple[int, int]:
        return index * self.chunk, min((index + 1) * self.chunk, self.source.count)

    def _dataset(self, u0: np.ndarray, parameters: dict[str, np.ndarray]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # messages say it, and the summary counts
            prediction = self.model.predict(u0, parameters=parameters, **self.options)
        return prediction.to_xarray(self.diagnostics)

    # ------------------------------------------------------------------ before

    def prepare(self, batch_size: int | None, resume: bool, overwrite: bool, compress: bool) -> dict[str, Any]:
        """Lays the store out, or checks that one that was begun is this one."""
        found, is_finished = self.output.found(resume, overwrite)
        example = self._dataset(*self.source.rows(0, 1))
        row = sum(example.variables[name].nbytes for name in example.variables if "batch" in example[name].dims)
        self.chunk = batch_size or (found or {}).get("chunk size") or self._fitting(row)
        request = self._request(compress)
        done: set[int] = set()
        if found is None:
            weights = request["weights"]  # by file, where there are several
            weights = weights if isinstance(weights, str) else json.dumps(weights)
            example.attrs |= {"weights_sha256": weights, "version": __version__}
            self.output.lay_out(request, example, self.chunk, self.source.count, compress)
        else:
            self._check(found, request, is_finished)
            done = set(range(self.num_chunks)) if is_finished else self.output.finished()
        computed = sum(stop - first for first, stop in map(self._span, done))
        return {
            "chunk": self.chunk,
            "done": sorted(done),
            "computed": computed,
            "is_finished": is_finished,
            "request": request,
        }

    def _fitting(self, row: int) -> int:
        """Trajectories of a chunk, so many bytes each."""
        kind = getattr(getattr(self.model, "device", None), "type", "cpu")
        count = max(1, min(_LARGEST.get(kind, 64), _BYTES.get(kind, _BYTES["cpu"]) // max(1, row)))
        return count - count % _PASS if count >= _PASS else count

    def _request(self, compress: bool) -> dict[str, Any]:
        """Everything that determines the output, by the name that a refusal gives it; of the input what is not rows."""
        model = self.model
        u0, own = self.source.rows(0, 1)
        rest = {key: value for key, value in self.options.items() if key not in ("x", "times", "input_x")}
        checked = check_request(
            model.problem, model.parameter_inputs, u0, self.options["x"], self.options["times"], own,
            self.options["input_x"],
        )  # fmt: skip
        config = {key: value for key, value in model.config.items() if key not in ("weights_sha256", "digests")}
        settings = {**rest, "diagnostics": self.diagnostics, "compress": compress}
        return {
            "format": FORMAT,
            "version": __version__,
            "model": model.name,
            "weights": _weights(model),
            "configuration": hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest(),
            "number of trajectories": self.source.count,
            "input points": digest(checked.input_points),
            "times": digest({"t": checked.times}),
            "output points": digest(checked.points),
            "settings": {key: repr(value) for key, value in settings.items() if value is not None},
            "chunk size": self.chunk,
        }

    def _check(self, found: dict[str, Any], request: dict[str, Any], is_finished: bool) -> None:
        """Refuses to go on with something else than what was begun."""
        what = str(self.output.path if is_finished else self.output.work)
        for key, value in request.items():
            if found.get(key) != value:
                said = "" if isinstance(value, dict) or len(str(value)) > 40 else f": {found.get(key)!r}, now {value!r}"
                raise ValueError(f"{what!r} was begun with another {key}{said}; --overwrite begins anew")
        if is_finished:
            same = found.get("input") == _combined([self.source.digest(*self._span(i)) for i in range(self.num_chunks)])
        else:
            notes = self.output.notes()
            same = all(self.source.digest(*self._span(i)) == note["input"] for i, note in notes.items())
        if not same:
            raise ValueError(f"{what!r} was begun with another input: {self.source.name}; --overwrite begins anew")

    # ------------------------------------------------------------------ chunks

    def compute(self, ranks: Ranks, before: list[int], quiet: bool) -> None:
        """All chunks but those that were finished ``before``; the first process waits for the others'."""
        begin, known = time.perf_counter(), set(before)
        steps = self._steps(ranks, set(before))
        bar = progress(
            steps, "predict", start=len(before), total=self.num_chunks, quiet=quiet or not ranks.is_first, leave=False
        )
        for index in bar:
            known.add(index)
            done = sum(stop - first for first, stop in map(self._span, known.difference(before)))
            bar.set_postfix_str(f"{done / (time.perf_counter() - begin):.3g} trajectories/s")

    def _steps(self, ranks: Ranks, known: set[int]) -> Iterator[int]:
        """Chunks as they are finished: own ones, and with the first process those of the others."""
        own = [i for i in range(ranks.rank, self.num_chunks, ranks.world) if i not in known]
        for index in own:
            ranks.check()
            self._finish_chunk(index)
            new = self.output.finished() - known if ranks.world > 1 and ranks.is_first else {index}
            known |= new
            yield from new
        while ranks.is_first and len(known) < self.num_chunks:
            ranks.check()
            time.sleep(0.05)
            new = self.output.finished() - known
            known |= new
            yield from new

    def _finish_chunk(self, index: int) -> None:
        first, stop = self._span(index)
        u0, parameters = self.source.rows(first, stop)
        dataset = self._dataset(u0, parameters)
        is_failed = ~dataset.converged.values.reshape(stop - first, -1).all(axis=1)
        is_failed |= np.isfinite(dataset.failure_time.values)
        failed = np.flatnonzero(is_failed)
        note = {
            "input": digest({"u0": u0, **parameters}),
            "failed": len(failed),
            "reliable": int(dataset.is_reliable.values.sum()),
            "first_failure": [first + int(failed[0]), str(dataset.messages.values[failed[0]])] if len(failed) else None,
        }
        self.output.write(index, first, dataset, note)

    # ------------------------------------------------------------------ after

    def finish(self, request: dict[str, Any]) -> None:
        """The store as a whole."""
        notes = self.output.notes().values()
        failures = [note["first_failure"] for note in notes if note["first_failure"]]
        summary = {"failed": sum(note["failed"] for note in notes), "reliable": sum(note["reliable"] for note in notes)}
        found = {"input": _combined([note["input"] for note in notes]), "first_failure": (failures or [None])[0]}
        self.output.finish({**request, **summary, **found})

    def summary(self) -> dict[str, Any]:
        """What the finished store says of its trajectories."""
        return {key: self.output.request()[key] for key in ("failed", "reliable", "first_failure")}


def _combined(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _weights(model: Any) -> Any:
    """The digest of the weights file; of a model that was never saved, of its weights."""
    known = model.config.get("weights_sha256")
    if known or not hasattr(model, "network"):
        return known
    return digest({key: to_numpy(value) for key, value in model.network.state_dict().items()})
