"""Showing the ledger: as a table in the terminal and as Markdown in the book."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from iavlib.book.claims import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED

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


def format_reported(row: Row) -> str:
    """Write the reported value of a row with its reduction against a constant."""
    text = format_number(row["reported"])
    if row["reported_reduction"] is not None:
        constant = format_number(row["reported_baseline"])
        text += f"; {format_share(row['reported_reduction'])} below a constant's {constant}"
    return text


def format_measured(row: Row) -> str:
    """Write the measured value of a row with its interval and its reduction."""
    text = format_number(row["measured"])
    if row["interval"] is not None:
        low, high = (format_number(end) for end in row["interval"])
        text += f" [{low}, {high}]"
    if row["reduction"] is not None:
        low, high = row["reduction_interval"]
        bounds = f" [{format_share(low)}, {format_share(high)}]" if low != high else ""
        text += f"; {format_share(row['reduction'])}{bounds}"
        text += f" below a constant's {format_number(row['baseline'])}"
    return text


def format_share(share: float) -> str:
    """Write a share in per cent to one digit."""
    return f"{100 * share:.1f}\u00a0%"


def format_data(row: Row) -> str:
    """Say on what the value of a row was measured."""
    if row["cohort"] is None:
        return _NOTHING
    kind = ", simulated annotators" if row["simulated"] else ""
    if row["synthetic"]:
        kind = ", synthetic"
    text = f"{row['cohort']}{kind}, n\u00a0=\u00a0{row['n']:,}"
    if row["coverage"] is not None:
        subset, whole = row["coverage"]
        text += f", {subset:,} of the paper's {whole:,}"
    return f"{text} ({row['profile']})"


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
        What :func:`iavlib.book.claims.ledger` gives.

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
                format_reported(row),
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
        What :func:`iavlib.book.claims.ledger` gives, or part of it.
    source_title : callable, optional
        Source key to the Markdown that introduces its table.

    Returns
    -------
    str
        Tables; a claim without a value says what it needs.
    """
    subsets = []
    for source, group in _by_source(rows):
        lines = [
            f"**{source_title(source)}**",
            "",
            "| Claim | Verdict | Reported | Measured | Data |",
            "| :-- | :-- | --: | :-- | :-- |",
        ]
        lines += [_markdown_line(row) for row in group]
        subsets.append("\n".join(lines))
    return "\n\n".join(subsets) + "\n"


def _markdown_line(row: Row) -> str:
    data = format_data(row)
    if row["measured"] is None:
        data = f"needs {row['needs']}"
    elif row["synthetic"]:
        data = "{bdg-warning}`synthetic` " + data.replace(", synthetic,", ",")
    elif row["simulated"]:
        data = "{bdg-info}`simulated annotators` " + data.replace(", simulated annotators,", ",")
    cells = (
        row["statement"],
        _BADGES[row["verdict"]],  # second, so that a narrow screen shows it
        format_reported(row),
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
