"""Discs of 16 x 16 pixels with simulated annotators."""

import numpy as np
import pandas as pd
import pytest
import torch

from iavlib.multiannotator import MultiAnnotatorSet, simulate
from iavlib.training.recipe import get_recipe


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_discs(n=8, annotators=("good", "over", "blank"), side=16, seed=0, classes=2, **fields):
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    truth = np.zeros((n, side, side), np.int8)
    for number in range(n):
        middle, radius = generator.uniform(side * 0.35, side * 0.65, 2), side * 0.22
        inside = np.hypot(y - middle[0], x - middle[1]) < radius
        truth[number][inside] = 1 + number % (classes - 1)
    noise = generator.normal(0, 8, truth.shape)
    images = np.clip(40 + 80 * truth + noise, 0, 255).astype(np.uint8)[..., None]
    ids = [f"disc-{number}" for number in range(n)]
    labels = simulate(truth, annotators, classes, ids, seed, unit=1.0)
    given = {"name": "discs", "n_classes": classes, "truth_is": "known", "synthetic": True}
    return MultiAnnotatorSet(
        images=images,
        labels=labels,
        annotators=tuple(annotators),
        ids=pd.Index(ids),
        truth=truth,
        simulated_annotators=True,
        **{**given, **fields},
    )


@pytest.fixture
def discs():
    return make_discs


@pytest.fixture
def recipe():
    return get_recipe("annotators", epochs=2, batch_size=4, warmup_epochs=0)


@pytest.fixture(scope="session")
def mimicked():
    """AVAP and its data: annotators who draw the truth, too much, and too little."""
    from iavlib.multiannotator import fit, make_method

    data = make_discs(n=24, annotators=("good", "over", "under"), side=24)
    chosen = get_recipe("annotators", epochs=12, batch_size=8)
    return fit(make_method("avap", widths=[8, 16]), data, chosen), data
