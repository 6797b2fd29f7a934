"""The tables of README.md, made from the metrics.json of the shipped models.

``python -m export.readme`` rewrites what stands between the markers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pihc_zoo.files import write_text
from pihc_zoo.text import percent
from pihc_zoo.zoo.loading import model_info
from pihc_zoo.zoo.registry import list_models

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: python -m export.readme -->", "<!-- end of results -->"


def _percent(fraction: float) -> str:
    return percent(fraction, decimals=3)


def _at_end(row: dict[str, Any]) -> str:
    return "–" if row.get("end_mean") is None else _percent(row["end_mean"])


def _beside(row: dict[str, Any]) -> str:
    """A classical solver: its time at equal error, or the error where it stopped."""
    name = row["name"].split(",")[0]
    return f"{name} {row['ms']:.2f} ms" if row["is_equal"] else f"{name} not reached ({_percent(row['error_mean'])})"


def _hardest(metrics: dict[str, Any]) -> str | None:
    """The set of held parameters with the largest error, where that is far above the first family's."""
    rows = [row for row in metrics.get("by_parameter") or () if "name" in row and row["error_mean"] is not None]
    first = next(iter(metrics["results"].values()))
    worst = max(rows, key=lambda row: row["error_mean"], default=None)
    if worst is None or worst["error_mean"] < 2 * first["mean"]:
        return None
    refused = f"; {worst['failed']} of {worst['count']} refused" if worst["failed"] else ""
    return f"{worst['name']}{refused} | {_percent(worst['error_mean'])} ({_percent(worst['error_max'])})"


def results_table() -> str:
    """Error of every shipped model beside the classical solvers at equal error, in Markdown."""
    lines = [
        "| model | test family | error mean (max) | mean at the end | ms per trajectory | classical, at equal error |",
        "|---|---|---|---|---|---|",
    ]
    for name in list_models():
        metrics = model_info(name).get("metrics")
        if not metrics:
            continue
        own = next(row for row in metrics["compare"] if row["name"] == "surrogate")
        for i, (family, row) in enumerate(metrics["results"].items()):
            cells = [f"`{name}`" if i == 0 else "", family.replace("_", " ")]
            cells += [f"{_percent(row['mean'])} ({_percent(row['max'])})", _at_end(row)]
            if i == 0:
                cells += [f"{own['ms']:.2f} (batch {own['batch']})", ", ".join(map(_beside, metrics["classical"]))]
            else:
                cells += ["", ""]
            lines.append("| " + " | ".join(cells) + " |")
        worst = _hardest(metrics)
        if worst is not None:
            lines.append(f"|  | {worst} |  |  |  |")
    return "\n".join(lines)


def rewritten(text: str) -> str:
    """README's text with fresh tables between the markers.

    Raises:
        ValueError: the markers are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the markers {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{results_table()}\n{END}{after}"


def main() -> int:
    """Rewrites README.md."""
    write_text(README, rewritten(README.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
