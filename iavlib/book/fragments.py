"""Pieces of Markdown made from results, which pages include.

They lie in ``book/generated/`` of the assembled source (never in the
repository); a page shows one by ``{include} generated/scorecard.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from iavlib.book.chapter import escape, minute
from iavlib.claims.ledger import describe_profile
from iavlib.claims.report import count_verdicts, markdown_table
from iavlib.execution.pages import SYNTHETIC_CLASS
from iavlib.execution.project import Project

FOLDER = "book/generated"

_SYNTHETIC_NOTICE = (
    f":::{{{{admonition}}}} Synthetic data\n:class: warning {SYNTHETIC_CLASS}\n"
    "{n} of the values below were measured on invented images, as the real ones were not at hand. "
    "They show that the analysis works and earn no verdict.\n:::\n\n"
)


def claims_table(project: Project, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write claims as tables, one a source.

    Parameters
    ----------
    project : Project
        The project; sources that are in its references become citations.
    rows : sequence of dict
        The ledger, or part of it.

    Returns
    -------
    str
        Markdown; empty without rows.
    """
    titles = _reference_titles(project)

    def title(source: str) -> str:
        if source not in titles:
            return escape(source[:1].upper() + source[1:])
        return f"{escape(titles[source])}, {{cite:t}}`{source}`"

    return markdown_table(rows, title) if rows else ""


def scorecard(project: Project, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the ledger for the first page: how many claims hold, then all of them."""
    invented = sum(row["synthetic"] for row in rows)
    notice = _SYNTHETIC_NOTICE.format(n=invented) if invented else ""
    return f"{notice}{count_verdicts(rows)}\n\n{claims_table(project, rows)}"


def provenance_table(
    entries: Sequence[tuple[str, str, Mapping[str, Any] | None]],
) -> str:
    """Write the table of all notebooks with data, run time and date, and the versions used.

    Parameters
    ----------
    entries : sequence of (str, str, dict or None)
        Page, what became of its last run, and the manifest of its last good run.

    Returns
    -------
    str
        Two tables.
    """
    lines = [
        "| Notebook | Last run | Profile | Data | Seconds | Finished (UTC) |",
        "| :-- | :-- | :-- | :-- | --: | :-- |",
    ]
    for page, status, manifest in entries:
        cells = [f"{{doc}}`/{page}`", status, *_run_cells(manifest)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + _version_table([m for _, _, m in entries if m])


def _run_cells(manifest: Mapping[str, Any] | None) -> list[str]:
    if manifest is None:
        return ["–"] * 4
    data = ", ".join(
        escape(c["name"]) + (" (synthetic)" if c["synthetic"] else "") for c in manifest["cohorts"]
    )
    return [
        escape(describe_profile(manifest)),
        data or "–",
        f"{manifest['seconds']:.0f}",
        minute(manifest["finished"]),
    ]


def _version_table(manifests: Sequence[Mapping[str, Any]]) -> str:
    """List every package once, with all versions that took part."""
    used: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, version in manifest["versions"].items():
            used.setdefault(name, set()).add(version)
    lines = ["| Package | Version |", "| :-- | :-- |"]
    lines += [f"| {escape(name)} | {', '.join(sorted(vs))} |" for name, vs in used.items()]
    return "\n".join(lines) + "\n" if used else ""


def _reference_titles(project: Project) -> dict[str, str]:
    """Title of each entry of the references; braces that protect capitals are dropped."""
    if not project.references.is_file():
        return {}
    from pybtex.database import parse_file

    entries = parse_file(str(project.references)).entries
    return {
        key: re.sub(r"[{}]|\s+(?=\s)", "", entry.fields.get("title", key)).replace("\n", " ")
        for key, entry in entries.items()
    }
