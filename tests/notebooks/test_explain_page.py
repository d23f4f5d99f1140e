"""Notebook 09 on made data and on a machine where nothing was run; its words follow its numbers.

Each page trains a tiny network for an epoch; a few made data sets stand for all kinds.
"""

import re

import numpy as np
import pytest

SMOKE = {"backbone": "test_resnet", "pixels": 64, "epochs": 1, "n_explained": 4, "n_boot": 50}
NOT_A_TEXT = re.compile(r"\bnan\b|\{glue|\{cite|\bNone\b|-0\.0\b")


@pytest.mark.filterwarnings("ignore")
def test_a_page_on_own_masks_is_true(notebook, case):
    name, path = case
    if name not in ("no malignancy", "one patient", "one image", "perfect agreement"):
        pytest.skip("as another case: each page costs seconds")
    shown = notebook("09", path=path, **SMOKE)
    assert not (found := NOT_A_TEXT.findall(shown.text)), found
    done, text = shown.names["done"], shown.names["in_short"].text
    assert "stored" not in set(done.get("origin", [])) and "two annotators" not in text
    assert len(shown.names["examples"]) == min(3, len(shown.names["usable"]))
    if name in ("one patient", "one image"):  # there is nobody left to test on
        assert done.empty and "Not run: no network was explained" in text
        assert "No network was trained here" in shown.text
        return
    assert set(done["cohort_name"]) == {"folder"} and shown.names["main"] == "this run"
    if name == "perfect agreement":  # without disagreement there is no such region
        assert "disagreement" not in shown.names["ratios"].index.get_level_values("region")
        return
    for (method, region), row in shown.names["ratios"].iterrows():
        words = shown.names["place"](shown.names["ratios"], method, region, "its area")
        if words and np.isfinite(row["ci_low"]):
            low, high = row["ci_low"], row["ci_high"]
            expected = "more than" if low > 1 else "less than" if high < 1 else "not clearly other"
            assert expected in words


def test_nothing_is_trained_where_that_is_switched_off(notebook, monkeypatch):
    monkeypatch.setenv("IAV_NO_TRAIN", "1")
    shown = notebook("09", source="here", n_images=20, **SMOKE)
    assert not (found := NOT_A_TEXT.findall(shown.text)), found
    assert shown.names["done"].empty
    assert "Not run: none of the runs that this page reads" in shown.text
    assert "was not measured" in shown.text
    assert "Not run: no network was explained on these data" in shown.names["in_short"].text


def test_the_page_of_the_book_reads_stored_results(notebook, monkeypatch):
    monkeypatch.setenv("IAV_NO_TRAIN", "1")
    shown = notebook("09", n_images=20, **SMOKE)
    assert not (found := NOT_A_TEXT.findall(shown.text)), found
    assert set(shown.names["done"]["origin"]) == {"stored"}
    assert shown.names["main"] == "two annotators"
    low, high, words = shown.names["kept_text"]("two annotators", "Grad-CAM")
    assert words in shown.names["in_short"].text and 0 <= low <= 1 and 0 <= high <= 1
    [sentence] = [text for text in shown.texts if "It shows almost only what" in text]
    assert f"almost only what {'raises' if high > low else 'lowers'} agreement" in sentence
