"""Parts that are balanced and share no patient."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from iavlib.data import Cohort, dice_range
from iavlib.data.schemas import empty_pairs
from iavlib.data.splits import share_of_clusters
from iavlib.masks import metric_names


def cohort_of(patients, malignancy=None, dice=None) -> Cohort:
    """Cohort of one pair an image, with these patients (None: unknown), labels and Dice."""
    n = len(patients)
    ids = pd.Index([f"i{k}" for k in range(n)], name="image_id", dtype="str")
    images = pd.DataFrame(
        {
            "path": None,
            "malignancy": malignancy or ["benign"] * n,
            "diagnosis": None,
            "patient_id": patients,
            "lesion_id": None,
            "width": 10,
            "height": 10,
            "geometry": "original",
            "licence": None,
            "sex": None,
            "age": np.nan,
            "site": None,
        },
        index=ids,
    )
    masks = pd.DataFrame(
        {"image_id": np.repeat(ids, 2), "path": None, "annotator": ["A00", "A01"] * n}
    ).assign(tool="T1", skill="S1")
    masks.index = pd.Index([f"m{k:05d}" for k in range(2 * n)], name="mask_id", dtype="str")
    pairs = empty_pairs().reindex(range(n))
    pairs["image_id"] = ids
    pairs["mask_1"], pairs["mask_2"] = masks.index[::2], masks.index[1::2]
    for metric in metric_names():
        pairs[metric] = 0.5
    if dice is not None:
        pairs["dice"] = dice
    return Cohort("test", images, masks, pairs, synthetic=True)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=12, max_size=80),
    st.integers(0, 2**16),
)
def test_no_patient_in_two_parts_and_no_image_lost(patients, seed):
    patients = [None if p is None else f"p{p}" for p in patients]
    cohort = cohort_of(patients)
    if cohort.clusters().nunique() < 3:
        return
    split = cohort.split(seed=seed)
    assert split.assignment.index.equals(cohort.images.index)
    assert split.assignment.groupby(cohort.clusters()).nunique().max() == 1


def test_same_seed_same_split_other_seed_another():
    cohort = cohort_of([None] * 200)
    first, again, other = cohort.split(seed=1), cohort.split(seed=1), cohort.split(seed=2)
    assert first.assignment.equals(again.assignment)
    assert not first.assignment.equals(other.assignment)


def test_sizes_are_exact_without_groups():
    split = cohort_of([None] * 101).split((0.7, 0.1, 0.2), group=None)
    assert split.sizes == {"train": 71, "val": 10, "test": 20}


def test_rare_stratum_reaches_every_part_in_proportion():
    malignancy = ["malignant"] * 20 + ["benign"] * 180
    split = cohort_of([None] * 200, malignancy).split()
    counts = pd.Series(malignancy, index=split.assignment.index).eq("malignant")
    assert counts.groupby(split.assignment).sum().to_dict() == {"train": 14, "val": 2, "test": 4}


def test_report_tells_the_imbalance():
    dice = np.linspace(0.05, 0.99, 200)
    split = cohort_of([None] * 200, dice=dice).split()
    assert (
        split.report.groupby(["subset", "factor"])["n"].sum().unstack().nunique(axis=1).eq(1).all()
    )
    assert split.report["difference_points"].abs().max() < 5


def test_named_parts_and_columns():
    cohort = cohort_of([f"p{k // 3}" for k in range(90)])
    split = cohort.split({"fit": 0.5, "check": 0.5}, stratify=(), group="patient_id")
    assert set(split.sizes) == {"fit", "check"}
    assert len(split["fit"]) == 45
    with pytest.raises(KeyError, match="no subset 'train'"):
        split["train"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.7, 0.1)}, "sum to 1"),
        ({"fractions": (1.2, -0.2)}, "positive"),
        ({"stratify": ("colour",)}, "no column 'colour'"),
        ({"group": "family"}, "no column 'family'"),
    ],
)
def test_what_cannot_be_done_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        cohort_of([None] * 20).split(**options)


def test_too_few_clusters():
    with pytest.raises(ValueError, match="2 clusters cannot fill 3 subsets"):
        cohort_of(["p1", "p1", "p2", "p2"]).split()


def test_dice_range_edges():
    bins = dice_range(pd.Series([0.0, 0.4999, 0.5, 0.7999, 0.8, 1.0, np.nan]))
    assert bins.tolist() == ["<.5", "<.5", ".5 to .8", ".5 to .8", ">=.8", ">=.8", "none"]


def test_the_papers_part_sizes(imapp_home):
    from iavlib.data.datasets import imapp

    multi = imapp.load(imapp_home / "imapp").multi_annotator()
    for group in (None, "patient"):
        split = multi.split(group=group)
        assert split.sizes == {"train": 1676, "val": 239, "test": 479}
        assert split.report["difference_points"].abs().max() < 1


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=20, max_size=60),
    st.integers(0, 2**16),
)
def test_folds_are_a_partition_without_torn_patients(patients, seed):
    cohort = cohort_of([None if p is None else f"p{p}" for p in patients])
    if cohort.clusters().nunique() < 6:
        return
    tested = []
    for fold in range(3):
        split = cohort.fold(fold, folds=3, val=0.25, seed=seed)
        assert split.assignment.index.equals(cohort.images.index)
        assert split.assignment.groupby(cohort.clusters()).nunique().max() == 1
        assert set(split.sizes) == {"train", "val", "test"}
        assert split.assignment.equals(cohort.fold(fold, 3, 0.25, seed).assignment)
        tested += list(split["test"])
    assert sorted(tested) == sorted(cohort.images.index)


def test_there_is_no_such_fold():
    with pytest.raises(ValueError, match="fold must be from 0 to 4, not 5"):
        cohort_of([None] * 20).fold(5)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(0, 2**16))
def test_shares_of_clusters_are_whole_large_enough_and_nested(patients, seed):
    clusters = pd.Series(patients, index=[f"i{k}" for k in range(len(patients))])
    before: set[str] = set()
    for share in (0.1, 0.25, 0.5, 1.0):
        chosen = share_of_clusters(clusters, share, seed)
        assert len(chosen) >= share * len(clusters) - 1e-6
        inside = clusters.index.isin(chosen)
        assert not set(clusters[inside]) & set(clusters[~inside])
        assert before <= set(chosen)
        before = set(chosen)
        smallest = clusters[inside].value_counts().max()
        assert len(chosen) - smallest < share * len(clusters) + 1e-6
    assert len(before) == len(clusters)


def test_folds_of_the_papers_images(imapp_home):
    from iavlib.data.datasets import imapp

    multi = imapp.load(imapp_home / "imapp").multi_annotator()
    split = multi.fold(0)
    assert [split.sizes[subset] for subset in ("train", "val", "test")] == [1676, 239, 479]
    assert split.report["difference_points"].abs().max() < 1.5
