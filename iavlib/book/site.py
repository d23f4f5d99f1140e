"""Building the book: assemble its source, build it with warnings as errors, check the pages.

``_build/source`` has the layout of the repository's root, so that the table of contents and links
between pages need no change; its notebooks carry outputs.
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
from pathlib import Path
from typing import Any

import yaml

from iavlib.book import front, pages
from iavlib.book.claims import ledger
from iavlib.book.coverage import coverage_page
from iavlib.book.jobs import NotebookFiles, library_hash
from iavlib.book.notebook_source import load_notebook, notebook_title, read_cells
from iavlib.book.stored import describe_stored, read_stored
from iavlib.core.errors import BookError, suggest
from iavlib.core.files import load_template, only_one, write_json, write_text
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
    except (OSError, ValueError, MalformedError, yaml.YAMLError) as error:
        raise BookError(f"{project.toc}: cannot be read ({error})") from error
    entries = [_without_ending(entry) for entry in listed]
    for entry in entries:
        if entries.count(entry) > 1:
            raise BookError(f"{project.toc}: lists {entry} twice; remove one")
        if page_file(project, entry) is None:
            texts = [p for ending in _PAGE_ENDINGS for p in project.book.rglob(f"*{ending}")]
            files = [*project.notebook_files().values(), *texts]
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
    """Return whether an entry is a notebook that is run to make its page."""
    return Path(entry).parent.as_posix() == NOTEBOOK_FOLDER


def page_file(project: Project, entry: str) -> Path | None:
    """Find the file of an entry; None if there is none."""
    endings = (".ipynb",) if is_notebook(entry) else _PAGE_ENDINGS
    paths = (project.root / f"{entry}{ending}" for ending in endings)
    return next((path for path in paths if path.is_file()), None)


def _without_ending(entry: str) -> str:
    return re.sub(r"\.(md|ipynb|rst)$", "", entry)


def check_pages(
    html: Path, entries: Iterable[str], synthetic: Collection[str] = (), drawn: Collection[str] = ()
) -> list[str]:
    """Check the built pages of the book.

    Parameters
    ----------
    html : Path
        Folder of the built book.
    entries : iterable of str
        Every page of the table of contents.
    synthetic : collection of str, optional
        Pages that must state that their data are synthetic.
    drawn : collection of str, optional
        Pages that must hold a figure.

    Returns
    -------
    list of str
        One line per problem: a page without HTML, a picture without alt text or
        caption, a page without the figures that its notebook draws, a synthetic page that does not
        state it.
    """
    from bs4 import BeautifulSoup

    problems = []
    if not (html / "index.html").is_file():
        problems.append("index.html was not built")
    for page in entries:
        file = html / f"{page}.html"
        if not file.is_file():
            problems.append(f"{page}: is in _toc.yml but was not built")
            continue
        content = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
        found = []
        pictures = content.select('img[src*="_images/"], article img[src^="data:"]')
        for number, picture in enumerate(pictures, start=1):
            inline = picture["src"].startswith("data:")
            name = f"{number} of the page" if inline else Path(picture["src"]).name
            alt = picture.get("alt", "").strip()
            if not alt or Path(alt).name == name:
                found.append(f"picture {name} has no alt text (book.figure: alt=)")
            around = picture.find_parent("figure")
            caption = around and around.find("figcaption")
            if picture.find_parent(class_="cell_output") and not (
                caption and caption.get_text(strip=True)
            ):
                found.append(f"picture {name} has no caption (book.figure: caption=)")
        if page in drawn and not pictures:
            found.append("its notebook draws figures, but it holds none")
        problems += [f"{page}: {problem}" for problem in dict.fromkeys(found)]
        if page in synthetic and content.select_one(f".{pages.SYNTHETIC_CLASS}") is None:
            problems.append(f"{page}: computed on synthetic data but does not state it")
    return problems


_STATIC = "_static"
_LEFT_OUT = {"executed", "generated", "results"}


@dataclass(frozen=True)
class Assembly:
    """What the book is built from.

    Parameters
    ----------
    pages : tuple of str
        Every page of the table of contents.
    synthetic, drawn, failed : tuple of str
        Pages computed on synthetic data, those whose notebooks call for a figure, and those of
        notebooks whose last run failed.
    files : dict of str to bytes
        Path below the source folder to content.
    rows : list of dict
        The ledger.
    """

    pages: tuple[str, ...]
    synthetic: tuple[str, ...]
    drawn: tuple[str, ...]
    failed: tuple[str, ...]
    files: dict[str, bytes]
    rows: list[dict[str, Any]]

    def stamp(self) -> dict[str, Any]:
        """Return what identifies the book: hashes of files and library, the builders' versions.

        The pages of the API reference are made of the library's own docstrings.
        """
        total = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        try:
            versions = {name: importlib.metadata.version(name) for name in _BUILDERS}
        except importlib.metadata.PackageNotFoundError as error:
            raise BookError(
                f"{error.name} is not installed; install the book's tools: "
                "pip install 'iavlib[book]'"
            ) from error
        return {"digest": total.hexdigest(), "library": library_hash(), "builders": versions}


def assemble(project: Project) -> Assembly:
    """Gather what the book is to be built from; nothing is written.

    Raises
    ------
    BookError, ClaimError, ManifestError
        If the table of contents, the claims or a manifest is damaged.
    """
    entries, rows, stored = toc_entries(project), ledger(project), read_stored(project)
    files = _plain_files(project, entries)
    notebooks = [_Chapter.of(project, entry) for entry in filter(is_notebook, entries)]
    own = [chapter for chapter in notebooks if chapter.manifest and front.is_own(chapter.manifest)]
    for chapter in notebooks:
        # beside a user's own data nothing is shown of others'
        of_others = [] if own else [m for m in stored if m["notebook"] == chapter.stem]
        page = chapter.page(project, [] if own else rows, of_others)
        text = json.dumps(page, ensure_ascii=False, indent=1)
        files[f"{chapter.entry}.ipynb"] = text.encode()
    table = [(chapter.entry, chapter.status, chapter.manifest) for chapter in notebooks]
    generated = {"scorecard": pages.scorecard(project, rows, entries)}
    generated |= {"provenance": pages.provenance_table(table), "citation": front.citation(project)}
    limits = front.ceilings([*(c.manifest for c in notebooks if c.manifest), *stored])
    generated["answers"] = front.answers(rows, entries, limits)
    generated["coverage"] = coverage_page(project)
    files |= {f"{pages.FOLDER}/{name}.md": text.encode() for name, text in generated.items()}
    if own:
        summaries = {c.entry: (c.title, c.manifest, c.executed()) for c in own}
        files[f"{entries[0]}.md"] = front.own_page(summaries).encode()
    good = [chapter for chapter in notebooks if chapter.status == "good"]
    return Assembly(
        pages=tuple(entries),
        synthetic=tuple(
            c.entry for c in good if any(d["synthetic"] for d in c.manifest["cohorts"])
        ),
        drawn=tuple(c.entry for c in good if c.draws(project)),
        failed=tuple(c.entry for c in notebooks if c.status == "failed"),
        files=files,
        rows=rows,
    )


def _plain_files(project: Project, entries: Sequence[str]) -> dict[str, bytes]:
    """Read everything that is copied as it is: configuration, pages, pictures, references."""
    paths = {"_config.yml": project.config, "_toc.yml": project.toc}
    citation = project.root / "CITATION.cff"
    paths |= {citation.name: citation} if citation.is_file() else {}
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


@dataclass(frozen=True)
class _Chapter:
    """A notebook of the book and what its last run left."""

    entry: str
    title: str
    files: NotebookFiles
    manifest: dict[str, Any] | None
    failure: dict[str, Any] | None

    @classmethod
    def of(cls, project: Project, entry: str) -> _Chapter:
        stem = Path(entry).name
        files = NotebookFiles(project.executed, stem)
        failed = files.failed_json
        failure = json.loads(failed.read_text(encoding="utf-8")) if failed.is_file() else None
        title = notebook_title(project.notebooks / f"{stem}.ipynb")
        return cls(entry, title, files, files.good_manifest(), failure)

    @property
    def stem(self) -> str:
        return Path(self.entry).name

    @property
    def status(self) -> str:
        """Outcome of the last run."""
        return "failed" if self.failure else "good" if self.manifest else "not run"

    def executed(self) -> dict[str, Any]:
        return load_notebook(self.files.notebook)

    def draws(self, project: Project) -> bool:
        """Whether the notebook calls for a figure."""
        cells = read_cells(project.notebooks / f"{self.stem}.ipynb")
        return any(cell.kind == "code" and "book.figure(" in cell.source for cell in cells)

    def page(
        self, project: Project, rows: Sequence[Mapping[str, Any]], stored: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Make the page from the last run, or from stored results.

        It is a notebook in any case: other pages link to it as one.
        """
        if self.failure:
            if not self.files.failed_notebook.is_file():
                return pages.missing_page(self.title, self.stem, failure=self.failure)
            earlier = self.manifest["finished"] if self.manifest else None
            return pages.failed_page(
                load_notebook(self.files.failed_notebook), self.failure, earlier
            )
        runs = [self.manifest, *stored] if self.manifest else stored
        recorded = {claim["id"] for run in runs for claim in run["claims"]}
        measured = [r for r in rows if r["id"] in recorded and r["measured"] is not None]
        claims = front.claims_table(project, measured)
        if self.manifest:
            return pages.finished_page(self.executed(), self.manifest, claims)
        if not stored:
            return pages.missing_page(self.title, self.stem)
        kept = "; ".join(f"{m['profile']}: {describe_stored(m)}" for m in stored)
        text = f"## Stored results\n\nFrom runs elsewhere ({kept}).\n\n{claims}"
        return pages.missing_page(self.title, self.stem, text)


