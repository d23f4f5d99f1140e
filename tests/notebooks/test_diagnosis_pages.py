"""Notebooks 04 and 05: what they say follows from the runs, on the book's data and on one's own.

Each page trains three to five tiny networks on images of 32 pixels: five to ten seconds.
"""

import re

import pytest

SMALL = {"backbone": "test_resnet", "pixels": 32, "epochs": 1, "n_images": 60, "n_boot": 50}
NOT_FOR_READERS = re.compile(r"\bnan\b|\{glue|\{cite|\bNone\b|Linux-")
#: Of other people's data: on a page about one's own masks they would be false.
OF_OTHERS = ("stored 20", "4.2 points", "runs have been made here", "On ph2", "smaller than")


def read(page):
    """Return the text of a page without its pictures, which holds nothing that is not for it."""
    text = re.sub(r'src="data:[^"]*"', "", page.text)
    found = NOT_FOR_READERS.search(text)
    assert not found, text[max(0, found.start() - 200) : found.end() + 50]
    return text


def expected(low, high):
    """Return what an interval of a gain shows."""
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "as good, within a point" if low > -1 and high < 1 else "inconclusive"


def check_gains(gains):
    """Compare words with numbers: reading, interval and what could have been detected."""
    for _, row in gains.iterrows():
        assert row["low"] <= row["gain"] <= row["high"]
        assert row["reading"] == expected(row["low"], row["high"])
        # a normal interval reaches 1.96 standard errors to each side, a detectable gain is 2.8
        assert row["detectable"] == pytest.approx(0.7 * (row["high"] - row["low"]), rel=0.35)


@pytest.fixture
def of_the_book(notebook, request):
    """A page of the book on a machine without data: stored results beside invented images."""
    return notebook(request.param, **SMALL | {"n_boot": 300})


@pytest.mark.thorough
@pytest.mark.parametrize("of_the_book", ["04"], indirect=True)
def test_the_gain_by_agreement_is_computed_with_its_strength(of_the_book):
    text, names = read(of_the_book), of_the_book.names
    gains = names["gains"]
    check_gains(gains)
    row = gains.loc["with agreement − diagnosis alone"]
    for number in (row["gain"], row["low"], row["high"], row["detectable"]):
        assert f"{number:.1f}" in names["in_short"].text
    verdicts = {"better": "Yes", "worse": "No, it does harm", "inconclusive": "Inconclusive"}
    assert f"**{verdicts[row['reading']]}.**" in names["in_short"].text
    assert ("excludes the 4.2 points" in text) == (row["high"] < 4.2)
    # the setting of trained models stands beside them, and what the paper's would need
    assert "mobilenetv2_100, 96 pixels, 4 epochs" in text
    assert "0 of 72 such runs have been made here" in text
    assert "upper limit" in text and "random weights" in text
    # the gain in the table is that of the predictions, by hand
    tested = names["main"].assign(right=names["main"]["called"] == names["main"]["malignant"])
    means = tested.groupby(["arm", "seed", "malignant"])["right"].mean().groupby(["arm", "seed"])
    scores = means.mean().unstack("arm")[["multitask", "single"]].dropna()
    by_hand = 100 * (scores["multitask"] - scores["single"]).mean()
    assert row["gain"] == pytest.approx(by_hand)
    # and the weight chosen on validation is compared with the others on test
    tuning = 100 * names["tuning"]
    best = tuning["validation"].idxmax()
    ahead = tuning.loc[best, "test"] - tuning["test"].drop(best).mean()
    assert names["lead"].estimate == pytest.approx(ahead)
    assert f"α = {best:g} is best" in text


@pytest.mark.thorough
@pytest.mark.parametrize("of_the_book", ["05"], indirect=True)
def test_starts_are_compared_on_every_dataset_with_results(of_the_book):
    text, names = read(of_the_book), of_the_book.names
    check_gains(names["gains"])
    assert set(names["gains"].index.get_level_values(0)) == {"ph2", "isic2017"}
    assert len(names["gains"]) == 6
    answer = names["in_short"].text.split("\n")[0]
    for (dataset, _), row in names["main"].iterrows():
        assert re.search(rf"\b{row['reading']} on [^;]*{dataset}", answer, re.IGNORECASE)
        assert f"{row['gain']:+.1f} points" in text
    assert "No results: derm7pt, isic2018, isic2019" in names["in_short"].text
    assert "mobilenetv2_100, 96 pixels, 4 epochs" in text
    assert "0 of 108 such runs have been made here" in text


@pytest.mark.thorough
def test_changing_the_weight_changes_what_is_compared(notebook):
    page = notebook("04", **SMALL, alpha=0.2)
    assert page.names["gains"].loc["with agreement − diagnosis alone", "seeds"] == 1
    assert "with shuffled agreement − diagnosis alone" not in page.names["gains"].index
    assert "control with shuffled agreement was not run" in read(page)


def test_own_masks_are_never_answered_with_the_results_of_others(notebook, case):
    name, path = case
    if name in ("less agreement on malignant", "more agreement on malignant", "two masks"):
        pytest.skip("as another case: how much annotators agree is not what this page is about")
    page = notebook("04", **SMALL, path=path)
    text = read(page)
    assert not [sentence for sentence in OF_OTHERS if sentence in text]
    gains = page.names["gains"]
    check_gains(gains[gains["detectable"].notna() & (gains["high"] > gains["low"])])
    n = {key: len(rows) for key, rows in page.names["by_class"].items()}
    assert f"{n['benign']:,} benign and {n['malignant']:,} malignant" in text
    if name in ("one class", "no malignancy", "one patient", "one image", "nine images"):
        assert "nothing can be concluded" in text
    if name in ("one class", "no malignancy", "one image"):
        assert "No network could be trained" in text and "Not answered here" in text
        assert not len(gains)


@pytest.mark.parametrize("labels", ["both", pytest.param("none", marks=pytest.mark.thorough)])
def test_fine_tuning_from_ones_own_masks(notebook, masks, labels):
    page = notebook("05", **SMALL, path=masks(labels=labels, n_patients=12))
    text = read(page)
    assert not [sentence for sentence in OF_OTHERS if sentence in text]
    assert ("2 of 3 could not be trained" in text) == (labels == "none")
    assert not page.names["gains"].index.get_level_values(0).isin(["ph2", "isic2017"]).any()
