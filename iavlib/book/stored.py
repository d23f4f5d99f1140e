"""Results that outlive the machine that made them.

``iav results export`` copies what finished runs found, never what they ran on or
how, into ``book/results/``, small files that maintainers commit. A book built
elsewhere shows them, labelled *stored*, for scales it has not run itself.

``book/results/notebooks/<stem>.<profile>.json`` holds the manifest of a notebook's
run; ``book/results/runs/<task>/<id>/`` holds ``spec.json``, ``metrics.json`` and
``predictions.csv`` of an experiment. Models stay where they are, and so do predictions
of the images that a diagnosis learnt from: no page reads those.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iavlib.book.jobs import exportable_runs
from iavlib.book.manifest import read_manifest
from iavlib.book.notebook_source import read_cells
from iavlib.book.parameters import SCALES
from iavlib.core.errors import ExecutionError, ManifestError
from iavlib.core.files import replacing, write_json
from iavlib.core.project import Project

#: What is copied of an experiment; a run is finished when its ``metrics.json`` is there.
RUN_FILES = ("spec.json", "metrics.json", "predictions.csv")
_FINISHED = "metrics.json"
_PREDICTIONS, _LEARNT_FROM = "predictions.csv", "train"
#: Tasks of which pages read nothing about images learnt from; of task iaa they take the median.
_JUDGED_ON_OTHERS = ("diagnosis", "multitask")
#: Files are committed to a repository: a larger one is refused, with its name.
LARGEST = 5_000_000


class StoredResultsError(ExecutionError):
    """A result cannot be exported, or a stored one is damaged."""


@dataclass(frozen=True)
class Export:
    """What an export did.

    Parameters
    ----------
    written, unchanged : tuple of Path
        Files of ``book/results/``.
    skipped : tuple of str
        What was left out, each with the reason.
    """

    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    skipped: tuple[str, ...]


def results_folder(project: Project) -> Path:
    """Return the folder of stored results."""
    return project.book / "results"


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
        does not name itself. An older stored result of the same run is replaced, one that is the
        same is not touched.

    Raises
    ------
    StoredResultsError
        If a file is too large for a repository.
    """
    written, unchanged, skipped = [], [], []
    for stem, notebook in project.notebook_files().items():
        source = project.executed / f"{stem}.json"
        if not source.is_file():
            skipped.append(f"{stem}: not run here")
            continue
        manifest = read_manifest(source)
        reason = _unfit(manifest, notebook, project.executed / f"{stem}.ipynb")
        if reason:
            skipped.append(f"{stem}: {reason}")
            continue
        target = results_folder(project) / "notebooks" / f"{stem}.{manifest['profile']}.json"
        same = target.is_file() and json.loads(target.read_text())["run_id"] == manifest["run_id"]
        if not same:
            stamp = {"exported": datetime.now(UTC).isoformat(timespec="seconds")}
            stamp["notebook_digest"] = notebook_digest(notebook)
            write_json(target, manifest | {"stored": stamp})
        (unchanged if same else written).append(target)
    for folder, reason in exportable_runs(project, runs, every_run):
        if reason:
            skipped.append(f"{folder.parent.name}/{folder.name}: {reason}")
            continue
        target = results_folder(project) / "runs" / folder.parent.name / folder.name
        changed = _copy_run(folder, target)
        (written if changed else unchanged).append(target)
    return Export(tuple(written), tuple(unchanged), tuple(skipped))


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
        If a stored file is damaged.
    """
    notebooks = project.notebook_files()
    found = []
    for path in sorted((results_folder(project) / "notebooks").glob("*.json")):
        manifest = read_manifest(path)
        stamp = manifest.get("stored")
        if not isinstance(stamp, dict) or not {"exported", "notebook_digest"} <= stamp.keys():
            raise ManifestError(f"{path}: no stored result; make it with 'iav results export'")
        if (notebook := notebooks.get(manifest["notebook"])) is not None:
            current = stamp["notebook_digest"] == notebook_digest(notebook)
            found.append(manifest | {"stored": stamp | {"current": current}})
    return found


def describe_stored(manifest: dict[str, Any]) -> str:
    """Say when and on what machine a stored result was made."""
    machine = manifest["hardware"]
    devices = [f"{machine['cpus']} CPUs", machine["system"], *machine.get("accelerators", [])]
    age = "" if manifest["stored"]["current"] else ", by an earlier version of the notebook"
    return f"stored {manifest['finished'][:10]}, {', '.join(devices)}{age}"


def _unfit(manifest: dict[str, Any], notebook: Path, executed: Path) -> str | None:
    """Say why a run is not to be kept, if so."""
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


def _copy_run(folder: Path, target: Path) -> bool:
    """Copy the small files of an experiment; return whether anything was new."""
    changed = False
    present = [folder / name for name in RUN_FILES if (folder / name).is_file()]
    # the file that makes a run finished comes last, here as there
    for path in sorted(present, key=lambda p: p.name == _FINISHED):
        content = _kept(path)
        if len(content) > LARGEST:
            raise StoredResultsError(
                f"{path} has {len(content):,} bytes to be kept, more than {LARGEST:,}: too large "
                "for a repository; export fewer predictions"
            )
        copy = target / path.name
        if copy.is_file() and copy.read_bytes() == content:
            continue
        with replacing(copy) as temporary:
            temporary.write_bytes(content)
        changed = True
    return changed


def _kept(path: Path) -> bytes:
    """Read what is kept of a run's file: of a diagnosis no images that it learnt from."""
    content = path.read_bytes()
    if path.name != _PREDICTIONS or path.parents[1].name not in _JUDGED_ON_OTHERS:
        return content
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    if rows and "subset" not in rows[0]:  # of version 1
        rows[0] = ["subset" if name == "part" else name for name in rows[0]]
    if not rows or "subset" not in rows[0]:
        raise StoredResultsError(f"{path}: no column 'subset'; remove the run and do it again")
    place, kept = rows[0].index("subset"), io.StringIO()
    writer = csv.writer(kept, lineterminator="\n")
    writer.writerows(row for row in rows if row and row[place] != _LEARNT_FROM)
    return kept.getvalue().encode()
