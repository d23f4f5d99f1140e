"""The first page: its words follow the ledger, whatever that holds."""

import re
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup

from iavlib.book import front
from iavlib.book.claims import ledger
from iavlib.book.recording import load_claims
from iavlib.masks import dice

ROOT = Path(__file__).parents[3]
QUESTIONS = {
    "malignancy-clustered": ("Dice", {"kind": "negative", "smallest": 0.01}, None),
    "malignancy-tool-adjusted": ("Dice", {"kind": "negative", "smallest": 0.01}, None),
    "iaa-pearson": ("r", {"kind": "positive", "smallest": 0.3}, None),
    "mtl-gain": ("points", {"kind": "positive", "smallest": 1}, 4.2),
    "cm-over-vote": ("points", {"kind": "positive", "smallest": 1}, None),
    "diff-fusion-auc": ("points", {"kind": "positive", "smallest": 1}, None),
}
PAGES = ["book/index", "notebooks/01_first"]


@pytest.fixture
def questions(lab, claim):
    made = []
    for name, (unit, compare, reported) in QUESTIONS.items():
        source = "paper2020" if reported else "this book"
        compare = compare | {"because": "less is noise"}
        made.append(
            claim
            | {"id": name, "unit": unit, "compare": compare, "reported": reported}
            | {"source": source, "cohorts": ["real", "other"]}
        )
    lab.claims(*made)
    return lab


def cards(lab):
    """Text of each card of the first page, by its question."""
    text = front.answers(ledger(lab.project), PAGES)
    found = BeautifulSoup(text, "html.parser").select(".iav-question")
    return {c.h3.get_text(): " ".join(c.get_text(" ").split()) for c in found}


def test_the_questions_are_about_claims_of_the_list():
    template = (ROOT / "iavlib/book/templates/answers.html").read_text()
    asked = set(re.findall(r'"([a-z]+-[a-z-]+)":', template))
    assert len(asked) >= 5
    assert asked <= set(load_claims(ROOT / "book" / "claims.yml"))


@pytest.mark.parametrize("records", [[], [{"synthetic": True, "cohort": "phantom"}]])
def test_where_nothing_was_measured_no_card_has_a_result(questions, records):
    questions.ran("01_first", *({"id": i, "value": -0.3} | r for i in QUESTIONS for r in records))
    for text in cards(questions).values():
        assert "Not measured here. not run needs" in text
        assert "0.3" not in text and "zero" not in text
    assert front.story(ledger(questions.project)).count("<figure") == 1


@pytest.mark.parametrize(
    ("value", "interval", "words"),
    [
        (-0.05, [-0.07, -0.03], ["Yes.", "0.050 lower", "excludes zero", "supported"]),
        (0.05, [0.03, 0.07], ["No.", "0.050 higher", "excludes zero", "not supported"]),
        (-0.02, [-0.06, 0.02], ["That is open.", "0.020 lower", "includes zero", "inconclusive"]),
        (-0.05, None, ["That is open.", "0.050 lower", "no interval", "inconclusive"]),
    ],
)
def test_words_follow_the_numbers(questions, value, interval, words):
    record = {"id": "malignancy-clustered", "value": value, "interval": interval}
    questions.ran("01_first", record)
    text = next(iter(cards(questions).values()))
    for word in words:
        assert word in text
    assert not re.search(r"\b(None|nan)\b", text)


@pytest.mark.parametrize(
    ("value", "interval", "lead"),
    [(5, [4.5, 5.5], "Yes."), (0.3, [-1, 2], "Not as much"), (3, [0, 6], "That is open.")],
)
def test_a_gain_is_set_beside_the_one_that_the_paper_prints(questions, value, interval, lead):
    questions.ran("01_first", {"id": "mtl-gain", "value": value, "interval": interval})
    text = cards(questions)["Does predicting agreement help the diagnosis?"]
    assert lead in text and "raises" in text and "4.2 points" in text
    assert front.story(ledger(questions.project)).count("<figure") == 2


