"""The first page: a figure, five questions with their answers, all claims; or one's own data.

Sentences and their words are computed from the ledger by the template ``answers.html``, so that
they are true of any results, and of none.
"""

import importlib.resources
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from iavlib.book import claims
from iavlib.book.display import Figure, figure
from iavlib.book.evidence import NOT_RUN
from iavlib.core.errors import BookError
from iavlib.core.files import load_template
from iavlib.core.project import Project
from iavlib.core.settings import read_yaml

Row = Mapping[str, Any]
#: Name of the cohort that is read from a user's own files.
_OWN = "folder"


def raw(html: str) -> str:
    """Put HTML into a page of Markdown; blank lines would end it."""
    lines = [line for line in html.splitlines() if line.strip()]
    return "\n".join(["```{raw} html", *lines, "```"])


def is_own(manifest: Row) -> bool:
    """Return whether a notebook was run on a user's own data."""
    return any(cohort["name"] == _OWN for cohort in manifest["cohorts"])


def answers(rows: Sequence[Row], pages: Collection[str] = (), ceiling: Sequence[float] = ()) -> str:
    """Answer the five questions of the first page.

    Parameters
    ----------
    rows : sequence of dict
        The ledger.
    pages : collection of str
        Pages of the book; only these are linked.
    ceiling : sequence of float, optional
        Estimates of the largest possible correlation of a prediction, as notebook 03 keeps them.

    Returns
    -------
    str
        Markdown: one card per question with its sentence, evidence, sample and link. A question
        whose claim was not measured states what it needs.
    """
    by_id = defaultdict(lambda: None, _measured(rows))
    needs = {row["id"]: row["needs"] for row in rows}
    render = load_template("iavlib.book", "answers.html", **_words(pages))
    found = {"rows": lambda ids: [by_id[name] for name in ids if by_id[name]]}
    return raw(render.render(by_id=by_id, needs=needs, ceiling=ceiling, **found))


def ceilings(runs: Sequence[Row]) -> list[float]:
    """Return the estimates of the largest possible correlation that the first of the runs kept."""
    for table in (table for run in runs for table in run.get("tables", ())):
        if table["name"] == "ceiling" and not table["synthetic"]:
            kept = zip(table["columns"]["values"], table["columns"]["ceiling"], strict=True)
            return [value for of, value in kept if of == "as they are" and value is not None]
    return []


def _measured(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows if row["evidence"] != NOT_RUN}


def _words(pages: Collection[str]) -> dict[str, Any]:
    """Give the templates the functions that turn numbers into words, and the pages to link."""
    names = ("measured", "reported", "data", "setting")
    words = {name: getattr(claims, f"format_{name}") for name in names}
    return words | {"pages": pages, "number": claims.format_value}


def claims_table(project: Project, rows: Sequence[Row], pages: Collection[str] = ()) -> str:
    """Show claims grouped by source, folded where all are shown with links to their `pages`.

    Returns
    -------
    str
        Markdown; empty without rows.
    """
    if not rows:
        return ""
    about, sources = _sources(project), []
    for source, group in claims.by_source(rows):
        counts = Counter(row["verdict"] for row in group).items()
        summary = ", ".join(f"{count} {word}" for word, count in counts)
        titled = about.get(source, {"title": source[:1].upper() + source[1:]})
        sources.append({"address": "", "by": "", **titled, "rows": group, "summary": summary})
    verdicts = sorted({row["verdict"] for row in rows})
    template = load_template("iavlib.book", "claims.html", **_words(pages))
    return raw(template.render(sources=sources, verdicts=verdicts, fold=bool(pages)))


def _sources(project: Project) -> dict[str, dict[str, str]]:
    """Read title, authors and address of the sources from the references."""
    from pybtex.database import parse_file

    if not project.references.is_file():
        return {}
    about = {}
    for key, entry in parse_file(str(project.references)).entries.items():
        fields, people = entry.fields, entry.persons.get("author", [])
        last = [re.sub(r"[{}]", "", " ".join(person.last_names)) for person in people]
        by = f"{last[0]} et al." if len(last) > 2 else " and ".join(last)
        places = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
        found = [start + fields[name] for name, start in places.items() if name in fields]
        title = re.sub(r"[{}]|\s+(?=\s)", "", fields.get("title", key)).replace("\n", " ")
        about[key] = {"title": title, "by": f"{by} {fields.get('year', '')}".strip()}
        about[key]["address"] = next(iter(found), "")
    return about


