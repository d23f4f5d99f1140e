"""Quality of single masks: findings with severity and remedy.

The checks of IMA++ (Abhishek et al. 2025), with the second *largest* region where the released code
takes the second in raster order, and further ones: holes, another size than the image, grey values,
the same mask twice. Findings on annotators as a whole are in
:mod:`iavlib.agreement.annotator_bias`.
"""

import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from iavlib.agreement.annotator_bias import near_duplicate_annotators, outlying_annotators
from iavlib.core.errors import DataError, check_choice
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import decode_mask, read_file
from iavlib.masks.surfaces import bounding_box, looks_inverted, region_sizes

SecondRegion = Literal["largest", "found"]
COLUMNS = ("image_id", "mask_id", "issue", "severity", "detail", "hint")

UNREADABLE = "File not found or corrupted"
EMPTY = "Empty mask"
FULL = "Mask covers entire image"
REGIONS = "Multiple disconnected regions"
BORDER = "Mask touches image border"
SIZE = "Mask size differs from image"
INVERTED = "Inverted mask?"
GREY = "More than two grey values"
HOLES = "Holes"
TWICE = "Same mask twice in one image"
ELSEWHERE = "Same mask in another image"

#: Severity and remedy of each issue.
ISSUES = {
    UNREADABLE: ("high", "put the file there again, or take its row out of the table"),
    EMPTY: ("high", "leave the mask out, or have it drawn again"),
    FULL: ("high", "look at the image: leave the mask out unless the lesion fills it"),
    SIZE: ("high", "replace it by the mask drawn on this image at its published size"),
    INVERTED: ("medium", "look at the image; if background is marked, invert the file"),
    GREY: ("medium", "save it with two values and without lossy compression, after a threshold"),
    REGIONS: ("medium", "look at the image: several lesions, or strokes beside the lesion"),
    HOLES: ("low", "fill them if the annotator outlined the lesion"),
    BORDER: ("low", "none needed where the lesion leaves the image; distances count that edge"),
    TWICE: ("high", "keep one: the pair's agreement of 1 is no agreement of two annotators"),
    ELSEWHERE: ("medium", "compare the images; keep copies in one part of every split"),
}

#: Issues that the published table of IMA++ knows.
PUBLISHED_ISSUES = (UNREADABLE, EMPTY, FULL, REGIONS, BORDER)

#: A second region counts from this share of the largest on (IMA++).
REGION_SHARE = 0.05


#: Findings as (issue, detail), and a digest of the pixels to find copies.
_Checked = tuple[list[tuple[str, str]], str | None]


def check_masks(
    cohort: Cohort,
    processes: int | None = None,
    *,
    second_region: SecondRegion = "largest",
    absent: Literal["report", "skip"] = "report",
) -> pd.DataFrame:
    """Check every mask of a cohort, and its annotators.

    Parameters
    ----------
    cohort : Cohort
    processes : int, optional
        One per core unless given, fewer for few masks. Each holds one mask.
    second_region : {"largest", "found"}
        Which region is compared with which: the second largest with the largest, or, as in the
        released code of IMA++, the second with the first in the order of rows and columns.
    absent : {"report", "skip"}
        Whether a mask without a file is a finding; ``skip`` is for a collection of which only some
        files are present.

    Returns
    -------
    pandas.DataFrame
        One row per finding: ``image_id``, ``mask_id``, ``issue``, ``severity`` (high, medium, low),
        ``detail``, ``hint``. Masks in the order of the cohort, each with its findings in the order
        of :data:`ISSUES`; then annotators, without image and mask. A mask that is unreadable,
        empty or full has no further finding, except for its size.

    Raises
    ------
    ValueError
        If an option has no such value.

    Notes
    -----
    Regions are 8-connected, holes (of the background) 4-connected. Copies are found by a digest
    of the pixels; empty and full masks are left out of that. Where the masks table has a column
    ``md5``, masks without a file are compared by that. Annotators are compared by the
    pairs table: without pairs there are no findings on them.
    """
    check_choice("second_region", second_region, ("largest", "found"))
    check_choice("absent", absent, ("report", "skip"))
    masks = cohort.masks.join(cohort.images[["width", "height"]], on="image_id")
    paths = masks["path"].astype(object).where(masks["path"].notna(), None)
    shapes = zip(masks["height"].astype(int), masks["width"].astype(int), strict=True)
    tasks = list(zip(masks.index, paths, shapes, strict=True))
    tasks = [task for task in tasks if task[1] is not None or absent == "report"]
    check = partial(check_mask, second_region=second_region)
    results = run_in_order(check, tasks, processes, unreadable)
    checked = {task[0]: result for task, result in zip(tasks, results, strict=True)}
    return findings_table(cohort, checked)


def findings_table(cohort: Cohort, checked: dict[str, _Checked]) -> pd.DataFrame:
    """Arrange the results of :func:`check_mask` as :func:`check_masks` does, and find copies."""
    found = {mask_id: list(findings) for mask_id, (findings, _) in checked.items()}
    for mask_id, finding in _copies(cohort, checked):
        found.setdefault(mask_id, []).append(finding)
    rows = [
        (image_id, mask_id, issue, ISSUES[issue][0], detail, ISSUES[issue][1])
        for mask_id, image_id in cohort.masks["image_id"].items()
        for issue, detail in sorted(found.get(mask_id, []), key=lambda f: list(ISSUES).index(f[0]))
    ]
    tables = [pd.DataFrame(rows, columns=list(COLUMNS))]
    tables += [near_duplicate_annotators(cohort.pairs), outlying_annotators(cohort.pairs)]
    return pd.concat(tables, ignore_index=True).astype("str")


