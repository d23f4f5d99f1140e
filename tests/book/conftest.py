"""The book, built once per kind of data in the smoke profile, in a copy of the project."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import looking
import pytest

ROOT = Path(__file__).parents[2]
COPIED = (
    "_config.yml",
    "_toc.yml",
    "book",
    "notebooks",
    "workflow",
    "constraints.txt",
    "CITATION.cff",
)


def _copy_project(target: Path, stored: bool = False) -> Path:
    """Copy what a clone has, with the stored results of long runs or without."""
    target.mkdir()
    others = () if stored else ("results",)
    left_out = shutil.ignore_patterns("executed", "generated", ".ipynb_checkpoints", *others)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=left_out)
        else:
            shutil.copy(source, target / name)
    return target


def _iav(project: Path, *arguments: str, data_home: Path | None = None, cwd: Path | None = None):
    environment = os.environ | {
        "IAV_CACHE_HOME": str(project.parent / "cache"),
        "IAV_PROJECT": str(project),
        "IAV_RUNS": str(project / "runs"),
        "IAV_DATA_HOME": str(data_home or project.parent / "nothing"),
        "OMP_NUM_THREADS": "1",  # two books are built side by side
    }
    command = [sys.executable, "-m", "iavlib", *arguments]
    return subprocess.run(
        command, cwd=cwd or project, env=environment, capture_output=True, text=True, check=False
    )


def _build(project: Path, *notebooks: str, data_home: Path | None = None) -> Path:
    """Run the notebooks, all unless some are named, and build the book."""
    steps = [("book", "--profile", "smoke")]
    if notebooks:
        steps = [("run", *notebooks, "--profile", "smoke"), ("book", "--no-run")]
    for step in steps:
        done = _iav(project, *step, data_home=data_home)
        assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture(scope="session")
def iav():
    """Call the command line on a copy of the project, by default with no data at all."""
    return _iav


@pytest.fixture(scope="session")
def broken_links():
    """List the links within a built book that lead nowhere."""
    return looking.broken_links


@pytest.fixture(scope="module")
def project_copy(tmp_path_factory) -> Path:
    """Copy of the project in which nothing has run."""
    return _copy_project(tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture(scope="session")
def phantom_book(tmp_path_factory) -> Path:
    """Project whose book was built with no data at all, as in a new clone."""
    target = tmp_path_factory.mktemp("phantom-book") / "project"
    return _build(_copy_project(target, stored=True))


@pytest.fixture(scope="session")
def imapp_book(tmp_path_factory, imapp_home) -> Path:
    """Project whose book was built on the published tables, with the notebooks that judge them."""
    project = _copy_project(tmp_path_factory.mktemp("imapp-book") / "project")
    return _build(project, "01", "02", "06", data_home=imapp_home)


@pytest.fixture(scope="session")
def axe():
    """Source of axe-core, which checks a page for barriers."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None:
        pytest.skip("needs axe-core: pip install 'iavlib[dev]'")
    return Path(found.origin).with_name("axe.min.js").read_text()


@pytest.fixture(scope="session")
def address(phantom_book):
    """Where the phantom book is served."""
    with looking.served(phantom_book / "_build" / "html") as root:
        yield root


@pytest.fixture(scope="session")
def on_desktop(chromium, phantom_book, address, axe) -> dict[str, dict]:
    """What a wide window found on each page of the served book, barriers included."""
    addresses = {page: f"{address}{page}.html" for page in looking.pages(phantom_book)}
    chromium.set_window_size(*looking.DESKTOP)
    looking.visit(chromium, next(iter(addresses.values())))  # the first load of all is no page's
    return looking.look_at_all(
        chromium,
        addresses,
        looking.DESKTOP,
        lambda: {"barriers": looking.barriers(chromium, axe)},
    )


@pytest.fixture(scope="session")
def on_a_phone(chromium, phantom_book) -> dict[str, dict]:
    """What a small window found on each page of the book, opened from the disk."""
    html = phantom_book / "_build" / "html"
    addresses = {page: (html / f"{page}.html").as_uri() for page in looking.pages(phantom_book)}
    return looking.look_at_all(chromium, addresses, looking.PHONE)
