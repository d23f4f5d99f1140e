"""Subsets of a dataset of diagnosis: the published ones if usable, without the overlap with IMA++.

A network trained on IMA++ must not be tested on images that IMA++ also has, or whose patient or
lesion it has. An image is identified by its ISIC number, without the suffix ``_downsampled`` of
ISIC 2019; patients and lesions are known where the metadata of IMA++, or the dataset's own, name
them.
"""

from dataclasses import replace

import pandas as pd

from iavlib.core.errors import DataError, DatasetUnavailable, check_choice, refuse
from iavlib.data.catalogue import find_dataset
from iavlib.data.cohort import Cohort, target, target_names
from iavlib.data.splits import SUBSET_NAMES, Split, balance, linked_clusters, split_images

LEAKS = ("leave out", "keep", "error")
#: With fewer images of a class, subsets balanced over agreement too may lack that class.
ENOUGH = 100
_LINKS = ["patient_id", "lesion_id"]


def official_split(
    cohort: Cohort, seed: int = 0, fractions=(0.7, 0.1, 0.2), leaks: str = "leave out"
) -> Split:
    """Split the labelled images as published, or anew where that is not possible.

    The published subsets are used if training and test hold labelled images of both classes.
    Without a published validation subset, one is taken from training, the share that ``fractions``
    give it there. Otherwise, the images are split by ``fractions``; images that share a patient or
    a lesion stay together, and the classes are balanced over the subsets, as are mean Dice and
    number of masks where images have several masks and there are enough of them.

    Parameters
    ----------
    cohort : Cohort
    seed : int
        Of what is split anew.
    fractions : sequence of three floats
        Shares of train, val and test.
    leaks : {"leave out", "keep", "error"}
        What to do where published subsets share a patient or lesion: leave these images out of the
        subset used earlier (train before val before test), keep them, or refuse.

    Returns
    -------
    Split
        Of the labelled images; ``rule`` describes how it was made.

    Raises
    ------
    ValueError
        If an option has no such value.
    DataError
        As :func:`check_subsets`.
    """
    check_choice("leaks", leaks, LEAKS)
    label = target(cohort)
    labelled = cohort.select(label.index)
    labelled = replace(labelled, images=labelled.images.assign(target=label))
    subset = labelled.images.get("subset", pd.Series(None, index=label.index, dtype=object))
    if reason := _not_usable(subset, label):
        assignment = _anew(labelled, fractions, seed)
        shares = ":".join(f"{100 * share:g}" for share in fractions)
        rule = f"split {shares} by patient and lesion, seed {seed}, because {reason}"
    else:
        assignment, rule = _published(labelled, subset.dropna(), fractions, seed, leaks)
    factors = label.loc[assignment.index].astype(str).to_frame()
    check_subsets(cohort, assignment, allow_leaks=leaks == "keep")
    return Split(assignment, balance(assignment, factors, list(SUBSET_NAMES)), rule)


def check_subsets(cohort: Cohort, assignment: pd.Series, allow_leaks: bool = False) -> pd.DataFrame:
    """Check that subsets can be trained and tested on.

    Parameters
    ----------
    cohort : Cohort
    assignment : pandas.Series
        Subset of each image.
    allow_leaks : bool
        Whether subsets may share patients and lesions.

    Returns
    -------
    pandas.DataFrame
        One row per subset: ``images``, the two classes by name, known ``patients`` and
        ``lesions``.

    Raises
    ------
    DataError
        If an image is assigned twice, is not in the cohort or has no label; if a subset lacks a
        class; or if subsets share a patient or lesion.
    """
    where, label = f"{cohort.name}, subsets", target(cohort)
    twice = assignment.index[assignment.index.duplicated()]
    if len(twice):
        raise DataError(where, f"{twice[0]} is assigned twice", "give each image one subset")
    hint = "assign labelled images of the cohort only"
    for known, problem in ((cohort.images, "are not in the cohort"), (label, "have no label")):
        refuse(assignment.index.difference(known.index), where, f"assigned images {problem}", hint)
    facts = cohort.images.loc[assignment.index, _LINKS]
    table = facts.groupby(assignment).nunique().set_axis(["patients", "lesions"], axis=1)
    own = label[assignment.index]
    for value, name in reversed(list(enumerate(target_names(cohort)))):
        table.insert(0, name, own.eq(value).groupby(assignment).sum())
        if (table[name] == 0).any():
            empty = table.index[table[name] == 0][0]
            n = (assignment == empty).sum()
            what = f"subset {empty!r} has {n} images and none of class {name!r}"
            raise DataError(where, what, "use other subsets, or a split that balances the classes")
    table.insert(0, "images", assignment.groupby(assignment).size())
    for kind in () if allow_leaks else ("patient", "lesion"):
        spread = assignment.groupby(facts[f"{kind}_id"]).nunique()
        torn = spread.index[spread > 1]
        if len(torn):
            names = " and ".join(sorted(assignment[facts[f"{kind}_id"] == torn[0]].unique()))
            what = f"{len(torn)} {kind}s leak between subsets, first {torn[0]} in {names}"
            hint = "split by patient and lesion, or leave them out of training"
            raise DataError(where, what, hint)
    order = [name for name in SUBSET_NAMES if name in table.index]
    return table.loc[[*order, *table.index.difference(SUBSET_NAMES)]]


