"""Claims: what was measured for each, the verdict, and the ledger of all as tables.

A mean absolute error depends on how much the target varies in the data it was measured on. Its
reduction against the constant median of the same data depends on that far less. A claim with a
``baseline`` (the paper's own constant-median error) is therefore judged on both.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from iavlib.book.manifest import read_manifest
from iavlib.book.parameters import SCALES
from iavlib.book.recording import Claim, Measurement, load_claims
from iavlib.book.stored import describe_stored, read_stored
from iavlib.core.project import Project, find_project

if TYPE_CHECKING:
    from rich.table import Table


def reported_reduction(claim: Claim) -> float | None:
    """Return the reduction that a claim reports, None for one without a baseline."""
    return None if claim.baseline is None else 1 - claim.reported / claim.baseline


def measured_reduction(entry: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Work out by which share a recorded error is below that of a constant.

    Parameters
    ----------
    entry : mapping
        What :func:`iavlib.book.record` kept. Without an interval of the reduction the ends of
        the value's own interval are set against the baseline, which then counts as known.

    Returns
    -------
    tuple of float or None
        1 - error / baseline (negative when the constant is better), and its interval, whose ends
        are the value itself where none is known; None where no baseline was recorded.
    """
    baseline, value = entry.get("baseline"), entry["value"]
    if baseline is None:
        return None
    if entry.get("reduction_interval") is not None:
        return 1 - value / baseline, *entry["reduction_interval"]
    low, high = entry["interval"] or (value, value)
    return 1 - value / baseline, 1 - high / baseline, 1 - low / baseline


REPRODUCED = "reproduced"
PARTLY = "partly"
CONTRADICTED = "contradicted"
NOT_RUN = "not run"

#: A p-value that misses a paper's stricter threshold still supports it partly below this.
CONVENTIONAL_LEVEL = 0.05

Interval = Sequence[float] | None


def judge(
    claim: Claim, measured: float, interval: Interval = None, reduction: Interval = None
) -> str:
    """Compare a measured value with a claim.

    Parameters
    ----------
    claim : Claim
        What is claimed and how to compare.
    measured : float
        The measured value, finite.
    interval : pair of float, optional
        Its interval; without one a claim about a sign is reproduced partly at best.
    reduction : tuple of float, optional
        What :func:`measured_reduction` gives, for a claim with a baseline; without it such a claim
        is reproduced partly at best.

    Returns
    -------
    str
        ``"reproduced"``, ``"partly"`` or ``"contradicted"``:

        - *equal*: the same number, else contradicted.
        - *close*: within the tolerance; partly when the interval holds the
          reported number or the value is within twice the tolerance.
        - *p-below*: below the threshold; partly when below .05.
        - *p-above*: above the threshold, else contradicted.
        - *negative*, *positive*: the whole interval on that side of zero;
          partly when only the value is.
        - *at-most*, *at-least*: on that side of the limit, give or take the
          tolerance; partly when the interval reaches the limit or the value is
          within twice the tolerance.

        A claim with a baseline is judged on two counts instead: the value is
        within the tolerance of the reported one, and its reduction against the
        constant median of its own data is as large as the reported one, give or
        take its interval, which must lie above zero (what is not shown to beat a
        constant has not reproduced a gain over one). Both: reproduced; one: partly;
        neither: contradicted.
    """
    agrees, half = _compare(claim, measured, interval)
    reported = reported_reduction(claim)
    if reported is not None:
        _, low, high = reduction or (0, 0, 0)
        gained = low > 0 and high >= reported - 1e-12
        agrees, half = agrees and gained, agrees or gained
    return REPRODUCED if agrees else PARTLY if half else CONTRADICTED


