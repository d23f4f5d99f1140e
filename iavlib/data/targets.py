"""What a diagnosis predicts, the same for every cohort: one number an image, 0 or 1.

For the datasets of melanoma it is melanoma against everything else, for IMA++ and the others
malignant against benign.
"""

import pandas as pd

from iavlib.data.cohort import Cohort

REST = ("out", "negative")


def target(cohort: Cohort, rest: str = "out") -> pd.Series:
    """Return the binary target of each image that has one.

    Parameters
    ----------
    cohort : Cohort
    rest : {"out", "negative"}
        What becomes of images whose malignancy is indeterminate or unknown, in a cohort without
        a melanoma label: none of both classes, or 0, which is how the published evaluation of the
        regression counts them.

    Returns
    -------
    pandas.Series of int
        1 for melanoma (or malignant) and 0 otherwise, indexed by image, in the cohort's order and
        without images that have no label.
    """
    if rest not in REST:
        raise ValueError(f"rest={rest!r}: use one of {', '.join(map(repr, REST))}")
    if "melanoma" in cohort.images:
        label = cohort.images["melanoma"]
    else:
        malignancy = cohort.images["malignancy"]
        label = malignancy.map({"benign": 0.0, "malignant": 1.0})
        label = label.fillna(0.0) if rest == "negative" else label
    return label.dropna().astype(int).rename("target")


def target_names(cohort: Cohort) -> tuple[str, str]:
    """Return what 0 and 1 of the target mean."""
    if "melanoma" in cohort.images:
        return "not melanoma", "melanoma"
    return "benign", "malignant"


def label_map(cohort: Cohort) -> pd.DataFrame:
    """Tell what class each of a dataset's own labels becomes, and how many images have it.

    Returns
    -------
    pandas.DataFrame
        One row per label: ``diagnosis`` (and ``diagnosis_group`` where the cohort has one),
        ``malignancy``, ``class`` (as :func:`target_names`, or ``left out``), ``n``, and where
        there are parts the number in each; the most frequent first.
    """
    images = cohort.images
    own = [c for c in ("diagnosis", "diagnosis_group") if c in images]
    classes = target(cohort).map(dict(enumerate(target_names(cohort))))
    table = images[[*own, "malignancy"]].astype(object).fillna("none")
    table["class"] = classes.reindex(images.index).astype(object).fillna("left out")
    keys = list(table)
    counts = table.value_counts().rename("n").to_frame()
    if "part" in images and images["part"].notna().any():
        part = images["part"].astype(object).fillna("no part")
        by_part = table.assign(part=part).value_counts().unstack("part", fill_value=0)
        order = [p for p in ("train", "val", "test", "no part") if p in by_part]
        counts = counts.join(by_part[order])
    return counts.sort_values("n", ascending=False, kind="stable").reset_index()[
        [*keys, *counts.columns]
    ]
