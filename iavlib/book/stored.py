"""Results that outlive the machine that made them.

``iav results export`` copies what finished runs measured, never what they ran on or how, into
``book/results/``, a few files that maintainers commit. A book built elsewhere shows them, labelled
*stored*, for scales it has not run itself.

``book/results/notebooks.json`` holds the manifests of notebook runs by notebook and scale, with the
tables of statistics that a notebook kept (:func:`iavlib.book.keep`); :func:`stored_tables` returns
these, for pages on machines without the data. ``book/results/runs/`` holds the experiments
(:mod:`iavlib.experiments.stored`). Models stay where they are, and so do predictions of the
training images of a diagnosis: no page reads those.
"""

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.book.manifest import check_manifest, read_manifest
from iavlib.book.notebook_source import read_cells
from iavlib.book.parameters import SCALES
from iavlib.core.errors import ExperimentError, IavError, ManifestError, ProjectError
from iavlib.core.files import load_json, write_json
from iavlib.core.project import Project, find_project, select_notebooks
from iavlib.core.versions import describe_hardware
from iavlib.experiments.store import METRICS, PREDICTIONS, SPEC, read_json
from iavlib.experiments.stored import write_stored

#: Tasks whose pages read nothing about training images; those of task iaa take their median.
_WITHOUT_TRAINING_IMAGES = ("diagnosis", "multitask")
#: Files are committed to a repository: a larger one is refused, by name.
LARGEST = 5_000_000


class StoredResultsError(IavError):
    """A result cannot be exported, or a stored one is damaged."""


