"""Fixtures that every part of the test suite uses."""

import os
import re
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
#: Takes a minute or more to make: all tests that use it run in one worker, where it is made once.
SHARED = "phantom_book"
#: What starts first, so that no worker is still busy with it when the others have ended.
FIRST = (SHARED, "tests/book", "tests/notebooks")


if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each worker and what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    """Try fewer examples of each property where the thorough tests are left out, too."""
    if config.option.markexpr == "not thorough":
        settings.register_profile("quick", settings(), max_examples=25)
        settings.load_profile("quick")


@cache
def _unit(path: str) -> str:
    """Return the name of the tests that one worker runs: the shared fixture, or their file."""
    source = (ROOT / path).read_text(encoding="utf-8")
    return SHARED if re.search(rf"^def .*\b{SHARED}\b", source, re.MULTILINE) else path


def pytest_collection_modifyitems(items):
    """Put what takes longest at the beginning."""

    def rank(item):
        unit = _unit(item.nodeid.split("::")[0])
        place = unit if unit == SHARED else unit.rpartition("/")[0]
        return FIRST.index(place) if place in FIRST else len(FIRST)

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand files to workers in the order of the collection, those of the shared fixture as one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return _unit(super()._split_scope(nodeid))

    if config.getvalue("dist") == "loadfile":
        config.option.loadscopereorder = False  # which puts files with few tests, the longest, last
        return Scheduling(config, log)
    return None


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep what tests make out of the user's cache; share it within one run."""
    root = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("IAV_CACHE_HOME", str(root))


@pytest.fixture(autouse=True)
def nothing_recorded():
    """Forget what a test, or an example of a docstring, recorded and left for the next manifest."""
    yield
    if recording := sys.modules.get("iavlib.book.recording"):
        recording.take_pending()
        recording.take_tables()
    if project := sys.modules.get("iavlib.core.project"):
        project.not_trained.clear()


@pytest.fixture(scope="session")
def imapp_home():
    """Data home with the published IMA++ tables; tests that ask for it skip without them."""
    home = os.environ.get("IAV_DATA_HOME", "")
    if not home or not (Path(home) / "imapp" / "IMAplusplus_img_metadata.csv").is_file():
        pytest.skip("needs the IMA++ tables: set IAV_DATA_HOME after 'iav data fetch imapp'")
    return Path(home).resolve()


@pytest.fixture
def browser(chromium):
    """The browser on an empty page: what an earlier test's page still reports does not arrive.

    In the one window, as a page in a window behind another is not drawn.
    """
    yield chromium
    chromium.get("about:blank")
    chromium.get_log("browser")  # which empties it


@pytest.fixture(scope="session")
def chromium():
    """Headless Chromium; tests that need it skip without one."""
    from selenium import webdriver

    binary = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    instance = webdriver.Chrome(options=options, service=service)
    # axe takes seconds for a long page, and minutes where other programs have the cores
    instance.command_executor.client_config.timeout = 600
    yield instance
    instance.quit()
