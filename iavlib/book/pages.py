"""What a build adds to the pages of notebooks: notices, the provenance and tables of claims.

Nothing that a run computed is changed.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from iavlib.book import front, notebook_source as source
from iavlib.book.claims import count_verdicts, describe_profile, table_lines
from iavlib.book.display import SYNTHETIC_CLASS, Banner
from iavlib.core.project import Project
from iavlib.core.versions import describe_hardware

Notebook = dict[str, Any]


def finished_page(notebook: Notebook, manifest: Mapping[str, Any], claims: str = "") -> Notebook:
    """Make the page of a notebook whose run succeeded.

    Parameters
    ----------
    notebook : dict
        The executed notebook.
    manifest : dict
        Its manifest.
    claims : str, optional
        Markdown table of the claims this notebook recorded.

    Returns
    -------
    dict
        The notebook with injected parameters folded, without the manifest cell, with claims and
        provenance at the end and, if it used synthetic data, the banner at the top.
    """
    cells = [_folded(cell) for cell in notebook["cells"]]
    if (
        cells
        and "finish(cohorts=" in source.cell_source(cells[-1])
        and not cells[-1].get("outputs")
    ):
        cells = cells[:-1]
    if any(c["synthetic"] for c in manifest["cohorts"]):
        cells = _below_title(map(_without_banner, cells), _synthetic_notice(manifest, cells))
    if claims:
        cells.append(_markdown(f"## Claims on this page\n\n{claims}"))
    cells.append(_markdown(provenance(manifest)))
    return {**notebook, "cells": cells}


def failed_page(notebook: Notebook, failure: Mapping[str, Any], earlier: str | None) -> Notebook:
    """Make the page of a notebook whose last run failed.

    Parameters
    ----------
    notebook : dict
        The partly executed notebook.
    failure : dict
        What ``.failed.json`` holds.
    earlier : str or None
        When it last succeeded, if it did.

    Returns
    -------
    dict
        The notebook up to the cell that failed, with a notice at the top.
    """
    cells = [c for c in notebook["cells"] if source.ERROR_MARK_TAG not in source.cell_tags(c)]
    own = source.own_code_cells({"cells": cells})
    number = failure["cell"]
    if number is not None and number <= len(own):
        end = next(i for i, cell in enumerate(cells) if cell is own[number - 1])
        cells = cells[: end + 1]
    notice = _failure_notice(failure, len(own) - (number or 0), earlier)
    return {**notebook, "cells": _below_title(map(_folded, cells), notice)}


def missing_page(
    title: str, stem: str, more: str = "", failure: Mapping[str, Any] | None = None
) -> Notebook:
    """Make the page of a notebook that has no results.

    Parameters
    ----------
    title : str
        Heading of the page.
    stem : str
        Name of the notebook without ending.
    more : str, optional
        Markdown below the notice.
    failure : dict, optional
        What ``.failed.json`` holds, if it was run.

    Returns
    -------
    dict
        A notebook of text: the reason, and how to run it.
    """
    if failure is not None:
        notice = _failure_notice(failure, 0, None)
    else:
        text = (
            "This notebook has not been run here, so there is nothing to show. Run it with "
            f"`iav run {stem}`, then build the book again with `iav book`."
        )
        notice = _admonition("Not run", "warning", text)
    cells = [_markdown(f"# {title}\n\n{notice}\n\n{more}")]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def _admonition(title: str, kind: str, text: str) -> str:
    return f":::{{admonition}} {title}\n:class: {kind}\n{text}\n:::"


def provenance(manifest: Mapping[str, Any]) -> str:
    """Describe in Markdown how the numbers of a page were made."""
    data = "; ".join(_describe_cohort(cohort) for cohort in manifest["cohorts"]) or "none"
    changed = ", ".join(_code(f"{k} = {v!r}") for k, v in manifest["parameters"].items()) or "none"
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    lines = [
        f"Data: {data}",
        f"Scale: profile {escape(describe_profile(manifest))}",
        f"Parameters: {changed}",
        f"Run: {manifest['seconds']:.0f} s, finished {minute(manifest['finished'])} UTC, on "
        f"{escape(describe_hardware(manifest['hardware']))}",
        f"Versions: {escape(versions)}",
    ]
    items = "\n".join(f"- {line}" for line in lines)
    return _admonition("How this page was made", "tip dropdown", items)


def escape(text: str) -> str:
    """Escape the characters that Markdown would interpret."""
    return re.sub(r"([\\`*_{}\[\]<>$|#~])", r"\\\1", text)


def minute(time: str) -> str:
    """Shorten an ISO time to the minute."""
    return time[:16].replace("T", " ")


def _describe_cohort(cohort: Mapping[str, Any]) -> str:
    kind = "synthetic, " if cohort["synthetic"] else ""
    size = f"{cohort['n_images']:,} images, {cohort['n_masks']:,} masks"
    end = f". {escape(cohort['citation'])}" if cohort["citation"] and not kind else ""
    return f"{escape(cohort['name'])} ({kind}{size}, fingerprint {cohort['fingerprint']}){end}"


def _synthetic_notice(manifest: Mapping[str, Any], cells: Iterable[dict[str, Any]]) -> str:
    """Return the notebook's own banner of synthetic data, or make one."""
    for page in (page for cell in cells for page in _html_outputs(cell)):
        if SYNTHETIC_CLASS in page:
            return page
    cohort = next(c for c in manifest["cohorts"] if c["synthetic"])
    names = [field.name for field in fields(Banner) if field.name in cohort]
    return Banner(**{name: cohort[name] for name in names})._repr_html_()


