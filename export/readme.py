"""The tables of README.md, made from the metrics.json of the shipped models.

``python -m export.readme`` rewrites what stands between the markers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pihc_zoo.prediction import atomic_path
from pihc_zoo.zoo.registry import list_models, model_info

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: python -m export.readme -->", "<!-- end of results -->"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3f} %"


def results_table() -> str:
    """Error of every shipped model beside the classical solvers at equal error, in Markdown."""
    lines = [
        "| model | test family | error mean (max) | ms per trajectory | Picard at equal error | LSODA at equal error |",
        "|---|---|---|---|---|---|",
    ]
    for name in list_models():
        metrics = model_info(name).get("metrics")
        if not metrics:
            continue
        own = next(row["ms"] for row in metrics["compare"] if row["name"] == "surrogate")
        others = {row["name"].split(",")[0]: row for row in metrics["classical"]}
        for i, (family, row) in enumerate(metrics["results"].items()):
            cells = [f"`{name}`" if i == 0 else "", family.replace("_", " ")]
            cells.append(f"{_percent(row['mean'])} ({_percent(row['max'])})")
            if i == 0:
                cells.append(f"{own:.2f}")
                for solver in ("Picard", "LSODA"):
                    other = others[solver]
                    cells.append(
                        f"{other['ms']:.2f} ms"
                        if other["is_equal"]
                        else f"not reached ({_percent(other['error_mean'])})"
                    )
            else:
                cells += ["", "", ""]
            lines.append("| " + " | ".join(cells) + " |")
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
    text = rewritten(README.read_text(encoding="utf-8"))
    with atomic_path(README) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
