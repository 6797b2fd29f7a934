"""Figures of metrics.json as the rows and sentences of a card (no torch)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..text import NONE, number, percent

_PERCENT = ("error_mean", "error_max", "mean", "median", "max", "end_mean", "end_max")
_PLAIN = ("name", "note", "decomposition", "experts", "max_steps", "batch", "seed", "minutes", "ms", "count")
_PLAIN += ("points", "window", "t", "steps", "parameter")
_FALL = 0.2  # by how much an error must fall for an ingredient to pay
_SHOWN_WAVES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_SHOWN_TIMES = 9
_AS_GOOD = 1.05  # ratio of errors, or of times, that makes no difference


def verdict(metrics: dict[str, Any]) -> tuple[str, bool]:
    """A sentence on the fastest classical solver that is at least as accurate, and whether it wins.

    The model's time is the one that was taken beside the solvers', if there is one.
    """
    rows = [*(metrics.get("compare") or ()), *(metrics.get("ladder") or ())]
    names = ("surrogate", "trained")
    ours = next((row for name in names for row in rows if str(row.get("name", "")).lower().startswith(name)), {})
    if ours.get("error_mean") is None or ours.get("ms") is None:
        return "", False
    rivals = [
        row
        for row in metrics.get("classical") or ()
        if row.get("ms") is not None and (row.get("error_mean") or np.inf) <= ours["error_mean"]
    ]
    figures = f"{percent(ours['error_mean'])} in {number(ours['ms'])} ms per trajectory"
    if not rivals:
        return f"No classical solver below is as accurate as this model ({figures}).", False
    best = min(rivals, key=lambda row: row["ms"])
    wins = best["ms"] < ours["ms"]
    compared = "faster" if wins else "slower"
    ratio = max(best["ms"], ours["ms"]) / min(best["ms"], ours["ms"])
    return (
        f"At equal or smaller error, {best['name']} needs {number(best['ms'])} ms per trajectory for "
        f"{percent(best['error_mean'])}: {number(ratio)} times {compared} than this model ({figures}).",
        wins,
    )


def sufficient(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The lowest rung of the ladder that is as good as the whole method, and no dearer; None where there is none."""
    rows = [row for row in metrics.get("ladder") or () if row.get("error_mean") is not None]
    if not rows or not rows[-1]["name"].startswith("trained"):
        return None
    whole, others = rows[-1], rows[:-1]
    own = [
        row
        for row in others
        if row["error_mean"] <= _AS_GOOD * whole["error_mean"]
        and row["failed"] <= whole["failed"]
        and row["ms"] <= _AS_GOOD * whole["ms"]
    ]
    return own[0] if own else None


def ladder_verdict(metrics: dict[str, Any]) -> str:
    """Which rung of the ladder suffices."""
    rows = [row for row in metrics.get("ladder") or () if row.get("error_mean") is not None]
    if not rows or not rows[-1]["name"].startswith("trained"):
        return ""
    own = sufficient(metrics)
    if own is None:
        best = min(rows[:-1], key=lambda row: row["error_mean"], default=None)
        if best is None or not best["error_mean"]:
            return ""
        ratio = number(best["error_mean"] / rows[-1]["error_mean"])
        return f"The trained network pays: the best rung below it, {best['name']}, errs {ratio} times as much."
    return (
        f"Enough already: {own['name']}, {percent(own['error_mean'])} in {number(own['ms'])} ms per trajectory; the "
        f"whole method {percent(rows[-1]['error_mean'])} in {number(rows[-1]['ms'])} ms. What is learned adds nothing "
        "on these fields."
    )


def errors(row: dict[str, Any]) -> dict[str, str]:
    """A row as text: errors in per cent, numbers short, what is missing as a dash."""
    text = {key: percent(row.get(key)) for key in _PERCENT}
    return text | {key: "" if key == "note" and row.get(key) is None else cell(row.get(key)) for key in _PLAIN}


def cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return number(value) if isinstance(value, float) else NONE if value is None else str(value).replace("|", "\\|")


def words(key: str) -> str:
    return str(key).replace("_", " ")


