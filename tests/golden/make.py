"""Write what the committed results say, so that a change of the code that moves a number is seen.

Run as ``python tests/golden/make.py`` when numbers are meant to change, and say why in the commit.
:mod:`tests.test_golden` compares.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

from iavlib.book.claims import ledger
from iavlib.core.project import Project
from iavlib.experiments.store import read_facts
from iavlib.experiments.stored import read_stored_predictions, stored_runs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "golden"


def leaves(value):
    """Yield the leaves of nested lists and mappings, numbers as floats."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        yield value
    else:
        yield float(value)


def digest(values) -> str:
    """Hash a sequence of values."""
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def claims() -> list[dict]:
    """Give the ledger of claims, as ``iav claims --json`` prints it, of stored results alone."""
    project = Project(ROOT)
    return json.loads(json.dumps(ledger(project)))


def run_digests() -> dict[str, dict]:
    """Hash metrics, baselines and predictions of every stored run, by task and id."""
    runs = {}
    for folder in stored_runs(Project(ROOT)):
        facts = read_facts(folder)
        text = read_stored_predictions(folder).decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
        runs[f"{folder.parent.stem}/{folder.name}"] = {
            "metrics": digest(leaves(facts["metrics"])),
            "baselines": digest(leaves(facts["baselines"])),
            "predictions": digest(cell for row in rows[1:] for cell in row),
            "rows": len(rows) - 1,
        }
    return runs


if __name__ == "__main__":
    (FOLDER / "claims.json").write_text(json.dumps(claims(), indent=1) + "\n")
    (FOLDER / "stored_runs.json").write_text(json.dumps(run_digests(), indent=0) + "\n")
