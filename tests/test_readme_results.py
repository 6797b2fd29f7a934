"""README's figures are those of the shipped metrics."""

from export.readme import README, rewritten


def test_results_are_not_stale():
    text = README.read_text(encoding="utf-8")
    assert rewritten(text) == text, "README's tables are stale; run: python -m export.readme"
