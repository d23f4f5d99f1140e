"""Batches: which images, how normalised, with which targets."""

import numpy as np
import pandas as pd
import pytest
import torch

from iavlib.core.errors import TrainingError
from iavlib.training.batches import ImageBatches, Pixels, channel_statistics


@pytest.fixture
def targets(pictures):
    label = (pictures[1]["iaa"] > 0.5).astype(int)
    return pictures[1].assign(malignant=label)


def make(cache, targets, **options):
    options = {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3), "device": "cpu", **options}
    return ImageBatches.from_cache(cache, targets, **options)


def test_a_batch_is_normalised_channels_last_with_its_targets(cache, targets):
    batches = make(cache, targets)
    batch = batches.batch([5, 0, 7])
    expected = (cache.pixels[[5, 0, 7]] / 255 - (0.5, 0.4, 0.3)) / (0.1, 0.2, 0.3)
    assert batch["images"].permute(0, 2, 3, 1).numpy() == pytest.approx(expected, abs=1e-5)
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)
    assert batch["iaa"].numpy() == pytest.approx(targets["iaa"].iloc[[5, 0, 7]], rel=1e-6)
    assert batch["iaa"].dtype == torch.float32 and batch["malignant"].dtype == torch.int64
    assert batch["index"].tolist() == [5, 0, 7]


def test_targets_decide_which_images_and_in_which_order(cache, targets):
    chosen = targets.iloc[[9, 3, 12]]
    batches = make(cache, chosen)
    assert len(batches) == 3 and batches.ids.equals(chosen.index)
    images = batches.batch([0, 1, 2])["images"]
    assert torch.equal(images, make(cache, targets).batch([9, 3, 12])["images"])
    some = batches.select(chosen.index[[2, 0]])
    assert torch.equal(some.batch([0, 1])["images"], images[[2, 0]])
    assert some.target("iaa") == pytest.approx(chosen["iaa"].iloc[[2, 0]], rel=1e-6)


def test_normalisation_comes_from_the_training_split(cache, targets):
    train = targets.index[:10]
    batches = make(cache, targets, mean=None, std=None, train=train)
    values = cache.pixels[:10].reshape(-1, 3) / 255
    assert batches.mean == pytest.approx(values.mean(0), rel=1e-12)
    assert batches.std == pytest.approx(values.std(0), rel=1e-12)
    assert batches.select(targets.index[10:]).mean == batches.mean
    with pytest.raises(TrainingError, match="give the ids of the training split"):
        make(cache, targets, mean=None, std=None)
    with pytest.raises(TrainingError, match="both mean and std, or neither"):
        make(cache, targets, mean=None)
    with pytest.raises(TrainingError, match="the training split is empty"):
        make(cache, targets, mean=None, std=None, train=[])
    with pytest.raises(TrainingError, match="3 means and deviations above 0"):
        make(cache, targets, std=(0.1, 0.0, 0.2))


def test_a_channel_of_one_value_is_not_divided_by_zero():
    pixels = np.full((3, 4, 4, 3), 51, np.uint8)
    mean, std = channel_statistics(pixels, np.arange(3))
    assert mean == pytest.approx([0.2] * 3) and std == (1.0, 1.0, 1.0)


def test_a_stream_that_reads_ahead_gives_the_same(cache, targets):
    batches = make(cache, targets)
    order = np.random.default_rng(0).permutation(len(batches))
    plan = [order[i : i + 5] for i in range(0, len(order), 5)]
    straight = list(batches.stream(plan, torch.Generator().manual_seed(1), "paper"))
    batches._pixels.ahead = True  # pinning needs a GPU
    batches._pixels.rows = lambda rows: batches._pixels._pixels.index_select(0, rows)
    ahead = list(batches.stream(plan, torch.Generator().manual_seed(1), "paper"))
    assert len(straight) == len(ahead) == len(plan)
    for one, other in zip(straight, ahead, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stream_left_early_leaves_no_thread(cache, targets):
    batches = make(cache, targets)
    batches._pixels.ahead = True
    batches._pixels.rows = lambda rows: batches._pixels._pixels.index_select(0, rows)
    stream = batches.stream([np.arange(4)] * 50)
    next(stream)
    stream.close()


def test_the_fingerprint_tells_images_targets_and_normalisation_apart(cache, targets):
    batches = make(cache, targets)
    same = make(cache, targets)
    assert batches.fingerprint == same.fingerprint
    others = [
        batches.select(targets.index[:9]),
        batches.select(targets.index[::-1]),
        make(cache, targets.assign(iaa=0.5)),
        make(cache, targets, mean=(0.5, 0.4, 0.31)),
        make(cache, targets.rename(columns={"iaa": "dice"})),
    ]
    assert len({batches.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_what_cannot_be_is_named(cache, targets):
    batches = make(cache, targets)
    with pytest.raises(KeyError, match=r"no image nobody \(1 unknown\)"):
        batches.select(["nobody"])
    with pytest.raises(KeyError, match="no image nobody in"):
        make(cache, targets.rename(index={targets.index[0]: "nobody"}))
    with pytest.raises(TrainingError, match="a target cannot be called 'images'"):
        make(cache, targets.rename(columns={"iaa": "images"}))
    with pytest.raises(TrainingError, match="target 'iaa' is of object, not of numbers"):
        make(cache, targets.assign(iaa=pd.Series(["much"] * len(targets), targets.index, object)))
    with pytest.raises(TrainingError, match="there is no device 'abacus'"):
        Pixels(cache.pixels, "abacus")
