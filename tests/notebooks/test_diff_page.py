"""Notebook 08 on data made to contradict it: its words follow from the numbers it computed.

Each page trains small networks for an epoch; a few made data sets stand for all kinds.
"""

import re

import numpy as np
import pytest

SMOKE = {"pixels": 32, "epochs": 1, "steps": 2, "seed": 0}
NOT_A_TEXT = re.compile(r"\bnan\b|\{glue|\{cite|\bNone\b|-0\.0\b")
#: Without these nothing can be trained.
UNTRAINABLE = ("one class", "no malignancy", "one image", "one patient")


@pytest.fixture
def page(notebook, case, request):
    name, path = case
    if name.endswith("agreement on malignant") or name in ("two masks", "nine images"):
        pytest.skip("as another case: each page costs seconds")
    return name, notebook("08", path=path, **SMOKE)


def test_a_page_on_own_masks_is_true(page):
    name, shown = page
    assert not (found := NOT_A_TEXT.findall(shown.text)), found
    assert "stored" not in set(shown.names["done"].get("origin", []))
    if name in UNTRAINABLE:
        assert shown.names["done"].empty and not len(shown.names["effects"])
        assert "Nothing could be trained on these data" in shown.names["in_short"].text
        return
    assert set(shown.names["done"]["cohort_name"]) == {"folder"}
    area = shown.names["area"]
    change = area["DF-GT, ExpG"] - area["majority vote"]
    word = "rises" if change > 0 else "falls" if change < 0 else "stays as it is"
    assert f"the AUROC of this network {word}" in shown.text
    agreed = "raters agree in every pixel" in shown.text
    assert agreed == (name == "perfect agreement") == (not np.ptp(shown.names["spread"]))
    # one seed: there is no interval, and nothing is called supported
    assert set(shown.names["effects"]["evidence"]) == {"inconclusive: no interval"}
    assert "Supported:" not in shown.text


@pytest.mark.thorough
def test_the_page_of_the_book_shows_stored_results_beside_this_run(notebook):
    shown = notebook("08", n_images=40, **SMOKE)
    assert not (found := NOT_A_TEXT.findall(shown.text)), found
    done, effects = shown.names["done"], shown.names["effects"]
    assert {"isic2017-simulated", "isic_two_annotators", "phantom"} <= set(done["cohort_name"])
    assert set(done.loc[done["origin"] == "stored", "seed"]) == {0, 1, 2}
    pooled = effects[effects.index.get_level_values(1).str.startswith("pooled")]
    assert len(pooled) == 4  # of the effects that two real data sets measure
    for row in effects.dropna(subset=["low"]).itertuples():
        title, low, high = row.Index[0], row.low, row.high
        if row.evidence in ("supported", "not supported"):
            sign = -1 if title.startswith("fine waves") else 1
            least, most = sorted((sign * low, sign * high))
            assert (least > row.smallest) if row.evidence == "supported" else most < row.smallest
        assert low <= row.effect <= high
        everything = title.startswith("rank correlation") and (low, high) == (-1, 1)
        assert np.isnan(row.detectable) if everything else row.detectable > 0
    correlations = effects.xs("rank correlation of soft Dice with 1 to 4 blocks", level=0)
    assert (correlations["low"].dropna() >= -1).all() and (correlations["high"].dropna() <= 1).all()
    [stored] = [text for text in shown.texts if "The fourth block beside three" in text][:1]
    assert "so whether it helps is open" in stored


@pytest.mark.thorough
def test_a_reader_may_ask_for_this_run_alone(notebook):
    shown = notebook("08", source="here", n_images=40, compare="fuse-mean, mode-labels", **SMOKE)
    done = shown.names["done"]
    assert set(done["origin"]) == {"here"} and set(done["cohort_name"]) == {"phantom"}
    assert set(done.loc[done["task"] == "comparison", "method"]) == {"fuse-mean", "mode-labels"}
    assert "stored 2" not in shown.text
