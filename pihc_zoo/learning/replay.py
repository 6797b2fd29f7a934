"""Where training windows of a roll-out start: a pool of the model's own end states.

Every place of the batch has slots of its own in the pool. A step takes one of them at random for each place, and
the end states, detached, go back into them, so that windows start where the model's own predictions lead. A
trajectory begins anew from the family at the last window, when its state leaves the range or is not finite, and
now and then at random. Whoever computes some places of the batch holds their slots and no others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import Purpose, Source


class ReplayPool:
    """States, ages and parameters of the slots of some places.

    Args:
        source: of initial values and parameters, see `draws.Source`.
        places: (count,) int64 places of the batch that are computed here, on the device.
        batch: how many places there are elsewhere and here.
        size: number of trajectories of all places; rounded up to a multiple of ``batch``.
        num_windows: after so many windows a trajectory ends.
        bound: largest absolute value of a state.
        restart: probability of a new beginning after any window.

    Attributes:
        states: (count, slot, *space) float64.
        ages: (count, slot) windows since the beginning.
        parameters: (count, slot) by symbol.
    """

    def __init__(
        self, source: Source, places: Tensor, batch: int, size: int, num_windows: int, bound: float, restart: float
    ):
        self.source, self.places = source, places
        self.num_windows, self.bound, self.restart = num_windows, bound, restart
        self.num_slots = -(-size // batch)
        self.is_looked_at = places.device.type == "cpu"  # whether any begins anew: on a host it costs nothing to look
        self._rows = torch.arange(len(places), device=places.device)
        slots = places[:, None] + batch * torch.arange(self.num_slots, device=places.device)
        states, parameters = source(0, slots.flatten(), Purpose.POOL)
        self.states = states.unflatten(0, slots.shape)
        self.parameters = {key: value.unflatten(0, slots.shape) for key, value in parameters.items()}
        self.ages = torch.zeros_like(slots)

    def _draws(self, step: int) -> tuple[Tensor, Tensor]:
        """(count,) slots and whether to begin anew after them, of a step."""
        draws = self.source.draws(step, self.places, Purpose.CHOICE)
        return draws.integers(0, self.num_slots).long(), draws.uniform(0.0, 1.0) < self.restart

    def take(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """States (count, *space) and parameters (count,) of a slot of each place."""
        at = self._rows, self._draws(step)[0]
        return self.states[at], {key: value[at] for key, value in self.parameters.items()}

    def put(self, step: int, states: Tensor) -> Tensor:
        """Puts the end states (count, *space) of what `take` gave back; returns which were out of range or not finite.

        Nothing waits for a device.
        """
        slots, is_over = self._draws(step)
        at = self._rows, slots
        states = states.detach().to(self.states)
        is_bad = ~(states.flatten(1).abs().amax(dim=1) < self.bound)
        ages = self.ages[at] + 1
        is_over = is_over | is_bad | (ages >= self.num_windows)
        if not self.is_looked_at or is_over.any():
            fresh, parameters = self.source(step, self.places, Purpose.FRESH)
            states = torch.where(is_over.reshape(-1, *[1] * (states.dim() - 1)), fresh, states)
            for key, value in parameters.items():
                self.parameters[key][at] = torch.where(is_over, value, self.parameters[key][at])
        self.states[at] = states
        self.ages[at] = torch.where(is_over, 0, ages)
        return is_bad

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint holds, a row per place."""
        return {"states": self.states, "ages": self.ages, **{f"c_{k}": v for k, v in self.parameters.items()}}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for key, value in self.tensors().items():
            value.copy_(tensors[key])
