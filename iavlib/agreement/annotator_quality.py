"""Does this annotator stand apart? Findings on annotators, from the pairs of their masks."""

import numpy as np
import pandas as pd

COLUMNS = ("image_id", "mask_id", "issue", "severity", "detail", "mend")
NEAR_DUPLICATE = "Near-duplicate annotators"
OUTLIER = "Annotator disagrees with the others"
_MENDS = {
    NEAR_DUPLICATE: "ask whether one copied or corrected the other's masks; if so count them once",
    OUTLIER: "look at these masks: another task understood, another tool, or harder images",
}


def near_duplicate_annotators(
    pairs: pd.DataFrame, dice: float = 0.99, share: float = 0.5, at_least: int = 5
) -> pd.DataFrame:
    """Find annotators whose masks are nearly the same on many images.

    Parameters
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``.
    dice : float
        From this Dice on two masks are nearly the same.
    share : float
        From this share of their common pairs on two annotators are near-duplicates.
    at_least : int
        Fewer common pairs than this say nothing.

    Returns
    -------
    pandas.DataFrame
        One row two annotators: ``image_id`` and ``mask_id`` (missing), ``issue``, ``severity``
        (high), ``detail``, ``mend``.
    """
    between = pairs[pairs["annotator_1"] != pairs["annotator_2"]]
    names = between[["annotator_1", "annotator_2"]].astype("str").to_numpy()
    first, second = np.sort(names, axis=1).T if len(names) else ([], [])
    alike = pd.DataFrame({"first": first, "second": second, "alike": between["dice"] >= dice})
    table = alike.groupby(["first", "second"])["alike"].agg(["sum", "size"])
    table = table[(table["size"] >= at_least) & (table["sum"] >= share * table["size"])]
    details = [
        f"{a} and {b}: Dice of {dice} or more in {n} of {of} pairs"
        for (a, b), n, of in zip(table.index, table["sum"], table["size"], strict=True)
    ]
    return _findings(NEAR_DUPLICATE, "high", details)


def outlying_annotators(
    pairs: pd.DataFrame, threshold: float = 3.5, at_least: int = 10
) -> pd.DataFrame:
    """Find annotators who agree less with the others than annotators do.

    Parameters
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``.
    threshold : float
        Robust z below minus this is an outlier (Iglewicz and Hoaglin recommend 3.5).
    at_least : int
        Annotators with fewer pairs are not judged, nor do they count for the usual.

    Returns
    -------
    pandas.DataFrame
        One row an annotator: ``image_id`` and ``mask_id`` (missing), ``issue``, ``severity``
        (medium), ``detail``, ``mend``.
    """
    table = agreement_with_others(pairs, at_least)
    low = table[table["z"] < -threshold]
    details = [
        f"{name}: median Dice {row.median_dice:.3f} in {row.n_pairs} pairs with others, "
        f"robust z {row.z:.1f}"
        for name, row in zip(low.index, low.itertuples(), strict=True)
    ]
    return _findings(OUTLIER, "medium", details)


def agreement_with_others(pairs: pd.DataFrame, at_least: int = 10) -> pd.DataFrame:
    r"""Tell how much each annotator agrees with the others, and how unusual that is.

    Parameters
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``. Pairs of masks of one annotator are left out.
    at_least : int
        Annotators with fewer pairs get no z.

    Returns
    -------
    pandas.DataFrame
        Index ``annotator``; ``n_pairs``, ``median_dice``, and the robust ``z`` of the median among
        the annotators with enough pairs: distance to their median over 1.4826 times the median
        absolute distance (over 1.2533 times the mean absolute distance where that is 0). Missing
        with fewer than four annotators to compare, or none that differ.

    References
    ----------
    Iglewicz, B. and Hoaglin, D. C. (1993). How to Detect and Handle Outliers. ASQC.
    """
    between = pairs[pairs["annotator_1"] != pairs["annotator_2"]]
    sides = [
        between[[f"annotator_{s}", "dice"]].set_axis(["annotator", "dice"], axis=1) for s in "12"
    ]
    groups = pd.concat(sides).groupby("annotator")["dice"]
    table = pd.DataFrame({"n_pairs": groups.size(), "median_dice": groups.median()})
    judged = table.loc[table["n_pairs"] >= at_least, "median_dice"]
    away = judged - judged.median()
    scale = 1.4826 * away.abs().median() or 1.2533 * away.abs().mean()
    enough = len(judged) >= 4 and scale > 0
    return table.assign(z=away / scale if enough else np.nan)


def _findings(issue: str, severity: str, details: list[str]) -> pd.DataFrame:
    rows = [(None, None, issue, severity, detail, _MENDS[issue]) for detail in details]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype("str")
