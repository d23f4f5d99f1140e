"""Everything about the agreement in a user's folder of masks, written into one output folder.

Our tables under the column names in which IMA++ publishes its own.

The page that sums up an analysis of agreement: one HTML file that needs no other.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from iavlib.agreement.against_others import annotator_measures
from iavlib.agreement.annotator_bias import annotator_summary
from iavlib.agreement.consensus_files import write_consensus
from iavlib.agreement.mask_quality import check_masks
from iavlib.agreement.tables import PROBLEM_COLUMNS, image_level, pair_table
from iavlib.core.errors import DataError
from iavlib.core.files import write_json, write_text
from iavlib.data.cohort import Cohort
from iavlib.data.datasets.folder import Listing, read_listing
from iavlib.data.datasets.imapp import PUBLISHED_METRIC
from iavlib.data.images import image_size
from iavlib.data.schemas import pair_columns
from iavlib.masks.metrics import PairOptions

_PAIR = {
    "image_id": "img_id",
    "mask_1": "mask1",
    "mask_2": "mask2",
    "annotator_1": "annotator1",
    "annotator_2": "annotator2",
    **PUBLISHED_METRIC,
    "tool_1": "tool1",
    "skill_1": "skill_level1",
    "tool_2": "tool2",
    "skill_2": "skill_level2",
}


def published_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Rename a pairs table's columns to those of IMA++, in their order; ours come last."""
    ours = [column for column in pairs if column not in _PAIR]
    return pairs[[*_PAIR, *ours]].rename(columns=_PAIR)


def published_images(images: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns of :func:`iavlib.agreement.tables` to those of IMA++."""
    names = {
        f"{metric}_{statistic}": f"{theirs}_{statistic}"
        for metric, theirs in PUBLISHED_METRIC.items()
        for statistic in ("mean", "std")
    }
    return images.rename(columns=names).rename_axis("img_id")


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:.85rem;display:block;overflow-x:auto}
th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:left}
img{max-width:100%}.warn{border-left:.4rem solid #d55e00;padding:.2rem .8rem;background:#fff4ec}
"""
_SUMMARY = ("dice_score", "jaccard_score", "hd95_score_normalized", "assd_score_normalized")


def write_report(result, table: Path) -> Path:
    """Write ``report.html`` into the output folder.

    Parameters
    ----------
    result : iavlib.agreement.analysis.Analysis
    table : pathlib.Path
        The user's table, named in the heading.

    Returns
    -------
    pathlib.Path
        The page. It opens from the disk and loads nothing from elsewhere.
    """
    annotators = pd.unique(result.pairs[["annotator1", "annotator2"]].to_numpy().ravel())
    counts = f"{len(result.images):,} images, {len(result.pairs):,} pairs of masks"
    subsets = [
        f"<h1>Agreement of masks</h1><p>{html.escape(str(table))}: {counts}, "
        f"{len(annotators)} annotators.</p>",
        _problems(result.problems),
        "<h2>Agreement of pairs</h2>",
        _histogram(result.pairs["dice_score"]),
        _table(result.pairs[list(_SUMMARY)].describe().T.drop(columns="count")),
        "<h2>Where annotators agree least</h2>",
        _table(_lowest(result.images)),
        "<h2>Annotators</h2><p>Mean Dice with the majority vote of the image's other annotators, "
        "with 95 % intervals. Annotators drew different images, so this describes the images as "
        "well as the annotators.</p>",
        _table(_annotators(result.annotators)),
        "<h2>Quality</h2>",
        _table(_findings(result.findings)),
        "<h2>Consensus masks</h2>",
        _table(_consensus(result.consensus)),
        "<p>Everything is in the CSV files beside this page; columns are those of IMA++.</p>",
    ]
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Agreement of masks'
        f'</title><meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(subsets)}</body></html>\n"
    )
    path = result.out / "report.html"
    write_text(path, page)
    return path


def _problems(problems: pd.DataFrame) -> str:
    if problems.empty:
        return "<p>Every mask could be used.</p>"
    left_out = int(problems["left_out"].sum())
    columns = ["image_id", "mask_id", "problem", "hint"]
    return (
        f'<div class="warn"><h2>Problems</h2><p>{left_out} masks were left out, '
        f"{len(problems) - left_out} were used and deserve a look.</p>"
        f"{_table(problems[columns].head(50))}</div>"
    )


