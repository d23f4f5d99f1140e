"""The ledger: every claim with what was measured for it and a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from iavlib.claims.definitions import Claim, load_claims
from iavlib.claims.reductions import measured_reduction, reported_reduction
from iavlib.claims.verdicts import NOT_RUN, judge
from iavlib.execution.manifest import read_manifest
from iavlib.execution.profiles import SCALES
from iavlib.execution.project import Project, find_project
from iavlib.execution.stored import describe_stored, read_stored

#: Keys of a row, in order; `iav claims --json` prints exactly these.
KEYS = (
    "id",
    "source",
    "statement",
    "reported",
    "measured",
    "interval",
    "n",
    "cohort",
    "synthetic",
    "profile",
    "verdict",
    "needs",
    "coverage",
    "simulated",
    "baseline",
    "reduction",
    "reduction_interval",
    "reported_baseline",
    "reported_reduction",
)

#: What manifests of earlier versions do not say of a recorded value.
_UNSAID = {"coverage": None, "simulated": False, "baseline": None, "reduction_interval": None}


def ledger(project: Project | None = None) -> list[dict[str, Any]]:
    """Set every claim beside what was measured.

    Parameters
    ----------
    project : Project, optional
        The project; the one around the working folder by default.

    Returns
    -------
    list of dict
        One row a claim, in the order of ``book/claims.yml``, with the keys
        `KEYS`. A claim measured on one of its cohorts has a verdict; one
        measured only on synthetic data shows that value, with ``synthetic``
        true and the verdict ``"not run"``; one not measured has None. Values
        from other data (a user's own) are left out. Of several values the
        one on real data, with real annotators, at the larger scale, of the
        later run is taken; at the same scale one measured here goes before a
        stored one, which says in ``profile`` that it is stored.

        ``coverage`` is how many of the paper's units were at hand, and of how
        many; ``simulated`` tells of simulated annotators on real images;
        ``reduction`` is that of a measured error against ``baseline``, the
        constant median's on the same data, ``reported_reduction`` the paper's.

    Raises
    ------
    ClaimError, ManifestError
        If the list of claims or a manifest is damaged.
    """
    project = project or find_project()
    found = _measurements([*read_runs(project), *read_stored(project)])
    return [_row(claim, found.get(claim.id, [])) for claim in load_claims(project.claims).values()]


def read_runs(project: Project) -> list[dict[str, Any]]:
    """Read the manifests of all notebooks that were run here.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    list of dict
        In the order of the notebooks. A manifest whose notebook is gone counts
        no more.
    """
    paths = [project.executed / f"{stem}.json" for stem in project.notebook_files()]
    return [read_manifest(path) for path in paths if path.is_file()]


def _measurements(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Collect what was recorded for each claim, with the run it comes from."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for entry in run["claims"]:
            origin = {
                "profile": describe_profile(run),
                "scale": SCALES.index(run["profile"]) if run["profile"] in SCALES else -1,
                "finished": datetime.fromisoformat(run["finished"]),
                "here": "stored" not in run,
            }
            found.setdefault(entry["id"], []).append({**_UNSAID, **entry, **origin})
    return found


def describe_profile(run: Mapping[str, Any]) -> str:
    """Name a run's scale: its profile, what the user set beyond it, and whether it is stored."""
    parts = [run["profile"], *(f"{k}={v}" for k, v in run["overrides"].items())]
    return ", ".join([*parts, describe_stored(run)] if "stored" in run else parts)


def _row(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(KEYS)
    row |= {key: getattr(claim, key) for key in ("id", "source", "statement", "reported", "needs")}
    row |= {"synthetic": False, "simulated": False, "verdict": NOT_RUN}
    row |= {"reported_baseline": claim.baseline, "reported_reduction": reported_reduction(claim)}
    entry = _best(claim, entries)
    if entry is None:
        return row
    row |= {key: entry[key] for key in ("interval", "n", "cohort", "synthetic", "profile")}
    row |= {key: entry[key] for key in ("coverage", "simulated", "baseline")}
    row["measured"] = entry["value"]
    reduction = measured_reduction(entry)
    if reduction is not None:
        row["reduction"] = reduction.value
        row["reduction_interval"] = [reduction.low, reduction.high]
    if not entry["synthetic"]:
        row["verdict"] = judge(claim, entry["value"], entry["interval"], reduction)
    return row


def _best(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    usable = [e for e in entries if e["synthetic"] or e["cohort"] in claim.cohorts]
    return max(
        usable,
        key=lambda e: (
            *(not e["synthetic"], not e["simulated"]),
            *(e["scale"], e["n"], e["here"], e["finished"]),
        ),
        default=None,
    )
