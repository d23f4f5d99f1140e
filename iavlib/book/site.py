"""Building the book: run what changed, assemble, build with warnings as errors, check.

The table of contents: which pages and notebooks make the book.

Looking through the built pages for what Sphinx does not call a mistake.

Assembling the book's source: pages, executed notebooks, and pieces made from results.

``_build/source`` looks like the repository's root, so that the table of contents
and links between pages need no change, except that notebooks carry outputs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

from iavlib.book.chapter import (
    FOLDER,
    claims_table,
    failed_page,
    finished_page,
    missing_page,
    provenance_table,
    scorecard,
)
from iavlib.book.claims import ledger
from iavlib.book.jobs import NotebookFiles
from iavlib.book.model_card import PAGE as MODEL_CARD, diagnosis_card, model_card
from iavlib.book.notebook_source import load_notebook, notebook_title
from iavlib.book.pages import SYNTHETIC_CLASS
from iavlib.book.stored import describe_stored, read_stored
from iavlib.core.errors import BookError, suggest
from iavlib.core.files import only_one, write_json, write_text
from iavlib.core.project import Project

NOTEBOOK_FOLDER = "notebooks"
_PAGE_ENDINGS = (".md", ".ipynb", ".rst")


def toc_entries(project: Project) -> list[str]:
    """List the pages of the book.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    list of str
        Paths from the root without ending, such as ``book/index`` and
        ``notebooks/01_data_analysis``, in reading order.

    Raises
    ------
    BookError
        If ``_toc.yml`` is no table of contents, lists a page twice, or lists one
        that has no file.
    """
    from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml

    try:
        listed = [str(entry) for entry in parse_toc_yaml(project.toc)]
    except (OSError, MalformedError, yaml.YAMLError) as error:
        raise BookError(f"{project.toc}: cannot be read ({error})") from error
    entries = [_without_ending(entry) for entry in listed]
    for entry in entries:
        if entries.count(entry) > 1:
            raise BookError(f"{project.toc}: lists {entry} twice; remove one")
        if page_file(project, entry) is None:
            pages = [p for ending in _PAGE_ENDINGS for p in project.book.rglob(f"*{ending}")]
            files = [*project.notebook_files().values(), *pages]
            existing = {_without_ending(str(path.relative_to(project.root))) for path in files}
            raise BookError(
                f"{project.toc}: lists {entry}, but there is no such page; "
                f"{suggest(entry, existing)}"
            )
    return entries


def toc_notebooks(project: Project) -> list[Path]:
    """List the notebooks that are pages of the book, in reading order."""
    return [project.root / f"{e}.ipynb" for e in toc_entries(project) if is_notebook(e)]


def is_notebook(entry: str) -> bool:
    """Tell whether an entry is a notebook that is run to make its page."""
    return Path(entry).parent.as_posix() == NOTEBOOK_FOLDER


def page_file(project: Project, entry: str) -> Path | None:
    """Find the file of an entry; None if there is none."""
    endings = (".ipynb",) if is_notebook(entry) else _PAGE_ENDINGS
    for ending in endings:
        path = project.root / f"{entry}{ending}"
        if path.is_file():
            return path
    return None


def _without_ending(entry: str) -> str:
    for ending in _PAGE_ENDINGS:
        entry = entry.removesuffix(ending)
    return entry


_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)


class _Page(HTMLParser):
    """Collect the pictures, the pasted values and the notices of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.says_synthetic = False
        self._open: list[set[str]] = []
        self._pasted: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = set((attributes.get("class") or "").split())
        if SYNTHETIC_CLASS in classes:
            self.says_synthetic = True
        if tag == "img" and "_images/" in (attributes.get("src") or ""):
            self._check_picture(attributes)
        if "pasted-text" in classes:
            self._pasted = ""
        if tag not in _VOID:
            self._open.append(classes | {f"<{tag}>"})

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self._pasted is not None:
            if not self._pasted.strip():
                self.problems.append("a glued value is empty")
            self._pasted = None
        while self._open and f"<{tag}>" not in self._open.pop():
            pass

    def handle_data(self, data: str) -> None:
        if self._pasted is not None:
            self._pasted += data

    def _check_picture(self, attributes: dict[str, str | None]) -> None:
        name = Path(attributes["src"] or "").name
        alt = (attributes.get("alt") or "").strip()
        if not alt or Path(alt).name == name:
            self.problems.append(f"picture {name} has no alt text (mystnb: image: alt)")
        is_output = any("cell_output" in classes for classes in self._open)
        if is_output and not any("<figure>" in classes for classes in self._open):
            self.problems.append(f"picture {name} has no caption (mystnb: figure: caption)")


def check_pages(html: Path, pages: Iterable[str], synthetic: Collection[str] = ()) -> list[str]:
    """Check the built pages of the book.

    Parameters
    ----------
    html : Path
        Folder of the built book.
    pages : iterable of str
        Every page of the table of contents.
    synthetic : collection of str, optional
        Pages that must say that their data are synthetic.

    Returns
    -------
    list of str
        One line a problem: a page without HTML, a picture without alt text or
        caption, an empty glued value, a synthetic page that does not say so.
    """
    problems = []
    if not (html / "index.html").is_file():
        problems.append("index.html was not built")
    for page in pages:
        file = html / f"{page}.html"
        if not file.is_file():
            problems.append(f"{page}: is in _toc.yml but was not built")
            continue
        parser = _Page()
        parser.feed(file.read_text(encoding="utf-8"))
        problems += [f"{page}: {problem}" for problem in dict.fromkeys(parser.problems)]
        if page in synthetic and not parser.says_synthetic:
            problems.append(f"{page}: computed on synthetic data but does not say so")
    return problems


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
        subsets = path.relative_to(project.book).parts
        if path.is_file() and subsets[0] not in _LEFT_OUT and not any(p[0] == "." for p in subsets):
            below = subsets if subsets[0] == _STATIC else ("book", *subsets)
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
    files = NotebookFiles(project.executed, stem)
    manifest = files.good_manifest()
    title = notebook_title(project.notebooks / f"{stem}.ipynb")
    if files.failed_json.is_file():
        failure = json.loads(files.failed_json.read_text(encoding="utf-8"))
        if not files.failed_notebook.is_file():
            return _Chapter(".md", missing_page(title, stem, failure).encode(), "failed", manifest)
        earlier = manifest["finished"] if manifest else None
        page = failed_page(load_notebook(files.failed_notebook), failure, earlier)
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
    page = finished_page(load_notebook(files.notebook), manifest, claims_table(project, own))
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