def _html_outputs(cell: dict[str, Any]) -> list[str]:
    return ["".join(o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", ())]


def _without_banner(cell: dict[str, Any]) -> dict[str, Any]:
    """Remove the banner of synthetic data from a cell's outputs."""
    if "outputs" not in cell:
        return cell
    kept = zip(cell["outputs"], _html_outputs(cell), strict=True)
    return {**cell, "outputs": [output for output, page in kept if SYNTHETIC_CLASS not in page]}


def _failure_notice(failure: Mapping[str, Any], left: int, earlier: str | None) -> str:
    place = "before its first code cell"
    if failure["cell"] is not None:
        place = f"in code cell {failure['cell']}, which begins with {_code(failure['line'])}"
    text = (
        f"The last run of this notebook ({minute(failure['finished'])} UTC, profile "
        f"{escape(failure['profile'])}) stopped {place}.\n\n{_code(failure['error'])}\n\n"
    )
    if left > 0:
        text += f"The cells before it are below; {left} further code cells were not run. "
    if earlier:
        text += f"The scorecard keeps the values of its last good run ({minute(earlier)} UTC). "
    text += f"After correcting it: `iav run {failure['notebook']}`."
    return _admonition("This notebook failed", "danger", text)


def _code(text: str) -> str:
    """Quote text as inline code, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text.strip() else "(empty)"


def _folded(cell: dict[str, Any]) -> dict[str, Any]:
    """Fold the code of papermill's injected parameters."""
    if source.INJECTED_TAG not in source.cell_tags(cell):
        return cell
    metadata = {**cell.get("metadata", {}), "tags": [*source.cell_tags(cell), "hide-input"]}
    return {**cell, "metadata": metadata}


def _below_title(given: Iterable[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Put a block of Markdown under the page's heading, or first if there is none."""
    cells = list(given)
    for position, cell in enumerate(cells):
        heading = re.search(r"^#\s.*$", source.cell_source(cell), flags=re.MULTILINE)
        if cell.get("cell_type") == "markdown" and heading:
            text_of = source.cell_source(cell)
            above, below = text_of[: heading.end()], text_of[heading.end() :]
            extended = {**cell, "source": f"{above}\n\n{text}\n{below}"}
            return [*cells[:position], extended, *cells[position + 1 :]]
    return [_markdown(text), *cells]


def _markdown(text: str) -> dict[str, Any]:
    name = hashlib.sha256(text.encode()).hexdigest()[:8]
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


#: Pages made from results, in the assembled source only; pages include them by name.
FOLDER = "book/generated"


def scorecard(
    project: Project, rows: Sequence[Mapping[str, Any]], entries: Sequence[str] = ()
) -> str:
    """Write the ledger for the first page: how many claims have which label, then all claims."""
    sections = [count_verdicts(rows), front.claims_table(project, rows, entries)]
    if invented := sum(row["synthetic"] for row in rows):
        text = (
            f"Computed on invented images only, as the real ones were not available: {invented} of "
            "the claims. That shows that the analysis works; they count as not run."
        )
        sections.append(_admonition("Synthetic data", f"note {SYNTHETIC_CLASS}", text))
    return "\n\n".join(sections)


def provenance_table(entries: Sequence[tuple[str, str, Mapping[str, Any] | None]]) -> str:
    """Write the table of all notebooks with data, run time and date, and the versions used.

    Parameters
    ----------
    entries : sequence of (str, str, dict or None)
        Page, outcome of its last run, and the manifest of its last successful run.

    Returns
    -------
    str
        Two tables.
    """
    runs = [
        (f"{{doc}}`/{page}`", status, *_run_cells(manifest)) for page, status, manifest in entries
    ]
    columns = "Notebook:-- Last_run:-- Profile:-- Data:-- Seconds--: Finished_(UTC):-- Machine:--"
    used: dict[str, set[str]] = defaultdict(set)
    for _, _, manifest in entries:
        for name, version in (manifest or {"versions": {}})["versions"].items():
            used[name].add(version)
    versions = [(escape(name), ", ".join(sorted(of))) for name, of in used.items()]
    tables = [table_lines(columns, runs)]
    tables += [table_lines("Package:-- Version:--", versions)] if used else []
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


def _run_cells(manifest: Mapping[str, Any] | None) -> list[str]:
    if manifest is None:
        return ["–"] * 5
    seconds, finished = f"{manifest['seconds']:.0f}", minute(manifest["finished"])
    data = escape(cohort_names(manifest)) or "–"
    machine = escape(describe_hardware(manifest["hardware"]))
    return [escape(describe_profile(manifest)), data, seconds, finished, machine]


def cohort_names(manifest: Mapping[str, Any]) -> str:
    """Name the data of a run; empty if it used none."""
    cohorts = manifest["cohorts"]
    return ", ".join(c["name"] + (" (synthetic)" if c["synthetic"] else "") for c in cohorts)
