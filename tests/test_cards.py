"""Cards say what config.json and metrics.json say, and the Hub's own checks accept them."""

from __future__ import annotations

import json
import re

import pytest
from huggingface_hub import ModelCard

import pihc_zoo as pz
from export import cards, readme
from pihc_zoo.zoo import card, card_rows, registry
from pihc_zoo.zoo.folder import read_config

METRICS = {
    "model": "problem.variant",
    "recipe": "diffusion-sorption.general",
    "description": "smooth fields",
    "command": "python -m training diffusion-sorption.general",
    "commit": "abc1234",
    "hardware": "one core",
    "training_minutes": 12.5,
    "results": {"random_sines": {"mean": 1.2e-4, "median": 1e-4, "max": 5e-4, "count": 64}},
    "ladder": [
        {"name": "lift alone", "error_mean": 0.015, "error_max": 0.021, "ms": 0.5, "note": ""},
        {"name": "trained", "error_mean": 1.2e-4, "error_max": 5e-4, "ms": 7.0, "note": "this model"},
    ],
    "experts": [
        {
            "decomposition": "joint",
            "experts": {"x": 4},
            "max_steps": 6,
            "batch": 1,
            "error_mean": 1.2e-4,
            "error_max": 5e-4,
            "ms": 7.0,
        }
    ],
    "classical": [{"name": "Picard", "error_mean": 1e-4, "ms": 0.35}, {"name": "LSODA", "error_mean": 2e-4, "ms": 1}],
    "trust": {"random_sines": {"ratio_median": 1.02, "rank_correlation": 0.93, "false_alarms": 0.01}},
    "out_of_family": {"steps": 0.98, "checkerboard": 0.3},
    "threshold": 1e-3,
    "training_ablation": [{"name": "PI-SC", "seed": 0, "error_mean": 1e-3, "error_max": 2e-3, "minutes": 3}],
}
MEASURED = [name for name in registry.list_models() if (registry.WEIGHTS / name / "metrics.json").is_file()]


@pytest.fixture
def folder(tmp_path, tiny_config):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()))
    return tmp_path


def test_cards_are_current():
    """Nothing is stale among the measured models; the others may be under way."""
    stale = [p for p in cards.stale() if any(name in (p.stem, p.parent.name) for name in MEASURED)]
    assert not stale, f"stale: {', '.join(map(str, stale))}; run: python -m export --cards"


@pytest.mark.parametrize("name", registry.list_models())
def test_shipped_cards_are_valid(name):
    text = card.card_text(registry.shipped_folder(name), name)
    card.check_card(text)
    metrics = pz.model_info(name).get("metrics", {})
    data = ModelCard(text).data
    assert len(data.eval_results or []) == 2 * len(metrics.get("results", {}))


def test_every_figure_is_on_the_card(folder):
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "example.png").write_bytes(b"")
    text = card.card_text(folder, "problem.variant", image_base="there/")
    card.check_card(text)
    for row in (
        "| random sines | 0.012 % | 0.01 % | 0.05 % | 64 |",
        "| joint | x: 4 | 6 | 1 | 0.012 % | 0.05 % | 7 |",
        "| lift alone | 1.5 % | 2.1 % | 0.5 |  |",
        "| Picard | 0.01 % | 0.35 |",
        "| random sines | 1.02 | 0.93 | 1 % |",
        "| steps | 98 % |",
        "| PI-SC | 0 | 0.1 % | 0.2 % | 3 |",
        "Picard needs 0.35 ms per trajectory for 0.01 %: 20 times faster than this model",
        "fewer than half are flagged: checkerboard",
        "there/example.png",
        "- time: 12.5 minutes",
        "`D`",
        "m²/s",
    ):
        assert row in text, row
    results = {r.metric_name: r.metric_value for r in ModelCard(text).data.eval_results}
    assert results == {"relative L2 error, mean": 1.2e-4, "relative L2 error, max": 5e-4}


