"""``pihc evaluate``: measures error, speed and trust of a model, and prints the tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..files import check_writable, write_text
from ..text import percent
from .arguments import add_device, check_count, load_model, positive, seed
from .printing import spread, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc evaluate``."""
    parser.add_argument("model", help="name, folder or Hub id")
    parser.add_argument("--count", type=positive, default=32, help="initial conditions per family (default 32)")
    parser.add_argument("--seed", type=seed, default=0, help="which initial conditions")
    parser.add_argument("--family", action="append", metavar="NAME", help="only this test family; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--quick", action="store_true", help="fewer trajectories and repeats")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Measures a model and prints the tables."""
    if options.json is not None:
        check_writable(options.json)
    model = load_model(options)
    problem = model.problem
    shape = (len(problem.output_times), *(len(axis.nodes) for axis in problem.output_space.values()))
    check_count(options.count, shape, "--count")
    from ..zoo.folder import record
    from ..zoo.testing import evaluate

    report = evaluate(model, options.family, options.count, options.seed, quick=options.quick, quiet=options.quiet)
    print_report(report)
    if "backends" in report:
        _print_backends(report["backends"])
    else:
        print("\nNo model.onnx beside the weights: pihc export MODEL --to DIR --onnx makes one, evaluate DIR then")
    if options.json is not None:
        write_text(options.json, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        record(options.json.parent, options.json.name)
        print(f"\nwritten to {options.json}")
    return 0


def _print_backends(measured: list[dict[str, Any]]) -> None:
    """Prints what `evaluation.compare_backends` returns."""
    print("\nBackends")
    rows = [["backend", "batch", "ms per trajectory", "difference", "time / torch's"]]
    for r in measured:
        ratio = "rejected: answers differ" if r["ratio"] is None else f"{r['ratio']:.2f}"
        rows.append([r["backend"], str(r["batch"]), spread(r), f"{r['difference']:.0e}", ratio])
    print(table(rows))


def print_report(report: dict[str, Any]) -> None:
    """Prints what `evaluation.evaluate` returns."""
    print(f"{report['model']} on {report['hardware']}; torch {report['environment']['torch']}")
    print("\nRelative L2 error against converged solutions, unseen initial conditions")
    rows = [["family", "mean", "median", "max", "count", "failed", "estimate/true", "rank corr.", "flagged"]]
    for name, row in report["results"].items():
        trust = report["trust"][name]
        correlation = trust["rank_correlation"]
        rows.append(
            [
                name,
                *(percent(row[key]) for key in ("mean", "median", "max")),
                str(row["count"]),
                str(row["failed"]),
                f"{trust['ratio_median']:.2f}",
                "–" if correlation is None else f"{correlation:.2f}",
                percent(trust["false_alarms"]),
            ]
        )
    print(table(rows))
    print(f"\nWhat each ingredient brings ({next(iter(report['results']))}, batch {report['ladder'][0]['batch']})")
    rows = [["method", "mean error", "max error", "ms per trajectory"]]
    rows += [[r["name"], percent(r["error_mean"]), percent(r["error_max"]), spread(r)] for r in report["ladder"]]
    print(table(rows))
    print()
    print_comparison(report["compare"])
    print(f"\nExperts (joint), beside {report['experts'][0]['classical']}, in the same batch")
    rows = [["batch", "experts", "mean error", "max error", "ms per trajectory", "classical ms", "its time / ours"]]
    for r in report["experts"]:
        ratio = "–" if r["ratio"] is None else f"{r['ratio']:.2f}"
        rows.append(
            [
                str(r["batch"]),
                str(r["experts"]),
                percent(r["error_mean"]),
                percent(r["error_max"]),
                spread(r),
                f"{r['classical_ms']:.2f}",
                ratio if r["is_accepted"] else f"rejected: error above {percent(r['stated_error'])}",
            ]
        )
    print(table(rows))
    _print_roll_out(report)
    print("\nFlagged as not reliable, of inputs unlike the training family")
    print(", ".join(f"{name} {percent(value)}" for name, value in report["out_of_family"].items()))
    memory = report["peak_memory_mb"]
    if memory["value"] is not None:
        print(f"\nPeak memory of a batch of {memory['batch']}: {memory['value']:.0f} MB beyond the loaded model")


def _print_roll_out(report: dict[str, Any]) -> None:
    """Prints the sections that only models with inputs, or on periodic axes, have."""
    if report.get("by_parameter"):
        print("\nBy parameter")
        rows = [["parameter", "values", "mean error", "max error", "count"]]
        for r in report["by_parameter"]:
            values = r["name"] if "name" in r else f"{r['low']:.3g} … {r['high']:.3g}"
            errors = (percent(r[key]) for key in ("error_mean", "error_max"))
            rows.append([r["parameter"], values, *errors, str(r["count"])])
        print(table(rows))
    if report.get("resolutions"):
        print("\nResolutions")
        rows = [["points per axis", "mean error", "max error", "mean at the end", "ms per trajectory"]]
        for r in report["resolutions"]:
            errors = (percent(r[key]) for key in ("error_mean", "error_max", "end_mean"))
            rows.append([str(r["points"]), *errors, spread(r)])
        print(table(rows))
    if report.get("windows"):
        print("\nTime windows: error at their ends")
        rows = [["window", "t", "mean error", "max error", "solver steps"]]
        for r in report["windows"]:
            errors = (percent(r[key]) for key in ("error_mean", "error_max"))
            rows.append([str(r["window"]), f"{r['t']:.3g}", *errors, f"{r['steps']:.1f}"])
        print(table(rows))
    for name, spectrum in (report.get("spectra") or {}).items():
        deviation = percent(spectrum["deviation"])
        print(f"{name} spectrum at the end: within {deviation} of the truth up to wave number {spectrum['band']}")


def print_comparison(rows: list[dict[str, Any]]) -> None:
    """Prints what `evaluation.compare` returns, and what it means."""
    batch = rows[0]["batch"]
    single = [row["name"].split(",")[0] for row in rows if row["batch"] == 1 < batch]
    apart = f"; {', '.join(single)} one trajectory at a time" if single else ""
    print(f"Time at equal error: batch {batch}, one thread, median (lowest – highest){apart}")
    lines = [["solver", "mean error", "ms per trajectory", "time / surrogate's"]]
    for row in rows:
        ratio = "1" if row is rows[0] else "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append([row["name"], percent(row["error_mean"]), spread(row), ratio])
    print(table(lines))
    for row in rows[1:]:
        if row["ratio"] is None:
            print(f"{row['name']} is less accurate than the surrogate: no ratio.")
        else:
            ratio, word = (row["ratio"], "less") if row["ratio"] >= 1 else (1 / row["ratio"], "more")
            print(f"The surrogate takes {ratio:.1f} times {word} time than {row['name']}.")
