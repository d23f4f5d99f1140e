"""Reading a notebook file as it lies on disk, without starting Jupyter.

Importing nbformat takes longer than everything `iav book` does when nothing
changed, and only cells, tags and figure captions are needed here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iavlib.execution.errors import NotebookError


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
        If the file is missing, is cut off or is no notebook of format 4.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
    """Give a cell's text; the file format allows one string or a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def cell_tags(cell: dict[str, Any]) -> list[str]:
    """Give a cell's tags."""
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
    """Give the first top-level heading of a notebook, or its stem if it has none."""
    for cell in read_cells(path):
        if cell.kind == "markdown":
            heading = re.search(r"^#\s+(.+?)\s*$", cell.source, flags=re.MULTILINE)
            if heading:
                return heading.group(1)
    return path.stem
