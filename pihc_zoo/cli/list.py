"""``pihc list``: a line per shipped model."""

from __future__ import annotations

import argparse
from typing import Any

from ..text import percent
from .printing import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc list``."""
    parser.add_argument("pattern", nargs="?", default="*", help="shell-style pattern on the name, e.g. 'diffusion*'")


def run(options: argparse.Namespace) -> int:
    """Prints a line per shipped model."""
    from ..problems import PROBLEMS, problem_of
    from ..zoo.loading import model_info
    from ..zoo.registry import list_models, shipped_folder

    names = list_models(options.pattern)
    if not names:
        raise ValueError(f"no model matches {options.pattern!r}; known: {', '.join(list_models())}")
    rows = [["model", "equation", "parameters as input", "mean error", "weights"]]
    for name in names:
        info = model_info(name)
        problem = info["config"]["problem"]
        is_known = "equations" in problem or problem["name"] in PROBLEMS
        size = sum(path.stat().st_size for path in shipped_folder(name).glob("model*.safetensors"))
        rows.append(
            [
                name,
                problem_of(problem)[0].title if is_known else problem["name"],
                ", ".join(problem.get("inputs", ())) or "none",
                percent(_stated_error(info)),
                f"{size / 1e6:.2f} MB",
            ]
        )
    print(table(rows))
    return 0


def _stated_error(info: dict[str, Any]) -> float | None:
    """The largest mean error over the families that the model was tested on."""
    results = info.get("metrics", {}).get("results", {})
    means = [row["mean"] for row in results.values() if row.get("mean") is not None]
    return max(means, default=None)