#: What the look of the book depends on beside its source.
_BUILDERS = (
    *("iavlib", "jupyter-book", "myst-nb", "myst-parser", "sphinx", "sphinx-book-theme"),
    "sphinxcontrib-bibtex",
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_COMPLAINT = re.compile(r"(?:^|\s)(?:WARNING|ERROR|CRITICAL): |^\w*(?:Error|Exception): ")
#: jupyter-book, ending with the process that started it.
_BUILD_PROGRAM = """
import sys
from iavlib.core.processes import end_with_parent
end_with_parent()
from jupyter_book.cli.main import main
sys.exit(main())
"""


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
    IavError
        If the table of contents, the claims or a manifest is wrong, or no book could be built.
    """
    with only_one(project.build / "book.lock", "a build of the book"):
        assembly = assemble(project)
        if not force and _why_build(project, assembly) is None:
            return BookResult(assembly.failed, (), rebuilt=False)
        problems = _build(project, assembly)
        # only a good build is recorded: Sphinx would not repeat the warnings of another
        write_json(_stamp_file(project), assembly.stamp() if not problems else {})
        return BookResult(assembly.failed, tuple(problems), rebuilt=True)


def reason_to_build(project: Project) -> str | None:
    """Return why the book must be built from the present results; None if it need not be."""
    return _why_build(project, assemble(project))


def _stamp_file(project: Project) -> Path:
    return project.build / "book.json"


def _why_build(project: Project, assembly: Assembly) -> str | None:
    if not _stamp_file(project).is_file():
        return "never built"
    built = json.loads(_stamp_file(project).read_text(encoding="utf-8"))
    if not built:
        return "its last build had problems"
    if built != assembly.stamp():
        return "pages, results, the library or its builders' versions changed"
    if not all((project.html / f"{page}.html").is_file() for page in ("index", *assembly.pages)):
        return "built pages are missing"
    return None


def _build(project: Project, assembly: Assembly) -> list[str]:
    """Build every page and move the result into place; list the problems.

    A page may show numbers of another one: building only changed pages would leave old numbers.
    """
    work = project.build / "next"
    for folder in (project.source, work):
        shutil.rmtree(folder, ignore_errors=True)
    # drawn only now: what it shows is in the other files, and drawing takes time
    drawing = {f"{pages.FOLDER}/story.md": front.story(assembly.rows).encode()}
    for name, content in (assembly.files | drawing).items():
        path = project.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    code, output = _run_sphinx(project.source, work)
    write_text(project.build / "book.log", output)
    problems = _warnings(output, project.source)
    html = work / "_build" / "html"
    if not (html / "index.html").is_file():
        raise BookError(
            "the book could not be built: "
            + "; ".join(problems or output.strip().splitlines()[-3:])
            + f" (in full: {project.build / 'book.log'})"
        )
    if code != 0 and not problems:
        problems = [f"jupyter-book ended with status {code}; see {project.build / 'book.log'}"]
    start = load_template("iavlib.book", "start.html").render(first=assembly.pages[0])
    write_text(html / "index.html", start)
    problems += check_pages(html, assembly.pages, assembly.synthetic, assembly.drawn)
    shutil.rmtree(project.html, ignore_errors=True)
    os.replace(html, project.html)
    shutil.rmtree(work)
    return problems


def _run_sphinx(source: Path, work: Path) -> tuple[int, str]:
    command = [sys.executable, "-c", _BUILD_PROGRAM, "build", str(source)]
    command += ["--path-output", str(work), "-W", "-n", "--keep-going"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    coding = {"encoding": "utf-8", "errors": "replace"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, **streams, **coding) as process:
        output = process.stdout.read()  # its standard input stays open meanwhile
    return process.returncode, _COLOURS.sub("", output)


def _warnings(output: str, source: Path) -> list[str]:
    """Extract the warnings and errors from the output of Sphinx, with paths from the root."""
    picked = [line.strip() for line in output.splitlines() if _COMPLAINT.search(line)]
    return [line.replace(f"{source}/", "") for line in dict.fromkeys(picked)]
