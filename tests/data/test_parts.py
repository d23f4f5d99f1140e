"""Parts of cohorts of diagnosis: published, mended or made, and never leaking."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from diagnosed_layouts import label_map

from iavlib import data
from iavlib.core.errors import DataError
from iavlib.data import Cohort
from iavlib.data.datasets import imapp
from iavlib.data.schemas import empty_masks, empty_pairs
from iavlib.data.splits import linked_clusters

NOTHING = ("path", "diagnosis", "patient_id", "lesion_id", "width", "height", "licence")


def cohort(melanoma, subset=None, **columns) -> Cohort:
    ids = pd.Index([f"i{k:03d}" for k in range(len(melanoma))], name="image_id")
    images = pd.DataFrame({c: pd.Series(None, index=ids, dtype=object) for c in NOTHING})
    images = images.assign(malignancy="unknown", geometry="original", sex=None, site=None)
    images = images.assign(age=np.nan, melanoma=np.asarray(melanoma, float), subset=subset)
    return Cohort("some", images.assign(**columns), empty_masks(), empty_pairs(), False)


def test_split_anew_keeps_patients_and_lesions_together():
    n = 200
    rng = np.random.default_rng(0)
    patients = [f"p{k}" if k >= 0 else None for k in rng.integers(-20, 40, n)]
    lesions = [f"l{k}" if k >= 0 else None for k in rng.integers(-300, 60, n)]
    own = cohort(rng.random(n) < 0.3, patient_id=patients, lesion_id=lesions)
    seen = []
    for seed in range(3):
        split = data.official_split(own, seed)
        assert split.rule.endswith(f"seed {seed}, because no subsets are published")
        clusters = linked_clusters(own.images[["patient_id", "lesion_id"]])
        assert split.assignment.groupby(clusters).nunique().max() == 1
        table = data.check_subsets(own, split.assignment)
        assert table["images"].sum() == n
        seen.append(tuple(split.assignment))
    assert len(set(seen)) == 3
    assert tuple(data.official_split(own, 2).assignment) == seen[2]


def test_linked_through_others():
    keys = pd.DataFrame(
        {"patient": ["a", "a", None, "b", None], "lesion": [None, "x", "x", None, None]},
        index=list("vwxyz"),
    )
    assert linked_clusters(keys).to_dict() == {"v": "v", "w": "v", "x": "v", "y": "y", "z": "z"}


def test_unlabelled_images_are_in_no_part():
    own = cohort([1, 0] * 20 + [np.nan] * 5)
    split = data.official_split(own)
    assert len(split.assignment) == 40
    assert own.images.loc[split.assignment.index, "melanoma"].notna().all()


def test_leaks_between_published_parts():
    subsets = ["train"] * 6 + ["val"] * 4 + ["test"] * 4
    patients = ["p"] + [None] * 4 + ["q", "q"] + [None] * 6 + ["p"]
    own = cohort([1, 0] * 7, subsets, patient_id=patients)
    split = data.official_split(own)
    assert split.rule == (
        "published subsets without 2 images whose patient or lesion a later subset shares"
    )
    assert set(own.images.index) - set(split.assignment.index) == {"i000", "i005"}
    assert len(data.official_split(own, leaks="keep").assignment) == 14
    with pytest.raises(
        DataError, match="2 patients leak between subsets, first p in test and train"
    ):
        data.official_split(own, leaks="error")
    with pytest.raises(ValueError, match="leaks='drop'"):
        data.official_split(own, leaks="drop")


def test_leaking_lesions():
    own = cohort([1, 0, 1, 0], ["train", "train", "test", "test"], lesion_id=["x", "y", "x", None])
    with pytest.raises(
        DataError, match="1 lesions leak between subsets, first x in test and train"
    ):
        data.check_subsets(own, own.images["subset"])


def test_a_class_missing_in_a_part():
    own = cohort([1, 0, 0, 0, 1, 0], ["train", "train", "val", "val", "test", "test"])
    with pytest.raises(DataError, match="subset 'val' has 2 images and none of class 'melanoma'"):
        data.official_split(own)
    own = cohort([1, 0] * 10 + [0, 0], ["train"] * 20 + ["test"] * 2)
    rule = data.official_split(own).rule
    assert rule.endswith("because the published test subset has 2 labelled images of one class")
    own = cohort([1] + [0] * 19)
    with pytest.raises(DataError, match="none of class 'melanoma'"):
        data.official_split(own)


def test_assignments_that_do_not_fit():
    own = cohort([1, 0, 1, 0, np.nan], ["train", "train", "test", "test", "test"])
    with pytest.raises(DataError, match="1 assigned images have no label, first i004"):
        data.check_subsets(own, own.images["subset"])
    subset = own.images["subset"].iloc[:4]
    with pytest.raises(DataError, match="i000 is assigned twice"):
        data.check_subsets(own, pd.concat([subset, subset.iloc[:1]]))
    with pytest.raises(DataError, match="1 assigned images are not in the cohort, first other"):
        data.check_subsets(own, subset.rename({"i003": "other"}))
    table = data.check_subsets(own, subset)
    assert table.loc["test", ["images", "not melanoma", "melanoma"]].tolist() == [2, 1, 1]


def test_validation_from_training():
    own = cohort([1, 0] * 50, ["train"] * 80 + ["test"] * 20)
    split = data.official_split(own, fractions=(0.6, 0.2, 0.2))
    assert split.sizes == {"train": 60, "val": 20, "test": 20}
    assert split.assignment.index.equals(own.images.index)


def test_target_of_malignancy(tiny_imapp):
    with pytest.warns(UserWarning, match="differ from the published"):
        own = imapp.load(tiny_imapp)
    assert data.target(own).tolist() == [0, 1, 0, 1]
    assert data.target(own, indeterminate="benign").tolist() == [0, 1, 0, 0, 0, 1]
    assert data.target_names(own) == ("benign", "malignant")
    assert label_map(own)["class"].value_counts()["left out"] == 2
    with pytest.raises(ValueError, match="'drop', 'benign'"):
        data.target(own, indeterminate="out")


def test_phantom_has_a_target_and_parts():
    own = data.load("phantom", n_images=40, size=(48, 40))
    for seed in range(5):
        split = data.official_split(own, seed)
        assert data.check_subsets(own, split.assignment)["malignant"].min() > 0
        assert len(split.assignment) == len(data.target(own))
        assert split.assignment.equals(data.official_split(own, seed).assignment)


def overlapping(tiny_imapp):
    with pytest.warns(UserWarning, match="differ from the published"):
        known = imapp.load(tiny_imapp)
    ids = ["ISIC_0000000_downsampled", "ISIC_0000003", "ISIC_1", "ISIC_2", "ISIC_3"]
    own = cohort([1, 0, 1, 0, 0], ["train"] * 3 + ["test"] * 2)
    names = pd.Series(["new", None, "IP_1", None, None]).to_numpy()
    images = own.images.set_axis(ids).rename_axis("image_id").assign(patient_id=names)
    return known, replace(own, images=images)


def test_overlap_is_counted_and_left_out(tiny_imapp):
    known, own = overlapping(tiny_imapp)
    table = data.overlap_report(own, known)
    assert table.loc[("imapp", "all")].to_dict() == {
        **{"images": 5, "image": 2, "patient": 3, "lesion": 0, "any": 3, "left": 2},
        **{"melanomas": 2, "melanomas_left": 0},
    }
    left = data.without_overlap(own, known.multi_annotator())
    assert left.images.index.tolist() == ["ISIC_2", "ISIC_3"]
    assert left.extras["left_out"]["patient"].tolist() == [False, False, True]


def test_only_what_has_several_masks_teaches(tiny_imapp):
    known, own = overlapping(tiny_imapp)
    few = replace(
        known,
        masks=known.masks[known.masks["image_id"] != "ISIC_0000003"],
        pairs=known.pairs[known.pairs["image_id"] != "ISIC_0000003"],
    )
    table = data.overlap_report(own, few)
    assert table.loc[("imapp", "all"), "image"] == 2
    assert table.loc[("imapp multi", "all"), "image"] == 1
    # its patient has another image there that teaches
    assert table.loc[("imapp multi", "all"), "any"] == 3
