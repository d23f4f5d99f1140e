"""Training, validation and test parts of a diagnosis: the published ones where they will do."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from iavlib.core.errors import DataError
from iavlib.data.cohort import Cohort, target, target_names
from iavlib.data.splits import PART_NAMES, Split, balance, linked_clusters, split_images

LEAKS = ("leave out", "keep", "error")
#: With fewer images of a class, parts balanced over agreement too might go without that class.
ENOUGH = 100


def official_split(
    cohort: Cohort, seed: int = 0, fractions=(0.7, 0.1, 0.2), leaks: str = "leave out"
) -> Split:
    """Split the labelled images as published, or anew where that cannot be.

    The published parts are used if training and test hold labelled images of both classes.
    Without a published validation part, one is taken from training, the share that ``fractions``
    give it there. Otherwise, the images are split by ``fractions``; what shares a patient or a
    lesion stays together, and the classes are balanced over the parts, as are mean Dice and number
    of masks where there are several masks an image and images enough.

    Parameters
    ----------
    cohort : Cohort
    seed : int
        Of what is split anew.
    fractions : sequence of three floats
        Shares of train, val and test.
    leaks : {"leave out", "keep", "error"}
        What to do where published parts share a patient or lesion: leave the images out of the
        part that teaches (train before val before test), keep them, or refuse.

    Returns
    -------
    Split
        Of the labelled images; ``rule`` says how it was made.

    Raises
    ------
    ValueError
        If an option has no such value.
    DataError
        As :func:`check_parts`.
    """
    if leaks not in LEAKS:
        raise ValueError(f"leaks={leaks!r}: use one of {', '.join(map(repr, LEAKS))}")
    label = target(cohort)
    labelled = cohort.select(label.index)
    labelled = replace(labelled, images=labelled.images.assign(target=label))
    subset = labelled.images.get("subset", pd.Series(None, index=label.index, dtype=object))
    if reason := _not_usable(subset, label):
        split = _anew(labelled, fractions, seed)
        shares = ":".join(f"{100 * share:g}" for share in fractions)
        rule = f"split {shares} by patient and lesion, seed {seed}, because {reason}"
    else:
        assignment, rule = _published(labelled, subset.dropna(), fractions, seed, leaks)
        factors = label.loc[assignment.index].astype(str).to_frame()
        split = Split(assignment, balance(assignment, factors, list(PART_NAMES)))
    check_subsets(cohort, split.assignment, allow_leaks=leaks == "keep")
    return replace(split, rule=rule)


def check_subsets(cohort: Cohort, assignment: pd.Series, allow_leaks: bool = False) -> pd.DataFrame:
    """See that parts can be learnt from and judged on.

    Parameters
    ----------
    cohort : Cohort
    assignment : pandas.Series
        Part of each image.
    allow_leaks : bool
        Whether parts may share patients and lesions.

    Returns
    -------
    pandas.DataFrame
        One row a part: ``images``, the two classes by name, ``patients`` and ``lesions`` known.

    Raises
    ------
    DataError
        If an image is assigned twice, is not in the cohort or has no label; if a part lacks a
        class; or if parts share a patient or lesion.
    """
    where, label = f"{cohort.name}, parts", target(cohort)
    twice = assignment.index[assignment.index.duplicated()]
    if len(twice):
        raise DataError(where, f"{twice[0]} is assigned twice", "give each image one part")
    for known, problem in (
        (cohort.images.index, "are not in the cohort"),
        (label.index, "have no label"),
    ):
        strange = assignment.index.difference(known)
        if len(strange):
            what = f"{len(strange)} assigned images {problem}, first {strange[0]}"
            raise DataError(where, what, "assign labelled images of the cohort only")
    facts = cohort.images.loc[assignment.index, ["patient_id", "lesion_id"]]
    table = _counts(cohort, assignment, label, facts)
    for name in target_names(cohort):
        if (table[name] == 0).any():
            empty = table.index[table[name] == 0][0]
            what = f"part {empty!r} has {table['images'][empty]} images and none of class {name!r}"
            hint = "use other parts, or a split that balances the classes"
            raise DataError(where, what, hint)
    if not allow_leaks:
        _check_leaks(where, assignment, facts)
    return table


def _check_leaks(where: str, assignment: pd.Series, facts: pd.DataFrame) -> None:
    for column, kind in (("patient_id", "patient"), ("lesion_id", "lesion")):
        spread = assignment.groupby(facts[column]).nunique()
        torn = spread.index[spread > 1]
        if len(torn):
            subsets = sorted(assignment[facts[column] == torn[0]].unique())
            what = f"{len(torn)} {kind}s leak between parts, first {torn[0]} in {' and '.join(subsets)}"
            hint = "split by patient and lesion, or leave them out of training"
            raise DataError(where, what, hint)


def _counts(cohort: Cohort, assignment, label, facts) -> pd.DataFrame:
    negative, positive = target_names(cohort)
    own, subsets = label[assignment.index], assignment
    table = pd.DataFrame(
        {
            "images": subsets.groupby(subsets).size(),
            negative: (own == 0).groupby(subsets).sum(),
            positive: (own == 1).groupby(subsets).sum(),
            "patients": facts["patient_id"].groupby(subsets).nunique(),
            "lesions": facts["lesion_id"].groupby(subsets).nunique(),
        }
    )
    return table.loc[
        [p for p in (*PART_NAMES, *table.index.difference(PART_NAMES)) if p in table.index]
    ]


def _not_usable(subset: pd.Series, label: pd.Series) -> str:
    """Tell why published parts will not do; nothing where they will."""
    if subset.isna().all():
        return "no parts are published"
    for name in ("train", "test"):
        inside = label[subset == name]
        if inside.nunique() < 2:
            found = f"{len(inside)} labelled images" + (" of one class" if len(inside) else "")
            return f"the published {name} part has {found}"
    return ""


def _anew(cohort: Cohort, fractions, seed: int) -> Split:
    rarest = cohort.images["target"].value_counts().min()
    enough = len(cohort.pairs) and rarest >= ENOUGH
    stratify = ("target", "dice_range", "n_masks") if enough else ("target",)
    split = split_images(cohort, fractions, seed, stratify, "linked")
    label = cohort.images["target"]
    if label.groupby(split.assignment).nunique().min() == 2:
        return split
    assignment = _with_every_class(split.assignment, label, cohort.images)
    factors = label.astype(str).to_frame()
    return Split(assignment, balance(assignment, factors, list(split.sizes)))


def _with_every_class(assignment: pd.Series, label: pd.Series, images: pd.DataFrame) -> pd.Series:
    """Give a part that went without a class one cluster of the part that has most of it.

    The fair share of a small part can be less than one image of a rare class.
    """
    cluster = linked_clusters(images[["patient_id", "lesion_id"]])
    sizes, mended = cluster.value_counts(), assignment.copy()
    for subset in assignment.unique():
        for value in (0, 1):
            has = label == value
            if has[mended == subset].any():
                continue
            holders = cluster[has].groupby(mended[has]).nunique()
            if holders.max() > 1:
                giver = has & (mended == holders.idxmax())
                mended[cluster == sizes[cluster[giver].unique()].idxmin()] = subset
    return mended


def _published(cohort: Cohort, subset: pd.Series, fractions, seed: int, leaks: str):
    """Take the published parts, mend their leaks and add validation images."""
    rule = "published parts"
    if leaks == "leave out":
        leaking = _leaking(cohort.images.loc[subset.index], subset)
        if len(leaking):
            subset = subset.drop(leaking)
            rule += f" without {len(leaking)} images whose patient or lesion a later part shares"
    if not subset.eq("val").any():
        train, val = fractions[:2]
        shares = {"train": train / (train + val), "val": val / (train + val)}
        inner = _anew(cohort.select(subset.index[subset == "train"]), shares, seed)
        subset = pd.concat([inner.assignment, subset[subset != "train"]])
        rule += f", validation being {100 * shares['val']:g} % of training by lesion, seed {seed}"
    order = [image for image in cohort.images.index if image in set(subset.index)]
    return subset.reindex(order).rename("subset"), rule


def _leaking(images: pd.DataFrame, subset: pd.Series) -> pd.Index:
    """List the images of train and val whose patient or lesion is in a later part."""
    rank = subset.map({name: i for i, name in enumerate(PART_NAMES)})
    cluster = linked_clusters(images[["patient_id", "lesion_id"]])
    return subset.index[rank < rank.groupby(cluster).transform("max")]
