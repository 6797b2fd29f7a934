"""What commands print: warnings, tables, times and equations."""

from __future__ import annotations

import re
import sys
from typing import Any

from ..text import one_line


def warn(message: Any) -> None:
    """Prints a warning, one line on stderr."""
    print(f"warning: {one_line(message)}", file=sys.stderr)


def table(rows: list[list[str]]) -> str:
    """Left-aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def spread(row: dict[str, Any]) -> str:
    """Median, lowest and highest time of a row in milliseconds."""
    return f"{row['ms']:.2f} ({row['ms_lowest']:.2f} – {row['ms_highest']:.2f})"


def plain_equation(latex: str) -> str:
    """An equation of the simple LaTeX that problems use, as plain text."""

    def fraction(match: re.Match) -> str:
        return "/".join(part if re.fullmatch(r"\\?\w+", part) else f"({part})" for part in match.groups()) + " "

    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", fraction, latex)
    text = re.sub(r"\\(begin|end)\{aligned\}|&", "", text).replace("\\\\", "\n           ").strip()
    text = re.sub(r"\\mathbf\{(\w+)\}", r"\1", text)
    text = text.replace(r"\quad", "  ").replace(r"\,", " ").replace("\\ ", " ")
    greek = {"varepsilon": "ε", "delta": "δ", "phi": "φ", "psi": "ψ", "rho": "ρ", "nu": "ν", "Delta": "Δ"}
    greek |= {"nabla": "∇", "cdot": "·"}
    for name, symbol in greek.items():
        text = text.replace(f"\\{name}", symbol)
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
    return re.sub(r"_\{([^{}]*)\}", r"_\1", text)
