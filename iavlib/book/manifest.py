"""The manifest: what a notebook's run did, written by its last cell.

The last code cell of every notebook is::

    from iavlib.book import manifest

    manifest.write(cohorts=[cohort])

`iav run` calls a run done only when this file is there, valid, and of that very
run. It tells the kernel about the run through one environment variable,
``IAV_RUN``, the path of a JSON file. Without it (in JupyterLab) nothing is
written to disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iavlib.book.recording import OF_RUNS, take_pending
from iavlib.core.errors import ManifestError
from iavlib.core.files import write_json
from iavlib.core.project import RUN_VARIABLE
from iavlib.core.versions import hardware, loaded_versions

SCHEMA_VERSION = 1

_NUMBER = (int, float)
_OPTIONAL_TEXT = (str, type(None))
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "run_id": str,
    "notebook": str,
    "profile": str,
    "overrides": dict,
    "parameters": dict,
    "fingerprint": str,
    "cohorts": list,
    "claims": list,
    "versions": dict,
    "hardware": dict,
    "seconds": _NUMBER,
    "finished": str,
}
_COHORT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "synthetic": bool,
    "fingerprint": str,
    "n_images": int,
    "n_masks": int,
    "citation": str,
}
_CLAIM_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "value": _NUMBER,
    "interval": (list, type(None)),
    "n": int,
    "cohort": str,
    "synthetic": bool,
    "note": _OPTIONAL_TEXT,
}
#: Of a claim since they are kept; manifests written before have none of them.
_LATER_CLAIM_FIELDS: dict[str, type | tuple[type, ...]] = {
    "coverage": (list, type(None)),
    "baseline": (*_NUMBER, type(None)),
    "reduction_interval": (list, type(None)),
    "simulated": bool,
}


def write(cohorts: Sequence[Any]) -> None:
    """Write the manifest of this run, and forget the recorded claims.

    Parameters
    ----------
    cohorts : sequence of Cohort
        Every cohort the notebook loaded; empty if it loaded none.

    Raises
    ------
    ManifestError
        If a claim was recorded on a cohort that is not among `cohorts` (but for the data of
        finished runs, which may be stored ones), or the run's facts cannot be read.

    Notes
    -----
    Outside `iav run` nothing is written; a line says what would have been.
    """
    described = [_describe(cohort) for cohort in cohorts]
    claims = take_pending()
    of_this_page = {claim["cohort"] for claim in claims if not claim.pop(OF_RUNS)}
    strangers = of_this_page - {cohort["name"] for cohort in described}
    if strangers:
        raise ManifestError(
            f"claims were recorded on {', '.join(sorted(strangers))}, which manifest.write does "
            "not list; add it to cohorts=[...]"
        )
    facts_file = os.environ.get(RUN_VARIABLE)
    if not facts_file:
        print(_summary(described, claims))
        return
    facts = _read_json(Path(facts_file))
    content = {
        "schema_version": SCHEMA_VERSION,
        **{key: facts[key] for key in ("run_id", "notebook", "profile", "overrides")},
        **{key: facts[key] for key in ("parameters", "fingerprint", "inputs")},
        "cohorts": described,
        "claims": claims,
        "versions": loaded_versions(),
        "hardware": hardware(),
        "seconds": round(time.time() - facts["started"], 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(Path(facts["manifest"]), content)


def _describe(cohort: Any) -> dict[str, Any]:
    return {
        "name": str(cohort.name),
        "synthetic": bool(cohort.synthetic),
        "fingerprint": str(cohort.fingerprint),
        "n_images": len(cohort.images),
        "n_masks": len(cohort.masks),
        "citation": str(cohort.citation),
    }


def _summary(cohorts: list[dict[str, Any]], claims: list[dict[str, Any]]) -> str:
    data = ", ".join(f"{c['name']}{' (synthetic)' if c['synthetic'] else ''}" for c in cohorts)
    values = ", ".join(f"{claim['id']} = {claim['value']:.4g}" for claim in claims)
    return (
        f"Interactive run on {data or 'no data'}; nothing written. "
        f"Claims measured: {values or 'none'}."
    )


def read_manifest(path: Path, run_id: str | None = None) -> dict[str, Any]:
    """Read a manifest and check that it is whole.

    Parameters
    ----------
    path : Path
        The manifest file.
    run_id : str, optional
        Demand that it was written by this run.

    Returns
    -------
    dict
        With the keys ``schema_version``, ``run_id``, ``notebook``, ``profile``,
        ``overrides``, ``parameters``, ``fingerprint``, ``cohorts``, ``claims``,
        ``versions``, ``hardware``, ``seconds`` and ``finished`` (UTC, ISO 8601); of
        runs since they are kept also ``inputs``, what the fingerprint was made of.

    Raises
    ------
    ManifestError
        If the file is missing, cut off, of another version, lacks something, or
        belongs to another run.
    """
    content = check_manifest(_read_json(path), str(path))
    if run_id is not None and content["run_id"] != run_id:
        raise ManifestError(f"{path}: belongs to run {content['run_id']}, not to {run_id}")
    return content


def check_manifest(content: Any, path: str) -> dict[str, Any]:
    """Check that what was read is a whole manifest, and return it.

    Raises
    ------
    ManifestError
        If it is of another version or lacks something; `path` is named.
    """
    _check_fields(content, _FIELDS, path)
    if content["schema_version"] != SCHEMA_VERSION:
        raise ManifestError(
            f"{path}: manifest version {content['schema_version']}, this library reads version "
            f"{SCHEMA_VERSION}; run the notebook again"
        )
    for number, cohort in enumerate(content["cohorts"], start=1):
        _check_fields(cohort, _COHORT_FIELDS, f"{path}, cohort {number}")
    for number, claim in enumerate(content["claims"], start=1):
        _check_fields(claim, _CLAIM_FIELDS, f"{path}, claim {number}")
        later = {key: kind for key, kind in _LATER_CLAIM_FIELDS.items() if key in claim}
        _check_fields(claim, later, f"{path}, claim {number}")
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ManifestError(f"{path}: half-written or damaged ({error}); run it again") from error


def _check_fields(content: Any, fields: dict[str, Any], place: str) -> None:
    if not isinstance(content, dict):
        raise ManifestError(f"{place}: must be a JSON object; run the notebook again")
    for name, kind in fields.items():
        if name not in content:
            raise ManifestError(f"{place}: {name!r} is missing; run the notebook again")
        value = content[name]
        is_stray_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or is_stray_bool:
            raise ManifestError(
                f"{place}: {name!r} is {value!r}, of the wrong kind; run the notebook again"
            )
