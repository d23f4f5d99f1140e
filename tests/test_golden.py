"""No number that is stored with the book moves unless it is meant to (``tests/golden/make.py``)."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from iavlib.book.claims import ledger
from iavlib.core.project import Project

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
OUTDATED = ", by an earlier version of the notebook"


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_stored_run_is_as_it_was(golden):
    expected = json.loads((GOLDEN / "stored_runs.json").read_text())
    digests = golden.run_digests()
    assert {name: digests.get(name) for name in expected} == expected
    assert digests.keys() == expected.keys()


def test_the_ledger_of_stored_values_is_as_it_was(tmp_path):
    # a copy: what this machine has run itself does not count
    for name in ("book", "notebooks"):
        ignored = shutil.ignore_patterns("executed", "generated", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("_toc.yml", "_config.yml"):
        shutil.copy(ROOT / name, tmp_path)
    rows = json.loads(json.dumps(ledger(Project(tmp_path))))
    expected = json.loads((GOLDEN / "claims.json").read_text())
    for row in (*rows, *expected):
        row["profile"] = row["profile"] and row["profile"].removesuffix(OUTDATED)
    assert rows == expected


def test_the_stored_results_are_few_and_small():
    files = [path for path in (ROOT / "book" / "results").rglob("*") if path.is_file()]
    assert len(files) <= 20
    assert sum(path.stat().st_size for path in files) < 10_000_000
