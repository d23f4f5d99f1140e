"""The report of ``iav agreement``: one HTML file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.agreement.annotator_bias import ONE_CLUSTER
from iavlib.core.errors import DataError
from iavlib.core.files import data_uri, load_template, write_text
from iavlib.data.cohort import Cohort
from iavlib.data.images import jpeg, outline_path, read_mask, read_photograph

if TYPE_CHECKING:
    from iavlib.agreement.analysis import Analysis
    from iavlib.data.datasets.folder import Listing

#: The longer side of a picture, in pixels; with six pictures the page stays below 2 MB.
SIDE = 560
#: Most rows of a table, and annotators of the matrix; the CSV files hold all.
MOST = 25


def write_report(
    result: Analysis, listing: Listing, cohort: Cohort, alpha: float, unit: str
) -> Path:
    """Write ``report.html`` into the output folder.

    Parameters
    ----------
    result : Analysis
    listing : Listing
        What was read, left out and decided.
    cohort : Cohort
        The images and masks.
    alpha : float
        Krippendorff's alpha of all images together.
    unit : str
        Of distances.

    Returns
    -------
    pathlib.Path
        The page. It opens from the disk without network access.
    """
    between = result.pairs[result.pairs["annotator1"] != result.pairs["annotator2"]]
    other = between.rename(columns={"annotator1": "annotator2", "annotator2": "annotator1"})
    both = pd.concat([between, other])
    names = list(pd.unique(result.pairs[["annotator1", "annotator2"]].to_numpy().ravel()))
    breakdown = result.breakdown[result.breakdown["factor"] != "annotator"]
    drawn = result.measures.drop_duplicates(["image_id", "annotator"])
    page = load_template("iavlib.agreement", "report.html", to_html=_to_html).render(
        **{"source": listing.path.name, "listing": listing, "unit": unit, "alpha": alpha},
        **{"most": MOST, "names": names},
        **{"images": result.images, "pairs": between, "problems": result.problems},
        **{"consensus": result.consensus, "annotators": _annotators(result.annotators)},
        n_repeated=len(result.pairs) - len(between),
        one_cluster=ONE_CLUSTER if cohort.clusters()[result.images.index].nunique() < 2 else "",
        measures=_measures(result.images, cohort.clusters()),
        pictures=_pictures(result, cohort, names),
        matrix=both.groupby(["annotator1", "annotator2"])["dice_score"].mean(),
        histogram=np.histogram(between["dice_score"], bins=25, range=(0, 1))[0].tolist(),
        factors=dict(tuple(breakdown.groupby("factor", sort=False))),
        same_images=len(set(both.groupby("annotator1")["img_id"].agg(frozenset))) == 1,
        areas=result.area_agreement,
        objects=result.objects,
        drawn=drawn.pivot(index="image_id", columns="annotator", values="area"),
        findings=result.findings.value_counts(["issue", "severity"], sort=False).reset_index(),
    )
    path = result.out / "report.html"
    write_text(path, page)
    return path


def _measures(images: pd.DataFrame, clusters: pd.Series) -> dict[str, tuple]:
    """Average each measure over the images, with an interval that resamples patients."""
    from iavlib.stats.resampling import bootstrap_mean

    found = {}
    for column in (c for c in images if c.endswith("_mean") or c == "fleiss_kappa"):
        if len(values := images[column].dropna()):
            estimate = bootstrap_mean(values, clusters[values.index], n_boot=1000)
            found[column] = values, estimate
    return found


def _annotators(summary: pd.DataFrame) -> dict[str, dict]:
    """Return each annotator's quantities as rows; the bias in area as a share."""
    limits = ["value", "low", "high"]
    logarithm = summary["quantity"] == "log_area_bias"
    table = summary[limits].where(~logarithm, np.expm1(summary[limits]))
    table = summary.assign(**table).set_index("quantity")
    groups = table.groupby("annotator", sort=False)
    return {name: group.to_dict("index") for name, group in groups}


def _pictures(result: Analysis, cohort: Cohort, names: list[str]) -> list[dict[str, Any]]:
    """Show the images of lowest, middle and highest agreement with everybody's outlines."""
    images = result.images.sort_values("dice_score_mean", kind="stable")
    n, pictures = len(images), []
    for place in range(n) if n <= 6 else (0, 1, n // 2 - 1, n // 2, n - 2, n - 1):
        facts = images.iloc[place]
        pairs = result.pairs[result.pairs["img_id"] == facts.name]
        drawn = cohort.masks.loc[pd.unique(pairs[["mask1", "mask2"]].to_numpy().ravel())]
        photograph, size = _photograph(cohort.images.loc[facts.name])
        paths = [outline_path(read_mask(path), size) for path in drawn["path"]]
        who = drawn["annotator"]
        outlines = list(zip(map(names.index, who), who, paths, strict=True))
        rank = {0: "lowest", n - 1: "highest"}.get(place, "") if n > 1 else ""
        picture = {"facts": facts, "rank": rank, "source": photograph, "size": size}
        pictures.append(picture | {"outlines": outlines})
    return pictures


def _photograph(image: pd.Series) -> tuple[str | None, tuple[int, int]]:
    """Return a small photograph as address, if there is one, and the size of the picture."""
    try:
        photograph = read_photograph(image["path"]) if pd.notna(image["path"]) else None
    except DataError:
        photograph = None
    size = photograph.size if photograph else (image["width"], image["height"])
    size = tuple(max(1, round(length * SIDE / max(size))) for length in size)
    if photograph is None:
        return None, size
    small = photograph.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return data_uri(jpeg(small)), size


def _to_html(frame: pd.DataFrame) -> str:
    return frame.to_html(index=False, float_format="{:.3f}".format, border=0, na_rep="")
