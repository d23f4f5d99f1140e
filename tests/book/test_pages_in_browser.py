"""The pages as a reader meets them: figures, search, phone, and what they say of their data."""

import pytest
from looking import DESKTOP, claims
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("seen", ["on_desktop", "on_a_phone"])
def test_no_page_has_a_console_error_or_a_broken_picture(request, seen):
    pages = request.getfixturevalue(seen)
    assert {page: facts["errors"] for page, facts in pages.items() if facts["errors"]} == {}
    assert {page: facts["broken"] for page, facts in pages.items() if facts["broken"]} == {}


def test_nothing_sticks_out_of_a_phone(on_a_phone):
    assert {page: f["overflow"] for page, f in on_a_phone.items() if f["overflow"] > 1} == {}


def test_every_figure_has_caption_and_text_alternative(on_desktop):
    seen = 0
    for page, facts in on_desktop.items():
        for picture in facts["pictures"]:
            assert len(picture["alt"]) > 30, (page, picture["source"])
            assert len(picture["caption"] or "") > 30, (page, picture["alt"])
            seen += 1
    assert seen >= 12


def test_search_finds_the_test_by_name(browser, phantom_book):
    browser.set_window_size(*DESKTOP)
    browser.get((phantom_book / "_build" / "html" / "search.html").as_uri() + "?q=Mann-Whitney")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert any("02_iaa_malignancy" in link.get_attribute("href") for link in found)


def test_every_page_says_that_its_data_are_invented(on_desktop):
    for page in (p for p in on_desktop if p.startswith("notebooks/")):
        if page == "notebooks/10_model_card":  # of stored results on real images
            assert "stored" in on_desktop[page]["text"]
            continue
        assert "synthetic" in on_desktop[page]["banner"].lower()
    assert "invented images only" in on_desktop["book/index"]["text"]


def test_invented_data_earn_no_verdict(iav, phantom_book):
    rows = claims(iav, phantom_book)
    judged = [row for row in rows.values() if row["verdict"] != "not run"]
    assert judged and not any(row["synthetic"] for row in judged)
    assert all(row["setting"] is None for row in rows.values() if row["synthetic"])
    assert all("stored" in row["profile"] for row in judged), "measured elsewhere, and says so"
    invented = [row for row in rows.values() if row["synthetic"]]
    assert invented and all(row["verdict"] == "not run" for row in invented)
    # the real tables, which a clone has no copy of, are judged by what is stored
    assert rows["dice-mean-pairs"]["verdict"] == "reproduced"
    assert rows["dice-mean-pairs"]["measured"] == pytest.approx(0.781, abs=5e-4)
