"""Notebook 02 on data made to contradict it: every word follows the numbers beside it."""

import re

import numpy as np
import pandas as pd
import pytest
from made_masks import make_masks

BAD = re.compile(r"(?<![\w/+])(nan|None|inf)(?![\w/+])|\{glue|\{cite|<NA>")
FAST = {"n_boot": 60, "n_permutations": 60, "n_sized": 12}
#: Cases without both a benign and a malignant lesion.
ONE_KIND = {"one class", "no malignancy", "one image"}


def test_every_sentence_is_true_of_the_data(notebook, case):
    name, path = case
    page = notebook("02", cohort="folder", path=path, **FAST)
    names, text, box = page.names, page.text, page.names["in_short"].text
    assert not BAD.search(text)
    assert "stored" not in box
    assert "The released code" not in text  # about IMA++ only
    assert "student report prints" not in text
    pairs = names["study"].pairs.assign(
        malignant=lambda rows: rows["image_id"].map(names["study"].images["malignancy"])
    )
    means = pairs.groupby("malignant")["dice"].mean()
    if name in ONE_KIND:
        assert not names["available"]
        assert names["problem"] in box
        assert f"{pairs['dice'].mean():.3f}" in box
        assert "agreement on malignant lesions" not in box
        assert names["specifications"].empty
        return
    assert f"{means['benign']:.3f}" in box
    assert f"{means['malignant']:.3f}" in box
    difference = names["difference"]["estimate"]
    if name == "perfect agreement":
        assert "the same, or does not vary" in text
        assert "nothing can be concluded" in box
        return
    word = "lower" if difference < 0 else "higher"
    assert f"*{word}* than that of benign ones" in text
    assert f"*{'higher' if word == 'lower' else 'lower'}* than" not in text
    base = names["base"]
    if np.isnan(base["ci_low"]):
        assert name == "one patient"
        assert "nothing can be concluded" in box
    elif base["ci_low"] < 0 < base["ci_high"]:
        assert "is inconclusive on these data" in box
    else:
        assert f"{'less' if base['estimate'] < 0 else 'more'} agreement on malignant lesions" in box
    fewest = names["groups"].loc["images", "patients"].min()
    assert ("rough guesses" in text) == (fewest < 10)
    curve = names["drawn"]
    if len(curve):
        assert f"Of {len(curve):,} specifications {(curve['effect'] < 0).mean():.0%} point" in box


@pytest.mark.thorough
@pytest.mark.parametrize(("effect", "word"), [(0.25, "less"), (-0.09, "more")])
def test_a_planted_effect_is_concluded_with_its_sign(notebook, tmp_path, effect, word):
    path = make_masks(tmp_path / "d", n_images=80, effect=effect, n_masks=2, n_patients=80)
    page = notebook("02", cohort="folder", path=str(path), **FAST)
    assert f"There is {word} agreement on malignant lesions" in page.names["in_short"].text


@pytest.mark.thorough
def test_the_phantom_shows_stored_results_where_there_are_some(notebook, monkeypatch):
    from iavlib import book

    real = book.stored_tables("02")
    page = notebook("02", n_images=40, **FAST)
    if not real:
        pytest.skip("no statistics of notebook 02 are stored")
    text, box = page.text, page.names["in_short"].text
    assert real.label in box
    assert f"{real['groups'].loc[('pairs of masks', 'benign'), 'mean']:.3f}" in box
    assert "The same, live" in text
    assert not BAD.search(text)


@pytest.mark.thorough
def test_an_invented_cohort_that_is_asked_for_is_answered_with_its_own_statistics(notebook):
    page = notebook("02", cohort="phantom", n_images=40, **FAST)
    assert "stored" not in page.names["in_short"].text
    assert "IMA++" not in page.names["in_short"].text
    assert "phantom" in page.names["in_short"].text
    sizes = {name: len(table) for name, table in page.names["live"].items()}
    wanted = {"groups", "histogram", "effects", "specifications", "pair_effects", "summary"}
    assert wanted <= sizes.keys()
    assert max(sizes.values()) <= 500
    assert all(isinstance(table, pd.DataFrame) for table in page.names["live"].values())
