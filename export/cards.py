"""The generated cards: model_cards/ and the README.md of each shipped folder."""

from __future__ import annotations

import os
from pathlib import Path

from pihc_zoo.zoo import registry
from pihc_zoo.zoo.card import CARD_FILE, card_text

FOLDER = Path(__file__).parents[1] / "model_cards"


def current() -> dict[Path, str]:
    """Every generated card as it should be now: path → text."""
    cards: dict[Path, str] = {}
    for name in registry.list_models():
        folder = registry.shipped_folder(name)
        images = os.path.relpath(folder, FOLDER).replace(os.sep, "/") + "/"
        cards[FOLDER / f"{name}.md"] = card_text(folder, name, image_base=images)
        cards[folder / CARD_FILE] = card_text(folder, name)
    return cards


def stale() -> list[Path]:
    """Cards that differ from what config.json and metrics.json say, or belong to no shipped model."""
    cards = current()
    orphans = [path for path in FOLDER.glob("*.*.md") if path not in cards]
    return orphans + [p for p, text in cards.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]


def write() -> list[Path]:
    """Brings all cards up to date; returns what changed."""
    changed, cards = stale(), current()
    for path in changed:
        if path in cards:
            path.write_text(cards[path], encoding="utf-8")
        else:
            path.unlink()
    return changed
