"""What readers can do with a picture: switch outlines off, and ask a point for its image."""

import re

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.by import By

from iavlib import book, plots


def picture(*names):
    mask = np.zeros((20, 30), bool)
    mask[5:15, 5:25] = True
    masks = {name: np.roll(mask, n, 1) for n, name in enumerate(names)}
    return {"image": np.zeros((40, 60, 3), np.uint8), "masks": masks, "title": "ISIC_1\nDice 0.9"}


def test_a_box_hides_the_outline_of_its_annotator_in_its_picture_only(browser, tmp_path):
    shown = book.outlines([picture("A", "B <i>"), picture("B <i>")], "Two lesions.")
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>t</title><body>{shown._repr_html_()}")
    browser.get(page.as_uri())

    def visible():
        paths = browser.find_elements(By.CSS_SELECTOR, "svg path")
        return [path.value_of_css_property("display") != "none" for path in paths]

    assert visible() == [True, True, True]
    labels = browser.find_elements(By.TAG_NAME, "label")
    assert [label.text for label in labels] == ["A", "B <i>", "B <i>"]
    labels[1].find_element(By.TAG_NAME, "input").click()
    assert visible() == [True, False, True]
    labels[1].find_element(By.TAG_NAME, "input").click()
    assert visible() == [True, True, True]


def test_pictures_need_a_caption_and_may_be_none():
    with pytest.raises(ValueError, match="caption="):
        book.outlines([], " ")
    assert "No image files are present" in book.outlines([], "Lesions.")._repr_html_()


def test_each_point_names_its_image_under_the_pointer():
    table = pd.DataFrame(
        {
            "image_id": ["ISIC_1", "a & b", "ISIC_3"],
            "true": [0.7, 0.8, 0.9],
            "predicted": [0.75, 0.8, 0.85],
            "malignancy": ["benign", "malignant", "benign"],
        }
    )
    shown = book.figure(plots.predicted_against_true(table), "Points.", "A scatter.")._repr_html_()
    titles = re.findall(r"<title>(.*?)</title>", shown)
    assert sorted(titles) == [
        "ISIC_1: predicted 0.75, true 0.70",
        "ISIC_3: predicted 0.85, true 0.90",
        "a &amp; b: predicted 0.80, true 0.80",
    ]
    assert 'role="img" aria-label="A scatter."' in shown


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 40, 400])
def test_every_number_of_points_has_its_texts(n):
    values = np.linspace(0, 1, n)
    table = pd.DataFrame({"true": values, "predicted": values, "malignancy": "benign"})
    shown = book.figure(plots.predicted_against_true(table), "P.", "S.")._repr_html_()
    assert len(re.findall("<title>", shown)) == n


def test_points_that_are_not_shown_have_no_texts():
    table = pd.DataFrame({"true": [0.5, 0.6], "predicted": [0.5, 0.6]})
    drawing = plots.predicted_against_true(table)
    drawing.axes[0].collections[0].set_visible(False)
    assert "<title>" not in book.figure(drawing, "P.", "S.")._repr_html_()


def test_two_such_figures_share_no_identifier():
    tables = [pd.DataFrame({"true": [0.5, x], "predicted": [0.5, 0.6]}) for x in (0.6, 0.7)]
    shown = [book.figure(plots.predicted_against_true(t), "P.", "S.")._repr_html_() for t in tables]
    first, second = (set(re.findall(r'\bid="(.*?)"', text)) for text in shown)
    assert first and second and not first & second
    for text, own in zip(shown, (first, second), strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= own