def honesty_rows(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What a search for dishonest estimates found, as text; None where there was none."""
    found = metrics.get("honesty")
    if not found:
        return None
    worst = []
    for case in found["worst"]:
        inputs = [f"{key} = {number(value)}" for key, value in case["parameters"].items()]
        span = f"values {number(case['range'][0])} to {number(case['range'][1])}"
        worst.append(
            {
                "ratio": number(case["error"] / case["estimate"]),
                "error": percent(case["error"], digits=3),
                "estimate": percent(case["estimate"], digits=3),
                "input": ", ".join([case["kind"], case["request"], span, *inputs]),
            }
        )
    share = found["right_and_reliable"] / found["right"] if found["right"] else None
    return {
        **found,
        "worst": worst,
        "share": percent(share),
        "error_max": percent(found["error_max_reliable"], digits=3),
    }


# ---------------------------------------------------------------------- roll-outs


def parameter_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of ``by_parameter``: bins of a parameter's range, and sets with parameters held fixed."""
    rows = []
    for row in metrics.get("by_parameter") or ():
        if "name" in row:
            held = ", ".join(f"{key} = {number(value)}" for key, value in row["values"].items())
            held = f"{held} ({words(row['name'])})"
        else:
            held = f"{number(row['low'])} … {number(row['high'])}"
        failed = f" ({row['failed']} failed)" if row.get("failed") else ""
        rows.append({**errors(row), "held": held, "count": f"{row['count']}{failed}"})
    return rows


def time_columns(metrics: dict[str, Any]) -> dict[str, list[str]]:
    """A few times and the mean errors then; {} if they were not measured."""
    measured = metrics.get("error_over_time")
    if not measured:
        return {}
    shown = np.unique(np.linspace(0, len(measured["t"]) - 1, _SHOWN_TIMES).round().astype(int))
    return {"t": [number(measured["t"][i]) for i in shown], "mean": [percent(measured["mean"][i]) for i in shown]}


def spectrum_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Headings, a row per shown wave number, and a sentence per quantity."""
    spectra = metrics.get("spectra") or {}
    headings, table, sentences = ["wave number"], {}, []
    for name, own in spectra.items():
        headings += [f"{name}, model", f"{name}, truth"]
        for k, model, truth in zip(own["k"], own["surrogate"], own["truth"], strict=True):
            if k in (*_SHOWN_WAVES, own["band"]) and k <= own["band"]:
                table.setdefault(k, [str(k)]).extend([number(model), number(truth)])
        sentences.append(
            f"Up to wave number {own['band']}, the highest of the model's grid, the {name} spectrum deviates by at "
            f"most {percent(own['deviation'])} (at {own['deviation_k']})."
        )
    return headings, list(table.values()), sentences


def drift_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Conserved and other integral quantities at the final time."""
    drift, rows = metrics.get("drift") or {}, []
    for name, value in drift.items():
        if isinstance(value, dict):
            rows.append((f"{name}, relative error", f"mean {percent(value['mean'])}, max {percent(value['max'])}"))
    if drift.get("mean_of_field") is not None:
        rows.append(("space average, largest change", number(drift["mean_of_field"])))
    if drift.get("divergence") is not None:
        rows.append(("divergence of the velocity, largest value", number(drift["divergence"])))
    return rows


def ablation_verdict(metrics: dict[str, Any]) -> str:
    """What constraint and experts bring against PI-SC, at equal training time, with their inference times."""
    own: dict[str, list[dict[str, Any]]] = {}
    for row in metrics.get("training_ablation") or ():
        own.setdefault(row["name"], []).append(row)
    base = own.pop("PI-SC", [])
    others = {name: own[name] for name in ("PI-HC", "PI-HC-MoE") if name in own}
    if not base or not others or any(row.get("ms") is None for rows in (base, *others.values()) for row in rows):
        return ""

    def means(rows: list[dict[str, Any]]) -> tuple[float, float]:
        failed = any(row.get("failed") or row["error_mean"] is None for row in rows)
        return np.inf if failed else float(np.mean([row["error_mean"] for row in rows])), float(
            np.mean([row["ms"] for row in rows])
        )

    error, ms = means(base)
    seeds = f"{len(base)} seed{'s' * (len(base) != 1)}"
    if not np.isfinite(error):
        return f"Equal training time, {seeds}: PI-SC failed, so that there is nothing to compare with."
    parts = []
    for name, rows in others.items():
        other, other_ms = means(rows)
        if not np.isfinite(other):
            parts.append(f"{name} failed")
            continue
        fall = 1 - other / error
        change = f"{number(100 * abs(fall), 2)} % {'less' if fall >= 0 else 'more'}"
        pays = "it pays" if fall >= _FALL else "it does not pay"
        parts.append(
            f"{name} errs {change} ({percent(other)}) in {number(other_ms / ms, 2)} times its inference time: {pays}"
        )
    return (
        f"Equal training time, means over {seeds}: PI-SC errs {percent(error)} in {number(ms)} ms per trajectory; "
        f"{'; '.join(parts)} (to pay is to err at least {number(100 * _FALL)} % less)."
    )
