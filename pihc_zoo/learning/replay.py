"""Where training windows of a roll-out start: a pool of the model's own end states.

A step takes a batch from the pool, and its end states, detached, go back in their places, so that
windows start where the model's own predictions lead. A trajectory begins anew from the family at the
last window, when its state leaves the range or is not finite, and now and then at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Draw = Callable[[int, np.random.Generator], tuple[Tensor, dict[str, np.ndarray]]]


class ReplayPool:
    """States and their ages.

    Args:
        draw: count, rng ↦ initial values at the nodes (count, *space) and input parameters (count,).
        size: number of trajectories.
        num_windows: after so many windows a trajectory ends.
        bound: largest absolute value of a state.
        restart: probability of a new beginning after any window.
        rng: of the first draws.
    """

    def __init__(self, draw: Draw, size: int, num_windows: int, bound: float, restart: float, rng: np.random.Generator):
        self.draw, self.num_windows, self.bound, self.restart = draw, num_windows, bound, restart
        self.states, parameters = draw(size, rng)
        self.parameters = {key: torch.as_tensor(value) for key, value in parameters.items()}
        self.ages = torch.zeros(size, dtype=torch.int64)

    def take(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Places (count,), states (count, *space) and parameters (count,) of a random batch."""
        places = torch.as_tensor(rng.choice(len(self.ages), size=count, replace=False))
        return places, self.states[places], {key: value[places] for key, value in self.parameters.items()}

    def put(self, places: Tensor, states: Tensor, rng: np.random.Generator) -> int:
        """Puts end states back; returns how many had left the range or were not finite."""
        states = states.detach()
        is_bad = ~(states.flatten(1).abs().amax(dim=1).cpu() < self.bound)
        ages = self.ages[places] + 1
        is_over = is_bad | (ages >= self.num_windows) | torch.as_tensor(rng.uniform(size=len(places)) < self.restart)
        fresh, parameters = self.draw(int(is_over.sum()), rng) if is_over.any() else (states[:0], {})
        states = states.clone()
        states[is_over.to(states.device)] = fresh.to(states)
        self.states[places] = states
        self.ages[places] = torch.where(is_over, 0, ages)
        for key, value in parameters.items():
            self.parameters[key][places[is_over]] = torch.as_tensor(value)
        return int(is_bad.sum())

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint holds."""
        return {"states": self.states, "ages": self.ages, **{f"c_{k}": v for k, v in self.parameters.items()}}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        self.states, self.ages = tensors["states"].to(self.states), tensors["ages"]
        self.parameters = {key: tensors[f"c_{key}"] for key in self.parameters}