def _lowest(images: pd.DataFrame) -> pd.DataFrame:
    lowest = images.sort_values("dice_score_mean").head(10)
    return lowest[["dice_score_mean", "hd95_score_normalized_mean", "n_pairs"]].reset_index()


def _annotators(summary: pd.DataFrame) -> pd.DataFrame:
    dice = summary[summary["quantity"] == "dice"].sort_values("value", ascending=False)
    return dice[["annotator", "value", "low", "high", "n_masks"]]


def _findings(findings: pd.DataFrame) -> pd.DataFrame:
    counts = findings.groupby(["issue", "severity"]).size()
    return counts.rename("findings").reset_index()


def _consensus(consensus: pd.DataFrame) -> pd.DataFrame:
    method = consensus["annotator"]
    warned = consensus["warnings"].fillna("").ne("")
    counts = pd.DataFrame(
        {"masks": method.value_counts(), "with warnings": method[warned].value_counts()}
    )
    return counts.fillna(0).astype(int).rename_axis("method").reset_index()


def _table(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "<p>None.</p>"
    return frame.to_html(
        index=frame.index.dtype == "str", float_format="{:.3f}".format, border=0, na_rep=""
    )


def _histogram(values: pd.Series) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.4), layout="constrained")
    ax = figure.subplots()
    ax.hist(values, bins=30, range=(0, 1), color="#44546A")
    ax.set(xlabel="Dice of a pair", ylabel="pairs")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = f"Histogram of Dice over {len(values)} pairs, median {values.median():.3f}"
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


