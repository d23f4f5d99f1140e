"""Digits from MNIST's own files, from a packed copy and from a font."""

import gzip
import os
import struct

import numpy as np
import pytest

from iavlib.core.errors import DataError, DatasetUnavailable, LabelError
from iavlib.multiannotator import simulated_mnist, true_confusion
from iavlib.multiannotator.simulation import draw_digits, find_source, read_digits, read_idx

GROUPS = ((0, 1, 2), (3, 4, 5, 6), (7, 8, 9))


def idx(values: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + (values.tobytes())
    )


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A data home with MNIST files, two of them packed."""
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    folder = tmp_path / "mnist" / "raw"
    folder.mkdir(parents=True)
    for subset, n, seed in (("train", 60, 1), ("t10k", 40, 2)):
        images, shown = draw_digits(n, seed)
        (folder / f"{subset}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{subset}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(shown)))
    return folder


def test_torchvisions_files(raw):
    assert find_source() == "idx"
    images, shown = read_digits("idx", "test")
    assert np.array_equal(images, draw_digits(40, 2)[0])
    assert np.array_equal(shown, draw_digits(40, 2)[1])
    made = simulated_mnist((20, 10, 30))
    assert (made.name, len(made), made.synthetic) == ("digits-idx", 60, False)
    number = int(made.ids[-1].removeprefix("test-"))
    assert np.array_equal(made.images[-1, ..., 0], images[number])


def test_wrong_files_are_told(raw):
    path = raw / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, told in (
        (whole[:-5], "but the header declares"),
        (whole[:7], "no IDX file"),
        (b"\0\0\x08\x01" + whole[4:], "no IDX file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=told):
            read_idx(path, 3)
    path.write_bytes(idx(np.zeros((4, 28, 28), np.uint8)))
    with pytest.raises(DataError, match="60 labels"):
        read_digits("idx", "train")
    packed = raw / "train-labels-idx1-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_digits("idx", "train")


def test_without_files_digits_are_drawn_and_synthetic(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    assert find_source() == "drawn"
    made = simulated_mnist((12, 4, 8))
    assert made.synthetic
    assert made.simulated_annotators
    assert {subset: len(made.subset(subset)) for subset in ("train", "val", "test")} == {
        "train": 12,
        "val": 4,
        "test": 8,
    }
    assert 0.05 < (made.truth > 0).mean() < 0.35
    assert not (made.truth[:, [0, -1]] > 0).any(), "digits keep off the border"
    for source in ("idx", "npz"):
        with pytest.raises(DatasetUnavailable, match="digits"):
            simulated_mnist((4, 1, 1), source=source)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "mnist_20k.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not the packed digits"):
        simulated_mnist((4, 1, 1))


def test_same_seed_same_digits():
    first, second = (simulated_mnist((6, 2, 4), source="drawn", seed=5) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert simulated_mnist((6, 2, 4), source="drawn", seed=6).fingerprint != first.fingerprint


def test_annotation_noise():
    errors = []
    for level in (0.0, 0.5, 1.0):
        made = simulated_mnist((20, 0, 1), level=level, source="drawn")
        assert np.array_equal(made.labels[:, 0], made.truth)
        errors.append((made.labels != made.truth[:, None]).mean(axis=(0, 2, 3)))
    assert not errors[0].any()
    assert np.allclose(errors[1], errors[2] / 2, rtol=0.02)
    true = true_confusion(made).overall
    assert true[4].tolist() == [[1, 1], [0, 0]]
    assert not made.labels[:, 4].any()


def test_larger_pictures_hold_larger_digits():
    small = simulated_mnist((6, 0, 1), ("over",), source="drawn")
    padded = simulated_mnist((6, 0, 1), ("over",), source="drawn", size=32)
    assert np.array_equal(padded.labels[:, :, 2:-2, 2:-2], small.labels)
    assert not padded.images[:, :2].any()
    large = simulated_mnist((6, 0, 1), ("over",), source="drawn", size=64)
    ratio = (large.truth > 0).sum() / (small.truth > 0).sum()
    assert 3.4 < ratio < 4.6
    strength = [(one.labels > 0).sum() / (one.truth > 0).sum() for one in (small, large)]
    assert strength[1] == pytest.approx(strength[0], rel=0.12)


def test_several_classes_and_tiles():
    made = simulated_mnist(
        (8, 2, 4),
        ("good", "over", "under", "swap"),
        groups=GROUPS,
        tiles=2,
        size=64,
        source="drawn",
    )
    assert made.images.shape == (14, 64, 64, 1)
    assert made.n_classes == 4
    assert set(np.unique(made.truth)) == {0, 1, 2, 3}
    several = [len(np.unique(one)) > 2 for one in made.truth]
    assert np.mean(several) > 0.7
    swapped = true_confusion(made).overall[3]
    assert np.allclose(swapped[:, 1:].argmax(axis=0), [2, 3, 1])
    one_digit = simulated_mnist((4, 0, 1), groups=((3,),), source="drawn")
    assert one_digit.n_classes == 2


def test_noise_in_the_background_leaves_truth_and_annotators():
    plain = simulated_mnist((5, 0, 1), source="drawn")
    noisy = simulated_mnist((5, 0, 1), source="drawn", background_noise=30.0)
    assert np.array_equal(plain.truth, noisy.truth)
    assert np.array_equal(plain.labels, noisy.labels)
    assert noisy.images[plain.images == 0].std() > 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"source": "web"}, "source 'web'"),
        ({"n": (0, 0, 0)}, "n "),
        ({"size": 20}, "at least 28"),
        ({"tiles": 2, "size": 50}, "at least 56"),
        ({"groups": ((1, 2), (2, 3))}, "one group at most"),
        ({"groups": ((10,),)}, "one group at most"),
        ({"annotators": ("over", "sloppy")}, "sloppy"),
    ],
)
def test_what_makes_no_sense_is_told(options, told):
    with pytest.raises(LabelError, match=told):
        simulated_mnist(**{"source": "drawn", "n": (2, 1, 1)} | options)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("IAV_DATA_HOME"), reason="needs mnist_20k.npz")
def test_packed_digits():
    made = simulated_mnist((30, 10, 20), source="npz")
    assert not made.synthetic
    assert 0.1 < (made.truth > 0).mean() < 0.3
    with pytest.raises(LabelError, match="10,000 are there"):
        simulated_mnist((10001, 0, 0), source="npz")