def story(rows: Sequence[Row]) -> str:
    """Draw what the book is about and what it found: three panels from the ledger.

    Returns
    -------
    str
        Markdown with the figures; a panel whose claims were not measured is left out.
    """
    measured, figures = _measured(rows), []
    panels = importlib.resources.files(__package__).joinpath("templates", "story.yml")
    for panel in read_yaml(panels.read_text(encoding="utf-8")):
        drawn = {}
        for row, name in ((measured.get(claim), name) for claim, name in panel["rows"].items()):
            several = row["datasets"] if row else []  # each of them is drawn
            drawn |= {f"{name}, {one['cohort'].replace('_', ' ')}": one for one in several}
            drawn |= {name: row} if row and not several else {}
        if drawn:
            figures.append(_effects(drawn, panel["label"], panel["caption"], panel.get("best")))
    shown = [drawing._repr_html_() for drawing in figures]
    return raw(load_template("iavlib.book", "story.html").render(panels=shown))


def _effects(rows: Mapping[str, Row], label: str, caption: str, best: float | None) -> Figure:
    """Draw one effect per row with its interval, and the effect that its source reports."""
    import matplotlib.pyplot as plt
    import numpy as np

    from iavlib.plots.style import COLOURS

    drawing, ax = plt.subplots(figsize=(4.6, 0.9 + 0.42 * len(rows)))
    places, each = np.arange(len(rows)), rows.values()
    ends = np.array([row["interval"] or (np.nan, np.nan) for row in each])
    claimed = [row["reported"] if row["computed"] is None else row["computed"] for row in each]
    ax.axvline(0, color="black", lw=0.8)
    ax.hlines(places, *ends.T, color=COLOURS["neutral"], lw=2)
    ax.plot([row["measured"] for row in each], places, "o", color=COLOURS["neutral"])
    ax.plot(np.array(claimed, float), places, "D", mfc="none", color=COLOURS["malignant"])
    ax.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(places, [textwrap.fill(name, 22) for name in rows], fontsize=9)
    ax.grid(axis="y", visible=False)
    ax.set_xlim(right=best)
    texts = [f"{name}: {claims.format_measured(row)}" for name, row in rows.items()]
    return figure(drawing, caption, f"{label}. {'; '.join(texts)}")


def citation(project: Project) -> str:
    """Write how to cite the book and the paper, from ``CITATION.cff``; empty without one."""
    about = read_citation(project.root)
    return raw(load_template("iavlib.book", "citation.html").render(about=about)) if about else ""


def read_citation(folder: Path) -> dict[str, Any]:
    """Read ``CITATION.cff``; empty without one.

    Raises
    ------
    BookError
        If it is not YAML.
    """
    path = folder / "CITATION.cff"
    try:
        return dict(read_yaml(path) or {}) if path.is_file() else {}
    except (TypeError, ValueError) as error:
        raise BookError(f"{path}: {error}; restore it from git") from error


def own_page(pages: Mapping[str, tuple[str, Row, Mapping[str, Any]]]) -> str:
    """Write the first page of a book on a user's own data: what there is, what was found.

    Parameters
    ----------
    pages : mapping of str to (str, dict, dict)
        Page to its title, the manifest of its run and the executed notebook.

    Returns
    -------
    str
        Markdown: counts, then the summary and the first figure of each page. No claim of other
        data appears.
    """
    cohorts = [c for _, run, _ in pages.values() for c in run["cohorts"] if c["name"] == _OWN]
    most = max(cohorts, key=lambda cohort: cohort["n_masks"])
    text = [
        "# Your masks",
        f"{most['n_images']:,} images with {most['n_masks']:,} annotators' masks, read from your "
        "own files. Everything on this page was computed from them.",
    ]
    for page, (title, _, notebook) in pages.items():
        outputs = [o.get("data", {}) for c in notebook["cells"] for o in c.get("outputs", [])]
        text.append(f"## [{title}](../{page}.ipynb)")
        summaries = ["".join(data.get("text/markdown", "")) for data in outputs]
        # its links count from the folder of the notebooks
        text += [
            re.sub(r"\]\((?!\w+:|#|\.\.)", "](../notebooks/", summary)
            for summary in summaries
            if "iav-in-short" in summary
        ][:1]
        shown = ["".join(data.get("text/html", "")) for data in outputs]
        text += [raw(html) for html in shown if 'class="iav-figure"' in html][:1]
    return "\n\n".join(text) + "\n"
