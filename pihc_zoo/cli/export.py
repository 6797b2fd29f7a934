"""``pihc export``: writes a complete model folder, pushes it if asked to."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..zoo.exporting import export
from ..zoo.loading import from_pretrained
from ..zoo.publish import publishable
from .push import add_hub_arguments, push_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc export``."""
    parser.add_argument("model", help="shipped model, local folder or Hub id")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx, the whole pipeline")
    parser.add_argument("--push", metavar="ORG/NAME", help="push the folder to the Hub")
    add_hub_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the folder."""
    folder = export(from_pretrained(options.model), options.to, onnx=options.onnx, load_name=options.push)
    print(f"{folder}: {', '.join(publishable(folder))}")
    return push_folder(folder, options.push, options) if options.push else 0
