"""From pairs to images, with and without labels."""

import numpy as np
import pandas as pd
import pytest

from iavlib.agreement import image_level, labelled_images, labelled_pairs
from iavlib.data import Cohort
from iavlib.data.schemas import empty_pairs
from iavlib.masks import metric_names


@pytest.fixture
def cohort() -> Cohort:
    """Image i0 (benign) with three masks, i1 (malignant), i2 (indeterminate), i3 (unknown)."""
    malignancy = ["benign", "malignant", "indeterminate", "unknown"]
    ids = pd.Index([f"i{k}" for k in range(4)], name="image_id", dtype="str")
    images = pd.DataFrame(
        {
            **dict.fromkeys(("path", "diagnosis", "lesion_id", "licence", "sex", "site")),
            "patient_id": ["p", "p", None, None],
            "malignancy": malignancy,
            "width": 10,
            "height": 10,
            "geometry": "original",
            "age": np.nan,
        },
        index=ids,
    )
    masks = pd.DataFrame(
        {
            "image_id": ["i0", "i0", "i0", "i1", "i1", "i2", "i2", "i3", "i3"],
            "path": None,
            "annotator": ["A", "B", "C", "A", "B", "A", "B", "A", "A"],
            "tool": "T1",
            "skill": "S1",
        },
        index=pd.Index([f"m{k}" for k in range(9)], name="mask_id", dtype="str"),
    )
    of_image = [("i0", 0, 1), ("i0", 0, 2), ("i0", 1, 2), ("i1", 3, 4), ("i2", 5, 6), ("i3", 7, 8)]
    pairs = empty_pairs().reindex(range(6))
    pairs["image_id"] = [image for image, _, _ in of_image]
    for side, position in (("1", 1), ("2", 2)):
        rows = [row[position] for row in of_image]
        pairs[f"mask_{side}"] = masks.index[rows]
        pairs[f"annotator_{side}"] = masks["annotator"].iloc[rows].to_numpy()
    for metric in metric_names():
        pairs[metric] = [0.2, 0.4, 0.9, 0.5, 0.6, 0.7]
    pairs.loc[0, ["hd", "hd95", "assd"]] = np.nan
    return Cohort("test", images, masks, pairs, synthetic=True)


def test_image_level_mean_and_sd(cohort):
    table = image_level(cohort.pairs)
    assert table.index.tolist() == ["i0", "i1", "i2", "i3"]
    assert table.loc["i0", "dice_mean"] == pytest.approx(0.5)
    assert table.loc["i0", "dice_std"] == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert np.isnan(table.loc["i1", "dice_std"])
    assert table["n_pairs"].tolist() == [3, 1, 1, 1]


def test_a_distance_that_does_not_exist_is_left_out_of_the_mean(cohort):
    table = image_level(cohort.pairs)
    assert table.loc["i0", "hd_mean"] == pytest.approx(0.65)
    assert table.loc["i0", "hd_normalized_mean"] == pytest.approx(0.5)


def test_indeterminate_and_unknown_lesions_are_left_out(cohort):
    pairs = labelled_pairs(cohort)
    assert pairs["image_id"].unique().tolist() == ["i0", "i1"]
    assert pairs["malignant"].tolist() == [False, False, False, True]
    assert pairs["n_masks"].tolist() == [3, 3, 3, 2]
    assert set(pairs["cluster"]) == {"patient:p"}


def test_indeterminate_as_benign_on_request(cohort):
    pairs = labelled_pairs(cohort, indeterminate="benign")
    assert pairs["image_id"].unique().tolist() == ["i0", "i1", "i2"]
    assert pairs["malignant"].sum() == 1
    with pytest.raises(ValueError, match="'drop', 'benign'"):
        labelled_pairs(cohort, indeterminate="malignant")


def test_images_follow_the_pairs_that_are_left(cohort):
    pairs = labelled_pairs(cohort)
    images = labelled_images(pairs[pairs["dice"] > 0.3])
    assert images.loc["i0", "dice"] == pytest.approx(0.65)
    assert images["n_pairs"].tolist() == [2, 1]
    assert images["n_masks"].tolist() == [3, 2]
    assert images["malignant"].dtype == bool


def test_the_published_means(imapp_home):
    from iavlib.data.datasets import imapp

    pairs = labelled_pairs(imapp.load(imapp_home / "imapp"))
    means = pairs.groupby("malignant")["dice"].mean().round(4)
    assert means.to_dict() == {False: 0.7909, True: 0.7530}
    images = labelled_images(pairs).groupby("malignant")["dice"]
    assert images.size().to_dict() == {False: 1880, True: 505}
    assert images.mean().round(4).to_dict() == {False: 0.8021, True: 0.7562}


@pytest.mark.parametrize(("label", "n"), [("benign", 5), ("malignant", 5), ("unknown", 0)])
def test_labels_of_one_kind_or_none(cohort, label, n):
    from dataclasses import replace

    alike = replace(cohort, images=cohort.images.assign(malignancy=label))
    pairs = labelled_pairs(alike)
    assert (len(pairs) > 0) == (n > 0)
    assert pairs["malignant"].dtype == bool
    assert pairs["malignant"].eq(label == "malignant").all()
    assert len(labelled_images(pairs)) == pairs["image_id"].nunique()
