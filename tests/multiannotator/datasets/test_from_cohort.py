"""Cohorts as arrays: phantom, a user's folder, cropped pictures, real two-annotator sets."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iavlib import data
from iavlib.core.errors import LabelError
from iavlib.masks import majority_vote
from iavlib.multiannotator import (
    error_rates,
    from_cohort,
    majority_labels,
    simulated_on,
    true_confusion,
)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    from iavlib.data.datasets import phantom

    return phantom.load(24, (96, 72), 3, cache=tmp_path_factory.mktemp("phantom"))


@pytest.fixture
def own_masks(tmp_path):
    """A folder of three pictures, two annotators, made to be spoilt."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(3):
        picture = generator.integers(0, 255, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"p{number}.png")
        for who, shift in (("ann", 0), ("bob", 6)):
            mask = np.zeros((40, 60), np.uint8)
            mask[10:30, 10 + shift : 40 + shift] = 255
            Image.fromarray(mask).save(tmp_path / f"p{number}_{who}.png")
            rows.append((f"p{number}.png", f"p{number}_{who}.png", who))
    table = pd.DataFrame(rows, columns=["image", "mask", "annotator"])
    table.to_csv(tmp_path / "masks.csv", index=False)
    return tmp_path


def test_phantom(phantom):
    made = from_cohort(phantom, 32)
    assert made.synthetic
    assert not made.simulated_annotators
    assert made.truth_is == "known"
    assert made.images.shape == (24, 32, 32, 3)
    assert set(made.subsets) == {"train", "val", "test"}
    drawn = phantom.masks.groupby("annotator")["image_id"].nunique()
    assert made.counts.to_dict() == drawn.to_dict()
    for cluster in set(made.clusters):
        assert len(set(made.subsets[made.clusters == cluster])) == 1
    rates = error_rates(true_confusion(made).overall, made.annotators)
    assert (rates["false_negative_rate"] < 0.6).all()
    path = phantom.extras["truth"]["path"][made.ids[5]]
    small = Image.open(path).resize((32, 32), Image.Resampling.NEAREST)
    assert np.array_equal(made.truth[5], np.asarray(small) > 0)


def test_subsets_of_annotators_and_pictures(phantom):
    both = from_cohort(phantom, 32, ["A01", "A00"], min_masks=2, fractions=None)
    assert both.annotators == ("A01", "A00")
    assert both.subsets is None
    assert not both.missing.any()
    assert any("fewer than 2 annotators" in note for note in both.notes)
    one = from_cohort(phantom, 32, truth="A00", fractions=None)
    place = one.annotator_index("A00")
    assert np.array_equal(one.truth, one.labels[:, place])
    with pytest.raises(LabelError, match=r"'A77'.*drew no mask"):
        from_cohort(phantom, 32, ["A00", "A77"])
    with pytest.raises(LabelError, match="truth 'median'"):
        from_cohort(phantom, 32, truth="median")


def test_majority_and_first(phantom):
    made = from_cohort(phantom, 32, truth="majority")
    assert made.truth_is == "majority vote"
    for number in range(len(made)):
        masks = made.labels[number][~made.missing[number]]
        expected = majority_vote(masks) if len(masks) > 1 else masks[0] > 0
        assert np.array_equal(made.truth[number] > 0, expected)
    first = from_cohort(phantom, 32, truth="first")
    place = (~first.missing).argmax(axis=1)
    assert np.array_equal(first.truth, first.labels[np.arange(len(first)), place])


def test_majority_of_several_classes(make_set):
    labels = np.zeros((1, 4, 1, 3), np.int8)
    labels[0, :, 0] = [[0, 2, 1], [0, 2, 2], [1, 0, 2], [1, 0, 1]]
    made = make_set(
        n=1, annotators=4, n_classes=3, labels=labels, truth=None, images=np.zeros((1, 1, 3, 1))
    )
    assert majority_labels(made)[0, 0].tolist() == [1, 2, 1]


def test_simulated_annotators_on_a_cohort(phantom):
    real = replace(phantom, synthetic=False)
    made = simulated_on(real, 32, ("good", "over", "blank"), level=0.8, truth="first")
    assert made.simulated_annotators
    assert not made.synthetic
    assert made.truth_is.startswith("(the image's first")
    assert made.annotators == ("good", "over", "blank")
    assert np.array_equal(made.labels[:, 0], made.truth)
    assert simulated_on(phantom, 32).synthetic
    assert (
        made.fingerprint == simulated_on(real, 32, ("good", "over", "blank"), level=0.8).fingerprint
    )


