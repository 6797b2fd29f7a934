"""README's figures are those of the shipped metrics."""

import json

from export.readme import README, rewritten
from training import finetuning_benchmark


def test_results_are_not_stale():
    text = README.read_text(encoding="utf-8")
    assert rewritten(text) == text, "README's tables are stale; run: python -m export.readme"


def test_the_table_of_fine_tuning_is_not_stale():
    text, record = README.read_text(encoding="utf-8"), json.loads(finetuning_benchmark.RECORD.read_text("utf-8"))
    assert finetuning_benchmark.rewritten(text, record) == text, (
        "README's table is stale; run: python -m training.finetuning_benchmark --readme"
    )
