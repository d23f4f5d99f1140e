"""Notebook 10: what it states of a model, and of data on which no model was measured."""

import re

import pytest

SOME = ["no effect", "no malignancy", "one image"]


@pytest.mark.parametrize("case", SOME, indirect=True)
def test_without_a_model_nothing_is_claimed(case, notebook):
    page = notebook("10", path=case[1], n_boot=20)
    assert page.names["images"] is None and page.names["diagnosed"] is None
    assert "whether one is better than a constant is not known" in page.names["in_short"].text
    text = re.sub(r"data:image/[^\"]*", "", page.text)
    assert not re.search(r"\bnan\b|\bNone\b", text)
    for word in ("imapp", "IMA++", "ISIC archive", "{glue", "{cite"):
        assert word not in text


def test_the_verdict_on_stored_results_follows_their_intervals(notebook):
    page = notebook("10", n_boot=40, n_images=40)
    row, first = page.names["table"].iloc[0], page.names["in_short"].text.splitlines()[0]
    assert row["reduction_low"] > 0  # else the stored runs have changed, and the words must
    assert first.startswith("- The model is better than a constant")
    assert f"{row['estimate']:.3f}" in first and f"{row['median_mae']:.3f}" in first
    groups = page.names["by_group"]
    lowest = groups.loc["predicted agreement"].iloc[0]
    assert lowest["coverage"] > 0.8  # intervals of equal width held 68 % there
    known = groups[groups["n"] >= 30].drop(index=["all", "true agreement", "malignancy"], level=0)
    failing = (known["coverage_high"] < 0.9).sum()
    words = f"In {failing} of {len(known)} groups" if failing else "In none of the"
    assert words in page.text and words in page.names["in_short"].text
    assert "stored" in page.text
    assert not re.search(r"\bnan\b", re.sub(r"data:image/[^\"]*", "", page.text))


def test_a_worse_model_is_called_worse(notebook):
    better = notebook("10", n_boot=20, n_images=40, path="").names["better"]
    assert better({"reduction_low": -0.3, "reduction_high": -0.1}) == "worse than a constant"
    assert better({"reduction_low": -0.3, "reduction_high": 0.1}).startswith("not shown")
