"""The pages over HTTP: accessibility, dark mode, weight, and what the script adds to them."""

import pytest
from looking import DESKTOP, PHONE, barriers, visit
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.thorough

#: Of one page and all that it loads, scripts and styles of the theme included.
LARGEST = 2_000_000


@pytest.fixture
def scheme(browser):
    """Make the browser prefer light or dark pages."""

    def prefer(name):
        features = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        features = [{"name": feature, "value": value} for feature, value in features.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    yield prefer
    prefer("light")


def look(browser, address, page, size=DESKTOP):
    browser.set_window_size(*size)
    visit(browser, f"{address}{page}.html")


def test_no_page_has_a_barrier_or_too_much_weight(on_desktop):
    for page, facts in on_desktop.items():
        assert 10_000 < facts["weight"] < LARGEST, (page, facts["weight"])
        assert facts["barriers"] == [], page


@pytest.mark.parametrize("page", ["book/index", "notebooks/02_iaa_malignancy", "book/glossary"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_barrier_in_dark_mode(browser, address, axe, scheme, page, size):
    scheme("dark")
    look(browser, address, page, size)
    dark = browser.execute_script("return document.documentElement.dataset.theme")
    assert dark == "dark"
    assert barriers(browser, axe) == []


def test_figures_lie_on_a_light_card_in_dark_mode(browser, address, scheme):
    scheme("dark")
    look(browser, address, "book/index")
    figure = browser.find_element(By.CSS_SELECTOR, "figure.iav-figure img")
    assert figure.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"


@pytest.mark.parametrize("page", ["01_data_analysis", "02_iaa_malignancy", "08_baseline_diff"])
def test_captions_stand_on_the_page_in_dark_mode(browser, address, scheme, page):
    """On the theme's light card they would have its colour, which axe does not count."""
    scheme("dark")
    look(browser, address, f"notebooks/{page}")
    captions = browser.find_elements(By.CSS_SELECTOR, ".cell_output figcaption")
    cards = browser.find_elements(By.CSS_SELECTOR, ".cell_output .text_html:has(figcaption)")
    assert captions and cards
    assert {card.value_of_css_property("background-color") for card in cards} == {
        "rgba(0, 0, 0, 0)"
    }


def test_every_link_and_anchor_resolves(phantom_book, broken_links):
    assert broken_links(phantom_book / "_build" / "html") == []


def test_claims_are_filtered_by_word_and_label(browser, address):
    look(browser, address, "book/index")
    sources = browser.find_elements(By.CSS_SELECTOR, "details.iav-source")
    assert len(sources) >= 5 and not any(source.get_attribute("open") for source in sources)
    form = browser.find_element(By.CSS_SELECTOR, "form.iav-filter")
    form.find_element(By.NAME, "words").send_keys("PH2 fine-tuning")
    shown = [r for r in browser.find_elements(By.CSS_SELECTOR, ".iav-claims tbody tr") if r.text]
    assert shown and all("ph2" in row.text.lower() for row in shown)
    assert form.find_element(By.TAG_NAME, "output").text == f"{len(shown)} claims"
    form.find_element(By.NAME, "words").send_keys(Keys.BACKSPACE * 20)
    Select(form.find_element(By.NAME, "label")).select_by_visible_text("not run")
    shown = [r for r in browser.find_elements(By.CSS_SELECTOR, ".iav-claims tbody tr") if r.text]
    assert len(shown) > 5 and all("not run" in row.text for row in shown)


def test_claims_are_cards_on_a_phone(browser, address):
    look(browser, address, "book/index", PHONE)
    browser.execute_script("document.querySelector('details.iav-source').open = true")
    row = browser.find_element(By.CSS_SELECTOR, ".iav-claims tbody tr")
    cells = row.find_elements(By.CSS_SELECTOR, "td")
    assert len({cell.location["x"] for cell in cells}) == 1, "one below the other"
    right = max(cell.location["x"] + cell.size["width"] for cell in cells)
    assert right <= PHONE[0]


def test_tables_are_downloaded_and_their_numbers_stand_at_the_right(browser, address):
    look(browser, address, "notebooks/02_iaa_malignancy")
    table = browser.find_element(By.CSS_SELECTOR, ".iav-table > table.dataframe")
    numbers = table.find_elements(By.CSS_SELECTOR, "td.iav-number")
    assert numbers and {n.value_of_css_property("text-align") for n in numbers} == {"right"}
    browser.execute_script(
        "window.made = []; URL.createObjectURL = (blob) => { blob.text().then((t) => made.push(t));"
        " return '#made'; };"
    )
    browser.find_element(By.CSS_SELECTOR, "button.iav-csv").click()
    lines = browser.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(window.made[0]), 200)"
    ).splitlines()
    rows = table.find_elements(By.TAG_NAME, "tr")
    assert len(lines) == len(rows)
    assert any(numbers[0].text in line for line in lines)


def test_a_wide_table_scrolls_in_a_region_that_the_keyboard_reaches(on_a_phone):
    regions = [
        table
        for page, facts in on_a_phone.items()
        if page.startswith("notebooks/")
        for table in facts["tables"]
    ]
    assert regions
    assert all(r["index"] == 0 and r["role"] == "region" and r["label"] for r in regions)