#: What the look of the book depends on beside its source.
_BUILDERS = (
    "iavlib",
    "jupyter-book",
    "myst-nb",
    "myst-parser",
    "sphinx",
    "sphinx-book-theme",
    "sphinxcontrib-bibtex",
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_COMPLAINT = re.compile(r"(?:^|\s)(?:WARNING|ERROR|CRITICAL): |^\w*(?:Error|Exception): ")
_BUILD_PROGRAM = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class BookResult:
    """How a build of the book ended.

    Parameters
    ----------
    failed : tuple of str
        Pages of notebooks whose last run failed.
    problems : tuple of str
        Warnings of Sphinx and failed checks; a good book has none.
    rebuilt : bool
        False if the book was as it should be already.
    """

    failed: tuple[str, ...]
    problems: tuple[str, ...]
    rebuilt: bool

    @property
    def ok(self) -> bool:
        """Whether every notebook ran well and the build had no problem."""
        return not self.problems and not self.failed


def build_book(project: Project, force: bool = False) -> BookResult:
    """Build the book from what the last runs of the notebooks left.

    Parameters
    ----------
    project : Project
        The project.
    force : bool, optional
        Build every page, changed or not.

    Returns
    -------
    BookResult
        The book is built even if a notebook failed; its page then shows that.

    Raises
    ------
    ExecutionError
        If the table of contents, the claims or a manifest is wrong, or no book could be built.
    """
    with only_one(project.build / "book.lock", "a build of the book"):
        assembly = assemble(project)
        stamp = _stamp(assembly)
        if not force and _why_build(project, assembly, stamp) is None:
            return BookResult(assembly.failed, (), rebuilt=False)
        problems = _build(project, assembly)
        # only a good build is recorded: Sphinx would not repeat the warnings of another
        write_json(_stamp_file(project), stamp if not problems else {})
        return BookResult(assembly.failed, tuple(problems), rebuilt=True)


def reason_to_build(project: Project) -> str | None:
    """Say why the book would be built from what is there, or give None; nothing is written."""
    assembly = assemble(project, write=False)
    return _why_build(project, assembly, _stamp(assembly))


def _stamp(assembly: Assembly) -> dict[str, Any]:
    return {"digest": assembly.digest, "builders": _builder_versions()}


def _stamp_file(project: Project) -> Path:
    return project.build / "book.json"


def _builder_versions() -> dict[str, str]:
    try:
        return {name: importlib.metadata.version(name) for name in _BUILDERS}
    except importlib.metadata.PackageNotFoundError as error:
        raise BookError(
            f"{error.name} is not installed; install the book's tools: pip install 'iavlib[book]'"
        ) from error


def _why_build(project: Project, assembly: Assembly, stamp: dict[str, Any]) -> str | None:
    file = _stamp_file(project)
    if not file.is_file():
        return "never built"
    built = json.loads(file.read_text(encoding="utf-8"))
    if not built:
        return "its last build had problems"
    if built != stamp:
        return "pages, results or its builders' versions changed"
    if check_pages(project.html, assembly.pages, assembly.synthetic):
        return "built pages are missing or damaged"
    return None


def _build(project: Project, assembly: Assembly) -> list[str]:
    """Build every page anew and put the result in place; list the problems.

    A page may show numbers of another one, so that building only changed pages
    would leave old numbers standing.
    """
    work = project.build / "next"
    shutil.rmtree(work, ignore_errors=True)
    code, output = _run_sphinx(project.source, work)
    write_text(project.build / "book.log", output)
    problems = _warnings(output, project.source)
    html = work / "_build" / "html"
    if not (html / "index.html").is_file():
        raise BookError(
            "the book could not be built: "
            + "; ".join(problems or output.strip().splitlines()[-3:])
            + f" (everything it said: {project.build / 'book.log'})"
        )
    if code != 0 and not problems:
        problems = [f"jupyter-book ended with status {code}; see {project.build / 'book.log'}"]
    problems += check_pages(html, assembly.pages, assembly.synthetic)
    shutil.rmtree(project.html, ignore_errors=True)
    os.replace(html, project.html)
    shutil.rmtree(work)
    return problems


def _run_sphinx(source: Path, work: Path) -> tuple[int, str]:
    command = [sys.executable, "-c", _BUILD_PROGRAM, "build", str(source)]
    options = ["--path-output", str(work), "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, _COLOURS.sub("", done.stdout)


def _warnings(output: str, source: Path) -> list[str]:
    """Pick the warnings and errors out of what Sphinx said, with paths from the root."""
    picked = [line.strip() for line in output.splitlines() if _COMPLAINT.search(line)]
    return [line.replace(f"{source}/", "") for line in dict.fromkeys(picked)]