@pytest.mark.parametrize("key", [*METRICS, "everything"])
def test_a_section_needs_its_key(folder, key):
    metrics = {} if key == "everything" else {k: v for k, v in METRICS.items() if k != key}
    text = card.render(read_config(folder), metrics, "n", load_name="n", files=[], image_base="")
    card.check_card(text)
    assert "None" not in text and "nan" not in re.findall(r"\w+", text) and "{{" not in text
    headings = {"results": "Results", "experts": "Accuracy and cost", "classical": "Classical solvers"}
    assert headings.get(key, "no such heading") not in text


def test_times_are_compared_within_one_run():
    """The ladder's was taken at another time, on a machine that other work slows down."""
    text, wins = card_rows.verdict(METRICS)
    assert wins and "Picard needs 0.35 ms" in text and "20 times faster than this model (0.012 % in 7 ms" in text
    beside = [{"name": "surrogate", "error_mean": 1.2e-4, "ms": 3.5}, *METRICS["classical"]]
    assert "10 times faster than this model (0.012 % in 3.5 ms" in card_rows.verdict({**METRICS, "compare": beside})[0]
    assert card_rows.verdict({}) == ("", False)


def ablation(**errors):
    """Rows of two seeds: name → (mean error, ms)."""
    return [
        {"name": name, "seed": seed, "error_mean": error, "error_max": error, "minutes": 1, "ms": ms}
        for name, (error, ms) in errors.items()
        for seed in (0, 1)
    ]


def test_whether_experts_pay_is_computed_from_the_rows():
    rows = ablation(**{"PI-SC": (1e-2, 10), "PI-HC": (9e-3, 15), "PI-HC-MoE": (5e-3, 20)})
    text = card_rows.ablation_verdict({"training_ablation": rows})
    assert "PI-HC errs 10 % less (0.9 %) in 1.5 times its inference time: it does not pay" in text
    assert "PI-HC-MoE errs 50 % less (0.5 %) in 2 times its inference time: it pays" in text
    assert "means over 2 seeds" in text
    rows[-1]["error_mean"] = None
    assert "PI-HC-MoE failed" in card_rows.ablation_verdict({"training_ablation": rows})
    assert card_rows.ablation_verdict({"training_ablation": METRICS["training_ablation"]}) == ""  # no times


def test_sets_say_how_many_of_them_failed():
    row = {
        "parameter": "D",
        "low": 1e-4,
        "high": 1e-3,
        "count": 16,
        "error_mean": 1e-3,
        "error_max": 2e-3,
        "end_mean": None,
    }
    some, none = card_rows.parameter_rows({"by_parameter": [{**row, "failed": 1}, {**row, "failed": 0}]})
    assert some["count"] == "16 (1 failed)" and none["count"] == "16"


def test_combinations_without_an_answer_say_why(folder):
    refused = {"decomposition": "joint", "experts": 7, "max_steps": 4, "batch": 16, "ms": None}
    refused |= {"error_mean": None, "error_max": None, "note": "not divisible"}
    (folder / "metrics.json").write_text(json.dumps({**METRICS, "experts": [*METRICS["experts"], refused]}))
    text = card.card_text(folder, "n")
    assert "| joint | 7 | 4 | 16 | – | – | – | not divisible |" in text
    assert "| joint | x: 4 | 6 | 1 | 0.012 % | 0.05 % | 7 |  |" in text


def test_readme_has_a_row_for_every_family_of_every_measured_model():
    table = readme.results_table()
    for name in MEASURED:
        assert f"| `{name}` |" in table
    families = sum(len(pz.model_info(name)["metrics"]["results"]) for name in MEASURED)
    hardest = sum(readme._hardest(pz.model_info(name)["metrics"]) is not None for name in MEASURED)
    rows = table.splitlines()
    assert len(rows) == 2 + families + hardest and len({row.count("|") for row in rows}) == 1
    assert readme.rewritten(readme.README.read_text(encoding="utf-8"))


def test_a_card_that_is_not_ours_is_seen(folder):
    with pytest.raises(ValueError, match="lacks license"):
        card.check_card("---\ntags: [x]\n---\n")
    with pytest.raises(ValueError, match="invalid metadata"):
        card.check_card("---\nmodel-index: 3\n---\n")
    assert card.is_generated(card.card_text(folder, "n")) and not card.is_generated("# mine")
