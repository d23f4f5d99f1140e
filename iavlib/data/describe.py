"""Tables that say what a cohort holds."""

import pandas as pd

from iavlib.data.cohort import Cohort
from iavlib.data.schemas import METRICS


def overview(cohort: Cohort) -> pd.Series:
    """Count images, masks, annotators and pairs, in all and with several masks an image.

    Returns
    -------
    pandas.Series of int
        Indexed by what is counted; ``multi_*`` counts the images with at least two masks.
    """
    multi = cohort.multi_annotator()
    same = cohort.pairs["annotator_1"] == cohort.pairs["annotator_2"]
    patient = multi.images["patient_id"]
    return pd.Series(
        {
            "images": len(cohort.images),
            "masks": len(cohort.masks),
            "annotators": cohort.masks["annotator"].nunique(),
            "multi_images": len(multi.images),
            "multi_masks": len(multi.masks),
            "multi_annotators": multi.masks["annotator"].nunique(),
            "pairs": len(cohort.pairs),
            "pairs_same_annotator": int(same.sum()),
            "pairs_without_overlap": int((cohort.pairs["dice"] == 0).sum()),
            "multi_images_without_patient": int(patient.isna().sum()),
            "multi_patients": patient.nunique(),
            "images_with_file": int(cohort.images["path"].notna().sum()),
            "masks_with_file": int(cohort.masks["path"].notna().sum()),
        },
        name=cohort.name,
    )


def labels(cohort: Cohort) -> pd.DataFrame:
    """Count images by malignancy, in all and among those with at least two masks."""
    multi = cohort.multi_annotator().images
    table = pd.DataFrame(
        {
            "all images": cohort.images["malignancy"].value_counts(),
            "at least two masks": multi["malignancy"].value_counts(),
        }
    )
    return table.fillna(0).astype(int).sort_values("all images", ascending=False)


def licences(cohort: Cohort) -> pd.DataFrame:
    """Count images by licence and source of the data, most frequent first."""
    counts = cohort.images["licence"].fillna("not stated").value_counts()
    return counts.rename("images").rename_axis("licence").to_frame()


def pair_summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Summarise every metric over pairs: mean, sd (n - 1), minimum, quartiles and maximum."""
    table = pairs[list(METRICS)].describe().T.rename(columns={"std": "sd"})
    return table.astype({"count": int})


def quality_findings(cohort: Cohort) -> pd.DataFrame:
    """Count the published findings of quality control by issue and severity.

    Returns
    -------
    pandas.DataFrame
        Columns issue, severity, masks (all), multi_masks (on images with at least two masks);
        without rows where the cohort has no published findings.
    """
    findings = cohort.extras.get("qa")
    if findings is None:
        return pd.DataFrame(columns=["issue", "severity", "masks", "multi_masks"])
    multi = set(cohort.multi_annotator().images.index)
    table = findings.assign(multi=findings["image_id"].isin(multi))
    groups = table.groupby(["issue", "severity"])["multi"]
    counts = pd.DataFrame({"masks": groups.size(), "multi_masks": groups.sum()})
    return counts.reset_index().sort_values("masks", ascending=False, ignore_index=True)


def without_overlap(cohort: Cohort) -> pd.DataFrame:
    """List the pairs of masks that share no pixel, with who drew them and on what."""
    columns = ["image_id", "annotator_1", "annotator_2", "tool_1", "tool_2", "hd_normalized"]
    pairs = cohort.pairs.loc[cohort.pairs["dice"] == 0, columns]
    facts = cohort.images[["malignancy", "diagnosis"]]
    return pairs.join(facts, on="image_id").reset_index(drop=True)
