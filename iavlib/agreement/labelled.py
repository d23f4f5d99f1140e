"""Agreement beside the label it may tell something about."""

from typing import Literal

import pandas as pd

from iavlib.data.cohort import Cohort
from iavlib.data.schemas import METRICS

Indeterminate = Literal["out", "benign"]


def labelled_pairs(
    cohort: Cohort, indeterminate: Indeterminate = "out", pairs: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Join the pairs of masks with the malignancy and the patient of their image.

    Parameters
    ----------
    cohort : Cohort
    indeterminate : {"out", "benign"}
        What becomes of indeterminate lesions: left out, or counted as benign as the published
        evaluation of the regression does. Images of unknown malignancy are always left out.
    pairs : pandas.DataFrame, optional
        Other pairs of masks of the cohort's images, for instance of consensus masks; the pairs of
        annotators' masks unless given.

    Returns
    -------
    pandas.DataFrame
        The pairs that stay, with ``malignant`` (bool), ``cluster`` (patient,
        or the image itself) and ``n_masks`` (masks of the image).

    Raises
    ------
    ValueError
        If no pair is left, or none of benign, or none of malignant lesions.
    """
    if indeterminate not in ("out", "benign"):
        raise ValueError(f"indeterminate must be 'out' or 'benign', not {indeterminate!r}")
    kept = {"benign", "malignant"} | ({"indeterminate"} if indeterminate == "benign" else set())
    malignancy = cohort.images["malignancy"]
    pairs = cohort.pairs if pairs is None else pairs
    pairs = pairs[pairs["image_id"].map(malignancy).isin(kept)]
    image = pairs["image_id"]
    malignant = image.map(malignancy).eq("malignant")
    if malignant.nunique() < 2:
        counts = cohort.images["malignancy"].value_counts().to_dict()
        raise ValueError(
            f"{cohort.name}: agreement of malignant and benign lesions cannot be compared without "
            f"pairs of masks on both (images by malignancy: {counts}); add the labels"
        )
    return pairs.assign(
        malignant=malignant,
        cluster=image.map(cohort.clusters()),
        n_masks=image.map(cohort.masks["image_id"].value_counts()),
    ).reset_index(drop=True)


def labelled_images(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average labelled pairs to one row an image.

    Parameters
    ----------
    pairs : pandas.DataFrame
        From :func:`labelled_pairs`, perhaps with some pairs taken out.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: the mean of every metric over the image's pairs, under the metric's
        own name (missing distances left out of their mean), ``malignant``, ``cluster``,
        ``n_masks`` and ``n_pairs``.
    """
    groups = pairs.groupby("image_id", sort=False)
    facts = groups[["malignant", "cluster", "n_masks"]].first()
    return groups[list(METRICS)].mean().join(facts).assign(n_pairs=groups.size())
