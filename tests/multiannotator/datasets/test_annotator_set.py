"""The set of several annotators' labels: checks, selections, parts."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from iavlib.core.errors import LabelError


def without(labels, *places):
    labels = labels.copy()
    for place in places:
        labels[place] = -1
    return labels


def test_one_mask_is_enough_and_none_is_an_error(make_set):
    whole = make_set()
    single = make_set(labels=without(whole.labels, (0, 1), (0, 2)))
    assert single.missing[0].tolist() == [False, True, True]
    assert single.counts.to_dict() == {"R0": 6, "R1": 5, "R2": 5}
    with pytest.raises(LabelError, match=r"image-3.*no annotator labelled it"):
        make_set(labels=without(whole.labels, (3,)))


def test_an_annotator_never_seen(make_set):
    whole = make_set()
    partly = make_set(labels=without(whole.labels, (slice(None), 1)))
    assert partly.unseen == ("R1",)
    with pytest.raises(LabelError, match=r"'R1'.*none of the 6 images"):
        partly.require_seen()
    whole.require_seen()
    with pytest.raises(LabelError, match=r"'R9'.*choose among R0, R1, R2"):
        whole.annotator_index("R9")
    with pytest.raises(LabelError, match="'R9'"):
        whole.of_annotators(["R0", "R9"])


def test_an_annotator_with_only_empty_masks_is_kept(make_set):
    labels = make_set().labels.copy()
    labels[:, 2] = 0
    blank = make_set(labels=labels)
    blank.require_seen()
    assert blank.counts["R2"] == 6


def test_classes_beyond_those_declared(make_set):
    labels = make_set().labels.copy()
    labels[2, 1, 0, 3] = 5
    with pytest.raises(LabelError, match=r"'image-2', annotator 'R1': labels hold class 5.*1 pix"):
        make_set(labels=labels)
    truth = make_set().truth.copy()
    truth[4] = -1
    with pytest.raises(LabelError, match="'image-4': truth hold class -1"):
        make_set(truth=truth)
    with pytest.raises(LabelError, match="1 classes"):
        make_set(n_classes=1)
    with pytest.raises(LabelError, match="structure 'cup'"):
        make_set(structures={"cup": (2,)})


def test_a_picture_is_labelled_whole_or_not(make_set):
    labels = make_set().labels.copy()
    labels[1, 0, :2] = -1
    with pytest.raises(LabelError, match=r"'image-1', annotator 'R0': 16 of 64 pixels"):
        make_set(labels=labels)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"labels": np.zeros((6, 3, 8, 7), np.int8)}, "labels of shape"),
        ({"labels": np.zeros((6, 3, 8, 8))}, "type float64"),
        ({"truth": np.zeros((6, 7, 8), np.int8)}, "truth of shape"),
        ({"images": np.zeros((6, 8, 8), np.uint8)}, "shapes"),
        ({"images": np.full((6, 8, 8, 1), np.nan)}, "NaN"),
        ({"annotators_named": ("A", "B", "A")}, "two of the name 'A'"),
        ({"ids": ["a"] * 6}, "two of the name 'a'"),
        ({"ids": ["a"]}, "1 ids for 6"),
        ({"subsets": ["train"]}, "1 subsets for 6"),
    ],
)
def test_what_does_not_fit_is_told(make_set, field, told):
    with pytest.raises(LabelError, match=told):
        make_set(**field)


def test_selections(make_set):
    subsets = ["train", "val", "train", "test", "train", "val"]
    whole = make_set(subsets=subsets, clusters=[f"c{k // 2}" for k in range(6)])
    chosen = whole.select(["image-4", "image-1"])
    assert list(chosen.ids) == ["image-1", "image-4"]
    assert np.array_equal(chosen.labels, whole.labels[[1, 4]])
    assert np.array_equal(chosen.truth, whole.truth[[1, 4]])
    assert list(chosen.clusters) == ["c0", "c2"]
    assert list(whole.subset("train").ids) == ["image-0", "image-2", "image-4"]
    with pytest.raises(KeyError, match="no image nowhere"):
        whole.select(["nowhere"])
    with pytest.raises(KeyError, match="no subset 'tests'; known: train, val, test"):
        whole.subset("tests")
    with pytest.raises(KeyError, match="known: none"):
        make_set().subset("train")


def test_of_annotators_leaves_out_pictures_without_them(make_set):
    whole = make_set()
    partly = make_set(labels=without(whole.labels, (0, 2), (3, 2)))
    only = partly.of_annotators(["R2"])
    assert list(only.ids) == ["image-1", "image-2", "image-4", "image-5"]
    both = partly.of_annotators(["R2", "R0"])
    assert both.annotators == ("R2", "R0")
    assert np.array_equal(both.labels[:, 1], whole.labels[:, 0])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6))
def test_one_label_per_image(make_set, seed):
    whole = make_set(n=12, annotators=4)
    partly = make_set(n=12, annotators=4, labels=without(whole.labels, (0, 1), (5, slice(0, 3))))
    single = partly.one_label_per_image(seed)
    assert ((~single.missing).sum(axis=1) == 1).all()
    assert not (~single.missing & partly.missing).any()
    kept = ~single.missing
    assert np.array_equal(single.labels[kept], partly.labels[kept])
    assert single.fingerprint == partly.one_label_per_image(seed).fingerprint
    fewer = partly.take(np.arange(3, 9)).one_label_per_image(seed)
    assert np.array_equal(fewer.missing, single.missing[3:9])


def test_each_annotator_gets_her_share_of_single_labels(make_set):
    single = make_set(n=900, side=1).one_label_per_image(0)
    assert (np.abs(single.counts - 300) < 60).all()


def test_fingerprint(make_set):
    whole = make_set()
    assert whole.fingerprint == make_set().fingerprint
    assert len(whole.fingerprint) == 12
    labels = whole.labels.copy()
    labels[0, 0, 0, 0] ^= 1
    others = [
        make_set(labels=labels),
        make_set(name="other"),
        make_set(truth=None),
        make_set(subsets=["train"] * 6),
        make_set(structures={"lesion": (1,)}),
        whole.take([1, 0, 2, 3, 4, 5]),
    ]
    assert len({one.fingerprint for one in [whole, *others]}) == 7


def test_structures(make_set):
    nested = make_set(n_classes=3, structures={"disc": (1, 2), "cup": (2,)})
    assert np.array_equal(nested.structure("disc") == 1, nested.labels > 0)
    assert np.array_equal(nested.structure("cup") == 1, nested.labels == 2)
    assert make_set().structures == {"foreground": (1,)}
    assert make_set(n_classes=4).structures == {"class 1": (1,), "class 2": (2,), "class 3": (3,)}
    gap = make_set(n_classes=3, labels=without(nested.labels, (0, 1)))
    assert (gap.structure("class 1")[0, 1] == -1).all()
    with pytest.raises(LabelError, match=r"'rim'.*class 1, class 2"):
        gap.structure("rim")


def test_mean_map_counts_those_who_labelled(make_set):
    labels = make_set().labels.copy()
    labels[0, 0], labels[0, 1], labels[0, 2] = 1, 0, -1
    assert (make_set(labels=labels).mean_map()[0] == 0.5).all()


def test_repr_tells_what_is_invented(make_set):
    assert "synthetic" not in repr(make_set())
    shown = repr(make_set(simulated_annotators=True, synthetic=True))
    assert "synthetic, simulated annotators, 6 images of 8x8" in shown
