"""Assembling the book's source: pages, executed notebooks, and pieces made from results.

``_build/source`` looks like the repository's root, so that the table of contents
and links between pages need no change, except that notebooks carry outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iavlib.book.chapter import failed_page, finished_page, missing_page
from iavlib.book.diagnosis_card import diagnosis_card
from iavlib.book.fragments import FOLDER, claims_table, provenance_table, scorecard
from iavlib.book.model_card import PAGE as MODEL_CARD
from iavlib.book.model_card import model_card
from iavlib.book.toc import is_notebook, page_file, toc_entries
from iavlib.claims.ledger import ledger
from iavlib.execution.jobs import Traces
from iavlib.execution.project import Project
from iavlib.execution.source import load_notebook, notebook_title
from iavlib.execution.stored import describe_stored, read_stored

_STATIC = "_static"
_LEFT_OUT = {"executed", "generated", "results"}


@dataclass(frozen=True)
class Assembly:
    """What was assembled.

    Parameters
    ----------
    pages : tuple of str
        Every page of the table of contents.
    synthetic : frozenset of str
        Pages computed on synthetic data.
    failed : tuple of str
        Pages of notebooks whose last run failed.
    digest : str
        Hash of all files.
    """

    pages: tuple[str, ...]
    synthetic: frozenset[str]
    failed: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class _Chapter:
    """The page of one notebook: its file's ending and content, and its run's outcome."""

    ending: str
    content: bytes
    status: str
    manifest: Mapping[str, Any] | None


def assemble(project: Project, write: bool = True) -> Assembly:
    """Bring ``_build/source`` to what the book is to be built from.

    Parameters
    ----------
    project : Project
        The project.
    write : bool, optional
        Otherwise only say what would be written.

    Returns
    -------
    Assembly
        Files that did not change were not touched; stale ones were removed.

    Raises
    ------
    BookError, ClaimError, ManifestError
        If the table of contents, the claims or a manifest is damaged.
    """
    entries = toc_entries(project)
    rows = ledger(project)
    stored = read_stored(project)
    chapters = {
        entry: _chapter(
            project, entry, rows, [m for m in stored if m["notebook"] == Path(entry).name]
        )
        for entry in entries
        if is_notebook(entry)
    }
    files = _plain_files(project, entries)
    for entry, chapter in chapters.items():
        files[f"{entry}{chapter.ending}"] = chapter.content
    table = [(entry, chapter.status, chapter.manifest) for entry, chapter in chapters.items()]
    files[f"{FOLDER}/scorecard.md"] = scorecard(project, rows).encode()
    files[f"{FOLDER}/provenance.md"] = provenance_table(table).encode()
    if MODEL_CARD in entries:
        files[f"{FOLDER}/model_card.md"] = model_card(project).encode()
        files[f"{FOLDER}/model_card_diagnosis.md"] = diagnosis_card(project).encode()
    if write:
        _write_changes(project.source, files)
    synthetic = frozenset(
        entry
        for entry, chapter in chapters.items()
        if chapter.status == "good" and any(c["synthetic"] for c in chapter.manifest["cohorts"])
    )
    failed = tuple(entry for entry, chapter in chapters.items() if chapter.status == "failed")
    return Assembly(tuple(entries), synthetic, failed, _digest(files))


def _plain_files(project: Project, entries: Sequence[str]) -> dict[str, bytes]:
    """Read everything that is copied as it is: configuration, pages, pictures, references."""
    paths = {"_config.yml": project.config, "_toc.yml": project.toc}
    for path in sorted(project.book.rglob("*")):
        parts = path.relative_to(project.book).parts
        if path.is_file() and parts[0] not in _LEFT_OUT and not any(p[0] == "." for p in parts):
            below = parts if parts[0] == _STATIC else ("book", *parts)
            paths["/".join(below)] = path
    for entry in entries:
        file = page_file(project, entry)
        if not is_notebook(entry) and file is not None:
            paths[file.relative_to(project.root).as_posix()] = file
    return {name: path.read_bytes() for name, path in paths.items()}


def _chapter(
    project: Project,
    entry: str,
    rows: Sequence[Mapping[str, Any]],
    stored: Sequence[dict[str, Any]],
) -> _Chapter:
    """Make the page of a notebook from its last run, whatever became of it, and stored results."""
    stem = Path(entry).name
    traces = Traces(project.executed, stem)
    manifest = traces.good_manifest()
    title = notebook_title(project.notebooks / f"{stem}.ipynb")
    if traces.failed_json.is_file():
        failure = json.loads(traces.failed_json.read_text(encoding="utf-8"))
        if not traces.failed_notebook.is_file():
            return _Chapter(".md", missing_page(title, stem, failure).encode(), "failed", manifest)
        earlier = manifest["finished"] if manifest else None
        page = failed_page(load_notebook(traces.failed_notebook), failure, earlier)
        return _Chapter(".ipynb", _notebook_bytes(page), "failed", manifest)
    runs = [manifest, *stored] if manifest else stored
    recorded = {claim["id"] for run in runs for claim in run["claims"]}
    # a user's own data measure nothing that a claim is about
    own = [row for row in rows if row["id"] in recorded and row["measured"] is not None]
    if manifest is None:
        text = missing_page(title, stem)
        if stored:
            kept = "; ".join(f"{m['profile']}: {describe_stored(m)}" for m in stored)
            text += f"\n## Stored results\n\nFrom runs elsewhere ({kept}).\n\n"
            text += claims_table(project, own)
        return _Chapter(".md", text.encode(), "not run", None)
    page = finished_page(load_notebook(traces.notebook), manifest, claims_table(project, own))
    return _Chapter(".ipynb", _notebook_bytes(page), "good", manifest)


def _notebook_bytes(notebook: Mapping[str, Any]) -> bytes:
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode()


def _write_changes(folder: Path, files: Mapping[str, bytes]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return total.hexdigest()
