"""Everything about the agreement in a user's folder of masks, written into one output folder.

Tables have the column names under which IMA++ publishes its own; ``report.html`` summarises them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from iavlib.agreement.annotator_bias import annotator_measures, annotator_summary
from iavlib.agreement.consensus_files import write_consensus
from iavlib.agreement.mask_quality import check_masks
from iavlib.agreement.tables import PROBLEM_COLUMNS, image_level, pair_table
from iavlib.core.errors import DataError
from iavlib.core.files import data_uri, load_template, write_json, write_text
from iavlib.data.cohort import Cohort
from iavlib.data.datasets.folder import (
    OUTSIDE_HINT,
    Listing,
    images_table,
    read_listing,
)
from iavlib.data.datasets.imapp import PUBLISHED_METRIC
from iavlib.data.schemas import pair_columns
from iavlib.masks.metrics import PairOptions

_PAIR = {
    **{"image_id": "img_id", "mask_1": "mask1", "mask_2": "mask2"},
    **{"annotator_1": "annotator1", "annotator_2": "annotator2"},
    **PUBLISHED_METRIC,
    **{"tool_1": "tool1", "skill_1": "skill_level1", "tool_2": "tool2", "skill_2": "skill_level2"},
}
_IMAGE = {
    f"{m}_{s}": f"{name}_{s}" for m, name in PUBLISHED_METRIC.items() for s in ("mean", "std")
}
_SUMMARY = ("dice_score", "jaccard_score", "hd95_score_normalized", "assd_score_normalized")
SUMMARY = "agreement.json"


@dataclass(frozen=True)
class Analysis:
    """Result of :func:`analyse`; every table is also a CSV file of its output folder.

    Attributes
    ----------
    out : pathlib.Path
    pairs : pandas.DataFrame
        One row per pair of masks, columns named as in IMA++, then all further metrics.
    images : pandas.DataFrame
        One row per image with at least two usable masks: mean and standard deviation.
    findings : pandas.DataFrame
        Quality of masks and annotators.
    consensus : pandas.DataFrame
        One row per consensus mask, with STAPLE's performances and warnings.
    annotators : pandas.DataFrame
        One row per annotator and quantity, with intervals.
    problems : pandas.DataFrame
        Masks that could not be used, each with file and remedy.
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
    label: str | None = None,
    threshold: float | None = None,
    per_object: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Compare, merge and check the masks of a table, and write everything into a folder.

    Parameters
    ----------
    table : str or pathlib.Path
        A table of masks, a folder, or what an annotation tool exported; see
        :mod:`iavlib.data.datasets.folder`.
    out : str or pathlib.Path
        Output folder: new, empty, or of an earlier run, which is then continued.
    processes : int, optional
        One per core unless given.
    tolerance, spacing : float
        Of the boundary metrics; see :class:`iavlib.masks.PairOptions`.
    methods : tuple of str
        Consensus masks to write; see :func:`iavlib.agreement.write_consensus`.
    progress : bool or callable
        See :func:`iavlib.agreement.pair_table`.
    label, threshold, per_object
        Which objects are compared; see :func:`iavlib.data.datasets.folder.read_listing`.
    log : callable
        Receives lines: what was understood, before anything is measured.

    Returns
    -------
    Analysis

    Raises
    ------
    DatasetUnavailable, DataError
        If there is no such table, it contradicts itself, no pair of masks can be compared, there
        are several classes and none is chosen, or the output folder holds something else. A single
        bad mask is a row of ``problems``.
    """
    listing = read_listing(table, False, label, threshold, per_object)
    out = _output_folder(Path(out))
    for line in listing.summary():
        log(line)
    if lost := listing.lost_images:
        log(f"note: {len(lost)} photographs are missing (first {lost[0]})")
    masks = listing.rows.rename(columns={"mask": "mask_id", "mask_path": "path"})
    masks = masks.set_index("mask_id")[["image_id", "path", "annotator", "tool", "skill"]]
    located = masks[listing.rows["hint"].ne(OUTSIDE_HINT).to_numpy()]
    usable = masks[listing.rows["problem"].isna().to_numpy()]
    options = PairOptions(extra=True, tolerance=tolerance, spacing=spacing)
    measured = pair_table(usable, processes=processes, progress=progress, out=out, options=options)
    problems = pd.concat([_unusable(listing), measured.problems], ignore_index=True)
    if measured.pairs.empty:
        reasons = [
            *problems["problem"].head(3),
            *listing.account["reason"].replace("", None).dropna(),
        ]
        reason = "; ".join(dict.fromkeys(reasons)) or "no image has two masks"
        hint = "give two annotators' masks of one image"
        raise DataError(listing.path, f"no pair of masks can be compared ({reason})", hint)
    left_out = set(problems.loc[problems["left_out"], "mask_id"])
    cohort = _cohort(listing, usable[~usable.index.isin(left_out)], measured.pairs)
    everything = _cohort(listing, located, measured.pairs)
    measures = annotator_measures(cohort, processes)
    further = [column for column in measured.pairs if column not in _PAIR]
    repeated = measured.pairs["annotator_1"] == measured.pairs["annotator_2"]
    images = image_level(measured.pairs[~repeated])
    if repeated.any():
        mean = measured.pairs.loc[repeated, "dice"].mean()
        log(
            f"note: {repeated.sum():,} pairs are two drawings by one annotator (mean Dice "
            f"{mean:.3f}); they are in pairs.csv, but in no mean over annotators"
        )
    result = Analysis(
        out=out,
        pairs=measured.pairs[[*_PAIR, *further]].rename(columns=_PAIR),
        images=images.rename(columns=_IMAGE).rename_axis("img_id"),
        findings=check_masks(everything, processes),
        consensus=write_consensus(cohort, out / "consensus", methods, processes=processes),
        annotators=annotator_summary(measures, cohort.clusters()),
        problems=problems,
        n_reused=measured.n_reused,
    )
    tables = {name: v for name, v in vars(result).items() if isinstance(v, pd.DataFrame)}
    for name, frame in tables.items():
        keep_index = name in ("images", "consensus")
        write_text(out / f"{name}.csv", frame.to_csv(index=keep_index))
    write_text(out / "rows.csv", listing.account.to_csv(index=False))
    write_report(result, listing.path)
    summary = {name: len(frame) for name, frame in tables.items()} | {"table": str(listing.path)}
    write_json(out / SUMMARY, summary)
    return result


def _output_folder(out: Path) -> Path:
    """Create the output folder; files of somebody else are not touched."""
    ours = ("pairs.jsonl", SUMMARY)
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in ours):
        raise DataError(out, "the folder holds other files", "choose a new or an empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be created ({error.strerror})"
        raise DataError(out, reason, "choose another folder") from None
    return out


def _unusable(listing: Listing) -> pd.DataFrame:
    """List as problems the masks that could not be read, whether or not they have a partner."""
    bad = listing.rows[listing.rows["problem"].notna()]
    columns = {"mask": "mask_id", "mask_path": "path"}
    bad = bad.rename(columns=columns).assign(left_out=True)
    return bad[list(PROBLEM_COLUMNS)].astype({"left_out": bool})


def _cohort(listing: Listing, masks: pd.DataFrame, pairs: pd.DataFrame) -> Cohort:
    """Make a cohort of some masks; an image has the size of most of them."""
    images = images_table(listing.rows[listing.rows["image_id"].isin(masks["image_id"])])
    return Cohort("folder", images, masks, pairs[list(pair_columns())], synthetic=False)


def write_report(result: Analysis, table: Path) -> Path:
    """Write ``report.html`` into the output folder.

    Parameters
    ----------
    result : Analysis
    table : pathlib.Path
        The user's table, named in the report.

    Returns
    -------
    pathlib.Path
        The page. It opens from the disk without network access.
    """
    pairs, images = result.pairs, result.images.sort_values("dice_score_mean")
    columns = ["dice_score_mean", "hd95_score_normalized_mean", "n_pairs"]
    annotators = result.annotators[result.annotators["quantity"] == "dice"]
    annotators = annotators.sort_values("value", ascending=False)
    consensus = result.consensus.assign(warned=result.consensus["warnings"].fillna("").ne(""))
    consensus = consensus.groupby("annotator")["warned"].agg(["size", "sum"])
    consensus = consensus.set_axis(["masks", "with warnings"], axis=1).rename_axis("method")
    findings = result.findings.value_counts(["issue", "severity"], sort=False).rename("findings")
    page = load_template("iavlib.agreement", "report.html").render(
        source=table,
        n_images=len(images),
        n_pairs=len(pairs),
        n_annotators=pd.unique(pairs[["annotator1", "annotator2"]].to_numpy().ravel()).size,
        problems=result.problems,
        left_out=int(result.problems["left_out"].sum()),
        median=pairs["dice_score"].median(),
        histogram=_histogram(pairs["dice_score"]),
        pairs=pairs[list(_SUMMARY)].describe().T.drop(columns="count"),
        lowest=images[columns].head(10).reset_index(),
        annotators=annotators[["annotator", "value", "low", "high", "n_masks"]],
        findings=findings.reset_index(),
        consensus=consensus.reset_index(),
        to_html=_to_html,
    )
    path = result.out / "report.html"
    write_text(path, page)
    return path


def _to_html(frame: pd.DataFrame) -> str:
    named = frame.index.dtype == "str"
    return frame.to_html(index=named, float_format="{:.3f}".format, border=0, na_rep="")


def _histogram(values: pd.Series) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.4), layout="constrained")
    ax = figure.subplots()
    ax.hist(values, bins=30, range=(0, 1), color="#44546A")
    ax.set(xlabel="Dice of a pair", ylabel="pairs")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return data_uri(buffer.getvalue(), "png")
