"""``pihc push``: publishes a model on the Hub."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..zoo.card import card_name, write_card
from ..zoo.exporting import export
from ..zoo.folder import CARD_FILE
from ..zoo.loading import from_pretrained
from ..zoo.publish import push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc push``."""
    parser.add_argument("model", help="an exported folder, or a shipped model")
    parser.add_argument("repo_id", metavar="ORG/NAME", help="repository on the Hub; created if it does not exist")
    add_hub_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Pushes a complete folder as it is; anything else is exported first."""
    folder = Path(options.model)
    if (folder / CARD_FILE).is_file():
        write_card(folder, card_name(folder), load_name=options.repo_id)
        return push_folder(folder, options.repo_id, options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = export(
            from_pretrained(options.model), Path(temporary) / Path(options.model).name, load_name=options.repo_id
        )
        return push_folder(folder, options.repo_id, options)


def add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of everything that pushes."""
    parser.add_argument("--revision", metavar="TAG", help="tag of the pushed commit, e.g. v1.0")
    parser.add_argument("--branch", help="branch to commit to")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--message", help="first line of the commit")


def push_folder(folder: Path, repo_id: str, options: argparse.Namespace) -> int:
    """Pushes a folder and prints where it is now."""
    result = push(
        folder,
        repo_id,
        private=options.private,
        branch=options.branch,
        create_pr=options.create_pr,
        tag=options.revision,
        commit_message=options.message,
    )
    done = "pushed and verified" if result.is_new else "already there, verified"
    print(f"{result.url}: {done}" + (f", tagged {result.tag}" if result.tag else ""))
    return 0