def _compare(claim: Claim, measured: float, interval: Interval) -> tuple[bool, bool]:
    """Return whether a value agrees with a claim, and whether it does in part."""
    how = claim.compare
    low, high = interval or (math.nan, math.nan)  # NaN compares as false
    limit = claim.reported if how.limit is None else how.limit
    # a little more, so that .786 is within .005 of .781 in binary too
    tolerance = (how.tolerance or 0) * (1 + 1e-9) + 1e-12
    cases: dict[str, Callable[[], tuple[bool, bool]]] = {
        "equal": lambda: (measured == limit, False),
        "p-below": lambda: (measured < how.threshold, measured < CONVENTIONAL_LEVEL),
        "p-above": lambda: (measured > how.threshold, False),
        "negative": lambda: (high < 0, measured < 0),
        "positive": lambda: (low > 0, measured > 0),
        "close": lambda: near(abs(measured - limit), low <= limit <= high),
        "at-most": lambda: near(measured - limit, low <= limit),
        "at-least": lambda: near(limit - measured, high >= limit),
    }

    def near(distance: float, reaches: bool) -> tuple[bool, bool]:
        return distance <= tolerance, reaches or distance <= 2 * tolerance

    return cases[how.kind]()


def ledger(project: Project | None = None) -> list[dict[str, Any]]:
    """Compare every claim with what was measured.

    Parameters
    ----------
    project : Project, optional
        The project; the one around the working folder by default.

    Returns
    -------
    list of dict
        One row per claim, in the order of ``book/claims.yml``. A claim measured on one of its
        cohorts has a verdict; one measured only on synthetic data shows that value, with
        ``synthetic`` true and the verdict ``"not run"``; one not measured has None. Values from
        other data (a user's own) are left out. Of several values the one on real data, with real
        annotators, at the larger scale, of the later run is taken; at the same scale one measured
        here takes precedence over a stored one, whose ``profile`` says that it is stored.

        ``coverage`` is how many of the paper's units were at hand, and of how
        many; ``simulated`` marks simulated annotators on real images;
        ``reduction`` is that of a measured error against ``baseline``, the
        constant median's on the same data, ``reported_reduction`` the paper's.

    Raises
    ------
    ClaimError, ManifestError
        If the list of claims or a manifest is damaged.
    """
    project = project or find_project()
    paths = [project.executed / f"{stem}.json" for stem in project.notebook_files()]
    runs = [read_manifest(path) for path in paths if path.is_file()]
    measured = _measurements([*runs, *read_stored(project)])
    return [_row(claim, measured[claim.id]) for claim in load_claims(project.claims).values()]


