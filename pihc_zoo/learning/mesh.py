"""How processes share the work: a mesh of batch shares (data) and shares of each batch's experts (expert)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..surrogate import Surrogate

AXES = ("data", "expert")


@dataclass(frozen=True)
class Place:
    """Which process this is, as torchrun says in the environment.

    Attributes:
        rank, world: of all processes.
        local_rank, local_world: of those on this machine.
        restarts: how often torchrun began anew.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    restarts: int = 0

    @classmethod
    def of_environment(cls) -> Place:
        """Raises ValueError where the environment is half set."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        given = {name: os.environ[name] for name in names if name in os.environ}
        if "WORLD_SIZE" not in given or given["WORLD_SIZE"] == "1":
            return cls(restarts=int(given.get("TORCHELASTIC_RESTART_COUNT", 0)))
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ValueError(
                f"WORLD_SIZE={given['WORLD_SIZE']} without {' and '.join(missing)}: start processes with torchrun"
            )
        try:
            rank, world, local_rank, local_world, restarts = (int(given.get(name, 0)) for name in names)
        except ValueError:
            raise ValueError(f"expected integers of torchrun in the environment, got {given}") from None
        return cls(rank, world, local_rank, local_world or world, restarts)


@dataclass(frozen=True)
class Mesh:
    """data × expert processes; those of one data share have consecutive ranks."""

    data: int = 1
    expert: int = 1

    @classmethod
    def parse(cls, text: str | None, world: int) -> Mesh:
        """ "data=2,expert=2"; an axis that is left out takes what remains of ``world`` processes.

        Raises:
            ValueError: unknown axes, or sizes whose product is not the number of processes.
        """
        sizes: dict[str, int] = {}
        for part in (text or "").split(",") if text else []:
            name, separator, value = part.strip().partition("=")
            if name not in AXES or name in sizes or not separator or not value.isdecimal() or int(value) < 1:
                raise ValueError(f"--mesh expects data=N,expert=M with positive integers, got {text!r}")
            sizes[name] = int(value)
        known = sizes.get("data", 1) * sizes.get("expert", 1)
        if world % known or (len(sizes) == len(AXES) and known != world):
            count = f"{world} process{'es' if world > 1 else ''}"
            raise ValueError(f"--mesh {text} does not divide {count}: start {known} with torchrun, or choose another")
        left = world // known
        return cls(sizes.get("data", left), sizes.get("expert", left if "data" in sizes else 1))

    def share(self, batch: int, data_index: int) -> range:
        """Places in the global batch of one data share; sizes differ by one at most."""
        return range(batch * data_index // self.data, batch * (data_index + 1) // self.data)

    def check(self, model: Surrogate, batch: int, parts: int) -> None:
        """Refuses what cannot be shared so.

        Args:
            batch: of the recipe.
            parts: in which each process takes its share, one after the other.

        Raises:
            ValueError: fewer trajectories than shares, experts that cannot be divided or depend on each other.
        """
        if self.data * parts > batch:
            raise ValueError(
                f"a batch of {batch} cannot be shared by {self.data * parts} ({self.data} data shares"
                f"{f' in {parts} parts each' if parts > 1 else ''}): choose fewer, or set training.batch"
            )
        if self.expert == 1:
            return
        decomposition = model.constraint.decomposition
        count, kind = decomposition.num_experts, type(decomposition).__name__.lower()
        if decomposition.is_joint:
            raise ValueError(
                f"--mesh expert={self.expert}: {kind} experts are coupled in one solve; choose independent ones "
                "(decomposition.name=disjoint or overlapping) or --mesh data=N alone"
            )
        if count % self.expert:
            raise ValueError(
                f"--mesh expert={self.expert} does not divide {count} expert{'s' if count > 1 else ''} "
                f"({kind}): choose a divisor, or --mesh data=N alone"
            )
