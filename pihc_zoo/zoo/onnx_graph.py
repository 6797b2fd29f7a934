"""Export of the whole pipeline to one ONNX graph: lift, network, expert solves, readout and report.

The graph takes initial conditions and coefficient fields at the problem's native points (and one value per trajectory
of each parameter that the model takes as input) and gives the solution on the problem's default output grid. Where the
problem is steady, it takes no initial conditions. The batch is dynamic; solves are in float64 and end early, as in
eager mode. What depends on fixed parameters alone is constant.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..arrays import to_numpy
from ..families import sample_parameters
from ..files import atomic_path
from ..prediction.predict import Inference
from ..prediction.request import Request
from ..status import Status, is_converged
from .folder import ONNX_FILE, record

if TYPE_CHECKING:
    from ..surrogate import Surrogate

OPSET = 20
PARITY = 1e-5  # relative L2 difference to eager mode that an export may have
OUTPUTS = {
    "u": "(batch, time, *space[, field]) solution; the slice at t = 0 is u0",
    "coefficients": "(batch, subproblem, coefficient) of the basis functions",
    "residual": "(batch,) relative L2 norm of the mapped residual, dimensionless",
    "residual_per_expert": "(batch, expert) its part in each expert's subdomain",
    "estimated_error": "(batch,) estimated relative L2 error, dimensionless",
    "converged": "(batch, subproblem) whether the solve converged",
    "status": "(batch, subproblem) integers of pihc_zoo.Status",
    "iterations": "(batch, subproblem) solver steps",
    "unresolved": "(batch,) relative L2 norm of what the nodes do not resolve of u0",
    "u_nodes": "(batch, closed time, *closed space[, field]) solution at the model's own nodes, walls and start too",
    "residual_nodes": "(batch, closed time, *closed space[, field]) mapped residual there, in the unit of u",
    "estimated_error_nodes": "(batch, fine time, *fine space[, field]) estimated u − u_true on the refined grid",
}


class Pipeline(nn.Module):
    """The prediction of a surrogate as a function of tensors, on the problem's own grids.

    Args:
        model: copied; runs on the CPU.
        max_steps: overrides the solver's.
    """

    def __init__(self, model: Surrogate, max_steps: int | None = None):
        super().__init__()
        self.model = copy.deepcopy(model).to("cpu").eval().requires_grad_(False)
        solver = self.model.constraint.solver
        self.solver = solver if max_steps is None else dataclasses.replace(solver, max_steps=max_steps)
        if not self.input_names:
            raise ValueError("export to ONNX needs an input; this model of a steady problem has none")
        if self.model.num_windows != 1:
            raise ValueError(
                f"export to ONNX takes models of one time window, not roll-outs; this one has {self.model.num_windows}"
            )

    @property
    def input_names(self) -> tuple[str, ...]:
        """u0, but for steady problems; the parameters that the model takes as input; coefficient fields."""
        problem = self.model.problem
        start = () if problem.duration is None else ("u0",)
        return (*start, *self.model.parameter_inputs, *problem.coefficients)

    def example(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Inputs inside the trained ranges: u0 (batch, *space[, field]), numbers (batch,), fields and series."""
        rng, problem = np.random.default_rng(seed), self.model.problem
        axes, fields = list(problem.output_space.values()), []
        for low, high in problem.trained_ranges(self.model.config["trust"]).values():
            waves = rng.uniform(0.1, 0.4, (batch, *[1] * len(axes)))
            for i, axis in enumerate(axes):
                shape = (batch, *[1] * len(axes))
                phase, mode = rng.uniform(0, 2 * np.pi, shape), rng.integers(1, 3 if axis.is_periodic else 5, shape)
                relative = (axis.nodes - axis.start) / (axis.stop - axis.start)
                angle = np.pi * mode * relative.reshape(-1, *[1] * (len(axes) - 1 - i))
                waves = waves * np.sin((2 if axis.is_periodic else 1) * angle + phase)
            fields.append(low + (high - low) * (0.5 + waves))
        u0 = np.stack(fields, axis=-1) if problem.is_system else fields[0]
        parameters = sample_parameters(problem, self.model.parameter_inputs, batch, rng)
        values = {"u0": u0, **parameters}
        return tuple(torch.as_tensor(values[name], dtype=torch.float64) for name in self.input_names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `OUTPUTS` for the inputs, in the order of `input_names`."""
        model, problem = self.model, self.model.problem
        given = dict(zip(self.input_names, inputs, strict=True))
        c: dict[str, Any] = dict(problem.defaults())
        c |= {name: value for name, value in given.items() if name != "u0"}
        points = {name: axis.nodes for name, axis in problem.output_space.items()}
        u0 = given.get("u0")
        if u0 is None:
            u0 = inputs[0].new_zeros(inputs[0].shape[0], *problem.native_shape)
        times = np.asarray(problem.output_times)
        request, c_tensors = Request(np.empty(0), points, points, times, c), model.tensors(c)
        request.num_fields = len(problem.fields)
        inference = Inference(model, request, model.constraint.decomposition, self.solver)
        found = inference.compute(model.inward(u0), c_tensors)
        results = {name: getattr(found, name) for name in OUTPUTS if hasattr(found, name)}
        results["converged"] = is_converged(found.status)
        for name, (own,) in found.fields.items():
            results[f"{name}_nodes"] = own.discretisation.closed(own.field)
        for name in ("u", *(f"{name}_nodes" for name in found.fields)):
            results[name] = model.outward(results[name])
        return tuple(results[name].clone() for name in OUTPUTS)


def export_onnx(model: Surrogate, path: str | os.PathLike, max_steps: int | None = None) -> Path:
    """Writes the model's graph to ``path`` (a file, or a folder for its model.onnx).

    The graph is checked by onnx, run by onnxruntime and compared with eager mode before the file
    appears.

    Args:
        model: what to export.
        path: the file, or the model folder.
        max_steps: largest number of solver steps; the model's own when None.

    Raises:
        ValueError: onnx, onnxscript or onnxruntime is not installed, the graph differs from eager
            mode, or the file cannot be written.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 (needed by the check)
        import onnxscript  # noqa: F401 (needed by torch.onnx)
    except ImportError as error:
        raise ValueError(f"export to ONNX needs {error.name}; install: pip install 'pihc_zoo[onnx]'") from None
    path = Path(path)
    if path.is_dir():
        path = path / ONNX_FILE
    pipeline = Pipeline(model, max_steps)
    graph = export_module(pipeline, pipeline.example(11), pipeline.input_names, tuple(OUTPUTS))
    for key, value in metadata(pipeline, model.name).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(graph, full_check=True)
    with atomic_path(path) as temporary:
        onnx.save_model(graph, str(temporary))
        check_parity(temporary, pipeline)
    record(path.parent, path.name)
    return path


def export_module(
    module: nn.Module, inputs: tuple[Tensor, ...], input_names: tuple[str, ...], output_names: tuple[str, ...]
) -> Any:
    """The onnx.ModelProto of a module ``forward(*inputs)``; the first dimension of inputs is the batch.

    The example's batch must differ from every other size of the module, or they could be mixed up.
    """
    from .onnx_functions import TRANSLATIONS

    with torch.no_grad():
        module(*inputs)  # fills caches, so that what does not depend on the inputs is constant
        batch = torch.export.Dim("batch", min=1)
        with _quiet():
            exported = torch.export.export(module, inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),))
            program = torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=list(output_names),
                custom_translation_table=TRANSLATIONS,
                optimize=False,
                verbose=False,
            )
    _tidy(program.model)
    return program.model_proto


