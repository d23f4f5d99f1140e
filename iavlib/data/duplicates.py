"""Images of a dataset that IMA++ also has, or whose patient or lesion it has.

A network trained on IMA++ must not be tested on them. An image is identified by its ISIC number,
without the suffix ``_downsampled`` of ISIC 2019; patients and lesions are known where the metadata
of IMA++, or the dataset's own, name them.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from iavlib.core.errors import DatasetUnavailable
from iavlib.data.catalogue import find_dataset
from iavlib.data.cohort import Cohort

TREATMENTS = ("leave out", "keep")
HINT = "run 'iav data fetch imapp', which gets the tables, or load with overlap='keep'"
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


def treat(cohort: Cohort, overlap: str) -> Cohort:
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
    imapp = find_dataset("imapp")
    if overlap not in TREATMENTS:
        raise ValueError(f"overlap={overlap!r}: use one of {', '.join(map(repr, TREATMENTS))}")
    if overlap == "keep" and imapp.missing:
        return cohort
    if imapp.missing:
        what = "the tables of IMA++, which list the common images, are absent"
        raise DatasetUnavailable(cohort.name, what, HINT)
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
