"""The pages over HTTP: accessibility, dark mode, weight, and what the script adds to them."""

import importlib.util
from pathlib import Path

import pytest
from looking import DESKTOP, PHONE, pages, served
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.thorough

#: Of one page and all that it loads, scripts and styles of the theme included.
LARGEST = 2_000_000
WEIGHT = """
const entries = performance.getEntriesByType("resource");
const page = performance.getEntriesByType("navigation")[0];
return [page, ...entries].reduce((sum, entry) => sum + entry.encodedBodySize, 0);
"""


@pytest.fixture(scope="module")
def address(phantom_book):
    with served(phantom_book / "_build" / "html") as root:
        yield root


@pytest.fixture(scope="module")
def axe():
    """Source of axe-core, which checks a page for barriers."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None:
        pytest.skip("needs axe-core: pip install 'iavlib[dev]'")
    return Path(found.origin).with_name("axe.min.js").read_text()


@pytest.fixture
def scheme(browser):
    """Make the browser prefer light or dark pages."""

    def prefer(name):
        feature = {"name": "prefers-color-scheme", "value": name}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    yield prefer
    prefer("light")


def look(browser, address, page, size=DESKTOP):
    browser.set_window_size(*size)
    browser.get(f"{address}{page}.html")


def barriers(browser, axe):
    """List the rules that a page violates seriously, each with an element."""
    browser.set_script_timeout(300)
    browser.execute_script(axe)
    found = browser.execute_async_script(
        "axe.run(document, {resultTypes: ['violations']}).then(arguments[0])"
    )
    return [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def test_no_page_has_a_barrier_an_error_or_too_much_weight(browser, phantom_book, address, axe):
    look(browser, address, "index")
    for page in pages(phantom_book):
        look(browser, address, page)
        weight = browser.execute_script(WEIGHT)
        assert 10_000 < weight < LARGEST, (page, weight)
        assert barriers(browser, axe) == [], page
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors, (page, errors)


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


def test_a_wide_table_scrolls_in_a_region_that_the_keyboard_reaches(browser, address, phantom_book):
    regions = []
    for page in (p for p in pages(phantom_book) if p.startswith("notebooks/")):
        look(browser, address, page, PHONE)
        regions += browser.execute_script(
            "return [...document.querySelectorAll('.iav-table')]"
            ".filter(e => e.scrollWidth > e.clientWidth)"
            ".map(e => [e.tabIndex, e.getAttribute('role'), e.getAttribute('aria-label')])"
        )
    assert regions
    assert all(index == 0 and role == "region" and label for index, role, label in regions)
