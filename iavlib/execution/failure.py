"""Where and why a run of a notebook stopped, read from what it left behind.

Papermill's own status is not trusted: it says "completed" of the cell whose
kernel was killed.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iavlib.execution.errors import NotebookError
from iavlib.execution.source import cell_source, cell_tags, load_notebook

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
        Number of the code cell, counted from 1 in the source notebook; None if
        the run stopped before the first or there is nothing to blame.
    line : str or None
        First line of that cell.
    error : str
        What happened, in one line.
    traceback : tuple of str
        The last lines of the traceback or, without one, of the log.
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
        """The cell in words."""
        if self.cell is None:
            return "outside the cells"
        return f"code cell {self.cell} ({self.line})"

    def to_json(self) -> dict[str, Any]:
        """Give the failure for a ``.failed.json`` file."""
        return {**asdict(self), "traceback": list(self.traceback)}


def own_code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """List the code cells of an executed notebook that its source has too."""
    return [
        cell
        for cell in notebook["cells"]
        if cell.get("cell_type") == "code" and INJECTED_TAG not in cell_tags(cell)
    ]


def first_unrun(notebook: dict[str, Any]) -> int | None:
    """Give the number of the first code cell that was not run, None if all were."""
    for number, cell in enumerate(own_code_cells(notebook), start=1):
        if cell_source(cell).strip() and cell.get("execution_count") is None:
            return number
    return None


def has_error(notebook: dict[str, Any]) -> bool:
    """Tell whether a cell of an executed notebook ended with an error."""
    return any(_error_output(cell) for cell in own_code_cells(notebook))


def diagnose(output: Path, log: Path, exit_code: int, reason: str | None = None) -> Failure:
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
        What is wrong, should no cell hold an error.

    Returns
    -------
    Failure
        The first cell with an error; else, as when a kernel is killed, the
        last cell that was started.
    """
    tail = _log_tail(log)
    try:
        cells = own_code_cells(load_notebook(output))
    except NotebookError:
        return Failure(None, None, reason or _last_words(tail), tail, exit_code)
    for number, cell in enumerate(cells, start=1):
        error = _error_output(cell)
        if error is not None:
            message, traceback = error
            return Failure(number, _first_line(cell), message, traceback, exit_code)
    started = [number for number, cell in enumerate(cells, start=1) if _was_started(cell)]
    if reason is None:
        dead = any("DeadKernelError" in line for line in tail)
        reason = _DEAD if dead else _last_words(tail)
    if not started:
        return Failure(None, None, reason, tail, exit_code)
    return Failure(started[-1], _first_line(cells[started[-1] - 1]), reason, tail, exit_code)


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


def _was_started(cell: dict[str, Any]) -> bool:
    return bool(cell.get("metadata", {}).get("papermill", {}).get("start_time"))


def _first_line(cell: dict[str, Any]) -> str:
    lines = [line for line in cell_source(cell).splitlines() if line.strip()]
    return lines[0].strip() if lines else ""


def _log_tail(log: Path) -> tuple[str, ...]:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return tuple(_COLOURS.sub("", text).splitlines()[-_TRACEBACK_LINES:])


def _last_words(tail: tuple[str, ...]) -> str:
    said = [line.strip() for line in tail if line.strip()]
    return _one_line(said[-1]) if said else "the process ended without a word"


def _one_line(text: str) -> str:
    return " ".join(_COLOURS.sub("", text).split())
