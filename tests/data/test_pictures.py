"""Images chosen to be shown, with their masks."""

from dataclasses import replace

import pytest

from iavlib.data.cohort import examples_by_agreement, pictures


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    from iavlib.data.datasets import phantom

    return phantom.load(n_images=20, size=(96, 72), cache=tmp_path_factory.mktemp("cache"))


def test_examples_go_from_the_lowest_to_the_highest_agreement(cohort):
    chosen = examples_by_agreement(cohort, n=4)
    mean = cohort.pairs.groupby("image_id")["dice"].mean()
    assert mean[chosen].is_monotonic_increasing
    assert mean[chosen[0]] == mean.min()


def test_pictures_have_a_mask_per_annotator(cohort):
    (image_id,) = examples_by_agreement(cohort, n=1)
    (picture,) = pictures(cohort, [image_id])
    masks = cohort.masks[cohort.masks["image_id"] == image_id]
    assert len(picture["masks"]) == len(masks)
    assert picture["image"].shape[2] == 3
    assert picture["size"] == tuple(cohort.images.loc[image_id, ["width", "height"]])
    assert picture["title"].startswith(f"{image_id}\n") and "Dice" in picture["title"]


def test_two_masks_by_one_annotator_are_both_shown(cohort):
    image_id = cohort.masks["image_id"].iloc[0]
    same = cohort.masks.assign(annotator="A1", tool=None, skill=None)
    (picture,) = pictures(replace(cohort, masks=same), [image_id])
    n = int((same["image_id"] == image_id).sum())
    assert list(picture["masks"])[:2] == ["A1", "A1 (2)"] and len(picture["masks"]) == n > 1


def test_a_cropped_image_gets_no_outline(cohort):
    cropped = replace(cohort, images=cohort.images.assign(geometry="cropped"))
    assert examples_by_agreement(cropped) == []
    (picture,) = pictures(cropped, [cohort.images.index[0]])
    assert picture["masks"] == {}


def test_no_files_no_examples(cohort):
    assert examples_by_agreement(replace(cohort, images=cohort.images.assign(path=None))) == []