def test_own_masks_and_one_mask_a_picture(own_masks):
    table = pd.read_csv(own_masks / "masks.csv").drop(index=3)
    table.to_csv(own_masks / "masks.csv", index=False)
    made = from_cohort(data.load("folder", path=own_masks), (20, 30), fractions=None)
    assert made.images.shape == (3, 20, 30, 3)
    assert made.counts.to_dict() == {"ann": 3, "bob": 2}
    assert made.missing[1].tolist() == [False, True]
    assert made.truth is None
    assert made.labels[0, 0].sum() == 10 * 15
    with pytest.raises(LabelError, match="no truth is known"):
        from_cohort(data.load("folder", path=own_masks), 20, truth="known")


def test_masks_of_different_sizes_are_named(own_masks):
    cohort = data.load("folder", path=own_masks)
    Image.new("L", (30, 20), 255).save(own_masks / "p1_bob.png")
    with pytest.raises(LabelError, match=r"'p1'.*p1_ann.png 60x40 and p1_bob.png 30x20"):
        from_cohort(cohort, 20)


def test_pictures_that_cannot_be_used_are_counted(own_masks):
    cohort = data.load("folder", path=own_masks)
    images = cohort.images.copy()
    images["geometry"] = ["original", "cropped", "squashed"]
    Image.new("RGB", (40, 40)).save(own_masks / "p1.png")
    Image.new("RGB", (40, 40)).save(own_masks / "p2.png")
    changed = replace(cohort, images=images)
    made = from_cohort(changed, 20, fractions=None)
    assert list(made.ids) == ["p0", "p2"], "a squashed picture still lies under its masks"
    assert made.notes == ("left out: 1 images, masks do not lie over the cropped image file",)
    images.loc["p0", "path"] = None
    made = from_cohort(replace(cohort, images=images), 20, fractions=None)
    assert any("no image file" in note for note in made.notes)
    images["path"] = None
    with pytest.raises(LabelError, match=r"no image is left.*3 images, no image file"):
        from_cohort(replace(cohort, images=images), 20)


def test_classes_of_mask_files(own_masks):
    cohort = data.load("folder", path=own_masks)
    classes = pd.DataFrame(
        {"grey": [128, 255], "structures": ["disc", "disc cup"]}, index=["rim", "cup"]
    )
    several = replace(cohort, extras={"classes": classes})
    made = from_cohort(several, 20, fractions=None)
    assert made.n_classes == 3
    assert made.structures == {"disc": (1, 2), "cup": (2,)}
    assert set(np.unique(made.labels)) == {0, 2}
    mask = np.full((40, 60), 77, np.uint8)
    Image.fromarray(mask).save(own_masks / "p2_ann.png")
    with pytest.raises(LabelError, match=r"p2_ann.png: values \[77\] stand for no class"):
        from_cohort(several, 20)


def test_a_published_split(own_masks):
    cohort = data.load("folder", path=own_masks)
    table = pd.DataFrame({"subset": ["train", "test", "train"]}, index=["p0", "p1", "p2"])
    made = from_cohort(
        replace(cohort, extras={"published_split": table}), 20, fractions="published"
    )
    assert made.subsets.tolist() == ["train", "test", "train"]
    with pytest.raises(LabelError, match="no published split"):
        from_cohort(cohort, 20, fractions="published")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "images", "annotators", "clusters"),
    [("isic_two_annotators", 61, 6, 61), ("retina_two_observers", 48, 4, 34)],
)
def test_real_pictures_of_two_annotators(name, images, annotators, clusters):
    home = Path(os.environ.get("IAV_DATA_HOME", "")) / name
    if not (home / "masks.csv").is_file():
        pytest.skip(f"needs {name} under IAV_DATA_HOME")
    assert name in data.available()
    cohort = data.load(name)
    assert cohort.name == name
    assert not cohort.synthetic
    assert cohort.clusters().nunique() == clusters
    made = from_cohort(cohort.select(cohort.images.index[::4]), 64, truth="majority")
    assert (~made.missing).sum(axis=1).tolist() == [2] * len(made)
    whole = (len(cohort.images), cohort.masks["annotator"].nunique())
    assert whole == (images, annotators)


def test_two_annotators_are_absent_where_there_is_no_table(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    for name in ("isic_two_annotators", "retina_two_observers", "riga"):
        assert name not in data.available()
        with pytest.raises(data.DatasetUnavailable, match=name):
            data.load(name)