def _not_usable(subset: pd.Series, label: pd.Series) -> str:
    """Return why published subsets cannot be used; empty if they can."""
    if subset.isna().all():
        return "no subsets are published"
    for name in ("train", "test"):
        inside = label[subset == name]
        if inside.nunique() < 2:
            content = f"{len(inside)} labelled images" + (" of one class" if len(inside) else "")
            return f"the published {name} subset has {content}"
    return ""


def _anew(cohort: Cohort, fractions, seed: int) -> pd.Series:
    label, cluster = cohort.images["target"], linked_clusters(cohort.images[_LINKS])
    enough = len(cohort.pairs) and label.value_counts().min() >= ENOUGH
    stratify = ("target", "dice_range", "n_masks") if enough else ("target",)
    assignment = split_images(cohort, fractions, seed, stratify, "linked").assignment.copy()
    # The fair share of a small subset can be less than one image of a rare class: it then gets one
    # cluster of the subset that has most of that class.
    sizes = cluster.value_counts()
    for subset in assignment.unique():
        for value in (0, 1):
            has = label == value
            holders = cluster[has].groupby(assignment[has]).nunique()
            if subset not in holders.index and holders.max() > 1:
                donor = has & (assignment == holders.idxmax())
                assignment[cluster == sizes[cluster[donor].unique()].idxmin()] = subset
    return assignment


def _published(cohort: Cohort, subset: pd.Series, fractions, seed: int, leaks: str):
    """Return the published subsets without leaks and with validation images, and the rule."""
    rule = "published subsets"
    if leaks == "leave out":
        rank = subset.map({name: i for i, name in enumerate(SUBSET_NAMES)})
        cluster = linked_clusters(cohort.images.loc[subset.index, _LINKS])
        leaking = subset.index[rank < rank.groupby(cluster).transform("max")]
        if len(leaking):
            subset = subset.drop(leaking)
            rule += f" without {len(leaking)} images whose patient or lesion a later subset shares"
    if not subset.eq("val").any():
        train, val = fractions[:2]
        shares = {"train": train / (train + val), "val": val / (train + val)}
        inner = _anew(cohort.select(subset.index[subset == "train"]), shares, seed)
        subset = pd.concat([inner, subset[subset != "train"]])
        rule += f", validation being {100 * shares['val']:g} % of training by lesion, seed {seed}"
    order = cohort.images.index[cohort.images.index.isin(subset.index)]
    return subset.reindex(order).rename("subset"), rule


TREATMENTS = ("leave out", "keep")
_OVERLAP_HINT = "run 'iav data fetch imapp', which gets the tables, or load with overlap='keep'"
KINDS = ("image", "patient", "lesion")


def find_overlap(cohort: Cohort, other: Cohort, lookup: Cohort | None = None) -> pd.DataFrame:
    """Find for each image what it shares with another cohort.

    Parameters
    ----------
    cohort, other : Cohort
    lookup : Cohort, optional
        A cohort that names patients and lesions of more images, such as all of IMA++.

    Returns
    -------
    pandas.DataFrame of bool
        Indexed by image of ``cohort``: ``image``, ``patient``, ``lesion``, and ``any`` of them.
    """
    numbers = isic_number(cohort.images.index)
    shared = pd.DataFrame({"image": numbers.isin(other.images.index)}, index=cohort.images.index)
    for kind in KINDS[1:]:
        column = f"{kind}_id"
        known = set(other.images[column].dropna())
        same = cohort.images[column].isin(known)
        if lookup is not None:
            same |= lookup.images[column].reindex(numbers).isin(known).to_numpy()
        shared[kind] = same
    return shared.assign(any=shared.any(axis=1))


