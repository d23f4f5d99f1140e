"""The book on the published tables: which claims are judged, and how."""

import pytest
from looking import claims, open_page
from selenium.webdriver.common.by import By

pytestmark = pytest.mark.thorough


def test_published_tables_earn_verdicts(iav, imapp_book):
    rows = claims(iav, imapp_book)
    measured = {key: row for key, row in rows.items() if row["measured"] is not None}
    assert {key: row["verdict"] for key, row in measured.items()} == {
        **dict.fromkeys(
            (
                *("imapp-images", "imapp-masks", "imapp-annotators", "imapp-multi-images"),
                *("dice-mean-pairs", "dice-benign-pairs", "dice-malignant-pairs"),
                *("malignancy-mwu-pair", "malignancy-mwu-image", "cm-lowrank-counts"),
            ),
            "reproduced",
        ),
        **dict.fromkeys(
            (
                *("imapp-multi-masks", "imapp-multi-annotators", "imapp-pairs"),
                "malignancy-clustered",
            ),
            "supported",
        ),
        "malignancy-pointbiserial": "not supported",
        "malignancy-tool-adjusted": "inconclusive",
    }
    assert measured["malignancy-pointbiserial"]["setting"] == "same data, other protocol"
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
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    text = browser.find_element(By.CSS_SELECTOR, "article").text
    assert "reproduced" in text and "inconclusive" in text and "not run" in text
    assert "17,684" in text
    open_page(browser, imapp_book, "notebooks/01_data_analysis")
    assert not browser.find_elements(By.CSS_SELECTOR, ".iav-synthetic")
