"""The pages as a reader meets them: figures, search, phone, and what they say of their data."""

import json

import pytest
import yaml
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.book
DESKTOP, PHONE = (1300, 1000), (390, 844)


def pages(project) -> list[str]:
    toc = yaml.safe_load((project / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def open_page(browser, project, page: str, size=DESKTOP) -> None:
    browser.set_window_size(*size)
    browser.get((project / "_build" / "html" / f"{page}.html").as_uri())


def claims(iav, project) -> dict[str, dict]:
    output = iav(project, "claims", "--json")
    assert output.returncode == 0, output.stderr
    return {row["id"]: row for row in json.loads(output.stdout)}


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


def test_numbers_of_the_prose_are_there(browser, phantom_book):
    open_page(browser, phantom_book, "notebooks/02_iaa_malignancy")
    text = browser.find_element(By.CSS_SELECTOR, "article").text
    assert "glue:" not in text
    assert "of the variance of agreement" in text


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
        banner = browser.find_element(By.CSS_SELECTOR, ".iav-synthetic")
        assert "synthetic" in banner.text.lower()
    open_page(browser, phantom_book, "book/index")
    assert "synthetic" in browser.find_element(By.CSS_SELECTOR, "article").text.lower()


def test_invented_data_earn_no_verdict(iav, phantom_book):
    rows = claims(iav, phantom_book)
    assert {row["verdict"] for row in rows.values()} == {"not run"}
    assert rows["dice-mean-pairs"]["synthetic"] is True


def test_published_tables_earn_verdicts(iav, imapp_book):
    rows = claims(iav, imapp_book)
    measured = {key: row for key, row in rows.items() if row["measured"] is not None}
    assert {key: row["verdict"] for key, row in measured.items()} == {
        **dict.fromkeys(
            (
                *("imapp-images", "imapp-masks", "imapp-annotators", "imapp-multi-images"),
                *("imapp-multi-masks", "imapp-multi-annotators", "imapp-pairs", "dice-mean-pairs"),
                *("dice-benign-pairs", "dice-malignant-pairs", "malignancy-mwu-pair"),
                *("malignancy-mwu-image", "malignancy-clustered", "malignancy-tool-adjusted"),
            ),
            "reproduced",
        ),
        "malignancy-pointbiserial": "contradicted",
    }
    assert not any(row["synthetic"] for row in measured.values())
    assert measured["malignancy-clustered"]["measured"] == pytest.approx(-0.0460, abs=5e-5)
    assert measured["malignancy-tool-adjusted"]["measured"] == pytest.approx(-0.0232, abs=5e-5)
    assert measured["malignancy-mwu-pair"]["measured"] == pytest.approx(4.3e-6, rel=0.02)
    assert measured["malignancy-mwu-image"]["measured"] == pytest.approx(1.68e-7, rel=0.02)
    for key in ("dice-mean-pairs", "malignancy-clustered", "malignancy-pointbiserial"):
        low, high = measured[key]["interval"]
        assert low < measured[key]["measured"] < high


def test_the_first_page_shows_what_was_measured(browser, imapp_book):
    open_page(browser, imapp_book, "book/index")
    text = browser.find_element(By.CSS_SELECTOR, "article").text
    assert "reproduced" in text and "contradicted" in text and "not run" in text
    assert "17,684" in text
    open_page(browser, imapp_book, "notebooks/01_data_analysis")
    assert not browser.find_elements(By.CSS_SELECTOR, ".iav-synthetic")
