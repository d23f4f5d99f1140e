"""What of the sources this book does: ``book/coverage.yml``, and the page that is made of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError, model_validator

from iavlib.book.claims import table_lines
from iavlib.book.recording import Text
from iavlib.core.errors import BookError
from iavlib.core.project import Project
from iavlib.core.settings import Settings, describe, read_yaml

STATES = ("done here", "other setting", "not at hand", "not built")


class Item(Settings):
    """An experiment, table or figure of a source."""

    item: Text  #: as the source numbers it
    what: Text  #: what it shows
    state: Literal[STATES]
    because: Text | None = None  #: why it is in that state; required unless it is done here
    pages: tuple[Text, ...] = ()  #: of this book, as in ``_toc.yml``
    claims: tuple[Text, ...] = ()  #: ids in ``book/claims.yml``

    @model_validator(mode="after")
    def _check_reason(self) -> Item:
        if (self.because is None) != (self.state == STATES[0]):
            raise ValueError(f"because is for what is not {STATES[0]!r}, and required there")
        if not self.pages and self.state == STATES[0]:
            raise ValueError("what is done here needs pages")
        return self

    def links(self) -> str:
        """Link its pages by the number of the notebook or the name of the page."""
        names = [(re.sub(r".*/(\d+)?(?(1).*)", r"\1", page), page) for page in self.pages]
        return ", ".join(f"{{doc}}`{name} </{page}>`" for name, page in names)


def load_coverage(path: Path) -> dict[str, list[Item]]:
    """Read ``book/coverage.yml``.

    Returns
    -------
    dict of str to list of Item
        By source, in the order of the file.

    Raises
    ------
    BookError
        If the file cannot be read or an item is not valid; the message names source and number.
    """
    try:
        return TypeAdapter(dict[str, list[Item]]).validate_python(read_yaml(path))
    except ValidationError as error:
        raise BookError(f"{path.name}: {describe(error)}") from None
    except ValueError as error:
        raise BookError(f"{path}: {error}") from error


def coverage_page(project: Project) -> str:
    """Write the page of what is reproduced: one table per source, as Markdown.

    Returns
    -------
    str
        Empty in a project without ``book/coverage.yml``.
    """
    path = project.book / "coverage.yml"
    sources = load_coverage(path) if path.is_file() else {}
    sections = [_count([one for items in sources.values() for one in items])] if sources else []
    for source, items in sources.items():
        cells = ((one.item, one.what, one.state, one.because or "", one.links()) for one in items)
        lines = table_lines("Item:-- What_it_shows:-- State:-- Why:-- Page:--", cells)
        sections += [f"**{{cite:t}}`{source}`**. {_count(items)}", "\n".join(lines)]
    return "\n\n".join(sections) + "\n"


def _count(items: list[Item]) -> str:
    counts = Counter(item.state for item in items)
    listed = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"Of {len(items)} items: {listed}."
