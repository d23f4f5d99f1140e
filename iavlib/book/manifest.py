"""The manifest: what a notebook's run did, written by its last cell.

The last code cell of every notebook is::

    from iavlib import book

    book.finish(cohorts=[cohort])

`iav run` accepts a run only when this file is there, valid, and of that very run. The kernel gets
the facts of the run through one environment variable, ``IAV_RUN``, the path of a JSON file. Without
it, in JupyterLab or under bare papermill, :mod:`iavlib.book.interactive` works them out.
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from iavlib.book.recording import Measurement, take_pending, take_tables
from iavlib.core.errors import ManifestError
from iavlib.core.files import load_json, write_json
from iavlib.core.project import RUN_VARIABLE, not_trained
from iavlib.core.settings import describe
from iavlib.core.versions import hardware, loaded_versions

SCHEMA_VERSION = 1
_SHOWN = 3  # values of claims that the last cell prints
#: About when the first cell ran, which imports this.
_IMPORTED = time.time()
#: What a manifest takes over from the facts of its run.
_FACTS = ["run_id", "notebook", "profile", "overrides", "parameters", "fingerprint", "inputs"]


class CohortSummary(BaseModel):
    """What a manifest holds of a cohort."""

    model_config = ConfigDict(strict=True)

    name: str
    synthetic: bool
    fingerprint: str
    n_images: int
    n_masks: int
    citation: str


class Manifest(BaseModel):
    """What a manifest must hold; further keys are kept."""

    model_config = ConfigDict(strict=True)

    schema_version: int
    run_id: str
    notebook: str
    profile: str
    overrides: dict[str, Any]
    parameters: dict[str, Any]
    fingerprint: str
    cohorts: list[CohortSummary]
    claims: list[Measurement]
    #: Tables of derived numbers, see :func:`iavlib.book.keep`; earlier versions kept none.
    tables: list[dict[str, Any]] = []
    #: Experiments that were not finished, and not trained as training was switched off.
    not_trained: list[str] = []
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: float
    finished: str


def finish(cohorts: Sequence[Any]) -> None:
    """Write the manifest of this run, and forget the recorded claims.

    Parameters
    ----------
    cohorts : sequence of Cohort
        Every cohort the notebook loaded; empty if it loaded none.

    Raises
    ------
    ManifestError
        If a claim was recorded, or a table kept, of a cohort that is not among `cohorts` (but for
        the data of finished runs, which may be stored ones), or the run's facts cannot be read.

    Notes
    -----
    In JupyterLab and under papermill the manifest is written too, and a printed line tells how its
    run gets into the book; where the notebook's file cannot be found out, the line only sums up.
    """
    described = [_describe(cohort) for cohort in cohorts]
    pending = take_pending()
    claims = [claim for claim, _ in pending]
    tables, left = take_tables(), sorted(not_trained)
    not_trained.clear()  # in JupyterLab the next run may be of the same kernel
    of_this_page = {claim["cohort"] for claim, of_runs in pending if not of_runs}
    of_this_page |= {table["cohort"] for table in tables}
    if missing := of_this_page - {cohort["name"] for cohort in described}:
        raise ManifestError(
            f"claims were recorded, or tables kept, on {', '.join(sorted(missing))}, which "
            "book.finish does not list; add it to cohorts=[...]"
        )
    facts_file = os.environ.get(RUN_VARIABLE)
    facts = _read_json(Path(facts_file)) if facts_file else _interactive_facts()
    if not facts:
        print(f"{_summary(described, claims)} Nothing is written.")
        return
    content = {
        "schema_version": SCHEMA_VERSION,
        **{key: facts[key] for key in _FACTS},
        "cohorts": described,
        "claims": claims,
        "tables": tables,
        "not_trained": left,
        "versions": loaded_versions(),
        "hardware": hardware(),
        "seconds": round(time.time() - facts["started"], 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(Path(facts["manifest"]), content)
    if not facts_file:
        then = f"Run {facts['run_id']} recorded. The next `iav book --no-run` shows it, once"
        print(_summary(described, claims), then, facts["output"], "is saved.")


def _interactive_facts() -> dict[str, Any] | None:
    """Return the facts of a run in JupyterLab or under papermill; None elsewhere."""
    from IPython import get_ipython

    from iavlib.book.interactive import begin

    shell = get_ipython()
    return begin(shell.user_ns, _IMPORTED) if shell is not None else None


def _describe(cohort: Any) -> dict[str, Any]:
    texts = {name: str(getattr(cohort, name)) for name in ("name", "fingerprint", "citation")}
    sizes = {"n_images": len(cohort.images), "n_masks": len(cohort.masks)}
    return texts | sizes | {"synthetic": bool(cohort.synthetic)}


def _summary(cohorts: list[dict[str, Any]], claims: list[dict[str, Any]]) -> str:
    data = ", ".join(f"{c['name']}{' (synthetic)' if c['synthetic'] else ''}" for c in cohorts)
    values = [f"{claim['id']} = {claim['value']:.4g}" for claim in claims[:_SHOWN]]
    values += [f"{len(claims) - _SHOWN} more"] if len(claims) > _SHOWN else []
    return f"Run on {data or 'no data'}. Claims measured: {', '.join(values) or 'none'}."


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
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in (None, SCHEMA_VERSION):
        raise ManifestError(
            f"{path}: manifest version {version}, this library reads version {SCHEMA_VERSION}; "
            "run the notebook again"
        )
    try:
        Manifest.model_validate(content)
    except ValidationError as error:
        raise ManifestError(f"{path}: {describe(error)}; run the notebook again") from None
    return content


def _read_json(path: Path) -> Any:
    try:
        return load_json(path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ManifestError(f"{path}: half-written or damaged ({error}); run it again") from error