@dataclass(frozen=True)
class Export:
    """What an export did.

    Parameters
    ----------
    written, unchanged : tuple of str
        Notebook runs (``01_first.paper``) and experiments (``task/id``).
    skipped : tuple of str
        What was left out, each with the reason.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    skipped: tuple[str, ...]


def notebook_digest(path: Path) -> str:
    """Hash the cells of a notebook, so that a stored result knows which version made it."""
    cells = [[cell.kind, cell.source] for cell in read_cells(path)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def export_results(project: Project, runs: Path | None = None, every_run: bool = False) -> Export:
    """Copy finished runs' results into ``book/results/``.

    Parameters
    ----------
    project : Project
        The project.
    runs : Path, optional
        The run store; by default that of ``IAV_RUNS``, else ``runs`` in the project's root. It
        may be absent.
    every_run : bool, optional
        Keep experiments that no committed list names and those on synthetic data too.

    Returns
    -------
    Export
        Notebooks run at a named scale on real data (invented data may stand beside them), and
        experiments that are finished. Left out, with the reason: runs with parameters set by
        hand, on synthetic data alone, of an earlier version of their notebook, unfinished
        experiments, and unless `every_run` those in no list of
        ``notebooks/profiles/experiments/``, or on synthetic data that the list of the full scale
        does not name itself. An older stored result of the same run is replaced; everything else
        that is stored stays.

    Raises
    ------
    StoredResultsError
        If a file would be too large for a repository, or predictions lack a column.
    """
    written, unchanged, skipped = [], [], []
    manifests = _read_manifests(project)
    for stem, notebook in project.notebook_files().items():
        source = project.executed / f"{stem}.json"
        if not source.is_file():
            skipped.append(f"{stem}: not run here")
            continue
        manifest = read_manifest(source)
        reason = _reason_to_skip(manifest, notebook, project.executed / f"{stem}.ipynb")
        if reason:
            skipped.append(f"{stem}: {reason}")
            continue
        name = f"{stem}.{manifest['profile']}"
        if manifests.get(name, {}).get("run_id") == manifest["run_id"]:
            unchanged.append(name)
            continue
        stamp = {"exported": datetime.now(UTC).isoformat(timespec="seconds")}
        stamp["notebook_digest"] = notebook_digest(notebook)
        manifest.pop("inputs", None)  # only a rerun on this machine compares them
        manifests[name] = manifest | {"stored": stamp}
        written.append(name)
    if written:
        write_json(_manifest_file(project), dict(sorted(manifests.items())))
    folders = []
    for folder, reason in exportable_runs(project, runs, every_run):
        if reason:
            skipped.append(f"{folder.parent.name}/{folder.name}: {reason}")
        else:
            folders.append(folder)
    done = export_runs(project, folders)
    return Export((*written, *done.written), (*unchanged, *done.unchanged), tuple(skipped))


def export_runs(project: Project, folders: Iterable[Path]) -> Export:
    """Copy the results of finished experiments into ``book/results/runs/``.

    Parameters
    ----------
    project : Project
    folders : iterable of Path
        Directories of finished runs.

    Raises
    ------
    StoredResultsError
        As :func:`export_results`.
    """
    written, unchanged = [], []
    by_task: dict[str, dict[str, tuple]] = defaultdict(dict)
    for folder in folders:
        content = read_json(folder / SPEC), read_json(folder / METRICS), _read_predictions(folder)
        by_task[folder.parent.name][folder.name] = content
    for task, of_task in by_task.items():
        try:
            changed = write_stored(project, task, of_task, LARGEST)
        except ExperimentError as error:
            raise StoredResultsError(str(error)) from error
        for run_id in of_task:
            (written if run_id in changed else unchanged).append(f"{task}/{run_id}")
    return Export(tuple(written), tuple(unchanged), ())


def read_stored(project: Project) -> list[dict[str, Any]]:
    """Read the stored manifests of notebooks.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    list of dict
        Manifests with ``stored``: ``exported`` (time), ``notebook_digest`` and ``current``, False
        where the notebook has changed since. A result whose notebook is gone counts no more.

    Raises
    ------
    ManifestError
        If the file is damaged.
    """
    notebooks = project.notebook_files()
    manifests = []
    for name, manifest in _read_manifests(project).items():
        label = f"{_manifest_file(project)}, {name}"
        check_manifest(manifest, label)
        stamp = manifest.get("stored")
        if not isinstance(stamp, dict) or not {"exported", "notebook_digest"} <= stamp.keys():
            raise ManifestError(f"{label}: no stored result; make it with 'iav results export'")
        if (notebook := notebooks.get(manifest["notebook"])) is not None:
            current = stamp["notebook_digest"] == notebook_digest(notebook)
            manifests.append(manifest | {"stored": stamp | {"current": current}})
    return manifests


class StoredTables(dict[str, pd.DataFrame]):
    """Stored tables of one notebook by name; empty, and not true, where there are none.

    Attributes
    ----------
    label : str
        When, on what machine and at what scale they were computed, for a caption.
    cohort : str
        Name of the data.
    n_images, n_masks : int
        Size of the data.
    """

    label = cohort = ""
    n_images = n_masks = 0


def stored_tables(notebook: str, cohort: str | None = None) -> StoredTables:
    """Read the tables that a notebook kept of a real cohort, from the stored results of the book.

    Parameters
    ----------
    notebook : str
        Stem or number of the notebook, for instance ``"02"``.
    cohort : str, optional
        Name of the data; whichever real data are stored, by default.

    Returns
    -------
    StoredTables
        Those of the largest scale; empty where nothing is stored, or outside of a project.
        Notebook 01 keeps ``counts``, ``masks_by`` (annotator, tool, skill, image), ``metrics`` (of
        all pairs) and ``annotator_pairs`` (mean Dice of each pair of annotators);
        notebook 02 ``groups`` (mean Dice of benign and malignant lesions with interval and n),
        ``histogram`` (of Dice by class, over images and over pairs), ``effects``, ``dominance``,
        ``specifications`` (the curve: every estimate with its choices), ``pair_effects`` (the
        association within each pair of annotators) and ``summary`` (their random-effects mean).

    Raises
    ------
    ManifestError
        If the file of stored results is damaged.

    Examples
    --------
    >>> from iavlib import book
    >>> tables = book.stored_tables("02")
    >>> if tables:
    ...     groups = tables["groups"]
    """
    try:
        project = find_project()
        [path] = select_notebooks(project, [notebook])
    except ProjectError:
        return StoredTables()
    of_scale = {m["profile"]: m for m in read_stored(project) if m["notebook"] == path.stem}
    for profile in reversed(SCALES):
        manifest = of_scale.get(profile, {})
        tables = StoredTables()
        for table in manifest.get("tables", ()):
            if not table["synthetic"] and table["cohort"] == (cohort or table["cohort"]):
                frame = pd.DataFrame(table["columns"])
                tables[table["name"]] = frame.set_index(table["index"]) if table["index"] else frame
                tables.cohort = table["cohort"]
        if tables:
            [data] = [c for c in manifest["cohorts"] if c["name"] == tables.cohort]
            tables.n_images, tables.n_masks = data["n_images"], data["n_masks"]
            tables.label = f"{describe_stored(manifest)}, scale {profile}"
            return tables
    return StoredTables()


def tables_digest(project: Project, stem: str) -> str:
    """Return a digest of what is stored for :func:`stored_tables`; empty where nothing is."""
    manifests = [m for m in _read_manifests(project).values() if m.get("notebook") == stem]
    tables = [[m["finished"], m["tables"]] for m in manifests if m.get("tables")]
    return hashlib.sha256(json.dumps(tables).encode()).hexdigest()[:16] if tables else ""


def describe_stored(manifest: dict[str, Any]) -> str:
    """Describe in one line when and on what machine a stored result was made."""
    age = "" if manifest["stored"]["current"] else ", by an earlier version of the notebook"
    return f"stored {manifest['finished'][:10]}, {describe_hardware(manifest['hardware'])}{age}"


def _manifest_file(project: Project) -> Path:
    return project.book / "results" / "notebooks.json"


def _read_manifests(project: Project) -> dict[str, dict[str, Any]]:
    """Read the stored manifests by notebook and scale, unchecked."""
    path = _manifest_file(project)
    try:
        content = load_json(path) if path.is_file() else {}
        return dict(content)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{path}: damaged ({error}); restore it from git") from error


def _reason_to_skip(manifest: dict[str, Any], notebook: Path, executed: Path) -> str | None:
    """Return why a notebook run is not to be kept, None if it is."""
    if manifest["overrides"]:
        return f"run with parameters set by hand ({', '.join(manifest['overrides'])})"
    if manifest["profile"] not in SCALES:
        return f"run at the unknown scale {manifest['profile']!r}"
    if all(cohort["synthetic"] for cohort in manifest["cohorts"]):
        return "run on synthetic data alone"
    ran = [c.source for c in read_cells(executed) if "injected-parameters" not in c.tags]
    if ran != [c.source for c in read_cells(notebook)]:
        return "the notebook has changed since; run it again"
    return None


def _read_predictions(folder: Path) -> bytes:
    """Read a run's predictions, for a diagnosis without those of its training images."""
    path = folder / PREDICTIONS
    content = path.read_bytes()
    if folder.parent.name not in _WITHOUT_TRAINING_IMAGES:
        return content
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    if rows and "subset" not in rows[0]:  # of version 1
        rows[0] = ["subset" if name == "part" else name for name in rows[0]]
    if not rows or "subset" not in rows[0]:
        raise StoredResultsError(f"{path}: no column 'subset'; remove the run and do it again")
    column, kept = rows[0].index("subset"), io.StringIO()
    writer = csv.writer(kept, lineterminator="\n")
    writer.writerows(row for row in rows if row and row[column] != "train")
    return kept.getvalue().encode()


