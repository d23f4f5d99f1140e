"""Showing the ledger: as a table in the terminal and as Markdown in the book."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from iavlib.claims.verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]

_COLOURS = {REPRODUCED: "green", PARTLY: "yellow", CONTRADICTED: "red", NOT_RUN: "dim"}
_BADGES = {
    REPRODUCED: "{bdg-success}`reproduced`",
    PARTLY: "{bdg-warning}`partly`",
    CONTRADICTED: "{bdg-danger}`contradicted`",
    NOT_RUN: "{bdg-light}`not run`",
}
_NOTHING = "–"


def format_number(value: float | None) -> str:
    """Write a number for a table: whole ones with thousands marked, others to four digits."""
    if value is None:
        return _NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def format_measured(row: Row) -> str:
    """Write the measured value of a row with its interval."""
    text = format_number(row["measured"])
    if row["interval"] is not None:
        low, high = (format_number(end) for end in row["interval"])
        text += f" [{low}, {high}]"
    return text


def format_data(row: Row) -> str:
    """Say on what the value of a row was measured."""
    if row["cohort"] is None:
        return _NOTHING
    kind = ", synthetic" if row["synthetic"] else ""
    return f"{row['cohort']}{kind}, n\u00a0=\u00a0{row['n']:,} ({row['profile']})"


def count_verdicts(rows: Iterable[Row]) -> str:
    """Sum the verdicts up in a sentence."""
    counts = Counter(row["verdict"] for row in rows)
    measured = sum(counts[verdict] for verdict in (REPRODUCED, PARTLY, CONTRADICTED))
    return (
        f"{measured} of {counts.total()} claims have a verdict: {counts[REPRODUCED]} reproduced, "
        f"{counts[PARTLY]} partly, {counts[CONTRADICTED]} contradicted; {counts[NOT_RUN]} not run."
    )


def rich_table(rows: Sequence[Row]) -> Table:
    """Lay the ledger out for a terminal, grouped by source.

    Parameters
    ----------
    rows : sequence of dict
        What :func:`iavlib.claims.ledger.ledger` gives.

    Returns
    -------
    rich.table.Table
        One line a claim.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_lines=False, pad_edge=False)
    for header in ("claim", "reported", "measured", "data", "verdict"):
        table.add_column(header, justify="right" if header == "reported" else "left")
    for source, group in _by_source(rows):
        table.add_section()
        table.add_row(f"[bold]{escape(source)}[/bold]")
        for row in group:
            colour = _COLOURS[row["verdict"]]
            table.add_row(
                f"{escape(row['id'])}\n[dim]{escape(row['statement'])}[/dim]",
                format_number(row["reported"]),
                escape(format_measured(row)),
                escape(format_data(row)),
                f"[{colour}]{row['verdict']}[/{colour}]",
            )
    return table


def markdown_table(rows: Sequence[Row], source_title: Callable[[str], str] = str) -> str:
    """Lay the ledger out in MyST Markdown, one table a source.

    Parameters
    ----------
    rows : sequence of dict
        What :func:`iavlib.claims.ledger.ledger` gives, or part of it.
    source_title : callable, optional
        Source key to the Markdown that introduces its table.

    Returns
    -------
    str
        Tables; a claim without a value says what it needs.
    """
    parts = []
    for source, group in _by_source(rows):
        lines = [
            f"**{source_title(source)}**",
            "",
            "| Claim | Verdict | Reported | Measured | Data |",
            "| :-- | :-- | --: | :-- | :-- |",
        ]
        lines += [_markdown_line(row) for row in group]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _markdown_line(row: Row) -> str:
    data = format_data(row)
    if row["measured"] is None:
        data = f"needs {row['needs']}"
    elif row["synthetic"]:
        data = "{bdg-warning}`synthetic` " + data.replace(", synthetic,", ",")
    cells = (
        row["statement"],
        _BADGES[row["verdict"]],  # second, so that a narrow screen shows it
        format_number(row["reported"]),
        format_measured(row),
        data,
    )
    return (
        "| "
        + " | ".join(re.sub(r"[ \t\n]+", " ", cell).replace("|", r"\|") for cell in cells)
        + " |"
    )


def _by_source(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    """Group rows by source, sources in the order they first appear."""
    order = list(dict.fromkeys(row["source"] for row in rows))
    ordered = sorted(rows, key=lambda row: order.index(row["source"]))
    return ((source, list(group)) for source, group in groupby(ordered, lambda r: r["source"]))