def _tidy(graph: Any) -> None:
    """Folds constants, drops what is unused, computed twice or of no use elsewhere.

    The exporter's own optimiser also tries every rewriting pattern on every node, which takes minutes.
    """
    import onnx_ir.passes.common as passes
    from onnxscript.optimizer import fold_constants

    passes.InlinePass()(graph)
    fold_constants(graph)
    passes.CommonSubexpressionEliminationPass()(graph)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    passes.RemoveUnusedNodesPass()(graph)
    passes.ClearMetadataAndDocStringPass()(graph)  # stack traces and paths of the exporting machine


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's progress and deprecation notes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def metadata(pipeline: Pipeline, name: str) -> dict[str, str]:
    """Metadata of the graph: what its inputs and outputs are, on which grid, of which model."""
    model, problem = pipeline.model, pipeline.model.problem
    numbers = {key: problem.parameters[key] for key in model.parameter_inputs}
    taken = numbers | problem.coefficients
    units = {**problem.units, **{key: own.unit for key, own in taken.items()}}
    ranges = {key: [own.low, own.high] for key, own in taken.items()}
    sizes = ", ".join(map(str, problem.native_shape))
    where = " and ".join(f"grid['{name}']" for name in problem.output_space)
    of_fields = f" of the fields {', '.join(problem.fields)}" if problem.is_system else ""
    words = {"u0": f"(batch, {sizes}) initial condition{of_fields} at the points of {where}, float64"}
    words |= {key: f"(batch,) {own.description}, float64" for key, own in numbers.items()}
    words |= {
        key: f"(batch, {', '.join(map(str, problem.coefficient_shape(key)))}) {own.description} at the points of "
        + ("grid['t'], float64" if own.is_series else f"{where}, float64")
        for key, own in problem.coefficients.items()
    }
    grid = {name: list(axis.nodes) for name, axis in problem.output_space.items()}
    grid["t"] = list(problem.output_times)
    decomposition = model.constraint.decomposition
    entries = {
        "inputs": {name: words[name] for name in pipeline.input_names},
        "outputs": OUTPUTS,
        "units": units,
        "parameter_ranges": ranges,
        "fixed_parameters": {k: v for k, v in problem.defaults().items() if k not in model.parameter_inputs},
        "grid": grid,
        "experts": {"name": type(decomposition).__name__.lower(), "counts": decomposition.counts},
        "max_steps": pipeline.solver.max_steps,
        "status": {int(status): status.message for status in Status},
        "weights_sha256": model.config.get("weights_sha256"),
    }
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in entries.items()}
    return {"format": "pihc_zoo", "version": __version__, "model": name, "problem": problem.name, **texts}


def check_parity(path: Path, pipeline: Pipeline, batches: tuple[int, ...] = (1, 3)) -> float:
    """Largest relative L2 difference of the field between onnxruntime and eager mode.

    Raises:
        ValueError: the difference exceeds `PARITY`, or an expert's outcome differs.
    """
    from .onnx_backend import create_session

    session = create_session(path)
    worst = 0.0
    for batch in batches:
        inputs = pipeline.example(batch, seed=batch)
        with torch.no_grad():
            expected = dict(zip(OUTPUTS, map(to_numpy, pipeline(*inputs)), strict=True))
        feed = dict(zip(pipeline.input_names, map(to_numpy, inputs), strict=True))
        got = dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True))
        difference = np.linalg.norm(got["u"] - expected["u"]) / np.linalg.norm(expected["u"])
        worst = max(worst, float(difference))
        if not difference <= PARITY or (got["converged"] != expected["converged"]).any():
            raise ValueError(
                f"the exported graph differs from the model by {difference:.1e} (allowed {PARITY:.0e}); "
                "the file was not written"
            )
    return worst