def overlap_report(cohort: Cohort, imapp: Cohort) -> pd.DataFrame:
    """Count the images that IMA++ and its multi-annotator subset also have, by official subset.

    Parameters
    ----------
    cohort : Cohort
    imapp : Cohort
        All of IMA++.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``compared_with`` (imapp, and imapp multi: images with two masks or more) and
        ``subset`` (all, and each official one): number of ``images``, of those whose ``image``,
        ``patient`` or ``lesion`` is also there, of ``any`` of these, and of those ``left`` without
        them; ``melanomas`` and ``melanomas_left``.
    """
    melanoma = cohort.images.get("melanoma", pd.Series(0.0, index=cohort.images.index)).eq(1)
    subset = cohort.images.get("subset", pd.Series(None, index=cohort.images.index))
    names = ["all", *subset.dropna().unique()]
    rows = []
    for label, other in (("imapp", imapp), ("imapp multi", imapp.multi_annotator())):
        shared = find_overlap(cohort, other, lookup=imapp)
        for name in names:
            inside = subset.eq(name) if name != "all" else pd.Series(True, index=subset.index)
            left = inside & ~shared["any"]
            rows.append(
                {"compared_with": label, "subset": name, "images": inside.sum()}
                | shared[inside].sum().to_dict()
                | {"left": left.sum(), "melanomas": (inside & melanoma).sum()}
                | {"melanomas_left": (left & melanoma).sum()}
            )
    return pd.DataFrame(rows).set_index(["compared_with", "subset"]).astype(int)


def without_overlap(cohort: Cohort, imapp_multi: Cohort, lookup: Cohort | None = None) -> Cohort:
    """Return the images that share neither image nor known patient or lesion with another cohort.

    Parameters
    ----------
    cohort : Cohort
    imapp_multi : Cohort
        What a network is trained on: the multi-annotator subset of IMA++. Without the overlap with
        all of IMA++, no melanoma of ISIC 2017 would be left.
    lookup : Cohort, optional
        As :func:`find_overlap`.

    Returns
    -------
    Cohort
        With ``extras["left_out"]``: which images are left out, and why.
    """
    shared = find_overlap(cohort, imapp_multi, lookup)
    kept = cohort.select(shared.index[~shared["any"]])
    return replace(kept, extras={**kept.extras, "left_out": shared[shared["any"]]})


def treat_overlap(cohort: Cohort, overlap: str) -> Cohort:
    """Keep or leave out what overlaps with the multi-annotator subset of IMA++.

    If the tables of IMA++ are available, patients and lesions that the cohort does not name are
    taken from them, and counts are stored in ``extras["overlap"]``, as :func:`overlap_report` gives
    them.

    Raises
    ------
    ValueError
        If `overlap` has no such value.
    DatasetUnavailable
        If images are to be left out, and the tables of IMA++ are absent.
    """
    check_choice("overlap", overlap, TREATMENTS)
    imapp = find_dataset("imapp")
    if imapp.missing:
        if overlap == "keep":
            return cohort
        what = "the tables of IMA++, which list the common images, are absent"
        raise DatasetUnavailable(cohort.name, what, _OVERLAP_HINT)
    known = imapp.load()
    cohort = replace(
        cohort,
        images=with_known_patients(cohort.images, known),
        extras={**cohort.extras, "overlap": overlap_report(cohort, known)},
    )
    if overlap == "keep":
        return cohort
    return without_overlap(cohort, known.multi_annotator(), lookup=known)


def with_known_patients(images: pd.DataFrame, imapp: Cohort) -> pd.DataFrame:
    """Fill in patients and lesions that IMA++ names for the same images.

    A dataset that names lesions itself keeps its own names: with two names for one lesion its
    images would not stay together.
    """
    known = imapp.images.reindex(isic_number(images.index)).set_axis(images.index)
    filled = images.copy()
    for column in ("patient_id", "lesion_id"):
        if images[column].isna().all():
            filled[column] = known[column]
    return filled


def isic_number(ids: pd.Index) -> pd.Index:
    """Return the archive's name of each image, without the suffix for its size."""
    return ids.str.replace(r"(?i)_downsampled$", "", regex=True)
