"""Building the book: run what changed, assemble, build with warnings as errors, check."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iavlib.book.htmlcheck import check_pages
from iavlib.book.staging import Assembly, assemble
from iavlib.book.toc import NOTEBOOK_FOLDER, toc_notebooks
from iavlib.execution.errors import BookError
from iavlib.execution.fingerprint import DataFingerprint, cohort_fingerprint
from iavlib.execution.jobs import prepare_jobs
from iavlib.execution.notebooks import RunResult, bring_up_to_date
from iavlib.execution.project import Project
from iavlib.files import write_json, write_text
from iavlib.locks import only_one

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
    runs : tuple of RunResult
        One a notebook of the book; none if nothing was to be run.
    failed : tuple of str
        Pages of notebooks whose last run failed or that could not be run now.
    problems : tuple of str
        Warnings of Sphinx and failed checks; a good book has none.
    rebuilt : bool
        False if the book was as it should be already.
    """

    runs: tuple[RunResult, ...]
    failed: tuple[str, ...]
    problems: tuple[str, ...]
    rebuilt: bool

    @property
    def ok(self) -> bool:
        """Whether every notebook ran well and the build had no problem."""
        return not self.problems and not self.failed


def build_book(
    project: Project,
    profile: str = "quick",
    force: bool = False,
    run: bool = True,
    announce: Callable[[str], Any] = lambda _: None,
    report: Callable[[RunResult], Any] = lambda _: None,
    data_fingerprint: DataFingerprint = cohort_fingerprint,
) -> BookResult:
    """Bring the book up to date.

    Parameters
    ----------
    project : Project
        The project.
    profile : str, optional
        Scale at which notebooks are run.
    force : bool, optional
        Run every notebook and build every page, changed or not.
    run : bool, optional
        Whether to run notebooks at all; otherwise the last results are shown.
    announce, report : callable, optional
        Called before each notebook with its name, and after it with its result.
    data_fingerprint : callable, optional
        Cohort name to the fingerprint of its files.

    Returns
    -------
    BookResult
        The book is built even if a notebook failed; its page then says so.

    Raises
    ------
    ExecutionError
        If the table of contents, a profile, the claims or a manifest is wrong,
        or no book could be built.
    """
    notebooks = toc_notebooks(project)
    runs = []
    with ExitStack() as held:
        if run:
            held.enter_context(only_one(project.lock, "iav book"))
            jobs = prepare_jobs(project, notebooks, profile, data_fingerprint=data_fingerprint)
            for job in jobs:
                announce(job.stem)
                runs.append(bring_up_to_date(project, job, force))
                report(runs[-1])
        held.enter_context(only_one(project.build / "book.lock", "a build of the book"))
        return _assemble_and_build(project, tuple(runs), force)


def _assemble_and_build(project: Project, runs: tuple[RunResult, ...], force: bool) -> BookResult:
    assembly = assemble(project)
    refused = [f"{NOTEBOOK_FOLDER}/{run.stem}" for run in runs if run.failure is not None]
    failed = tuple(dict.fromkeys([*assembly.failed, *refused]))
    stamp = _stamp(assembly)
    if not force and _why_build(project, assembly, stamp) is None:
        return BookResult(runs, failed, (), rebuilt=False)
    problems = _build(project, assembly)
    # only a good build is remembered: Sphinx would not repeat the warnings of another
    write_json(_stamp_file(project), stamp if not problems else {})
    return BookResult(runs, failed, tuple(problems), rebuilt=True)


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