SUMMARY = "agreement.json"
_OUTSIDE = "path outside the folder"
_MOVE = "name files relative to the table and below it, or by their absolute path"


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyse` found; every table is also a CSV file of its output folder.

    Attributes
    ----------
    out : pathlib.Path
    pairs : pandas.DataFrame
        One row a pair of masks, columns as IMA++ names them, then kappa, NSD and boundary F1.
    images : pandas.DataFrame
        One row an image with at least two usable masks: mean and standard deviation.
    findings : pandas.DataFrame
        Quality of masks and annotators.
    consensus : pandas.DataFrame
        One row a consensus mask, with STAPLE's performances and warnings.
    annotators : pandas.DataFrame
        One row an annotator and quantity, with intervals.
    problems : pandas.DataFrame
        Masks that could not be used, each with file and mend.
    n_reused : int
        Images whose pairs an earlier run had computed.
    """

    out: Path
    pairs: pd.DataFrame
    images: pd.DataFrame
    findings: pd.DataFrame
    consensus: pd.DataFrame
    annotators: pd.DataFrame
    problems: pd.DataFrame
    n_reused: int


def analyse(
    table: str | Path,
    out: str | Path,
    processes: int | None = None,
    tolerance: float = 2.0,
    spacing: float = 1.0,
    methods: tuple[str, ...] = ("MV", "ST"),
    progress: bool | Callable[[int, int], None] = False,
) -> Analysis:
    """Compare, merge and check the masks of a table, and write everything into a folder.

    Parameters
    ----------
    table : str or pathlib.Path
        ``masks.csv`` or its folder; see :mod:`iavlib.data.datasets.folder`.
    out : str or pathlib.Path
        Output folder: new, empty, or of an earlier run, which is then continued.
    processes : int, optional
        One a core unless given.
    tolerance, spacing : float
        Of the boundary metrics; see :class:`iavlib.masks.PairOptions`.
    methods : tuple of str
        Consensus masks to write; see :func:`iavlib.agreement.consensus_files.write_consensus`.
    progress : bool or callable
        See :func:`iavlib.agreement.tables.pair_table`.

    Returns
    -------
    Analysis

    Raises
    ------
    DatasetUnavailable, DataError
        If there is no such table, it contradicts itself, no pair of masks can be compared, or the
        output folder holds something else. A single bad mask is a row of ``problems``.
    """
    listing = read_listing(table, refuse_outside=False)
    out = _output_folder(Path(out))
    masks = _masks(listing)
    located = masks[masks["path"].notna()]
    options = PairOptions(extra=True, tolerance=tolerance, spacing=spacing)
    measured = pair_table(located, processes=processes, progress=progress, out=out, options=options)
    problems = _list_problems(masks, measured.problems)
    if measured.pairs.empty:
        told = "; ".join(problems["problem"].head(3)) or "no image has two masks"
        raise DataError(listing.path, f"no pair of masks can be compared ({told})", "add masks")
    left_out = set(problems.loc[problems["left_out"], "mask_id"])
    usable = located[~located.index.isin(left_out)]
    cohort = _cohort(listing, usable, measured.pairs)
    everything = _cohort(listing, located, measured.pairs)
    measures = annotator_measures(cohort, processes)
    result = Analysis(
        out=out,
        pairs=published_pairs(measured.pairs),
        images=published_images(image_level(measured.pairs)),
        findings=check_masks(everything, processes),
        consensus=write_consensus(cohort, out / "consensus", methods, processes=processes),
        annotators=annotator_summary(measures, cohort.clusters()),
        problems=problems,
        n_reused=measured.n_reused,
    )
    _write(result, listing)
    return result


def _output_folder(out: Path) -> Path:
    """Make the output folder; what somebody else put into it is not touched."""
    ours = ("pairs.jsonl", SUMMARY)
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in ours):
        raise DataError(out, "the folder holds other files", "choose a new or an empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            out, f"cannot be made ({error.strerror})", "choose another folder"
        ) from None
    return out


def _masks(listing: Listing) -> pd.DataFrame:
    rows = listing.rows.rename(columns={"mask": "mask_id", "mask_path": "path"})
    columns = ["image_id", "path", "annotator", "tool", "skill"]
    return rows.set_index("mask_id")[columns].astype({"path": "str"})


def _list_problems(masks: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Add the rows whose file was not even looked at."""
    outside = masks[masks["path"].isna()].reset_index()
    refused = pd.DataFrame(
        {
            "image_id": outside["image_id"],
            "mask_id": outside["mask_id"],
            "path": outside["mask_id"],
            "problem": _OUTSIDE,
            "hint": _MOVE,
            "left_out": True,
        }
    )
    return pd.concat([refused, found], ignore_index=True)[list(PROBLEM_COLUMNS)]


def _cohort(listing: Listing, masks: pd.DataFrame, pairs: pd.DataFrame) -> Cohort:
    """Make a cohort of the masks that can be used."""
    rows = listing.rows[listing.rows["image_id"].isin(masks["image_id"])]
    rows = rows.assign(malignancy=rows["malignancy"].replace("unknown", None))
    first = rows.groupby("image_id", sort=False).first()
    sizes = _sizes(masks).reindex(first.index)
    text = dict.fromkeys(("diagnosis", "licence", "sex", "site"), pd.NA)
    images = pd.DataFrame(
        {
            "path": first["image_path"],
            "malignancy": first["malignancy"].fillna("unknown"),
            "patient_id": first["patient"],
            "lesion_id": first["lesion"],
            "geometry": "original",
            "age": float("nan"),
            **text,
        }
    ).join(sizes)
    return Cohort("folder", images, masks, pairs[list(pair_columns())], synthetic=False)


def _sizes(masks: pd.DataFrame) -> pd.DataFrame:
    """Take an image's size from most of its masks; a broken file has none."""
    found: dict[str, list[tuple[int, int]]] = {}
    for image_id, path in zip(masks["image_id"], masks["path"], strict=True):
        try:
            found.setdefault(image_id, []).append(image_size(path))
        except DataError:  # told by pair_table and check_masks, which open the file too
            found.setdefault(image_id, [])
    rows = {i: max(sizes or [(1, 1)], key=sizes.count) for i, sizes in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["width", "height"])


def _write(result: Analysis, listing: Listing) -> None:
    tables = {
        "pairs": result.pairs,
        "images": result.images.reset_index(),
        "findings": result.findings,
        "consensus": result.consensus.reset_index(),
        "annotators": result.annotators,
        "problems": result.problems,
    }
    for name, frame in tables.items():
        write_text(result.out / f"{name}.csv", frame.to_csv(index=False))
    write_report(result, listing.path)
    summary = {name: len(frame) for name, frame in tables.items()} | {"table": str(listing.path)}
    write_json(result.out / SUMMARY, summary)
