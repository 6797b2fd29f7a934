"""``pihc doctor``: checks the installation."""

from __future__ import annotations

import argparse

from ..doctor import examine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``pihc doctor`` takes no arguments."""


def run(options: argparse.Namespace | None = None) -> int:
    """Prints the report; 1 if something is wrong."""
    findings = examine()
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{finding.state:5}  {finding.topic:{width}}  {finding.text}")
    wrong = sum(finding.state == "wrong" for finding in findings)
    print("all well" if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} wrong")
    return 1 if wrong else 0
