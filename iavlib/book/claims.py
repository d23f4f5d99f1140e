"""Claims: what was measured for each, the verdict, and the ledger of all as tables.

A mean absolute error depends on how much the target varies in the data it was measured on. Its
reduction against the constant median of the same data depends on that far less. A claim with a
``baseline`` (the paper's own constant-median error) is therefore judged on both.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Reduction:
    """A share by which an error is below that of a constant.

    Parameters
    ----------
    value : float
        1 - error / baseline; negative when the constant is better.
    low, high : float
        Its interval; both are `value` where none is known.
    """

    value: float
    low: float
    high: float

    def holds_against(self, reported: float) -> bool:
        """Return whether it is as large as the reported one, within its interval.

        The interval must also lie above zero: what is not shown to beat a constant has not
        reproduced a gain over one, however wide its interval.
        """
        return self.low > 0 and self.high >= reported - 1e-12


def reported_reduction(claim: Claim) -> float | None:
    """Return the reduction that a claim reports, None for one without a baseline."""
    if claim.baseline is None or claim.reported is None:
        return None
    return 1 - claim.reported / claim.baseline


def measured_reduction(entry: Mapping[str, Any]) -> Reduction | None:
    """Work out the reduction of a recorded value, None where no baseline was recorded with it.

    Parameters
    ----------
    entry : mapping
        What :func:`iavlib.book.record` kept. Without an interval of the reduction the ends of
        the value's own interval are set against the baseline, which then counts as known.

    Returns
    -------
    Reduction or None
    """
    baseline = entry.get("baseline")
    if baseline is None:
        return None
    value = 1 - entry["value"] / baseline
    if entry.get("reduction_interval") is not None:
        return Reduction(value, *entry["reduction_interval"])
    if entry["interval"] is not None:
        low, high = entry["interval"]
        return Reduction(value, 1 - high / baseline, 1 - low / baseline)
    return Reduction(value, value, value)


REPRODUCED = "reproduced"
PARTLY = "partly"
CONTRADICTED = "contradicted"
NOT_RUN = "not run"

#: A p-value that misses a paper's stricter threshold still supports it partly below this.
CONVENTIONAL_LEVEL = 0.05

Interval = Sequence[float] | None


def judge(
    claim: Claim,
    measured: float,
    interval: Interval = None,
    reduction: Reduction | None = None,
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
    reduction : Reduction, optional
        Measured reduction of an error against a constant, for a claim with a baseline; without it
        such a claim is reproduced partly at best.

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
        take its interval, which must lie above zero. Both: reproduced; one:
        partly; neither: contradicted.
    """
    alone = _judge_alone(claim, measured, interval)
    reported = reported_reduction(claim)
    if reported is None:
        return alone
    close = alone == REPRODUCED
    gained = reduction is not None and reduction.holds_against(reported)
    return _graded(close and gained, close or gained)


def _graded(fully: bool, half: bool = False) -> str:
    return REPRODUCED if fully else PARTLY if half else CONTRADICTED


def _within(distance: float, allowed: float) -> bool:
    """Compare with a small tolerance, so that .786 is within .005 of .781 in binary too."""
    return distance <= allowed * (1 + 1e-9) + 1e-12


def _judge_alone(claim: Claim, measured: float, interval: Interval) -> str:
    kind, threshold, tolerance = (
        claim.compare.kind,
        claim.compare.threshold,
        claim.compare.tolerance,
    )
    low, high = (math.nan, math.nan) if interval is None else interval  # NaN compares as false
    if kind == "equal":
        return _graded(measured == claim.reported)
    if kind == "p-below":
        return _graded(measured < threshold, measured < CONVENTIONAL_LEVEL)
    if kind == "p-above":
        return _graded(measured > threshold)
    if kind == "negative":
        return _graded(high < 0, measured < 0)
    if kind == "positive":
        return _graded(low > 0, measured > 0)
    limit = claim.reported if claim.compare.limit is None else claim.compare.limit
    if kind == "close":
        distance, reaches = abs(measured - limit), low <= limit <= high
    elif kind == "at-most":
        distance, reaches = measured - limit, low <= limit
    else:
        distance, reaches = limit - measured, high >= limit
    tolerance = claim.compare.tolerance or 0
    return _graded(_within(distance, tolerance), reaches or _within(distance, 2 * tolerance))


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
    found = _measurements([*read_runs(project), *read_stored(project)])
    return [_row(claim, found.get(claim.id, [])) for claim in load_claims(project.claims).values()]


def read_runs(project: Project) -> list[dict[str, Any]]:
    """Read the manifests of all notebooks that were run here.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    list of dict
        In the order of the notebooks. A manifest whose notebook was removed is left out.
    """
    paths = [project.executed / f"{stem}.json" for stem in project.notebook_files()]
    return [read_manifest(path) for path in paths if path.is_file()]


def _measurements(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Collect what was recorded for each claim, with facts of the run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for entry in run["claims"]:
            origin = {
                "profile": describe_profile(run),
                "scale": SCALES.index(run["profile"]) if run["profile"] in SCALES else -1,
                "finished": datetime.fromisoformat(run["finished"]),
                "here": "stored" not in run,
            }
            found.setdefault(entry["id"], []).append(
                {**Measurement(**entry).model_dump(), **origin}
            )
    return found


def describe_profile(run: Mapping[str, Any]) -> str:
    """Name a run's scale: its profile, what the user set beyond it, and whether it is stored."""
    subsets = [run["profile"], *(f"{k}={v}" for k, v in run["overrides"].items())]
    return ", ".join([*subsets, describe_stored(run)] if "stored" in run else subsets)


def _row(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any]:
    entry = _best(claim, entries)
    of = (entry or {}).get
    reduction = measured_reduction(entry) if entry else None
    has_verdict = entry is not None and not entry["synthetic"]
    return {
        "id": claim.id,
        "source": claim.source,
        "statement": claim.statement,
        "reported": claim.reported,
        "measured": of("value"),
        "interval": of("interval"),
        "n": of("n"),
        "cohort": of("cohort"),
        "synthetic": of("synthetic", False),
        "profile": of("profile"),
        "verdict": judge(claim, of("value"), of("interval"), reduction) if has_verdict else NOT_RUN,
        "needs": claim.needs,
        "coverage": of("coverage"),
        "simulated": of("simulated", False),
        "baseline": of("baseline"),
        "reduction": reduction.value if reduction else None,
        "reduction_interval": [reduction.low, reduction.high] if reduction else None,
        "reported_baseline": claim.baseline,
        "reported_reduction": reported_reduction(claim),
    }


def _best(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    usable = [e for e in entries if e["synthetic"] or e["cohort"] in claim.cohorts]
    return max(
        usable,
        key=lambda e: (
            *(not e["synthetic"], not e["simulated"]),
            *(e["scale"], e["n"], e["here"], e["finished"]),
        ),
        default=None,
    )


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
    """Describe the data on which the value of a row was measured."""
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
