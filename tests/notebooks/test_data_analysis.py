"""Notebook 01 on data made to contradict it: counts, words, and what replaces them."""

import re

import numpy as np
import pytest
from made_masks import make_masks

from iavlib import book

BAD = re.compile(r"(?<![\w/+])(nan|None|inf)(?![\w/+])|\{glue|\{cite|<NA>")


def test_the_page_states_what_the_data_hold(notebook, case):
    if case[0] in ("more agreement on malignant", "one class"):
        pytest.skip("as another case: this page is not about lesions of one kind")
    page = notebook("01", cohort="folder", path=case[1], n_checked=4)
    study, text, box = page.names["study"], page.text, page.names["in_short"].text
    assert not BAD.search(text)
    assert "stored" not in box
    assert "IMA++" not in box
    n = len(study.pairs)
    assert f"{n:,} pair{'s' if n != 1 else ''} of masks" in box
    assert f"{study.pairs['dice'].mean():.3f}" in box
    [n_masks] = study.masks["image_id"].value_counts().unique()
    assert f"100% of these images have exactly {['two', 'three'][n_masks - 2]} masks" in box
    assert ("a *single* number" in text) == (n_masks == 2)
    assert "In no pair are both masks by the same annotator" in text
    of_pairs, mean_dice = page.names["of_pairs"], page.names["image_dice"]
    assert ("a rough guess" in text) == (of_pairs["patients"] < 10)
    assert ("no interval" in text) == (of_pairs["patients"] == 1)
    assert f"{(mean_dice > 0.9).mean():.0%} have a mean Dice above" in text
    # Dice computed from the pictures is that of the table
    dice = study.pairs.groupby("image_id")["dice"].agg(list)
    by_hand = [row for row in page.names["by_hand"] if row["image"] in dice]
    assert by_hand
    assert all(np.isclose(dice[row["image"]], row["Dice"]).any() for row in by_hand)


def test_images_with_one_mask_each_have_no_agreement(notebook, tmp_path):
    path = make_masks(tmp_path / "single", n_images=5, n_masks=1)
    page = notebook("01", cohort="folder", path=str(path), n_checked=2)
    assert not BAD.search(page.text)
    assert "no agreement can be measured" in page.text
    assert "0 images of 5 with two masks or more" in page.names["in_short"].text


@pytest.mark.thorough
def test_the_phantom_shows_stored_results_where_there_are_some(notebook):
    real = book.stored_tables("01")
    if not real:
        pytest.skip("no statistics of notebook 01 are stored")
    page = notebook("01", n_images=30, n_checked=2)
    box = page.names["in_short"].text
    assert real.label in box
    assert f"{real['dice'].loc['pairs of masks', 'mean']:.3f}" in box
    assert "The same, live" in page.text
    assert not BAD.search(page.text)
    asked = notebook("01", cohort="phantom", n_images=30, n_checked=2)
    assert "stored" not in asked.names["in_short"].text
