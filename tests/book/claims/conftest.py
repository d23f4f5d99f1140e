"""A project with claims, and manifests as runs would leave them."""

import json

import pytest
import yaml

from iavlib.core.project import Project

CLAIM = {
    "id": "mean",
    "source": "paper2020",
    "place": "Table 1",
    "statement": "The mean is a half.",
    "reported": 0.5,
    "unit": "Dice",
    "compare": {"kind": "equal", "tolerance": 0.01},
    "protocol": "published",
    "cohorts": ["real"],
    "notebook": "01_first",
    "needs": "the tables",
}


class ClaimsProject:
    def __init__(self, root):
        self.project = Project(root)
        (root / "book" / "executed").mkdir(parents=True)
        (root / "notebooks").mkdir()
        (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
        self.claims(CLAIM)

    def claims(self, *claims):
        self.project.claims.write_text(yaml.safe_dump(list(claims)))

    def ran(self, stem, *records, profile="quick", finished="2026-01-01T00:00:00+00:00", **fields):
        """Leave a notebook and the manifest of a run that recorded claims."""
        (self.project.notebooks / f"{stem}.ipynb").write_text("{}")
        manifest = {
            "schema_version": 1,
            "run_id": "r",
            "notebook": stem,
            "profile": profile,
            "overrides": {},
            "parameters": {},
            "fingerprint": "f",
            "cohorts": [],
            "claims": [measured(**record) for record in records],
            "versions": {},
            "hardware": {},
            "seconds": 1.0,
            "finished": finished,
        }
        path = self.project.executed / f"{stem}.json"
        path.write_text(json.dumps(manifest | fields))
        return path


def measured(
    id="mean", value=0.5, interval=None, n=10, cohort="real", synthetic=False, note=None, **later
):
    """What a run keeps of a claim; `later` fields are absent from manifests of earlier versions."""
    return {
        **later,
        "id": id,
        "value": value,
        "interval": interval,
        "n": n,
        "cohort": cohort,
        "synthetic": synthetic,
        "note": note,
    }


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.delenv("IAV_RUN", raising=False)
    monkeypatch.chdir(tmp_path)
    return ClaimsProject(tmp_path.resolve())


@pytest.fixture
def claim():
    return dict(CLAIM)
