"""Images of another dataset that IMA++ holds too, or whose patient or lesion it holds.

A network that has learnt from IMA++ must not be judged on them. An image is known by its ISIC
number, whose ending ``_downsampled`` in ISIC 2019 says nothing about which lesion it shows;
patients and lesions are known where IMA++'s metadata, or the dataset's own, name them.
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
    """Tell for each image what it shares with another cohort.

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
    found = pd.DataFrame({"image": numbers.isin(other.images.index)}, index=cohort.images.index)
    for kind in KINDS[1:]:
        column = f"{kind}_id"
        known = set(other.images[column].dropna())
        same = cohort.images[column].isin(known)
        if lookup is not None:
            same |= lookup.images[column].reindex(numbers).isin(known).to_numpy()
        found[kind] = same
    return found.assign(any=found.any(axis=1))


def overlap_report(cohort: Cohort, imapp: Cohort) -> pd.DataFrame:
    """Count the images that IMA++ and its multi-annotator subset also hold, part by part.

    Parameters
    ----------
    cohort : Cohort
    imapp : Cohort
        All of IMA++.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``compared_with`` (imapp, and imapp multi: images with two masks or more) and
        ``subset`` (all, and each there is): number of ``images``, of those whose ``image``,
        ``patient`` or ``lesion`` is also there, of ``any`` of these, and of those ``left`` when
        they leave; ``melanomas`` and ``melanomas_left``.
    """
    melanoma = cohort.images.get("melanoma", pd.Series(0.0, index=cohort.images.index)).eq(1)
    subset = cohort.images.get("subset", pd.Series(None, index=cohort.images.index))
    names = ["all", *subset.dropna().unique()]
    rows = []
    for label, other in (("imapp", imapp), ("imapp multi", imapp.multi_annotator())):
        found = find_overlap(cohort, other, lookup=imapp)
        for name in names:
            inside = subset.eq(name) if name != "all" else pd.Series(True, index=subset.index)
            left = inside & ~found["any"]
            rows.append(
                {"compared_with": label, "subset": name, "images": inside.sum()}
                | found[inside].sum().to_dict()
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
        What a network learns from: the multi-annotator subset of IMA++. With all of IMA++, no
        melanoma of ISIC 2017 would be left.
    lookup : Cohort, optional
        As :func:`find_overlap`.

    Returns
    -------
    Cohort
        With ``extras["left_out"]``, which images left and why.
    """
    found = find_overlap(cohort, imapp_multi, lookup)
    kept = cohort.select(found.index[~found["any"]])
    return replace(kept, extras={**kept.extras, "left_out": found[found["any"]]})


def treat(cohort: Cohort, overlap: str) -> Cohort:
    """Keep or leave out what overlaps with the multi-annotator subset of IMA++.

    Where its tables are here, patients and lesions that the cohort does not name are taken from
    IMA++, and counts are kept in ``extras["overlap"]``, as :func:`overlap_report` gives them.

    Raises
    ------
    ValueError
        If there is no such treatment.
    DatasetUnavailable
        If images are to leave, and the tables of IMA++ are not here to say which.
    """
    imapp = find_dataset("imapp")
    if overlap not in TREATMENTS:
        raise ValueError(f"overlap={overlap!r}: use one of {', '.join(map(repr, TREATMENTS))}")
    if overlap == "keep" and imapp.missing:
        return cohort
    if imapp.missing:
        what = "which of its images IMA++ holds is told by tables that are not here"
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
    """Fill in patients and lesions that IMA++ names of the same images.

    A dataset that names lesions itself keeps its own names: two names of one lesion would tear
    its images apart.
    """
    known = imapp.images.reindex(isic_number(images.index)).set_axis(images.index)
    filled = images.copy()
    for column in ("patient_id", "lesion_id"):
        if images[column].isna().all():
            filled[column] = known[column]
    return filled


def isic_number(ids: pd.Index) -> pd.Index:
    """Return the archive's name of each image, without the ending that tells its size."""
    return ids.str.replace(r"(?i)_downsampled$", "", regex=True)
