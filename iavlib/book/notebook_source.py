"""Reading notebook files: their cells, and where and why a run stopped.

Files are read as JSON: importing nbformat takes longer than everything `iav book` does when nothing
changed, and only cells, tags and figure captions are needed. Papermill's own status of a cell is
not used: it is "completed" for a cell whose kernel was killed.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iavlib.core.errors import NotebookError
from iavlib.core.files import load_json


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook, without what does not change its result or its page.

    Parameters
    ----------
    kind : str
        ``"code"``, ``"markdown"`` or ``"raw"``.
    source : str
        Text of the cell.
    tags : tuple of str
        Its tags.
    figure : dict
        Its ``mystnb`` metadata: caption, name and alt text.
    """

    kind: str
    source: str
    tags: tuple[str, ...]
    figure: dict[str, Any]


def load_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook file.

    Parameters
    ----------
    path : Path
        An ``.ipynb`` file of format 4.

    Returns
    -------
    dict
        The notebook as JSON.

    Raises
    ------
    NotebookError
        If the file is missing, truncated or not a notebook of format 4.
    """
    try:
        content = load_json(path)
    except OSError as error:
        raise NotebookError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise NotebookError(
            f"{path}: not a whole notebook file ({error}); restore it from git"
        ) from error
    if not isinstance(content, dict) or content.get("nbformat") != 4 or "cells" not in content:
        raise NotebookError(f"{path}: not a notebook of format 4; open and save it in JupyterLab")
    return content


def cell_source(cell: dict[str, Any]) -> str:
    """Return a cell's text; the file format allows one string or a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def cell_tags(cell: dict[str, Any]) -> list[str]:
    """Return a cell's tags."""
    return list(cell.get("metadata", {}).get("tags", []))


def read_cells(path: Path) -> list[Cell]:
    """Read the cells of a notebook file.

    Parameters
    ----------
    path : Path
        The notebook.

    Returns
    -------
    list of Cell
        In order; outputs, execution counts and editors' metadata left out.
    """
    return [
        Cell(
            kind=cell.get("cell_type", "raw"),
            source=cell_source(cell),
            tags=tuple(sorted(cell_tags(cell))),
            figure=cell.get("metadata", {}).get("mystnb", {}),
        )
        for cell in load_notebook(path)["cells"]
    ]


def notebook_title(path: Path) -> str:
    """Return the first top-level heading of a notebook, or its stem if it has none."""
    for cell in read_cells(path):
        if cell.kind == "markdown":
            heading = re.search(r"^#\s+(.+?)\s*$", cell.source, flags=re.MULTILINE)
            if heading:
                return heading.group(1)
    return path.stem


INJECTED_TAG = "injected-parameters"
ERROR_MARK_TAG = "papermill-error-cell-tag"
_TRACEBACK_LINES = 20
_DEAD = "the kernel died (killed, out of memory, or ended by the code itself)"
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Failure:
    """Why a run is not done.

    Parameters
    ----------
    cell : int or None
        Number of the code cell, counted from 1 in the source notebook; None if the run stopped
        before the first or no cell is at fault.
    line : str or None
        First line of that cell.
    error : str
        What happened, in one line.
    traceback : tuple of str
        The last lines of the traceback or, if there is none, of the log.
    exit_code : int or None
        Exit status of the process.
    """

    cell: int | None
    line: str | None
    error: str
    traceback: tuple[str, ...] = ()
    exit_code: int | None = None

    @property
    def place(self) -> str:
        """The cell, for messages."""
        if self.cell is None:
            return "outside the cells"
        return f"code cell {self.cell} ({self.line})"


def own_code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """List the code cells of an executed notebook that its source has too."""
    return [
        cell
        for cell in notebook["cells"]
        if cell.get("cell_type") == "code" and INJECTED_TAG not in cell_tags(cell)
    ]


def first_unrun(notebook: dict[str, Any]) -> int | None:
    """Return the number of the first code cell that was not run, None if all were."""
    for number, cell in enumerate(own_code_cells(notebook), start=1):
        if cell_source(cell).strip() and cell.get("execution_count") is None:
            return number
    return None


def has_error(notebook: dict[str, Any]) -> bool:
    """Return whether a cell of an executed notebook ended with an error."""
    return any(_error_output(cell) for cell in own_code_cells(notebook))


def locate_failure(output: Path, log: Path, exit_code: int, reason: str | None = None) -> Failure:
    """Find the cell at which a run stopped.

    Parameters
    ----------
    output : Path
        The partly executed notebook; it may be missing.
    log : Path
        What the process printed.
    exit_code : int
        How it ended.
    reason : str, optional
        What is wrong if no cell holds an error.

    Returns
    -------
    Failure
        The first cell with an error; else, as when a kernel is killed, the
        last cell that was started.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    tail = tuple(_COLOURS.sub("", text).splitlines()[-_TRACEBACK_LINES:])
    lines = [line for line in tail if line.strip()]
    last = _one_line(lines[-1]) if lines else "the process ended without any output"
    try:
        cells = own_code_cells(load_notebook(output))
    except NotebookError:
        return Failure(None, None, reason or last, tail, exit_code)
    started = None
    for number, cell in enumerate(cells, start=1):
        first = next((line.strip() for line in cell_source(cell).splitlines() if line.strip()), "")
        if error := _error_output(cell):
            return Failure(number, first, *error, exit_code)
        if cell.get("metadata", {}).get("papermill", {}).get("start_time"):
            started = number, first
    if reason is None:
        reason = _DEAD if any("DeadKernelError" in line for line in tail) else last
    return Failure(*(started or (None, None)), reason, tail, exit_code)


def _error_output(cell: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    for output in cell.get("outputs", []):
        if output.get("output_type") == "error":
            name, value = output.get("ename", "error"), output.get("evalue", "")
            message = f"{name}: {value}" if value else name
            if name == "SystemExit":
                message += " (a notebook must not end its own process)"
            text = _COLOURS.sub("", "\n".join(output.get("traceback", [])))
            return _one_line(message), tuple(text.splitlines()[-_TRACEBACK_LINES:])
    return None


def _one_line(text: str) -> str:
    return " ".join(_COLOURS.sub("", text).split())