def _measurements(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Collect what was recorded for each claim, with facts of the run."""
    measured: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        origin = {
            "profile": describe_profile(run),
            "scale": SCALES.index(run["profile"]) if run["profile"] in SCALES else -1,
            "finished": datetime.fromisoformat(run["finished"]),
            "here": "stored" not in run,
        }
        for entry in run["claims"]:
            measured[entry["id"]].append(Measurement(**entry).model_dump() | origin)
    return measured


def describe_profile(run: Mapping[str, Any]) -> str:
    """Name a run's scale: its profile, what the user set beyond it, and whether it is stored."""
    words = [run["profile"], *(f"{k}={v}" for k, v in run["overrides"].items())]
    return ", ".join([*words, describe_stored(run)] if "stored" in run else words)


def _row(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any]:
    usable = [e for e in entries if e["synthetic"] or e["cohort"] in claim.cohorts]
    criteria = ("scale", "n", "here", "finished")
    entry = max(
        usable,
        key=lambda e: (not e["synthetic"], not e["simulated"], *(e[name] for name in criteria)),
        default={},
    )
    of = entry.get
    reduction = measured_reduction(entry) if entry else None
    has_verdict = entry and not entry["synthetic"]
    return {
        **{name: getattr(claim, name) for name in ("id", "source", "statement", "reported")},
        "measured": of("value"),
        **{name: of(name) for name in ("interval", "n", "cohort")},
        "synthetic": of("synthetic", False),
        "profile": of("profile"),
        "verdict": judge(claim, of("value"), of("interval"), reduction) if has_verdict else NOT_RUN,
        "needs": claim.needs,
        "coverage": of("coverage"),
        "simulated": of("simulated", False),
        "baseline": of("baseline"),
        "reduction": reduction[0] if reduction else None,
        "reduction_interval": list(reduction[1:]) if reduction else None,
        "reported_baseline": claim.baseline,
        "reported_reduction": reported_reduction(claim),
    }


Row = Mapping[str, Any]

#: Of each verdict: its colour in a terminal, the kind of its badge on a page.
_LOOKS = {
    **{REPRODUCED: ("green", "success"), PARTLY: ("yellow", "warning")},
    **{CONTRADICTED: ("red", "danger"), NOT_RUN: ("dim", "light")},
}
_NOTHING = "–"


def format_number(value: float | None) -> str:
    """Write a number for a table: whole ones with thousands marked, others to four digits."""
    if value is None:
        return _NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


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
    """Describe the data on which the value of a row was measured."""
    if row["cohort"] is None:
        return _NOTHING
    simulated = ", simulated annotators" if row["simulated"] else ""
    kind = ", synthetic" if row["synthetic"] else simulated
    text = f"{row['cohort']}{kind}, n\u00a0=\u00a0{row['n']:,}"
    if row["coverage"] is not None:
        present, whole = row["coverage"]
        text += f", {present:,} of the paper's {whole:,}"
    return f"{text} ({row['profile']})"


def count_verdicts(rows: Iterable[Row]) -> str:
    """Summarize the verdicts in a sentence."""
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
        One line per claim.
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
            colour = _LOOKS[row["verdict"]][0]
            table.add_row(
                f"{escape(row['id'])}\n[dim]{escape(row['statement'])}[/dim]",
                format_reported(row),
                escape(format_measured(row)),
                escape(format_data(row)),
                f"[{colour}]{row['verdict']}[/{colour}]",
            )
    return table


def markdown_table(rows: Sequence[Row], source_title: Callable[[str], str] = str) -> str:
    """Lay the ledger out in MyST Markdown, one table per source.

    Parameters
    ----------
    rows : sequence of dict
        What :func:`iavlib.book.claims.ledger` gives, or part of it.
    source_title : callable, optional
        Source key to the Markdown that introduces its table.

    Returns
    -------
    str
        Tables; a claim without a value shows what it needs.
    """
    tables = []
    for source, group in _by_source(rows):
        lines = table_lines(
            "Claim:-- Verdict:-- Reported--: Measured:-- Data:--", map(_cells, group)
        )
        tables.append("\n".join([f"**{source_title(source)}**", "", *lines]))
    return "\n\n".join(tables) + "\n"


def table_lines(columns: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """Write the lines of a table in Markdown.

    Parameters
    ----------
    columns : str
        Header and alignment of each column, ``Claim:--`` or ``Seconds--:``; ``_`` for a space.
    rows : iterable of iterable of str
        The cells; white space is joined, bars are escaped.
    """
    heads = [re.match(r"(.+?)(:--|--:)$", column).groups() for column in columns.split()]
    lines = [[name.replace("_", " ") for name, _ in heads], [side for _, side in heads]]
    for cells in rows:  # no-break spaces stay, and bars that are escaped already
        plain = [re.sub(r"[ \t\n]+", " ", cell) for cell in cells]
        lines.append([re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in plain])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _cells(row: Row) -> list[str]:
    data, badge = format_data(row), f"{{bdg-{_LOOKS[row['verdict']][1]}}}`{row['verdict']}`"
    if row["measured"] is None:
        data = f"needs {row['needs']}"
    elif row["synthetic"]:
        data = "{bdg-warning}`synthetic` " + data.replace(", synthetic,", ",")
    elif row["simulated"]:
        data = "{bdg-info}`simulated annotators` " + data.replace(", simulated annotators,", ",")
    # the verdict second, so that a narrow screen shows it
    return [row["statement"], badge, format_reported(row), format_measured(row), data]


def _by_source(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    """Group rows by source, sources in the order they first appear."""
    order = list(dict.fromkeys(row["source"] for row in rows))
    ordered = sorted(rows, key=lambda row: order.index(row["source"]))
    return ((source, list(group)) for source, group in groupby(ordered, lambda r: r["source"]))
