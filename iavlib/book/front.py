"""The first page: a figure, five questions with their answers, all claims; or one's own data.

Sentences and their words are computed from the ledger by the template ``answers.html``, so that
they are true of any results, and of none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from iavlib.book import claims
from iavlib.book.display import Figure, figure
from iavlib.book.evidence import NOT_RUN
from iavlib.core.files import load_template
from iavlib.core.project import Project

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


def answers(rows: Sequence[Row], pages: Collection[str] = ()) -> str:
    """Answer the five questions of the first page.

    Parameters
    ----------
    rows : sequence of dict
        The ledger.
    pages : collection of str
        Pages of the book; only these are linked.

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
    return raw(render.render(by_id=by_id, needs=needs, **found))


def _measured(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows if row["evidence"] != NOT_RUN}


def _words(pages: Collection[str]) -> dict[str, Any]:
    """Give the templates the functions that turn a row into words."""

    def zero(row: Row) -> str:
        if row["interval"] is None:
            return "there is no interval"
        low, high = row["interval"]
        return "the interval excludes zero" if low > 0 or high < 0 else "the interval includes zero"

    def size(row: Row) -> str:
        counts = {"n": row["n"], "patients": row["patients"], "seeds": row["seeds"]}
        return ", ".join(f"{name}\u00a0=\u00a0{count:,}" for name, count in counts.items() if count)

    def interval(row: Row) -> str:
        if row["interval"] is None:
            return "no interval"
        low, high = (claims.format_value(end, row["unit"], sign=False) for end in row["interval"])
        return f"difference between {low} and {high} with 95 % confidence; {zero(row)}"

    def link(row: Row, to: str = "../") -> str:
        page = f"notebooks/{row['notebook']}"
        return f"{to}{page}.html" if page in pages else ""

    functions = (claims.format_measured, claims.format_reported, claims.format_data)
    return {
        **{
            "zero": zero,
            "size": size,
            "interval": interval,
            "link": link,
            "setting": claims.format_setting,
        },
        **{name.__name__.removeprefix("format_"): name for name in functions},
        "amount": lambda row: claims.format_value(abs(row["measured"]), row["unit"]),
        "share": lambda value: claims.format_value(value, "reduction"),
        "slug": lambda text: text.replace(" ", "-"),
    }


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
        by = last[0] + (" et al." if len(last) > 2 else f" and {last[1]}" if last[1:] else "")
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
    measured = _measured(rows)
    figures = [_two_outlines()]
    panels = {
        "lesions": ("malignancy-clustered", "malignancy-tool-adjusted"),
        "gains": ("mtl-gain", "cm-over-vote", "avap-average-over-mh", "diff-fusion-auc"),
    }
    for draw, ids in zip((_lesions, _gains), panels.values(), strict=True):
        found = {name: measured[name] for name in ids if name in measured}
        if found:
            figures.append(draw(found))
    inner = "\n".join(panel._repr_html_() for panel in figures)
    return raw(f'<div class="iav-story">\n{inner}\n</div>')


def _two_outlines() -> Figure:
    """Draw two pairs of outlines and their Dice."""
    import matplotlib.pyplot as plt
    import numpy as np

    from iavlib.masks import dice
    from iavlib.plots.style import COLOURS, hide_ticks

    y, x = np.mgrid[-1:1:200j, -1:1:200j]

    def lesion(dx: float, dy: float, size: float) -> np.ndarray:
        angle = np.arctan2(y - dy, x - dx)
        edge = size * (1 + 0.09 * np.cos(3 * angle + 1) + 0.05 * np.cos(5 * angle))
        return np.hypot(x - dx, 1.15 * (y - dy)) < edge

    drawing, axes = plt.subplots(1, 2, figsize=(4.6, 2.6))
    first = lesion(0, 0, 0.72)
    for ax, second in zip(axes, (lesion(0.04, -0.03, 0.68), lesion(0.34, 0.2, 0.5)), strict=True):
        for mask, name in ((first, "benign"), (second, "malignant")):
            ax.contourf(x, y, mask, [0.5, 1.5], colors=[COLOURS[name]], alpha=0.2)
            ax.contour(x, y, mask, [0.5], colors=[COLOURS[name]], linewidths=2)
        ax.set(title=f"Dice {dice(first, second):.2f}", aspect="equal")
        ax.spines[:].set_visible(False)
    hide_ticks(axes)
    return figure(
        drawing,
        "Agreement of two outlines of one lesion, measured as Dice: twice the shared area divided "
        "by the sum of both areas (a drawing, not data).",
        "Two drawings of two overlapping outlines; the better they overlap, the larger the Dice.",
    )


def _lesions(rows: Mapping[str, Row]) -> Figure:
    names = {
        "malignancy-clustered": "malignant lesions",
        "malignancy-tool-adjusted": "same tools and\nskills",
    }
    return _effects(
        {names[key]: row for key, row in rows.items()},
        "Difference in mean Dice from benign lesions",
        "How much the agreement on malignant lesions differs from that on benign ones, with 95 % "
        "intervals: for all images, and when the annotators' tools and skills are held equal.",
    )


def _gains(rows: Mapping[str, Row]) -> Figure:
    names = {
        "mtl-gain": "agreement learnt\nbeside the diagnosis",
        "cm-over-vote": "CM over the vote",
        "avap-average-over-mh": "AVAP over one head\nper annotator",
        "diff-fusion-auc": "DiFF over the vote",
    }
    single = {
        f"{names[key]}\n({each['cohort']})" if row["datasets"] else names[key]: each
        for key, row in rows.items()
        for each in row["datasets"] or [row]
    }
    return _effects(
        single,
        "Gain (points)",
        "Gains in points with 95 % intervals: balanced accuracy of the diagnosis, Dice (CM, AVAP) "
        "and AUROC (DiFF). A diamond is the gain that the source prints, where it prints one.",
        claimed=True,
    )


def _effects(rows: Mapping[str, Row], label: str, caption: str, claimed: bool = False) -> Figure:
    """Draw one effect per row with its interval."""
    import matplotlib.pyplot as plt

    from iavlib.plots.style import COLOURS

    drawing, ax = plt.subplots(figsize=(4.6, 0.8 + 0.5 * len(rows)))
    ax.axvline(0, color="black", lw=0.8)
    for place, row in enumerate(rows.values()):
        low, high = row["interval"] or (row["measured"],) * 2
        ax.plot([low, high], [place, place], color=COLOURS["neutral"], lw=2)
        ax.plot(row["measured"], place, "o", color=COLOURS["neutral"])
        reported = row["computed"] if row["reported"] is None else row["reported"]
        if claimed and reported is not None:
            ax.plot(reported, place, "D", mfc="none", color=COLOURS["malignant"])
    ax.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), list(rows), fontsize=9)
    ax.grid(axis="y", visible=False)
    texts = [f"{name}: {claims.format_measured(row)}" for name, row in rows.items()]
    return figure(drawing, caption, " ".join(f"{label}. {'; '.join(texts)}".split()))


def citation(project: Project) -> str:
    """Write how to cite the book and the paper, from ``CITATION.cff``; empty without one."""
    path = project.root / "CITATION.cff"
    if not path.is_file():
        return ""
    about = yaml.safe_load(path.read_text(encoding="utf-8"))
    return raw(load_template("iavlib.book", "citation.html").render(about=about))


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
