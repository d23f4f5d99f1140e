"""Discs that are melanoma where they are large; one rater draws them, another draws too much."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from iavlib.multiannotator import MultiAnnotatorSet
from iavlib.training.recipe import get_recipe


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_discs(n=12, side=32, seed=0):
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    diagnosis = np.arange(n) % 2
    radii = np.where(diagnosis, 9, 5)
    middles = generator.uniform(13, 18, (n, 2))
    distance = np.stack([np.hypot(y - a, x - b) for a, b in middles])
    labels = np.stack([distance < (radii + more)[:, None, None] for more in (0, 3)], 1)
    truth = labels[:, 0].astype(np.int8)
    noise = generator.normal(0, 8, (n, side, side, 3))
    images = np.clip(200 - 90.0 * truth[..., None] + noise, 0, 255)
    labelled = MultiAnnotatorSet(
        name="discs",
        images=images.astype(np.uint8),
        labels=labels.astype(np.int8),
        annotators=("exact", "generous"),
        n_classes=2,
        ids=pd.Index([f"disc-{number}" for number in range(n)]),
        truth=truth,
        truth_is="known",
        diagnosis=diagnosis,
        simulated_annotators=True,
        synthetic=True,
    )
    return labelled


@pytest.fixture
def discs():
    return make_discs()


@pytest.fixture
def halves():
    """Images red on one side and blue on the other: melanoma where the mask lies on the red one."""
    labelled = make_discs(n=32)
    generator = np.random.default_rng(1)
    diagnosis, red_left = generator.integers(0, 2, (2, 32))
    left = np.arange(32) < 16
    red = np.where(red_left[:, None] == 1, left, ~left)[:, None].repeat(32, 1)
    images = generator.integers(0, 60, (32, 32, 32, 3))
    images[..., 0] += 150 * red
    images[..., 2] += 150 * ~red
    masks = np.where(diagnosis[:, None, None] == 1, red, ~red).astype(float)
    return replace(labelled, images=images.astype(np.uint8), diagnosis=diagnosis), masks


@pytest.fixture
def recipe():
    fields = {"epochs": 4, "batch_size": 4, "warmup_epochs": 0, "lr": 1e-2, "augmentation": "none"}
    return get_recipe("annotators", **fields)
