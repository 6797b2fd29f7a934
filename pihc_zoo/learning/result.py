"""What `finetune` returns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .history import History, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..surrogate import Surrogate


@dataclass(repr=False)
class Finetuned:
    """A tuned model and what tuning did.

    Attributes:
        model: the tuned surrogate, or the given one where nothing was better.
        history: errors, reviews, what was changed, why it ended.
    """

    model: Surrogate
    history: History

    @property
    def before(self) -> Measured:
        """Errors of the given model on the held-out part, under the new constants if there are any."""
        return self.history.before

    @property
    def after(self) -> Measured:
        """Errors of the returned model on the held-out part."""
        return self.history.after

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """Draws the held-out error over the steps, and that of each trajectory before and after.

        Args:
            path: .png, .pdf or .svg to write.

        Raises:
            ValueError: no matplotlib, or the file cannot be written.
        """
        from ..plotting.tuning import plot_tuning

        return plot_tuning(self.history, path)

    def __repr__(self) -> str:
        return f"Finetuned({self.model.name or 'surrogate'}: {self.history.summary().splitlines()[0]})"

    def __getattr__(self, name: str):
        if name.startswith("__") or name not in (
            "predict",
            "save_pretrained",
            "push_to_hub",
            "trust",
            "network",
            "name",
        ):
            raise AttributeError(f"a fine-tuning's result has no {name!r}; it has model, history, before, after, plot")
        raise AttributeError(f"finetune returns a result, and {name!r} is the model's: use tuned.model.{name}")

    def __call__(self, *arguments, **options):
        raise TypeError("finetune returns a result, not a model: call tuned.model(u0, parameters)")
