"""References for validation, shared by several processes: converged classical solutions that training never sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pihc_zoo.evaluation import ReferenceSet
from pihc_zoo.learning.distributed import Processes


class SharedReferences:
    """References that the first process makes and tells the others; each predicts its share of them.

    Args:
        make: makes them, on the first process.
    """

    def __init__(self, processes: Processes, make: Callable[[], ReferenceSet]):
        made: list[ReferenceSet] = []

        def work() -> dict[str, Any]:
            made.append(make())
            arrays = {"u0": made[0].u0, "u": made[0].u, **{f"c_{k}": v for k, v in made[0].parameters.items()}}
            return {key: [list(value.shape), str(value.dtype)] for key, value in arrays.items()}

        shapes = processes.first(work)
        if processes.is_first:
            references = made[0]
        else:
            empty = {key: np.empty(shape, dtype) for key, (shape, dtype) in shapes.items()}
            parameters = {key[2:]: value for key, value in empty.items() if key.startswith("c_")}
            references = ReferenceSet(empty["u0"], parameters, empty["u"])
        arrays = [references.u0, references.u, *references.parameters.values()]
        processes.broadcast([torch.from_numpy(np.asarray(array)) for array in arrays])
        self.processes, self.references = processes, references

    def errors(self, model) -> np.ndarray:
        """(batch,) relative L2 errors of the model's predictions, the same on all processes; NaN where it failed."""
        processes = self.processes
        if processes.world == 1:
            return self.references.errors(model)
        count = len(self.references)
        own = np.arange(count)[processes.place.rank :: processes.world]
        errors = torch.zeros(count, dtype=torch.float64, device=model.device)
        if len(own):
            errors[torch.as_tensor(own)] = torch.as_tensor(self.references.take(own).errors(model), device=model.device)
        processes.reduce(errors)
        return errors.cpu().numpy()
