"""Write what the committed results say, so that a change of the code that moves a number is seen.

Run as ``python tests/golden/make.py`` when numbers are meant to change, and say why in the commit.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

from iavlib.book.claims import ledger
from iavlib.core.project import Project

ROOT = Path(__file__).parents[2]


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


def main() -> None:
    """Write the two golden files."""
    folder = ROOT / "tests" / "golden"
    (folder / "claims.json").write_text(json.dumps(ledger(Project(ROOT)), indent=1) + "\n")
    runs = {}
    for path in sorted((ROOT / "book/results/runs").glob("*/*/metrics.json")):
        metrics = json.loads(path.read_text())
        rows = list(csv.reader((path.parent / "predictions.csv").open(newline="")))
        runs[f"{path.parent.parent.name}/{path.parent.name}"] = {
            "metrics": digest(leaves(metrics["metrics"])),
            "baselines": digest(leaves(metrics["baselines"])),
            "predictions": digest(cell for row in rows[1:] for cell in row),
            "rows": len(rows) - 1,
        }
    (folder / "stored_runs.json").write_text(json.dumps(runs, indent=0) + "\n")


if __name__ == "__main__":
    main()
