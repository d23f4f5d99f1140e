"""The pages as a reader meets them: figures, search, phone, and what they say of their data."""

import pytest
from looking import DESKTOP, PHONE, claims, open_page, pages
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_has_a_console_error_or_a_broken_picture(browser, phantom_book, size):
    for page in pages(phantom_book):
        open_page(browser, phantom_book, page, size)
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors, (page, errors)
        broken = browser.execute_script(
            "return [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
        )
        assert not broken, page


def test_nothing_sticks_out_of_a_phone(browser, phantom_book):
    for page in pages(phantom_book):
        open_page(browser, phantom_book, page, PHONE)
        overflow = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 1, page


def test_every_figure_has_caption_and_text_alternative(browser, phantom_book):
    seen = 0
    for page in pages(phantom_book):
        open_page(browser, phantom_book, page)
        for picture in browser.find_elements(By.CSS_SELECTOR, "article img"):
            alt = picture.get_attribute("alt") or ""
            assert len(alt) > 30, (page, picture.get_attribute("src"))
            caption = picture.find_elements(By.XPATH, "ancestor::figure//figcaption")
            assert caption and len(caption[0].text) > 30, (page, alt)
            seen += 1
    assert seen >= 12


def test_search_finds_the_test_by_name(browser, phantom_book):
    browser.set_window_size(*DESKTOP)
    browser.get((phantom_book / "_build" / "html" / "search.html").as_uri() + "?q=Mann-Whitney")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert any("02_iaa_malignancy" in link.get_attribute("href") for link in found)


def test_every_page_says_that_its_data_are_invented(browser, phantom_book):
    for page in (p for p in pages(phantom_book) if p.startswith("notebooks/")):
        open_page(browser, phantom_book, page)
        if page == "notebooks/10_model_card":  # of stored results on real images
            assert "stored" in browser.find_element(By.CSS_SELECTOR, "article").text
            continue
        banner = browser.find_element(By.CSS_SELECTOR, ".iav-synthetic")
        assert "synthetic" in banner.text.lower()
    open_page(browser, phantom_book, "book/index")
    assert "invented images only" in browser.find_element(By.CSS_SELECTOR, "article").text


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
