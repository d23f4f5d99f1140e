"""Fixtures that every part of the test suite uses."""

import os
import shutil
import sys
from pathlib import Path

import pytest


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


@pytest.fixture(scope="session")
def imapp_home():
    """Data home with the published IMA++ tables; tests that ask for it skip without them."""
    home = os.environ.get("IAV_DATA_HOME", "")
    if not home or not (Path(home) / "imapp" / "IMAplusplus_img_metadata.csv").is_file():
        pytest.skip("needs the IMA++ tables: set IAV_DATA_HOME after 'iav data fetch imapp'")
    return Path(home).resolve()


@pytest.fixture(scope="session")
def browser():
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
    yield instance
    instance.quit()