def check_mask(
    task: tuple[str, str | None, tuple[int, int]],
    second_region: SecondRegion = "largest",
    decode: Callable = decode_mask,
) -> _Checked:
    """Read and check one mask (its id, its file, height and width of its image)."""
    mask_id, path, (height, width) = task
    try:
        mask, grey = read_file(mask_id, path, decode)
    except DataError as error:
        return unreadable(task, error)
    findings = []
    if mask.shape != (height, width):
        size = f"{mask.shape[1]}x{mask.shape[0]} pixels, the image {width}x{height}"
        findings.append((SIZE, size))
    area = np.count_nonzero(mask)
    if area in (0, mask.size):
        return [*findings, (FULL if area else EMPTY, f"{mask.size} pixels")], None
    if grey:
        findings.append((GREY, f"{grey}; binarised at half the maximum"))
    if looks_inverted(mask):
        findings.append((INVERTED, f"inside on all borders and {mask.mean():.0%} of the image"))
    findings += _shape_findings(mask, area, second_region)
    packed = np.packbits(mask).tobytes() + str(mask.shape).encode()
    return findings, hashlib.blake2b(packed, digest_size=16).hexdigest()


def compare_findings(
    findings: pd.DataFrame, published: pd.DataFrame, masks: pd.Index
) -> pd.DataFrame:
    """Compare findings with the published ones.

    Parameters
    ----------
    findings : pandas.DataFrame
        From :func:`check_masks`.
    published : pandas.DataFrame
        ``mask_id``, ``issue``, ``severity``, as in ``cohort.extras["qa"]`` of IMA++.
    masks : pandas.Index
        Masks that were checked; published rows on others are left out.

    Returns
    -------
    pandas.DataFrame
        One row for each mask and issue of :data:`PUBLISHED_ISSUES` that either names:
        ``mask_id``, ``issue``, ``severity``, ``in`` ("both", "ours", "published").
    """
    key = ["mask_id", "issue", "severity"]
    ours = findings[findings["issue"].isin(PUBLISHED_ISSUES)]
    # The release writes the number of regions into the issue.
    theirs = published.assign(issue=published["issue"].map(lambda t: re.sub(r" \(\d+\)$", "", t)))
    tables = [table[table["mask_id"].isin(masks)][key] for table in (ours, theirs)]
    both = tables[0].merge(tables[1], on=key, how="outer", indicator="in")
    names = {"left_only": "ours", "right_only": "published", "both": "both"}
    return both.assign(**{"in": both["in"].astype("str").map(names)})


def unreadable(task: tuple, error: DataError) -> _Checked:
    """Return the result of a mask (its id first) that could not be read."""
    where = "" if error.where == task[0] else f"{error.where}: "
    return [(UNREADABLE, f"{where}{error.problem}; to fix it, {error.hint}")], None


def _shape_findings(
    mask: np.ndarray, area: int, second_region: SecondRegion
) -> list[tuple[str, str]]:
    crop = mask[bounding_box(mask)]
    findings = []
    sizes = region_sizes(crop)
    if len(sizes) > 1:
        ordered = np.sort(sizes)[::-1] if second_region == "largest" else sizes
        share = ordered[1] / ordered[0]
        if share > REGION_SHARE:
            which = "largest" if second_region == "largest" else "found"
            detail = f"{len(sizes)} regions; the second {which} has {share:.1%} of the first"
            findings.append((REGIONS, detail))
    # The padding, with all background that reaches the box's edge, is the first region met.
    holes = region_sizes(~np.pad(crop, 1), corners=False)[1:]
    if len(holes):
        findings.append((HOLES, f"{len(holes)} holes, {holes.sum() / area:.2%} of the mask"))
    edges = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
    touched = [name for name, line in edges.items() if line.any()]
    if touched:
        findings.append((BORDER, ", ".join(touched)))
    return findings


def _copies(cohort: Cohort, checked: dict[str, _Checked]) -> list[tuple[str, tuple[str, str]]]:
    """Return findings on masks that have the same pixels, or published MD5, as another."""
    masks = cohort.masks
    groups = [pd.Series({m: digest for m, (_, digest) in checked.items() if digest}, dtype="str")]
    if "md5" in masks:
        blank = {EMPTY, FULL}
        empty = {m for m, (f, _) in checked.items() if blank & {issue for issue, _ in f}}
        if "qa" in cohort.extras:
            qa = cohort.extras["qa"]
            empty |= set(qa.loc[qa["issue"].isin(blank), "mask_id"])
        groups.append(masks.loc[~masks.index.isin(empty), "md5"].dropna())
    found = {}
    for group in groups:
        for same in group[group.duplicated(keep=False)].groupby(group).groups.values():
            images = masks["image_id"].loc[same]
            for mask_id, image_id in images.items():
                for issue, there in ((TWICE, images == image_id), (ELSEWHERE, images != image_id)):
                    if others := [other for other in images.index[there] if other != mask_id]:
                        found[mask_id, issue] = f"the same as {', '.join(others)}"
    return [(mask_id, (issue, detail)) for (mask_id, issue), detail in found.items()]
