"""Claims: what was measured for each, its two labels, and the ledger of all as tables."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from iavlib.book import evidence as ev
from iavlib.book.manifest import read_manifest
from iavlib.book.parameters import SCALES
from iavlib.book.recording import Claim, Measurement, load_claims
from iavlib.book.stored import describe_stored, read_stored
from iavlib.core.project import Project, find_project

if TYPE_CHECKING:
    from rich.table import Table


Row = Mapping[str, Any]


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


def ledger(project: Project | None = None) -> list[dict[str, Any]]:
    """Set every claim against what was measured.

    Parameters
    ----------
    project : Project, optional
        The project; the one around the working folder by default.

    Returns
    -------
    list of dict
        One row per claim, in the order of ``book/claims.yml``:

        - ``id``, ``source``, ``place``, ``statement``, ``unit``, ``needs``, ``notebook`` and
          ``finding`` (True: of this book, no claim of a source);
        - ``reported``: the number that the source prints; ``computed`` and ``computed_from``: the
          claimed effect as we work it out from printed numbers;
        - ``measured``, ``interval`` (95 %; None where there is none, where it has no width, or
          where it reaches beyond what is possible), ``n`` (test images or pairs), ``seeds``,
          ``patients``, ``cohort``, ``coverage`` (how many of the source's units, of how many),
          ``simulated`` (annotators), ``synthetic`` (images), ``protocol``, ``profile``, ``note``;
          ``baseline``, ``reduction``, ``reduction_interval`` of an error against a constant;
        - ``setting``, one of :data:`iavlib.book.evidence.SETTINGS`; None where nothing was measured
          and for a finding on complete data;
        - ``evidence``, one of :data:`iavlib.book.evidence.EVIDENCE`; ``verdict``, the word to
          print: *reproduced* or *not reproduced* in place of (*not*) *supported* where data and
          protocol are the source's own; ``reason``, why, in a sentence;
        - ``smallest_effect`` (that would matter; margin of an equivalence test),
          ``smallest_because``; ``standard_error`` and ``mde``, the effect that this measurement
          finds with 80 % probability;
        - ``pooled``: how many data sets a pooled row averages, else None; ``datasets``: their rows.

        Of several values on one data set that at the larger scale, of more units, measured here
        rather than stored, of the later run is taken. Of several data sets each has its row in
        ``datasets``, and the row of the claim is their random-effects mean, in the setting
        farthest from the source's. Two sets leave that mean one degree of freedom; where each alone
        has the same label, so has the mean. Values on invented images are no evidence:
        ``synthetic`` is true and the evidence *not run*. Values from a user's own data are left
        out.

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


def _row(claim: Claim, entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    best: dict[tuple[bool, str], dict[str, Any]] = {}
    for entry in entries:
        if entry["synthetic"] or entry["cohort"] in claim.cohorts:
            key = entry["synthetic"], entry["cohort"]
            best[key] = max(best.get(key, entry), entry, key=_rank)
    real = [entry for (synthetic, _), entry in best.items() if not synthetic]
    entries = sorted(real or best.values(), key=_rank, reverse=True)
    if len(real) < 2:
        return _measured_row(claim, next(iter(entries), {}))
    rows = [_measured_row(claim, entry) for entry in entries]
    return _pooled(claim, rows) | {"datasets": rows}


def _rank(entry: Mapping[str, Any]) -> tuple:
    return not entry["simulated"], *(entry[key] for key in ("scale", "n", "here", "finished"))


_OF_CLAIM = (
    *("id", "source", "place", "statement", "unit", "reported", "computed", "computed_from"),
    *("finding", "notebook", "needs"),
)
_OF_ENTRY = ("n", "seeds", "patients", "cohort", "coverage", "profile", "note", "baseline")


def _measured_row(claim: Claim, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a claim and one measurement of it; an empty one was not made."""
    row = {name: getattr(claim, name) for name in _OF_CLAIM}
    row |= {name: entry.get(name) for name in _OF_ENTRY}
    row |= {name: entry.get(name, False) for name in ("synthetic", "simulated")}
    row |= {"measured": entry.get("value"), "interval": None, "reduction": None}
    row |= {"reduction_interval": None, "protocol": entry.get("protocol") or claim.protocol}
    row |= dict.fromkeys(("setting", "standard_error", "mde", "pooled"))
    row |= {"evidence": ev.NOT_RUN, "datasets": []}
    row["smallest_effect"], row["smallest_because"] = claim.compare.smallest, claim.compare.because
    if row["cohort"] not in claim.own:  # no part of what the source had
        row["coverage"] = None
    if claim.over_seeds and row["seeds"] is None:  # once n counted the seeds
        row["n"], row["seeds"] = None, row["n"]
    if entry:
        row["interval"] = ev.usable_interval(entry["value"], entry["interval"], claim.range)
        if reduction := measured_reduction(entry):
            row["reduction"], *ends = reduction
            row["reduction_interval"] = ev.usable_interval(reduction[0], ends)
        if not entry["synthetic"]:
            row["setting"] = _setting(claim, row)
            _judge(claim, row)
    return row | _words(claim, row)


def _setting(claim: Claim, row: Row) -> str | None:
    if claim.setting is not None or row["simulated"]:
        return claim.setting or ev.SIMULATED
    present, whole = row["coverage"] or (1, 1)
    if row["cohort"] not in claim.own or present < whole:
        return ev.OTHER_DATA
    if claim.finding:
        return None
    return ev.SAME if row["protocol"] == "published" else ev.OTHER_PROTOCOL


def _judge(claim: Claim, row: dict[str, Any]) -> None:
    """Fill in the evidence of a row, and the effect that it could have found."""
    compare = claim.compare
    value, interval = row["measured"], row["interval"]
    if compare.kind == "reduction":
        value, interval = row["reduction"], row["reduction_interval"]
    others = compare.kind == "equal" and row["setting"] != ev.SAME and not claim.finding
    if others or (claim.not_comparable and row["protocol"] != "published"):
        row["evidence"] = ev.NOT_COMPARABLE
    else:
        row["evidence"] = ev.judge(compare, claim.claimed, value, interval)
    runs = row["pooled"] or (row["seeds"] if claim.over_seeds else None)
    if compare.smallest:
        row["standard_error"] = ev.standard_error(value, interval, runs, claim.range)
        row["mde"] = ev.detectable_effect(value, interval, runs, claim.range)


_FARTHEST = (None, *ev.SETTINGS).index


def _pooled(claim: Claim, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the rows of several data sets; where that is not possible the first stands."""
    of = {name: [row[name] for row in rows] for name in rows[0]}
    if not all(of["standard_error"]) or claim.compare.kind == "reduction":
        return rows[0]
    mean, interval = ev.pool(of["measured"], of["standard_error"])
    row = rows[0] | dict.fromkeys(("coverage", "patients", "note", "baseline", "reduction"))
    row |= {"measured": mean, "interval": interval, "pooled": len(rows)}
    row |= {"n": sum(filter(None, of["n"])) or None, "cohort": " + ".join(of["cohort"])}
    row |= {"seeds": min(filter(None, of["seeds"]), default=None), "reduction_interval": None}
    row |= {"simulated": any(of["simulated"]), "setting": max(of["setting"], key=_FARTHEST)}
    _judge(claim, row)
    low, high = claim.range or interval
    row["interval"] = [max(low, interval[0]), min(high, interval[1])]
    if len(set(of["evidence"])) > 1 or row["evidence"] in of["evidence"]:
        return row | _words(claim, row)
    row["evidence"] = of["evidence"][0]
    reason = f"so in each of {len(rows)} data sets, too few for an interval of their mean"
    return row | _words(claim, row) | {"reason": reason}


#: Colours of the words of evidence in a terminal.
_COLOURS = dict(zip(ev.EVIDENCE, ("green", "red", "yellow", "dim", "dim"), strict=True))
_NOTHING = "–"
_SPACE = "\u00a0"
#: Decimals and sign of each unit; the others have three decimals and no sign.
_PERCENT = (1, f"{_SPACE}%")
_UNITS = {"points": (1, f"{_SPACE}points"), "%": _PERCENT, "reduction": _PERCENT, "count": (0, "")}


def format_value(value: float | None, unit: str, sign: bool = True) -> str:
    """Write a value with as many digits as every other of its unit."""
    if value is None:
        return _NOTHING
    if unit == "p":
        return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"
    digits, name = _UNITS.get(unit, (3, ""))
    shown = f"{100 * value if unit == 'reduction' else value:,.{digits}f}"
    shown = shown.lstrip("-") if not float(shown.replace(",", "")) else shown  # no -0.0
    return shown + name * sign


def _words(claim: Claim, row: Row) -> dict[str, str]:
    """Give ``verdict``, the word to print for the evidence, and ``reason``, why."""
    evidence, compare = row["evidence"], claim.compare
    unit = "reduction" if compare.kind == "reduction" else claim.unit
    values = (compare.smallest, claim.claimed, row["mde"])
    smallest, claimed, mde = (format_value(value, unit) for value in values)
    beyond = {
        "equal": "the number is the same",
        "p-below": f"p is below {compare.threshold}",
        "equivalent": f"the whole interval is within {smallest} of {claimed}",
        **dict.fromkeys(("at-most", "at-least"), f"at most {smallest} worse than {claimed}"),
    }
    open_ = "the interval allows both" if row["interval"] else "there is no interval to judge by"
    if compare.kind == "p-below":
        open_ = f"p is not below {compare.threshold}, which shows no absence"
    elif row["mde"]:
        open_ += f"; an effect of {mde} would be found with 80{_SPACE}% probability"
    effect = f"the whole interval is beyond {smallest}, the smallest effect that matters"
    left_out = smallest if claim.claimed is None else claimed
    reasons = {
        ev.SUPPORTED: beyond.get(compare.kind, effect),
        ev.NOT_SUPPORTED: f"{'the interval' if compare.smallest else 'it'} leaves out {left_out}",
        ev.INCONCLUSIVE: open_,
        ev.NOT_COMPARABLE: claim.not_comparable or "the reported number is of other data",
        ev.NOT_RUN: f"needs {claim.needs}",
    }
    word = ev.REPRODUCED.get(evidence, evidence) if row["setting"] == ev.SAME else evidence
    return {"verdict": word, "reason": reasons[evidence]}


def format_setting(row: Row) -> str:
    """Name the setting of a row; a finding on complete data has none beside itself."""
    return row["setting"] or (_NOTHING if row["evidence"] == ev.NOT_RUN else "this book's own data")


def format_reported(row: Row) -> str:
    """Write what the source prints, and what follows from it."""
    reported = row["reported"]
    printed = f"{reported:,}" if isinstance(reported, int) else f"{reported or 0:g}"
    printed = f"{'< ' * (row['unit'] == 'p')}{printed}{_UNITS.get(row['unit'], ('', ''))[1]}"
    texts = [printed] if reported is not None else []
    if row["computed"] is not None:
        texts.append(f"our calculation: {row['computed']:,g} ({row['computed_from']})")
    return "; ".join(texts) or _NOTHING


def format_measured(row: Row) -> str:
    """Write the measured value of a row with its interval and its reduction."""
    if row["measured"] is None or row["synthetic"]:
        return _NOTHING
    text = _with_interval(row["measured"], row["interval"], row["unit"])
    if row["reduction"] is not None:
        reduction = _with_interval(row["reduction"], row["reduction_interval"], "reduction")
        text += f"; {reduction} below a constant's {format_value(row['baseline'], row['unit'])}"
    return text


def _with_interval(value: float, interval: Sequence[float] | None, unit: str) -> str:
    if interval is None:
        return format_value(value, unit)
    middle, low, high = (format_value(end, unit, sign=False) for end in (value, *interval))
    return f"{middle} ({low} to {high}){_UNITS.get(unit, ('', ''))[1]}"


def format_data(row: Row) -> str:
    """Describe the data on which the value of a row was measured: units, patients, seeds."""
    if row["cohort"] is None or row["synthetic"]:
        return f"needs {row['needs']}"
    text = f"mean of {row['pooled']} data sets: " if row["pooled"] else ""
    text += row["cohort"]
    if row["coverage"] is not None:
        present, whole = row["coverage"]
        text += f", {present:,} of the source's {whole:,}"
    counted = {"n": row["n"], "patients": row["patients"], "seeds": row["seeds"]}
    sizes = [f"{name}{_SPACE}={_SPACE}{size:,}" for name, size in counted.items() if size]
    stored = re.search(r"stored [\d-]+", row["profile"])
    return f"{', '.join([text, *sizes])} ({stored[0] if stored else row['profile']})"


def count_verdicts(rows: Iterable[Row]) -> str:
    """Summarize the labels in two sentences: claims of sources, and findings of this book."""
    counts = Counter((row["finding"], row["verdict"]) for row in rows)
    words = [*ev.REPRODUCED.values(), *ev.EVIDENCE]
    sentences = []
    for finding, name in ((False, "claims of the sources"), (True, "findings of this book")):
        of = {word: counts[finding, word] for word in words if counts[finding, word]}
        if of:
            listed = ", ".join(f"{count} {word}" for word, count in of.items())
            sentences.append(f"Of {sum(of.values())} {name}: {listed}.")
    return " ".join(sentences)


def rich_table(rows: Sequence[Row]) -> Table:
    """Lay the ledger out for a terminal, grouped by source.

    Parameters
    ----------
    rows : sequence of dict
        What :func:`iavlib.book.claims.ledger` gives.

    Returns
    -------
    rich.table.Table
        One line per claim, and one for each of its data sets where there are several.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_lines=False, pad_edge=False)
    table.add_column("claim", no_wrap=True)  # ids are typed
    for header in ("evidence", "setting", "reported", "measured", "data"):
        table.add_column(header, overflow="fold")
    for source, group in by_source(rows):
        table.add_section()
        table.add_row(f"[bold]{escape(source)}[/bold]")
        for row, name in _lines(group):
            label = f"[{_COLOURS[row['evidence']]}]{row['verdict']}[/]"
            texts = map(escape, (format_measured(row), format_data(row)))
            first, reported = (f"– {name}", "") if name else (row["id"], format_reported(row))
            table.add_row(escape(first), label, format_setting(row), escape(reported), *texts)
    return table


def _lines(rows: Iterable[Row]) -> Iterable[tuple[Row, str]]:
    """Give each row, then those of its data sets with the name of each."""
    for row in rows:
        yield row, ""
        yield from ((each, each["cohort"]) for each in row["datasets"])


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


def by_source(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    """Group rows by source, sources in the order they first appear, findings of this book last."""
    order = list(dict.fromkeys(row["source"] for row in rows))
    ordered = sorted(rows, key=lambda row: (row["finding"], order.index(row["source"])))
    return ((source, list(group)) for source, group in groupby(ordered, lambda r: r["source"]))
