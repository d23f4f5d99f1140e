import json
import time
from types import SimpleNamespace

import pytest

import iavlib
from iavlib.book import manifest, record
from iavlib.book.manifest import read_manifest
from iavlib.book.recording import take_pending
from iavlib.core.errors import ManifestError
from iavlib.core.project import not_trained
from iavlib.experiments.claims import RunData

COHORT = SimpleNamespace(
    name="toy", synthetic=False, fingerprint="abc", images=[1], masks=[1, 2], citation="Toy"
)


@pytest.fixture(autouse=True)
def forget_claims():
    yield
    take_pending()


@pytest.fixture
def run(workshop, tmp_path, monkeypatch):
    """Play `iav run`: tell this process about a run, and give the manifest's path."""
    facts = {
        "run_id": "run1",
        "notebook": "01_first",
        "profile": "quick",
        "overrides": {},
        "parameters": {"n": 1},
        "fingerprint": "f" * 16,
        "inputs": {"cells": []},
        "manifest": str(tmp_path / "out.json"),
        "started": time.time() - 2,
    }
    (tmp_path / "run.json").write_text(json.dumps(facts))
    monkeypatch.setenv("IAV_RUN", str(tmp_path / "run.json"))
    return tmp_path / "out.json"


def test_a_written_manifest_reads_back(run):
    record("toy-mean", 0.5, cohort=COHORT, n=10, interval=(0.4, 0.6))
    not_trained.update(["b", "a"])
    manifest.finish(cohorts=[COHORT])
    content = read_manifest(run, run_id="run1")
    assert content["not_trained"] == ["a", "b"]
    assert not_trained == set()
    assert content["cohorts"][0]["n_masks"] == 2
    assert content["claims"][0]["value"] == 0.5
    assert content["parameters"] == {"n": 1}
    assert 2 <= content["seconds"] < 60
    assert content["versions"]["iavlib"] == iavlib.__version__
    assert take_pending() == []
    assert [p.name for p in run.parent.glob("*.tmp")] == []


def test_interactively_nothing_is_written(workshop, monkeypatch, capsys):
    monkeypatch.delenv("IAV_RUN", raising=False)
    record("toy-mean", 0.25, cohort=COHORT, n=10)
    record("toy-mean", 0.5, cohort=COHORT, n=10)  # a cell run twice
    manifest.finish(cohorts=[COHORT])
    assert "toy-mean = 0.5." in capsys.readouterr().out
    assert not workshop.project.executed.exists()
    assert take_pending() == []


def test_a_claim_on_an_unlisted_cohort_is_refused(run):
    record("toy-mean", 0.5, cohort=COHORT, n=10)
    with pytest.raises(ManifestError, match=r"on toy, which .* does not list"):
        manifest.finish(cohorts=[])


def test_data_of_stored_runs_need_not_be_here(run):
    record("toy-mean", 0.5, cohort=RunData("elsewhere", synthetic=False), n=10)
    manifest.finish(cohorts=[COHORT])
    (claim,) = read_manifest(run)["claims"]
    assert (claim["cohort"], claim["synthetic"]) == ("elsewhere", False)
    assert "of_runs" not in claim


def damaged(change):
    def apply(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text(path.read_text()[:-30]), "half-written"),
        (lambda path: path.write_text(""), "half-written"),
        (lambda path: path.write_text("[]"), "should be a valid dictionary"),
        (damaged(lambda c: c.pop("claims")), "claims is missing"),
        (damaged(lambda c: c.update(seconds="2")), "seconds is '2'"),
        (damaged(lambda c: c.update(seconds=True)), "seconds is True"),
        (damaged(lambda c: c["cohorts"][0].pop("synthetic")), "cohorts.0.synthetic is missing"),
        (damaged(lambda c: c.update(schema_version=99)), "manifest version 99"),
        (damaged(lambda c: c.update(run_id="run0")), "belongs to run run0"),
    ],
)
def test_a_manifest_that_is_not_whole_is_refused(run, damage, message):
    manifest.finish(cohorts=[COHORT])
    damage(run)
    with pytest.raises(ManifestError, match=message):
        read_manifest(run, run_id="run1")
