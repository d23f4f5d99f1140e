"""The page that sums up an analysis of agreement: one HTML file that needs no other."""

import base64
import html
import io
from pathlib import Path

import pandas as pd

from iavlib.files import write_text

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
    parts = [
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
        f"<body>{''.join(parts)}</body></html>\n"
    )
    path = result.out / "report.html"
    write_text(path, page)
    return path


def _problems(problems: pd.DataFrame) -> str:
    if problems.empty:
        return "<p>Every mask could be used.</p>"
    left_out = int(problems["left_out"].sum())
    columns = ["image_id", "mask_id", "problem", "mend"]
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
