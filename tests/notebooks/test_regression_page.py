"""Notebook 03 on data that contradict what it might assume: it states what it computed."""

import re

import numpy as np
import pytest
from made_masks import make_masks

#: The smallest network, so that a page costs seconds.
TINY = {"backbone": "test_resnet", "weights": "none", "pixels": 32, "epochs": 1, "n_boot": 20}
NEVER = ("nan", "None", "{glue", "{cite", "IMA++", "imapp", "Traceback")


def words(page):
    """Return the text without figures and tables' markup, from what is computed only."""
    return re.sub(r"data:image/[^\"]*|<[^>]*>", " ", page.text)


def check_text(page):
    text = words(page)
    for word in NEVER:
        assert not re.search(rf"(?<![a-zA-Z]){re.escape(word)}(?![a-zA-Z])", text), word


CHOSEN = ["no effect", "no malignancy", "one patient"]
CHOSEN += [
    pytest.param(name, marks=pytest.mark.thorough)
    for name in ("two masks", "perfect agreement", "nine images")
]


@pytest.mark.parametrize("case", CHOSEN, indirect=True)
def test_the_page_is_true_on_any_data(case, notebook):
    name, path = case
    page = notebook("03", path=path, **TINY)
    names, text = page.names, words(page)
    check_text(page)
    if name in ("one image", "one patient", "perfect agreement"):
        assert names["best"] is None and names["contrast"] is None and names["coverage"] is None
        assert "No model is measured on these data" in text
        assert "better than" not in page.texts[-1]
        return
    row = names["table"].loc[names["best"]]
    if row["reduction_low"] > 0:
        verdict = "is better than the constant"
    elif row["reduction_high"] < 0:
        verdict = "is worse than the constant"
    else:
        verdict = "is open: the interval includes zero"
    assert verdict in text
    assert f"r = {row['pearson']:.3f}" in text or not np.isfinite(row["pearson"])
    assert "random weights" in text
    check_ceiling(name, names, text)
    check_contrast(name, names, text)
    if name == "nine images":
        assert names["coverage"] is None and "Intervals are not measured" in text


def check_ceiling(name, names, text):
    if name == "two masks":
        # with one pair for each image nothing separates the image from the pair
        assert names["ceiling"].empty or names["ceiling"]["reliability"].isna().all()
        assert "The reliability is not defined here" in text
        return
    rows = names["ceiling"].loc["as they are"].dropna(subset="reliability")
    assert f"{rows['reliability'].min():.2f} to {rows['reliability'].max():.2f}" in text
    assert (rows[["reliability", "ceiling"]] >= 0).all(axis=None)
    assert (rows[["reliability_high", "ceiling_high"]] <= 1).all(axis=None)
    assert ("within tools" in names["ceilings"]) == (name == "no effect")  # which records tools


def check_contrast(name, names, text):
    if name in ("one class", "no malignancy"):
        assert names["contrast"] is None and "two benign and two malignant" in text
        return
    true = names["contrast"].loc["true"]
    sign = "lower" if true["difference"] < 0 else "higher"
    zero = "includes" if true["ci_low"] <= 0 <= true["ci_high"] else "excludes"
    expected = rf"true mean Dice is {abs(true['difference']):.3f} {sign}[^;]*which {zero} zero"
    assert re.search(expected, text)


@pytest.mark.thorough
def test_stored_results_are_named_as_such_where_the_images_are_invented(notebook):
    page = notebook("03", n_images=40, n_live=40, **TINY)
    text, names = words(page), page.names
    assert names["study"].synthetic and set(names["whole"]["origin"]) == {"stored"}
    assert "Only the live example below is trained on phantom" in text
    assert "stored, 20" in text and "of imapp" in text
    lowest = names["coverage"].xs("1. fifth of predictions", level=1)["coverage"]
    assert lowest["equal width"] < 0.8 < 0.85 < lowest["by range of prediction (Mondrian)"]
    assert f"{lowest['equal width']:.0%}" in page.texts[-1] + names["in_short"].text
    assert "*not run*" in text


@pytest.mark.thorough
def test_own_results_replace_stored_ones_when_asked(notebook):
    page = notebook("03", n_images=40, n_live=40, source="here", **TINY)
    assert set(page.names["whole"]["origin"]) == {"here"}
    assert set(page.names["whole"]["cohort_name"]) == {"phantom"}
    assert "imapp" not in page.names["in_short"].text
    assert "invented" in page.names["in_short"].text


@pytest.mark.thorough
def test_intervals_follow_the_prediction(notebook, tmp_path):
    path = make_masks(tmp_path / "own", n_images=40, n_masks=3, n_patients=40, tools=True)
    page = notebook("03", path=str(path), **TINY)
    names, text = page.names, words(page)
    coverage = names["coverage"]
    for title in ("equal width", "by range of prediction (Mondrian)", "quantiles (CQR)"):
        all_ = coverage.loc[(title, "all")]
        assert f"{title}: {all_['coverage']:.0%} of all images" in text
    assert set(names["floors"].index) >= {"image statistics", names["best"]}
    assert names["held_out"] is None or "sets of" in text