def exportable_runs(
    project: Project, runs: Path | None, every_run: bool
) -> list[tuple[Path, str | None]]:
    """List the experiments of a run store, each with the reason why it is not exported, if any.

    Parameters
    ----------
    project : Project
        The project.
    runs : Path or None
        The run store; None for the default one.
    every_run : bool
        Export whatever is finished.

    Returns
    -------
    list of tuple of Path and str or None
        Run directory, and the reason to leave it out. A run on synthetic data is exported where
        the list of the full scale names these data itself: it is a known answer that a page shows
        as such, not a substitute for images that were missing.
    """
    from iavlib.experiments.config import AUTO, all_listed, listed
    from iavlib.experiments.store import RunStore, read_facts

    store = RunStore.of(project) if runs is None else RunStore(runs)
    folders = store.folders()
    questions = {experiment.query_key for experiment in all_listed(project)} if folders else set()
    full = listed(project, SCALES[-1]).values() if folders else ()
    named = [experiment for items in full for experiment in items if experiment.cohort != AUTO]

    def reason(folder: Path) -> str | None:
        if store.status(folder) != "finished":
            return "not finished"
        try:
            experiment, facts = store.read_spec(folder), read_facts(folder)
        except IavError as error:
            return str(error)
        if every_run:
            return None
        if experiment.query_key not in questions:
            return "in no list of experiments"
        if facts["synthetic"] and not any(experiment.matches(item) for item in named):
            return "run on synthetic data"
        return None

    return [(folder, reason(folder)) for folder in folders]
