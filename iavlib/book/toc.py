"""The table of contents: which pages and notebooks make the book."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from iavlib.errors import suggest
from iavlib.execution.errors import BookError
from iavlib.execution.project import Project

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
    try:
        content = yaml.safe_load(project.toc.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BookError(f"{project.toc}: cannot be read ({error})") from error
    if not isinstance(content, dict) or "root" not in content:
        raise BookError(f"{project.toc}: must begin with format: jb-book and root: <page>")
    entries = [_without_ending(entry) for entry in _walk(content)]
    for entry in entries:
        if entries.count(entry) > 1:
            raise BookError(f"{project.toc}: lists {entry} twice; remove one")
        if page_file(project, entry) is None:
            known = [str(path.relative_to(project.root)) for path in _all_pages(project)]
            raise BookError(
                f"{project.toc}: lists {entry}, but there is no such page; "
                f"{suggest(entry, map(_without_ending, known))}"
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


def _walk(node: Any) -> Iterator[str]:
    """Yield every ``root`` and ``file`` below a node of the table of contents."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item)
    elif isinstance(node, dict):
        yield from (str(node[key]) for key in ("root", "file") if key in node)
        for value in node.values():
            yield from _walk(value)


def _without_ending(entry: str) -> str:
    for ending in _PAGE_ENDINGS:
        entry = entry.removesuffix(ending)
    return entry


def _all_pages(project: Project) -> list[Path]:
    pages = [p for ending in _PAGE_ENDINGS for p in project.book.rglob(f"*{ending}")]
    return [*project.notebook_files().values(), *pages]