def test_a_prediction_is_set_beside_its_ceiling(questions):
    questions.ran("01_first", {"id": "iaa-pearson", "value": 0.6, "interval": [0.5, 0.7]})
    columns = {"values": ["as they are", "as they are", "within tools"]}
    columns |= {"ceiling": [0.71, None, 0.2]}
    kept = {"name": "ceiling", "synthetic": False, "columns": columns}
    limits = front.ceilings([{}, {"tables": [kept | {"synthetic": True}]}, {"tables": [kept]}])
    assert limits == [0.71]
    text = front.answers(ledger(questions.project), PAGES, limits)
    assert "more than 0.710," in text
    assert "correlate by more" not in front.answers(ledger(questions.project), PAGES)


def test_each_data_set_is_named_where_there_are_several(questions):
    measured = {"id": "diff-fusion-auc", "value": 1.5, "interval": [-1, 4]}
    questions.ran("01_first", measured, measured | {"cohort": "other", "value": 0.4})
    text = cards(questions)["What do methods for several annotators gain?"]
    assert "on real" in text and "on other" in text and "CM gains" not in text


def test_the_circles_of_the_drawing_have_the_dice_that_is_written():
    drawing = BeautifulSoup(front.story([]), "html.parser").svg
    y, x = np.mgrid[0:150:1501j, 0:420:4201j]
    circles = [{k: float(c[k]) for k in ("cx", "cy", "r")} for c in drawing.select("circle")]
    masks = [np.hypot(x - c["cx"], y - c["cy"]) < c["r"] for c in circles]
    pairs = zip(masks[::2], masks[1::2], strict=True)
    assert [f"Dice {dice(*pair):.2f}" for pair in pairs] == [t.string for t in drawing("text")]


def test_only_pages_of_the_book_are_linked(questions):
    questions.ran("01_first", {"id": "mtl-gain", "value": 1, "interval": [0, 2]})
    rows = ledger(questions.project)
    assert 'href="../notebooks/01_first.html"' in front.answers(rows, PAGES)
    assert "href" not in front.answers(rows, [])


def test_claims_are_folded_by_source_and_can_be_filtered(questions):
    rows = ledger(questions.project)
    page = BeautifulSoup(front.claims_table(questions.project, rows, PAGES), "html.parser")
    assert len(page.select("details.iav-source")) == 2
    assert [option.get_text() for option in page.select("option")] == ["all", "not run"]
    assert len(page.select("tbody tr")) == len(QUESTIONS)
    labels = {cell.get("data-label") for cell in page.select("tbody td")}
    assert labels == {None, "Evidence", "Reported", "Measured", "Data"}


def test_a_users_own_data_have_a_page_without_claims():
    summary = (
        '<div class="iav-in-short">\n\n- See [pairs](02_b.ipynb) or [x](https://a.org).\n</div>'
    )
    outputs = [
        {"data": {"text/markdown": summary}},
        {"data": {"text/html": ['<figure class="iav-figure">', "\n\n", "<img></figure>"]}},
        {"data": {"text/html": "<table>"}},
    ]
    cohort = {"name": "folder", "synthetic": False, "n_images": 1200, "n_masks": 3600}
    manifest = {"cohorts": [cohort], "claims": []}
    notebook = {"cells": [{"source": "x"}, {"source": "y", "outputs": outputs}]}
    text = front.own_page({"notebooks/01_first": ("The data", manifest, notebook)})
    assert "1,200 images with 3,600 annotators' masks" in text
    assert "[The data](../notebooks/01_first.ipynb)" in text
    assert "[pairs](../notebooks/02_b.ipynb) or [x](https://a.org)" in text
    assert text.count("<figure") == 1 and "<table>" not in text
    assert "\n\n<img>" not in text, "a blank line would end the HTML"
    assert front.is_own(manifest)
    assert not front.is_own({"cohorts": [cohort | {"name": "imapp"}]})
